"""`fraudline score FILE`: the scores that the API would give, for files of any size, complete or not at all."""

import csv
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from feature_job import profiles_of
from serving_home import TestClient, begin, explained_home, packed, promote, publish, row, serving_home, settings
from typer.main import get_command

from pipeline.command import serving as command
from pipeline.command.main import app
from processing.contracts import reader as contracts
from processing.durations import HOUR_US
from processing.errors import RunFailed
from processing.storage.home import Home
from processing.store.decisions import Event
from processing.store.open import open_store
from processing.store.sqlite.replay import SqliteReplay
from serving.app import create_app
from serving.files.__main__ import main
from serving.files.row_scorer import RowScorer

CONTRACT = contracts.load("transactions")
NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0) - timedelta(hours=1)


def fraudline_score(*arguments: str) -> int:
    """The exit code of the command, whose process runs in this one."""
    codes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "exec_module", lambda module, options: codes.append(main(options)))
        app(["score", *arguments], standalone_mode=False)
    return codes[0]


def transactions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Transactions of a few customers and terminals within three days, many of them in the same hour."""
    rng = random.Random(seed)
    return [
        row(
            CONTRACT,
            transaction_id=f"f{seed}-{i}",
            event_time=(NOW - timedelta(minutes=rng.choice([rng.randrange(50), rng.randrange(3 * 1440)]))).isoformat(),
            amount=rng.choice([2.5, 40.0, 61.0, 900.0]),
            customer_id=f"C{rng.randrange(4)}",
            terminal_id=f"T{rng.randrange(3)}",
            channel=rng.choice(["chip", "online", "by post"]),
        )
        for i in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.output_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as file:
            pyarrow.csv.write_csv(table, file)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    return [dict(entry) for entry in table.to_pylist()]


def score(path: Path, home: Path, *options: str) -> dict[str, Any]:
    """The summary of a command that succeeds."""
    output = path.parent / "summary.json"
    with open(output, "w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        assert fraudline_score(str(path), "--home", str(home), "--json", *options) == 0
    summary: dict[str, Any] = json.loads(output.read_text())
    return summary


def fill_store(home: Home) -> None:
    """Fill the store as a feature job does up to four hours ago, with the history of a customer and a terminal."""
    horizon = int(NOW.timestamp()) // 3600 - 4
    store = open_store(home, CONTRACT)
    past = {Event(f"past{i}", (horizon - 30) * HOUR_US + i, 4_000, ("C1", "T1")): int(i == 0) for i in range(5)}
    store.refresh(horizon, [list(profiles_of(store.plan, past, horizon))], [], 0)
    store.close()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_rows_get_the_scores_of_the_api_in_the_order_of_their_times(tmp_path: Path, suffix: str) -> None:
    homes = [explained_home(tmp_path / name) for name in ("file", "api")]
    for home in homes:
        fill_store(home)
    horizon = datetime.fromtimestamp((int(NOW.timestamp()) // 3600 - 4) * 3600, UTC).isoformat()
    rows = [each for each in transactions(150) if each["event_time"] >= horizon]
    summary = score(write(tmp_path / f"june{suffix}", rows), tmp_path / "file")
    scored = {each["transaction_id"]: each for each in read(tmp_path / f"june.scored{suffix}")}
    with TestClient(create_app(settings(tmp_path / "api"))) as client:
        for each in sorted(rows, key=lambda each: str(each["event_time"])):
            expected = client.post("/v1/score", json=each).json()
            actual = scored.pop(each["transaction_id"])
            assert (actual["score"], actual["decision"], actual["history"]) == (
                expected["score"],
                expected["decision"],
                "complete",
            )
            assert (actual["reasons"] or "") == "; ".join(reason["text"] for reason in expected["reasons"])
    assert not scored
    assert (summary["rows"], summary["refused"], summary["refused_rows"], summary["partial_history"]) == (
        len(rows),
        0,
        None,
        0,
    )


def test_scoring_a_file_records_nothing(tmp_path: Path) -> None:
    home = explained_home(tmp_path / "home")
    fill_store(home)
    path = write(tmp_path / "june.csv", transactions(40))
    first = score(path, tmp_path / "home")
    scores = (tmp_path / "june.scored.csv").read_bytes()
    assert score(path, tmp_path / "home") == first
    assert (tmp_path / "june.scored.csv").read_bytes() == scores
    store = open_store(home, CONTRACT)
    assert store.decisions(10) == []
    store.close()


def test_transactions_already_counted_by_the_api_are_not_counted_again(tmp_path: Path) -> None:
    explained_home(tmp_path)
    rows = transactions(30)
    path = write(tmp_path / "june.parquet", rows)
    score(path, tmp_path)
    before = read(tmp_path / "june.scored.parquet")
    with TestClient(create_app(settings(tmp_path))) as client:
        for each in rows[:20]:
            assert client.post("/v1/score", json=each).status_code == 200
    score(path, tmp_path)
    assert read(tmp_path / "june.scored.parquet") == before


def test_a_bad_row_is_reported_and_none_is_lost(tmp_path: Path) -> None:
    explained_home(tmp_path / "home")
    rows = transactions(6)
    rows[1]["amount"] = -3.0
    rows[3]["customer_id"] = ""
    rows.append(rows[0] | {"amount": 77.0})  # the id of another
    rows.append(dict(rows[2]))  # the same once more
    path = write(tmp_path / "june.csv", rows)
    summary = score(path, tmp_path / "home", "--output", str(tmp_path / "out.csv"))
    refused = read(tmp_path / "out.refused.csv")
    assert [(each["file"], each["line"]) for each in refused] == [("june.csv", 3), ("june.csv", 5), ("june.csv", 8)]
    assert "amount: an amount is not negative" in refused[0]["reason"]
    assert "customer_id: a value is required" in refused[1]["reason"]
    assert "already used for another transaction" in refused[2]["reason"]
    assert json.loads(refused[2]["content"])["transaction_id"] == rows[0]["transaction_id"]
    scored = read(tmp_path / "out.csv")
    assert [each["transaction_id"] for each in scored] == [rows[i]["transaction_id"] for i in (0, 2, 4, 5, 7)]
    assert scored[1] == scored[-1]
    assert (summary["rows"], summary["refused"]) == (5, 3)
    rows[1]["amount"], rows[3]["customer_id"] = 3.0, "C1"
    score(write(path, rows[:6]), tmp_path / "home", "--output", str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.refused.csv").exists()  # it belonged to the earlier file


def test_the_label_column_is_optional_and_ignored(tmp_path: Path) -> None:
    explained_home(tmp_path / "home")
    rows = transactions(5)
    score(write(tmp_path / "bare.csv", rows), tmp_path / "home")
    score(write(tmp_path / "labelled.csv", [each | {"is_fraud": "who knows"} for each in rows]), tmp_path / "home")
    assert read(tmp_path / "bare.scored.csv") == read(tmp_path / "labelled.scored.csv")


def test_rows_from_before_the_end_of_the_data_have_partial_history(tmp_path: Path) -> None:
    fill_store(explained_home(tmp_path / "home"))
    rows = transactions(2)
    rows[0]["event_time"] = (NOW - timedelta(hours=60)).isoformat()
    rows[1]["event_time"] = NOW.isoformat()
    summary = score(write(tmp_path / "old.csv", rows), tmp_path / "home")
    assert summary["partial_history"] == 1
    assert [each["history"] for each in read(tmp_path / "old.scored.csv")] == ["partial", "complete"]


def test_another_version_can_be_used(tmp_path: Path) -> None:
    home = explained_home(tmp_path / "home")
    other = publish(home, seed=1, more={"scorer.npz": packed("transactions", 1)})
    path = write(tmp_path / "june.csv", transactions(5))
    assert score(path, tmp_path / "home", "--model", other)["model_version"] == other
    assert {each["model_version"] for each in read(tmp_path / "june.scored.csv")} == {other}


def test_a_joblib_model_scores_no_file_unless_it_was_promoted_and_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = explained_home(tmp_path / "home")
    other = publish(home, seed=1)
    path = write(tmp_path / "june.csv", transactions(5))
    given = [str(path), "--home", str(tmp_path / "home"), "--model", other]
    assert fraudline_score(*given) != 0
    assert "runs as code, and latest.json does not pin it" in capsys.readouterr().err
    promote(home, other)
    assert fraudline_score(*given) == 0
    monkeypatch.setenv("FRAUDLINE_MODELS", "packed")
    assert fraudline_score(*given) != 0
    assert "FRAUDLINE_MODELS=any" in capsys.readouterr().err


def test_a_contract_without_entities_and_ids(tmp_path: Path) -> None:
    ulb = contracts.load("ulb")
    serving_home(tmp_path / "home", "ulb")
    rows = [row(ulb, Amount=amount, Time=float(i)) for i, amount in enumerate((1.0, 500.0, 1.0))]
    score(write(tmp_path / "card.parquet", rows), tmp_path / "home")
    scored = read(tmp_path / "card.scored.parquet")
    assert [each["decision"] for each in scored] == ["legit", "fraud", "legit"]
    assert len({each["transaction_id"] for each in scored}) == 3


def test_a_truncated_file_is_reported_and_the_rows_before_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explained_home(tmp_path / "home")
    notes = random.Random(0)
    path = write(
        tmp_path / "june.csv.gz", [each | {"note": notes.randbytes(50_000).hex()} for each in transactions(150)]
    )
    path.write_bytes(path.read_bytes()[:-1_000])
    assert fraudline_score(str(path), "--home", str(tmp_path / "home")) == 1
    printed = capsys.readouterr()
    assert "is truncated at line" in printed.err
    scored = len(read(tmp_path / "june.scored.csv.gz"))
    assert 0 < scored < 150
    assert f"{scored} rows scored" in printed.out
    (last,) = read(tmp_path / "june.scored.refused.csv")
    assert last["reason"].startswith("unreadable")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (RunFailed("the disk is full"), 1)])
def test_an_interrupted_or_failed_command_leaves_existing_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    explained_home(tmp_path / "home")
    path = write(tmp_path / "june.csv", transactions(4))
    (tmp_path / "june.scored.csv").write_text("earlier")
    score_rows = RowScorer.score

    def stop(self: Any, batch: pa.RecordBatch) -> None:
        score_rows(self, batch)
        assert any(name.startswith(".writing-") for name in files(tmp_path))
        raise error

    monkeypatch.setattr(RowScorer, "score", stop)
    assert fraudline_score(str(path), "--home", str(tmp_path / "home")) == code
    assert files(tmp_path) == {"june.csv", "june.scored.csv"}
    assert (tmp_path / "june.scored.csv").read_text() == "earlier"


def file_of_three(folder: Path) -> Path:
    return write(folder / "june.csv", transactions(3))


@pytest.mark.parametrize(
    ("prepare", "arguments", "says"),
    [
        (lambda folder: write(folder / "june.csv", [{"a": 1}]), [], "no column 'transaction_id'"),
        (lambda folder: write(folder / "june.csv", [{"a": 1}]), [], "rename the file's columns, or name another"),
        (lambda folder: write(folder / "june.txt", [{"a": 1}]), [], "unknown format"),
        (lambda folder: folder / "none.csv", [], "none.csv cannot be read"),
        (file_of_three, ["--output", "june.csv"], "overwritten by its own scores"),
        (file_of_three, ["--output", "june.xls"], "unknown format"),
        (file_of_three, ["--output", "no/such/folder.csv"], "cannot be written"),
        (file_of_three, ["--model", "2031"], "no model version '2031'"),
        (file_of_three, ["--home", "nowhere"], "fraudline run"),
    ],
)
def test_an_error_is_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Path], Path],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    explained_home(tmp_path / "home")
    path = prepare(tmp_path)
    assert fraudline_score(path.name, "--home", "home", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_a_home_without_a_model_is_reported_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path / "home")
    assert fraudline_score(str(file_of_three(tmp_path)), "--home", str(tmp_path / "home")) == 2
    assert "no model has been promoted" in capsys.readouterr().err


def test_a_file_that_changes_while_it_is_read_is_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    explained_home(tmp_path / "home")
    path = file_of_three(tmp_path)
    score_rows = RowScorer.score

    def grow(self: Any, batch: pa.RecordBatch) -> None:
        score_rows(self, batch)
        write(path, transactions(9))

    monkeypatch.setattr(RowScorer, "score", grow)
    assert fraudline_score(str(path), "--home", str(tmp_path / "home")) == 1
    assert "changed while it was read" in capsys.readouterr().err
    assert files(tmp_path) == {"june.csv"}


@pytest.mark.slow
def test_the_command_scores_a_file(tmp_path: Path) -> None:
    explained_home(tmp_path / "home")
    path = file_of_three(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "pipeline.command.main", "score", str(path), "--home", str(tmp_path / "home")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 rows scored by model" in result.stdout
    with open(tmp_path / "june.scored.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_rows_that_were_not_counted_are_counted_before_they_are_scored(tmp_path: Path) -> None:
    """As for a truncated file that yields more rows when it is read again."""
    events = [Event(f"e{i}", (490_000 + i) * HOUR_US, 100 + i, ("C1", "T1")) for i in range(4)]
    scored = []
    for name, before in (("all", events), ("some", events[:2])):
        (tmp_path / name).mkdir()
        replay = SqliteReplay(tmp_path / "none.sqlite", tmp_path / name, CONTRACT)
        replay.count(before)
        scored.append(replay.states(events))
        replay.close()
    assert scored[0] == scored[1]
    assert None not in scored[0]


def test_errors_only_suggest_options_that_the_command_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explained_home(tmp_path / "home")
    path = write(tmp_path / "june.csv", [{"a": 1}])
    assert fraudline_score(str(path), "--home", str(tmp_path / "home")) == 2
    options = {name for option in get_command(app).commands["score"].params for name in option.opts}  # type: ignore[attr-defined]
    suggested = set(re.findall(r"--[a-z]+", capsys.readouterr().err))
    assert suggested
    assert suggested <= options
