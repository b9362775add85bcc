"""Searches of past decisions: the filters follow from the contract, and a cursor leads from page to page.

A cursor is a position in the store, signed with a digest of the position, the search and the home. It reveals nothing
about the search, and only continues that same search. The console's filter form has the same fields.
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
from processing.store.lookup import DecisionPage, Search
from serving.api.problems import MalformedRequest, shorten
from serving.api.transaction import MAX_ID_LENGTH, NOT_BLANK, Id, id_description

DIGEST_BYTES = 12
MAX_CURSOR_LENGTH = 200
MAX_AMOUNT = 1e15
SearchStore = Callable[..., DecisionPage]


class BadCursor(MalformedRequest):
    """A cursor that does not belong to this search."""


def _parse_time(value: Any) -> Any:
    """A time as written in a query."""
    if not isinstance(value, str):
        return value
    try:
        time = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("expected an ISO-8601 time, e.g. 2026-03-01T12:00:00Z (in a URL, write + as %2B)") from None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time after the year 1 and before the year 9999") from None


# A query parameter can be absent but never null, so each schema is given without the None.
EntityId = Annotated[Id | None, WithJsonSchema({"type": "string", "pattern": NOT_BLANK, "maxLength": MAX_ID_LENGTH})]
Amount = Annotated[float | None, WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_AMOUNT})]
Phrase = Annotated[str | None, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH})]
Cursor = Annotated[str | None, WithJsonSchema({"type": "string", "format": "cursor", "maxLength": MAX_CURSOR_LENGTH})]
Time = Annotated[
    datetime | None, WithJsonSchema({"type": "string", "format": "date-time"}), BeforeValidator(_parse_time)
]
Outcome = Annotated[Literal["fraud", "legit"] | None, WithJsonSchema({"type": "string", "enum": ["fraud", "legit"]})]
Label = Annotated[
    Literal["none", "fraud", "legit"] | None, WithJsonSchema({"type": "string", "enum": ["none", "fraud", "legit"]})
]


class DecisionQuery(BaseModel):
    """Filters for decisions; a missing one filters nothing. `DecisionSearch.query_model` adds those of a contract."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=1000, description="Maximum number of decisions on the page")
    cursor: Cursor = Field(
        None, max_length=MAX_CURSOR_LENGTH, description="`next` of the previous page; the filters must be the same"
    )
    transaction_id: EntityId = Field(None, description="This transaction")
    decision: Outcome = Field(None, description="What was decided")
    label: Label = Field(None, description="What was reported later; none: nothing yet")
    amount_from: Amount = Field(
        None, ge=0, le=MAX_AMOUNT, allow_inf_nan=False, description="Minimum amount, in major units"
    )
    reason: Phrase = Field(None, min_length=1, max_length=MAX_ID_LENGTH, description="Text contained in a reason")
    since: Time = Field(None, description="Decided at or after this time; UTC if it has no offset")
    until: Time = Field(None, description="Decided before this time")


def entity_parameters(contract: Contract) -> list[str]:
    """The query parameters for the contract's key columns: their names, prefixed where a filter has that name."""
    filters = DecisionQuery.model_fields
    return [f"entity_{column}" if column in filters else column for column in contract.key_columns]


class DecisionSearch:
    """Searches the decisions of one home with `search_store`. `query_model` is the contract's DecisionQuery."""

    def __init__(self, contract: Contract, home_url: str, search_store: SearchStore) -> None:
        self.contract, self._home, self._search_store = contract, home_url, search_store
        self.entity_parameters = entity_parameters(contract)
        fields: dict[str, Any] = {
            f"key_{i}": (EntityId, Field(None, alias=alias, description=id_description(contract, name)))
            for i, (alias, name) in enumerate(zip(self.entity_parameters, contract.key_names, strict=True))
        }
        self.query_model: type[DecisionQuery] = create_model("DecisionQuery", __base__=DecisionQuery, **fields)

    def openapi_parameters(self) -> list[dict[str, Any]]:
        """The query's parameters for the OpenAPI document."""
        properties: dict[str, dict[str, Any]] = self.query_model.model_json_schema()["properties"]
        return [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": schema["description"],
                "schema": {key: value for key, value in schema.items() if key != "default" or value is not None},
            }
            for name, schema in properties.items()
        ]

    def query_from_form(self, values: Mapping[str, str]) -> DecisionQuery:
        """The query of a form or a URL of the console, see `filled_fields`. Raises pydantic's ValidationError."""
        return self.query_model.model_validate(self.filled_fields(values))

    def filled_fields(self, values: Mapping[str, str]) -> dict[str, str]:
        """The query's fields among those of a form or a URL, without empty ones."""
        return {name: values[name].strip() for name in self.fields() if values.get(name, "").strip()}

    def fields(self) -> list[str]:
        """The names of the query's fields, without the page size."""
        return [field.alias or name for name, field in self.query_model.model_fields.items() if name != "limit"]

    def page(
        self, query: DecisionQuery, *, limit: int | None = None, after: str | None = None, newer: bool = False
    ) -> DecisionPage:
        """A page, from the position `after`, or else from the query's cursor.

        Raises BadCursor, and StoreUnavailable.
        """
        search = self.search_of(query)
        if query.cursor:
            after = after or self._position(search, query.cursor)
        return self._search_store(search, query.limit if limit is None else limit, after, newer=newer)

    def search_of(self, query: DecisionQuery) -> Search:
        """The query as the store's search."""
        keys = tuple(getattr(query, f"key_{i}") for i in range(len(self.entity_parameters)))
        least = query.amount_from
        return Search(
            transaction_id=query.transaction_id,
            keys=keys,
            since=query.since,
            until=query.until,
            decision=query.decision,
            label=query.label,
            least=None if least is None else math.ceil(round(least * float(self.contract.minor_units), 6)),
            reason=query.reason,
        )

    def cursor(self, query: DecisionQuery, position: str | None) -> str | None:
        """The cursor that continues a query from a position."""
        if position is None:
            return None
        return _encode(self._digest(self.search_of(query), position) + position.encode())

    def _position(self, search: Search, cursor: str) -> str:
        try:
            content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
            position = content[DIGEST_BYTES:].decode("ascii")
        except (ValueError, binascii.Error):
            raise _bad_cursor() from None
        if content[:DIGEST_BYTES] != self._digest(search, position) or cursor != _encode(content):
            raise _bad_cursor()
        return position

    def _digest(self, search: Search, position: str) -> bytes:
        content = repr((self._home, self.contract.digest, search, position))
        return hashlib.sha256(content.encode(errors="replace")).digest()[:DIGEST_BYTES]


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bad_cursor() -> BadCursor:
    return BadCursor(
        "cursor: it does not belong to this search; send the `next` of the previous page unchanged, with the same "
        "filters, or leave it out to start with the newest"
    )


def check_no_duplicates(query: QueryParams) -> None:
    """Raise MalformedRequest for a repeated parameter: of two filters, one would be ignored."""
    names = [name for name, _ in query.multi_items()]
    if duplicates := sorted({shorten(name) for name in names if names.count(name) > 1}):
        raise MalformedRequest(f"{', '.join(duplicates[:5])}: given more than once; give each parameter once")
