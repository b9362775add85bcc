"""Clients of AWS services, and what their refusals mean to a user. Imports boto3 when the first client is made."""

import os
from typing import Any

from processing.errors import FraudlineError

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
ATTEMPTS = 4
DENIED = ("AccessDenied", "AccessDeniedException", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch")


def region() -> str | None:
    """The region of the environment; None leaves it to the AWS configuration files."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


def endpoint(service: str) -> str | None:
    """Where a service answers, if the environment says so (an emulator, a VPC endpoint)."""
    return os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")


def client(
    service: str,
    *,
    connect: float = CONNECT_SECONDS,
    read: float = READ_SECONDS,
    attempts: int = ATTEMPTS,
    connections: int = 32,
) -> Any:
    """A boto3 client, safe for threads. Timeouts in seconds; `attempts` counts the first one.

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
        # A session of its own: boto3's default one must not be used by several threads at once.
        return boto3.session.Session(region_name=region()).client(service, config=config)
    except BotoCoreError as error:
        raise FraudlineError(f"no client for AWS {service}: {error}; set AWS_REGION, e.g. eu-central-1") from error


def code_of(error: Exception) -> str:
    """The error code of a ClientError; '' for any other exception."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def refusal(error: Exception, call: str, what: str, check: str) -> str:
    """An error's message: which call on what went wrong, and what to check when it was refused."""
    code = code_of(error)
    if code in DENIED:
        return f"AWS refused {call} on {what} ({code}): check {check}, and whose credentials are in use"
    if code == "NoSuchBucket":
        return f"AWS knows no bucket of that name: {call} on {what}; check the home's address and the account"
    return f"{call} on {what} failed: {error}"
