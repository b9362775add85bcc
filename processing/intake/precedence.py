"""What was taken in before: which files come again, and which are older than what the tables know.

An archived file is one whose rows are committed, so the archive is the record.
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
    """How a file that is taken in stands to others.

    order: its place among the files of the run, by the time of their arrival; at the same instant by name, where
        numbers count as numbers, so that labels-9 is before labels-10
    repeated: whether the very same bytes were taken in before: then it labels nothing anew
    late: whether it arrived after all that was taken in before: only then may its 0 undo a 1
    """

    name: str
    order: int
    repeated: bool
    late: bool


def file_precedence(home: Home, arrivals: Sequence[ClaimedFile]) -> list[FilePrecedence]:
    """The arrivals in the order in which they arrived."""
    archived = home.entries(FOLDER)
    sizes = {arrival.entry.size for arrival in arrivals}
    before = {digest_of(home, entry.key) for entry in archived if entry.size in sizes}
    newest = _newest(home, archived)
    in_order = sorted(arrivals, key=lambda arrival: (arrival.entry.modified, _natural(arrival.name)))
    return [
        FilePrecedence(arrival.name, order, arrival.sha256 in before, arrival.entry.modified > newest)
        for order, arrival in enumerate(in_order)
    ]


def _newest(home: Home, archived: Sequence[Entry]) -> float:
    """When the last of the archived files had arrived, in seconds since 1970."""
    if not archived:
        return 0.0
    last = max(archived, key=lambda entry: entry.modified)
    run = last.key.removeprefix(FOLDER).partition("/")[0]
    try:  # in a bucket, archiving a file makes it younger than it was
        files = json.loads(home.read(f"runs/{run}/features.json"))["files"]
    except NotFound:  # a run that failed after its commit
        files = []
    return max((float(file["modified"]) for file in files if "modified" in file), default=last.modified)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in parts]
