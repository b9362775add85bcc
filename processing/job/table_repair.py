"""The repair of a home's tables.

The catalog can be rebuilt from the metadata files, a table can go back to its newest intact metadata, features can be
recomputed, and transactions can be read again from archive/: the files that hold lost rows go back to incoming/.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import StaticTable, Table

from processing.contract import Contract
from processing.errors import Damaged, FraudlineError, NotFound
from processing.intake.incoming import FOLDER
from processing.storage.documents import parse_document, read_document
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.tables.catalog import CATALOG_KEY, create_catalog, namespace, open_catalog
from processing.tables.locations import key_of, location_of
from processing.tables.reading import reading
from processing.tables.tables import open_tables

METADATA = re.compile(r"(warehouse/(?:.+/)?([^/]+))/metadata/(\d+)-[^/]+\.metadata\.json")
NAMES = ("transactions", "features", "quarantine")


def repair_table(home: Home, contract: Contract, name: str, day: int) -> str:
    """Repair a table of which a file of a day is damaged; what was done, in words."""
    tables = open_tables(home, contract)
    if name == "features":
        tables.replace_days("features", [], [], made_from=0)
        return "the next run recomputes all features"
    if name == "quarantine":
        aside = f"{name}_damaged_{datetime.now(UTC):%Y%m%dt%H%M%S}"
        create_catalog(home).rename_table((tables.namespace, name), (tables.namespace, aside))
        return f"renamed to {aside}; the next refused row starts a new table, and the files are in archive/"
    tables.replace_days("transactions", [day], [])
    return f"that day was removed; {_return_files(home, lambda record: True)}"


def rebuild_catalog(home: Home) -> str:
    """Make the catalog name, for each table, the newest metadata whose files are all there; what was done, in words."""
    space = namespace(home)
    if isinstance(home, LocalHome) and not _catalog_is_readable(home):
        with suppress(NotFound):
            home.move(CATALOG_KEY, f"{CATALOG_KEY}.damaged-{datetime.now(UTC):%Y%m%dt%H%M%S}")
    catalog, registered = create_catalog(home), []
    for name, candidates in _metadata(home).items():
        intact = next((key for key in candidates if _is_intact(home, catalog, key)), None)
        if intact is None:
            continue
        with suppress(NoSuchTableError):
            catalog.drop_table((space, name))  # from the catalog; its files stay
        catalog.register_table((space, name), location_of(home, intact))
        newer = candidates.index(intact)
        registered.append(f"{name} as of {intact}" + (f" ({newer} newer could not be read)" if newer else ""))
    known = _known_snapshots(catalog, space)
    files = _return_files(home, lambda record: record.get("snapshots", {}).get("transactions") not in known)
    return f"the catalog was rebuilt from the metadata: {', '.join(registered) or 'no table'}; {files}"


def _catalog_is_readable(home: Home) -> bool:
    """Whether the catalog itself can be read, whatever the state of its tables."""
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


def _is_intact(home: Home, catalog: Catalog, key: str) -> bool:
    """Whether a metadata file can be read, and every file that its newest snapshot names is there."""
    try:
        with reading(key):
            parse_document(home.read(key), key, "")
            table = StaticTable.from_metadata(location_of(home, key), catalog.properties)
            keys = [key_of(home, task.file.file_path) for task in table.scan().plan_files()]
    except FraudlineError:
        return False
    present = {entry.key for entry in home.entries("warehouse/")}
    return present.issuperset(keys)


def _known_snapshots(catalog: Catalog, space: str) -> set[int | None]:
    try:
        table: Table = catalog.load_table((space, "transactions"))
    except NoSuchTableError:
        return set()
    return {snapshot.snapshot_id for snapshot in table.snapshots()}


def _return_files(home: Home, is_lost: Callable[[dict[str, Any]], bool]) -> str:
    """Move archived files back to incoming/ if `is_lost` says so of their run's record; in words.

    Rows that the tables still hold change nothing when they are read again.
    """
    count = 0
    for run in home.folders("archive/"):
        key = f"runs/{run}/features.json"
        try:
            record: dict[str, Any] = read_document(home, key, "")
        except (NotFound, Damaged):
            record = {}
        if is_lost(record):
            for entry in home.entries(f"archive/{run}/"):
                home.move(entry.key, f"{FOLDER}from-{run}/{entry.key.removeprefix(f'archive/{run}/')}")
                count += 1
            if record:  # its files no longer count as read
                record["returned"] = record.pop("files", [])
                home.write(key, json.dumps({**record, "files": []}, indent=2).encode())
    return (
        f"{count} file(s) of archive/ are in incoming/ again, for the next run"
        if count
        else "no file has to be read again"
    )
