"""Every status in the models of the AWS services is known, and shown or skipped on purpose."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.definition import glue_statuses
from pipeline.local import StepEvent
from pipeline.runs import aws_run, sagemaker_statuses
from pipeline.runs.aws_run import AwsRun
from pipeline.runs.progress import MARKS, shown
from triggers.functions import sagemaker_runs

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/fraudline/execution/abcdefghijkl"


def values_of(service: str, kind: str) -> list[str]:
    """All values of a kind of status in a service's model."""
    values: list[str] = botocore.session.get_session().get_service_model(service).shape_for(kind).enum
    assert values
    return values


STEP, EXECUTION = values_of("sagemaker", "StepStatus"), values_of("sagemaker", "PipelineExecutionStatus")


def test_each_step_status_is_known_as_in_progress_or_ended() -> None:
    assert sorted(STEP) == sorted((*sagemaker_statuses.GOING, *sagemaker_statuses.ENDED))
    assert set(MARKS) == set(sagemaker_statuses.ENDED)


def test_each_execution_status_is_known_as_in_progress_or_ended() -> None:
    assert sorted(EXECUTION) == sorted((*sagemaker_runs.GOING, *sagemaker_statuses.ENDED))


def test_each_glue_job_status_is_known_as_in_progress_or_ended() -> None:
    assert sorted(values_of("glue", "JobRunState")) == sorted((*glue_statuses.GOING, *glue_statuses.ENDED))


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("status", [*STEP, "NotRun", "SomethingNew"])
def test_each_step_status_is_shown_or_skipped(status: str, terminal: bool, tmp_path: Path) -> None:
    printed = StringIO()
    with shown(Console(file=printed, force_terminal=terminal, width=120)) as progress:
        progress(StepEvent("Train", "Training", status, tmp_path / "log"))
    assert ("Train" in re.sub(r"\x1b\[\?25[lh]", "", printed.getvalue())) or status not in sagemaker_statuses.ENDED
    if not terminal:
        assert ("Train" in printed.getvalue()) == (status in sagemaker_statuses.ENDED)


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B"]), st.sampled_from([*STEP, "NotRun", "SomethingNew"])), max_size=20)
)
def test_each_finished_step_is_shown_once_in_any_order(events: list[tuple[str, str]]) -> None:
    printed = StringIO()
    with shown(Console(file=printed, width=120)) as progress:
        for step, status in events:
            progress(StepEvent(step, "Training", status, Path("/nowhere/log")))
    ended = [step for step, status in events if status in sagemaker_statuses.ENDED]
    assert [line.split()[1] for line in printed.getvalue().splitlines()] == ended


def listed(*steps: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"PipelineExecutionSteps": [{"StepName": name, "StepStatus": status, **more} for name, status in steps]}


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """A SageMaker client whose responses are checked against the service's model."""
    client = boto3.client("sagemaker", "eu-central-1", aws_access_key_id="test", aws_secret_access_key="test")
    monkeypatch.setattr(aws_run, "client", lambda name: client)
    monkeypatch.setattr(aws_run, "POLL_SECONDS", 0.0)
    with Stubber(client) as stub:
        yield stub


def test_a_run_is_followed_through_every_status(sagemaker: Stubber, tmp_path: Path) -> None:
    going = [status for status in EXECUTION if status not in sagemaker_statuses.ENDED]
    order = [status for status in STEP if status not in sagemaker_statuses.ENDED]
    for i, status in enumerate(order):
        described = {"PipelineExecutionStatus": going[i % len(going)]}
        sagemaker.add_response("describe_pipeline_execution", described, {"PipelineExecutionArn": ARN})
        sagemaker.add_response(
            "list_pipeline_execution_steps",
            listed(("Features", "Succeeded"), ("Train", status)),
            {"PipelineExecutionArn": ARN, "SortOrder": ANY, "MaxResults": ANY},
        )
    sagemaker.add_response("describe_pipeline_execution", {"PipelineExecutionStatus": "Stopped"}, None)
    last = listed(("Features", "Succeeded"), ("Train", "Stopped"), EndTime=NOW)
    last["PipelineExecutionSteps"][0]["StartTime"] = NOW - timedelta(seconds=5)
    sagemaker.add_response("list_pipeline_execution_steps", last, None)
    printed, run = StringIO(), AwsRun(ARN, {})
    with shown(Console(file=printed, width=120)) as progress:
        ended = run.follow(progress, tmp_path)
    assert ended["PipelineExecutionStatus"] == "Stopped"
    assert [line.split()[:2] for line in printed.getvalue().splitlines()] == [["✓", "Features"], ["■", "Train"]]


@pytest.mark.parametrize("status", [each for each in STEP if each != "Failed"])
def test_the_failed_step_is_named_regardless_of_the_status_of_the_others(status: str) -> None:
    run = AwsRun(ARN, {})
    run.steps = {name: {"StepName": name, "StepStatus": status} for name in ("One", "Two")}
    run.steps["Train"] = {"StepName": "Train", "StepStatus": "Failed", "FailureReason": "no rows"}
    assert run.failure({"PipelineExecutionStatus": "Failed"}).startswith("Train: no rows")
    del run.steps["Train"]
    assert run.failure({"PipelineExecutionStatus": "Failed", "FailureReason": "a quota"}).startswith(
        "One: Stopped" if status == "Stopped" else "run abcdefghijkl ended as Failed: a quota"
    )
