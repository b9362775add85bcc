"""Runs a SageMaker Pipeline's definition on this machine.

The steps' own commands run as processes under SageMaker's container contract, Callback and Lambda steps
call the functions they are bound to, conditions choose branches; steps run one after the other. The run's
folder tells the story, also of a run that was killed: definition.json, parameters.json, outcome.json and,
for each step, steps/<step>/ with arguments.json, log.txt and what the step left.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.local.child import Stopped
from pipeline.local.conditions import holds
from pipeline.local.graph import Node, ordered_steps
from pipeline.local.jobs import Job, JobFailed
from pipeline.local.parameters import Value, bind_parameters
from pipeline.local.references import Scope, resolve
from pipeline.local.services import ACCOUNT, Bindings, call_back, invoke
from pipeline.local.story import Failure, Outcome, Story, now
from processing.errors import BadInput, FraudlineError, RunFailed
from processing.tracebacks import error_summary, redacted_traceback

__all__ = ["Bindings", "Failure", "LocalExecution", "Outcome", "StepEvent"]

KINDS = ("Callback", "Training", "Processing", "Condition", "RegisterModel", "Lambda", "Fail")


@dataclass(frozen=True)
class StepEvent:
    """A step's change of status: Executing, then Succeeded, Failed or Stopped; or NotRun. In SageMaker also Starting
    and Stopping (see `pipeline.runs.statuses`).

    seconds: how long it took, once it has ended; log: the file its output goes to
    """

    step: str
    kind: str
    status: str
    log: Path
    seconds: float | None = None
    reason: str | None = None


Progress = Callable[[StepEvent], None]


class LocalExecution:
    """One run of a definition.

    definition: what `pipeline.definition.pipeline.build` gives, or any with the step types Callback, Training,
        Processing, Condition, RegisterModel, Lambda and Fail
    parameters: the values that differ from the definition's defaults; texts are read as their type
    folder: where the run's story is written; it must not hold one already
    run: the run's id, Execution.PipelineExecutionId to its steps

    Raises BadInput, before anything has run, for a definition or parameters that cannot work.
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
        """Run the steps and return how it ended: a failed step is an outcome, not an exception.

        Ctrl-C and SIGTERM end the step that runs, are recorded as Stopped, and then go on their way.
        `stop`, from another thread, has the same effect and the outcome Stopped.
        """
        self._story = Story(self.folder, self.run, [(node.name, node.kind) for node in self.order])
        self._story.write("definition.json", self.definition)
        self._story.write("parameters.json", self.parameters)
        self.execution["StartDateTime"] = now()
        with _sigterm_raises():
            try:
                return self._walk(progress)
            except FraudlineError as error:
                self._story.end("Stopped", str(error))
                raise
            except BaseException as interruption:
                self._story.end("Stopped", f"interrupted by {type(interruption).__name__}")
                raise

    def stop(self) -> None:
        """End the run from another thread, as StopPipelineExecution does."""
        self._stopping.set()

    def _walk(self, progress: Progress) -> Outcome:
        story = self._story
        for node in self.order:
            if self._stopping.is_set():
                return story.end("Stopped", "it was asked to stop")
            idle = self._why_not(node)
            if idle:
                story.skip(node.name, idle)
                progress(StepEvent(node.name, node.kind, "NotRun", story.log(node.name), reason=idle))
                continue
            story.start(node.name)
            progress(StepEvent(node.name, node.kind, "Executing", story.log(node.name)))
            began = time.monotonic()
            failure = self._attempt(node)
            status = "Succeeded" if failure is None else "Stopped" if self._stopping.is_set() else "Failed"
            reason = failure.reason if failure else None
            seconds = time.monotonic() - began
            story.finish(node.name, status, seconds, failure, self._properties.get(node.name, {}))
            progress(StepEvent(node.name, node.kind, status, story.log(node.name), seconds, reason))
            if failure is not None:
                return story.end(status, f"step {node.name}: {failure.reason}", failure)
        return story.end("Succeeded")

    def _why_not(self, node: Node) -> str | None:
        """Why a step whose turn it is does not run; None if it does."""
        if node.branch and node.branch.step in self._properties:
            outcome = self._properties[node.branch.step]["Outcome"]
            if outcome != str(node.branch.taken_if):
                return f"the condition {node.branch.step} was {outcome}"
        missing = sorted(node.needs - self._properties.keys())
        return f"it needs {', '.join(missing)}, which did not run" if missing else None

    def _attempt(self, node: Node) -> Failure | None:
        """Run one step; its properties are known afterwards, or why it failed."""
        log = self._story.log(node.name)
        try:
            self._properties[node.name] = self._perform(node, log)
        except Stopped:
            return Failure(node.name, "it was asked to stop", None, log)
        except FraudlineError as error:
            code = error.code if isinstance(error, JobFailed) else None
            return Failure(node.name, str(error), code, log)
        except Exception as error:  # noqa: BLE001 whatever a step's code raises is that step's failure
            with log.open("a", encoding="utf-8") as file:
                print(redacted_traceback(error), file=file)
            return Failure(
                node.name, f"it ended unexpectedly: {error_summary(error)}; its log has the trace", None, log
            )
        return None

    def _perform(self, node: Node, log: Path) -> dict[str, Any]:
        job = Job(f"pipelines-{self.run}-{node.name}", log.parent, log, self.bindings.python, self._stopping)
        names = {"TrainingJobName": job.name, "ProcessingJobName": job.name, "CurrentDateTime": now()}
        scope = Scope(self.parameters, {**self.execution, **names}, self._properties, self._files)
        entry = node.entry
        if node.kind == "Condition":
            conditions = entry["Arguments"]["Conditions"]
            self._story.write_arguments(node.name, resolve(conditions, scope, node.name))
            outcome = all(holds(each, lambda value: resolve(value, scope, node.name)) for each in conditions)
            return {"Outcome": str(outcome)}
        arguments = resolve(entry.get("Arguments", {}), scope, node.name)
        self._story.write_arguments(node.name, arguments)
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
        raise RunFailed(str(arguments.get("ErrorMessage", "")) or "the pipeline ends here as failed")


def _check(node: Node, bindings: Bindings) -> None:
    if node.kind not in KINDS:
        raise BadInput(f"step {node.name} is of type {node.kind}; a local run knows {', '.join(KINDS)}")
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
    """Lets a SIGTERM unwind the run, so that no child is left behind; leaves a program's own handler be."""
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
