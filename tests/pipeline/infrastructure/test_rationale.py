"""The rationale's maker: figures come from the code alone, and the same input makes the same document."""

import io
import re
from collections import defaultdict

import pytest
from docx import Document

from pipeline.infrastructure.rationale.__main__ import TEXT
from pipeline.infrastructure.rationale.document import make, parts
from pipeline.infrastructure.rationale.picture import draw

SMALL = """# Title

Before **{much}** and `code`.

Table: Numbers
| name | amount > |
| --- | --- |
| one | {much} |

- first
- second

Picture: What there is
"""


def test_no_number_is_written_by_hand() -> None:
    """Every figure has a name; what is left are the names of services."""
    by_hand = re.sub(r"\{\w+\}", "", TEXT.read_text(encoding="utf-8"))
    assert set(re.findall(r"\w*\d\w*", by_hand)) <= {"S3", "EC2"}


def test_the_same_input_makes_the_same_bytes() -> None:
    figures: dict[str, str] = defaultdict(str, much="7")
    assert make(SMALL, figures, draw()) == make(SMALL, figures, draw())


def test_a_document_has_headings_tables_with_headers_and_a_described_picture() -> None:
    data = make(SMALL, {"much": "7"}, draw())
    document = Document(io.BytesIO(data))
    [table] = document.tables
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["name", "amount"], ["one", "7"]]
    assert [p.text for p in document.paragraphs if p.style.name == "Caption"] == [
        "Table 1. Numbers",
        "Picture 1. What there is",
    ]
    assert [p.text for p in document.paragraphs if p.style.name == "List Bullet"] == ["first", "second"]
    written = parts(data)["word/document.xml"].decode()
    assert "w:tblHeader" in written
    assert 'descr="Architecture.' in written
    assert "NUMPAGES" in parts(data)["word/footer1.xml"].decode()


def test_a_figure_that_is_missing_or_not_used_is_told() -> None:
    with pytest.raises(KeyError, match="much"):
        make(SMALL, {}, draw())
    with pytest.raises(ValueError, match="does not use more"):
        make(SMALL, {"much": "7", "more": "8"}, draw())
