"""Which kind of home an address names: the one place that takes addresses apart."""

from pathlib import Path

from processing.storage.address import local_path
from processing.storage.home import Home
from processing.storage.local import LocalHome


def open_home(address: str | Path) -> Home:
    """The home at an address: a folder, file://... or s3://bucket/prefix. Nothing is made until something is stored."""
    if isinstance(address, Path):
        return LocalHome(address.expanduser())
    if address.startswith("s3:"):
        from processing.storage.s3 import S3Home

        return S3Home(address)
    return LocalHome(local_path(address))
