"""The incoming folder: which files are complete, and where they go once their rows are committed."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from processing.errors import BadInput, Conflict, NotFound
from processing.intake.file_names import is_readable
from processing.storage.home import Entry, Home

FOLDER = "incoming/"
CLAIMED = "claimed/"
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class ClaimedFile:
    """A file that a run reads.

    entry: the file as listed in incoming/
    key: where the run has put it aside, in claimed/
    path: its copy on this machine
    """

    entry: Entry
    key: str
    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """Its path below incoming/."""
        return self.entry.key.removeprefix(FOLDER)


def copy_to_incoming(home: Home, source: Home, prefix: str = "") -> list[str]:
    """Copy the readable files of another folder into incoming/, under the paths they have there; return their names.

    The oldest is copied first, so that their order stays. Raises BadInput, before anything is copied, if a different
    file of the same name is in incoming/, or if the folder contains this home.
    """
    theirs, ours = f"{source.url.rstrip('/')}/", f"{home.url_of(FOLDER.rstrip('/'))}/"
    if theirs.startswith(ours):  # the files are in incoming/ already
        return []
    if ours.startswith(theirs):
        raise BadInput(f"{source.url} contains this home's own files; name a folder outside the home")
    present = {entry.key: entry for entry in home.entries(FOLDER)}
    found = [entry for entry in source.entries(prefix) if is_readable(entry.key.removeprefix(prefix))]
    names = []
    for entry in sorted(found, key=lambda entry: (entry.modified, entry.key)):
        name = entry.key.removeprefix(prefix)
        same_name = present.get(FOLDER + name)
        if same_name is None:
            names.append(name)
        elif same_name.size != entry.size or digest_of(home, same_name.key) != digest_of(source, entry.key):
            raise BadInput(
                f"{home.url_of(FOLDER + name)} is waiting to be read, and {source.url_of(entry.key)} is a different "
                "file of the same name; nothing was copied. Rename one of them, or run without the other folder first"
            )
    for name in names:
        with source.local_file(prefix + name) as path:
            home.upload(path, FOLDER + name)
    return names


def waiting_files(home: Home) -> list[Entry]:
    """The files in incoming/ whose names are readable, complete or not."""
    return [entry for entry in home.entries(FOLDER) if is_readable(entry.key)]


def complete_files(home: Home, *, seconds: float = SETTLE_SECONDS, patience: float = 30.0) -> list[Entry]:
    """The files in incoming/ that have not changed for `seconds`.

    Waits up to `patience` seconds for files that are being written; the next run reads those that still grow then.
    """
    deadline = time.monotonic() + patience
    while True:
        entries = waiting_files(home)
        complete = [entry for entry in entries if time.time() - entry.modified >= seconds]
        if len(complete) == len(entries) or time.monotonic() > deadline:
            return complete
        time.sleep(0.2)


class Claims:
    """The files that a run reads, put aside in claimed/<run>/ before they are read. A context manager.

    So the file that is archived is the one that was read, even if another is stored under the same name meanwhile. On
    exit, files that were not archived go back to incoming/.
    """

    def __init__(self, home: Home, run: str, held: ExitStack) -> None:
        self.home, self.run, self._held = home, run, held
        self.files: list[ClaimedFile] = []
        self._aside: list[tuple[Entry, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for entry, key in self._aside:
            self.home.release(key, entry.key)
        self.home.remove(f"{CLAIMED}{self.run}/")  # the empty folder

    def claim(self, entries: Sequence[Entry]) -> None:
        """Put files aside. A file that was replaced since it was listed is left for the next run."""
        for entry in entries:
            key = f"{CLAIMED}{self.run}/{entry.key.removeprefix(FOLDER)}"
            try:
                self.home.claim(entry, key)
            except (Conflict, NotFound):
                continue
            self._aside.append((entry, key))
            path = self._held.enter_context(self.home.local_file(key))
            self.files.append(ClaimedFile(entry, key, path, _digest(path)))

    def check_unchanged(self) -> None:
        """Raise BadInput if a file is still being written, so that no half of it is committed."""
        for file in self.files:
            if _digest(file.path) != file.sha256:
                raise BadInput(
                    f"{file.name} changed while it was read; nothing was committed. Write files under a name that "
                    "starts with '.', rename them when they are complete, then run again"
                )

    def archive(self) -> None:
        """Move the files, whose rows are committed, to archive/<run>/."""
        for file in self.files:
            self.home.finish(file.entry, file.key, f"archive/{self.run}/{file.name}")
            self._aside.remove((file.entry, file.key))


def release_abandoned(home: Home) -> list[str]:
    """Return to incoming/ what killed runs had put aside; the keys. Call only while no run is going on."""
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
