"""A home in a folder on this machine."""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from processing.errors import BadInput, Conflict, NotFound
from processing.storage.address import local_path
from processing.storage.home import Entry, Home

WORKING_FILE = re.compile(r"\.writing-.*|\..+\.lock")


class LocalHome(Home):
    """A home in a folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.url = self.folder.as_uri()

    def path(self, key: str) -> Path:
        """The path of a key. Raises BadInput for a key outside the home."""
        path = (self.folder / key).resolve()
        if not path.is_relative_to(self.folder):
            raise BadInput(f"the key {key!r} points outside the home {self.folder}")
        return path

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        try:
            data = self.path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFound(f"{key} does not exist in the home {self.folder}") from None
        return data, hashlib.sha256(data).hexdigest()

    def write(self, key: str, data: bytes) -> None:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def write_if(self, key: str, data: bytes, tag: str | None) -> None:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target.parent / f".{target.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                found: str | None = self.read_tagged(key)[1]
            except NotFound:
                found = None
            if found != tag:
                raise Conflict(f"{key} was changed by another writer; nothing was written")
            self.write(key, data)

    def entries(self, prefix: str) -> list[Entry]:
        found = []
        for path in self.path(prefix).rglob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # moved away meanwhile
                continue
            if path.is_file() and not WORKING_FILE.fullmatch(path.name):
                key = path.relative_to(self.folder).as_posix()
                found.append(Entry(key, status.st_size, status.st_mtime, _tag(status)))
        return sorted(found, key=lambda entry: entry.key)

    def folders(self, prefix: str) -> list[str]:
        folder = self.path(prefix)
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def move(self, source: str, target: str) -> None:
        self.path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(self.path(source), self.path(target))
        except FileNotFoundError:
            raise NotFound(f"{source} does not exist in the home {self.folder}") from None

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def remove(self, prefix: str) -> None:
        shutil.rmtree(self.path(prefix), ignore_errors=True)

    def key_of(self, address: str) -> str:
        path = local_path(address)
        if not path.is_relative_to(self.folder):
            raise BadInput(f"{address!r} is not in the home {self.folder}")
        return path.relative_to(self.folder).as_posix()

    def url_of(self, key: str) -> str:
        return f"{self.url}/{quote(key)}"

    def claim(self, entry: Entry, key: str) -> None:
        self.move(entry.key, key)  # atomic: a new object under this name does not replace it
        if _tag(self.path(key).stat()) != entry.tag:
            self.release(key, entry.key)
            raise Conflict(f"{entry.key} was replaced or changed meanwhile")

    def finish(self, entry: Entry, claimed: str, key: str) -> None:
        self.move(claimed, key)

    def release(self, claimed: str, key: str) -> str:
        source, target = self.path(claimed), self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            try:
                os.link(source, target)  # unlike a rename, it replaces nothing
                break
            except FileExistsError:
                number += 1
                target = self.path(key).with_name(f"{number}-{self.path(key).name}")
            except OSError:  # a file system without hard links
                if not target.exists():
                    os.replace(source, target)
                    break
                number += 1
                target = self.path(key).with_name(f"{number}-{self.path(key).name}")
        source.unlink(missing_ok=True)
        return target.relative_to(self.folder).as_posix()

    def copy(self, source: str, target: str) -> None:
        origin, path = self.path(source), self.path(target)
        if not origin.is_file():
            raise NotFound(f"{source} does not exist in the home {self.folder}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            os.link(origin, path)
        except OSError:  # another file system, or one without hard links
            self.upload(origin, target)

    def upload(self, path: Path, key: str) -> None:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".writing-{target.name}")
        shutil.copyfile(path, partial)
        os.replace(partial, target)

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        path = self.path(key)
        if not path.is_file():
            raise NotFound(f"{key} does not exist in the home {self.folder}")
        yield path


def _tag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"
