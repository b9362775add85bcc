"""Watch the online store: whether it answers, is complete, and is kept up to date by runs and labels.

A store can answer and still be wrong to rely on: it was lost and started again empty, a refresh stopped halfway, no run
or no label has come for weeks. Ages are measured against the present, and only count as troubles while present
transactions are decided: a home with synthetic or replayed transactions is always old, which does no harm.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from processing.contract import Contract
from processing.store.interface import OnlineStore, StoreState, StoreUnavailable
from serving.decision.follower import Follower
from serving.decision.troubles import (
    HORIZON_OLD,
    LABELS_OLD,
    REFRESH_UNFINISHED,
    STORE_LOST,
    STORE_UNAVAILABLE,
    Troubles,
)

LOST = (
    "the online store is empty, although the serving model comes from a run that filled it: restore it from a backup, "
    "or stop the API and rebuild it with `fraudline home repair` (in AWS, start a run)"
)
HORIZON_DAYS = 45.0  # a month between runs, and half a month to notice
LABEL_DAYS = 30.0  # beyond the contract's label delay
REFRESH_SECONDS = 900.0  # that a refresh may take
FEWEST_LIVE = 100  # transactions of the last day that make decisions count as traffic
FORGET_SECONDS = 60.0  # after which a failed call no longer matters if the store answers checks
DAY_SECONDS = 86_400.0
CALLS, LATE, CHECKS = "calls", "late", "checks"  # the sources of failures


def is_store_lost(state: StoreState, manifest: Mapping[str, Any]) -> bool:
    """Whether no run has filled a store, although the run that trained the model should have."""
    data = manifest.get("data")
    if state.filled or not isinstance(data, Mapping):
        return False
    # `online_buckets` is from a run of an earlier version.
    return data.get("online_profiles") is not None or bool(data.get("online_buckets"))


class StoreWatch:
    """Checks the store every so often and keeps `troubles` up to date. Safe for many threads.

    `store` is None for a contract without entities; then there are no troubles. `patience_seconds` limits one check.
    """

    def __init__(
        self,
        store: OnlineStore | None,
        contract: Contract,
        follower: Follower,
        *,
        every_seconds: float = 1.0,
        patience_seconds: float = 5.0,
    ) -> None:
        self.store, self.follower = store, follower
        self.every_seconds, self.patience_seconds = every_seconds, patience_seconds
        self.label_days = contract.label_delay_days + LABEL_DAYS
        self.troubles = Troubles()
        self.state: StoreState | None = None  # as of the last check
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._failures: dict[str, str] = {}  # by their source
        self._failed_at = 0.0
        self._lock = threading.Lock()
        self._live: dict[int, int] = {}  # decided transactions of the last day, by the hour of the decision
        self._log = structlog.get_logger()

    def is_lost(self, manifest: Mapping[str, Any]) -> bool:
        """Whether decisions of a model must not rely on the store, as of the last check."""
        return self.state is not None and is_store_lost(self.state, manifest)

    def note_failure(self, source: str, fault: str) -> None:
        """Note that the store did not answer."""
        with self._lock:
            self._failures[source], self._failed_at = fault, time.monotonic()
        message = "the online store does not answer, so transactions are refused, or scored without behaviour"
        self.troubles.update(STORE_UNAVAILABLE, message, fault=fault)

    def note_answer(self, source: str, began: float) -> None:
        """Note that a call answered. It began at this time of `time.monotonic`; if older than a failure, it is news no
        more."""
        if not self._failures:
            return
        with self._lock:
            if source == CALLS and began <= self._failed_at:
                return
            self._failures.pop(source, None)
            if source == CHECKS and time.monotonic() - self._failed_at > FORGET_SECONDS:
                self._failures.pop(CALLS, None)
            failing = bool(self._failures)
        if not failing:
            self.troubles.update(STORE_UNAVAILABLE, None)

    def note_decision(self, time_us: int) -> None:
        """Note that a transaction of that time was decided."""
        now = time.time()
        if time_us / 1e6 > now - DAY_SECONDS:
            hour = int(now) // 3600
            self._live[hour] = self._live.get(hour, 0) + 1

    def ages(self, now: datetime) -> tuple[float | None, float | None]:
        """Seconds since the horizon and since the newest labelled transaction; None if unknown."""
        state = self.state
        if state is None:
            return None, None
        times = (state.horizon_us if state.filled else 0, state.labelled_us)
        horizon, label = (max(0.0, now.timestamp() - time_us / 1e6) if time_us > 0 else None for time_us in times)
        return horizon, label

    def check(self) -> None:
        """Check the store once."""
        if self.store is None:
            return
        began = time.monotonic()
        try:
            self.state = self.store.state()
        except StoreUnavailable as error:
            self.note_failure(CHECKS, str(error))
            return
        self.note_answer(CHECKS, began)
        self._update_troubles(self.state, datetime.now(UTC))

    async def run(self) -> None:
        """Check every so often, in a thread, until cancelled. A check that does not return counts as a failure."""
        while self.store is not None:
            await asyncio.sleep(self.every_seconds)
            check = asyncio.get_running_loop().run_in_executor(self._thread, self.check)
            done, _ = await asyncio.wait([check], timeout=self.patience_seconds)
            if not done:
                self.note_failure(CHECKS, f"no answer for {self.patience_seconds:g} s")
                await asyncio.wait([check])
            if error := check.exception():  # nothing may end the watch
                self._log.error("watch_failed", exc_info=error)

    def close(self) -> None:
        """End the thread after its current check."""
        self._thread.shutdown(wait=False)

    def _update_troubles(self, state: StoreState, now: datetime) -> None:
        serving = self.follower.serving
        lost = serving is not None and is_store_lost(state, serving.model.manifest)
        self.troubles.update(STORE_LOST, LOST if lost else None)
        self.troubles.update(REFRESH_UNFINISHED, _unfinished(state, now))
        live = self._is_live(int(now.timestamp()) // 3600)
        horizon, label = (age / DAY_SECONDS if age is not None and live else 0.0 for age in self.ages(now))
        stale = f"the newest transactions in the tables are {horizon:.0f} days old: have runs stopped, or do they fail?"
        self.troubles.update(HORIZON_OLD, stale if horizon > HORIZON_DAYS else None)
        unlabelled = (
            f"the newest transaction with a known label is {label:.0f} days old; labels should take at most "
            f"{self.label_days:.0f} days: do they still arrive?"
        )
        self.troubles.update(LABELS_OLD, unlabelled if label > self.label_days else None)

    def _is_live(self, hour: int) -> bool:
        for past in [past for past in self._live if past < hour - 24]:
            del self._live[past]
        return sum(self._live.values()) >= FEWEST_LIVE


def _unfinished(state: StoreState, now: datetime) -> str | None:
    if state.unfinished_since_us is None:
        return None
    since = datetime.fromtimestamp(state.unfinished_since_us / 1e6, UTC)
    if now - since < timedelta(seconds=REFRESH_SECONDS):
        return None
    return (
        f"a refresh of the online store began at {since:%Y-%m-%d %H:%M} UTC and has not finished, so some profiles are "
        "from the last run and some from the one before: start a run, unless one is in progress"
    )
