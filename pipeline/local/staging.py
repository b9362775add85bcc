"""Data in and out of a step's folder: the part of S3 in a local run. Every address a step names passes here."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from processing.errors import BadInput, NotFound
from processing.home import local_path


def local_address(address: str) -> Path:
    """The path of a local address. Raises BadInput for s3:// and other ones, and for a relative path."""
    if urlsplit(address).scheme == "s3":
        raise BadInput(f"{address}: a local run does not support S3 addresses yet; give a folder of this machine")
    path = local_path(address)
    if not path.is_absolute():
        raise BadInput(f"{address!r} is relative; a step has its own working folder, so give a whole path")
    return path


def fetch(address: str, folder: Path) -> None:
    """Put what lies at an address into a folder: a file under its name, of a folder all that is in it.

    Files are linked where the file system can, so that data is not copied for every step.
    """
    source = local_address(address)
    folder.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, folder, copy_function=_link_or_copy, dirs_exist_ok=True)
    elif source.is_file():
        _link_or_copy(str(source), str(folder / source.name))
    else:
        raise NotFound(f"there is no data at {address}")


def deliver(source: Path, address: str) -> Path:
    """Copy a file to an address, or all that is in a folder. Returns where it is now."""
    target = local_address(address)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return target


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
