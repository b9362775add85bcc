"""Clients of AWS services, and error messages for what AWS refuses. Imports boto3 when the first client is made."""

import os
from typing import Any

from processing.errors import FraudlineError

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
ATTEMPTS = 4
DENIED = ("AccessDenied", "AccessDeniedException", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch")


def region() -> str | None:
    """The region from the environment; None if only the AWS configuration files may name one."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


def endpoint(service: str) -> str | None:
    """A service's endpoint URL, if the environment names one (an emulator, a VPC endpoint)."""
    return os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")


def client(
    service: str,
    *,
    connect: float = CONNECT_SECONDS,
    read: float = READ_SECONDS,
    attempts: int = ATTEMPTS,
    connections: int = 32,
) -> Any:
    """A boto3 client, safe for threads. Timeouts in seconds; `attempts` includes the first one.

    Raises FraudlineError when no region is set for a service that needs one.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=connect,
        read_timeout=read,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=connections,
    )
    try:
        # A separate session: boto3's default session is not thread-safe.
        return boto3.session.Session(region_name=region()).client(service, config=config)
    except BotoCoreError as error:
        raise FraudlineError(f"no client for AWS {service}: {error}; set AWS_REGION, e.g. eu-central-1") from error


def code_of(error: Exception) -> str:
    """The error code of a ClientError; '' for any other exception."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def refusal(error: Exception, call: str, what: str, check: str) -> str:
    """An error message: which call failed on what, and what to check if AWS refused it."""
    code = code_of(error)
    if code in DENIED:
        return f"AWS refused {call} on {what} ({code}): check {check}, and whose credentials are in use"
    if code == "NoSuchBucket":
        return f"there is no such bucket: {call} on {what}; check the home's address and the account"
    return f"{call} on {what} failed: {error}"
