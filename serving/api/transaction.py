"""One transaction as a request: the contract's columns as fields, parsed as the feature job parses them in a file."""

import functools
import math
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic.json_schema import WithJsonSchema

from processing.arrays import Floats
from processing.contract import CLOCK_SKEW, EARLIEST, Contract
from processing.contracts.example import example_transaction
from processing.contracts.home_contract import NO_COLUMNS, FormerColumns
from processing.features.feature_set import FeatureSet
from processing.features.local_time import clock_of, skipped_time
from processing.features.state_plan import event_columns
from processing.store.decisions import Event

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
MAX_SECONDS = 1e11  # since 1970; later times in microseconds do not fit into 64 bits
MAX_NUMERIC_ID = 10**36  # for ids sent as numbers; a card number has at most 19 digits
NOT_BLANK = r"[^\s\x1c-\x1f\x85]"  # at least one character that `strip` keeps, as a JSON Schema pattern
MAX_ID_LENGTH = 256  # characters; a much longer id is a mistake, and would cost every store


def _id_text(value: Any) -> Any:
    """An id as text. 596, "596" and 596.0, which JSON also calls an integer, are the same id, as in a file."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_NUMERIC_ID:
        return value
    return str(int(value)) if value == int(value) else value


def _stripped(text: str) -> str:
    return text.strip()


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("a value is required, but the text is empty")
    return text.strip()


_AsText = BeforeValidator(
    _id_text, json_schema_input_type=str | Annotated[int, Field(ge=-MAX_NUMERIC_ID, le=MAX_NUMERIC_ID)]
)
Id = Annotated[
    str, Field(max_length=MAX_ID_LENGTH, json_schema_extra={"pattern": NOT_BLANK}), AfterValidator(_not_blank), _AsText
]
Category = Annotated[str, Field(max_length=MAX_ID_LENGTH), AfterValidator(_stripped), _AsText]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


def transaction_model(contract: Contract, former: FormerColumns = NO_COLUMNS) -> type[BaseModel]:
    """The pydantic model of a transaction to score.

    The fields' aliases are the dataset's column names, without the label; unknown fields are refused. The attributes
    are transaction_id, time_us, amount, key_0, ..., numeric_0, ..., category_0, ... If the contract has no id
    column, transaction_id is optional and generated. `former` columns, which the home's contract had before, may still
    be sent: a model of an earlier contract uses them.
    """
    fields: dict[str, Any] = {}

    def add(attribute: str, column: str, kind: Any, description: str, **options: Any) -> None:
        fields[attribute] = (kind, Field(alias=column, title=column, description=description, **options))

    if contract.id:
        add("transaction_id", contract.id, Id, "The transaction's id. The same id is decided once")
    elif "transaction_id" not in contract.columns:
        description = "The transaction's id; generated if missing"
        add("transaction_id", "transaction_id", Id, description, default_factory=lambda: uuid.uuid4().hex)
    add("time_us", contract.time, _time_type(contract), "When it happened: " + _time_description(contract))
    limits = Field(ge=contract.amount_minimum, le=contract.amount_maximum)
    refunds = "; negative for a refund" if contract.refunds else ""
    add("amount", contract.amount, Annotated[Number, limits], f"The amount in major units{refunds}")
    for i, (column, name) in enumerate(zip(contract.key_columns, contract.key_names, strict=True)):
        add(f"key_{i}", column, Id, id_description(contract, name))
    for i, name in enumerate((*contract.numeric, *former.numeric)):
        add(f"numeric_{i}", name, Number | None, "A number; null if unknown", default=None)
    for i, (name, known) in enumerate((contract.categorical | former.categorical).items()):
        description = f"One of {', '.join(known)}; any other value counts as unknown"
        add(f"category_{i}", name, Category | None, description, default=None)
    config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example_transaction(contract)]})
    return create_model("Transaction", __config__=config, **fields)


def to_event(request: BaseModel, contract: Contract, features: FeatureSet) -> tuple[Event, Floats]:
    """A validated transaction of a contract as an event for the windows, and its further columns, [1, x].

    Those are from `FeatureSet.encode` of a model's features, which may be of an earlier contract.
    """
    values, attributes = request.__dict__, _attributes(type(request))
    theirs = features.contract
    read = dict.fromkeys((*event_columns(contract), *event_columns(theirs)))
    event = Event(
        values.get("transaction_id") or uuid.uuid4().hex,
        values["time_us"],
        round(values["amount"] * float(contract.minor_units)),  # to the nearest, ties to even, as in a file
        tuple(values[f"key_{i}"] for i in range(len(contract.key_columns))),
        tuple((name, values[attributes[name]]) for name in read if name in attributes),
    )
    columns = {name: [_or_nan(values[attributes[name]])] for name in theirs.numeric if name in attributes}
    columns |= {name: [values[attributes[name]]] for name in theirs.categorical if name in attributes}
    return event, features.encode(columns, 1)


@functools.lru_cache
def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """The attribute of each further column."""
    further = ("numeric_", "category_")
    return {str(field.alias): name for name, field in model.model_fields.items() if name.startswith(further)}


def id_description(contract: Contract, key_name: str) -> str:
    """What a key column of the contract holds, in words."""
    if any(entity.name == key_name for entity in contract.entities):
        return f"The {key_name}'s id"
    pairs = [entity.name for entity in contract.entities if key_name in contract.key_names_of(entity)]
    return f"Part of what identifies the {' and the '.join(pairs)}"


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def _time_type(contract: Contract) -> Any:
    """The type of the event time: parsed as the contract says, stored as whole microseconds since 1970."""
    elapsed = contract.time_format == "elapsed"
    start = math.floor(contract.time_origin.timestamp()) * SECOND_US if elapsed else 0

    def read(value: Any) -> int:
        time_us = _iso(value, contract.time_zone) if contract.time_format == "iso" else _seconds(value) + start
        latest = datetime.now(UTC) + CLOCK_SKEW
        if not _micros(EARLIEST) <= time_us <= _micros(latest):
            raise ValueError(f"expected a time from {EARLIEST:%Y} to now, at most a day ahead")
        return time_us

    if contract.time_format == "iso":
        schema: dict[str, Any] = {"type": "string", "format": "date-time"}
    else:
        schema = {"type": "number"}
    return Annotated[int, BeforeValidator(read), WithJsonSchema(schema)]


def _time_description(contract: Contract) -> str:
    if contract.time_format == "iso":
        return f"an ISO-8601 time; {f'in {contract.time_zone}' if contract.time_zone else 'UTC'} if it has no offset"
    origin = contract.time_origin if contract.time_format == "elapsed" else EPOCH
    return f"seconds since {origin:%Y-%m-%dT%H:%M:%SZ}"


def _iso(value: Any, zone: str | None) -> int:
    if not isinstance(value, str):
        raise ValueError("expected an ISO-8601 time as text, e.g. 2026-03-01T12:00:00Z")
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("expected an ISO-8601 time, e.g. 2026-03-01T12:00:00Z") from None
    if moment.tzinfo is not None or zone is None:
        return _micros(moment.replace(tzinfo=moment.tzinfo or UTC))
    time_us = clock_of(zone).utc_of(moment)
    if time_us is None:
        raise ValueError(skipped_time(zone))
    return time_us


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_SECONDS:
        raise ValueError("expected a number of seconds")
    return round(float(value) * 1e6)
