"""A definition's parameters: their types, defaults and allowed values, as StartPipelineExecution reads them."""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from processing.errors import BadInput

Value = str | int | float | bool


def bind_parameters(definition: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Value]:
    """Every parameter's value: the one in `values`, else its default. Text is read as the parameter's type.

    Raises BadInput for an unknown name, a missing value, and a wrong type or value.
    """
    declared = {parameter["Name"]: parameter for parameter in definition.get("Parameters", [])}
    for name in values:
        if name not in declared:
            raise BadInput(f"the pipeline has no parameter {name!r}{_suggestion(name, list(declared))}")
    bound = {}
    for name, parameter in declared.items():
        value = values.get(name, parameter.get("DefaultValue"))
        if value is None:
            raise BadInput(f"the parameter {name} has no default: set {name}=...")
        bound[name] = cast(value, parameter["Type"], f"the parameter {name}")
        allowed = parameter.get("EnumValues")
        if allowed and bound[name] not in allowed:
            raise BadInput(f"the parameter {name} is {value!r}; it must be one of {', '.join(allowed)}")
    return bound


def cast(value: Any, kind: str, what: str) -> Value:
    """A value as String, Integer, Float or Boolean. Raises BadInput, naming `what`, if it is not one."""
    match kind:
        case "String" if isinstance(value, str):
            return value
        case "Integer" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "Float" if isinstance(value, int | float) and not isinstance(value, bool):
            return _finite(float(value), what)
        case "Boolean" if isinstance(value, bool):
            return value
        case "Integer" | "Float" | "Boolean" if isinstance(value, str):
            return _read(value.strip(), kind, what)
    raise BadInput(f"{what} is {value!r}; it must be of type {kind}")


def _read(text: str, kind: str, what: str) -> Value:
    try:
        if kind == "Integer":
            return int(text)
        if kind == "Boolean":
            return {"true": True, "false": False}[text.lower()]
        number = float(text)
    except (ValueError, KeyError):
        raise BadInput(f"{what} is {text!r}; it must be of type {kind}") from None
    return _finite(number, what)


def _finite(number: float, what: str) -> float:
    if not math.isfinite(number):
        raise BadInput(f"{what} is {number}; it must be a finite number")
    return number


def _suggestion(name: str, known: list[str]) -> str:
    lowered = {each.lower(): each for each in known}
    near = get_close_matches(name.lower().replace("_", "").replace("-", ""), lowered, n=1)
    hint = f"; did you mean {lowered[near[0]]}?" if near else "."
    return f"{hint} It has {', '.join(known) or 'none'}"
