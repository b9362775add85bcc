"""Data in and out of a step's folder: the part of S3 in a local run. Every address a step names passes here."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from processing.errors import BadInput, NotFound
from processing.storage.address import local_path
from processing.storage.home import Home
from processing.storage.open import open_home


def is_s3(address: str) -> bool:
    """Whether an address is one in S3."""
    return urlsplit(address).scheme == "s3"


def local_address(address: str) -> Path:
    """The path of a local address. Raises BadInput for any other one, and for a relative path."""
    path = local_path(address)
    if not path.is_absolute():
        raise BadInput(f"{address!r} is relative; a step has its own working folder, so give a whole path")
    return path


def fetch(address: str, folder: Path) -> None:
    """Put what lies at an address into a folder: a file under its name, of a folder all that is in it.

    In S3 an address is a prefix, as SageMaker reads one. Files of this machine are linked where the file system can,
    so that data is not copied for every step. Raises NotFound if there is nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_s3(address):
        return _download(address, folder)
    source = local_address(address)
    if source.is_dir():
        shutil.copytree(source, folder, copy_function=_link_or_copy, dirs_exist_ok=True)
    elif source.is_file():
        _link_or_copy(str(source), str(folder / source.name))
    else:
        raise NotFound(f"there is no data at {address}")
    return None


def deliver(source: Path, address: str) -> None:
    """Copy a file to an address, or all that is in a folder."""
    if is_s3(address):
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        home, key = _split(address.rstrip("/"))
        for path in files:
            home.upload(path, f"{key}/{path.relative_to(source).as_posix()}" if source.is_dir() else key)
        return
    target = local_address(address)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def read(address: str) -> bytes:
    """The content of the file at an address. Raises FileNotFoundError."""
    if is_s3(address):
        home, key = _split(address)
        return home.read(key)  # NotFound is a FileNotFoundError
    return local_address(address).read_bytes()


def _download(address: str, folder: Path) -> None:
    home, prefix = _split(address)
    below = prefix.rstrip("/") + "/"
    entries = home.entries(prefix)
    for entry in entries:
        target = folder / (entry.key.removeprefix(below) if entry.key.startswith(below) else Path(entry.key).name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with home.local_file(entry.key) as path:
            shutil.move(path, target)
    if not entries:
        raise NotFound(f"there is no data at {address}")


def _split(address: str) -> tuple[Home, str]:
    """The bucket of an address as a home, and the key."""
    parts = urlsplit(address)
    return open_home(f"s3://{parts.netloc}"), parts.path.lstrip("/")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
