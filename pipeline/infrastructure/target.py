"""The account and region that commands work on, and the outputs of the stack that is deployed there."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from pipeline.infrastructure.aws_errors import AWS_REFUSED, call_aws, explain
from pipeline.infrastructure.names import STACK
from processing.aws_client import region
from processing.errors import FraudlineError

BOOTSTRAP = "/cdk-bootstrap/hnb659fds/version"
Clients = Callable[[str], Any]  # gives the client of an AWS service


@dataclass(frozen=True)
class Target:
    """An account and region."""

    account: str
    region: str

    @property
    def clients(self) -> Clients:
        """Clients of AWS services in the region."""
        return partial(_session().client, region_name=self.region)


def find_target() -> Target:
    """The account and region of the credentials in use. Raises FraudlineError saying what is missing."""
    session = _session()
    if not session.region_name:
        raise FraudlineError("no AWS region is set: set AWS_REGION, e.g. eu-central-1, or run `aws configure`")
    identity = call_aws(session.client("sts").get_caller_identity)
    return Target(identity["Account"], session.region_name)


def check_bootstrapped(target: Target) -> None:
    """Raise FraudlineError unless the CDK can deploy to the account and region."""
    call_aws(target.clients("ssm").get_parameter, Name=BOOTSTRAP)


def find_outputs(target: Target) -> dict[str, str]:
    """The outputs of the deployed stack, empty if there is none. Raises FraudlineError."""
    errors: Any = import_module("botocore.exceptions")
    try:
        [stack] = target.clients("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    except errors.ClientError as error:
        if "does not exist" in str(error):
            return {}
        raise FraudlineError(explain(str(error), AWS_REFUSED)) from error
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def deployed_outputs(target: Target) -> dict[str, str]:
    """The outputs of the deployed stack. Raises FraudlineError if there is none."""
    outputs = find_outputs(target)
    if not outputs:
        raise FraudlineError(
            f"there is no stack {STACK} in account {target.account}, {target.region}; `fraudline deploy` creates it"
        )
    return outputs


def _session() -> Any:
    return import_module("boto3").session.Session(region_name=region())  # boto3 does not read AWS_REGION itself
