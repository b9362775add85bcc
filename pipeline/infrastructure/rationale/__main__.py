"""Write service_rationale.docx anew: `python -m pipeline.infrastructure.rationale [FILE]`, or `make rationale`."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline.infrastructure.deploy import node_environment
from pipeline.infrastructure.rationale.document import make
from pipeline.infrastructure.rationale.figures import figures_of
from pipeline.infrastructure.rationale.picture import draw

FILE = Path(__file__).parents[3] / "service_rationale.docx"
TEXT = Path(__file__).with_name("rationale.txt")


def rationale(template: dict[str, Any]) -> bytes:
    """The document for a stack with this template. The same template gives the same bytes."""
    return make(TEXT.read_text(encoding="utf-8"), figures_of(template), draw())


def synthesized() -> dict[str, Any]:
    """The template of the stack, for an account and region that stand for any."""
    os.environ.update(node_environment())  # before the CDK's library is imported
    from pipeline.infrastructure.deployment import Deployment
    from pipeline.infrastructure.stack import STACK, make_app

    with tempfile.TemporaryDirectory() as folder:
        zones = ("eu-central-1a", "eu-central-1b")
        make_app(
            Deployment("111122223333", "eu-central-1", zones, alarm_email="team@example.com"), Path(folder)
        ).synth()
        template: dict[str, Any] = json.loads(Path(folder, f"{STACK}.template.json").read_text(encoding="utf-8"))
    return template


def main() -> None:
    """Write the document and say where."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_bytes(rationale(synthesized()))
    print(file)


if __name__ == "__main__":
    main()
