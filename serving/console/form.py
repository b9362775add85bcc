"""The form of one transaction, made from the contract as the API's request is."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from processing.contract import Contract
from serving.api.request import EPOCH, LONGEST, example


@dataclass(frozen=True)
class Field:
    """One input: `kind` is text, datetime-local, number or choice; `step` and `most` are those of a number."""

    name: str
    label: str
    kind: str
    value: str
    required: bool = True
    hint: str = ""
    step: str = ""
    most: str = ""
    choices: tuple[str, ...] = ()
    longest: int = LONGEST


def fields(contract: Contract, values: Mapping[str, str] | None = None) -> list[Field]:
    """The form's inputs, in the contract's order. Without values they are those of an example of this moment."""
    shown = dict(values) if values is not None else _example(contract)
    name_of_id = contract.id or ("transaction_id" if "transaction_id" not in contract.columns else None)
    made: list[Field] = []

    def add(name: str, label: str, kind: str, **more: Any) -> None:
        made.append(Field(name, label, kind, shown.get(name, ""), **more))

    if name_of_id:
        hint = "The same id is decided once." + ("" if contract.id else " Left empty, one is made.")
        add(name_of_id, "Transaction", "text", hint=hint, required=contract.id is not None)
    if contract.time_format == "iso":
        add(contract.time, "Time (UTC)", "datetime-local", step="1")
    else:
        origin = contract.time_origin if contract.time_format == "elapsed" else EPOCH
        add(contract.time, "Time", "number", step="any", hint=f"Seconds since {origin:%Y-%m-%d %H:%M:%S} UTC.")
    cents = f"{10**-contract.amount_decimals:.{contract.amount_decimals}f}"
    add(contract.amount, "Amount", "number", step=cents, most=f"{contract.amount_maximum:.15g}")
    for entity in contract.entities:
        add(entity.column, entity.name.replace("_", " ").capitalize(), "text")
    for name in contract.numeric:
        add(name, name, "number", step="any", required=False)
    for name, known in contract.categorical.items():
        add(name, name, "choice", choices=known, required=False)
    return made


def row_of(contract: Contract, posted: Mapping[str, str]) -> dict[str, Any]:
    """What was typed as a row of the API's request: numbers as such, and what was left empty left out.

    A text where a number belongs stays one, so that the request's own check tells it.
    """
    numbers = {contract.amount, *contract.numeric}
    if contract.time_format != "iso":
        numbers.add(contract.time)
    names = {field.name for field in fields(contract, {})}
    row = {name: text.strip() for name, text in posted.items() if name in names and text.strip()}
    return {name: _number(text) if name in numbers else text for name, text in row.items()}


def fresh_id() -> str:
    """An id for a transaction that was typed in."""
    return f"console-{secrets.token_hex(4)}"


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _example(contract: Contract) -> dict[str, str]:
    now = datetime.now(UTC).replace(microsecond=0)
    elapsed = now - (contract.time_origin if contract.time_format == "elapsed" else EPOCH)
    time = f"{now:%Y-%m-%dT%H:%M:%S}" if contract.time_format == "iso" else f"{elapsed.total_seconds():.0f}"
    values = {name: str(value) for name, value in example(contract).items()}
    values[contract.id or "transaction_id"] = fresh_id()
    return values | {contract.time: time}
