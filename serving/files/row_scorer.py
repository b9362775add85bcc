"""Scoring the rows of a file, batch by batch."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from processing.contract import Contract
from processing.features.table_features import compute_rows
from processing.intake.files import UNREADABLE
from processing.store.decisions import Event
from processing.store.interface import Replay
from serving.decision.loaded_model import LoadedModel
from serving.decision.rules import FRAUD, decide
from serving.files.output_file import REFUSED, OutputFile


def events_of(rows: pa.RecordBatch, contract: Contract, columns: Sequence[str]) -> list[Event]:
    """Accepted rows as events for the windows, with those of the further `columns` that they have."""
    names = contract.key_names
    times = rows.column("event_time").cast(pa.int64()).to_pylist()
    keys: Iterator[tuple[str, ...]] = (
        zip(*(rows.column(name).to_pylist() for name in names), strict=True) if names else iter([()] * len(rows))
    )
    ids, amounts = rows.column("transaction_id").to_pylist(), rows.column("amount_minor").to_pylist()
    read = [name for name in columns if name in rows.schema.names]
    values: Iterator[tuple[Any, ...]] = (
        zip(*(rows.column(name).to_pylist() for name in read), strict=True) if read else iter([()] * len(rows))
    )
    extras = (tuple(zip(read, of_row, strict=True)) for of_row in values)
    return [Event(*event) for event in zip(ids, times, amounts, keys, extras, strict=True)]


class RowScorer:
    """Writes scored rows to one file and refused rows to another.

    `fraud` and `partial` count the rows flagged as fraud and those with partial history; `truncated_at` says where the
    file is truncated, if it is.
    """

    def __init__(self, model: LoadedModel, replay: Replay | None, scored: OutputFile, refused: OutputFile) -> None:
        self.model, self.replay, self.scored, self.refused = model, replay, scored, refused
        self.fraud = self.partial = 0
        self.truncated_at: str | None = None

    def score(self, batch: pa.RecordBatch) -> None:
        """Score the accepted rows of a batch. The replay must have counted all accepted rows of the file before."""
        accepted = batch.filter(pc.is_null(batch.column("reason")))
        self._refuse(batch.filter(pc.is_valid(batch.column("reason"))))
        if not len(accepted):
            return
        events = events_of(accepted, self.model.contract, self.replay.plan.event_columns if self.replay else ())
        states: Sequence[list[int] | None] = (
            self.replay.states(events, self.model.plan) if self.replay else [[]] * len(events)
        )
        conflicts = np.array([state is None for state in states])
        if conflicts.any():
            self._refuse(_id_conflicts(accepted.filter(pa.array(conflicts))))
            accepted = accepted.filter(pa.array(~conflicts))
            events = [event for event, conflict in zip(events, conflicts, strict=True) if not conflict]
        if events:
            self._score(accepted, events, np.array([state for state in states if state is not None], np.int64))

    def _refuse(self, rows: pa.RecordBatch) -> None:
        for line, reason in zip(rows.column("line").to_pylist(), rows.column("reason").to_pylist(), strict=True):
            if reason.startswith(UNREADABLE):
                self.truncated_at = f"line {line}: {reason}"
        self.refused.write({name: rows.column(name) for name in REFUSED.names})

    def _score(self, rows: pa.RecordBatch, events: list[Event], state: NDArray[np.int64]) -> None:
        model, n = self.model, len(events)
        values = compute_rows(model.features, rows, state.reshape(n, -1))
        scores = model.predict(values)
        decisions = [
            decide(event, score, model.threshold) for event, score in zip(events, scores.tolist(), strict=True)
        ]
        flagged = [row for row, decision in enumerate(decisions) if decision == FRAUD]
        reasons: list[str | None] = [None] * n
        for i, of_row in zip(flagged, model.reasons_for(values[flagged]) or [()] * len(flagged), strict=True):
            reasons[i] = "; ".join(reason.text for reason in of_row) or None
        old = np.array([self.replay is not None and event.hour < self.replay.horizon for event in events])
        self.fraud += len(flagged)
        self.partial += int(old.sum())
        self.scored.write(
            {
                "transaction_id": rows.column("transaction_id"),
                "decision": decisions,
                "score": scores,
                "reasons": reasons,
                "history": np.where(old, "partial", "complete"),
                "threshold": np.full(n, model.threshold),
                "model_version": [model.version] * n,
            }
        )


def _id_conflicts(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows whose id was already used for another transaction, as refused rows."""
    contents = [
        {name: value for name, value in row.items() if name not in REFUSED.names and value is not None}
        for row in rows.to_pylist()
    ]
    reason = "the id was already used for another transaction (time, amount or entities differ)"
    columns = {
        "file": rows.column("file"),
        "line": rows.column("line"),
        "reason": pa.array([reason] * len(contents)),
        "content": pa.array([json.dumps(row, default=str, ensure_ascii=False) for row in contents]),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in REFUSED.names], schema=REFUSED)
