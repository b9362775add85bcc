"""The price list."""

import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from processing.errors import BadInput

FILE = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True)
class Price:
    """A list price in US dollars per unit, with the date on which it was looked up and its source."""

    usd: float
    unit: str
    date: date
    source: str


def read_prices(region: str, path: Path = FILE) -> dict[str, Price]:
    """The prices of a region by name. Raises BadInput for a region without prices."""
    regions: dict[str, dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))
    if region not in regions:
        raise BadInput(
            f"there are no prices for the region {region!r}: use one of {', '.join(sorted(regions))}, or add its "
            f"prices to {path}"
        )
    return {name: Price(**price) for name, price in regions[region].items()}
