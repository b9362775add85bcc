"""Definitions run on this machine: order and branches, jobs as real processes, failures, interruptions."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from places import ROOT

from pipeline.local import Bindings, LocalExecution, Outcome, StepEvent
from pipeline.local.jobs import JobFailed
from processing.errors import BadInput, RunFailed
from processing.storage.open import open_home

QUEUE = "local:queue"
ECHO = Bindings(callbacks={QUEUE: lambda message, log: message["arguments"]})

Entry = dict[str, Any]


def get(path: str) -> dict[str, str]:
    return {"Get": path}


def join(*values: Any, on: str = "") -> Entry:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def json_get(step: str, file: str, path: str) -> Entry:
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def callback(name: str, depends_on: list[Any] | None = None, **arguments: Any) -> Entry:
    """A step whose outputs are its own arguments."""
    outputs = [{"OutputName": key, "OutputType": "String"} for key in arguments]
    entry = {"Name": name, "Type": "Callback", "SqsQueueUrl": QUEUE, "Arguments": arguments}
    return {**entry, "OutputParameters": outputs, "DependsOn": depends_on or []}


def condition(name: str, test: Entry, then: list[Entry], otherwise: list[Entry]) -> Entry:
    arguments = {"Conditions": [test], "IfSteps": then, "ElseSteps": otherwise}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def equal(left: Any, right: Any) -> Entry:
    return {"Type": "Equals", "LeftValue": left, "RightValue": right}


def training(name: str, script: Path, output: Path, **fields: Any) -> Entry:
    arguments = {
        "AlgorithmSpecification": {"ContainerEntrypoint": ["python3", str(script)]},
        "OutputDataConfig": {"S3OutputPath": output.as_uri()},
        **fields,
    }
    return {"Name": name, "Type": "Training", "Arguments": arguments}


def channel(name: str, address: str) -> Entry:
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3Uri": address, "S3DataType": "S3Prefix"}},
    }


def document(*steps: Entry, parameters: list[Entry] | None = None) -> Entry:
    return {"Version": "2020-12-01", "Parameters": parameters or [], "Steps": list(steps)}


def script(folder: Path, body: str) -> Path:
    path = folder / f"script{len(list(folder.glob('script*')))}.py"
    path.write_text(dedent(body))
    return path


def run(folder: Path, definition: Entry, bindings: Bindings = ECHO, **parameters: Any) -> Outcome:
    return LocalExecution(definition, parameters, folder / "runs/r1", "r1", bindings).execute()


def statuses(outcome: Outcome) -> dict[str, str]:
    return {name: step["status"] for name, step in outcome.steps.items()}


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


def test_steps_run_after_the_steps_they_need_and_otherwise_as_written(tmp_path: Path) -> None:
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
def test_a_definition_that_cannot_work_is_refused(tmp_path: Path, steps: list[Entry], complaint: str) -> None:
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


# Jobs


def test_a_training_job_sees_the_container_contract(tmp_path: Path) -> None:
    (tmp_path / "in put").mkdir()
    (tmp_path / "in put/rows.csv").write_text("1,2")
    (tmp_path / "contract.toml").write_text("[columns]")
    program = script(
        tmp_path,
        """
        import json, os
        from pathlib import Path
        from pipeline.steps import container
        import processing.errors
        seen = {
            "hyperparameters": container.hyperparameters(),
            "rows": (Path(os.environ["SM_CHANNEL_TRAIN"]) / "rows.csv").read_text(),
            "contract": (container.channel("contract") / "contract.toml").read_text(),
            "job": os.environ["TRAINING_JOB_NAME"],
            "folder": os.getcwd(),
            "extra": os.environ["EXTRA"],
        }
        (container.model_dir() / "model.json").write_text(json.dumps(seen))
        (Path(os.environ["SM_OUTPUT_DATA_DIR"]) / "curve.txt").write_text("curve")
        print("trained")
        """,
    )
    step = training(
        "Train",
        program,
        tmp_path / "out",
        HyperParameters={"seed": join(get("Parameters.Seed"))},
        InputDataConfig=[
            channel("train", (tmp_path / "in put").as_uri()),
            channel("contract", str(tmp_path / "contract.toml")),
        ],
        Environment={"EXTRA": "given"},
    )
    model = callback("Model", url=get("Steps.Train.ModelArtifacts.S3ModelArtifacts"))
    parameters = [{"Name": "Seed", "Type": "Integer", "DefaultValue": 0}]
    outcome = run(tmp_path, document(step, model, parameters=parameters)).require_success()

    artifacts = tmp_path / "out/pipelines-r1-Train/output"
    assert outcome.steps["Model"]["OutputParameters"]["url"] == (artifacts / "model.tar.gz").as_uri()
    with tarfile.open(artifacts / "model.tar.gz") as archive:
        content = archive.extractfile("model.json")
        assert content
        assert json.load(content) == {
            "hyperparameters": {"seed": "0"},
            "rows": "1,2",
            "contract": "[columns]",
            "job": "pipelines-r1-Train",
            "folder": str(tmp_path / "runs/r1/steps/Train"),
            "extra": "given",
        }
    with tarfile.open(artifacts / "output.tar.gz") as archive:
        assert archive.getnames() == ["curve.txt"]
    assert (tmp_path / "runs/r1/steps/Train/log.txt").read_text() == "trained\n"


def processing_step(name: str, program: Path, source: str | Path, output: str | Path) -> Entry:
    arguments = {
        "AppSpecification": {
            "ContainerEntrypoint": ["python3", str(program)],
            "ContainerArguments": ["--floor", "0.1"],
        },
        "ProcessingInputs": [
            {
                "InputName": "test",
                "S3Input": {"S3Uri": str(source), "LocalPath": "/opt/ml/processing/test"},
            }
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "evaluation",
                    "S3Output": {"S3Uri": str(output), "LocalPath": "/opt/ml/processing/evaluation"},
                }
            ]
        },
    }
    files = [{"PropertyFileName": "report", "OutputName": "evaluation", "FilePath": "a/report.json"}]
    return {"Name": name, "Type": "Processing", "Arguments": arguments, "PropertyFiles": files}


def test_a_processing_job_leaves_outputs_and_a_property_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1,2")
    program = script(
        tmp_path,
        """
        import json, sys
        from pipeline.steps.container import processing_path
        rows = (processing_path("test") / "rows.csv").read_text()
        folder = processing_path("evaluation") / "a"
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps({"score": [len(rows)], "floor": sys.argv[2]}))
        """,
    )
    step = processing_step("Evaluate", program, tmp_path / "rows.csv", (tmp_path / "evaluation").as_uri())
    score = {
        "Type": "GreaterThanOrEqualTo",
        "LeftValue": json_get("Evaluate", "report", "score[0]"),
        "RightValue": 3,
    }
    url = get("Steps.Evaluate.ProcessingOutputConfig.Outputs['evaluation'].S3Output.S3Uri")
    good = callback("Good", url=url, floor=json_get("Evaluate", "report", "floor"))
    outcome = run(tmp_path, document(condition("Gate", score, [good], []), step)).require_success()
    expected = {"url": (tmp_path / "evaluation").as_uri(), "floor": "0.1"}
    assert outcome.steps["Good"]["OutputParameters"] == expected
    assert (tmp_path / "evaluation/a/report.json").is_file()


@pytest.mark.cloud
def test_a_jobs_inputs_and_outputs_can_be_in_s3(bucket: str, tmp_path: Path) -> None:
    home = open_home(f"s3://{bucket}")
    home.write("sets/test/day=1/a.txt", b"4")
    home.write("sets/one.txt", b"1")
    program = script(
        tmp_path,
        """
        import json
        from pipeline.steps.container import processing_path
        given = processing_path("test")
        found = {str(path.relative_to(given)): path.read_text() for path in sorted(given.rglob("*.txt"))}
        folder = processing_path("evaluation") / "a"
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(found))
        """,
    )
    step = processing_step("Look", program, f"s3://{bucket}/sets/test", f"s3://{bucket}/left")
    after = callback("After", seen=json_get("Look", "report", "['day=1/a.txt']"))
    outcome = run(tmp_path, document(step, after)).require_success()
    assert outcome.steps["After"]["OutputParameters"] == {"seen": "4"}
    one = processing_step("One", program, f"s3://{bucket}/sets/one.txt", f"s3://{bucket}/left")
    run(tmp_path / "2", document(one)).require_success()
    assert json.loads(home.read("left/a/report.json")) == {"one.txt": "1"}
    nothing = processing_step("None", program, f"s3://{bucket}/nothing", f"s3://{bucket}/left")
    assert f"there is no data at s3://{bucket}/nothing" in str(run(tmp_path / "3", document(nothing)).reason)


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
    written = json.loads((tmp_path / "runs/r1/outcome.json").read_text())
    assert written["status"] == "Failed"
    assert written["steps"] == outcome.steps


def test_the_failure_file_gives_the_reason(tmp_path: Path) -> None:
    program = script(tmp_path, "from pipeline.steps.container import fail\nprint('noise')\nfail('no rows')")
    outcome = run(tmp_path, document(training("Train", program, tmp_path / "out")))
    assert outcome.failure
    assert outcome.failure.reason == "no rows"


def test_a_killed_job_names_the_signal(tmp_path: Path) -> None:
    program = script(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    outcome = run(tmp_path, document(training("Train", program, tmp_path / "out")))
    assert outcome.failure
    assert (outcome.failure.exit_code, "signal 9" in outcome.failure.reason) == (-9, True)


def test_a_jobs_exit_code_is_not_the_commands(tmp_path: Path) -> None:
    """Otherwise a training script's code 3 would look like one of `fraudline`, and -9 like 247."""
    for code in (3, -9):
        assert (JobFailed("no rows", code).exit_code, JobFailed("no rows", code).code) == (RunFailed.exit_code, code)


