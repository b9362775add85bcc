"""Commit a run: either everything it has written becomes part of the tables, or nothing.

A run removes its files only when no catalog can name them: before it tries to commit, and when the commit is known to
have failed. After any other end (a signal, a lost response) they stay, and `processing.tables.leftovers.sweep` removes
those that no catalog names in the next run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from processing.errors import Conflict, Damaged
from processing.tables.snapshots import snapshot_id
from processing.tables.tables import Tables

Files = dict[int, list[str]]


@dataclass
class Changes:
    """What a run has written and wants to commit. Days are numbered from 1970-01-01, files and folders are keys.

    rows: the number of transactions in the changed days after the commit
    features_stale: whether the features must be noted as computed from the transactions although no day of them changes
    folders: everything that was written, by table
    """

    transactions: Files = field(default_factory=dict)
    rows: int = 0
    features: Files = field(default_factory=dict)
    features_stale: bool = False
    refused: str | None = None
    folders: dict[str, str] = field(default_factory=dict)


@contextmanager
def discard_on(
    kind: type[BaseException], folders: Callable[[], Sequence[str]], discard: Callable[[str], None]
) -> Iterator[None]:
    """Discard the folders if the block raises an error of that kind."""
    try:
        yield
    except kind:
        for folder in folders():
            discard(folder)
        raise


def commit(
    tables: Tables, changes: Changes, discard: Callable[[str], None], check: Callable[[], None] = lambda: None
) -> bool:
    """Commit the transactions, then the features, then the quarantine; returns whether the transactions changed.

    `check` is called before each commit and raises Conflict if the run may not go on. The next run recovers from a
    crash in between, since features note which transactions they were computed from. Raises Conflict if someone else
    has committed since the tables were opened, and Damaged if the rows cannot be read back.
    """
    pending = dict(changes.folders)
    with discard_on(Conflict, lambda: list(pending.values()), discard):
        if changes.transactions:
            days, files = set(changes.transactions), keys_of(changes.transactions)
            check()
            tables.replace_days("transactions", days, files)
            pending.pop("transactions", None)
            _check_committed(tables, changes)
        if changes.features or changes.features_stale:
            made_from = snapshot_id(tables.find("transactions"))
            days, files = set(changes.features), keys_of(changes.features)
            check()
            tables.replace_days("features", days, files, made_from=made_from)
            pending.pop("features", None)
        if changes.refused:
            check()
            tables.append("quarantine", changes.refused)
    return bool(changes.transactions)


def _check_committed(tables: Tables, changes: Changes) -> None:
    """Read the rows back before their files are archived."""
    readable = tables.rows_read_back("transactions", changes.transactions.keys())
    if readable != changes.rows:
        raise Damaged(
            f"{changes.rows:,} transactions were written, but {readable:,} can be read back from the table of "
            f"{tables.home.url}; the files stay in incoming/. Run again; `fraudline home check` looks for damage"
        )


def keys_of(files: Files) -> list[str]:
    """The keys of all days."""
    return [name for names in files.values() for name in names]
