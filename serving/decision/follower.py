"""Follow `models/latest.json`, which names the serving model, and switch models while requests go on."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from pipeline.registry.registry import POINTER, Latest, Registry
from processing.contract import Contract
from processing.errors import FraudlineError
from serving.decision.loaded_model import LoadedModel, load_model

RETRY_SECONDS = 60.0  # for a refused model: the fault may have been a disk's or a network's
UNREADABLE = (FraudlineError, OSError, ValueError, KeyError, TypeError)  # the last three: unexpected JSON


class NoModel(FraudlineError):
    """No model is loaded, so nothing can be scored yet."""


def is_promoted(model: LoadedModel, latest: Latest) -> bool:
    """Whether a loaded model is the one that latest.json names and pins."""
    return model.version == latest.version and latest.pin in (None, model.digest)


@dataclass(frozen=True)
class ServingModel:
    """The serving model, when it was promoted, and since when it has been serving here."""

    model: LoadedModel
    promoted_at: str
    since: datetime


class Follower:
    """Keeps the promoted model loaded, and only that: it must have the digests that latest.json pins.

    A latest.json from before pins is followed with a warning, and only loads packed models. `packed_only` refuses all
    other models anyway.

    `serving` is replaced as a whole by one assignment, so that a request keeps the model it started with.
    `trouble` says why the promoted model is not serving; None if it is. `refused` is whether the model itself is the
    reason: it was read, and cannot be trusted or used.
    """

    def __init__(
        self,
        registry: Registry,
        contract: Contract,
        *,
        packed_only: bool = False,
        every_seconds: float = 1.0,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self.registry, self.contract, self.packed_only = registry, contract, packed_only
        self.every_seconds, self.retry_seconds = every_seconds, retry_seconds
        self.serving: ServingModel | None = None
        self.trouble: str | None = "latest.json has not been read yet"
        self.refused = False
        self._attempted: Latest | None = None
        self._attempted_at = 0.0
        self._log = structlog.get_logger()

    def current(self) -> ServingModel:
        """The serving model. Raises NoModel with the reason if there is none."""
        serving = self.serving
        if serving is None:
            raise NoModel(f"no model is loaded: {self.trouble}")
        return serving

    def check(self) -> None:
        """Read latest.json once, and load the model it names if that is new. Takes as long as loading takes."""
        try:
            latest = self.registry.latest()
        except UNREADABLE as error:
            self._report("latest_unreadable", f"{self.registry.home.url_of(POINTER)} cannot be read: {error}")
            return
        if latest is None:
            self._report("no_model", "none was promoted yet; `fraudline run` trains and promotes one")
            return
        waited = time.monotonic() - self._attempted_at
        if latest == self._attempted and (self.trouble is None or waited < self.retry_seconds):
            return
        self._attempted, self._attempted_at = latest, time.monotonic()
        self._switch(latest)

    async def run(self) -> None:
        """Check every so often until cancelled. Reading and loading happen in a thread."""
        while True:
            await asyncio.sleep(self.every_seconds)
            (error,) = await asyncio.gather(asyncio.to_thread(self.check), return_exceptions=True)
            if error is not None:  # if the loop ended, the server would keep this model for ever
                self._log.error("follow_failed", exc_info=error)

    def _switch(self, latest: Latest) -> None:
        before = self.serving
        if before is not None and is_promoted(before.model, latest):  # promoted again
            self.serving, self.trouble = ServingModel(before.model, latest.promoted_at, before.since), None
            self.refused = False
            return
        began = time.perf_counter()
        try:
            model = load_model(
                self.registry, latest.version, self.contract, latest=latest, packed_only=self.packed_only
            )
        except UNREADABLE as error:
            self.refused = True
            self._report("model_refused", f"model {latest.version} is refused: {error}", version=latest.version)
            return
        self.serving, self.trouble = ServingModel(model, latest.promoted_at, datetime.now(UTC)), None
        self.refused = False
        self._log.info(
            "model_serves",
            version=model.version,
            before=before.model.version if before else None,
            promoted_at=latest.promoted_at,
            promoted_by=latest.by,
            reason=latest.reason,
            load_seconds=round(time.perf_counter() - began, 3),
        )
        if latest.pin is None:
            self._log.warning(
                "model_not_pinned",
                version=model.version,
                why=f"{self.registry.home.url_of(POINTER)} was written by an earlier version of Fraudline and does "
                f"not pin the model; run `fraudline models promote {model.version}` to pin it",
            )

    def _report(self, event: str, reason: str, **details: str) -> None:
        """Note why the promoted model is not serving, and log it once."""
        if reason == self.trouble:
            return
        self.trouble = reason
        serving = self.serving.model.version if self.serving else None
        log = self._log.warning if event == "no_model" else self._log.error  # normal in a new home
        log(event, why=reason, serving=serving, **details)
