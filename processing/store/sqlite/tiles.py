"""Tiles in the SQLite store: reading those of an event's entities, and adding an event to them.

Each entity has a table of tiles of every size but a day, since a day's tile is that of its hours. `level` is the index
of the tile size in the entity's `levels`.
"""

import functools
import sqlite3
from collections.abc import Sequence
from operator import add
from typing import Any

from processing.durations import DAY_US, HOUR_US
from processing.features.state_plan import EntityEvent
from processing.features.tiles import Column, FraudTile, Tile, TileRange, union
from processing.features.windows import EntityWindows

DAY_HOURS = DAY_US // HOUR_US
AGGREGATES = {add: "sum", min: "min", max: "max", union: "set_union"}
SCALARS = {add: "{0} + {1}", min: "min({0}, {1})", max: "max({0}, {1})", union: "set_merge({0}, {1})"}


class _Union:
    """The SQL aggregate that merges the sets of many tiles."""

    def __init__(self) -> None:
        self._merged = b""

    def step(self, value: bytes | None) -> None:
        self._merged = union(self._merged, value or b"")

    def finalize(self) -> bytes:
        return self._merged


def add_functions(db: sqlite3.Connection) -> None:
    """Give a connection the SQL functions that merge sets."""
    db.create_function("set_merge", 2, union, deterministic=True)
    db.create_aggregate("set_union", 1, _Union)  # type: ignore[arg-type]


def table_of(entity: str) -> str:
    """The name of an entity's table of tiles."""
    return f"tiles_{entity}"


def definition(entity: str, windows: EntityWindows) -> str:
    """The statement that creates an entity's table of tiles."""
    columns = ", ".join(f'"{column.name}" {_type(column)}' for column in windows.tile_columns)
    return (
        f"CREATE TABLE IF NOT EXISTS {table_of(entity)} (key TEXT, level INTEGER, number INTEGER, refresh INTEGER,"
        f" {columns}, PRIMARY KEY (key, level, number)) WITHOUT ROWID"
    )


def _type(column: Column) -> str:
    return "BLOB" if isinstance(column.neutral, bytes) else "INTEGER"


def stored_levels(windows: EntityWindows) -> list[int]:
    """The levels that have tiles of their own."""
    return [level for level, size in enumerate(windows.levels) if size != DAY_US]


class SqliteTiles:
    """The tiles of one entity's key: see EntityTiles."""

    def __init__(self, db: sqlite3.Connection, entity: str, event: EntityEvent) -> None:
        self.db, self.entity, self.windows, self.key = db, entity, event.windows, event.key

    def merged(self, ranges: Sequence[TileRange]) -> list[Tile]:
        arguments: list[Any] = [self.key]
        for level, start, end in ranges:
            of_days = self.windows.levels[level] == DAY_US
            arguments += [start * DAY_HOURS, end * DAY_HOURS] if of_days else [start, end]
        levels = tuple(level - 1 if self.windows.levels[level] == DAY_US else level for level, _, _ in ranges)
        query = _merge_query(table_of(self.entity), self.windows.tile_columns, levels)
        return self.db.execute(query, arguments).fetchall()

    def frauds(self, start: int, end: int) -> list[FraudTile]:
        query = (
            "SELECT tile, f, g FROM frauds"
            " WHERE entity = ? AND key = ? AND tile >= ? AND tile < ? AND f <> 0 ORDER BY tile"
        )
        rows = self.db.execute(query, (self.entity, self.key, start, end))
        return [FraudTile(*row) for row in rows]


@functools.lru_cache(1_000)
def _merge_query(table: str, columns: tuple[Column, ...], levels: tuple[int, ...]) -> str:
    """The query for merged tiles, a row for each range; ?1 is the key, then come start and end of every range."""
    merged = ", ".join(
        f'ifnull({AGGREGATES[column.merge]}("{column.name}"), {_literal(column.neutral)})' for column in columns
    )
    return " UNION ALL ".join(
        f"SELECT {merged} FROM {table} WHERE key = ?1 AND level = {level} AND number >= ?{2 * i + 2}"
        f" AND number < ?{2 * i + 3}"
        for i, level in enumerate(levels)
    )


def _literal(value: int | bytes) -> str:
    if isinstance(value, bytes):
        return "x''"
    return str(value) if value > -(2**63) else "(-9223372036854775807 - 1)"


def add_event(db: sqlite3.Connection, entity: str, event: EntityEvent) -> None:
    """Add an event to the tiles of one entity."""
    tile, levels = event.windows.tile_of(event.values), stored_levels(event.windows)
    numbers = [event.values.time_us // event.windows.levels[level] for level in levels]
    statement = _add_statement(table_of(entity), event.windows.tile_columns, tuple(levels))
    db.execute(statement, (event.key, *tile, *numbers))


@functools.lru_cache(100)
def _add_statement(table: str, columns: tuple[Column, ...], levels: tuple[int, ...]) -> str:
    """The statement that adds an event to a tile of each level; ?1 is the key, then come the tile and the numbers."""
    first = len(columns) + 2
    tile = ", ".join(f"?{index}" for index in range(2, first))
    rows = ", ".join(f"(?1, {level}, ?{first + i}, 0, {tile})" for i, level in enumerate(levels))
    names = [f'"{column.name}"' for column in columns]
    merged = ", ".join(
        f"{name} = {SCALARS[column.merge].format(name, f'excluded.{name}')}"
        for name, column in zip(names, columns, strict=True)
    )
    into = f"{table} (key, level, number, refresh, {', '.join(names)})"
    return f"INSERT INTO {into} VALUES {rows} ON CONFLICT DO UPDATE SET {merged}"


def set_tiles(db: sqlite3.Connection, entity: str, windows: EntityWindows, rows: Sequence[tuple[Any, ...]]) -> None:
    """Set tiles: rows of key, level, number, refresh and the tile's values."""
    marks = ", ".join("?" * (4 + len(windows.tile_columns)))
    db.executemany(f"INSERT OR REPLACE INTO {table_of(entity)} VALUES ({marks})", rows)


def add_fraud(db: sqlite3.Connection, entity: str, event: EntityEvent, change: int) -> None:
    """Add `change` frauds of an event's amount to the tile in which it became known."""
    db.execute(
        "INSERT INTO frauds VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET f = f + excluded.f, g = g + excluded.g",
        (entity, event.key, event.fraud_tile(), change, change * event.values.amount),
    )
