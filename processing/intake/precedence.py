"""Whose label counts when several files hold the same transaction: the order of files, and what was read before.

An archived file is one whose rows are committed, so the archive is the record of what was read.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from processing.errors import NotFound
from processing.intake.incoming import ClaimedFile, digest_of
from processing.storage.home import Entry, Home

FOLDER = "archive/"


@dataclass(frozen=True)
class FilePrecedence:
    """How the labels of one file rank against those of other files.

    order: its position among the files of the run, oldest first; at the same instant by name, where numbers count as
        numbers, so that labels-9 comes before labels-10
    repeated: whether a file with the very same bytes was read before: then it changes no label
    late: whether it is newer than every file read before: only then may its 0 undo a 1
    """

    name: str
    order: int
    repeated: bool
    late: bool


def file_precedence(home: Home, files: Sequence[ClaimedFile]) -> list[FilePrecedence]:
    """The precedence of a run's files, lowest order first."""
    archived = home.entries(FOLDER)
    sizes = {file.entry.size for file in files}
    read_before = {digest_of(home, entry.key) for entry in archived if entry.size in sizes}
    newest = _newest(home, archived)
    in_order = sorted(files, key=lambda file: (file.entry.modified, _natural(file.name)))
    return [
        FilePrecedence(file.name, order, file.sha256 in read_before, file.entry.modified > newest)
        for order, file in enumerate(in_order)
    ]


def _newest(home: Home, archived: Sequence[Entry]) -> float:
    """When the newest of the archived files was last changed, in seconds since 1970."""
    if not archived:
        return 0.0
    last = max(archived, key=lambda entry: entry.modified)
    run = last.key.removeprefix(FOLDER).partition("/")[0]
    try:  # in a bucket, archiving a file gives it a new time
        files = json.loads(home.read(f"runs/{run}/features.json"))["files"]
    except NotFound:  # the run failed after its commit
        files = []
    return max((float(file["modified"]) for file in files if "modified" in file), default=last.modified)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key under which numbers in names count as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in parts]
