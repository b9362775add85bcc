"""The process behind `fraudline score`: it scores a file and reports the result.

    python -m serving.files '{"file": "june.csv", "home": "home", "output": null, "model": null, "as_json": false}'

The command line itself is defined once, in `pipeline.command.serving`, which passes its options as one JSON document.
"""

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from processing.errors import INTERRUPTED, FraudlineError, report
from processing.storage.open import open_home
from processing.storage.scratch import remove_abandoned
from serving.files.score_file import Summary, score_file


def main(options: str) -> int:
    """Run with the command's options, and return the exit code. Ctrl-C leaves no partial file."""
    given = json.loads(options)
    file = Path(given["file"])
    output = Path(given["output"]) if given["output"] else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    remove_abandoned()
    try:
        summary = score_file(file, open_home(given["home"]), output, given["model"], Console(stderr=True))
    except FraudlineError as error:
        return report(error)
    except KeyboardInterrupt:
        print("\nstopped. Nothing was written.", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(asdict(summary), indent=2) if given["as_json"] else _in_words(summary))
    if summary.broken_off:
        print(f"error: {file} is truncated at {summary.broken_off}; the rows before it are scored", file=sys.stderr)
        return 1
    return 0


def _in_words(summary: Summary) -> str:
    lines = [
        f"{summary.output}: {summary.rows:,} rows scored by model {summary.model_version}, "
        f"{summary.fraud:,} flagged as fraud"
    ]
    if summary.partial_history:
        lines.append(
            f"{summary.partial_history:,} of them precede the end of the home's data, so their history is partial"
        )
    if summary.refused:
        lines.append(f"{summary.refused:,} rows refused; see line and reason in {summary.refused_rows}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
