"""Search decisions in the SQLite store: pick the best index and read its rows.

A position is "<decided_at>/<number>". The indexes order by both, since each of them ends with the key `number`.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing

from processing.store.decisions import Decision
from processing.store.lookup import MOST_READ, Search
from processing.store.sqlite.indexes import BY_TIME, FLAGGED, REPORTED, by_key, key_of
from processing.store.sqlite.rows import DECISION, decision_of

ALWAYS = (float("-inf"), float("inf"))


def walk(
    db: sqlite3.Connection, search: Search, after: str | None, *, newer: bool
) -> Generator[tuple[str, Decision], None, None]:
    """The decisions of the index that fits a search best, with their positions; one more than a page reads.

    The newest come first, or with `newer` the oldest.
    """
    statement, arguments = query(search, after, newer=newer)
    with closing(db.execute(statement, arguments)) as rows:
        for number, *row in rows:
            yield f"{row[-3]!r}/{number}", decision_of(tuple(row))


def query(search: Search, after: str | None, *, newer: bool) -> tuple[str, list[object]]:
    """The statement of a walk, and its arguments."""
    index, condition, arguments = _best_index(search)
    low = search.since.timestamp() if search.since else ALWAYS[0]
    high = search.until.timestamp() if search.until else ALWAYS[1]
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
        f" ORDER BY decided_at {order}, number {order} LIMIT {MOST_READ + 1}"
    )
    return statement, arguments


def _best_index(search: Search) -> tuple[str, str, list[object]]:
    """The index with the fewest rows to read ("": that of the id), the condition on it, and the arguments of that."""
    if search.transaction_id is not None:
        return "", "transaction_id = ?", [search.transaction_id]
    if search.key is not None:
        column, key = search.key
        return by_key(column), f"{key_of(column)} = ?", [key]
    if search.label in ("fraud", "legit"):
        return REPORTED, "is_fraud = ?", [search.label == "fraud"]
    if search.decision == "fraud" or search.reason is not None:  # only flagged transactions have reasons
        return FLAGGED, "decision = 'fraud'", []
    return BY_TIME, "1", []
