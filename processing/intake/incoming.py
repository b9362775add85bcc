"""The incoming folder: which files are whole, and where they go once their rows are committed."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from processing.errors import BadInput, Conflict, NotFound
from processing.intake.files import is_readable
from processing.storage.home import Entry, Home

FOLDER = "incoming/"
CLAIMED = "claimed/"
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class ClaimedFile:
    """A file that a run takes in: how it was listed in incoming/, where it was put aside, and its digest."""

    entry: Entry
    claimed: str
    sha256: str

    @property
    def name(self) -> str:
        """Its path below incoming/."""
        return self.entry.key.removeprefix(FOLDER)


def copy_to_incoming(home: Home, source: Home, prefix: str = "") -> list[str]:
    """Copy the files of another place into incoming/, under the paths they have there; the originals stay.

    The oldest comes first, so that the newest is the last to arrive. Returns their names in incoming/. Raises
    BadInput, before anything is copied, if another file of that name waits there, or if the place holds this home.
    """
    theirs, ours = f"{source.url.rstrip('/')}/", f"{home.url_of(FOLDER.rstrip('/'))}/"
    if theirs.startswith(ours):  # they wait already
        return []
    if ours.startswith(theirs):
        raise BadInput(f"{source.url} holds this home's own files; name a folder that lies apart from it")
    here = {entry.key: entry for entry in home.entries(FOLDER)}
    found = [entry for entry in source.entries(prefix) if is_readable(entry.key.removeprefix(prefix))]
    names = []
    for entry in sorted(found, key=lambda entry: (entry.modified, entry.key)):
        name = entry.key.removeprefix(prefix)
        there = here.get(FOLDER + name)
        if there is None:
            names.append(name)
        elif there.size != entry.size or digest_of(home, there.key) != digest_of(source, entry.key):
            raise BadInput(
                f"{home.url_of(FOLDER + name)} waits to be taken in already, and {source.url_of(entry.key)} is another "
                "file; nothing was copied. Rename one of them, or run without the other place first"
            )
    for name in names:
        with source.local_file(prefix + name) as path:
            home.upload(path, FOLDER + name)
    return names


def waiting(home: Home) -> list[Entry]:
    """The files in incoming/ whose names say a format that can be read, whether or not they are whole yet."""
    return [entry for entry in home.entries(FOLDER) if is_readable(entry.key)]


def settled(home: Home, *, seconds: float = SETTLE_SECONDS, patience: float = 30.0) -> list[Entry]:
    """The files to take in now: those that have not changed for some seconds.

    Waits for files that are being written, up to `patience` seconds; what still grows then is left for the next run.
    """
    deadline = time.monotonic() + patience
    while True:
        entries = waiting(home)
        whole = [entry for entry in entries if time.time() - entry.modified >= seconds]
        if len(whole) == len(entries) or time.monotonic() > deadline:
            return whole
        time.sleep(0.2)


class Claims:
    """The files that a run takes in, put aside in claimed/<run>/ before they are read, in a `with` block.

    So what is archived is what was read, whatever is stored under the same name meanwhile. At the end of the block what
    was not archived waits in incoming/ again.
    """

    def __init__(self, home: Home, run: str, held: ExitStack) -> None:
        self.home, self.run, self._held = home, run, held
        self.files: list[tuple[ClaimedFile, Path]] = []  # with the local copy of each
        self._aside: list[tuple[Entry, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for entry, claimed in self._aside:
            self.home.release(claimed, entry.key)
        self.home.remove(f"{CLAIMED}{self.run}/")  # which is empty by now, but is there

    def take(self, entries: Sequence[Entry]) -> None:
        """Put files aside. One that was replaced since it was listed is left for the next run."""
        for entry in entries:
            claimed = f"{CLAIMED}{self.run}/{entry.key.removeprefix(FOLDER)}"
            try:
                self.home.claim(entry, claimed)
            except (Conflict, NotFound):
                continue
            self._aside.append((entry, claimed))
            path = self._held.enter_context(self.home.local_file(claimed))
            self.files.append((ClaimedFile(entry, claimed, _digest(path)), path))

    @property
    def arrivals(self) -> list[ClaimedFile]:
        return [arrival for arrival, _ in self.files]

    def check_unchanged(self) -> None:
        """Raise BadInput if whoever wrote a file was not done with it, so that no half of it is committed."""
        for arrival, path in self.files:
            if _digest(path) != arrival.sha256:
                raise BadInput(
                    f"{arrival.name} changed while it was read; nothing was committed. Write files under a name that "
                    "starts with '.' and rename them when they are whole, then run again"
                )

    def archive(self) -> None:
        """Move the files, whose rows are committed, to archive/<run>/."""
        for arrival in self.arrivals:
            self.home.settle(arrival.entry, arrival.claimed, f"archive/{self.run}/{arrival.name}")
            self._aside.remove((arrival.entry, arrival.claimed))


def release_abandoned(home: Home) -> list[str]:
    """Give back what runs had put aside that ended without a word; the keys. For who knows that no run goes on."""
    keys = []
    for entry in home.entries(CLAIMED):
        _, _, name = entry.key.removeprefix(CLAIMED).partition("/")
        keys.append(home.release(entry.key, FOLDER + name))
    home.remove(CLAIMED)  # the empty folders
    return keys


def digest_of(home: Home, key: str) -> str:
    """SHA-256 of an object, in hex."""
    with home.local_file(key) as path:
        return _digest(path)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
