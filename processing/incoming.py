"""The incoming folder: which files are whole, and where they go once their rows are committed."""

import hashlib
import time
from dataclasses import dataclass

from processing.errors import BadInput
from processing.home import Entry, Home
from processing.landing import is_readable

FOLDER = "incoming/"
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Arrival:
    """A file to take in, as it was when the run began."""

    entry: Entry
    sha256: str

    @property
    def name(self) -> str:
        """Its path below incoming/."""
        return self.entry.key.removeprefix(FOLDER)


def bring_in(home: Home, source: Home, prefix: str = "") -> list[str]:
    """Copy the files of another place into incoming/; the originals stay. Returns their names there."""
    names = []
    for entry in source.entries(prefix):
        if is_readable(entry.key):
            name = entry.key.rsplit("/", 1)[-1]
            with source.local_file(entry.key) as path:
                home.upload(path, FOLDER + name)
            names.append(name)
    return names


def waiting(home: Home) -> list[Entry]:
    """The files in incoming/ whose names say a format that can be read, whether or not they are whole yet."""
    return [entry for entry in home.entries(FOLDER) if is_readable(entry.key)]


def settled(home: Home, *, seconds: float = SETTLE_SECONDS, patience: float = 30.0) -> list[Arrival]:
    """The files to take in now: those that have not changed for some seconds.

    Waits for files that are being written, up to `patience` seconds; what still grows then is left for the next run.
    """
    deadline = time.monotonic() + patience
    while True:
        entries = waiting(home)
        whole = [entry for entry in entries if time.time() - entry.modified >= seconds]
        if len(whole) == len(entries) or time.monotonic() > deadline:
            return [Arrival(entry, _digest(home, entry.key)) for entry in whole]
        time.sleep(0.2)


def check_unchanged(home: Home, arrivals: list[Arrival]) -> None:
    """Raise BadInput if a file has changed since the run began, so that no half of it is committed."""
    now = {entry.key: entry for entry in waiting(home)}
    for arrival in arrivals:
        if now.get(arrival.entry.key) != arrival.entry:
            raise BadInput(
                f"{arrival.name} changed while it was read; nothing was committed. Write files under a name that "
                "starts with '.' and rename them when they are whole, then run again"
            )


def archive(home: Home, arrivals: list[Arrival], run: str) -> None:
    """Move files whose rows are committed to archive/<run>/."""
    for arrival in arrivals:
        home.move(arrival.entry.key, f"archive/{run}/{arrival.name}")


def _digest(home: Home, key: str) -> str:
    digest = hashlib.sha256()
    with home.local_file(key) as path, open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
