"""What runs that ended without a word left in a home, and its removal by the next run.

For who knows that no run goes on. Only files that a run of ours wrote are looked at: `data/<run>/`, which no other
writer of Iceberg makes.
"""

import re

from processing.errors import NotFound
from processing.storage.home import Home
from processing.tables.catalog import namespace, open_catalog
from processing.tables.locations import key_of

WRITTEN = re.compile(r"(warehouse/.+?/data/([^/=]+))/.+")


def sweep(home: Home) -> int:
    """Remove data files that no snapshot of any table refers to; how many there were. Raises Damaged."""
    written: dict[tuple[str, str], list[str]] = {}
    for entry in home.entries("warehouse/"):
        if found := WRITTEN.fullmatch(entry.key):
            written.setdefault((found[1], found[2].partition(".")[0]), []).append(entry.key)
    ended = {run for run in {run for _, run in written} if _has_told(home, run)}
    doubtful = {folder: keys for (folder, run), keys in written.items() if run not in ended}
    if not doubtful:
        return 0
    kept, removed = referenced(home), 0
    for folder, keys in doubtful.items():
        lost = [key for key in keys if key.endswith(".parquet") and key not in kept]
        if not kept.intersection(keys):
            home.remove(f"{folder}/")
        else:
            for key in lost:
                home.delete(key)
        removed += len(lost)
    return removed


def referenced(home: Home) -> set[str]:
    """The keys of all data files of all snapshots of all tables, those set aside too."""
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


def _has_told(home: Home, run: str) -> bool:
    """Whether a run has said what it did, which is the last thing that it does."""
    try:
        home.read(f"runs/{run}/features.json")
    except NotFound:
        return False
    return True
