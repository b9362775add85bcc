"""Conversion between keys in a home and Iceberg's locations, done only here.

- A **key** is the name of a file within a home: `warehouse/fraudline/transactions/data/...`. All other code uses keys.
- A **location** is what Iceberg writes into its metadata. In a local home it is `home:///` and the key, so that the
  metadata does not depend on the home's path and the home can be moved. In S3 it is the object's address.

Homes of earlier versions have absolute locations (`file:///somewhere/warehouse/...`). They are read as files of the
home at hand, wherever it is now.
"""

import re
from pathlib import Path

from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

from processing.errors import Damaged
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home

SCHEME = "home:///"
FOLDER = "fraudline.home"  # the property with the path of a local home
ABSOLUTE = re.compile(r"(?:file:)?/.*?/(warehouse/[^/]+/[^/]+/(?:metadata|data)/.+)", re.DOTALL)


def location_of(home: Home, key: str) -> str:
    """The location of a key."""
    return SCHEME + key if isinstance(home, LocalHome) else home.url_of(key)


def key_of(home: Home, location: str) -> str:
    """The key of a location. Raises Damaged if it is in another home."""
    if not isinstance(home, LocalHome):
        if location.startswith(f"{home.url}/"):
            return home.key_of(location)
    elif location.startswith(SCHEME):
        return location.removeprefix(SCHEME)
    elif match := ABSOLUTE.fullmatch(location):
        return match[1]
    raise Damaged(
        f"the tables of the home {home.url} refer to {location}, which is not in this home; open the home that they "
        "belong to, or copy that home here as a whole. Nothing was written"
    )


class LocalFiles(PyArrowFileIO):
    """The files of a local home's tables, by their locations."""

    @staticmethod
    def parse_location(location: str, properties: Properties = EMPTY_DICT) -> tuple[str, str, str]:
        """The scheme, host and path of a location. Raises Damaged if it is not in the home."""
        home = open_home(Path(properties[FOLDER]))
        assert isinstance(home, LocalHome)
        return "file", "", str(home.path(key_of(home, location)))
