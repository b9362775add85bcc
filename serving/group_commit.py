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

from processing.online import StoreBusy, StoreUnavailable
from serving.decide import Answer, Asked, Decider
from serving.metrics import Metrics

T = TypeVar("T")

ROWS_AT_ONCE = 4  # of a batch
LARGEST = 32  # decisions in one transaction: the event loop stands still for some milliseconds at most
CALLS_AT_ONCE = 32  # to a store that is reached over the network
MOST_WAITING = 2_000
PAUSE_SECONDS = 0.5  # for which a store that did not answer is left alone
TIDY_EVERY = 100  # commits


class _Waiting(NamedTuple):
    """A decision that is asked for, and who waits for it."""

    asked: Asked
    answer: "asyncio.Future[Answer]"


class GroupCommit:
    """Makes decisions for the coroutines of one event loop.

    A store in a file is used on the event loop itself: a decision takes less time there than handing it to a thread
    would. Only while the store is busy (another process writes to it, or another thread of this one) does a thread
    wait in the loop's place, and the decisions asked for meanwhile make the next group. A store behind a network is
    called in threads, each decision by itself.
    """

    def __init__(
        self,
        decider: Decider,
        *,
        without_store: Literal["refuse", "score"] = "refuse",
        metrics: Metrics | None = None,
    ) -> None:
        self.decider, self.without_store, self.metrics = decider, without_store, metrics
        self._far = decider.store is not None and not decider.store.near
        self._pool: ThreadPoolExecutor | None = None  # started when it is needed
        self._waiting: deque[_Waiting] = deque()
        self._committing = False
        self._present = 0  # calls that are not answered
        self._commits = 0
        self._paused_until = 0.0

    @property
    def rows_at_once(self) -> int:
        """How many rows of a batch to ask for together: few in a group, and one where groups keep no order."""
        return 1 if self._far else ROWS_AT_ONCE

    async def answer(self, asked: Asked) -> Answer:
        """What `Decider.answer` gives and raises.

        StoreUnavailable also when too many are waiting already, and at once for half a second after the store did
        not answer: who waits for it then would wait in vain. If `without_store` is "score", nobody gets a
        StoreUnavailable, but the answer of `Decider.without_store`.
        """
        if self.decider.store is None:
            return self.decider.answer(*asked)
        try:
            if self._far:
                return await self._in_thread(self.decider.answer, *asked)
            return await self._in_group(asked)
        except StoreUnavailable:
            if self.without_store == "refuse":
                raise
            return self.decider.without_store(asked)

    async def report(self, transaction_id: str, is_fraud: bool) -> None:
        """What `Decider.report` does and raises."""
        await self._in_thread(self.decider.report, transaction_id, is_fraud)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        with self._counted():
            return await asyncio.get_running_loop().run_in_executor(
                self._threads(), functools.partial(self._watched, call, *arguments)
            )

    async def _in_group(self, asked: Asked) -> Answer:
        with self._counted():
            loop = asyncio.get_running_loop()
            waiting = _Waiting(asked, loop.create_future())
            self._waiting.append(waiting)
            if not self._committing:
                self._committing = True
                loop.call_soon(self._commit, loop)
            return await waiting.answer

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._present >= MOST_WAITING:
            raise StoreUnavailable("more requests are waiting than can be answered in time")
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1

    def _watched(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """A call to the store, unless it is left alone now."""
        if time.monotonic() < self._paused_until:
            raise StoreUnavailable("the online store did not answer a moment ago, and is left alone until the next")
        began, failed = time.monotonic(), False
        try:
            return call(*arguments, **options)
        except StoreBusy:
            raise
        except StoreUnavailable:
            failed = True
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            raise
        finally:
            if self.metrics:
                self.metrics.stored(time.monotonic() - began, failed=failed)

    def close(self) -> None:
        """End the threads, each after what it is at. Used again, there are new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(CALLS_AT_ONCE if self._far else 1, thread_name_prefix="decide")
        return self._pool

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        group = [self._waiting.popleft() for _ in range(min(LARGEST, len(self._waiting)))]
        asked = [waiting.asked for waiting in group]
        try:
            answers = self._watched(self.decider.answer_all, asked, wait=False)
        except StoreBusy:
            waited = loop.run_in_executor(self._threads(), self._watched, self.decider.answer_all, asked)
            waited.add_done_callback(lambda done: self._settle(loop, group, done.exception() or done.result()))
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            self._settle(loop, group, error)
        else:
            self._settle(loop, group, answers)
        self._commits += 1
        if self._commits % TIDY_EVERY == 0:
            loop.run_in_executor(self._threads(), self.decider.tidy)

    def _settle(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Waiting],
        answers: Sequence[Answer | Exception] | BaseException,
    ) -> None:
        if isinstance(answers, BaseException):
            answers = [answers] * len(group)  # type: ignore[list-item]
        for waiting, answer in zip(group, answers, strict=True):
            if waiting.answer.done():  # its caller has gone
                continue
            if isinstance(answer, Answer):
                waiting.answer.set_result(answer)
            else:
                waiting.answer.set_exception(answer)
        if self._waiting:
            loop.call_soon(self._commit, loop)  # after what else is ready: more may come to wait
        else:
            self._committing = False
