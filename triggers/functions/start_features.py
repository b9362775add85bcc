"""The function behind the pipeline's Features step: a message with a callback token starts the Glue job.

A job run is started once for a token, however often the message comes. If the last attempt fails too, the step is
told so, and the message goes to the dead-letter queue. A message that the execution is being stopped stops the job.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from triggers.functions.glue_runs import HOME, INPUT, RUN, TOKEN, FeatureJob
from triggers.functions.sagemaker_runs import CallbackAnswers
from triggers.functions.settings import read_settings


@dataclass(frozen=True)
class Settings:
    """job: the Glue job's name; attempts: how often the queue hands a message over before it gives up."""

    job: str
    attempts: int


def handler(event: dict[str, Any], context: Any) -> Any:
    """Start the feature job for each message; answers with those that failed, as SQS wants it."""
    logger = Logger(service="fraudline-start-features")
    settings = read_settings(Settings)
    job, answers = FeatureJob(settings.job), CallbackAnswers()

    def take(record: SQSRecord) -> None:
        message = json.loads(record.body)
        attempt = int(record.attributes.approximate_receive_count)
        try:
            logger.info(answer(message, job, answers), extra={"run": message["arguments"]["run"]})
        except Exception as error:
            logger.exception("the feature job was not started", extra={"attempt": attempt})
            if attempt >= settings.attempts:
                answers.fail(message["token"], f"the feature job was not started: {error}")
            raise

    return process_partial_response(event, take, BatchProcessor(EventType.SQS), context)


def answer(message: Mapping[str, Any], job: FeatureJob, answers: CallbackAnswers) -> str:
    """Do what a Callback step's message asks for; what was done, in words."""
    token, arguments = message["token"], message["arguments"]
    found = job.find(token)
    if message.get("status") == "Stopping":
        if found is None:
            answers.fail(token, "the execution was stopped before the feature job began")
            return "stopped before it began"
        job.stop(found.id)
        return f"asked the job run {found.id} to stop"
    if found is not None:
        return f"the job run {found.id} works for this step already"
    given = {
        RUN: arguments["run"],
        HOME: arguments["home"],
        INPUT: arguments.get("input_url", ""),
        TOKEN: token,
    }
    return f"started the job run {job.start({name: value for name, value in given.items() if value})}"
