"""Damage to the tables of a home: what is not as it was written, and what can be mended of it.

The catalog can be made anew from the metadata files, a table can step back to its newest sound metadata, features can
be computed anew, and transactions can be taken in anew from archive/: whatever is lost waits in incoming/ afterwards.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import StaticTable, Table

from processing.contract import Contract
from processing.errors import Damaged, FraudlineError, NotFound
from processing.intake.incoming import FOLDER
from processing.storage.documents import parse_document, read_document
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.tables.catalog import CATALOG_KEY, REPAIR, create_catalog, namespace, open_catalog
from processing.tables.definitions import BY_DAY
from processing.tables.locations import key_of, location_of
from processing.tables.parquet import fault_of, first_line
from processing.tables.reading import reading
from processing.tables.snapshots import scan_tasks
from processing.tables.tables import Tables, open_tables

METADATA = re.compile(r"(warehouse/(?:.+/)?([^/]+))/metadata/(\d+)-[^/]+\.metadata\.json")
NAMES = ("transactions", "features", "quarantine")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a part of a home: where, and how. `mend` mends it and says what it did; None: it cannot be."""

    where: str
    fault: str
    mend: Callable[[], str] | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.fault}"


def damaged_tables(home: Home, contract: Contract) -> Iterator[Problem]:
    """What is damaged in the catalog and the tables. Reads all that the newest snapshots name."""
    try:
        tables = open_tables(home, contract)
    except Damaged as error:
        yield Problem(home.url_of(CATALOG_KEY), str(error), lambda: _catalog_anew(home))
        return
    for name in NAMES:
        table = tables.find(name)
        if table is None or (name == "features" and not tables.features_are_current):  # which are computed anew
            continue
        try:
            tasks = scan_tasks(table)
        except Damaged as error:
            yield Problem(home.url_of(tables.folder(name)), str(error), lambda: _catalog_anew(home))
            return
        for task in tasks:
            key = key_of(home, task.file.file_path)
            if fault := _fault(home, key, tables.schemas[name], task.file.record_count):
                day = int(task.file.partition[0]) if name in BY_DAY else 0
                yield Problem(home.url_of(key), fault, _mending(home, contract, name, day))


def _fault(home: Home, key: str, schema: pa.Schema, rows: int) -> str:
    """What is wrong with a data file that should hold so many rows; "" if nothing is. Every page is read."""
    try:
        with home.local_file(key) as path:
            return fault_of(path, schema, rows)
    except NotFound:
        return "it is gone"
    except FraudlineError as error:
        return f"it cannot be read: {first_line(error)}"


def raise_if_damaged(tables: Tables, failure: Exception) -> None:
    """Raise Damaged, which names file, fault and remedy, if Spark's `failure` names a data file that is damaged.

    Whether it is says the file itself, read through once more.
    """
    said = f"{failure}\n{getattr(failure, '_stackTrace', '')}"  # the causes are in the latter
    for name in NAMES:
        for task in scan_tasks(tables.find(name)):
            key = key_of(tables.home, task.file.file_path)
            if key.rpartition("/")[2] not in said:
                continue
            if fault := _fault(tables.home, key, tables.schemas[name], task.file.record_count):
                raise Damaged(f"{tables.home.url_of(key)} is damaged: {fault}; {REPAIR}") from failure


def _mending(home: Home, contract: Contract, name: str, day: int) -> Callable[[], str]:
    def mend() -> str:
        tables = open_tables(home, contract)
        if name == "features":
            tables.replace_days("features", [], [], made_from=0)
            return "the next run computes all features anew"
        if name == "quarantine":
            catalog = create_catalog(home)
            catalog.rename_table(
                (tables.namespace, name), (tables.namespace, f"{name}_damaged_{datetime.now(UTC):%Y%m%dt%H%M%S}")
            )
            return "it was set aside, and the next refused row begins a new one; the files are in archive/"
        tables.replace_days("transactions", [day], [])
        return f"that day was taken out; {_returned(home, lambda run: True)}"

    return mend


def _catalog_anew(home: Home) -> str:
    """Make the catalog name, for each table, the newest metadata of which everything is there."""
    space = namespace(home)
    if isinstance(home, LocalHome) and not _readable(home):
        with suppress(NotFound):
            home.move(CATALOG_KEY, f"{CATALOG_KEY}.damaged-{datetime.now(UTC):%Y%m%dt%H%M%S}")
    catalog, done = create_catalog(home), []
    for name, candidates in _metadata(home).items():
        sound = next((key for key in candidates if _sound(home, catalog, key)), None)
        if sound is None:
            continue
        with suppress(NoSuchTableError):
            catalog.drop_table((space, name))  # from the catalog; its files stay
        catalog.register_table((space, name), location_of(home, sound))
        newer = candidates.index(sound)
        done.append(f"{name} as of {sound}" + (f" ({newer} newer could not be read)" if newer else ""))
    said = f"the catalog was made anew from the metadata: {', '.join(done) or 'no table'}"
    known = _known_snapshots(catalog, space)
    files = _returned(home, lambda told: told.get("snapshots", {}).get("transactions") not in known)
    return f"{said}; {files}"


def _readable(home: Home) -> bool:
    """Whether the catalog as such can be read, whatever is with the tables it names."""
    try:
        with reading("the catalog"):
            open_catalog(home).list_tables(namespace(home))
    except (Damaged, NotFound):
        return False
    return True


def _metadata(home: Home) -> dict[str, list[str]]:
    """The metadata files of every table, newest first."""
    found: dict[str, list[tuple[int, float, str]]] = {}
    for entry in home.entries("warehouse/"):
        if match := METADATA.fullmatch(entry.key):
            found.setdefault(match[2], []).append((int(match[3]), entry.modified, entry.key))
    return {name: [key for *_, key in sorted(keys, reverse=True)] for name, keys in found.items() if name in NAMES}


def _sound(home: Home, catalog: Catalog, key: str) -> bool:
    """Whether a metadata file can be read, and all that its newest snapshot names is there."""
    try:
        with reading(key):
            parse_document(home.read(key), key, "")
            table = StaticTable.from_metadata(location_of(home, key), catalog.properties)
            keys = [key_of(home, task.file.file_path) for task in table.scan().plan_files()]
    except FraudlineError:
        return False
    there = {entry.key for entry in home.entries("warehouse/")}
    return there.issuperset(keys)


def _known_snapshots(catalog: Catalog, space: str) -> set[int | None]:
    try:
        table: Table = catalog.load_table((space, "transactions"))
    except NoSuchTableError:
        return set()
    return {snapshot.snapshot_id for snapshot in table.snapshots()}


def _returned(home: Home, wanted: Callable[[dict[str, Any]], bool]) -> str:
    """Let files that runs have archived wait in incoming/ again; in words. Rows that are there still change nothing."""
    count = 0
    for run in home.folders("archive/"):
        record = f"runs/{run}/features.json"
        try:
            told: dict[str, Any] = read_document(home, record, "")
        except (NotFound, Damaged):
            told = {}
        if wanted(told):
            for entry in home.entries(f"archive/{run}/"):
                home.move(entry.key, f"{FOLDER}from-{run}/{entry.key.removeprefix(f'archive/{run}/')}")
                count += 1
            if told:  # they do not count as taken in any more
                told["returned"] = told.pop("files", [])
                home.write(record, json.dumps({**told, "files": []}, indent=2).encode())
    return (
        f"{count} file(s) of archive/ wait in incoming/ for the next run" if count else "no file has to be read again"
    )
