"""`python -m serving.decision.check_version`: whether the API of a home would serve a version, if it were promoted.

    python3 -m serving.decision.check_version --home H --version V

Loads it as a server does that starts now, in a process of its own: a model file is code, and whoever promotes from a
command or a pipeline has no business with the libraries that it brings. Ends with 0, or says what is wrong on standard
error and ends with that error's code. FRAUDLINE_MODELS counts as it does for the server.
"""

import argparse
import sys
from collections.abc import Sequence

from pipeline.registry.registry import Registry, packed_only
from processing.contracts.reader import of_home
from processing.errors import FraudlineError, report
from processing.storage.open import open_home
from serving.decision.loaded_model import check_loadable


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the version; the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m serving.decision.check_version")
    parser.add_argument("--home", required=True, help="address of the home")
    parser.add_argument("--version", required=True, help="the version's full name")
    given = parser.parse_args(arguments)
    try:
        home = open_home(given.home)
        check_loadable(Registry(home).open(given.version), of_home(home), packed_only=packed_only())
    except FraudlineError as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
