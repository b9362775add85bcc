"""The form for a transaction, derived from the contract like the API's request."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from processing.contract import Contract
from processing.contracts.example import example_transaction
from processing.features.local_time import clock_of
from serving.api.transaction import EPOCH, MAX_ID_LENGTH


@dataclass(frozen=True)
class Input:
    """One input: `kind` is text, datetime-local, number or choice; `step` and the bounds belong to numbers."""

    name: str
    label: str
    kind: str
    value: str
    required: bool = True
    hint: str = ""
    step: str = ""
    minimum: str = ""
    maximum: str = ""
    choices: tuple[str, ...] = ()
    max_length: int = MAX_ID_LENGTH


def inputs(contract: Contract, values: Mapping[str, str] | None = None) -> list[Input]:
    """The form's inputs, in the contract's order. Without values they contain an example of this moment."""
    shown = dict(values) if values is not None else _example(contract)
    id_name = contract.id or ("transaction_id" if "transaction_id" not in contract.columns else None)
    result: list[Input] = []

    def add(name: str, label: str, kind: str, **options: Any) -> None:
        result.append(Input(name, label, kind, shown.get(name, ""), **options))

    if id_name:
        hint = "The same id is decided once." + ("" if contract.id else " Leave it empty to generate one.")
        add(id_name, "Transaction", "text", hint=hint, required=contract.id is not None)
    if contract.time_format == "iso":
        add(contract.time, f"Time ({contract.time_zone or 'UTC'})", "datetime-local", step="1")
    else:
        origin = contract.time_origin if contract.time_format == "elapsed" else EPOCH
        add(contract.time, "Time", "number", step="any", hint=f"Seconds since {origin:%Y-%m-%d %H:%M:%S} UTC.")
    cents = f"{10**-contract.amount_decimals:.{contract.amount_decimals}f}"
    least, most = (f"{bound:.15g}" for bound in (contract.amount_minimum, contract.amount_maximum))
    add(contract.amount, "Amount", "number", step=cents, minimum=least, maximum=most)
    for column, name in zip(contract.key_columns, contract.key_names, strict=True):
        add(column, name.replace("_", " ").capitalize(), "text")
    for name in contract.numeric:
        add(name, name, "number", step="any", required=False)
    for name, known in contract.categorical.items():
        add(name, name, "choice", choices=known, required=False)
    return result


def transaction_of(contract: Contract, typed: Mapping[str, str]) -> dict[str, Any]:
    """The filled-in form as a transaction of the API: numbers as numbers, without empty fields.

    Text in place of a number stays text, so that the request's own validation reports it.
    """
    numbers = {contract.amount, *contract.numeric}
    if contract.time_format != "iso":
        numbers.add(contract.time)
    names = {each.name for each in inputs(contract, {})}
    row = {name: text.strip() for name, text in typed.items() if name in names and text.strip()}
    return {name: _number(text) if name in numbers else text for name, text in row.items()}


def new_id() -> str:
    """An id for a transaction typed in by hand."""
    return f"console-{secrets.token_hex(4)}"


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _example(contract: Contract) -> dict[str, str]:
    now = datetime.now(UTC).replace(microsecond=0)
    elapsed = now - (contract.time_origin if contract.time_format == "elapsed" else EPOCH)
    shown = clock_of(contract.time_zone).shown(now) if contract.time_zone else now
    time = f"{shown:%Y-%m-%dT%H:%M:%S}" if contract.time_format == "iso" else f"{elapsed.total_seconds():.0f}"
    values = {name: str(value) for name, value in example_transaction(contract).items()}
    values[contract.id or "transaction_id"] = new_id()
    return values | {contract.time: time}
