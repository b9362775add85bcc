"""The tables of the SQLite store.

facts        contract: digest of the contract; fingerprint: of the contract's entries that the store is bound to;
             horizon, refresh (its number), pending (of its Comparison), began (us since 1970): of the refresh that
             began last; done: the number of the last one that finished, read (of its Comparison), basis ("" from the
             beginning of a refresh to its end), plan: what profiles keep since the last one that settled all;
             labelled: the time of the newest transaction with a known label; migrated: the number of the last decision
             before the tables of an earlier version were dropped, until a refresh has settled all
profiles     profiles, packed, by entity and key; horizon_us and newest_us are those of the profile; refresh: the number
             of the refresh that settled it, read (of its Comparison)
tail         events of the tables that profiles count one by one, because they are not before their horizons
decisions    decisions in the order of recording, with the label reported last
displaced    ids of decisions that do not count, because the tables have another transaction under their id
reports      reports in their order
"""

import sqlite3
from collections.abc import Mapping
from typing import Any

from processing.contract import Contract

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tail (transaction_id TEXT PRIMARY KEY, content TEXT, extras TEXT, is_fraud INTEGER)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS displaced (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, transaction_id TEXT UNIQUE, time_us INTEGER, amount INTEGER, keys TEXT,
    decision TEXT, score REAL, threshold REAL, model_version TEXT, features BLOB, decided_at REAL, is_fraud INTEGER,
    reasons TEXT, extras TEXT);
CREATE TABLE IF NOT EXISTS reports (number INTEGER PRIMARY KEY, transaction_id TEXT, is_fraud INTEGER);
CREATE TABLE IF NOT EXISTS profiles (
    entity TEXT, key TEXT, horizon_us INTEGER, newest_us INTEGER, refresh INTEGER, read INTEGER, data BLOB,
    PRIMARY KEY (entity, key));
"""
FACTS = ("horizon", "refresh", "read", "pending", "began", "done", "labelled", "migrated")
TEXTS = ("basis", "plan")
NEEDED_COLUMN = "reasons"  # of decisions: stores without it were written by a version that is too old


def create_tables(db: sqlite3.Connection, contract: Contract) -> None:
    """Create the tables that are missing."""
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    db.execute("INSERT OR IGNORE INTO facts VALUES ('contract', ?)", [contract.digest])
    db.executemany("INSERT OR IGNORE INTO facts VALUES (?, 0)", [(name,) for name in FACTS])
    db.executemany("INSERT OR IGNORE INTO facts VALUES (?, '')", [(name,) for name in TEXTS])


def has_table(db: sqlite3.Connection, name: str) -> bool:
    """Whether a table exists."""
    return db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", [name]).fetchone() is not None


def has_column(db: sqlite3.Connection, table: str, column: str) -> bool:
    """Whether a table has a column."""
    return any(name == column for _, name, *_ in db.execute(f"PRAGMA table_info({table})"))


def fact(db: sqlite3.Connection, name: str) -> int:
    """One of FACTS."""
    value: int = db.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()[0]
    return value


def text_fact(db: sqlite3.Connection, name: str) -> str:
    """One of TEXTS."""
    return str(db.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()[0])


def set_facts(db: sqlite3.Connection, facts: Mapping[str, Any]) -> None:
    """Set some of FACTS and TEXTS."""
    db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())


def is_finished(facts: Mapping[str, Any]) -> bool:
    """Whether the refresh that began last has finished."""
    return bool(facts["done"] == facts["refresh"])


def note_labelled(db: sqlite3.Connection, time_us: int) -> None:
    """Note that the label of a transaction of that time is known."""
    db.execute("UPDATE facts SET value = max(value, ?) WHERE name = 'labelled'", [time_us])
