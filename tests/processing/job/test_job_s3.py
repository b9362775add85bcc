"""The feature job on a home in S3, from a laptop: the same tables, sets and buckets as in a folder."""

import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from processing.contracts.reader import load, parse
from processing.job.job import run_job
from processing.job.spark import start_spark
from processing.storage.home import Home
from processing.storage.open import open_home
from processing.store.decisions import Event
from processing.store.open import open_store
from processing.synthetic.synthesize import synthesize, write
from processing.tables import tables

pytestmark = [pytest.mark.cloud, pytest.mark.spark, pytest.mark.slow]

CONTRACT = parse(
    load("transactions")
    .text.replace("[1, 7, 30]", "[1, 3]")
    .replace("delay_days = 7", "delay_days = 2")
    .replace("train_days = 60", "train_days = 4")
    .replace("test_days = 7", "test_days = 2")
)


def run(home: Home, name: str, files: list[Path], scratch: Path) -> dict[str, Any]:
    for path in files:
        home.upload(path, f"incoming/{path.name}")
    time.sleep(2.1)  # until they count as complete
    with ExitStack() as stack:
        return run_job(home, CONTRACT, name, scratch, stack)


def rows(home: Home, name: str) -> list[dict[str, Any]]:
    table = getattr(tables.open_tables(home, CONTRACT), name).scan().to_arrow()
    return sorted(table.to_pylist(), key=lambda row: str(row["transaction_id"]))


def test_a_home_in_s3_has_the_same_contents_as_one_in_a_folder(
    s3_url: Callable[[], str], online_table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDLINE_GLUE_DATABASE", online_table.replace("-", "_"))
    # Arrow reads the trusted certificates only once, on import: hence a separate process.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(compare, s3_url(), tmp_path).result()


def compare(address: str, tmp_path: Path) -> None:
    """Make two runs in each home and compare the results."""
    session = start_spark(tmp_path, cores="2")
    session.conf.set("spark.sql.shuffle.partitions", "2")
    local, cloud = open_home(tmp_path / "home"), open_home(address)
    first, second, bad = tmp_path / "first.parquet", tmp_path / "second.csv", tmp_path / "bad.csv"
    write(synthesize(date(2026, 3, 1), 10, customers=60, terminals=40), first)
    write(synthesize(date(2026, 3, 11), 1, customers=60, terminals=40), second)
    bad.write_text(second.read_text().splitlines()[0] + "\nbad,when?,1,C1,T1,chip,0\n")
    for home, place in ((local, "local"), (cloud, "cloud")):
        for number, files in enumerate(([first], [second, bad]), 1):
            (scratch := tmp_path / f"{place}{number}").mkdir()
            result = run(home, f"run{number}", files, scratch)
        assert result["rows_refused"] == 1
    for name in ("transactions", "features"):
        assert repr(rows(cloud, name)) == repr(rows(local, name))  # repr, because NaN does not equal NaN
    keys = {home: [entry.key for entry in home.entries("runs/run2/")] for home in (local, cloud)}
    assert keys[cloud] == keys[local]
    assert json.loads(cloud.read("runs/run2/features.json"))["train_url"] == f"{cloud.url}/runs/run2/train"
    for key in keys[cloud]:
        if key.endswith(".parquet"):
            with local.local_file(key) as here, cloud.local_file(key) as there:
                assert sorted(pq.read_table(here)["transaction_id"].to_pylist()) == sorted(
                    pq.read_table(there)["transaction_id"].to_pylist()
                )
    assert [entry.key for entry in cloud.entries("archive/")] == [entry.key for entry in local.entries("archive/")]
    newest = rows(cloud, "transactions")[-1]
    event = Event(
        "next", int(newest["event_time"].timestamp() * 1e6) + 1, 100, (newest["customer"], newest["terminal"])
    )
    stores = [open_store(home, CONTRACT, timeout=20.0) for home in (local, cloud)]
    states = [store.recall(event)[1] for store in stores]
    assert states[0] == states[1]
    assert sum(states[0]) > 0
