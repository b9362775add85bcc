"""The caller's identity: the name recorded with a promotion."""

import getpass

from processing.errors import FraudlineError
from processing.storage.home import Home
from processing.storage.local import LocalHome


def caller(home: Home) -> str:
    """The user of this machine or, for a home in the cloud, the ARN of the AWS identity.

    Raises FraudlineError if AWS does not tell: every promotion must have a responsible identity.
    """
    if isinstance(home, LocalHome):
        return getpass.getuser()
    from botocore.exceptions import BotoCoreError, ClientError

    from processing.aws_client import client

    try:
        return str(client("sts").get_caller_identity()["Arn"])
    except (BotoCoreError, ClientError) as error:
        raise FraudlineError(f"cannot determine the AWS identity: {error}; check the AWS credentials") from error
