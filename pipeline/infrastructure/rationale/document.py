"""Markdown to Word, by pandoc. `reference.docx` holds the styles, the page and the footer: edit them in Word."""

import os
import re
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pypandoc

from pipeline.infrastructure.rationale.diagram import ALT

REFERENCE = Path(__file__).with_name("reference.docx")
DIAGRAM_WIDTH = "16.4cm"
DATE = datetime(2026, 1, 1, tzinfo=UTC)  # of the file, so that the same input makes the same bytes
OPTIONS = (
    f"--reference-doc={REFERENCE}",
    "--shift-heading-level-by=-1",  # the first heading is the title
    "--number-sections",
    "--metadata=lang:en",
)


def make_document(text: str, figures: Mapping[str, str], diagram: bytes) -> bytes:
    """Make a .docx file of a Markdown text with {names} of figures; the image `diagram` is the PNG given.

    Raises KeyError for a name that `figures` lacks, ValueError for a figure that the text does not use.
    """
    unused = set(figures) - set(re.findall(r"\{(\w+)\}", text))
    if unused:
        raise ValueError(f"the text does not use {', '.join(sorted(unused))}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "document.docx")
        Path(folder, "diagram.png").write_bytes(diagram)
        markdown = f'{text.format_map(figures)}\n\n[diagram]: diagram.png {{width={DIAGRAM_WIDTH} alt="{ALT}"}}\n'
        with patch.dict(os.environ, SOURCE_DATE_EPOCH=str(int(DATE.timestamp()))):
            pypandoc.convert_text(
                markdown,
                "docx+native_numbering",
                format="markdown",
                outputfile=str(file),
                extra_args=[*OPTIONS, f"--resource-path={folder}"],
            )
        return file.read_bytes()
