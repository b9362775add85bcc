"""Many transactions in one request: each decided as if it had come by itself, in the order in which they are given.

So a batch records its decisions and counts its transactions, and sent again it gets the same answers. What is wrong
with a row is told in its place, and the others are decided all the same.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from processing.errors import FraudlineError
from processing.store.interface import StoreUnavailable
from serving.api import problems, replies
from serving.api.guard import Rates
from serving.api.problems import Busy, TooLarge, Unreadable
from serving.api.validation import most_fields, validated
from serving.batch.formats import FORMATS, Format, Garbled, Most, Row, format_of
from serving.decision.decide import Answer
from serving.decision.follow import Follower, Served
from serving.settings import Settings

PATH = "/v1/score/batch"
AT_A_TIME = 1  # batches read or decided at any moment: they are to leave the processor to the single requests
WORK = 16  # times the most bytes of a body, that may be gone over in columns which share them
CHUNK = 40  # rows in a piece of the answer

Decide = Callable[[BaseModel, Served], Awaitable[Answer]]


class Batch:
    """One batch under way: `take` decides the next of its rows."""

    def __init__(self, request: type[BaseModel], decide: Decide, served: Served) -> None:
        self._request, self._decide, self._served = request, decide, served
        self._row = 0
        self._outage: StoreUnavailable | None = None

    async def take(self, rows: Iterable[Row]) -> list[replies.ScoredRow]:
        """What is answered to some rows, decided in this order: for each its decision, or why there is none."""
        return await asyncio.gather(*(self._answer(row) for row in rows))

    async def _answer(self, row: Row) -> replies.ScoredRow:
        place, self._row = self._row, self._row + 1
        if isinstance(row, Garbled):
            return replies.refused(place, row.status, row.message)
        try:
            asked = validated(self._request, row) if isinstance(row, bytes) else self._request.model_validate(row)
        except ValidationError as error:
            problem = problems.problem_of(error.errors(include_url=False, include_input=False), "the row")
            return replies.refused(place, 422, problem.message, problem.fields)
        except Unreadable as error:
            return replies.refused(place, 422, str(error))
        if self._outage:  # each of the rest would wait for the store's time limit too
            return self._not_tried(place)
        try:
            return replies.scored(await self._decide(asked, self._served))
        except FraudlineError as error:
            status = problems.status_of(error)
            if status is None:
                raise
            if isinstance(error, StoreUnavailable):
                if self._outage:
                    return self._not_tried(place)
                self._outage = error
            return replies.refused(place, status, str(error))

    def _not_tried(self, place: int) -> replies.ScoredRow:
        return replies.refused(place, 503, f"not tried, after an earlier row met this: {self._outage}")


class BatchRoute(APIRoute):
    """A route that only so many requests are on at once: each holds a body, and rows that wait to be decided."""

    def __init__(self, *arguments: Any, most_at_once: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._answer, self._most, self._under_way = self.app, most_at_once, 0
        self.app = self._in_turn

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._under_way >= self._most:
            raise Busy(f"{self._most} batches are under way already; send this one when one of them is answered")
        self._under_way += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self._under_way -= 1


def install(
    app: FastAPI,
    request: type[BaseModel],
    decide: Decide,
    at_once: int,
    follower: Follower,
    rates: Rates,
    settings: Settings,
    dependencies: Sequence[Any] = (),
) -> None:
    """Give the app the endpoint. `decide` is asked for so many rows at once as `at_once` says, in their order.

    Single requests keep their latency because of that: those that wait are decided together with these few rows, not
    after the whole batch. A thread of its own would hold the interpreter, and the store's lock, for longer.
    """
    reading, deciding = CapacityLimiter(AT_A_TIME), asyncio.Semaphore(AT_A_TIME)
    most = Most(settings.batch_rows, settings.most_bytes, most_fields(request), WORK * settings.batch_bytes)

    async def answers(batch: Batch, rows: Collection[Row], form: Format) -> AsyncIterator[bytes]:
        writer, answered, left = form.writer(), list[replies.ScoredRow](), iter(rows)
        while group := list(itertools.islice(left, at_once)):
            async with deciding:
                answered += await batch.take(group)
            if len(answered) >= CHUNK:
                # A caller who is gone ends this here; rows decided until then stay decided.
                yield writer.write(answered)
                answered = []
        yield writer.write(answered) + writer.end() if answered else writer.end()

    async def score_batch(sent: Request) -> StreamingResponse:
        """Decide many transactions, each as if it had come by itself, in the order in which they are given.

        Takes a JSON array, NDJSON or an Arrow stream, and answers in kind, row by row as they are decided. A row that
        is refused has `row` (from 0), `status` and `error` in place of a decision, and does not spoil the others.
        Each row counts against the rate of the key.
        """
        form = format_of(sent.headers.get("content-type", ""))
        served = follower.current()
        body = await _read(sent, settings.batch_bytes)
        rows = await to_thread.run_sync(lambda: form.read(body, most), limiter=reading)
        if key := sent.scope.get("fraudline_key"):
            rates.charge(key, len(rows))
        return StreamingResponse(answers(Batch(request, decide, served), rows, form), media_type=form.media_type)

    forms = {kind: {"schema": form.schema()} for kind, form in FORMATS.items()}
    others = {kind: shape for kind, shape in forms.items() if kind != "application/json"}  # `model` tells of that one
    answer = {"model": list[replies.ScoredRow], "description": "An answer for every row, in order", "content": others}
    route = BatchRoute(
        PATH,
        score_batch,
        methods=["POST"],
        response_class=StreamingResponse,
        dependencies=dependencies,
        responses={200: answer, **problems.refusals(413, 415, 422, 503)},
        openapi_extra={"requestBody": {"required": True, "content": forms}},
        most_at_once=settings.batches,
    )
    app.router.routes.append(route)


async def _read(request: Request, most: int) -> bytes:
    """The body. Raises TooLarge as soon as it is known to be too long, whatever its headers say."""
    too_large = TooLarge(f"the batch is longer than {most:,} bytes; send it in parts (or raise FRAUDLINE_BATCH_BYTES)")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise too_large
    return bytes(body)
