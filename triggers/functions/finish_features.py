"""The function that hears of the Glue job's end and answers the pipeline step that waits for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from processing.storage.home import Home
from processing.storage.open import open_home
from triggers.functions.glue_runs import FeatureJob
from triggers.functions.sagemaker_runs import CallbackAnswers
from triggers.functions.settings import read_settings

OUTPUTS = ("train_url", "test_url", "contract_url", "rows_accepted", "rows_refused")
SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True)
class Settings:
    """home: the address of the home; job: the Glue job's name."""

    home: str
    job: str


def handler(event: dict[str, Any], context: Any) -> Any:
    """Answer the step behind each ended job run; returns the messages that failed, as SQS wants it."""
    logger = Logger(service="fraudline-finish-features")
    settings = read_settings(Settings)
    home, job, answers = open_home(settings.home), FeatureJob(settings.job), CallbackAnswers()

    def take(record: SQSRecord) -> None:
        ended = json.loads(record.body)["detail"]
        logger.info(finish(ended, home, job, answers), extra={"job_run": ended["jobRunId"], "state": ended["state"]})

    return process_partial_response(event, take, BatchProcessor(EventType.SQS), context)


def finish(ended: Mapping[str, Any], home: Home, job: FeatureJob, answers: CallbackAnswers) -> str:
    """Answer the step that waits for a job run, given the event's detail; what was done, in words.

    Raises NotFound if a run that succeeded left no record in the home.
    """
    job_run = job.describe(ended["jobRunId"])
    if job_run.token is None:
        return "nobody waits for this job run: it was started by hand"
    if ended["state"] == SUCCEEDED:
        done = json.loads(home.read(f"runs/{job_run.run}/features.json"))
        waited = answers.succeed(job_run.token, {name: str(done[name]) for name in OUTPUTS})
    else:
        why = job_run.error or ended.get("message") or "it left no message"
        waited = answers.fail(job_run.token, f"the feature job ended as {ended['state']}: {why}")
    return "answered the step" if waited else "the step does not wait any more"
