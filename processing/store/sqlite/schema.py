"""The tables of the SQLite store.

facts        contract: digest of the contract; fingerprint: of the contract's entries that the store is bound to;
             horizon, refresh (its number), read and pending (of its Comparison), began (us since 1970): of the refresh
             that began last; done: the number of the last one that finished; labelled: the time of the newest
             transaction with a known label
buckets      counters of each entity and hour
ticks        counters of each entity and moment from the horizon on: an event sees those of its own hour that lie before
             it, but not those at the same time
tail         events of the tables from the horizon on
decisions    decisions in the order of recording, with the label reported last
displaced    ids of decisions that do not count, because the tables have another transaction under their id
labels       counted events that the buckets hold as fraud, or did until a report said otherwise
reports      reports in their order
reported     what reports change, since the tables were read, in the buckets that a refresh is about to set
"""

import sqlite3
from collections.abc import Mapping

from processing.contract import Contract

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
    entity INTEGER, key TEXT, hour INTEGER, n INTEGER, s INTEGER, q INTEGER, f INTEGER, g INTEGER, refresh INTEGER,
    PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ticks (
    entity INTEGER, key TEXT, time_us INTEGER, n INTEGER, s INTEGER, q INTEGER,
    PRIMARY KEY (entity, key, time_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tail (transaction_id TEXT PRIMARY KEY, content TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS displaced (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, transaction_id TEXT UNIQUE, time_us INTEGER, amount INTEGER, keys TEXT,
    decision TEXT, score REAL, threshold REAL, model_version TEXT, features BLOB, decided_at REAL, is_fraud INTEGER,
    reasons TEXT);
CREATE TABLE IF NOT EXISTS labels (
    transaction_id TEXT, content TEXT, time_us INTEGER, fraud INTEGER, PRIMARY KEY (transaction_id, content))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (number INTEGER PRIMARY KEY, transaction_id TEXT, is_fraud INTEGER);
CREATE TABLE IF NOT EXISTS reported (
    entity INTEGER, key TEXT, hour INTEGER, f INTEGER, g INTEGER, PRIMARY KEY (entity, key, hour)) WITHOUT ROWID;
"""
FACTS = ("horizon", "refresh", "read", "pending", "began", "done", "labelled")
NEWEST_COLUMNS = {"buckets": "g", "decisions": "reasons"}  # the latest addition to each table


def create_tables(db: sqlite3.Connection, contract: Contract) -> None:
    """Create the tables that are missing."""
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    db.execute("INSERT OR IGNORE INTO facts VALUES ('contract', ?)", [contract.digest])
    db.executemany("INSERT OR IGNORE INTO facts VALUES (?, 0)", [(name,) for name in FACTS])


def has_table(db: sqlite3.Connection, name: str) -> bool:
    """Whether a table exists."""
    return db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", [name]).fetchone() is not None


def has_known_columns(db: sqlite3.Connection) -> bool:
    """Whether the tables have the columns that this version needs and cannot add."""
    columns = {name for table in NEWEST_COLUMNS for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
    return columns.issuperset(NEWEST_COLUMNS.values())


def fact(db: sqlite3.Connection, name: str) -> int:
    """One of FACTS."""
    value: int = db.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()[0]
    return value


def set_fact(db: sqlite3.Connection, name: str, value: int) -> None:
    """Set one of FACTS. A store of an earlier version may lack it."""
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def is_finished(facts: Mapping[str, int]) -> bool:
    """Whether the refresh that began last has finished. True for a store of an earlier version, which does not say."""
    return facts.get("done", facts["refresh"]) == facts["refresh"]


def note_labelled(db: sqlite3.Connection, time_us: int) -> None:
    """Note that the label of a transaction of that time is known."""
    newest = "ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"
    db.execute(f"INSERT INTO facts VALUES ('labelled', ?) {newest}", [time_us])
