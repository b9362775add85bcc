"""Past decisions as they are asked for: what may be asked follows from the contract, and pages go on from a cursor.

A cursor is a position in the store, and a digest of it, of the search and of the home. It says nothing about what is
looked for, and goes on with that search alone. Where the same question is asked by a page of the console, its fields
are these.
"""

import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic.json_schema import WithJsonSchema
from starlette.datastructures import QueryParams

from processing.contract import Contract
from processing.store.lookup import Page, Search
from serving.api.problems import Unreadable, shortened
from serving.api.request import FILLED, LONGEST, Id

DIGEST_BYTES = 12
LONGEST_CURSOR = 200
LARGEST_AMOUNT = 1e15
Searching = Callable[..., Page]


class BadCursor(Unreadable):
    """A cursor that this search did not give."""


def _moment(value: Any) -> Any:
    """A time as it stands in an address."""
    if not isinstance(value, str):
        return value
    try:
        time = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("expected an ISO-8601 time, e.g. 2026-03-01T12:00:00Z (in an address a + is %2B)") from None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time after the year 1 and before the year 9999") from None


# A parameter may be left out, but never says null, so the OpenAPI document is told what each of them is.
Named = Annotated[Id | None, WithJsonSchema({"type": "string", "pattern": FILLED, "maxLength": LONGEST})]
Amount = Annotated[float | None, WithJsonSchema({"type": "number", "minimum": 0, "maximum": LARGEST_AMOUNT})]
Words = Annotated[str | None, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST})]
Cursor = Annotated[str | None, WithJsonSchema({"type": "string", "format": "cursor", "maxLength": LONGEST_CURSOR})]
Moment = Annotated[datetime | None, WithJsonSchema({"type": "string", "format": "date-time"}), BeforeValidator(_moment)]
Decided = Annotated[Literal["fraud", "legit"] | None, WithJsonSchema({"type": "string", "enum": ["fraud", "legit"]})]
Labelled = Annotated[
    Literal["none", "fraud", "legit"] | None, WithJsonSchema({"type": "string", "enum": ["none", "fraud", "legit"]})
]


class Listing(BaseModel):
    """Which decisions are asked for, the newest first; what is not said is not asked. See `listing_model`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=1000, description="Decisions of a page at most")
    cursor: Cursor = Field(
        None, max_length=LONGEST_CURSOR, description="What the page before gave as its next; with the same filters"
    )
    transaction_id: Named = Field(None, description="The very transaction")
    decision: Decided = Field(None, description="What was decided")
    label: Labelled = Field(None, description="What was reported later; none: nothing yet")
    amount_from: Amount = Field(
        None, ge=0, le=LARGEST_AMOUNT, allow_inf_nan=False, description="Its least amount, in major units"
    )
    reason: Words = Field(None, min_length=1, max_length=LONGEST, description="Words in one of its reasons")
    since: Moment = Field(None, description="Decided at this time or later; UTC unless it says otherwise")
    until: Moment = Field(None, description="Decided before this time")


def entity_names(contract: Contract) -> list[str]:
    """The names by which entities are asked for: those of their columns, unless a filter has the name."""
    taken = Listing.model_fields
    return [f"entity_{one.column}" if one.column in taken else one.column for one in contract.entities]


class Lookup:
    """Looks decisions up: `search` is that of the store. `request` is the model of what may be asked."""

    def __init__(self, contract: Contract, home_url: str, search: Searching) -> None:
        self.contract, self._home, self._search = contract, home_url, search
        self.names = entity_names(contract)
        fields: dict[str, Any] = {
            f"entity_{place}": (Named, Field(None, alias=name, description=f"The {entity.name}'s id"))
            for place, (name, entity) in enumerate(zip(self.names, contract.entities, strict=True))
        }
        self.request: type[Listing] = create_model("Listing", __base__=Listing, **fields)

    def asked(self, values: Mapping[str, str]) -> Listing:
        """What a form or an address of the console asks, see `given`. Raises pydantic's ValidationError."""
        return self.request.model_validate(self.given(values))

    def given(self, values: Mapping[str, str]) -> dict[str, str]:
        """The fields of a search among those of a form or an address, but for the empty ones."""
        return {name: values[name].strip() for name in self.fields() if values.get(name, "").strip()}

    def fields(self) -> list[str]:
        """The names of what may be asked, but for the size of a page."""
        return [field.alias or name for name, field in self.request.model_fields.items() if name != "limit"]

    def page(self, asked: Listing, *, limit: int | None = None, after: str | None = None, newer: bool = False) -> Page:
        """A page. It goes on from the cursor that is asked for, or else from the position `after`.

        Raises BadCursor, and StoreUnavailable.
        """
        search = self.search_of(asked)
        if asked.cursor:
            after = after or self._position(search, asked.cursor)
        return self._search(search, asked.limit if limit is None else limit, after, newer=newer)

    def search_of(self, asked: Listing) -> Search:
        """The search of the store."""
        keys = tuple(getattr(asked, f"entity_{place}") for place in range(len(self.names)))
        least = asked.amount_from
        return Search(
            transaction_id=asked.transaction_id,
            keys=keys,
            since=asked.since,
            until=asked.until,
            decision=asked.decision,
            label=asked.label,
            least=None if least is None else math.ceil(round(least * float(self.contract.minor_units), 6)),
            reason=asked.reason,
        )

    def cursor(self, asked: Listing, position: str | None) -> str | None:
        """The cursor that goes on from a position of a search."""
        if position is None:
            return None
        return _written(self._digest(self.search_of(asked), position) + position.encode())

    def _position(self, search: Search, cursor: str) -> str:
        try:
            content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
            position = content[DIGEST_BYTES:].decode("ascii")
        except (ValueError, binascii.Error):
            raise _wrong() from None
        if content[:DIGEST_BYTES] != self._digest(search, position) or cursor != _written(content):
            raise _wrong()
        return position

    def _digest(self, search: Search, position: str) -> bytes:
        content = repr((self._home, self.contract.digest, search, position))
        return hashlib.sha256(content.encode(errors="replace")).digest()[:DIGEST_BYTES]


def _written(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def said_once(query: QueryParams) -> None:
    """Raise Unreadable for a query that says one thing twice: of two filters one would be passed over."""
    names = [name for name, _ in query.multi_items()]
    if twice := sorted({shortened(name) for name in names if names.count(name) > 1}):
        raise Unreadable(f"{', '.join(twice[:5])}: said more than once; say each of them once")


def _wrong() -> BadCursor:
    return BadCursor(
        "cursor: it is not one that this search gave; send `next` of the page before as it is, with the same filters, "
        "or leave it out to begin with the newest"
    )
