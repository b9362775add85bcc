"""The pipeline's definition: SageMaker accepts its requests, and it runs on this machine unchanged."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from places import ROOT

from pipeline.definition import defaults
from pipeline.definition.pipeline import build_definition
from pipeline.definition.requests import LOCAL_ADDRESSES, Addresses, evaluation_request
from pipeline.local import Bindings, LocalExecution

ADDRESSES = Addresses(
    image="111122223333.dkr.ecr.eu-west-1.amazonaws.com/fraudline:1",
    features_queue_url="https://sqs.eu-west-1.amazonaws.com/111122223333/features",
    promote_function_arn="arn:aws:lambda:eu-west-1:111122223333:function:promote",
    training_role_arn="arn:aws:iam::111122223333:role/training",
    evaluation_role_arn="arn:aws:iam::111122223333:role/evaluation",
    model_package_group="fraud-models",
    home_url="s3://bucket/home",
    kms_key="arn:aws:kms:eu-west-1:111122223333:key/1",
    subnets=("subnet-1",),
    security_groups=("sg-1",),
)
OPERATIONS = {
    "Training": ("CreateTrainingJob", "TrainingJobName"),
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "RegisterModel": ("CreateModelPackage", "ClientToken"),
}


@pytest.fixture(scope="session")
def definition() -> dict[str, Any]:
    return build_definition(ADDRESSES)


def steps_of(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        yield entry
        if entry["Type"] == "Condition":
            yield from steps_of(entry["Arguments"]["IfSteps"] + entry["Arguments"]["ElseSteps"])


def steps_by_name(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["Name"]: step for step in steps_of(definition["Steps"])}


def with_placeholders(value: Any, types: dict[str, str]) -> Any:
    """Replace every pipeline variable with a value of its type, as SageMaker will."""
    if isinstance(value, list):
        return [with_placeholders(item, types) for item in value]
    if not isinstance(value, dict):
        return value
    if "Get" in value and value["Get"].startswith("Parameters."):
        return {"String": "text", "Integer": 1, "Float": 0.5}[types[value["Get"].removeprefix("Parameters.")]]
    if len(value) == 1 and next(iter(value)) in ("Get", "Std:Join", "Std:JsonGet"):
        return "text"
    return {key: with_placeholders(item, types) for key, item in value.items()}


def refusal(kind: str, arguments: dict[str, Any]) -> str:
    """Why the service would refuse a request according to its model; empty if it would not."""
    operation, name = OPERATIONS[kind]
    model = botocore.session.get_session().get_service_model("sagemaker").operation_model(operation)
    unknown = arguments.keys() - model.input_shape.members.keys()
    report = ParamValidator().validate({**arguments, name: "given-by-sagemaker"}, model.input_shape)
    return str(report.generate_report()) + "".join(f"unknown: {key}" for key in unknown)


def test_sagemaker_accepts_every_request(definition: dict[str, Any]) -> None:
    types = {parameter["Name"]: parameter["Type"] for parameter in definition["Parameters"]}
    checked = [step for step in steps_of(definition["Steps"]) if step["Type"] in OPERATIONS]
    assert [step["Name"] for step in checked] == [
        "Train",
        "Evaluate",
        "Register",
        "RegisterWaiting",
        "RegisterRejected",
    ]
    for step in checked:
        assert refusal(step["Type"], with_placeholders(step["Arguments"], types)) == ""


def test_the_check_of_requests_detects_a_number_in_place_of_text(definition: dict[str, Any]) -> None:
    arguments = with_placeholders(
        steps_by_name(definition)["Train"]["Arguments"], {"TrainingInstanceType": "String", "Estimator": "String"}
    )
    arguments["HyperParameters"]["random_seed"] = 0
    assert "HyperParameters.random_seed" in refusal("Training", arguments)


def test_parameters_have_the_expected_names_types_and_defaults(definition: dict[str, Any]) -> None:
    parameters = {p["Name"]: (p["Type"], p.get("DefaultValue")) for p in definition["Parameters"]}
    assert parameters == {
        "HomeUrl": ("String", "s3://bucket/home"),
        "InputDataUrl": ("String", None),
        "TrainingInstanceType": ("String", defaults.INSTANCE_TYPE),
        "ProcessingInstanceType": ("String", defaults.INSTANCE_TYPE),
        "ModelApprovalStatus": ("String", "Approved"),
        "MinAveragePrecision": ("Float", 0.1),
        "ConfidenceLevel": ("Float", 0.95),
        "NonInferiorityMargin": ("Float", 0.03),
        "LookbackDays": ("Integer", 180),
        "ForcedBy": ("String", ""),
        "AlertsPerDay": ("Integer", 0),
        "LearningRate": ("Float", 0.05),
        "MaxIterations": ("Integer", 300),
        "MaxLeafNodes": ("Integer", 16),
        "L2Regularization": ("Float", 10.0),
        "MaxFeatures": ("Float", 0.25),
        "RandomSeed": ("Integer", 0),
        "Estimator": ("String", "pipeline.estimators.trees:trees"),
        "Code": ("String", ""),
    }
    [approval] = [p for p in definition["Parameters"] if p["Name"] == "ModelApprovalStatus"]
    assert approval["EnumValues"] == ["Approved", "PendingManualApproval"]


def test_the_definition_uses_the_deployments_addresses(definition: dict[str, Any]) -> None:
    steps = steps_by_name(definition)
    assert steps["Features"]["SqsQueueUrl"] == ADDRESSES.features_queue_url
    assert steps["Promote"]["FunctionArn"] == ADDRESSES.promote_function_arn
    assert steps["Register"]["Arguments"]["ModelPackageGroupName"] == "fraud-models"
    roles = {"Train": ADDRESSES.training_role_arn, "Evaluate": ADDRESSES.evaluation_role_arn}
    for name, role in roles.items():
        assert steps[name]["Arguments"]["RoleArn"] == role
        text = json.dumps(steps[name]["Arguments"])
        for address in (ADDRESSES.image, ADDRESSES.kms_key, "subnet-1", "sg-1"):
            assert json.dumps(address) in text


def test_the_model_is_promoted_and_registered_with_the_manifest_digest_of_evaluation(
    definition: dict[str, Any],
) -> None:
    steps = steps_by_name(definition)
    manifest = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Evaluate.PropertyFiles.evaluation"}, "Path": "manifest"}}
    assert steps["Promote"]["Arguments"]["manifest"] == manifest
    for name in ("Register", "RegisterWaiting", "RegisterRejected"):
        assert steps[name]["Arguments"]["CustomerMetadataProperties"]["manifest"] == manifest


@pytest.mark.parametrize("packed_only", [True, False])
def test_evaluation_unpickles_nothing_if_only_packed_models_are_allowed(packed_only: bool) -> None:
    request = evaluation_request(
        replace(ADDRESSES, packed_only=packed_only), instance_type="x", arguments=[], inputs={}, output_url="s3://b"
    )
    assert ("FRAUDLINE_MODELS" in request["Environment"]) == packed_only


def test_jobs_are_retried_after_service_faults_and_nothing_is_cached(
    definition: dict[str, Any],
) -> None:
    for step in steps_of(definition["Steps"]):
        assert "CacheConfig" not in step
        if step["Type"] in OPERATIONS:
            retried = {fault for policy in step["RetryPolicies"] for fault in policy["ExceptionType"]}
            assert {"Step.SERVICE_FAULT", "Step.THROTTLING"} <= retried


@pytest.mark.slow
def test_building_the_definition_needs_no_credentials_or_network_and_has_no_side_effects() -> None:
    script = """
