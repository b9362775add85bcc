"""Where Iceberg says that a file is, converted here and nowhere else.

- A **key** is what a home calls it: `warehouse/fraudline/transactions/data/...`. Ours everywhere.
- A **location** is what Iceberg writes into its metadata. In a local home it is `home:///` and the key, so that the
  metadata does not say where the home lies and the home can be moved; in S3 it is the object's address.

Homes made before kept absolute locations (`file:///somewhere/warehouse/...`). They are read as what they name in the
home at hand, wherever that lies by now.
"""

import re
from pathlib import Path

from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

from processing.errors import Damaged
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home

OURS = "home:///"
FOLDER = "fraudline.home"  # the property that tells the file system of a local home's tables where that lies
ABSOLUTE = re.compile(r"(?:file:)?/.*?/(warehouse/[^/]+/[^/]+/(?:metadata|data)/.+)", re.DOTALL)


def location_of(home: Home, key: str) -> str:
    """What Iceberg writes down for a key."""
    return OURS + key if isinstance(home, LocalHome) else home.url_of(key)


def key_of(home: Home, location: str) -> str:
    """The key of a location. Raises Damaged for one that lies in another home."""
    if not isinstance(home, LocalHome):
        if location.startswith(f"{home.url}/"):
            return home.key_of(location)
    elif location.startswith(OURS):
        return location.removeprefix(OURS)
    elif found := ABSOLUTE.fullmatch(location):
        return found[1]
    raise Damaged(
        f"the tables of the home {home.url} lie at {location}, which is not in this home; open the home that they "
        "belong to, or bring that one here whole. Nothing was written"
    )


class LocalFiles(PyArrowFileIO):
    """The files of a local home's tables, by their locations."""

    @staticmethod
    def parse_location(location: str, properties: Properties = EMPTY_DICT) -> tuple[str, str, str]:
        """The scheme, host and path of a location. Raises Damaged for one that is not in the home."""
        home = open_home(Path(properties[FOLDER]))
        assert isinstance(home, LocalHome)
        return "file", "", str(home.path(key_of(home, location)))
