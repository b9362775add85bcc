"""The watch over the online store: whether it answers, is whole, and is kept up to date by runs and labels.

A store can answer and be wrong to rely on: it was lost and has begun anew, a refresh ended halfway, no run or no label
has come for weeks. Ages are measured against now, and are troubles only while transactions of now are decided: a home
of made-up or replayed transactions is old by nature, and nobody is harmed by that.
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
from serving.decision.follow import Follower
from serving.decision.troubles import (
    HORIZON_OLD,
    LABELS_OLD,
    REFRESH_UNFINISHED,
    STORE_LOST,
    STORE_UNAVAILABLE,
    Troubles,
)

LOST = (
    "the online store is empty, although the model that serves comes from a run that filled it: restore it from a "
    "backup, or stop the API and have `fraudline home repair` rebuild it (in AWS, start a run)"
)
HORIZON_DAYS = 45.0  # a month between runs, and half of one to notice
LABEL_DAYS = 30.0  # beyond the time that labels take by the contract
REFRESH_SECONDS = 900.0  # that a refresh may take
FEWEST_LIVE = 100  # transactions of the last day, from which on what is decided counts as traffic
FORGOTTEN_SECONDS = 60.0  # after which a call that failed says nothing of a store that answers since
DAY_SECONDS = 86_400.0
CALLS, LATE, LOOKS = "calls", "late", "looks"  # who may find that the store does not answer


def lost(state: StoreState, manifest: Mapping[str, Any]) -> bool:
    """Whether a store that no run has filled should have been filled by the run that made a model."""
    data = manifest.get("data")
    return not state.filled and isinstance(data, Mapping) and bool(data.get("online_buckets"))


class StoreWatch:
    """Looks at the store every so often, and keeps `troubles` as it finds them. Safe from many threads.

    `store` is None for a contract without entities: nothing is then amiss. `patience_seconds` is for one look.
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
        self.state: StoreState | None = None  # as of the last look
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._failing: dict[str, str] = {}  # by who found it
        self._failed_at = 0.0
        self._lock = threading.Lock()
        self._live: dict[int, int] = {}  # transactions of the last day that were decided, by the hour of deciding
        self._log = structlog.get_logger()

    def is_lost(self, manifest: Mapping[str, Any]) -> bool:
        """Whether decisions of a model must not rely on the store, as of the last look."""
        return self.state is not None and lost(self.state, manifest)

    def failed(self, who: str, why: str) -> None:
        """Take in that the store did not answer."""
        with self._lock:
            self._failing[who], self._failed_at = why, time.monotonic()
        told = "the online store does not answer, so transactions are refused, or scored without what it knows"
        self.troubles.update(STORE_UNAVAILABLE, told, fault=why)

    def answered(self, who: str, began: float) -> None:
        """Take in that a call answered that began at a time of `time.monotonic`; an older one says nothing new."""
        if not self._failing:
            return
        with self._lock:
            if who == CALLS and began <= self._failed_at:
                return
            self._failing.pop(who, None)
            if who == LOOKS and time.monotonic() - self._failed_at > FORGOTTEN_SECONDS:
                self._failing.pop(CALLS, None)
            standing = bool(self._failing)
        if not standing:
            self.troubles.update(STORE_UNAVAILABLE, None)

    def decided(self, time_us: int) -> None:
        """Take in that a transaction of that time was decided."""
        now = time.time()
        if time_us / 1e6 > now - DAY_SECONDS:
            hour = int(now) // 3600
            self._live[hour] = self._live.get(hour, 0) + 1

    def ages(self, now: datetime) -> tuple[float | None, float | None]:
        """Seconds since the horizon and since the newest labelled transaction; None for what is not known."""
        state = self.state
        if state is None:
            return None, None
        times = (state.horizon_us if state.filled else 0, state.labelled_us)
        horizon, label = (max(0.0, now.timestamp() - time_us / 1e6) if time_us > 0 else None for time_us in times)
        return horizon, label

    def look(self) -> None:
        """Look at the store once."""
        if self.store is None:
            return
        began = time.monotonic()
        try:
            self.state = self.store.state()
        except StoreUnavailable as error:
            self.failed(LOOKS, str(error))
            return
        self.answered(LOOKS, began)
        self._judge(self.state, datetime.now(UTC))

    async def run(self) -> None:
        """Look again every so often, in a thread, until cancelled. A look that does not return is told."""
        while self.store is not None:
            await asyncio.sleep(self.every_seconds)
            look = asyncio.get_running_loop().run_in_executor(self._thread, self.look)
            done, _ = await asyncio.wait([look], timeout=self.patience_seconds)
            if not done:
                self.failed(LOOKS, f"it was asked {self.patience_seconds:g} s ago, and has not answered yet")
                await asyncio.wait([look])
            if error := look.exception():  # nothing may end the watch
                self._log.error("watch_failed", exc_info=error)

    def close(self) -> None:
        """End the thread, after what it is at."""
        self._thread.shutdown(wait=False)

    def _judge(self, state: StoreState, now: datetime) -> None:
        served = self.follower.served
        gone = served is not None and lost(state, served.model.manifest)
        self.troubles.update(STORE_LOST, LOST if gone else None)
        self.troubles.update(REFRESH_UNFINISHED, _unfinished(state, now))
        live = self._is_live(int(now.timestamp()) // 3600)
        horizon, label = (age / DAY_SECONDS if age is not None and live else 0.0 for age in self.ages(now))
        stale = (
            f"the newest transactions that a run has taken in are {horizon:.0f} days old: have runs stopped, or do "
            "they fail?"
        )
        self.troubles.update(HORIZON_OLD, stale if horizon > HORIZON_DAYS else None)
        without = (
            f"the newest transaction with a known label is {label:.0f} days old, older than the {self.label_days:.0f} "
            "days that labels may take: do they still come?"
        )
        self.troubles.update(LABELS_OLD, without if label > self.label_days else None)

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
        f"a refresh of the online store began at {since:%Y-%m-%d %H:%M} UTC and is not finished, so it counts partly "
        "what the last run found and partly what the one before did: if no run is going on, start one"
    )
