"""What the triggers ask of SageMaker: executions of the pipeline, the answers to its Callback step, model packages."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3

GOING = ("Executing", "Stopping")
LOOKED_AT = 50  # the newest executions; more than one going on is already an exception
REASON_LENGTH = 256  # the longest that the service takes


@dataclass(frozen=True)
class Execution:
    """One execution of the pipeline: its ARN, the name it was started under, whether it still goes on."""

    arn: str
    name: str
    going: bool


@dataclass(frozen=True)
class Package:
    """A model package: the version it stands for (None if it is none of ours) and whether it is approved now.

    manifest: the SHA-256 of the version's manifest as it was evaluated; packages of a time before that have none
    """

    version: str | None
    approved: bool
    manifest: str | None = None


class PipelineRuns:
    """The SageMaker pipeline of a deployment. Every call raises botocore's errors."""

    def __init__(self, pipeline: str, client: Any = None) -> None:
        self.pipeline = pipeline
        self._client = client or boto3.client("sagemaker")

    def latest(self) -> list[Execution]:
        """The newest executions, newest first."""
        answer = self._client.list_pipeline_executions(
            PipelineName=self.pipeline, SortBy="CreationTime", SortOrder="Descending", MaxResults=LOOKED_AT
        )
        return [
            Execution(
                arn=found["PipelineExecutionArn"],
                name=found.get("PipelineExecutionDisplayName", ""),
                going=found.get("PipelineExecutionStatus") in GOING,
            )
            for found in answer["PipelineExecutionSummaries"]
        ]

    def start(self, name: str, reason: str, token: str) -> str:
        """Start an execution; its ARN. Of calls with the same token only the first starts one."""
        answer = self._client.start_pipeline_execution(
            PipelineName=self.pipeline,
            PipelineExecutionDisplayName=name,
            PipelineExecutionDescription=reason,
            ClientRequestToken=token,
        )
        return str(answer["PipelineExecutionArn"])


class CallbackAnswers:
    """The answers that a Callback step waits for. Every call raises botocore's errors."""

    def __init__(self, client: Any = None) -> None:
        self._client = client or boto3.client("sagemaker")

    def succeed(self, token: str, outputs: Mapping[str, str]) -> bool:
        """Let the step succeed with these outputs. False: no step waits for that answer any more."""
        return self._answer(
            self._client.send_pipeline_execution_step_success,
            token,
            "success",
            OutputParameters=[{"Name": name, "Value": value} for name, value in outputs.items()],
        )

    def fail(self, token: str, reason: str) -> bool:
        """Let the step fail for this reason. False: no step waits for that answer any more."""
        said = reason if len(reason) <= REASON_LENGTH else f"{reason[: REASON_LENGTH - 1]}…"
        return self._answer(self._client.send_pipeline_execution_step_failure, token, "failure", FailureReason=said)

    def _answer(self, send: Any, token: str, kind: str, **answer: Any) -> bool:
        once = hashlib.sha256(f"{kind} {token}".encode()).hexdigest()
        try:
            send(CallbackToken=token, ClientRequestToken=once, **answer)
        except self._client.exceptions.ResourceNotFound:
            return False
        return True


class ModelPackages:
    """SageMaker's model registry. Every call raises botocore's errors."""

    def __init__(self, client: Any = None) -> None:
        self._client = client or boto3.client("sagemaker")

    def describe(self, arn: str) -> Package:
        """A package by its ARN."""
        found = self._client.describe_model_package(ModelPackageName=arn)
        metadata = found.get("CustomerMetadataProperties", {})
        approved = found.get("ModelApprovalStatus") == "Approved"
        return Package(metadata.get("version"), approved, metadata.get("manifest"))
