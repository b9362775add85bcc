"""Group commit: the decisions that wait at the same moment are made in one transaction of the online store.

What a transaction costs besides its statements is paid once for all of them, and nothing is answered before it is
committed. See Gray and Reuter, Transaction Processing (1993), on group commit.
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
from serving.decision.decide import Answer, Asked, Decider
from serving.decision.metrics import Metrics
from serving.decision.watch import CALLS, LATE, LOST, StoreWatch

T = TypeVar("T")

ROWS_AT_ONCE = 4  # of a batch
LARGEST = 32  # decisions in one transaction
CALLS_AT_ONCE = 32  # to a store that is reached over the network
WRITERS = 2  # threads for a store in a file: one decides, the other takes reports and tidies up
MOST_WAITING = 2_000
PAUSE_SECONDS = 0.5  # for which a store that did not answer is left alone
TIDY_EVERY = 100  # commits


class _Waiting(NamedTuple):
    """A decision that is asked for, and who waits for it."""

    asked: Asked
    answer: "asyncio.Future[Answer]"


def late_after(timeout: float) -> float:
    """Seconds after which a call is late to a store that is to answer in `timeout`.

    It may wait that long for the writers of this process, and again for those of others.
    """
    return 2 * timeout + 1.0


class GroupCommit:
    """Makes decisions for the coroutines of one event loop.

    The store is used in threads, never on the loop: what writes to a disk that hangs does not return, and the loop has
    to answer all the same. For a store in a file one thread makes a group's decisions, and those asked for meanwhile
    make the next group. A store behind a network is called for each decision by itself.

    A call that takes longer than `late_seconds` is late: who waits for it, or asks while it has not returned, gets a
    StoreUnavailable. What it was to record is recorded whole if it returns, or not at all.
    """

    def __init__(
        self,
        decider: Decider,
        *,
        without_store: Literal["refuse", "score"] = "refuse",
        metrics: Metrics | None = None,
        watch: StoreWatch | None = None,
        late_seconds: float = late_after(2.0),
    ) -> None:
        self.decider, self.without_store, self.metrics, self.watch = decider, without_store, metrics, watch
        self.late_seconds = late_seconds
        self._far = decider.store is not None and not decider.store.near
        self._pool: ThreadPoolExecutor | None = None  # started when it is needed
        self._waiting: deque[_Waiting] = deque()
        self._committing = False
        self._present = 0  # calls that are not answered
        self._commits = 0
        self._paused_until = 0.0
        self._late: set[asyncio.Future[Any]] = set()

    @property
    def rows_at_once(self) -> int:
        """How many rows of a batch to ask for together: few in a group, and one where groups keep no order."""
        return 1 if self._far else ROWS_AT_ONCE

    async def answer(self, asked: Asked) -> Answer:
        """What `Decider.answer` gives and raises.

        StoreUnavailable also when too many are waiting already, when the store was lost, and at once for half a second
        after it did not answer: who waits for it then would wait in vain. If `without_store` is "score", nobody gets a
        StoreUnavailable, but the answer of `Decider.without_store`.
        """
        if self.decider.store is None:
            return self.decider.answer(*asked)
        try:
            if self.watch and self.watch.is_lost(asked.model.manifest):
                raise StoreUnavailable(LOST)
            if self._far:
                return await self._in_thread(self.decider.answer, *asked)
            return await self._in_group(asked)
        except StoreUnavailable:
            self._count_refusal()
            if self.without_store == "refuse":
                raise
            return self.decider.without_store(asked)

    async def report(self, transaction_id: str, is_fraud: bool) -> None:
        """What `Decider.report` does and raises."""
        try:
            await self._in_thread(self.decider.report, transaction_id, is_fraud)
        except StoreUnavailable:
            self._count_refusal()
            raise

    def _count_refusal(self) -> None:
        if self.metrics:
            self.metrics.refused_by_store()

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        with self._counted():
            made = functools.partial(self._watched, call, *arguments)
            future = asyncio.get_running_loop().run_in_executor(self._threads(), made)
            done, _ = await asyncio.wait([future], timeout=self.late_seconds)
            if not done:
                raise self._note_late(future)
            return future.result()

    async def _in_group(self, asked: Asked) -> Answer:
        with self._counted():
            loop = asyncio.get_running_loop()
            waiting = _Waiting(asked, loop.create_future())
            self._waiting.append(waiting)
            if not self._committing:
                self._committing = True
                loop.call_soon(self._commit, loop)  # after what else is ready: more may come to wait
            return await waiting.answer

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._late:
            raise StoreUnavailable(self._late_words())
        if self._present >= MOST_WAITING:
            raise StoreUnavailable("more requests are waiting than can be answered in time")
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1

    def _late_words(self) -> str:
        return (
            f"the online store was asked {self.late_seconds:g} s ago or longer, and has not answered yet; its disk may "
            "hang. What was asked is recorded whole or not at all: send it again"
        )

    def _note_late(self, future: "asyncio.Future[Any]") -> StoreUnavailable:
        """A call is late; the error for who waited for it."""

        def returned(done: "asyncio.Future[Any]") -> None:
            self._late.discard(done)
            done.exception()  # nobody waits for it any more
            if self.watch and not self._late:
                self.watch.answered(LATE, time.monotonic())

        if self.metrics:
            self.metrics.stored(self.late_seconds, failed=True)
        self._late.add(future)
        future.add_done_callback(returned)
        if self.watch:
            self.watch.failed(LATE, self._late_words())
        return StoreUnavailable(self._late_words())

    def _watched(self, call: Callable[..., T], *arguments: Any) -> T:
        """A call to the store, unless it is left alone now."""
        if time.monotonic() < self._paused_until:
            raise StoreUnavailable("the online store did not answer a moment ago, and is left alone until the next")
        began, failed = time.monotonic(), False
        try:
            result = call(*arguments)
            if self.watch:
                self.watch.answered(CALLS, began)
            return result
        except StoreUnavailable as error:
            failed = True
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            if self.watch:
                self.watch.failed(CALLS, str(error))
            raise
        finally:
            if self.metrics:
                self.metrics.stored(time.monotonic() - began, failed=failed)

    def close(self) -> None:
        """End the threads, each after what it is at, unless that is late. Used again, there are new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=not self._late, cancel_futures=True)
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(CALLS_AT_ONCE if self._far else WRITERS, thread_name_prefix="decide")
        return self._pool

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        group = [self._waiting.popleft() for _ in range(min(LARGEST, len(self._waiting)))]
        asked = [waiting.asked for waiting in group]
        future = loop.run_in_executor(self._threads(), self._watched, self.decider.answer_all, asked)
        timer = loop.call_later(self.late_seconds, self._give_up, future, group)
        future.add_done_callback(lambda done: self._settle(loop, timer, group, done.exception() or done.result()))
        self._commits += 1
        if self._commits % TIDY_EVERY == 0:
            loop.run_in_executor(self._threads(), self.decider.tidy)

    def _give_up(self, future: "asyncio.Future[Any]", group: Sequence[_Waiting]) -> None:
        """Answer who waits for a group that is late, or behind it."""
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
            if waiting.answer.done():  # its caller has gone, or was answered as it was late
                continue
            if isinstance(answer, Answer):
                waiting.answer.set_result(answer)
            else:
                waiting.answer.set_exception(answer)
        if self._waiting:
            self._commit(loop)
        else:
            self._committing = False
