"""What the errors of AWS and of the CDK mean, and what to do about each."""

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from processing.errors import FraudlineError

CAUSES = (  # pattern in a tool's output, and its cause with what to do
    (r"ExpiredToken|token included in the request is expired", "the AWS credentials have expired: sign in again"),
    (
        r"Unable to resolve AWS account|no credentials have been configured|[Cc]ould not load credentials"
        r"|InvalidClientTokenId|UnrecognizedClient",
        "the AWS credentials are missing or wrong: run `aws configure` or `aws sso login`, or set AWS_PROFILE",
    ),
    (
        r"is not bootstrapped|has not been bootstrapped|bootstrap stack version|/cdk-bootstrap/",
        "the account is not bootstrapped for the CDK in this region: run `fraudline deploy --bootstrap` once",
    ),
    (
        r"LimitExceeded|ServiceQuota|[Qq]uota|maximum number of|VpcLimit",
        "the deployment exceeds a quota of the account: request an increase under Service Quotas in the AWS console, "
        "or remove what is not needed, and deploy again",
    ),
    (
        r"AccessDenied|not authorized to perform|UnauthorizedOperation",
        "these credentials lack a permission: deploy with a role that may use CloudFormation and the bootstrap roles",
    ),
    (r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN", "the network is unreachable: check the connection or the proxy"),
    (r"already exists", "a resource of that name already exists, perhaps from an earlier stack: remove it"),
)
CDK_FAILED, AWS_REFUSED = "the CDK failed", "AWS refused the request or did not answer"  # where no cause is known
LAST_LINES = 12


def explain(output: str, otherwise: str) -> str:
    """Explain a failure from a tool's output: the cause and what to do, then the last lines of the output.

    `otherwise` is given as the cause if the output shows none of the known ones.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output).strip()
    cause = next((meaning for pattern, meaning in CAUSES if re.search(pattern, plain)), otherwise)
    return f"{cause}.\n" + "\n".join(plain.splitlines()[-LAST_LINES:])


def call_aws(call: Callable[..., Any], **arguments: Any) -> Any:
    """Call a function that calls AWS. Raises FraudlineError that explains an error of AWS."""
    errors: Any = import_module("botocore.exceptions")
    try:
        return call(**arguments)
    except errors.NoCredentialsError as error:
        raise FraudlineError(explain("Unable to resolve AWS account", AWS_REFUSED)) from error
    except (errors.ClientError, errors.BotoCoreError) as error:
        parameter = " /cdk-bootstrap/" if "ParameterNotFound" in str(error) else ""
        raise FraudlineError(explain(f"{error}{parameter}", AWS_REFUSED)) from error