import logging, os, socket
def refuse(*_): raise SystemExit("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
from pipeline.definition.pipeline import definition_json
from pipeline.definition.requests import LOCAL_ADDRESSES
before = dict(os.environ)
definition_json(LOCAL_ADDRESSES)
import boto3
assert dict(os.environ) == before and boto3.DEFAULT_SESSION is None and not logging.getLogger().handlers
"""
    bare = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    subprocess.run([sys.executable, "-c", script], env=bare, check=True, cwd=ROOT)


STAND_IN = """#!{python}
import json, os, sys, tarfile
from pathlib import Path
from pipeline.steps import container
with container.reported_failures():
    if sys.argv[1:] == ["-m", "pipeline.steps.train"]:
        values = container.hyperparameters()
        assert (container.channel("train") / "rows.txt").read_text() == "train rows"
        assert (container.channel("contract") / "contract.toml").is_file()
        assert (container.channel("code") / "code.zip").read_text() == "modules"
        (container.model_dir() / "model.json").write_text(json.dumps(values))
    else:
        assert sys.argv[1:3] == ["-m", "pipeline.steps.evaluate"], sys.argv
        arguments = dict(zip(sys.argv[3:-1:2], sys.argv[4:-1:2]))
        assert arguments["--run"] == "r1" and arguments["--floor"] == "0.1", arguments
        assert sys.argv[-1] == "--forced-by=", sys.argv
        assert (container.processing_path("code") / "code.zip").read_text() == "modules"
        with tarfile.open(container.processing_path("model") / "model.tar.gz") as archive:
            values = json.load(archive.extractfile("model.json"))
        assert values["random_seed"] == "0" and values["learning_rate"] == "0.05", values
        gate = {{"verdict": os.environ["VERDICT"], "reason": "why"}}
        (container.processing_path("evaluation") / "evaluation.json").write_text(
            json.dumps({{"version": "v1", "manifest": "m1", "metrics": {{}}, "champion": None, "gate": gate}}))
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    """A `python3` that stands in for training and evaluation."""
    path = tmp_path / "python3"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("verdict", "approval", "package", "promoted"),
    [
        ("passed", "Approved", "Register", ["v1"]),
        ("passed", "PendingManualApproval", "Register", []),
        ("forced", "Approved", "Register", ["v1"]),
        ("rejected", "Approved", "RegisterRejected", []),
        ("waiting", "Approved", "RegisterWaiting", []),
    ],
)
def test_the_definition_runs_on_this_machine_unchanged(
    definition: dict[str, Any],
    tmp_path: Path,
    stand_in: str,
    monkeypatch: pytest.MonkeyPatch,
    verdict: str,
    approval: str,
    package: str,
    promoted: list[str],
) -> None:
    monkeypatch.setenv("VERDICT", verdict)
    home = tmp_path / "a home"
    serving: list[str] = []

    def features(message: dict[str, Any], log: Any) -> dict[str, str]:
        arguments = message["arguments"]
        assert arguments["run"] == "r1"
        assert arguments["home"] == home.as_uri()
        assert arguments["code"] == "d" * 64
        for name in ("train", "test"):
            folder = home / "runs/r1" / name
            folder.mkdir(parents=True)
            (folder / "rows.txt").write_text(f"{name} rows")
        (home / "contract.toml").touch()
        (home / "runs/r1/code").mkdir()
        (home / "runs/r1/code/code.zip").write_text("modules")
        return {
            "train_url": (home / "runs/r1/train").as_uri(),
            "test_url": (home / "runs/r1/test").as_uri(),
            "contract_url": (home / "contract.toml").as_uri(),
            "code_url": (home / "runs/r1/code").as_uri(),
            "rows_accepted": "2",
            "rows_refused": "0",
        }

    def promote(event: dict[str, Any], context: Any) -> dict[str, str]:
        serving.append(event["version"])
        return {"promoted": event["version"]}

    execution = LocalExecution(
        definition,
        {
            "HomeUrl": home.as_uri(),
            "InputDataUrl": (home / "incoming").as_uri(),
            "ModelApprovalStatus": approval,
            "Code": "d" * 64,
        },
        home / "runs/r1",
        "r1",
        Bindings(
            callbacks={ADDRESSES.features_queue_url: features},
            lambdas={ADDRESSES.promote_function_arn: promote},
            python=stand_in,
        ),
    )
    outcome = execution.execute().require_success()

    assert serving == promoted
    assert outcome.steps[package]["status"] == "Succeeded"
    registrations = ("Register", "RegisterRejected", "RegisterWaiting")
    assert [name for name in registrations if outcome.steps[name]["status"] != "NotRun"] == [package]
    folder = home / "runs/r1/steps"
    recorded = json.loads((folder / package / "model-package.json").read_text())
    assert recorded["CustomerMetadataProperties"] == {"version": "v1", "manifest": "m1", "run": "r1"}
    expected = {
        "Register": (approval, None),
        "RegisterRejected": ("Rejected", "why"),
        "RegisterWaiting": ("PendingManualApproval", "why"),
    }[package]
    assert (recorded["ModelApprovalStatus"], recorded.get("ModelPackageDescription")) == expected
    for name, kind in (("Train", "Training"), ("Evaluate", "Processing"), (package, "RegisterModel")):
        assert refusal(kind, json.loads((folder / name / "arguments.json").read_text())) == ""


def test_local_addresses_have_no_home() -> None:
    assert LOCAL_ADDRESSES.home_url is None
