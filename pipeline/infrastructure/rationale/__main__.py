"""Write service_rationale.docx anew: `python -m pipeline.infrastructure.rationale [FILE]`, or `make rationale`."""

import sys
from pathlib import Path

from pipeline.infrastructure.rationale.document import make
from pipeline.infrastructure.rationale.figures import figures_of
from pipeline.infrastructure.rationale.picture import draw
from pipeline.infrastructure.template import Template, synthesize_template

FILE = Path(__file__).parents[3] / "service_rationale.docx"
TEXT = Path(__file__).with_name("rationale.txt")


def rationale(template: Template) -> bytes:
    """The document for a stack with this template. The same template gives the same bytes."""
    return make(TEXT.read_text(encoding="utf-8"), figures_of(template), draw())


def main() -> None:
    """Write the document and say where."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_bytes(rationale(synthesize_template()))
    print(file)


if __name__ == "__main__":
    main()
