"""Runs of the feature job in AWS Glue.

A job run has the callback token of its pipeline step among its arguments. So whoever sees the job run end knows which
step to answer, and no other record is needed.
"""

from dataclasses import dataclass
from typing import Any

import boto3

RUN, HOME, INPUT, CODE, TOKEN = "--run", "--home", "--input-url", "--code", "--callback-token"
NEWEST = 50  # job runs that are searched for a token


@dataclass(frozen=True)
class JobRun:
    """A job run. run: the pipeline run it belongs to; token: of the step that waits for it, None if none does."""

    id: str
    run: str
    home: str
    token: str | None
    error: str


class GlueJobRuns:
    """The runs of one Glue job. Every call raises botocore's errors."""

    def __init__(self, job: str, client: Any = None) -> None:
        self.job = job
        self._client = client or boto3.client("glue")

    def start(self, arguments: dict[str, str]) -> str:
        """Start a job run; returns its id."""
        return str(self._client.start_job_run(JobName=self.job, Arguments=arguments)["JobRunId"])

    def find(self, token: str) -> JobRun | None:
        """The job run for the step with this token, if it has been started."""
        answer = self._client.get_job_runs(JobName=self.job, MaxResults=NEWEST)
        job_runs = [_job_run(description) for description in answer["JobRuns"]]
        return next((job_run for job_run in job_runs if job_run.token == token), None)

    def describe(self, job_run_id: str) -> JobRun:
        """The job run with this id."""
        return _job_run(self._client.get_job_run(JobName=self.job, RunId=job_run_id)["JobRun"])

    def stop(self, job_run_id: str) -> None:
        """Request that a job run stop; it ends some time later."""
        self._client.batch_stop_job_run(JobName=self.job, JobRunIds=[job_run_id])


def _job_run(description: dict[str, Any]) -> JobRun:
    arguments = description.get("Arguments", {})
    return JobRun(
        id=description["Id"],
        run=arguments.get(RUN, ""),
        home=arguments.get(HOME, ""),
        token=arguments.get(TOKEN),
        error=description.get("ErrorMessage", ""),
    )
