"""The function that runs when the Glue job ends: answers the pipeline step that waits for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from processing.storage.home import Home
from processing.storage.open import open_home
from triggers.functions.function_settings import read_settings
from triggers.functions.glue_runs import GlueJobRuns
from triggers.functions.sagemaker_runs import CallbackResponses

OUTPUTS = ("train_url", "test_url", "contract_url", "code_url", "rows_accepted", "rows_refused")
SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True)
class FinishFeaturesSettings:
    """home: the address of the home; job: the Glue job's name."""

    home: str
    job: str


def handler(event: dict[str, Any], context: Any) -> Any:
    """Answer the step of each ended job run; returns the messages that failed, in the form that SQS expects."""
    logger = Logger(service="fraudline-finish-features")
    settings = read_settings(FinishFeaturesSettings)
    home, job_runs, responses = open_home(settings.home), GlueJobRuns(settings.job), CallbackResponses()

    def process(record: SQSRecord) -> None:
        end = json.loads(record.body)["detail"]
        logger.info(finish(end, home, job_runs, responses), extra={"job_run": end["jobRunId"], "state": end["state"]})

    return process_partial_response(event, process, BatchProcessor(EventType.SQS), context)


def finish(end: Mapping[str, Any], home: Home, job_runs: GlueJobRuns, responses: CallbackResponses) -> str:
    """Answer the step that waits for a job run, given the event's detail; returns what was done, for the log.

    Raises NotFound if a job run that succeeded left no record in the home.
    """
    job_run = job_runs.describe(end["jobRunId"])
    if job_run.token is None:
        return "no step waits for this job run: it was started by hand"
    if end["state"] == SUCCEEDED:
        record = json.loads(home.read(f"runs/{job_run.run}/features.json"))
        waited = responses.succeed(job_run.token, {name: str(record[name]) for name in OUTPUTS})
    else:
        why = job_run.error or end.get("message") or "it left no message"
        waited = responses.fail(job_run.token, f"the feature job ended as {end['state']}: {why}")
    return "answered the step" if waited else "the step no longer waits"
