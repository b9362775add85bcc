"""What the triggers ask of AWS Glue: runs of the feature job.

A job run carries the callback token of the pipeline step it works for among its arguments, so whoever sees it
end knows whom to answer, and no record of it is kept elsewhere.
"""

from dataclasses import dataclass
from typing import Any

import boto3

RUN, HOME, INPUT, TOKEN = "--run", "--home", "--input-url", "--callback-token"
LOOKED_AT = 50


@dataclass(frozen=True)
class JobRun:
    """A run of the job: the pipeline run it works for, and the token to answer with (None: nobody waits)."""

    id: str
    run: str
    home: str
    token: str | None
    error: str


class FeatureJob:
    """The Glue job of a deployment. Every call raises botocore's errors."""

    def __init__(self, job: str, client: Any = None) -> None:
        self.job = job
        self._client = client or boto3.client("glue")

    def start(self, arguments: dict[str, str]) -> str:
        """Start a run of the job; its id."""
        return str(self._client.start_job_run(JobName=self.job, Arguments=arguments)["JobRunId"])

    def find(self, token: str) -> JobRun | None:
        """The run that works for the step with that token, if there is one already."""
        answer = self._client.get_job_runs(JobName=self.job, MaxResults=LOOKED_AT)
        runs = [_job_run(found) for found in answer["JobRuns"]]
        return next((run for run in runs if run.token == token), None)

    def describe(self, job_run_id: str) -> JobRun:
        """A run by its id."""
        return _job_run(self._client.get_job_run(JobName=self.job, RunId=job_run_id)["JobRun"])

    def stop(self, job_run_id: str) -> None:
        """Ask a run to stop; it ends some time later."""
        self._client.batch_stop_job_run(JobName=self.job, JobRunIds=[job_run_id])


def _job_run(found: dict[str, Any]) -> JobRun:
    arguments = found.get("Arguments", {})
    return JobRun(
        id=found["Id"],
        run=arguments.get(RUN, ""),
        home=arguments.get(HOME, ""),
        token=arguments.get(TOKEN),
        error=found.get("ErrorMessage", ""),
    )
