"""The stand-ins for SQS, Lambda and the model registry."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from definition_entries import QUEUE, Entry, callback, document, get, run

from pipeline.local import Bindings


def test_an_error_in_a_handler_fails_the_step_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    def broken(message: Entry, log: Any) -> Entry:
        print("working", file=log)
        raise ZeroDivisionError("a row's value")

    outcome = run(tmp_path, document(callback("A")), Bindings(callbacks={QUEUE: broken}))
    assert outcome.failure
    assert re.fullmatch(
        r"it ended unexpectedly: ZeroDivisionError at tests/pipeline/local/test_services\.py:\d+, in broken; "
        "its log has the traceback",
        outcome.failure.reason,
    )
    log = outcome.failure.log.read_text()
    assert log.startswith("working\nTraceback")
    assert "a row's value" not in log.replace('ZeroDivisionError("a row\'s value")', "")


@pytest.mark.parametrize(
    ("response", "complaint"),
    [({}, "lacks the output 'x'"), ({"x": "1", "y": "2"}, "has the output 'y'"), ({"x": 1}, "type String")],
)
def test_a_callback_must_return_the_declared_outputs(tmp_path: Path, response: Entry, complaint: str) -> None:
    bindings = Bindings(callbacks={QUEUE: lambda message, log: response})
    assert complaint in str(run(tmp_path, document(callback("A", x="1")), bindings).reason)


def handler(event: Entry, context: Any) -> Entry:
    print("called")
    return {"statusCode": 200, "promoted": f"{event['version']} by {context.function_name}"}


@pytest.mark.parametrize("bound", [handler, f"{__name__}:handler"])
def test_a_lambda_step_calls_its_handler(tmp_path: Path, bound: Any) -> None:
    arn = "arn:aws:lambda:local:000000000000:function:promote"
    step: Entry = {"Name": "Promote", "Type": "Lambda", "FunctionArn": arn, "Arguments": {"version": "v1"}}
    step["OutputParameters"] = [{"OutputName": "promoted", "OutputType": "String"}]
    outcome = run(tmp_path, document(step), Bindings(lambdas={arn: bound})).require_success()
    assert outcome.steps["Promote"]["OutputParameters"] == {"promoted": "v1 by promote"}
    assert (tmp_path / "runs/r1/steps/Promote/log.txt").read_text() == "called\n"


def test_registering_records_the_package_and_returns_its_arn(tmp_path: Path) -> None:
    request = {"ModelPackageGroupName": "fraud", "ModelApprovalStatus": "Approved"}
    step: Entry = {"Name": "Register", "Type": "RegisterModel", "Arguments": request}
    arn = callback("Arn", arn=get("Steps.Register.ModelPackageArn"))
    outcome = run(tmp_path, document(step, arn)).require_success()
    recorded = json.loads((tmp_path / "runs/r1/steps/Register/model-package.json").read_text())
    assert outcome.steps["Arn"]["OutputParameters"]["arn"] == recorded["ModelPackageArn"]
    assert recorded.items() >= request.items()


def test_a_package_that_sagemaker_would_refuse_fails_the_step(tmp_path: Path) -> None:
    request = {"ModelPackageGroupName": "fraud", "Approval": "Approved"}
    outcome = run(tmp_path, document({"Name": "R", "Type": "RegisterModel", "Arguments": request}))
    assert "SageMaker would refuse" in str(outcome.reason)
    assert "Approval" in str(outcome.reason)
