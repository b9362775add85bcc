"""The feature job: takes in what waits in incoming/, recomputes the features it touches, writes the run's sets.

AWS Glue runs this file; so does a laptop (`python -m processing.job.job --home ... --run ...`). It either commits or
leaves the tables as they were. What it did is written to runs/<run>/features.json.
"""

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from processing.contract import HOME_KEY, Contract
from processing.contracts.home_contract import adopt, contract_for
from processing.errors import BadInput, Conflict, FraudlineError, report
from processing.features.feature_set import FeatureSet
from processing.intake.files import check_file
from processing.intake.incoming import FOLDER, Claims, copy_to_incoming, release_abandoned, settled
from processing.intake.merge import Taken, land, read_table, rewritten, take
from processing.intake.precedence import file_precedence
from processing.job.damage import raise_if_damaged
from processing.job.earlier_features import earlier_contracts, folder_of
from processing.job.features import features_of
from processing.job.spark import memory_trouble, start_spark, tasks_for
from processing.processes.lease import hold
from processing.split import DaySplit, date_of, split_days
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.scratch import remove_abandoned, scratch_folder
from processing.storage.spark_files import SparkFiles, local_parquet_files, stage
from processing.store.horizon import first_day
from processing.store.interface import OnlineStore
from processing.store.open import open_store
from processing.store.refresh import refresh_store
from processing.store.refresh_data import Reports
from processing.tables import tables as iceberg
from processing.tables.commit import Changes, Files, commit, discard_on, keys_of
from processing.tables.leftovers import sweep
from processing.tables.parquet import READ, WRITE
from processing.tables.schemas import quarantine_schema, transaction_schema
from processing.tables.snapshots import row_counts, snapshot_id
from processing.tracebacks import error_summary, redacted_traceback

ATTEMPTS = 3  # to commit on top of what others commit meanwhile


