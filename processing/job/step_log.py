"""The feature job's progress, in the log of its step."""

from datetime import UTC, datetime


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)
