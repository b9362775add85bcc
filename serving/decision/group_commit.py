"""Group commit: decisions that wait at the same moment are made in one transaction of the online store.

They share the cost of the transaction, and none is answered before it is committed. See Gray and Reuter, Transaction
Processing (1993), on group commit.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

from processing.store.interface import StoreUnavailable
from serving.decision.decider import Answer, Decider, DecisionRequest
from serving.decision.serving_metrics import ServingMetrics
from serving.decision.store_watch import CALLS, LATE, LOST, StoreWatch

T = TypeVar("T")

ROWS_AT_ONCE = 4  # of a batch
LARGEST_GROUP = 32  # decisions in one transaction
CALLS_AT_ONCE = 32  # to a store behind a network
WRITERS = 2  # threads for a store in a file: one decides, the other reports labels and tidies up
MOST_WAITING = 2_000
PAUSE_SECONDS = 0.5  # without calls after the store did not answer
TIDY_EVERY = 100  # commits


class _Waiting(NamedTuple):
    """A request, and the answer its caller waits for."""

    request: DecisionRequest
    answer: "asyncio.Future[Answer]"


def late_after(timeout: float) -> float:
    """Seconds after which a call is late, for a store with this `timeout`.

    It may wait that long for the writers of this process, and again for those of others.
    """
    return 2 * timeout + 1.0


class GroupCommit:
    """Makes decisions for the coroutines of one event loop.

    Threads call the store, never the loop: a write to a disk that hangs does not return, and the loop must go on. For a
    store in a file, one thread makes the decisions of a group, and requests that come meanwhile form the next group. A
    store behind a network is called once for each decision.

    A call that takes longer than `late_seconds` is late. Its callers, and those that come before it has returned, get a
    StoreUnavailable. If it returns, it has recorded everything or nothing.
    """

    def __init__(
        self,
        decider: Decider,
        *,
        without_store: Literal["refuse", "score"] = "refuse",
        metrics: ServingMetrics | None = None,
        watch: StoreWatch | None = None,
        late_seconds: float = late_after(2.0),
    ) -> None:
        self.decider, self.without_store, self.metrics, self.watch = decider, without_store, metrics, watch
        self.late_seconds = late_seconds
        self._far = decider.store is not None and not decider.store.near
        self._pool: ThreadPoolExecutor | None = None  # started when needed
        self._waiting: deque[_Waiting] = deque()
        self._committing = False
        self._pending = 0  # calls without an answer
        self._commits = 0
        self._paused_until = 0.0
        self._late: set[asyncio.Future[Any]] = set()

    @property
    def rows_at_once(self) -> int:
        """How many rows of a batch to request together: a few, or one if no group would keep their order."""
        return 1 if self._far else ROWS_AT_ONCE

    async def answer(self, request: DecisionRequest) -> Answer:
        """Answer a request as `Decider.answer` does.

        Also raises StoreUnavailable if too many requests are waiting, if the store was lost, and for half a second
        after it did not answer, when waiting would be in vain. If `without_store` is "score", it answers with
        `Decider.decide_without_store` instead of raising StoreUnavailable.
        """
        if self.decider.store is None:
            return self.decider.answer(*request)
        try:
            if self.watch and self.watch.is_lost(request.model.manifest):
                raise StoreUnavailable(LOST)
            if self._far:
                return await self._in_thread(self.decider.answer, *request)
            return await self._in_group(request)
        except StoreUnavailable:
            self._count_refusal()
            if self.without_store == "refuse":
                raise
            return self.decider.decide_without_store(request)

    async def report(self, transaction_id: str, is_fraud: bool) -> None:
        """See `Decider.report`."""
        try:
            await self._in_thread(self.decider.report, transaction_id, is_fraud)
        except StoreUnavailable:
            self._count_refusal()
            raise

    def _count_refusal(self) -> None:
        if self.metrics:
            self.metrics.count_store_refusal()

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        with self._counted():
            watched = functools.partial(self._watched, call, *arguments)
            future = asyncio.get_running_loop().run_in_executor(self._threads(), watched)
            done, _ = await asyncio.wait([future], timeout=self.late_seconds)
            if not done:
                raise self._note_late(future)
            return future.result()

    async def _in_group(self, request: DecisionRequest) -> Answer:
        with self._counted():
            loop = asyncio.get_running_loop()
            waiting = _Waiting(request, loop.create_future())
            self._waiting.append(waiting)
            if not self._committing:
                self._committing = True
                loop.call_soon(self._commit, loop)  # after other ready callbacks, which may add requests
            return await waiting.answer

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._late:
            raise StoreUnavailable(self._late_message())
        if self._pending >= MOST_WAITING:
            raise StoreUnavailable("too many requests are waiting to be answered in time")
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    def _late_message(self) -> str:
        return (
            f"the online store has not answered for {self.late_seconds:g} s or more; its disk may hang. Send the "
            "request again: it was recorded in full or not at all"
        )

    def _note_late(self, future: "asyncio.Future[Any]") -> StoreUnavailable:
        """Note that a call is late; returns the error for its callers."""

        def returned(done: "asyncio.Future[Any]") -> None:
            self._late.discard(done)
            done.exception()  # retrieve it, as no caller is waiting
            if self.watch and not self._late:
                self.watch.note_answer(LATE, time.monotonic())

        if self.metrics:
            self.metrics.count_store_call(self.late_seconds, failed=True)
        self._late.add(future)
        future.add_done_callback(returned)
        if self.watch:
            self.watch.note_failure(LATE, self._late_message())
        return StoreUnavailable(self._late_message())

    def _watched(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call the store, unless calls are paused."""
        if time.monotonic() < self._paused_until:
            raise StoreUnavailable(f"the online store is unavailable; retrying in {PAUSE_SECONDS:g} s")
        began, failed = time.monotonic(), False
        try:
            result = call(*arguments)
            if self.watch:
                self.watch.note_answer(CALLS, began)
            return result
        except StoreUnavailable as error:
            failed = True
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            if self.watch:
                self.watch.note_failure(CALLS, str(error))
            raise
        finally:
            if self.metrics:
                self.metrics.count_store_call(time.monotonic() - began, failed=failed)

    def close(self) -> None:
        """End the threads after their current calls, but do not wait for late ones. The next call starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=not self._late, cancel_futures=True)
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(CALLS_AT_ONCE if self._far else WRITERS, thread_name_prefix="decide")
        return self._pool

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        group = [self._waiting.popleft() for _ in range(min(LARGEST_GROUP, len(self._waiting)))]
        requests = [waiting.request for waiting in group]
        future = loop.run_in_executor(self._threads(), self._watched, self.decider.answer_all, requests)
        timer = loop.call_later(self.late_seconds, self._give_up, future, group)
        future.add_done_callback(lambda done: self._settle(loop, timer, group, done.exception() or done.result()))
        self._commits += 1
        if self._commits % TIDY_EVERY == 0:
            loop.run_in_executor(self._threads(), self.decider.tidy)

    def _give_up(self, future: "asyncio.Future[Any]", group: Sequence[_Waiting]) -> None:
        """Answer the callers of a late group, and those behind it."""
        error = self._note_late(future)
        for waiting in (*group, *self._waiting):
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
        self._waiting.clear()

    def _settle(
        self,
        loop: asyncio.AbstractEventLoop,
        timer: asyncio.TimerHandle,
        group: Sequence[_Waiting],
        answers: Sequence[Answer | Exception] | BaseException,
    ) -> None:
        timer.cancel()
        if isinstance(answers, BaseException):
            answers = [answers] * len(group)  # type: ignore[list-item]
        for waiting, answer in zip(group, answers, strict=True):
            if waiting.answer.done():  # its caller has gone, or it was late
                continue
            if isinstance(answer, Answer):
                waiting.answer.set_result(answer)
            else:
                waiting.answer.set_exception(answer)
        if self._waiting:
            self._commit(loop)
        else:
            self._committing = False
