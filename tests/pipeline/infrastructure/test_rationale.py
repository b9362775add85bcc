"""The rationale: its figures come only from the code, and the same input gives the same document."""

import io
import re
import zipfile
from collections import defaultdict

import pytest
from docx import Document

from pipeline.infrastructure.rationale.__main__ import TEXT
from pipeline.infrastructure.rationale.diagram import draw
from pipeline.infrastructure.rationale.document import make_document

SMALL = """# Title

Before **{much}** and `code`.

## Section

Table: Numbers

| name | amount |
| ---- | -----: |
| one | {much} |

- first
- second

![The parts.][diagram]
"""


def test_the_text_contains_no_handwritten_numbers() -> None:
    """Every figure is a placeholder. The only digits in the text are those in names of services."""
    by_hand = re.sub(r"\{\w+\}", "", TEXT.read_text(encoding="utf-8"))
    assert set(re.findall(r"\w*\d\w*", by_hand)) <= {"S3", "EC2"}


def test_the_same_input_gives_the_same_bytes() -> None:
    figures: dict[str, str] = defaultdict(str, much="7")
    assert make_document(SMALL, figures, draw()) == make_document(SMALL, figures, draw())


def test_a_document_has_headings_tables_with_headers_and_a_described_diagram() -> None:
    data = make_document(SMALL, {"much": "7"}, draw())
    document = Document(io.BytesIO(data))
    text = {style: [p.text for p in document.paragraphs if p.style.name == style] for style in ("Title", "Compact")}
    assert text == {"Title": ["Title"], "Compact": ["first", "second"]}
    [table] = document.tables
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["name", "amount"], ["one", "7"]]
    captions = [p for p in document.paragraphs if p.style.name in ("Table Caption", "Image Caption")]
    # Word numbers captions by fields, which python-docx does not read.
    numbered = ["".join(node.text or "" for node in p._p.iter() if node.tag.endswith("}t")) for p in captions]
    assert numbered == ["Table\xa01: Numbers", "Figure\xa01: The parts."]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        body, footer = (archive.read(f"word/{name}.xml").decode() for name in ("document", "footer1"))
        properties = archive.read("docProps/core.xml").decode()
    assert "w:tblHeader" in body
    assert 'descr="Architecture.' in body
    assert "NUMPAGES" in footer
    assert "<dc:title>Title</dc:title>" in properties
    assert "2026-01-01T00:00:00Z</dcterms:created>" in properties


def test_a_missing_or_unused_figure_is_reported_by_name() -> None:
    with pytest.raises(KeyError, match="much"):
        make_document(SMALL, {}, draw())
    with pytest.raises(ValueError, match="does not use more"):
        make_document(SMALL, {"much": "7", "more": "8"}, draw())
