"""The indexes by which decisions are searched, each in the order of time."""

import logging
import sqlite3
from contextlib import closing

from processing.store.interface import StoreUnavailable
from processing.store.sqlite.connections import Connections

BY_TIME, FLAGGED, REPORTED = "decisions_by_time", "decisions_flagged", "decisions_reported"
INDEX_SECONDS = 600.0  # how long opening a store waits for another process that creates its indexes
MANY = 100_000  # decisions from which on creating indexes takes a moment: some 9 seconds for a million


def by_key(column: int) -> str:
    """The name of the index by a key column."""
    return f"decisions_by_entity_{column}"


def key_of(column: int) -> str:
    """The expression for the value of a key column in a row of `decisions`."""
    return f"json_extract(keys, '$[{column}]')"


def indexes(key_columns: int) -> dict[str, str]:
    """The statements that create the indexes of a contract with so many key columns, by the index's name."""
    columns = {BY_TIME: "decided_at", FLAGGED: "decided_at", REPORTED: "is_fraud, decided_at"}
    columns |= {by_key(column): f"{key_of(column)}, decided_at" for column in range(key_columns)}
    where = {FLAGGED: " WHERE decision = 'fraud'", REPORTED: " WHERE is_fraud IS NOT NULL"}  # few, so they cost little
    return {
        name: f"CREATE INDEX IF NOT EXISTS {name} ON decisions ({on}){where.get(name, '')}"
        for name, on in columns.items()
    }


def create_missing_indexes(connections: Connections, key_columns: int) -> None:
    """Create the indexes that a new store lacks, or one of an earlier version, each in a transaction of its own.

    Others write in between. For one index of a million decisions they wait three seconds.
    """
    with connections.reading() as db:
        present = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
        (decided,) = db.execute("SELECT ifnull(max(number), 0) FROM decisions").fetchone()
    missing = [statement for name, statement in indexes(key_columns).items() if name not in present]
    if missing and decided > MANY:
        logging.getLogger(__name__).warning(
            "creating indexes for the %s decisions in the online store %s, once; other processes may wait for seconds",
            f"{decided:,}",
            connections.path,
        )
    for statement in missing:
        try:
            with closing(connections.connect(max(connections.timeout, INDEX_SECONDS))) as patient:
                patient.execute("BEGIN IMMEDIATE")
                patient.execute(statement)
                patient.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"cannot create an index in the online store {connections.path}: {error}") from error
