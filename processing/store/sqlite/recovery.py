"""Check the file of a SQLite store, and read what can be read of a damaged one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processing.store.decisions import Decision
from processing.store.sqlite.rows import DECISION, decision_of
from processing.store.sqlite.schema import has_column, has_table, is_finished

ESSENTIAL_TABLES = {"facts", "decisions", "reports"}  # the last two hold what is stored nowhere else


def file_fault(path: Path) -> str:
    """What is wrong with the file of a store; "" if nothing is. Reads all of it."""
    try:
        with closing(_open_read_only(path)) as db:
            (result,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        return str(error)
    if result != "ok":
        return str(result)
    return "" if tables >= ESSENTIAL_TABLES else "its tables are missing"


def refresh_status(path: Path) -> tuple[bool, bool]:
    """Whether a refresh of a store without a fault has begun, and whether the last one finished."""
    with closing(_open_read_only(path)) as db:
        if not has_table(db, "profiles"):  # of a version that counted otherwise
            return False, False
        facts = dict(db.execute("SELECT name, value FROM facts"))
    return bool(facts["refresh"]), is_finished(facts)


def set_aside(path: Path) -> Path:
    """Rename the file of a store, and its logs; returns the new path."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dt%H%M%S}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        log = path.with_name(path.name + suffix)
        if log.exists():
            log.rename(aside.with_name(aside.name + suffix))
    return aside


def readable_decisions(damaged: Path) -> Iterator[Decision]:
    """The decisions that can be read, without their labels, in the order of recording."""
    for row in _readable(damaged, "decisions", _columns_of(damaged)):
        yield replace(decision_of(row), is_fraud=None)


def _columns_of(damaged: Path) -> str:
    """The columns of a decision. A store of an earlier version has no extras."""
    with suppress(sqlite3.DatabaseError), closing(_open_read_only(damaged)) as db:
        if has_column(db, "decisions", "extras"):
            return DECISION
    return DECISION.replace("extras", "NULL", 1)


def readable_reports(damaged: Path) -> Iterator[tuple[str, bool]]:
    """The reported transactions that can be read and their labels, in the order of reporting."""
    for transaction_id, is_fraud in _readable(damaged, "reports", "transaction_id, is_fraud"):
        yield transaction_id, bool(is_fraud)


def _readable(damaged: Path, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows that can be read, in their order: those before the damage, and those after it."""
    last = -1
    try:
        for number, *row in _rows(damaged, f"SELECT number, {columns} FROM {table} ORDER BY number"):
            yield tuple(row)
            last = number
    except sqlite3.DatabaseError:
        first_after = None
        with suppress(sqlite3.DatabaseError):
            for (number,) in _rows(damaged, f"SELECT number FROM {table} WHERE number > ? ORDER BY number DESC", last):
                first_after = number
        if first_after is not None:
            after = f"SELECT {columns} FROM {table} WHERE number >= ? ORDER BY number"
            with suppress(sqlite3.DatabaseError):
                yield from _rows(damaged, after, first_after)


def _rows(path: Path, statement: str, *values: int) -> Iterator[tuple[Any, ...]]:
    with closing(_open_read_only(path)) as db:
        yield from db.execute(statement, values)


def _open_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10.0)
