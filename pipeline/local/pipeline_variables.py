"""Pipeline variables, the parts of a definition that are known only during a run: Get, Std:Join and Std:JsonGet.

https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.local.transfer import read_file
from processing.errors import BadInput

ROOTS = ("Parameters", "Execution", "Steps")
FUNCTIONS = ("Get", "Std:Join", "Std:JsonGet")
PATH_PART = re.compile(r"""\.?([^.\[\]'"]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")


@dataclass(frozen=True)
class Scope:
    """The values known at one moment of a run.

    steps: the properties of each step that has succeeded, as its Describe call would return them
    property_files: by step and name, the address of the file that Std:JsonGet reads
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    property_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def resolve(value: Any, scope: Scope, where: str) -> Any:
    """A copy of the value with every pipeline variable in it replaced by its value.

    Raises BadInput for a variable without a value, naming it and `where`, the step that uses it.
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
    """Which of the functions a mapping calls; None for plain data."""
    return next((name for name in FUNCTIONS if name in value), None) if len(value) == 1 else None


def references(value: Any) -> Iterator[list[str | int]]:
    """Every `Get` in a value, as its path: ["Steps", "Train", "TrainingJobName"]."""
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
    """The parts of a path such as `Steps.Features.OutputParameters['train_url']` or `$.metrics[0].value`."""
    parts: list[str | int] = []
    position = 0
    while position < len(path):
        match = PATH_PART.match(path, position)
        if not match:
            raise BadInput(f"{path!r} is not a path: {path[position:]!r} cannot be read")
        name, index, single, double = match.groups()
        parts.append(int(index) if index is not None else next(t for t in (name, single, double) if t is not None))
        position = match.end()
    return parts[1:] if parts[:1] == ["$"] else parts


def _get(path: str, scope: Scope, where: str) -> Any:
    ((root, *rest),) = references({"Get": path})
    if root == "Steps" and rest[0] not in scope.steps:
        raise BadInput(f"step {where}: {path} has no value: the step {rest[0]} has not run")
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
            raise BadInput(f"step {where}: {path} has no value: the step {step} has no such file")
        file = files[str(name)]
    try:
        document = json.loads(read_file(file))
    except FileNotFoundError:
        raise BadInput(f"step {where} needs {call['Path']} from {file}, which does not exist") from None
    except ValueError as error:
        raise BadInput(f"step {where} needs {call['Path']} from {file}, which is not JSON: {error}") from None
    return _descend(document, split_path(call["Path"]), f"step {where}: {call['Path']} of {file}")


def _descend(value: Any, parts: list[str | int], what: str) -> Any:
    for part in parts:
        try:
            if isinstance(value, list):
                value = value[part] if isinstance(part, int) else _by_name(value, part)
            else:
                value = value[part]
        except (LookupError, TypeError):
            content = f"it has {', '.join(value) or 'nothing'}" if isinstance(value, Mapping) else f"{value!r}"
            raise BadInput(f"{what} cannot be resolved at {part!r}: {content}") from None
    return value


def _by_name(items: list[Any], name: str) -> Any:
    """One of a job's inputs or outputs, as in `Outputs['evaluation']`."""
    keys = ("OutputName", "InputName", "ChannelName")
    matches = [each for each in items if isinstance(each, Mapping) and name in [each.get(key) for key in keys]]
    return matches[0]


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise BadInput(f"step {where}: Std:Join takes texts and numbers, not {value!r}")
