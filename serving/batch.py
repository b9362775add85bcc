"""Many transactions in one request: each decided as if it had come by itself, in the order in which they are given.

So a batch records its decisions and counts its transactions, and sent again it gets the same answers. What is wrong
with a row is told in its place, and the others are decided all the same.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from processing.errors import FraudlineError
from processing.online import StoreUnavailable
from serving import problems, replies
from serving.batch_formats import FORMATS, Format, Garbled, Row, format_of
from serving.decide import Answer
from serving.follow import Follower, Served
from serving.problems import TooLarge
from serving.settings import Settings

PATH = "/v1/score/batch"
AT_A_TIME = 1  # batches read or decided at any moment: they are to leave the processor to the single requests
CHUNK = 40  # rows in a piece of the answer

Decide = Callable[[BaseModel, Served], Awaitable[Answer]]


class Batch:
    """One batch under way: `take` decides the next of its rows."""

    def __init__(self, request: type[BaseModel], decide: Decide, served: Served) -> None:
        self._request, self._decide, self._served = request, decide, served
        self._row = 0
        self._outage: StoreUnavailable | None = None

    async def take(self, rows: Sequence[Row]) -> list[replies.ScoredRow]:
        """What is answered to some rows, decided in this order: for each its decision, or why there is none."""
        return await asyncio.gather(*(self._answer(row) for row in rows))

    async def _answer(self, row: Row) -> replies.ScoredRow:
        place, self._row = self._row, self._row + 1
        if isinstance(row, Garbled):
            return replies.refused(place, 422, row.message)
        try:
            asked = self._request.model_validate(row)
        except ValidationError as error:
            fields = problems.field_problems(error.errors(include_url=False))
            message = problems.summary(fields) or "expected an object with the fields of a transaction"
            return replies.refused(place, 422, message, fields)
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


def install(
    app: FastAPI,
    request: type[BaseModel],
    decide: Decide,
    at_once: int,
    follower: Follower,
    settings: Settings,
    dependencies: Sequence[Any] = (),
) -> None:
    """Give the app the endpoint. `decide` is asked for so many rows at once as `at_once` says, in their order.

    Single requests keep their latency because of that: those that wait are decided together with these few rows, not
    after the whole batch. A thread of its own would hold the interpreter, and the store's lock, for longer.
    """
    reading, deciding = CapacityLimiter(AT_A_TIME), asyncio.Semaphore(AT_A_TIME)

    async def answers(batch: Batch, rows: list[Row], form: Format) -> AsyncIterator[bytes]:
        writer, answered = form.writer(), list[replies.ScoredRow]()
        for start in range(0, len(rows), at_once):
            async with deciding:
                answered += await batch.take(rows[start : start + at_once])
            if len(answered) >= CHUNK:
                # A caller who is gone ends this here; rows decided until then stay decided.
                yield writer.write(answered)
                answered = []
        yield writer.write(answered) + writer.end() if answered else writer.end()

    async def score_batch(sent: Request) -> StreamingResponse:
        """Decide many transactions, each as if it had come by itself, in the order in which they are given.

        Takes a JSON array, NDJSON or an Arrow stream, and answers in kind, row by row as they are decided. A row that
        is refused has `row` (from 0), `status` and `error` in place of a decision, and does not spoil the others.
        """
        form = format_of(sent.headers.get("content-type", ""))
        served = follower.current()
        body = await _read(sent, settings.batch_bytes)
        rows = await to_thread.run_sync(lambda: form.read(body, settings.batch_rows), limiter=reading)
        return StreamingResponse(answers(Batch(request, decide, served), rows, form), media_type=form.media_type)

    forms = {kind: {"schema": form.schema()} for kind, form in FORMATS.items()}
    others = {kind: shape for kind, shape in forms.items() if kind != "application/json"}  # `model` tells of that one
    answer = {"model": list[replies.ScoredRow], "description": "An answer for every row, in order", "content": others}
    app.post(
        PATH,
        response_class=StreamingResponse,
        dependencies=dependencies,
        responses={200: answer, **problems.refusals(413, 415, 422, 503)},
        openapi_extra={"requestBody": {"required": True, "content": forms}},
    )(score_batch)


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
