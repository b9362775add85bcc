"""Scoring a file of any size with the serving model, in bounded memory.

Each row gets the score that the API would have given it if all earlier rows of the file had been sent first. Its
features come from what the home's online store knows, and from the file's rows that precede it in time, in whatever
order the file has them. Nothing is recorded: the home's store does not change, a copy counts the file's rows.

Rows from before the end of the home's data were counted with that data and are not counted again. The store keeps hours
only, and no more of them than the last events of the data needed, so the history of such a row is incomplete: the
column `history` is `partial` for it, and `complete` for all others.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.registry.registry import Registry, packed_only
from processing.contract import Contract
from processing.contracts.home_contract import added_columns, former_columns
from processing.contracts.reader import of_home
from processing.errors import BadInput, NotFound, RunFailed
from processing.intake.files import check_file, read_file
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.scratch import scratch_folder
from processing.store.interface import Replay
from processing.store.open import open_replay
from serving.decision.loaded_model import LoadedModel, load_model
from serving.decision.store_watch import LOST, is_store_lost
from serving.files.output_file import REFUSED, SCORED, OutputFile, check_suffix, sibling
from serving.files.row_scorer import RowScorer, events_of

REMEDY = "The model was trained for this contract: rename the file's columns, or name another --home"
CHUNK = 5_000  # rows whose state is in memory at a time


@dataclass(frozen=True)
class Summary:
    """The result for a file."""

    output: str
    model_version: str
    rows: int
    fraud: int
    partial_history: int
    refused: int
    refused_rows: str | None  # the file with the refused rows
    broken_off: str | None  # where the file is truncated


def score_file(path: Path, home: Home, output: Path | None, version: str | None, console: Console) -> Summary:
    """Score the rows of a file into another, see above. `version` replaces the serving model.

    Raises BadInput for a file or a home that cannot be used, and RunFailed if the file changes meanwhile.
    """
    check_suffix(path)
    contract = of_home(home)
    readable, optional = _with_former_columns(home, contract)
    check_file(path, readable, path.name, labelled=False, remedy=REMEDY, optional=optional)
    target = output or sibling(path, "scored")
    if target.resolve() == path.resolve():
        raise BadInput(f"{path} would be overwritten by its own scores; choose another --output")
    model = _load_model(home, contract, version)
    before = path.stat()
    with ExitStack() as stack:
        progress = stack.enter_context(_progress(console))
        replay = _open_replay(stack, home, contract)
        if replay is not None and is_store_lost(replay.state(), model.manifest):
            raise BadInput(f"{home.url}: {LOST}")
        source = _Source(path, readable, optional, datetime.now(UTC))
        rows = source.count(replay, progress)
        scored = stack.enter_context(OutputFile(target, SCORED))
        refused = stack.enter_context(OutputFile(sibling(target, "refused", ".csv"), REFUSED, optional=True))
        scorer = RowScorer(model, replay, scored, refused)
        bar = progress.add_task("scoring", total=rows)
        for batch in source.batches():
            scorer.score(batch)
            progress.advance(bar, len(batch))
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise RunFailed(f"{path} changed while it was read; nothing was written. Score it again when it is final")
    return Summary(
        str(target),
        model.version,
        scored.rows,
        scorer.fraud,
        scorer.partial,
        refused.rows,
        str(refused.path) if refused.rows else None,
        scorer.truncated_at,
    )


def _with_former_columns(home: Home, contract: Contract) -> tuple[Contract, frozenset[str]]:
    """The contract with the further columns that a model of an earlier one may use, and those that a file may lack."""
    former = former_columns(home, contract)
    numeric, categorical = (*contract.numeric, *former.numeric), contract.categorical | former.categorical
    optional = added_columns(home, contract) | set(former.numeric) | set(former.categorical)
    return replace(contract, numeric=numeric, categorical=categorical), optional


def _load_model(home: Home, contract: Contract, version: str | None) -> LoadedModel:
    registry = Registry(home)
    if version is None:
        latest = registry.latest()
        if latest is None:
            raise NotFound(f"no model has been promoted in {home.url}; train one with `fraudline run`")
        version = latest.version
    return load_model(registry, version, contract, packed_only=packed_only())


def _open_replay(stack: ExitStack, home: Home, contract: Contract) -> Replay | None:
    if not contract.entities:
        return None
    if not isinstance(home, LocalHome):
        raise BadInput(
            f"{home.url}: scoring a file needs a copy of the online store, so the home must be on this machine; "
            "send the rows to the API's /v1/score/batch instead"
        )
    folder = stack.enter_context(scratch_folder("score"))
    replay = open_replay(home, contract, folder)
    stack.callback(replay.close)
    return replay


@dataclass(frozen=True)
class _Source:
    """The rows of the file, which can be read more than once."""

    path: Path
    contract: Contract
    optional: frozenset[str]
    now: datetime

    def batches(self) -> Iterator[pa.RecordBatch]:
        batches = read_file(self.path, self.contract, self.path.name, self.now, labelled=False, optional=self.optional)
        for batch in batches:
            yield from (batch.slice(start, CHUNK) for start in range(0, len(batch), CHUNK))

    def count(self, replay: Replay | None, progress: Progress) -> int:
        """Count the rows in the copy of the store, and return how many there are."""
        bar, rows = progress.add_task("reading", total=None), 0
        for batch in self.batches():
            if replay:
                accepted = batch.filter(pc.is_null(batch.column("reason")))
                replay.count(events_of(accepted, self.contract, replay.plan.event_columns))
            rows += len(batch)
            progress.advance(bar, len(batch))
        progress.update(bar, total=rows)
        return rows


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
