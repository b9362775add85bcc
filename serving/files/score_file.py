"""`fraudline score FILE`: score a file of any size with the model that serves, in bounded memory.

    python -m serving.files.score_file FILE --home H [--output OUT] [--model VERSION] [--json]

Each row gets the score that the API would have given it with all of the file's earlier rows sent before: its features
are made of what the home's online store knows and of the rows in the file that lie before it in time, in whatever
order they stand. Nothing is recorded: the home's store stays as it is, a copy does the counting.

What lies before the end of the home's data was counted with the data and is not counted again. The store keeps hours
only, and no more of them than the data's last events needed, so the history of such old rows is not whole; the column
`history` says `partial` for them, and `complete` for all others.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.registry.registry import Registry, packed_only
from processing.contract import Contract
from processing.contracts.reader import of_home
from processing.errors import BadInput, FraudlineError, NotFound, RunFailed, report
from processing.intake.files import check_file, read_file
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.scratch import remove_abandoned, scratch_folder
from processing.store.interface import Replay
from processing.store.open import open_replay
from serving.decision.loaded_model import LoadedModel, load_model
from serving.decision.store_watch import LOST, is_store_lost
from serving.files.landed import Scoring, events_of
from serving.files.scored_file import REFUSED, SCORED, Output, beside, suffix_of

RENAMED = "The model was trained for this contract: rename the file's columns, or name another --home"
CHUNK = 5_000  # rows whose state is at hand at a time


@dataclass(frozen=True)
class Summary:
    """What became of a file's rows."""

    output: str
    model_version: str
    rows: int
    fraud: int
    partial_history: int
    refused: int
    refused_rows: str | None  # the file that has them
    broken_off: str | None  # where the file ends before its end


def score_file(path: Path, home: Home, output: Path | None, version: str | None, console: Console) -> Summary:
    """Score a file's rows into another. See the module's text.

    Raises BadInput for a file or a home that cannot be scored, and RunFailed if the file changes meanwhile.
    """
    suffix_of(path)
    contract = of_home(home)
    check_file(path, contract, path.name, labelled=False, remedy=RENAMED)
    target = output or beside(path, "scored")
    if target.resolve() == path.resolve():
        raise BadInput(f"{path} would be replaced by its own scores; give another --output")
    model = _model(home, contract, version)
    before = path.stat()
    with ExitStack() as stack:
        shown = stack.enter_context(_progress(console))
        replay = _replay(stack, home, contract)
        if replay is not None and is_store_lost(replay.state(), model.manifest):
            raise BadInput(f"{home.url}: {LOST}")
        now = datetime.now(UTC)
        source = _Source(path, contract, now)
        rows = source.count(replay, shown)
        scored = stack.enter_context(Output(target, SCORED))
        refused = stack.enter_context(Output(beside(target, "refused", ".csv"), REFUSED, optional=True))
        scoring = Scoring(model, replay, scored, refused)
        bar = shown.add_task("scoring", total=rows)
        for batch in source.batches():
            scoring.take(batch)
            shown.advance(bar, len(batch))
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise RunFailed(f"{path} changed while it was read; nothing was written, score it again when it is whole")
    return Summary(
        str(target),
        model.version,
        scored.rows,
        scoring.fraud,
        scoring.partial,
        refused.rows,
        str(refused.path) if refused.rows else None,
        scoring.broken_off,
    )


def _model(home: Home, contract: Contract, version: str | None) -> LoadedModel:
    registry = Registry(home)
    if version is None:
        latest = registry.latest()
        if latest is None:
            raise NotFound(f"no model was promoted in {home.url} yet; `fraudline run` makes and promotes one")
        version = latest.version
    return load_model(registry, version, contract, packed_only=packed_only())


def _replay(stack: ExitStack, home: Home, contract: Contract) -> Replay | None:
    if not contract.entities:
        return None
    if not isinstance(home, LocalHome):
        raise BadInput(
            f"{home.url}: a file is scored against a copy of the online store, which needs a home on this machine; "
            "send the rows to the API's /v1/score/batch instead"
        )
    folder = stack.enter_context(scratch_folder("score"))
    replay = open_replay(home, contract, folder)
    stack.callback(replay.close)
    return replay


@dataclass(frozen=True)
class _Source:
    """The rows of the file, as often as they are needed."""

    path: Path
    contract: Contract
    now: datetime

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in read_file(self.path, self.contract, self.path.name, self.now, labelled=False):
            yield from (batch.slice(start, CHUNK) for start in range(0, len(batch), CHUNK))

    def count(self, replay: Replay | None, shown: Progress) -> int:
        """Count all rows, in the copy of the store as well; how many there are."""
        bar, rows = shown.add_task("reading", total=None), 0
        for batch in self.batches():
            if replay:
                replay.count(events_of(batch.filter(pc.is_null(batch.column("reason"))), self.contract))
            rows += len(batch)
            shown.advance(bar, len(batch))
        shown.update(bar, total=rows)
        return rows


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. An error a user can meet is one line on stderr; Ctrl-C leaves no half file."""
    parser = argparse.ArgumentParser(prog="fraudline score")
    parser.add_argument("file", type=Path)
    parser.add_argument("--home", required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    remove_abandoned()
    try:
        done = score_file(given.file, open_home(given.home), given.output, given.model, Console(stderr=True))
    except FraudlineError as error:
        return report(error)
    except KeyboardInterrupt:
        print("\nstopped. Nothing was written.", file=sys.stderr)
        return 130
    print(json.dumps(asdict(done), indent=2) if given.json else _told(done))
    if done.broken_off:
        print(f"error: {given.file} breaks off at {done.broken_off}; the rows before it are scored", file=sys.stderr)
        return 1
    return 0


def _told(done: Summary) -> str:
    lines = [f"{done.output}: {done.rows:,} rows scored by {done.model_version}, {done.fraud:,} called fraud"]
    if done.partial_history:
        lines.append(
            f"{done.partial_history:,} of them lie before the end of the home's data: their history is not whole"
        )
    if done.refused:
        lines.append(f"{done.refused:,} rows refused, with line and reason in {done.refused_rows}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
