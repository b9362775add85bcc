"""The function that starts pipeline runs.

Its queue holds everything that may call for a run: files that landed, tables that other teams loaded, the monthly
schedule, the end of the run before. What an event says matters little: a run takes all that waits in incoming/, so
the question is only whether something waits that no run was started for, and whether a run goes on. That makes
events that come twice, late or in another order harmless, and one that is lost is made good by the next.

While a run goes on nothing is started. Its end is an event too, and what came meanwhile then makes exactly one more.
The queue hands its messages to one function at a time (one FIFO message group).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.data_classes import SQSEvent

from processing.storage.home import Entry
from processing.storage.open import open_home
from triggers.functions.sagemaker_runs import Execution, PipelineRuns
from triggers.functions.settings import read_settings

FOLDER = "incoming/"
READABLE = (".csv", ".csv.gz", ".parquet")
SCHEDULE = "Scheduled Event"
RUN_ENDED = "SageMaker Model Building Pipeline Execution Status Change"


@dataclass(frozen=True)
class Settings:
    """home: the address of the home; pipeline: the SageMaker pipeline's name."""

    home: str
    pipeline: str


@dataclass(frozen=True)
class Plan:
    """A run to start: a name that says which data calls for it, and why. Or none, with `name` empty."""

    name: str
    reason: str

    @property
    def token(self) -> str:
        """What makes a repeated start one start."""
        return hashlib.sha256(self.name.encode()).hexdigest()


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    """Start a run if the messages call for one; {"started": ARN or "", "reason"}.

    Any error leaves the messages in the queue, to be tried again and at last to lie in the dead-letter queue.
    """
    logger = Logger(service="fraudline-start-run")
    settings = read_settings(Settings)
    asked = [json.loads(record.body) for record in SQSEvent(event).records]
    runs = PipelineRuns(settings.pipeline)
    waiting = [entry for entry in open_home(settings.home).entries(FOLDER) if is_readable(entry.key)]
    plan = decide(asked, waiting, runs.latest())
    started = runs.start(plan.name, plan.reason, plan.token) if plan.name else ""
    logger.info("started" if started else "not started", extra={"execution": started, "reason": plan.reason})
    return {"started": started, "reason": plan.reason}


def decide(asked: Sequence[Mapping[str, Any]], waiting: Sequence[Entry], executions: Sequence[Execution]) -> Plan:
    """Whether to start a run, given EventBridge events, the files that wait, and the latest executions."""
    # The list may lag behind the event that tells of a run's end.
    ended = {_detail(event).get("pipelineExecutionArn") for event in asked if event.get("detail-type") == RUN_ENDED}
    going = [execution.arn for execution in executions if execution.going and execution.arn not in ended]
    if going:
        return Plan("", f"the run {going[0]} goes on; its end will ask again")
    scheduled = sorted({str(event.get("time")) for event in asked if event.get("detail-type") == SCHEDULE})
    if not waiting and not scheduled:
        return Plan("", "nothing waits in incoming/")
    files = sorted((entry.key, entry.size, entry.modified) for entry in waiting)
    digest = hashlib.sha256(json.dumps([files, scheduled]).encode()).hexdigest()[:20]
    name = f"{'monthly' if scheduled else 'data'}-{digest}"
    if any(execution.name == name for execution in executions):
        return Plan("", f"the run {name} was started for just this before; put a file again to have another try")
    why = "the schedule" if scheduled else "new data"
    return Plan(name, f"started by {why}, with {len(files)} file(s) waiting")


def is_readable(key: str) -> bool:
    """Whether the feature job would take a file of that name in (the rule of `processing.intake.files`)."""
    return key.lower().endswith(READABLE) and not any(part.startswith((".", "_")) for part in key.split("/"))


def _detail(event: Mapping[str, Any]) -> Mapping[str, Any]:
    detail = event.get("detail")
    return detail if isinstance(detail, Mapping) else {}
