"""The steps of a definition in an order in which they can run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pipeline.local.pipeline_variables import references
from processing.errors import BadInput


@dataclass(frozen=True)
class Branch:
    """The side of a Condition step that a step is on."""

    step: str
    taken_if: bool


@dataclass(frozen=True)
class Node:
    """One step: its entry in the definition, the steps it needs, the branch it is on."""

    name: str
    kind: str
    entry: Mapping[str, Any]
    needs: frozenset[str]
    branch: Branch | None


def ordered_steps(definition: Mapping[str, Any]) -> list[Node]:
    """All steps, including those on branches, each after the steps it needs and otherwise in their written order.

    Raises BadInput for a duplicate name, a reference to an unknown step or parameter, and a cycle.
    """
    nodes: dict[str, Node] = {}
    for node in _flatten(definition.get("Steps", []), None):
        if node.name in nodes:
            raise BadInput(f"two steps are named {node.name}")
        nodes[node.name] = node
    parameters = {parameter["Name"] for parameter in definition.get("Parameters", [])}
    for node in nodes.values():
        for missing in sorted(node.needs - nodes.keys()):
            raise BadInput(f"step {node.name} refers to the step {missing}, which is not in the definition")
        for path in references(_own_arguments(node.entry)):
            if path[0] == "Parameters" and path[1] not in parameters:
                raise BadInput(f"step {node.name} refers to the parameter {path[1]}, which is not declared")
    try:
        TopologicalSorter({node.name: node.needs for node in nodes.values()}).prepare()
    except CycleError as error:
        raise BadInput(f"the steps wait for each other in a circle: {' <- '.join(error.args[1])}") from None
    order: dict[str, Node] = {}
    while len(order) < len(nodes):
        ready = next(n for n in nodes.values() if n.name not in order and n.needs <= order.keys())
        order[ready.name] = ready
    return list(order.values())


def _flatten(steps: list[Mapping[str, Any]], branch: Branch | None) -> Iterator[Node]:
    for step in steps:
        name = step["Name"]
        needs = {str(path[1]) for path in references(_own_arguments(step)) if path[0] == "Steps"}
        needs |= {_step_name(dependency, name) for dependency in step.get("DependsOn", [])}
        if branch:
            needs.add(branch.step)
        yield Node(name, step["Type"], step, frozenset(needs), branch)
        if step["Type"] == "Condition":
            yield from _flatten(step["Arguments"].get("IfSteps", []), Branch(name, True))
            yield from _flatten(step["Arguments"].get("ElseSteps", []), Branch(name, False))


def _own_arguments(step: Mapping[str, Any]) -> Any:
    """A step's arguments without the steps on its branches."""
    arguments = step.get("Arguments", {})
    return arguments.get("Conditions", []) if step["Type"] == "Condition" else arguments


def _step_name(dependency: Any, step: str) -> str:
    if isinstance(dependency, str):
        return dependency
    if dependency.get("Trigger", "Completed") != "Completed":
        raise BadInput(
            f"step {step} should run when {dependency['Step']} ends as {dependency['Trigger']}: "
            "a local run only supports steps that follow a success"
        )
    return str(dependency["Step"])
