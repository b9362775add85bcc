"""The record of a local run: the files in its folder, written again after every step."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processing.errors import BadInput, RunFailed
from processing.processes.identity import Process

RECORDED_PROPERTIES = ("Outcome", "OutputParameters", "ModelArtifacts", "ModelPackageArn", "ExitMessage")


@dataclass(frozen=True)
class Failure:
    """Why a run failed: the step, the reason, its command's exit code (None without a command), its log."""

    step: str
    reason: str
    exit_code: int | None
    log: Path


@dataclass(frozen=True)
class Outcome:
    """How a run ended: Succeeded, Failed or Stopped; steps: each step's entry in outcome.json, by name."""

    run: str
    status: str
    reason: str | None
    failure: Failure | None
    steps: Mapping[str, Mapping[str, Any]]

    def require_success(self) -> "Outcome":
        """This outcome, if the run succeeded. Raises RunFailed with the step, the reason and the log."""
        if self.failure:
            summary = f"step {self.failure.step} of run {self.run} ended as {self.status}: {self.failure.reason}"
            raise RunFailed(f"{summary}\nIts log: {self.failure.log}")
        if self.status != "Succeeded":
            raise RunFailed(f"run {self.run} ended as {self.status}: {self.reason}")
        return self


class RunRecord:
    """Writes the files in a run's folder. Raises BadInput if the folder already holds a run."""

    def __init__(self, folder: Path, run: str, steps: Sequence[tuple[str, str]]) -> None:
        if (folder / "outcome.json").exists():
            raise BadInput(f"{folder} already holds a run; start this one under another id")
        self.folder = folder
        self.outcome: dict[str, Any] = {
            "run": run,
            "status": "Executing",
            "owner": Process.current().document(),
            "started": now(),
            "ended": None,
            "reason": None,
            "steps": {name: {"type": kind, "status": "Waiting"} for name, kind in steps},
        }
        self._save()

    def log(self, step: str) -> Path:
        """The file of a step's output."""
        return self.folder / "steps" / step / "log.txt"

    def start(self, step: str) -> None:
        """Record that a step starts, and create its folder with an empty log."""
        self.log(step).parent.mkdir(parents=True, exist_ok=True)
        self.log(step).touch()
        self.outcome["steps"][step].update(status="Executing", started=now())
        self._save()

    def skip(self, step: str, reason: str) -> None:
        """Record that a step will not run."""
        self.outcome["steps"][step].update(status="NotRun", reason=reason)
        self._save()

    def finish(
        self, step: str, status: str, seconds: float, failure: Failure | None, properties: Mapping[str, Any]
    ) -> None:
        """Record that a step has ended, with its most informative properties."""
        entry = self.outcome["steps"][step]
        entry.update(status=status, ended=now(), seconds=round(seconds, 3))
        if failure:
            entry.update(reason=failure.reason, exit_code=failure.exit_code)
        entry.update({name: properties[name] for name in RECORDED_PROPERTIES if properties.get(name)})
        self._save()

    def end(self, status: str, reason: str | None = None, failure: Failure | None = None) -> Outcome:
        """Record that the run has ended; see `close`."""
        close(self.outcome, status, reason)
        self._save()
        return Outcome(self.outcome["run"], status, reason, failure, self.outcome["steps"])

    def write_arguments(self, step: str, arguments: Any) -> None:
        """Write a step's arguments, with every pipeline variable resolved."""
        self.write(f"steps/{step}/arguments.json", arguments)

    def write(self, name: str, document: Any) -> None:
        """Write a file of the run's folder, whole or not at all."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".writing-{target.name}")
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, target)

    def _save(self) -> None:
        self.write("outcome.json", self.outcome)


def close(outcome: dict[str, Any], status: str, reason: str | None) -> None:
    """Mark a run as ended. The executing step gets the run's status, waiting steps get NotRun."""
    for entry in outcome["steps"].values():
        if entry["status"] == "Executing":
            entry.update(status=status, ended=now(), reason=reason)
        elif entry["status"] == "Waiting":
            entry.update(status="NotRun", reason=f"the run ended before this step, as {status}")
    outcome.update(status=status, ended=now(), reason=reason)


def now() -> str:
    """The time in UTC, to the millisecond, as in `2026-11-22T10:30:00.000Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
