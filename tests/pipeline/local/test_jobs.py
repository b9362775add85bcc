"""Training and processing jobs as real processes: what they see, what they write, how they fail."""

import json
import tarfile
from pathlib import Path

import pytest
from definition_entries import Entry, callback, channel, condition, document, get, join, json_get, run, script, training

from pipeline.local.jobs import JobFailed
from processing.errors import RunFailed
from processing.storage.open import open_home


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
        Environment={"EXTRA": "value"},
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
            "extra": "value",
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


def test_a_processing_job_writes_outputs_and_a_property_file(tmp_path: Path) -> None:
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
        folder = processing_path("test")
        texts = {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.txt"))}
        folder = processing_path("evaluation") / "a"
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(texts))
        """,
    )
    step = processing_step("Look", program, f"s3://{bucket}/sets/test", f"s3://{bucket}/output")
    after = callback("After", seen=json_get("Look", "report", "['day=1/a.txt']"))
    outcome = run(tmp_path, document(step, after)).require_success()
    assert outcome.steps["After"]["OutputParameters"] == {"seen": "4"}
    one = processing_step("One", program, f"s3://{bucket}/sets/one.txt", f"s3://{bucket}/output")
    run(tmp_path / "2", document(one)).require_success()
    assert json.loads(home.read("output/a/report.json")) == {"one.txt": "1"}
    nothing = processing_step("None", program, f"s3://{bucket}/nothing", f"s3://{bucket}/output")
    assert f"there is no data at s3://{bucket}/nothing" in str(run(tmp_path / "3", document(nothing)).reason)


# Failures


def test_the_reason_comes_from_the_failure_file(tmp_path: Path) -> None:
    program = script(tmp_path, "from pipeline.steps.container import fail\nprint('noise')\nfail('no rows')")
    outcome = run(tmp_path, document(training("Train", program, tmp_path / "out")))
    assert outcome.failure
    assert outcome.failure.reason == "no rows"


def test_the_reason_for_a_killed_job_names_the_signal(tmp_path: Path) -> None:
    program = script(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    outcome = run(tmp_path, document(training("Train", program, tmp_path / "out")))
    assert outcome.failure
    assert (outcome.failure.exit_code, "signal 9" in outcome.failure.reason) == (-9, True)


def test_the_command_does_not_exit_with_the_jobs_exit_code(tmp_path: Path) -> None:
    """Otherwise exit code 3 of a training script would look like one of `fraudline`'s own, and -9 would become 247."""
    for code in (3, -9):
        assert (JobFailed("no rows", code).exit_code, JobFailed("no rows", code).code) == (RunFailed.exit_code, code)


def test_the_reason_for_a_missing_input_names_the_channel(tmp_path: Path) -> None:
    inputs = [channel("train", str(tmp_path / "gone"))]
    step = training("Train", tmp_path, tmp_path / "out", InputDataConfig=inputs)
    assert "the channel train: there is no data at" in str(run(tmp_path, document(step)).reason)


# Imports


@pytest.mark.slow
def test_a_scripts_modules_and_the_projects_do_not_shadow_each_other(tmp_path: Path) -> None:
    """A script can import the modules next to it even if this project has modules of the same names."""
    names = ("model", "metrics", "threshold", "run", "home", "errors", "app", "schema")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"WHOSE = 'mine: {name}'\n")
    body = f"""
        import importlib, sys
        for name in {names}:
            assert importlib.import_module(name).WHOSE == f"mine: {{name}}", name
        import pipeline.estimators.trees, pipeline.evaluation.model_metrics, pipeline.evaluation.threshold
        import processing.storage.home, processing.errors
        from pipeline.steps import container
        assert pipeline.estimators.trees.trees and processing.errors.BadInput
        assert not hasattr(pipeline.evaluation.model_metrics, "WHOSE")
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
