"""The Lambda functions: events arrive twice, late and out of order, and no error goes unnoticed."""

import hashlib
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from pipeline.definition.pipeline import FEATURE_OUTPUTS
from pipeline.infrastructure.lambda_package import package as lay_out
from pipeline.registry.registry import CorruptModel, Registry
from processing.errors import BadInput, NotFound
from processing.intake.file_names import is_readable
from processing.storage.home import Entry
from processing.storage.open import open_home
from triggers.functions import approve, finish_features, model_age, promote, start_features, start_run
from triggers.functions.function_settings import read_settings
from triggers.functions.glue_runs import GlueJobRuns
from triggers.functions.sagemaker_runs import CallbackResponses, Execution, ModelPackages, PipelineRuns
from triggers.functions.start_run import RUN_ENDED, SCHEDULE, decide

ARRIVED = {"detail-type": "Object Created", "detail": {"object": {"key": "incoming/a.csv"}}}
MONTHLY = {"detail-type": SCHEDULE, "time": "2026-11-01T03:00:00Z", "detail": {}}
A, B = Entry("incoming/a.csv", 10, 1.0), Entry("incoming/b.parquet", 20, 2.0)


def ended(arn: str) -> dict[str, Any]:
    return {"detail-type": RUN_ENDED, "detail": {"pipelineExecutionArn": arn}}


# Starting a run


def test_a_burst_of_files_and_events_makes_one_run() -> None:
    plan = decide([ARRIVED] * 10, [A, B], [])
    assert plan.name.startswith("data-")
    assert "2 file(s)" in plan.reason
    assert decide([ARRIVED], [B, A], []).token == plan.token
    assert 32 <= len(plan.token) <= 128  # SageMaker's limits


def test_a_repeated_event_starts_nothing() -> None:
    name = decide([ARRIVED], [A], []).name
    assert decide([ARRIVED], [A], [Execution("arn:1", name, going=True)]).name == ""
    assert decide([ARRIVED], [A], [Execution("arn:1", name, going=False)]).name == ""
    assert decide([ARRIVED], [], [Execution("arn:1", name, going=False)]).name == ""


def test_data_that_arrives_during_a_run_makes_one_more_run_when_it_ends() -> None:
    going = [Execution("arn:1", decide([ARRIVED], [A], []).name, going=True)]
    assert "in progress" in decide([ARRIVED], [A, B], going).reason
    more = decide([ended("arn:1")], [B], going)  # the list may still show it as executing
    assert more.name
    assert decide([ended("arn:1")], [B], [Execution("arn:2", more.name, going=True), *going]).name == ""


def test_a_failed_run_is_restarted_by_a_new_upload_but_not_by_its_own_end() -> None:
    failed = [Execution("arn:1", decide([ARRIVED], [A], []).name, going=False)]
    assert decide([ended("arn:1")], [A], failed).name == ""
    assert decide([ARRIVED], [Entry(A.key, A.size, 99.0)], failed).name


def test_the_schedule_makes_exactly_one_run_even_without_new_files() -> None:
    plan = decide([MONTHLY, MONTHLY], [], [])
    assert plan.name.startswith("monthly-")
    assert decide([MONTHLY], [], [Execution("arn:1", plan.name, going=False)]).name == ""
    assert decide([{**MONTHLY, "time": "2026-12-01T03:00:00Z"}], [], [Execution("arn:1", plan.name, False)]).name


def test_a_file_counts_as_waiting_if_the_feature_job_reads_it() -> None:
    assert start_run.is_readable is is_readable


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["land", "deliver", "repeat", "lose", "end"]), st.integers(0, 99))))
def test_in_any_order_of_events_runs_do_not_overlap_and_every_file_is_read(
    actions: list[tuple[str, int]],
) -> None:
    waiting: list[Entry] = []
    executions: list[Execution] = []
    in_transit: list[dict[str, Any]] = []  # events not yet delivered, in any order
    delivered: list[dict[str, Any]] = []

    def deliver(event: dict[str, Any]) -> None:
        plan = decide([event], list(waiting), executions)
        if plan.name:
            assert not any(execution.going for execution in executions)
            executions.insert(0, Execution(f"arn:{len(executions)}", plan.name, going=True))

    def end() -> None:
        if executions and executions[0].going:
            first = executions[0]
            executions[0] = Execution(first.arn, first.name, going=False)
            waiting.clear()
            in_transit.append(ended(first.arn))

    for number, (what, which) in enumerate([*actions, ("land", 0)]):
        if what == "land":
            waiting.append(Entry(f"incoming/{number}.csv", 1, float(number)))
            in_transit.append(ARRIVED)
        elif what == "deliver" and in_transit:
            delivered.append(in_transit.pop(which % len(in_transit)))
            deliver(delivered[-1])
        elif what == "repeat" and delivered:
            deliver(delivered[which % len(delivered)])
        elif what == "lose" and in_transit:
            in_transit.pop(which % len(in_transit))
        elif what == "end":
            end()
    while in_transit:
        deliver(in_transit.pop())
        end()
    assert not waiting
    assert not any(execution.going for execution in executions)


