"""POST /v1/score/batch: decide many transactions in one request."""

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Collection
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from serving.api.context import ApiContext
from serving.api.guard import NEEDS_KEY
from serving.api.problems import Busy, TooLarge, error_responses
from serving.api.responses import RowResponse
from serving.api.validation import max_fields
from serving.batch.format import BatchFormat, BatchLimits, Row
from serving.batch.formats import FORMATS, format_of
from serving.batch.row_decisions import BatchDecider

PATH = "/v1/score/batch"
AT_A_TIME = 1  # batches being parsed or decided at any moment, to leave the processor to single requests
WORK_FACTOR = 16  # bytes of columns to read, as a multiple of the maximum bytes of a body
CHUNK = 40  # rows in a part of the response


class BatchRoute(APIRoute):
    """A route that handles a limited number of requests at once, because each holds a body and undecided rows."""

    def __init__(self, *arguments: Any, max_batches: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._handle, self._max, self._active = self.app, max_batches, 0
        self.app = self._handle_if_free

    async def _handle_if_free(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._active >= self._max:
            raise Busy(f"{self._max} batches are in progress; send this one when one of them is done")
        self._active += 1
        try:
            await self._handle(scope, receive, send)
        finally:
            self._active -= 1


class BatchEndpoint:
    """The endpoint of one app.

    A few rows at a time are decided together, so single requests keep their latency: those that wait join the decisions
    on these few rows, and need not wait for the whole batch. A thread for the batch would hold the interpreter, and
    the store's lock, for longer.
    """

    def __init__(self, context: ApiContext) -> None:
        settings = context.settings
        self.context = context
        self._limits = BatchLimits(
            settings.batch_rows,
            settings.most_bytes,
            max_fields(context.transaction_model),
            WORK_FACTOR * settings.batch_bytes,
        )
        self._parsing, self._deciding = CapacityLimiter(AT_A_TIME), asyncio.Semaphore(AT_A_TIME)

    async def score_batch(self, request: Request) -> StreamingResponse:
        """Decide many transactions, in their order, each as if it had been sent on its own.

        Send a JSON array, NDJSON or an Arrow stream; the response has the same format and arrives as rows are decided.
        A row that cannot be decided has `row` (its position, from 0), `status` and `error` in place of a decision; the
        other rows are decided. Each row counts against the key's rate.
        """
        context = self.context
        batch_format = format_of(request.headers.get("content-type", ""))
        served = context.service.follower.current()
        body = await _read_body(request, context.settings.batch_bytes)
        rows = await to_thread.run_sync(batch_format.read, body, self._limits, limiter=self._parsing)
        if key := request.scope.get("fraudline_key"):
            context.rate_limiter.charge(key, len(rows))
        decider = BatchDecider(context.transaction_model, functools.partial(context.decide, served=served))
        return StreamingResponse(self._decide(decider, rows, batch_format), media_type=batch_format.media_type)

    async def _decide(
        self, decider: BatchDecider, rows: Collection[Row], batch_format: BatchFormat
    ) -> AsyncIterator[bytes]:
        writer, decided, remaining = batch_format.writer(), list[RowResponse](), iter(rows)
        rows_at_once = self.context.service.decisions.rows_at_once
        while group := list(itertools.islice(remaining, rows_at_once)):
            async with self._deciding:
                decided += await decider.decide(group)
            if len(decided) >= CHUNK:
                yield writer.write(decided)  # stops here if the caller hangs up; rows decided so far stay decided
                decided = []
        yield writer.write(decided) + writer.end() if decided else writer.end()


def router(context: ApiContext) -> APIRouter:
    """The route for batches of the context's contract."""
    schemas = {media_type: {"schema": each.schema()} for media_type, each in FORMATS.items()}
    without_json = {media_type: each for media_type, each in schemas.items() if media_type != "application/json"}
    response = {"model": list[RowResponse], "description": "An entry for each row, in order", "content": without_json}
    route = BatchRoute(
        PATH,
        BatchEndpoint(context).score_batch,
        methods=["POST"],
        response_class=StreamingResponse,
        dependencies=[NEEDS_KEY],
        responses={200: response, **error_responses(413, 415, 422, 503)},
        openapi_extra={"requestBody": {"required": True, "content": schemas}},
        max_batches=context.settings.batches,
    )
    return APIRouter(routes=[route])


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """The body. Raises TooLarge as soon as it is too long, whatever its headers say."""
    too_large = TooLarge(f"the batch is longer than {max_bytes:,} bytes; split it (or raise FRAUDLINE_BATCH_BYTES)")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)
