"""Copies data into and out of a step's folder, as SageMaker does with S3. An address is local or in S3."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from processing.errors import BadInput, NotFound
from processing.storage.address import local_path
from processing.storage.home import Home
from processing.storage.open import open_home


def is_s3(address: str) -> bool:
    """Whether an address is in S3."""
    return urlsplit(address).scheme == "s3"


def local_address(address: str) -> Path:
    """The path of a local address. Raises BadInput for any other address and for a relative path."""
    path = local_path(address)
    if not path.is_absolute():
        raise BadInput(f"{address!r} is relative; a step has its own working folder, so give an absolute path")
    return path


def download(address: str, folder: Path) -> None:
    """Copy the file or the content of the folder at an address into a folder. Raises NotFound if there is nothing.

    An address in S3 is a prefix, as for SageMaker. Local files are linked where the file system allows it, so that not
    every step copies the data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_s3(address):
        return _download_s3(address, folder)
    source = local_address(address)
    if source.is_dir():
        shutil.copytree(source, folder, copy_function=_link_or_copy, dirs_exist_ok=True)
    elif source.is_file():
        _link_or_copy(str(source), str(folder / source.name))
    else:
        raise NotFound(f"there is no data at {address}")
    return None


def upload(source: Path, address: str) -> None:
    """Copy a file, or the content of a folder, to an address."""
    if is_s3(address):
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        bucket, key = _split(address.rstrip("/"))
        for path in files:
            bucket.upload(path, f"{key}/{path.relative_to(source).as_posix()}" if source.is_dir() else key)
        return
    target = local_address(address)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def read_file(address: str) -> bytes:
    """The content of the file at an address. Raises FileNotFoundError."""
    if is_s3(address):
        bucket, key = _split(address)
        return bucket.read(key)  # NotFound is a FileNotFoundError
    return local_address(address).read_bytes()


def _download_s3(address: str, folder: Path) -> None:
    bucket, prefix = _split(address)
    below = prefix.rstrip("/") + "/"
    entries = bucket.entries(prefix)
    for entry in entries:
        target = folder / (entry.key.removeprefix(below) if entry.key.startswith(below) else Path(entry.key).name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with bucket.local_file(entry.key) as path:
            shutil.move(path, target)
    if not entries:
        raise NotFound(f"there is no data at {address}")


def _split(address: str) -> tuple[Home, str]:
    """The bucket of an address, opened as a home is, and the key."""
    parts = urlsplit(address)
    return open_home(f"s3://{parts.netloc}"), parts.path.lstrip("/")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system, or on one without links
        shutil.copyfile(source, target)
