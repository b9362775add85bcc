"""Scratch folders in the temporary directory. The next process removes those that a killed process leaves behind.

Each folder has a file that its owner keeps locked. The system releases the lock however the owner ends, so a folder
whose file can be locked has no owner. No process numbers are compared.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "fraudline-"
LOCK = ".owner"
DAY = 24 * 3600.0


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """A new folder on this machine while a `with` block runs. `kind` becomes part of its name."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{kind}-") as name, open(Path(name, ".new"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(lock.name, Path(name, LOCK))  # locked before it has its final name
        folder = Path(name, "files")
        folder.mkdir()
        yield folder


def remove_abandoned() -> int:
    """Remove the scratch folders of processes that are gone; how many bytes that freed."""
    freed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            freed += _remove(folder, status.st_mtime)
        except FileNotFoundError:  # another process has removed it
            continue
    return freed


def _remove(folder: Path, changed: float) -> int:
    if not (folder / LOCK).exists():
        # About to be locked, or from an earlier version: abandoned if unchanged for a day.
        return _removed(folder) if time.time() - changed > DAY else 0
    with open(folder / LOCK, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        return _removed(folder)


def _removed(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        status = path.lstat()
        size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    shutil.rmtree(folder, ignore_errors=True)  # the next run tries again to remove the rest
    return size
