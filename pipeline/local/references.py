"""What a definition leaves open until a run goes on: Get, Std:Join and Std:JsonGet.

https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.local.staging import read
from processing.errors import BadInput

ROOTS = ("Parameters", "Execution", "Steps")
FUNCTIONS = ("Get", "Std:Join", "Std:JsonGet")
PATH_PART = re.compile(r"""\.?([^.\[\]'"]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")


@dataclass(frozen=True)
class Scope:
    """What is known at one moment of a run.

    steps: the properties of each step that has succeeded, as its Describe call would give them
    property_files: by step and name, the address of the file that Std:JsonGet reads
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    property_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def resolve(value: Any, scope: Scope, where: str) -> Any:
    """A copy of the value with each reference in it replaced by what it stands for.

    Raises BadInput, naming `where` (the step that refers) and the reference, where there is nothing.
    """
    if isinstance(value, list):
        return [resolve(item, scope, where) for item in value]
    if not isinstance(value, dict):
        return value
    match function_of(value):
        case "Get":
            return _get(value["Get"], scope, where)
        case "Std:Join":
            join = value["Std:Join"]
            parts = [resolve(part, scope, where) for part in join["Values"]]
            return str(join.get("On", "")).join(_text(part, where) for part in parts)
        case "Std:JsonGet":
            return _json_get(value["Std:JsonGet"], scope, where)
    return {key: resolve(item, scope, where) for key, item in value.items()}


def function_of(value: Mapping[str, Any]) -> str | None:
    """Which of the functions a mapping is a call of; None for plain data."""
    return next((name for name in FUNCTIONS if name in value), None) if len(value) == 1 else None


def references(value: Any) -> Iterator[list[str | int]]:
    """Every `Get` within a value, as its path: ["Steps", "Train", "TrainingJobName"]."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        if function_of(value) == "Get":
            path = split_path(value["Get"])
            if len(path) < 2 or path[0] not in ROOTS:
                raise BadInput(f"{value['Get']!r} refers to nothing; references start with {', '.join(ROOTS)}")
            yield path
        else:
            yield from references(list(value.values()))


def split_path(path: str) -> list[str | int]:
    """`Steps.Features.OutputParameters['train_url']` or `$.metrics[0].value` in its parts."""
    parts: list[str | int] = []
    position = 0
    while position < len(path):
        found = PATH_PART.match(path, position)
        if not found:
            raise BadInput(f"{path!r} is not a path: {path[position:]!r} cannot be read")
        name, index, single, double = found.groups()
        parts.append(int(index) if index is not None else next(t for t in (name, single, double) if t is not None))
        position = found.end()
    return parts[1:] if parts[:1] == ["$"] else parts


def _get(path: str, scope: Scope, where: str) -> Any:
    ((root, *rest),) = references({"Get": path})
    if root == "Steps" and rest[0] not in scope.steps:
        raise BadInput(f"step {where}: {path} cannot be known: the step {rest[0]} has not run")
    source = {"Parameters": scope.parameters, "Execution": scope.execution, "Steps": scope.steps}[str(root)]
    return _descend(source, rest, f"step {where}: {path}")


def _json_get(call: Mapping[str, Any], scope: Scope, where: str) -> Any:
    if "S3Uri" in call:
        file = str(resolve(call["S3Uri"], scope, where))
    else:
        path = call["PropertyFile"]["Get"]
        _, step, _, name = split_path(path)
        files = scope.property_files.get(str(step), {})
        if name not in files:
            raise BadInput(f"step {where}: {path} cannot be known: the step {step} has left no such file")
        file = files[str(name)]
    try:
        document = json.loads(read(file))
    except FileNotFoundError:
        raise BadInput(f"step {where} needs {call['Path']} of {file}, which was not written") from None
    except ValueError as error:
        raise BadInput(f"step {where} needs {call['Path']} of {file}, which is not JSON: {error}") from None
    return _descend(document, split_path(call["Path"]), f"step {where}: {call['Path']} of {file}")


def _descend(value: Any, parts: list[str | int], what: str) -> Any:
    for part in parts:
        try:
            if isinstance(value, list):
                value = value[part] if isinstance(part, int) else _by_name(value, part)
            else:
                value = value[part]
        except (LookupError, TypeError):
            found = f"it has {', '.join(value) or 'nothing'}" if isinstance(value, Mapping) else f"{value!r}"
            raise BadInput(f"{what} cannot be resolved at {part!r}: {found}") from None
    return value


def _by_name(items: list[Any], name: str) -> Any:
    """A job's input or output out of a list of them, as in `Outputs['evaluation']`."""
    keys = ("OutputName", "InputName", "ChannelName")
    found = [each for each in items if isinstance(each, Mapping) and name in [each.get(key) for key in keys]]
    return found[0]


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise BadInput(f"step {where}: Std:Join takes texts and numbers, not {value!r}")
