"""Reading the files of the tables: whatever fails because of damage becomes Damaged."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.exceptions import NoSuchTableError

from processing.aws_client import refusal
from processing.errors import Damaged, FraudlineError
from processing.tables.catalog import REPAIR
from processing.tables.parquet import first_line


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Raise Damaged for any damage in the `with` block. Libraries raise many kinds of error over a flipped byte."""
    try:
        yield
    except (FraudlineError, NoSuchTableError):
        raise
    except FileNotFoundError as error:
        raise Damaged(f"{what} lacks a file: {error}; {REPAIR}") from error
    except Exception as error:
        if type(error).__module__.startswith("botocore"):
            check = "that the role may read the catalog and the files of the tables"
            raise FraudlineError(refusal(error, "the read", what, check)) from error
        raise Damaged(f"{what} cannot be read: {type(error).__name__}: {first_line(error)}; {REPAIR}") from error
