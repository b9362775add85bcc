"""The events of a run: what a console shows of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepEvent:
    """A step's change of status: to Executing, then to Succeeded, Failed or Stopped; or to NotRun.

    SageMaker also has Starting and Stopping, see `pipeline.runs.sagemaker_statuses`.

    seconds: how long the step took, once it has ended; log: the file with its output
    """

    step: str
    kind: str
    status: str
    log: Path
    seconds: float | None = None
    reason: str | None = None


Progress = Callable[[StepEvent], None]
