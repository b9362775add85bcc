"""The commit of a run: what it has written becomes part of the tables, or of nothing.

Files are removed only where it is sure that no catalog names them: before a commit is tried, and when it is known to
have failed. Any other end (a signal, a lost answer) leaves them, and what no catalog names is removed by
`processing.tables.leftovers.sweep` in the next run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from processing.errors import Conflict, Damaged
from processing.tables import tables as iceberg

Files = dict[int, list[str]]


@dataclass
class Changes:
    """What a run has written and wants to commit; days by their numbers, files and folders by their keys.

    `rows` is how many transactions the changed days hold then, `features_stale` whether features are to be noted as
    made from the transactions though no day of them changes. `folders` are all that was written, by table.
    """

    transactions: Files = field(default_factory=dict)
    rows: int = 0
    features: Files = field(default_factory=dict)
    features_stale: bool = False
    refused: str | None = None
    folders: dict[str, str] = field(default_factory=dict)


@contextmanager
def discarded_on(
    kind: type[BaseException], folders: Callable[[], Sequence[str]], discard: Callable[[str], None]
) -> Iterator[None]:
    """Remove the folders if the block ends with an error of that kind."""
    try:
        yield
    except kind:
        for folder in folders():
            discard(folder)
        raise


def commit(
    tables: iceberg.Tables, changes: Changes, discard: Callable[[str], None], check: Callable[[], None] = lambda: None
) -> bool:
    """Commit to the transactions, then to the features, then to the quarantine; whether transactions changed.

    `check` is called right before each, and raises Conflict if the run may not go on. A crash in between is healed by
    the next run: features know which transactions they were made from. Raises Conflict if someone else has committed
    since the tables were opened, and Damaged if what was committed cannot be read back.
    """
    pending = dict(changes.folders)
    with discarded_on(Conflict, lambda: list(pending.values()), discard):
        if changes.transactions:
            days, files = set(changes.transactions), keys_of(changes.transactions)
            check()
            tables.replace_days("transactions", days, files)
            pending.pop("transactions", None)
            _check_committed(tables, changes)
        if changes.features or changes.features_stale:
            made_from = iceberg.snapshot_id(tables.find("transactions"))
            days, files = set(changes.features), keys_of(changes.features)
            check()
            tables.replace_days("features", days, files, made_from=made_from)
            pending.pop("features", None)
        if changes.refused:
            check()
            tables.append("quarantine", changes.refused)
    return bool(changes.transactions)


def _check_committed(tables: iceberg.Tables, changes: Changes) -> None:
    """No file is archived whose rows cannot be read back from the table."""
    found = tables.rows_read_back("transactions", changes.transactions.keys())
    if found != changes.rows:
        raise Damaged(
            f"{changes.rows:,} transactions were written and {found:,} can be read back from the table of "
            f"{tables.home.url}; the files wait in incoming/. Run again; `fraudline home check` looks for damage"
        )


def keys_of(files: Files) -> list[str]:
    """The keys of all days."""
    return [name for names in files.values() for name in names]
