"""The rows of one batch, each decided as if it had been sent on its own.

So a batch records its decisions and counts its transactions, and gets the same response when it is sent again. The
error of a row takes the place of its decision, and the other rows are decided.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from pydantic import BaseModel, ValidationError

from processing.errors import FraudlineError
from processing.store.interface import StoreUnavailable
from serving.api.problems import MalformedRequest, error_detail, status_of
from serving.api.responses import RowResponse, row_error, score_response
from serving.api.validation import validate_json
from serving.batch.format import Row, UnreadableRow
from serving.decision.decider import Answer

Decide = Callable[[BaseModel], Awaitable[Answer]]


class BatchDecider:
    """Decides the rows of one batch, in their order. `model` is that of a transaction."""

    def __init__(self, model: type[BaseModel], decide: Decide) -> None:
        self._model, self._decide = model, decide
        self._next = 0  # position of the next row
        self._outage: StoreUnavailable | None = None

    async def decide(self, rows: Iterable[Row]) -> list[RowResponse]:
        """Decide the next rows together: the decision on each, or why there is none."""
        return await asyncio.gather(*(self._decide_row(row) for row in rows))

    async def _decide_row(self, row: Row) -> RowResponse:
        position, self._next = self._next, self._next + 1
        if isinstance(row, UnreadableRow):
            return row_error(position, row.status, row.message)
        try:
            transaction = validate_json(self._model, row) if isinstance(row, bytes) else self._model.model_validate(row)
        except ValidationError as error:
            detail = error_detail(error.errors(include_url=False, include_input=False), "the row")
            return row_error(position, 422, detail.message, detail.fields)
        except MalformedRequest as error:
            return row_error(position, 422, str(error))
        if self._outage:  # every further row would wait for the store's timeout
            return self._not_tried(position)
        try:
            return score_response(await self._decide(transaction))
        except FraudlineError as error:
            status = status_of(error)
            if status is None:
                raise
            if isinstance(error, StoreUnavailable):
                if self._outage:
                    return self._not_tried(position)
                self._outage = error
            return row_error(position, status, str(error))

    def _not_tried(self, position: int) -> RowResponse:
        return row_error(position, 503, f"not tried, because an earlier row failed: {self._outage}")
