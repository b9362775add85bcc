"""The function behind the pipeline's Features step: starts the Glue job for a message with a callback token.

It starts one job run per token, however often the message arrives. If the last attempt fails, it fails the step, and
the message goes to the dead-letter queue. If the message says that the execution is being stopped, it stops the job.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from triggers.functions.function_settings import read_settings
from triggers.functions.glue_runs import CODE, HOME, INPUT, RUN, TOKEN, GlueJobRuns
from triggers.functions.sagemaker_runs import CallbackResponses


@dataclass(frozen=True)
class StartFeaturesSettings:
    """job: the Glue job's name; attempts: how often the queue delivers a message before it gives up."""

    job: str
    attempts: int


def handler(event: dict[str, Any], context: Any) -> Any:
    """Start the feature job for each message; returns the messages that failed, in the form that SQS expects."""
    logger = Logger(service="fraudline-start-features")
    settings = read_settings(StartFeaturesSettings)
    job_runs, responses = GlueJobRuns(settings.job), CallbackResponses()

    def process(record: SQSRecord) -> None:
        message = json.loads(record.body)
        attempt = int(record.attributes.approximate_receive_count)
        try:
            logger.info(start(message, job_runs, responses), extra={"run": message["arguments"]["run"]})
        except Exception as error:
            logger.exception("the feature job was not started", extra={"attempt": attempt})
            if attempt >= settings.attempts:
                responses.fail(message["token"], f"the feature job was not started: {error}")
            raise

    return process_partial_response(event, process, BatchProcessor(EventType.SQS), context)


def start(message: Mapping[str, Any], job_runs: GlueJobRuns, responses: CallbackResponses) -> str:
    """Start, or stop, the job for a Callback step's message; returns what was done, for the log."""
    token, arguments = message["token"], message["arguments"]
    job_run = job_runs.find(token)
    if message.get("status") == "Stopping":
        if job_run is None:
            responses.fail(token, "the execution was stopped before the feature job started")
            return "stopped before it started"
        job_runs.stop(job_run.id)
        return f"stopping the job run {job_run.id}"
    if job_run is not None:
        return f"the job run {job_run.id} has already been started for this step"
    values = {
        RUN: arguments["run"],
        HOME: arguments["home"],
        INPUT: arguments.get("input_url", ""),
        CODE: arguments.get("code", ""),
        TOKEN: token,
    }
    return f"started the job run {job_runs.start({name: value for name, value in values.items() if value})}"
