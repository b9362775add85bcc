"""Opens the home at an address, of whichever kind."""

from pathlib import Path

from processing.storage.address import local_path
from processing.storage.home import Home
from processing.storage.local import LocalHome


def open_home(address: str | Path) -> Home:
    """The home at an address: a folder, file://... or s3://bucket/prefix. Storing the first object creates it."""
    if isinstance(address, Path):
        return LocalHome(address.expanduser())
    if address.startswith("s3:"):
        from processing.storage.s3 import S3Home

        return S3Home(address)
    return LocalHome(local_path(address))