def sqs(*bodies: Any, attempt: int = 1) -> dict[str, Any]:
    def record(place: int, body: Any) -> dict[str, Any]:
        return {
            "messageId": str(place),
            "body": json.dumps(body),
            "attributes": {"ApproximateReceiveCount": str(attempt)},
            "eventSource": "aws:sqs",
        }

    return {"Records": [record(place, body) for place, body in enumerate(bodies)]}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


def test_the_function_starts_an_execution_named_for_its_cause(
    aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDLINE_HOME", str(tmp_path))
    monkeypatch.setenv("FRAUDLINE_PIPELINE", "fraudline")
    sagemaker = boto3.client("sagemaker")
    role = "arn:aws:iam::123456789012:role/pipeline"
    sagemaker.create_pipeline(
        PipelineName="fraudline", PipelineDefinition="{}", RoleArn=role, ClientRequestToken="t" * 32
    )
    (tmp_path / "incoming").mkdir()
    assert start_run.handler(sqs(ARRIVED), None)["started"] == ""
    (tmp_path / "incoming" / "a.csv").write_text("x")
    answer = start_run.handler(sqs(ARRIVED, ARRIVED), None)
    assert answer["started"].startswith("arn:aws:sagemaker:")
    [execution] = sagemaker.list_pipeline_executions(PipelineName="fraudline")["PipelineExecutionSummaries"]
    assert execution["PipelineExecutionArn"] == answer["started"]
    assert execution["PipelineExecutionDisplayName"].startswith("data-")


def test_a_start_that_fails_leaves_its_messages_in_the_queue(
    aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDLINE_HOME", str(tmp_path))
    monkeypatch.setenv("FRAUDLINE_PIPELINE", "no-such-pipeline")
    with pytest.raises(ClientError):
        start_run.handler(sqs(ARRIVED), None)


# The Features step


class Services:
    """Stubs of SageMaker and Glue, which check requests by the service models."""

    def __init__(self) -> None:
        names = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-west-1"}
        self.sagemaker_client = boto3.client("sagemaker", **names)
        self.glue_client = boto3.client("glue", **names)
        self.sagemaker, self.glue = Stubber(self.sagemaker_client), Stubber(self.glue_client)
        self.sagemaker.activate()
        self.glue.activate()
        self.job_runs = GlueJobRuns("features", self.glue_client)
        self.responses = CallbackResponses(self.sagemaker_client)
        self.packages = ModelPackages(self.sagemaker_client)

    def list_job_runs(self, *runs: dict[str, Any]) -> None:
        self.glue.add_response("get_job_runs", {"JobRuns": list(runs)}, {"JobName": "features", "MaxResults": ANY})

    def expect_failure(self, reason: str) -> None:
        expected = {"CallbackToken": TOKEN, "FailureReason": reason, "ClientRequestToken": ANY}
        answer = {"PipelineExecutionArn": "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/p/execution/e"}
        self.sagemaker.add_response("send_pipeline_execution_step_failure", answer, expected)

    def assert_all_requested(self) -> None:
        self.sagemaker.assert_no_pending_responses()
        self.glue.assert_no_pending_responses()


TOKEN = "token123ab"
MESSAGE = {
    "token": TOKEN,
    "pipelineExecutionArn": "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/p/execution/e",
    "arguments": {"run": "r1", "home": "s3://bucket", "input_url": "s3://bucket/incoming/"},
}
ARGUMENTS = {"--run": "r1", "--home": "s3://bucket", "--input-url": "s3://bucket/incoming/", "--callback-token": TOKEN}
JOB_RUN = {"Id": "jr_1", "Arguments": ARGUMENTS}


@pytest.fixture
def services() -> Services:
    return Services()


def test_a_callback_message_starts_the_job_with_its_token(services: Services) -> None:
    services.list_job_runs({"Id": "jr_0", "Arguments": {**ARGUMENTS, "--callback-token": "another"}})
    expected = {"JobName": "features", "Arguments": ARGUMENTS}
    services.glue.add_response("start_job_run", {"JobRunId": "jr_1"}, expected)
    assert start_features.start(MESSAGE, services.job_runs, services.responses) == "started the job run jr_1"
    services.assert_all_requested()


def test_the_job_learns_which_code_the_run_brings_along(services: Services) -> None:
    services.list_job_runs()
    expected = {"JobName": "features", "Arguments": {**ARGUMENTS, "--code": "d" * 64}}
    services.glue.add_response("start_job_run", {"JobRunId": "jr_1"}, expected)
    arguments = {**MESSAGE["arguments"], "code": "d" * 64}
    start_features.start({**MESSAGE, "arguments": arguments}, services.job_runs, services.responses)
    services.assert_all_requested()


def test_a_repeated_message_starts_nothing(services: Services) -> None:
    services.list_job_runs(JOB_RUN)
    assert "already" in start_features.start(MESSAGE, services.job_runs, services.responses)
    services.assert_all_requested()


def test_stopping_the_execution_stops_the_job(services: Services) -> None:
    services.list_job_runs(JOB_RUN)
    services.glue.add_response("batch_stop_job_run", {}, {"JobName": "features", "JobRunIds": ["jr_1"]})
    start_features.start({**MESSAGE, "status": "Stopping"}, services.job_runs, services.responses)
    services.list_job_runs()
    services.expect_failure("the execution was stopped before the feature job started")
    start_features.start({**MESSAGE, "status": "Stopping"}, services.job_runs, services.responses)
    services.assert_all_requested()


@pytest.mark.parametrize(("attempt", "fails_step"), [(1, False), (4, True)])
def test_the_last_failed_attempt_fails_the_step_with_the_reason(
    services: Services, monkeypatch: pytest.MonkeyPatch, attempt: int, fails_step: bool
) -> None:
    monkeypatch.setenv("FRAUDLINE_JOB", "features")
    monkeypatch.setenv("FRAUDLINE_ATTEMPTS", "4")
    monkeypatch.setattr(start_features, "GlueJobRuns", lambda name: services.job_runs)
    monkeypatch.setattr(start_features, "CallbackResponses", lambda: services.responses)
    services.list_job_runs()
    services.glue.add_client_error("start_job_run", "AccessDeniedException", "may not", 400)
    if fails_step:
        denied = "An error occurred (AccessDeniedException) when calling the StartJobRun operation: may not"
        services.expect_failure(f"the feature job was not started: {denied}")
    with pytest.raises(Exception, match="may not"):  # all messages failed: the whole batch stays
        start_features.handler(sqs(MESSAGE, attempt=attempt), None)
    services.assert_all_requested()


def end_of(state: str, **more: str) -> dict[str, Any]:
    return {"jobName": "features", "jobRunId": "jr_1", "state": state, **more}


def described(services: Services, **more: Any) -> None:
    services.glue.add_response("get_job_run", {"JobRun": {**JOB_RUN, **more}}, {"JobName": "features", "RunId": "jr_1"})


def test_a_job_that_succeeds_passes_its_outputs_to_the_step(services: Services, tmp_path: Path) -> None:
    home = open_home(tmp_path)
    done = {name: f"s3://bucket/{name}" for name in FEATURE_OUTPUTS} | {"rows_accepted": 7, "more": 1}
    home.write("runs/r1/features.json", json.dumps(done).encode())
    described(services)
    outputs = [{"Name": name, "Value": str(done[name])} for name in FEATURE_OUTPUTS]
    services.sagemaker.add_response(
        "send_pipeline_execution_step_success",
        {},
        {"CallbackToken": TOKEN, "OutputParameters": outputs, "ClientRequestToken": ANY},
    )
    message = finish_features.finish(end_of("SUCCEEDED"), home, services.job_runs, services.responses)
    assert message == "answered the step"
    services.assert_all_requested()


@pytest.mark.parametrize("state", ["FAILED", "TIMEOUT", "STOPPED"])
def test_a_job_that_does_not_succeed_fails_the_step_with_its_message(
    services: Services, tmp_path: Path, state: str
) -> None:
    described(services, ErrorMessage="RuntimeError: 40 of 100 rows break the contract")
    services.expect_failure(f"the feature job ended as {state}: RuntimeError: 40 of 100 rows break the contract")
    finish_features.finish(end_of(state), open_home(tmp_path), services.job_runs, services.responses)
    services.assert_all_requested()


def test_a_long_reason_is_truncated_to_the_services_limit(services: Services, tmp_path: Path) -> None:
    described(services, ErrorMessage="x" * 1000)
    start = "the feature job ended as FAILED: "
    services.expect_failure(start + "x" * (255 - len(start)) + "…")
    finish_features.finish(end_of("FAILED"), open_home(tmp_path), services.job_runs, services.responses)


def test_a_success_without_a_record_is_an_error(services: Services, tmp_path: Path) -> None:
    described(services)
    with pytest.raises(NotFound, match=r"features\.json"):
        finish_features.finish(end_of("SUCCEEDED"), open_home(tmp_path), services.job_runs, services.responses)


def test_a_response_to_a_step_that_no_longer_waits_is_not_an_error(services: Services, tmp_path: Path) -> None:
    described(services)
    services.sagemaker.add_client_error("send_pipeline_execution_step_failure", "ResourceNotFound", "gone", 400)
    message = finish_features.finish(end_of("FAILED"), open_home(tmp_path), services.job_runs, services.responses)
    assert message == "the step no longer waits"


def test_a_job_run_started_by_hand_is_ignored(services: Services, tmp_path: Path) -> None:
    described(services, Arguments={"--run": "mine"})
    message = finish_features.finish(end_of("SUCCEEDED"), open_home(tmp_path), services.job_runs, services.responses)
    assert "by hand" in message


def test_the_outputs_are_those_that_the_step_declares() -> None:
    assert finish_features.OUTPUTS == FEATURE_OUTPUTS


# Approvals

GROUP_ARN = "arn:aws:sagemaker:eu-west-1:123456789012:model-package/fraudline/1"


def approval(seconds: float = 3600) -> dict[str, Any]:
    time = datetime.now(UTC) + timedelta(seconds=seconds)
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "detail": {"ModelPackageArn": GROUP_ARN}}


def package(services: Services, registry: Registry, version: str | None, status: str = "Approved", **more: str) -> None:
    described: dict[str, Any] = {
        "ModelPackageName": "p",
        "ModelPackageArn": GROUP_ARN,
        "CreationTime": datetime.now(UTC),
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "ModelApprovalStatus": status,
    }
    if version:
        evaluated = registry.open(version).digest
        described["CustomerMetadataProperties"] = {"version": version, "run": "r1", "manifest": evaluated, **more}
    services.sagemaker.add_response("describe_model_package", described, {"ModelPackageName": GROUP_ARN})


CONTRACT = b"any = 'text'"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(open_home(tmp_path))
    registry.home.write("contract.toml", CONTRACT)
    return registry


def publish(registry: Registry, content: bytes, passed: bool = True, verdict: str = "") -> str:
    metrics = {"metrics": {}, "gate": {"passed": passed, "verdict": verdict, "reason": "too weak"}}
    contract = {"digest": hashlib.sha256(CONTRACT).hexdigest()}
    manifest = {"contract": contract, "features": ["amount"], "threshold": 0.5}
    return registry.publish({"model.joblib": content}, manifest, metrics, datetime.now(UTC))


def test_an_approval_promotes_the_packages_version_once(services: Services, registry: Registry) -> None:
    version, event = publish(registry, b"1"), approval()
    for _ in range(2):
        package(services, registry, version)
        approve.approve(event, registry, services.packages)
    latest = registry.latest()
    assert latest is not None
    assert (latest.version, latest.serial) == (version, 1)
    assert GROUP_ARN in latest.by


def test_a_late_approval_does_not_undo_a_newer_promotion(services: Services, registry: Registry) -> None:
    old, new = publish(registry, b"1"), publish(registry, b"2")
    registry.promote(new, "ann", "better")
    package(services, registry, old)
    message = approve.approve(approval(seconds=-3600), registry, services.packages)
    assert "after this approval" in message
    latest = registry.latest()
    assert latest is not None
    assert latest.version == new


@pytest.mark.parametrize(
    ("named", "status", "message"), [(False, "Approved", "no version"), (True, "Rejected", "no longer approved")]
)
def test_a_package_that_is_not_ours_or_no_longer_approved_is_ignored(
    services: Services, registry: Registry, named: bool, status: str, message: str
) -> None:
    version = publish(registry, b"1")
    package(services, registry, version if named else None, status)
    assert message in approve.approve(approval(), registry, services.packages)
    assert registry.latest() is None


def test_an_approval_does_not_override_the_gate(services: Services, registry: Registry) -> None:
    package(services, registry, publish(registry, b"1", passed=False))
    with pytest.raises(BadInput, match="did not pass the gate: too weak"):
        approve.approve(approval(), registry, services.packages)
    assert registry.latest() is None


def test_an_approval_promotes_a_model_that_waited_for_it(services: Services, registry: Registry) -> None:
    version = publish(registry, b"1", passed=False, verdict="waiting")
    assert [one.status for one in registry.versions()] == ["waits for approval"]
    package(services, registry, version)
    approve.approve(approval(), registry, services.packages)
    latest = registry.latest()
    assert latest is not None
    assert (latest.version, latest.forced) == (version, False)


def test_an_approval_does_not_promote_a_model_that_the_api_would_refuse(services: Services, registry: Registry) -> None:
    package(services, registry, publish(registry, b"1"))
    registry.home.write("contract.toml", b"another = 'contract'")
    with pytest.raises(BadInput, match="was trained under another contract"):
        approve.approve(approval(), registry, services.packages)
    assert registry.latest() is None


def test_an_approval_promotes_only_the_evaluated_version(services: Services, registry: Registry) -> None:
    package(services, registry, publish(registry, b"1"), manifest="0" * 64)
    with pytest.raises(CorruptModel, match="is not what was evaluated"):
        approve.approve(approval(), registry, services.packages)
    assert registry.latest() is None


# The model's age, settings, what is shipped


def test_the_serving_models_age_is_measured(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDLINE_HOME", registry.home.url)
    assert model_age.handler({}, None) == {"days": None}
    registry.promote(publish(registry, b"1"), "ann", "first")
    printed = io.StringIO()
    with redirect_stdout(printed):
        days = model_age.handler({}, None)["days"]
    assert days == pytest.approx(0, abs=0.01)
    [metric] = [json.loads(line) for line in printed.getvalue().splitlines() if "_aws" in line]
    assert metric["ModelAgeDays"] == [days]
    assert metric["service"] == "fraudline-model-age"
    later = datetime.now(UTC) + timedelta(days=50)
    assert model_age.age(registry, later) == pytest.approx(50, abs=0.01)


def test_a_function_without_its_settings_names_the_missing_ones() -> None:
    with pytest.raises(BadInput, match="FRAUDLINE_JOB is not set; FRAUDLINE_ATTEMPTS is 'many'"):
        read_settings(start_features.StartFeaturesSettings, {"FRAUDLINE_ATTEMPTS": "many"})


def test_clients_are_created_by_default(aws: Any) -> None:
    assert PipelineRuns("fraudline").pipeline == "fraudline"


def test_the_package_contains_everything_that_the_functions_import(tmp_path: Path) -> None:
    lay_out(tmp_path)
    modules = [m.__name__ for m in (approve, finish_features, model_age, promote, start_features, start_run)]
    script = f"""
import importlib, sys
from pathlib import Path
shipped = Path({str(tmp_path)!r})
for name in {modules!r} + ["processing.storage.s3"]:
    importlib.import_module(name).__dict__.get("handler")
ours = ("pipeline", "processing", "triggers", "aws_lambda_powertools", "jmespath", "typing_extensions")
for name, module in list(sys.modules.items()):
    if name.split(".")[0] in ours:
        assert Path(module.__file__).is_relative_to(shipped), module
    elif getattr(module, "__file__", None) and "site-packages" in module.__file__:
        allowed = ("boto3", "botocore", "s3transfer", "dateutil", "six", "urllib3", "certifi")
        assert name.split(".")[0] in allowed or name.startswith("_"), name
"""
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=bare)
