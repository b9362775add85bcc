"""Definitions run on this machine: order, branches, failures and the record of a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from definition_entries import (
    ECHO,
    QUEUE,
    Entry,
    callback,
    condition,
    document,
    equal,
    get,
    join,
    run,
    script,
    statuses,
    training,
)

from pipeline.local import Bindings, LocalExecution, StepEvent
from processing.errors import BadInput, RunFailed


def test_references_reach_parameters_the_execution_and_other_steps(tmp_path: Path) -> None:
    first = callback("First", run=get("Execution.PipelineExecutionId"), rate=join(get("Parameters.Rate")))
    second = callback("Second", all=join(get("Steps.First.OutputParameters['run']"), "rate", on="/"))
    parameters = [{"Name": "Rate", "Type": "Float", "DefaultValue": 0.5}]
    outcome = run(tmp_path, document(second, first, parameters=parameters)).require_success()
    assert outcome.steps["First"]["OutputParameters"] == {"run": "r1", "rate": "0.5"}
    assert outcome.steps["Second"]["OutputParameters"] == {"all": "r1/rate"}
    arguments = json.loads((tmp_path / "runs/r1/steps/Second/arguments.json").read_text())
    assert arguments == {"all": "r1/rate"}


# Order and branches


def test_steps_run_after_their_dependencies_and_otherwise_in_the_given_order(tmp_path: Path) -> None:
    order: list[str] = []
    definition = document(
        callback("C", ["B"]), callback("A", x="1"), callback("B", y=get("Steps.A.OutputParameters['x']"))
    )
    execution = LocalExecution(definition, {}, tmp_path / "r1", "r1", ECHO)
    execution.execute(lambda event: order.append(event.step) if event.status == "Executing" else None)
    assert order == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([callback("A", ["B"]), callback("B", ["A"])], "in a circle: (A <- B <- A|B <- A <- B)"),
        ([callback("A", ["Z"])], "step A refers to the step Z, which is not in the definition"),
        ([callback("A"), callback("A")], "two steps are named A"),
        ([callback("A", x=get("Parameters.P"))], "step A refers to the parameter P"),
        ([{"Name": "A", "Type": "EMR", "Arguments": {}}], "step A is of type EMR; a local run supports"),
        ([{**callback("A"), "SqsQueueUrl": "other"}], "nothing .* is bound to the queue other"),
        ([callback("A"), callback("B", [{"Step": "A", "Trigger": "Failed"}])], "Failed"),
    ],
)
def test_an_invalid_definition_is_refused(tmp_path: Path, steps: list[Entry], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        LocalExecution(document(*steps), {}, tmp_path, "r1", ECHO)


@pytest.mark.parametrize("side", ["yes", "no"])
def test_only_the_chosen_branch_and_its_dependents_run(tmp_path: Path, side: str) -> None:
    inner = condition("Inner", equal("a", "a"), [callback("Deep", x="1")], [])
    definition = document(
        callback("After", y=get("Steps.Deep.OutputParameters['x']")),
        condition("Gate", equal(get("Parameters.Side"), "yes"), [inner], [callback("Else")]),
        callback("Last", ["Gate"]),
        parameters=[{"Name": "Side", "Type": "String"}],
    )
    outcome = run(tmp_path, definition, Side=side).require_success()
    chosen, other = ("Succeeded", "NotRun") if side == "yes" else ("NotRun", "Succeeded")
    assert statuses(outcome) == {
        "Gate": "Succeeded",
        "Inner": chosen,
        "Deep": chosen,
        "After": chosen,
        "Else": other,
        "Last": "Succeeded",
    }


# Failures


def test_a_failing_step_fails_the_run_and_later_steps_do_not_run(tmp_path: Path) -> None:
    program = script(tmp_path, "print('line one'); raise SystemExit('no fraud in the train set')")
    definition = document(callback("First"), training("Train", program, tmp_path / "out"), callback("Last", ["Train"]))
    outcome = run(tmp_path, definition)
    assert statuses(outcome) == {"First": "Succeeded", "Train": "Failed", "Last": "NotRun"}
    assert outcome.failure
    assert (outcome.status, outcome.failure.step, outcome.failure.exit_code) == ("Failed", "Train", 1)
    assert outcome.failure.reason == "the command ended with exit code 1; its log may say why"
    assert outcome.failure.log.read_text() == "line one\nno fraud in the train set\n"
    with pytest.raises(RunFailed, match=r"step Train of run r1[\s\S]*exit code 1[\s\S]*Its log: .*log.txt"):
        outcome.require_success()
    recorded = json.loads((tmp_path / "runs/r1/outcome.json").read_text())
    assert recorded["status"] == "Failed"
    assert recorded["steps"] == outcome.steps


def test_a_fail_step_fails_the_run_with_its_message(tmp_path: Path) -> None:
    step = {"Name": "No", "Type": "Fail", "Arguments": {"ErrorMessage": join("run ", "r1", " is no good")}}
    assert run(tmp_path, document(step)).reason == "step No: run r1 is no good"


# The run record


def test_the_runs_folder_holds_its_record(tmp_path: Path) -> None:
    events: list[StepEvent] = []
    definition = document(callback("A", x="1"))
    LocalExecution(definition, {}, tmp_path / "r1", "r1", ECHO).execute(events.append)
    assert [(event.step, event.status) for event in events] == [("A", "Executing"), ("A", "Succeeded")]
    files = {path.relative_to(tmp_path / "r1").as_posix() for path in (tmp_path / "r1").rglob("*.*")}
    assert files == {
        "definition.json",
        "parameters.json",
        "outcome.json",
        "steps/A/arguments.json",
        "steps/A/log.txt",
    }
    with pytest.raises(BadInput, match="already holds a run"):
        LocalExecution(definition, {}, tmp_path / "r1", "r1", ECHO).execute()


def test_a_killed_run_is_recorded_as_executing_with_the_steps_so_far(tmp_path: Path) -> None:
    records: list[Entry] = []

    def look(message: Entry, log: Any) -> Entry:
        records.append(json.loads((tmp_path / "runs/r1/outcome.json").read_text()))
        return {}

    run(tmp_path, document(callback("A"), callback("B")), Bindings(callbacks={QUEUE: look}))
    assert [each["status"] for each in records] == ["Executing", "Executing"]
    assert {name: step["status"] for name, step in records[1]["steps"].items()} == {
        "A": "Succeeded",
        "B": "Executing",
    }
