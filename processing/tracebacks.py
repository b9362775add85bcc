"""Unexpected errors without their own texts, which may hold values of a customer's rows."""

import traceback
from pathlib import Path

from processing.errors import FraudlineError

CODE = Path(__file__).resolve().parents[1]


def error_summary(error: BaseException) -> str:
    """An error in one line: its type and where it was raised; for a FraudlineError its message."""
    if isinstance(error, FraudlineError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and not frame.filename.startswith("<")]
    where = f" at {_short(own[-1].filename)}:{own[-1].lineno}, in {own[-1].name}" if own else ""
    return f"{type(error).__name__}{where}"


def _short(file: str) -> str:
    """A file's path within Fraudline's code, or its last two parts."""
    path = Path(file)
    return str(path.relative_to(CODE) if path.is_relative_to(CODE) else Path(*path.parts[-2:]))


def redacted_traceback(error: BaseException) -> str:
    """The traceback of an error and its causes, without their texts."""
    parts = []
    chain: BaseException | None = error
    while chain is not None:
        frames = "".join(traceback.format_tb(chain.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{error_summary(chain)}\n")
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return "\nwhich led to\n\n".join(reversed(parts))
