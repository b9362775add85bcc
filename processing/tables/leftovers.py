"""Data files that interrupted runs left in a home, and their removal by the next run.

Call this only when no run is in progress. It looks only at files in `data/<run>/`, which no other writer of Iceberg
creates.
"""

import re

from processing.errors import NotFound
from processing.storage.home import Home
from processing.tables.catalog import namespace, open_catalog
from processing.tables.locations import key_of

WRITTEN = re.compile(r"(warehouse/.+?/data/([^/=]+))/.+")


def sweep(home: Home) -> int:
    """Remove data files that no snapshot of any table refers to; returns how many. Raises Damaged."""
    written: dict[tuple[str, str], list[str]] = {}
    for entry in home.entries("warehouse/"):
        if match := WRITTEN.fullmatch(entry.key):
            written.setdefault((match[1], match[2].partition(".")[0]), []).append(entry.key)
    finished = {run for run in {run for _, run in written} if _has_finished(home, run)}
    doubtful = {folder: keys for (folder, run), keys in written.items() if run not in finished}
    if not doubtful:
        return 0
    in_use, removed = referenced(home), 0
    for folder, keys in doubtful.items():
        unused = [key for key in keys if key.endswith(".parquet") and key not in in_use]
        if not in_use.intersection(keys):
            home.remove(f"{folder}/")
        else:
            for key in unused:
                home.delete(key)
        removed += len(unused)
    return removed


def referenced(home: Home) -> set[str]:
    """The keys of all data files in all snapshots of all tables, including tables set aside."""
    try:
        catalog = open_catalog(home)
    except NotFound:
        return set()
    keys: set[str] = set()
    seen: set[str] = set()
    for identifier in catalog.list_tables(namespace(home)):
        table = catalog.load_table(identifier)
        for snapshot in table.snapshots():
            for manifest in snapshot.manifests(table.io):
                if manifest.manifest_path not in seen:
                    seen.add(manifest.manifest_path)
                    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                    keys |= {key_of(home, entry.data_file.file_path) for entry in entries}
    return keys


def _has_finished(home: Home, run: str) -> bool:
    """Whether a run has written its report, which is the last thing it does."""
    try:
        home.read(f"runs/{run}/features.json")
    except NotFound:
        return False
    return True
