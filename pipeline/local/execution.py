"""Runs a SageMaker pipeline's definition on this machine.

Steps run one after the other. Jobs run their commands as processes under SageMaker's container contract, Callback and
Lambda steps call the functions bound to them, and conditions choose branches. The run's folder is a complete record,
even of a run that was killed: definition.json, parameters.json, outcome.json and, for each step, steps/<step>/ with
arguments.json, log.txt and the step's files.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.local.conditions import is_met
from pipeline.local.events import Progress, StepEvent
from pipeline.local.graph import Node, ordered_steps
from pipeline.local.jobs import Job, JobFailed
from pipeline.local.pipeline_parameters import Value, bind_parameters
from pipeline.local.pipeline_variables import Scope, resolve
from pipeline.local.run_record import Failure, Outcome, RunRecord, now
from pipeline.local.services import ACCOUNT, Bindings, call_back, invoke
from pipeline.local.step_process import Stopped
from processing.errors import BadInput, FraudlineError, RunFailed
from processing.tracebacks import error_summary, redacted_traceback

KINDS = ("Callback", "Training", "Processing", "Condition", "RegisterModel", "Lambda", "Fail")


class LocalExecution:
    """One run of a definition.

    definition: from `pipeline.definition.pipeline.build_definition`, or any with the step types Callback, Training,
        Processing, Condition, RegisterModel, Lambda and Fail
    parameters: the values that differ from the definition's defaults; text is read as the parameter's type
    folder: the run's folder; it must not hold a run yet
    run: the run's id, which its steps know as Execution.PipelineExecutionId

    Raises BadInput, before anything runs, for a definition or parameters that cannot work.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        parameters: Mapping[str, Any],
        folder: Path,
        run: str,
        bindings: Bindings,
        pipeline_name: str = "fraudline",
    ) -> None:
        self.definition = definition
        self.parameters: dict[str, Value] = bind_parameters(definition, parameters)
        self.folder = folder.absolute()
        self.run = run
        self.bindings = bindings
        self.order = ordered_steps(definition)
        for node in self.order:
            _check(node, bindings)
        self.arn = f"{ACCOUNT}:pipeline/{pipeline_name}/execution/{run}"
        self.execution = {
            "PipelineExecutionId": run,
            "PipelineExecutionArn": self.arn,
            "PipelineName": pipeline_name,
            "PipelineArn": f"{ACCOUNT}:pipeline/{pipeline_name}",
        }
        self._properties: dict[str, dict[str, Any]] = {}
        self._files: dict[str, dict[str, str]] = {}
        self._stopping = threading.Event()

    def execute(self, progress: Progress = lambda event: None) -> Outcome:
        """Run the steps. A failed step is an outcome, not an exception.

        Ctrl-C and SIGTERM end the running step, are recorded as Stopped, and propagate. `stop`, called from another
        thread, also ends the step, and the outcome is Stopped.
        """
        self._record = RunRecord(self.folder, self.run, [(node.name, node.kind) for node in self.order])
        self._record.write("definition.json", self.definition)
        self._record.write("parameters.json", self.parameters)
        self.execution["StartDateTime"] = now()
        with _sigterm_raises():
            try:
                return self._walk(progress)
            except FraudlineError as error:
                self._record.end("Stopped", str(error))
                raise
            except BaseException as interruption:
                self._record.end("Stopped", f"interrupted by {type(interruption).__name__}")
                raise

    def stop(self) -> None:
        """End the run from another thread, as StopPipelineExecution does."""
        self._stopping.set()

    def _walk(self, progress: Progress) -> Outcome:
        record = self._record
        for node in self.order:
            if self._stopping.is_set():
                return record.end("Stopped", "the run was asked to stop")
            skip_reason = self._skip_reason(node)
            if skip_reason:
                record.skip(node.name, skip_reason)
                progress(StepEvent(node.name, node.kind, "NotRun", record.log(node.name), reason=skip_reason))
                continue
            record.start(node.name)
            progress(StepEvent(node.name, node.kind, "Executing", record.log(node.name)))
            began = time.monotonic()
            failure = self._attempt(node)
            status = "Succeeded" if failure is None else "Stopped" if self._stopping.is_set() else "Failed"
            reason = failure.reason if failure else None
            seconds = time.monotonic() - began
            record.finish(node.name, status, seconds, failure, self._properties.get(node.name, {}))
            progress(StepEvent(node.name, node.kind, status, record.log(node.name), seconds, reason))
            if failure is not None:
                return record.end(status, f"step {node.name}: {failure.reason}", failure)
        return record.end("Succeeded")

    def _skip_reason(self, node: Node) -> str | None:
        """Why a step is skipped; None if it runs."""
        if node.branch and node.branch.step in self._properties:
            outcome = self._properties[node.branch.step]["Outcome"]
            if outcome != str(node.branch.taken_if):
                return f"the condition {node.branch.step} was {outcome}"
        missing = sorted(node.needs - self._properties.keys())
        return f"it needs {', '.join(missing)}, which did not run" if missing else None

    def _attempt(self, node: Node) -> Failure | None:
        """Run one step and keep its properties. Returns the failure, if any."""
        log = self._record.log(node.name)
        try:
            self._properties[node.name] = self._perform(node, log)
        except Stopped:
            return Failure(node.name, "the run was asked to stop", None, log)
        except FraudlineError as error:
            code = error.code if isinstance(error, JobFailed) else None
            return Failure(node.name, str(error), code, log)
        except Exception as error:  # noqa: BLE001 any exception in a step's code is that step's failure
            with log.open("a", encoding="utf-8") as file:
                print(redacted_traceback(error), file=file)
            return Failure(
                node.name, f"it ended unexpectedly: {error_summary(error)}; its log has the traceback", None, log
            )
        return None

    def _perform(self, node: Node, log: Path) -> dict[str, Any]:
        job = Job(f"pipelines-{self.run}-{node.name}", log.parent, log, self.bindings.python, self._stopping)
        names = {"TrainingJobName": job.name, "ProcessingJobName": job.name, "CurrentDateTime": now()}
        scope = Scope(self.parameters, {**self.execution, **names}, self._properties, self._files)
        entry = node.entry
        if node.kind == "Condition":
            conditions = entry["Arguments"]["Conditions"]
            self._record.write_arguments(node.name, resolve(conditions, scope, node.name))
            outcome = all(is_met(each, lambda value: resolve(value, scope, node.name)) for each in conditions)
            return {"Outcome": str(outcome)}
        arguments = resolve(entry.get("Arguments", {}), scope, node.name)
        self._record.write_arguments(node.name, arguments)
        match node.kind:
            case "Callback":
                return call_back(self.bindings, entry, arguments, self.arn, log)
            case "Lambda":
                return invoke(self.bindings, entry, arguments, log)
            case "RegisterModel":
                return self.bindings.register(arguments, log.parent, self.run)
            case "Training":
                return self.bindings.train(job, arguments)
            case "Processing":
                properties = self.bindings.process(job, arguments)
                self._files[node.name] = _property_files(entry, arguments)
                return properties
        raise RunFailed(str(arguments.get("ErrorMessage", "")) or "the pipeline ends here with a Fail step")


def _check(node: Node, bindings: Bindings) -> None:
    if node.kind not in KINDS:
        raise BadInput(f"step {node.name} is of type {node.kind}; a local run supports {', '.join(KINDS)}")
    if node.kind == "Callback":
        bindings.callback(node.entry["SqsQueueUrl"])
    if node.kind == "Lambda":
        bindings.function(node.entry["FunctionArn"])


def _property_files(entry: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, str]:
    outputs = arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
    folders = {output["OutputName"]: output["S3Output"]["S3Uri"].rstrip("/") for output in outputs}
    return {
        file["PropertyFileName"]: f"{folders[file['OutputName']]}/{file['FilePath']}"
        for file in entry.get("PropertyFiles", [])
    }


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that no child process stays behind. A program's own handler is kept."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def raise_exit(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, raise_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
