"""The function that starts pipeline runs.

Its queue gets every event that may require a run: a file has arrived, another team has loaded a table, the month has
begun, a run has ended. The events' contents matter little. A run takes all files that wait in incoming/, so there are
two questions: does anything wait for which no run was started, and is a run in progress? Events that arrive twice,
late or out of order therefore do no harm, and the next event makes up for a lost one.

While a run is in progress, nothing is started. The end of the run is an event too, and then starts exactly one run for
everything that has arrived meanwhile. The queue invokes one function at a time (it has one FIFO message group).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.data_classes import SQSEvent

from processing.intake.file_names import is_readable
from processing.storage.home import Entry
from processing.storage.open import open_home
from triggers.functions.function_settings import read_settings
from triggers.functions.sagemaker_runs import Execution, PipelineRuns

FOLDER = "incoming/"
SCHEDULE = "Scheduled Event"
RUN_ENDED = "SageMaker Model Building Pipeline Execution Status Change"


@dataclass(frozen=True)
class StartRunSettings:
    """home: the address of the home; pipeline: the SageMaker pipeline's name."""

    home: str
    pipeline: str


@dataclass(frozen=True)
class Plan:
    """A run to start. name: identifies the data that requires it; "" if no run is to be started."""

    name: str
    reason: str

    @property
    def token(self) -> str:
        """The idempotency token: starting the same plan twice starts one run."""
        return hashlib.sha256(self.name.encode()).hexdigest()


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    """Start a run if the messages require one; returns {"started": ARN or "", "reason"}.

    An error leaves the messages in the queue: they are tried again, and at last go to the dead-letter queue.
    """
    logger = Logger(service="fraudline-start-run")
    settings = read_settings(StartRunSettings)
    events = [json.loads(record.body) for record in SQSEvent(event).records]
    runs = PipelineRuns(settings.pipeline)
    waiting = [entry for entry in open_home(settings.home).entries(FOLDER) if is_readable(entry.key)]
    plan = decide(events, waiting, runs.latest())
    started = runs.start(plan.name, plan.reason, plan.token) if plan.name else ""
    logger.info("started" if started else "not started", extra={"execution": started, "reason": plan.reason})
    return {"started": started, "reason": plan.reason}


def decide(events: Sequence[Mapping[str, Any]], waiting: Sequence[Entry], executions: Sequence[Execution]) -> Plan:
    """Decide whether to start a run, from EventBridge events, the waiting files and the latest executions."""
    # The list of executions may lag behind the event of a run's end.
    ended = {_detail(event).get("pipelineExecutionArn") for event in events if event.get("detail-type") == RUN_ENDED}
    going = [execution.arn for execution in executions if execution.going and execution.arn not in ended]
    if going:
        return Plan("", f"the run {going[0]} is in progress; its end will trigger another check")
    scheduled = sorted({str(event.get("time")) for event in events if event.get("detail-type") == SCHEDULE})
    if not waiting and not scheduled:
        return Plan("", "nothing waits in incoming/")
    files = sorted((entry.key, entry.size, entry.modified) for entry in waiting)
    digest = hashlib.sha256(json.dumps([files, scheduled]).encode()).hexdigest()[:20]
    name = f"{'monthly' if scheduled else 'data'}-{digest}"
    if any(execution.name == name for execution in executions):
        return Plan("", f"the run {name} has already been started for these files; upload one again to retry")
    why = "the schedule" if scheduled else "new data"
    return Plan(name, f"started by {why}, with {len(files)} file(s) waiting")


def _detail(event: Mapping[str, Any]) -> Mapping[str, Any]:
    detail = event.get("detail")
    return detail if isinstance(detail, Mapping) else {}
