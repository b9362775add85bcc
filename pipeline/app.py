"""What the CDK's command line runs: `python -m pipeline.app`, told by the environment."""

import os
import sys

from pipeline.stack import Deployment, make_app
from processing.errors import BadInput, FraudlineError


def main() -> int:
    """Synthesize. Returns the exit code; what is wrong is one line on standard error."""
    try:
        make_app(from_environment()).synth()
    except FraudlineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def from_environment() -> Deployment:
    """The deployment as `pipeline.deploy` hands it over. Raises BadInput without an account or region."""
    account, region = (os.environ.get(f"CDK_DEFAULT_{name}") for name in ("ACCOUNT", "REGION"))
    if not account or not region:
        raise BadInput("no AWS account and region to deploy to: set AWS credentials and AWS_REGION, and try again")

    def given(name: str) -> str | None:
        return os.environ.get(f"FRAUDLINE_{name}") or None

    def listed(name: str) -> tuple[str, ...]:
        return tuple(part for part in (given(name) or "").split(",") if part)

    def seconds() -> int:
        said = given("SETTLE_SECONDS") or str(Deployment.settle_seconds)
        if not said.isdecimal() or int(said) > 900:
            raise BadInput(f"FRAUDLINE_SETTLE_SECONDS is {said!r}: give a whole number of seconds, 900 at most")
        return int(said)

    def flag(name: str) -> bool:
        said = given(name) or "false"
        if said not in ("true", "false"):
            raise BadInput(f"FRAUDLINE_{name} is {said!r}, expected true or false")
        return said == "true"

    return Deployment(
        account=account,
        region=region,
        contract=given("CONTRACT") or Deployment.contract,
        certificate_arn=given("CERTIFICATE_ARN"),
        clients=listed("CLIENTS") or Deployment.clients,
        alarm_email=given("ALARM_EMAIL"),
        event_sources=listed("EVENT_SOURCES"),
        settle_seconds=seconds(),
        allow_joblib=flag("ALLOW_JOBLIB"),
    )


if __name__ == "__main__":
    sys.exit(main())
