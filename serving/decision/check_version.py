"""`python3 -m serving.decision.check_version --home H --version V`: check whether the API could serve a version.

Loads the version as a server that starts now would, in a process of its own: a model file is code, and whoever promotes
a version has no need for the libraries that the model brings. Exits with 0, or prints the error and exits with its
code. FRAUDLINE_MODELS applies as it does to the server.
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
    """Check the version; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m serving.decision.check_version")
    parser.add_argument("--home", required=True, help="address of the home")
    parser.add_argument("--version", required=True, help="the version's full name")
    options = parser.parse_args(arguments)
    try:
        home = open_home(options.home)
        check_loadable(Registry(home).open(options.version), of_home(home), packed_only=packed_only())
    except FraudlineError as error:
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
