"""The online store of a laptop after damage: what can be read of it is kept, the counters come from the tables."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processing.contract import Contract
from processing.errors import Damaged, NotFound
from processing.storage.local import LocalHome
from processing.storage.scratch import scratch_folder
from processing.store.open import open_store
from processing.store.sqlite.ledger import DECISION, decision_of, is_finished
from processing.tables.tables import open_tables

STORE_KEY = "online/store.sqlite"
KEPT = ("decisions", "reports")  # what is in no other place


def store_fault(home: LocalHome) -> str:
    """What is wrong with the online store of a home; "" if nothing is, or there is none. Reads all of it."""
    path = home.path(STORE_KEY)
    if not path.exists():
        return ""
    try:
        with closing(_opened(path)) as db:
            (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        return str(error)
    if said != "ok":
        return str(said)
    return "" if {"facts", *KEPT} <= tables else "its tables are not there"


def store_lag(home: LocalHome, contract: Contract) -> str:
    """Why a store without a fault does not count what the tables hold; "" if it does. For a contract with entities."""
    path, lacks = home.path(STORE_KEY), "it is not there"
    if path.exists():
        with closing(_opened(path)) as db:
            facts = dict(db.execute("SELECT name, value FROM facts"))
        if facts["refresh"]:
            return "" if is_finished(facts) else "a refresh of it was begun and not finished"
        lacks = "it is empty"
    try:
        filled = open_tables(home, contract).find("transactions") is not None
    except Damaged:  # told of the tables
        return ""
    return f"{lacks}, although the tables hold transactions" if filled else ""


def refilled(home: LocalHome, contract: Contract) -> str:
    """Set the counters of a store from the tables, and make the store if it is gone. What was done, in words. Starts
    Spark."""
    return f"{_refreshed(home, contract):,} counters were set from the tables"


def rebuilt(home: LocalHome, contract: Contract) -> str:
    """Set a damaged store aside and make it anew: decisions and reports as far as they can be read, counters from the
    tables. What was done, in words. Starts Spark."""
    path = home.path(STORE_KEY)
    aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dt%H%M%S}")
    path.rename(aside)
    for end in ("-wal", "-shm"):
        log = path.with_name(path.name + end)
        if log.exists():
            log.rename(aside.with_name(aside.name + end))
    store = open_store(home, contract)
    decisions = reports = 0
    for row in _readable(aside, "decisions", DECISION):
        made = replace(decision_of(row), is_fraud=None)
        decisions += store.record(made) is made
    for transaction_id, is_fraud in _readable(aside, "reports", "transaction_id, is_fraud"):
        with suppress(NotFound):  # the decision itself is lost
            store.report(transaction_id, bool(is_fraud))
            reports += 1
    store.close()
    buckets = _refreshed(home, contract)
    kept = f"kept {decisions:,} decisions and {reports:,} reports"
    return f"set aside as {aside.name}; {kept}; {buckets:,} counters were set from the tables"


def _refreshed(home: LocalHome, contract: Contract) -> int:
    from processing.job.job import refresh_only

    with scratch_folder("store") as scratch, ExitStack() as held:
        return refresh_only(home, contract, scratch, held)


def _readable(damaged: Path, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """The rows that can be read, in their order: those up to the damage, and those behind it."""
    last = -1
    try:
        for number, *row in _rows(damaged, f"SELECT number, {columns} FROM {table} ORDER BY number"):
            yield tuple(row)
            last = number
    except sqlite3.DatabaseError:
        behind = None
        with suppress(sqlite3.DatabaseError):
            for (number,) in _rows(damaged, f"SELECT number FROM {table} WHERE number > ? ORDER BY number DESC", last):
                behind = number
        if behind is not None:
            again = f"SELECT {columns} FROM {table} WHERE number >= ? ORDER BY number"
            with suppress(sqlite3.DatabaseError):
                yield from _rows(damaged, again, behind)


def _rows(path: Path, statement: str, *values: int) -> Iterator[tuple[Any, ...]]:
    with closing(_opened(path)) as db:
        yield from db.execute(statement, values)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10.0)
