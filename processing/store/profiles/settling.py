"""The profiles of many keys at once, from the transactions of the tables."""

from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from processing.arrays import Ints
from processing.contract import Contract
from processing.features.aggregated_events import Input
from processing.features.entity_keys import entity_key
from processing.features.table_features import entity_codes, numbers
from processing.features.table_inputs import encode_column
from processing.features.windows import EntityWindows, Events
from processing.store.profiles.frauds import ASSUMED, Fraud, Frauds, bounded
from processing.store.profiles.packing import pack
from processing.store.profiles.plan import ProfilePlan, id_hash
from processing.store.profiles.profile import Profile
from processing.store.profiles.settled_tiles import SettledTiles
from processing.store.profiles.tile_list import TileList, Values, neutral_values
from processing.store.refresh_data import SettledProfile


class _Tiles(NamedTuple):
    """All tiles of one size: those of key k are at bounds[k] up to but not including bounds[k + 1]."""

    bounds: list[int]
    numbers: "array[int]"
    values: list[Values]


def settled_profiles(plan: ProfilePlan, entity: str, rows: pa.Table, horizon_us: int) -> Iterator[SettledProfile]:
    """The profile of every key of an entity that the rows have, of their transactions before a horizon.

    The rows hold all transactions of these keys as far back as profiles keep them: transaction_id, us (since 1970),
    amount_minor, is_fraud, the key columns by their names in tables, and `plan.event_columns`. A key without any has a
    row in which all others are null.
    """
    if not len(rows):
        return
    layout, names = plan.layouts[entity], plan.key_names_of(entity)
    found, first, codes = np.unique(entity_codes(names, rows), return_index=True, return_inverse=True)
    columns = [rows.column(name).take(pa.array(first)).to_pylist() for name in names]
    before = np.asarray(pc.fill_null(pc.less(rows.column("us"), horizon_us), False))
    rows, codes = rows.filter(pa.array(before)), codes[before]
    parts = {size: _tiles(plan, entity, size, codes, len(found), rows, horizon_us) for size in layout.kept_us}
    frauds = _frauds(codes, rows, horizon_us - layout.frauds_kept_us)
    for code, parts_of_key in enumerate(zip(*columns, strict=True)):
        profile = Profile(layout, horizon_us)
        own: dict[int, TileList] = {}
        for size, tiles in parts.items():
            place = slice(tiles.bounds[code], tiles.bounds[code + 1])
            if place.start < place.stop:
                own[size] = TileList(layout.columns, tiles.numbers[place], [each[place] for each in tiles.values])
        profile.settled = SettledTiles.of(layout, own)
        profile.frauds = Frauds(bounded(frauds.get(code, [])))
        yield SettledProfile(entity, entity_key(parts_of_key), pack(profile))


def _tiles(
    plan: ProfilePlan, entity: str, size: int, codes: Ints, keys: int, rows: pa.Table, horizon_us: int
) -> _Tiles:
    layout = plan.layouts[entity]
    us = numbers(rows.column("us"))
    some = np.flatnonzero(us // size >= (horizon_us - layout.kept_us[size]) // size)
    rows, codes, us = rows.take(pa.array(some)), codes[some], us[some]
    amounts = numbers(rows.column("amount_minor")).astype(np.int64)
    values: dict[str, Values] = {}
    for contract, windows in plan.windows_of(entity):
        table = windows.tiles_of(Events(codes, us, amounts, _inputs(contract, windows, plan.contract, rows)), size)
        named = zip(windows.tile_columns, table.columns, strict=True)
        values |= {column.name: each if isinstance(each, list) else _array(each) for column, each in named}
        own, held = table.entity, table.number
    bounds = np.searchsorted(own, np.arange(keys + 1)).tolist()
    lists = [values.get(column.name) or neutral_values(column, len(held)) for column in layout.columns]
    return _Tiles(bounds, _array(held), lists)


def _inputs(contract: Contract, windows: EntityWindows, ours: Contract, rows: pa.Table) -> dict[Input, Ints]:
    """The columns that a contract's windows read, encoded; its key columns may have other names in our tables."""
    theirs = dict(zip(contract.key_columns, contract.key_names, strict=True))
    names = {
        theirs[column]: name for column, name in zip(ours.key_columns, ours.key_names, strict=True) if column in theirs
    }
    there = {name: rows.column(own) for name, own in names.items()}
    extras = (*contract.numeric, *contract.categorical)
    there |= {name: rows.column(name) for name in extras if name in rows.schema.names}
    missing = {each.column for each in windows.inputs}.intersection(extras).difference(there)
    there |= {name: pa.nulls(len(rows), pa.string()) for name in missing}
    table = pa.table(there) if there else rows
    return {each: encode_column(contract, each, table) for each in windows.inputs}


def _frauds(codes: Ints, rows: pa.Table, since_us: int) -> dict[int, list[Fraud]]:
    """The frauds of each key."""
    is_fraud = pc.and_(
        pc.equal(pc.fill_null(rows.column("is_fraud"), 0), 1), pc.greater_equal(rows.column("us"), since_us)
    )
    some = np.flatnonzero(np.asarray(is_fraud))
    chosen = rows.take(pa.array(some))
    columns = (chosen.column(name).to_pylist() for name in ("transaction_id", "us", "amount_minor"))
    frauds: dict[int, list[Fraud]] = {}
    for code, transaction_id, us, amount in zip(codes[some].tolist(), *columns, strict=True):
        frauds.setdefault(code, []).append(Fraud(id_hash(transaction_id), us, ASSUMED, 1, amount))
    return frauds


def _array(values: Ints) -> "array[int]":
    return array("q", np.ascontiguousarray(values, np.int64).tobytes())