def test_a_scripts_modules_and_the_projects_do_not_shadow_each_other(tmp_path: Path) -> None:
    """A script imports the modules beside it, even when this project has modules with the same names."""
    names = ("model", "metrics", "threshold", "run", "home", "errors", "app", "schema")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"WHOSE = 'mine: {name}'\n")
    body = f"""
        import importlib, sys
        for name in {names}:
            assert importlib.import_module(name).WHOSE == f"mine: {{name}}", name
        import pipeline.estimators.trees, pipeline.evaluation.metrics, pipeline.evaluation.threshold
        import processing.storage.home, processing.errors
        from pipeline.steps import container
        assert pipeline.estimators.trees.build and processing.errors.BadInput
        assert not hasattr(pipeline.evaluation.metrics, "WHOSE")
        (container.model_dir() / "done").write_text("yes")
        """
    run(tmp_path, document(training("Train", script(tmp_path, body), tmp_path / "out"))).require_success()
    assert list((tmp_path / "out").rglob("model.tar.gz"))


def test_the_projects_modules_are_not_shadowed_by_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pipeline", "model", "metrics"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    step = training("Train", tmp_path, tmp_path / "out")
    step["Arguments"]["AlgorithmSpecification"]["ContainerEntrypoint"] = ["python3", "-m", "pipeline.steps.container"]
    run(tmp_path, document(step)).require_success()


