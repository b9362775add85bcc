"""What the CDK's command line runs: `python -m pipeline.infrastructure.cdk_app`. Reads the environment."""

import os
import sys

from pipeline.infrastructure.deployment import Deployment, from_settings
from pipeline.infrastructure.stack import make_app
from processing.errors import FraudlineError, report


def main() -> int:
    """Synthesize the stack; returns the exit code."""
    try:
        make_app(deployment_from_environment()).synth()
    except FraudlineError as error:
        return report(error)
    return 0


def deployment_from_environment() -> Deployment:
    """The deployment that the variables describe. Raises BadInput naming a variable that is missing or wrong."""
    account, region = (os.environ.get(f"CDK_DEFAULT_{name}") for name in ("ACCOUNT", "REGION"))
    return from_settings(account, region, os.environ)


if __name__ == "__main__":
    sys.exit(main())
