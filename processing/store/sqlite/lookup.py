"""Looking decisions up in the SQLite store: its indexes, each in the order of time, and the rows of one of them.

A position is "<decided_at>/<number>": the indexes order by both, `number` being the key that each of them ends with.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing

from processing.store.interface import Decision
from processing.store.lookup import LOOKED_AT, Search
from processing.store.sqlite.ledger import DECISION, decision_of

BY_TIME, FLAGGED, REPORTED = "decisions_by_time", "decisions_flagged", "decisions_reported"
EVER = (float("-inf"), float("inf"))


def indexes(entities: int) -> dict[str, str]:
    """The statements that make the indexes of a contract of so many entities, by name."""
    of = {BY_TIME: "decided_at", FLAGGED: "decided_at", REPORTED: "is_fraud, decided_at"}
    of |= {_by_entity(place): f"{_key(place)}, decided_at" for place in range(entities)}
    only = {FLAGGED: " WHERE decision = 'fraud'", REPORTED: " WHERE is_fraud IS NOT NULL"}  # few, so they cost little
    return {
        name: f"CREATE INDEX IF NOT EXISTS {name} ON decisions ({columns}){only.get(name, '')}"
        for name, columns in of.items()
    }


def missing_indexes(db: sqlite3.Connection, entities: int) -> list[str]:
    """The statements that make those indexes which the store lacks."""
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    return [statement for name, statement in indexes(entities).items() if name not in there]


def rows(
    db: sqlite3.Connection, search: Search, after: str | None, *, newer: bool
) -> Generator[tuple[str, Decision], None, None]:
    """The decisions of the index that fits a search best, with their positions; one more than a page reads.

    In the direction of the walk: the newest first, or with `newer` the oldest.
    """
    statement, arguments = query(search, after, newer=newer)
    with closing(db.execute(statement, arguments)) as found:
        for number, *row in found:
            made = decision_of(tuple(row))
            yield f"{row[-3]!r}/{number}", made


def query(search: Search, after: str | None, *, newer: bool) -> tuple[str, list[object]]:
    """The statement that reads them, and its arguments."""
    index, condition, arguments = _driving(search)
    low = search.since.timestamp() if search.since else EVER[0]
    high = search.until.timestamp() if search.until else EVER[1]
    conditions = [condition, "decided_at >= ?", "decided_at < ?"]
    arguments += [low, high]
    if after is not None:
        time, number = after.split("/")
        beyond, strictly = (">=", ">") if newer else ("<=", "<")
        conditions += [f"decided_at {beyond} ?", f"(decided_at {strictly} ? OR number {strictly} ?)"]
        arguments += [float(time), float(time), int(number)]
    order = "ASC" if newer else "DESC"
    source = f"decisions INDEXED BY {index}" if index else "decisions"
    statement = (
        f"SELECT number, {DECISION} FROM {source} WHERE {' AND '.join(conditions)}"
        f" ORDER BY decided_at {order}, number {order} LIMIT {LOOKED_AT + 1}"
    )
    return statement, arguments


def _driving(search: Search) -> tuple[str, str, list[object]]:
    """The index that has the fewest rows to read for a search, and what is asked of it. Without one, it is the id's."""
    if search.transaction_id is not None:
        return "", "transaction_id = ?", [search.transaction_id]
    if search.key is not None:
        place, key = search.key
        return _by_entity(place), f"{_key(place)} = ?", [key]
    if search.label in ("fraud", "legit"):
        return REPORTED, "is_fraud = ?", [search.label == "fraud"]
    if search.decision == "fraud" or search.reason is not None:  # only what is called fraud has reasons
        return FLAGGED, "decision = 'fraud'", []
    return BY_TIME, "1", []


def _by_entity(place: int) -> str:
    return f"decisions_by_entity_{place}"


def _key(place: int) -> str:
    return f"json_extract(keys, '$[{place}]')"
