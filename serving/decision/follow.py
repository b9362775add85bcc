"""Following `models/latest.json`: which model serves is decided there, and taken over while requests go on."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from pipeline.registry.registry import POINTER, Latest, Registry
from processing.contract import Contract
from processing.errors import FraudlineError
from serving.decision.errors import NoModel
from serving.decision.loaded_model import LoadedModel, load_model

RETRY_SECONDS = 60.0  # for a refused model: a disk or network may have been at fault
UNREADABLE = (FraudlineError, OSError, ValueError, KeyError, TypeError)  # the last three: not the JSON we expect


def is_promoted(model: LoadedModel, latest: Latest) -> bool:
    """Whether a model that was loaded is the one that a pointer names and pins."""
    return model.version == latest.version and latest.pin in (None, model.digest)


@dataclass(frozen=True)
class Served:
    """The model that serves, when it was promoted, and since when it serves here."""

    model: LoadedModel
    promoted_at: str
    since: datetime


class Follower:
    """Keeps the promoted model at hand, and no other: what is loaded has the digests that latest.json pins.

    A latest.json of a time before pins is followed with a warning; it opens packed models alone. `packed_only`: as
    any does then.

    `served` is replaced whole by one assignment, so that a request which took it keeps one model to its end.
    `trouble` says why the promoted model does not serve; None when it does. `refused` is whether that is the model's
    fault: it was read and cannot be trusted or used.
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
        self.served: Served | None = None
        self.trouble: str | None = "it was not looked for yet"
        self.refused = False
        self._tried: Latest | None = None
        self._tried_at = 0.0
        self._log = structlog.get_logger()

    def current(self) -> Served:
        """What serves. Raises NoModel, saying why, while there is nothing."""
        served = self.served
        if served is None:
            raise NoModel(f"no model is loaded: {self.trouble}")
        return served

    def look(self) -> None:
        """Look once at latest.json, and load what it names if that is news. Takes as long as loading takes."""
        try:
            latest = self.registry.latest()
        except UNREADABLE as error:
            self._troubled("latest_unreadable", f"{self.registry.home.url_of(POINTER)} cannot be read: {error}")
            return
        if latest is None:
            self._troubled("no_model", "none was promoted yet; `fraudline run` makes and promotes one")
            return
        waited = time.monotonic() - self._tried_at
        if latest == self._tried and (self.trouble is None or waited < self.retry_seconds):
            return
        self._tried, self._tried_at = latest, time.monotonic()
        self._take_over(latest)

    async def run(self) -> None:
        """Look again every so often, until cancelled. Reading and loading are done in a thread."""
        while True:
            await asyncio.sleep(self.every_seconds)
            (failed,) = await asyncio.gather(asyncio.to_thread(self.look), return_exceptions=True)
            if failed is not None:  # nothing may end the following: the server would keep this model for ever
                self._log.error("follow_failed", exc_info=failed)

    def _take_over(self, latest: Latest) -> None:
        before = self.served
        if before is not None and is_promoted(before.model, latest):  # again, or back again
            self.served, self.trouble = Served(before.model, latest.promoted_at, before.since), None
            self.refused = False
            return
        began = time.perf_counter()
        try:
            model = load_model(
                self.registry, latest.version, self.contract, latest=latest, packed_only=self.packed_only
            )
        except UNREADABLE as error:
            self.refused = True
            self._troubled("model_refused", f"model {latest.version} is refused: {error}", version=latest.version)
            return
        self.served, self.trouble = Served(model, latest.promoted_at, datetime.now(UTC)), None
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
                why=f"{self.registry.home.url_of(POINTER)} was written by an earlier version of Fraudline, and does "
                f"not pin the model; `fraudline models promote {model.version}` does",
            )

    def _troubled(self, event: str, why: str, **more: str) -> None:
        if why == self.trouble:
            return  # told already
        self.trouble = why
        serving = self.served.model.version if self.served else None
        told = self._log.warning if event == "no_model" else self._log.error  # a new home has none yet
        told(event, why=why, serving=serving, **more)
