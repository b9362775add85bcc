"""Who asks: the name that goes on record with a promotion."""

import getpass

from processing.errors import FraudlineError
from processing.storage.home import Home
from processing.storage.local import LocalHome


def caller(home: Home) -> str:
    """The user of this machine, or, for a home in the cloud, the ARN of the AWS identity.

    Raises FraudlineError if AWS does not say who that is: what nobody answers for is not done.
    """
    if isinstance(home, LocalHome):
        return getpass.getuser()
    from botocore.exceptions import BotoCoreError, ClientError

    from processing.aws_client import client

    try:
        return str(client("sts").get_caller_identity()["Arn"])
    except (BotoCoreError, ClientError) as error:
        raise FraudlineError(f"AWS does not say who is asking: {error}; check the AWS credentials") from error
