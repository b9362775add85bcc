"""Generate service_rationale.docx: `python -m pipeline.infrastructure.rationale [FILE]`, or `make rationale`.

It first writes the sizes of the stack that the bill is computed from, since the document contains the bill.
"""

import sys
from pathlib import Path

from pipeline.infrastructure.cost.stack_sizes import sizes_of, write_sizes
from pipeline.infrastructure.rationale.diagram import draw
from pipeline.infrastructure.rationale.document import make_document
from pipeline.infrastructure.rationale.figures import figures_of
from pipeline.infrastructure.template import Template, synthesize_template

FILE = Path(__file__).parents[3] / "service_rationale.docx"
TEXT = Path(__file__).with_name("rationale.txt")


def rationale(template: Template) -> bytes:
    """The document for a stack with this template. The same template gives the same bytes."""
    return make_document(TEXT.read_text(encoding="utf-8"), figures_of(template), draw())


def main() -> None:
    """Write both files."""
    template = synthesize_template()
    write_sizes(sizes_of(template))
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_bytes(rationale(template))
    print(file)


if __name__ == "__main__":
    main()