def main(arguments: list[str] | None = None) -> int:
    """The entry point: 0, or the exit code of what went wrong, said on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="folder of the installation")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--contract", help="what the home is to go by from now on: a shipped contract or a file")
    parser.add_argument("--default-contract", default="transactions", help="for a new home: a shipped contract's name")
    parser.add_argument("--input-url", help="a folder to take files from that is not the home's incoming/")
    options, _ = parser.parse_known_args(arguments)  # Glue adds arguments of its own
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a job told to stop cleans up as one that failed
    try:
        home = open_home(options.home)
        contract = contract_for(home, options.contract, options.default_contract)
        remove_abandoned()
        with hold(home, options.run, say=say) as lease, scratch_folder("job") as scratch, ExitStack() as held:
            if options.input_url and options.input_url.rstrip("/") != home.url_of(FOLDER).rstrip("/"):
                copied = copy_to_incoming(home, open_home(options.input_url))
                say(f"{len(copied)} file(s) copied from {options.input_url}")
            given = options.contract is not None
            run_job(home, contract, options.run, scratch, held, lease.check, replace_contract=given)
    except FraudlineError as error:
        return report(error)
    except Exception as error:  # noqa: BLE001 (a traceback would show what the error says, which may be a row's values)
        print(redacted_traceback(error), file=sys.stderr)
        what = (
            memory_trouble(error)
            or f"the feature job ended unexpectedly: {error_summary(error)}; its log has the trace"
        )
        print(f"error: {what}", file=sys.stderr)
        return 1
    return 0


def run_job(
    home: Home,
    contract: Contract,
    run: str,
    scratch: Path,
    held: ExitStack,
    check: Callable[[], None] = lambda: None,
    *,
    replace_contract: bool = False,
) -> dict[str, Any]:
    """One run of the job; what it did, as in runs/<run>/features.json. Raises FraudlineError.

    Nobody else may run on the home meanwhile: `check` is called right before each commit, and raises Conflict if
    somebody may. `held` keeps local copies of the files until the caller is done.
    `replace_contract`: the home goes by this contract from the commit on, whichever it went by before.
    """
    tables = iceberg.open_tables(home, contract)
    if returned := release_abandoned(home):
        say(f"{len(returned)} file(s) wait again that a run had put aside which ended without a word")
    if removed := sweep(home):
        say(f"{removed} data file(s) removed that such a run had left uncommitted")
    waiting = settled(home)
    if not waiting and not tables.find("transactions"):
        raise BadInput(f"there is nothing to take in: put CSV, CSV.gz or Parquet files into {home.url_of('incoming')}")
    with Claims(home, run, held) as claims:
        claims.take(waiting)
        for arrival, path in claims.files:
            check_file(path, contract, arrival.name)
        store = open_store(home, contract) if contract.entities else None
        if store:
            held.callback(store.close)
        spark = start_spark(scratch)
        say(f"Spark {spark.version} started; {len(claims.files)} file(s) to take in")
        staging = stage(home, run, scratch, spark)
        held.callback(staging.close)
        job = _Job(home, contract, run, spark, tables, staging, claims, check, replace_contract)
        reports = store.reports() if store else Reports({}, 0)
        try:
            taken = job.take_in(reports)
            claims.archive()
            split, counts = job.write_sets()
            job.write_earlier(split.test)
            set_buckets = job.refresh(store, reports) if store else 0
        except (Py4JError, PySparkException) as error:
            raise_if_damaged(job.tables, error)
            raise
        arrivals = claims.arrivals
    done = {
        "run": run,
        "files": [
            {
                "name": arrival.name,
                "bytes": arrival.entry.size,
                "sha256": arrival.sha256,
                "modified": arrival.entry.modified,
            }
            for arrival in arrivals
        ],
        "rows_accepted": taken.accepted_rows,
        "rows_refused": taken.refused_rows,
        "rows_new": job.added,
        "reports_set_aside": taken.reports_set_aside,
        "online_buckets": set_buckets,
        "features": list(FeatureSet(contract).names),
        "snapshots": {name: snapshot_id(job.tables.find(name)) for name in ("transactions", "features", "quarantine")},
        "days": split.dates(),
        "rows": counts,
        "train_url": home.url_of(f"runs/{run}/train"),
        "test_url": home.url_of(f"runs/{run}/test"),
        "contract_url": home.url_of(f"runs/{run}/contract"),
    }
    home.write(f"runs/{run}/contract/{HOME_KEY}", contract.text.encode())
    home.write(f"runs/{run}/features.json", json.dumps(done, indent=2).encode())
    sets = f"{counts['train']:,} to train on, {counts['test']:,} to test on"
    say(f"{job.added:,} new rows, {taken.refused_rows:,} refused; {sets}")
    return done


def refresh_only(home: Home, contract: Contract, scratch: Path, held: ExitStack) -> int:
    """Bring the online store up to date with the tables as they are; how many hour buckets were set."""
    tables = iceberg.open_tables(home, contract)
    if not tables.find("transactions"):
        return 0
    store = open_store(home, contract)
    held.callback(store.close)
    spark = start_spark(scratch)
    staging = stage(home, "refresh", scratch, spark)
    held.callback(staging.close)
    job = _Job(home, contract, "refresh", spark, tables, staging, Claims(home, "refresh", held), lambda: None)
    return job.refresh(store, store.reports())


@dataclass
class _Job:
    home: Home
    contract: Contract
    run: str
    spark: SparkSession
    tables: iceberg.Tables
    staging: SparkFiles
    claims: Claims
    check: Callable[[], None]
    replace_contract: bool = False
    new_rows: int = 0
    added: int = 0  # rows that are committed by now
    attempt: int = 0

    def take_in(self, reports: Reports) -> Taken:
        """Read the files and commit what they bring. Anew from the tables as they are, if someone else came first."""
        files_in = [(arrival, self.staging.arrived(arrival.claimed, path)) for arrival, path in self.claims.files]
        landed = land(self.spark, files_in, self.contract, self.staging.scratch)
        arrived = file_precedence(self.home, self.claims.arrivals)
        while True:
            existing = self.transactions(self.tables.files_by_day("transactions"))
            taken = take(self.spark, landed, arrived, existing, reports.newest, self.contract)
            self.new_rows = taken.new_rows
            say(f"{taken.accepted_rows:,} rows accepted ({taken.new_rows:,} new), {taken.refused_rows:,} refused")
            if taken.reports_set_aside:
                say(
                    f"{taken.reports_set_aside:,} report(s) set aside: the transaction of that id has another time, "
                    "amount or entity than the one that was decided"
                )
            self._check_enough(taken)
            try:
                self.commit(taken)
                return taken
            except Conflict as conflict:
                self.check()  # whose the home is by now is another matter
                self.attempt += 1
                if self.attempt == ATTEMPTS:
                    raise
                say(f"{conflict}; taking in again, on top of it")
                self.tables = iceberg.open_tables(self.home, self.contract)

    def _check_enough(self, taken: Taken) -> None:
        """Raise BadInput if no sets could be made of what the tables would hold, before anything is committed."""
        labelled = Counter(row_counts(self.tables.find("transactions"), labelled=True))
        try:
            split_days(labelled + Counter(taken.labelled), Counter(self._counts()) + Counter(taken.new), self.contract)
        except BadInput as error:
            stay = "the files stay in incoming/, for a run that finds more there"
            key = f"runs/{self.run}/{HOME_KEY}"
            self.home.write(key, self.contract.text.encode())
            where = self.home.path(key) if isinstance(self.home, LocalHome) else self.home.url_of(key)
            raise BadInput(f"{error}. This run's contract is {where}. Nothing was committed; {stay}") from None

    def transactions(self, files: Files) -> DataFrame | None:
        """The rows of these files; None if there are none."""
        if not files:
            return None
        self.tables.check_footers("transactions", keys_of(files))
        return read_table(self.spark, self.staging.reachable(keys_of(files)), transaction_schema(self.contract))

    def commit(self, taken: Taken) -> None:
        """Write what changes, then commit it. Raises as `processing.tables.commit.commit` does."""
        changes = Changes()
        with discard_on(BaseException, lambda: list(changes.folders.values()), self.staging.discard):
            self._write_changes(taken, changes)
            self.claims.check_unchanged()
            self.check()
            # Before the rows, which could not be read without it.
            for change in adopt(self.home, self.contract, replace=self.replace_contract):
                say(change)
        if commit(self.tables, changes, self.staging.discard, self.check):
            self.added += taken.new_rows
        say("committed")

    def _write_changes(self, taken: Taken, changes: Changes) -> None:
        before = self.tables.files_by_day("transactions")
        changed = taken.new_days | taken.label_days
        if changed:
            touched = {day: files for day, files in before.items() if day in changed}
            counts = self._counts()
            changes.rows = sum(counts.get(day, 0) for day in changed) + taken.new_rows
            whole = rewritten(self.transactions(touched), taken, self.contract)
            changes.transactions = self._write("transactions", whole, changes)
        now = before | changes.transactions
        changes.features_stale = not self.tables.features_are_current
        days = set(now) if changes.features_stale else affected_days(taken, self.contract) & set(now)
        say(f"{len(changed)} day(s) of transactions change, {len(days)} day(s) of features to compute")
        if days:
            changes.features = self._write("features", self._features(now, days, self.contract), changes)
        changes.refused = self._refused(taken, changes)

    def _counts(self) -> dict[int, int]:
        return row_counts(self.tables.find("transactions"))

    def _features(self, files: Files, days: Collection[int], contract: Contract) -> DataFrame:
        reach = -(-contract.lookback_hours // 24)
        needed = {day - back for day in days for back in range(reach + 1)}
        rows = self.transactions({day: names for day, names in files.items() if day in needed})
        assert rows is not None
        return features_of(rows.select(*transaction_schema(contract).names), contract, days, self._partitions())

    def _partitions(self) -> int:
        return tasks_for(sum(self._counts().values()) + self.new_rows, self.spark)

    def _folder(self, table: str, changes: Changes) -> str:
        """Where the run writes for a table: noted first, so that nothing written is forgotten."""
        again = f".{self.attempt}" if self.attempt else ""
        changes.folders[table] = f"{self.tables.folder(table)}/data/{self.run}{again}"
        return changes.folders[table]

    def _write(self, table: str, rows: DataFrame, changes: Changes) -> Files:
        folder = self._folder(table, changes)
        started = time.monotonic()
        by_day = rows.repartition(self._partitions(), "day").write.partitionBy("day")
        by_day.parquet(self.staging.target(folder), mode="overwrite")
        files: Files = {}
        for key in self.staging.publish(folder):
            files.setdefault(int(key.rsplit("/", 2)[1].removeprefix("day=")), []).append(key)
        say(f"{table} written in {time.monotonic() - started:.0f} s")
        return files

    def _refused(self, taken: Taken, changes: Changes) -> str | None:
        """Write the refused rows, whole, to be committed; the file's key, if there are any.

        A file that was quarantined before (the same bytes) is not so again.
        """
        if not taken.refused_rows:
            return None
        digests = {arrival.name: arrival.sha256 for arrival in self.claims.arrivals}
        known = set(self.tables.read("quarantine", columns=["file_sha256"])["file_sha256"].to_pylist())
        refused, now = f"{self.staging.scratch}/refused{self.attempt}", datetime.now(UTC)
        taken.refused.write.parquet(refused)
        with local_parquet_files(refused) as paths:
            rows = [
                {**row, "run": self.run, "refused_at": now, "file_sha256": digests[row["file"]]}
                for path in paths
                for row in pq.ParquetFile(path, **READ).read().to_pylist()
                if digests[row["file"]] not in known
            ]
        if not rows:
            return None
        folder = self._folder("quarantine", changes)
        with scratch_folder("refused") as local:
            path = local / "refused.parquet"
            pq.write_table(pa.Table.from_pylist(rows, quarantine_schema()), path, **WRITE)
            self.home.upload(path, f"{folder}/{path.name}")
        return f"{folder}/{path.name}"

    def write_sets(self) -> tuple[DaySplit, dict[str, int]]:
        """Put the train and test days' files into the run's folder; the days, and how many labelled rows they have."""
        files, table = self.tables.files_by_day("features"), self.tables.find("features")
        labelled = row_counts(table, labelled=True)
        split = split_days(labelled, row_counts(table), self.contract)
        if split.unsettled:
            newest, end = date_of(split.unsettled[-1]), date_of(split.test[-1])
            say(f"too few rows after {end} are labelled to test on them yet (labels go up to {newest})")
        counts = {}
        for name, days in (("train", split.train), ("test", split.test)):
            for day in days:
                for i, key in enumerate(files.get(day, [])):
                    self.home.copy(key, f"runs/{self.run}/{name}/{date_of(day)}-{i}.parquet")
            counts[name] = sum(labelled.get(day, 0) for day in days)
        say(f"sets written: {counts['train']:,} rows to train on, {counts['test']:,} to test on")
        return split, counts

    def write_earlier(self, days: range) -> None:
        """Put the test rows into the run's folder as models of before see them, if not as the new one will."""
        contracts = earlier_contracts(self.home, self.contract, say)
        files = self.tables.files_by_day("transactions") if contracts else {}
        for theirs in contracts:
            folder, started = folder_of(self.run, theirs), time.monotonic()
            rows = self._features(files, days, theirs)
            rows.write.parquet(self.staging.target(folder), mode="overwrite")
            self.staging.publish(folder)
            say(f"test rows written under a contract of before ({folder}) in {time.monotonic() - started:.0f} s")

    def refresh(self, store: OnlineStore, reports: Reports) -> int:
        files = self.tables.files_by_day("transactions")
        first = first_day(self._counts(), self.contract, datetime.now(UTC))
        rows = self.transactions({day: names for day, names in files.items() if day >= first})
        everything = self.transactions(files)
        assert rows is not None
        assert everything is not None
        count = refresh_store(store, rows, self.contract, reports, self.staging.scratch, everything=everything)
        say(f"online store refreshed: {count:,} hour buckets")
        return count


def affected_days(taken: Taken, contract: Contract) -> set[int]:
    """The days on which a feature (or the label) can differ after what was taken in."""
    reach = -(-contract.lookback_hours // 24)
    return {day + ahead for day in taken.new_days | taken.label_days for ahead in range(reach + 1)}


def say(text: str) -> None:
    """One line of progress, into the step's log."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