def test_a_missing_input_names_the_channel(tmp_path: Path) -> None:
    inputs = [channel("train", str(tmp_path / "gone"))]
    step = training("Train", tmp_path, tmp_path / "out", InputDataConfig=inputs)
    assert "the channel train: there is no data at" in str(run(tmp_path, document(step)).reason)


def test_a_fail_step_fails_the_run_with_its_message(tmp_path: Path) -> None:
    step = {"Name": "No", "Type": "Fail", "Arguments": {"ErrorMessage": join("run ", "r1", " is no good")}}
    assert run(tmp_path, document(step)).reason == "step No: run r1 is no good"


def test_an_error_in_a_handler_fails_the_step_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    def broken(message: Entry, log: Any) -> Entry:
        print("working", file=log)
        raise ZeroDivisionError("a row's value")

    outcome = run(tmp_path, document(callback("A")), Bindings(callbacks={QUEUE: broken}))
    assert outcome.failure
    assert re.fullmatch(
        r"it ended unexpectedly: ZeroDivisionError at tests/pipeline/local/test_local\.py:\d+, in broken; "
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


# Lambda functions and the registry


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


# The run record, and interruptions


def test_the_folder_holds_the_run_record(tmp_path: Path) -> None:
    events: list[StepEvent] = []
    definition = document(callback("A", x="1"))
    LocalExecution(definition, {}, tmp_path / "r1", "r1", ECHO).execute(events.append)
    assert [(event.step, event.status) for event in events] == [("A", "Executing"), ("A", "Succeeded")]
    found = {path.relative_to(tmp_path / "r1").as_posix() for path in (tmp_path / "r1").rglob("*.*")}
    assert found == {
        "definition.json",
        "parameters.json",
        "outcome.json",
        "steps/A/arguments.json",
        "steps/A/log.txt",
    }
    with pytest.raises(BadInput, match="already holds a run"):
        LocalExecution(definition, {}, tmp_path / "r1", "r1", ECHO).execute()


def test_a_killed_run_is_recorded_as_executing_with_the_steps_so_far(tmp_path: Path) -> None:
    seen: list[Entry] = []

    def look(message: Entry, log: Any) -> Entry:
        seen.append(json.loads((tmp_path / "runs/r1/outcome.json").read_text()))
        return {}

    run(tmp_path, document(callback("A"), callback("B")), Bindings(callbacks={QUEUE: look}))
    assert [each["status"] for each in seen] == ["Executing", "Executing"]
    assert {name: step["status"] for name, step in seen[1]["steps"].items()} == {
        "A": "Succeeded",
        "B": "Executing",
    }


WAITING = """
    import os, sys, time
    from pathlib import Path
    Path(sys.argv[0]).with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(60)
"""


def await_pid(path: Path) -> int:
    """The process id in a file, once the file exists."""
    for _ in range(200):
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_stop_ends_the_job_and_the_run(tmp_path: Path) -> None:
    program = script(tmp_path, WAITING)
    definition = document(training("Train", program, tmp_path / "out"), callback("Last"))
    execution = LocalExecution(definition, {}, tmp_path / "runs/r1", "r1", ECHO)

    def stop() -> None:
        await_pid(program.with_suffix(".pid"))
        execution.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    outcome = execution.execute()
    thread.join()
    assert outcome.status == "Stopped"
    assert statuses(outcome) == {"Train": "Stopped", "Last": "NotRun"}
    assert is_gone(await_pid(program.with_suffix(".pid")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_termination_leave_no_child_behind(tmp_path: Path, number: signal.Signals) -> None:
    program = script(tmp_path, WAITING)
    definition = tmp_path / "definition.json"
    definition.write_text(json.dumps(document(training("Train", program, tmp_path / "out"))))
    parent = f"""
import json
from pathlib import Path
from pipeline.local import Bindings, LocalExecution
definition = json.loads(Path({str(definition)!r}).read_text())
LocalExecution(definition, {{}}, Path({str(tmp_path / "r1")!r}), "r1", Bindings()).execute()
"""
    child = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stderr=subprocess.DEVNULL)
    job = await_pid(program.with_suffix(".pid"))
    child.send_signal(number)
    assert child.wait(20) != 0
    assert is_gone(job)
    outcome = json.loads((tmp_path / "r1/outcome.json").read_text())
    assert (outcome["status"], outcome["steps"]["Train"]["status"]) == ("Stopped", "Stopped")


def test_an_interruption_is_recorded_and_propagates(tmp_path: Path) -> None:
    def interrupt(event: StepEvent) -> None:
        raise KeyboardInterrupt

    execution = LocalExecution(document(callback("A"), callback("B")), {}, tmp_path / "r1", "r1", ECHO)
    with pytest.raises(KeyboardInterrupt):
        execution.execute(interrupt)
    outcome = json.loads((tmp_path / "r1/outcome.json").read_text())
    assert outcome["status"] == "Stopped"
    assert [step["status"] for step in outcome["steps"].values()] == ["Stopped", "NotRun"]
