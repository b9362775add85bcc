"""The errors that users see. Each message says what is wrong, where, and what to do next."""

import sys

INTERRUPTED = 130  # the exit code after Ctrl-C


class FraudlineError(Exception):
    """Base of every error raised on purpose. The command prints its message, never a traceback."""

    exit_code = 1


class BadInput(FraudlineError, ValueError):
    """The caller's data, contract or argument is wrong; the command ends with exit code 2."""

    exit_code = 2


class NotFound(FraudlineError, FileNotFoundError):
    """A file, version or run does not exist in the home."""

    exit_code = 2

    def __str__(self) -> str:  # FileNotFoundError would format errno and filename
        return str(self.args[0]) if self.args else ""


class Conflict(FraudlineError):
    """A conditional write failed: another writer came first."""


class Damaged(FraudlineError):
    """A stored file is truncated, changed or gone. The message says how to repair it."""


class RunFailed(FraudlineError):
    """A pipeline run or one of its steps failed. Nothing was promoted."""


def report(error: FraudlineError) -> int:
    """Print an error on standard error, the same way in every program; the exit code to end with."""
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code
