"""The update of the tables by a run: read its files, merge their rows, recompute features, and commit it all."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from processing.contract import HOME_KEY, Contract
from processing.contracts.home_contract import added_columns, adopted
from processing.errors import BadInput, Conflict
from processing.intake.incoming import Claims
from processing.intake.merge import Merged, merge, rewritten_days
from processing.intake.precedence import file_precedence
from processing.intake.spark_reader import InputFile, read_files
from processing.job.spark_tables import SparkTables
from processing.job.step_log import say
from processing.split import split_days
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.scratch import scratch_folder
from processing.storage.spark_files import local_parquet_files
from processing.store.refresh_data import Reports
from processing.tables.commit import Changes, commit, discard_on
from processing.tables.parquet import READ, WRITE
from processing.tables.schemas import quarantine_schema
from processing.tables.snapshots import row_counts

ATTEMPTS = 3  # to commit on top of other writers' commits


@dataclass
class TableUpdate:
    """The update of a home's tables by one run.

    check: called right before each commit; raises Conflict if another run may use the home
    replace_contract: from the commit on, the home has this contract, whichever it had before
    added: how many rows are committed by now
    """

    home: Home
    run: str
    spark_tables: SparkTables
    claims: Claims
    check: Callable[[], None]
    replace_contract: bool = False
    added: int = 0
    attempt: int = 0

    @property
    def contract(self) -> Contract:
        return self.spark_tables.contract

    def commit_files(self, reports: Reports) -> Merged:
        """Read the claimed files and commit what changes; merge again if another writer has committed meanwhile."""
        spark_tables = self.spark_tables
        files = [InputFile(file.name, spark_tables.files.task_path(file.key, file.path)) for file in self.claims.files]
        optional = added_columns(self.home, self.contract)
        read = read_files(spark_tables.spark, files, self.contract, spark_tables.files.scratch, optional)
        precedence = file_precedence(self.home, self.claims.files)
        while True:
            existing = spark_tables.all_transactions()
            merged = merge(spark_tables.spark, read, precedence, existing, reports.newest, self.contract)
            spark_tables.more_rows = merged.new_rows
            say(f"{merged.accepted_rows:,} rows accepted ({merged.new_rows:,} new), {merged.refused_rows:,} refused")
            if merged.reports_set_aside:
                say(
                    f"{merged.reports_set_aside:,} report(s) set aside: the transaction of that id has another time, "
                    "amount or entity than the one that was decided"
                )
            self._check_enough(merged)
            try:
                self._commit(merged)
                return merged
            except Conflict as conflict:
                self.check()  # raises if the run does not hold the home any more
                self.attempt += 1
                if self.attempt == ATTEMPTS:
                    raise
                say(f"{conflict}; merging again, on top of that commit")
                spark_tables.reopen()

    def _check_enough(self, merged: Merged) -> None:
        """Raise BadInput, before anything is committed, if the tables would hold too little to train and test on."""
        spark_tables = self.spark_tables
        labelled = Counter(row_counts(spark_tables.tables.find("transactions"), labelled=True))
        rows = Counter(spark_tables.row_counts())
        try:
            split_days(labelled + Counter(merged.labelled), rows + Counter(merged.new), self.contract)
        except BadInput as error:
            key = f"runs/{self.run}/{HOME_KEY}"
            self.home.write(key, self.contract.text.encode())
            where = self.home.path(key) if isinstance(self.home, LocalHome) else self.home.url_of(key)
            raise BadInput(
                f"{error}. This run's contract is {where}. Nothing was committed; the files stay in incoming/ for a "
                "run that finds more there"
            ) from None

    def _commit(self, merged: Merged) -> None:
        """Write what changes, then commit it. Raises as `processing.tables.commit.commit` does."""
        changes, discard = Changes(), self.spark_tables.files.discard
        with discard_on(BaseException, lambda: list(changes.folders.values()), discard):
            self._write_changes(merged, changes)
            self.claims.check_unchanged()
            self.check()
        # Before the rows, which cannot be read without the contract.
        with adopted(self.home, self.contract, replace=self.replace_contract) as changed_entries:
            for change in changed_entries:
                say(change)
            if commit(self.spark_tables.tables, changes, discard, self.check):
                self.added += merged.new_rows
        say("committed")

    def _write_changes(self, merged: Merged, changes: Changes) -> None:
        spark_tables, contract, changed = self.spark_tables, self.contract, merged.changed_days
        before = spark_tables.tables.files_by_day("transactions")
        if changed:
            counts = spark_tables.row_counts()
            changes.rows = sum(counts.get(day, 0) for day in changed) + merged.new_rows
            existing = spark_tables.transactions({day: files for day, files in before.items() if day in changed})
            rows = rewritten_days(existing, merged, contract)
            changes.transactions = spark_tables.write(rows, self._folder("transactions", changes))
        after = before | changes.transactions
        changes.features_stale = not spark_tables.tables.features_are_current
        days = set(after) if changes.features_stale else affected_days(merged, contract) & set(after)
        say(f"{len(changed)} day(s) of transactions change; computing features for {len(days)} day(s)")
        if days:
            rows = spark_tables.features(after, days, contract)
            changes.features = spark_tables.write(rows, self._folder("features", changes))
        changes.refused = self._write_refused(merged, changes)

    def _folder(self, table: str, changes: Changes) -> str:
        """Where the run writes files of a table. Noted before anything is written, so that nothing is forgotten."""
        suffix = f".{self.attempt}" if self.attempt else ""
        changes.folders[table] = f"{self.spark_tables.tables.folder(table)}/data/{self.run}{suffix}"
        return changes.folders[table]

    def _write_refused(self, merged: Merged, changes: Changes) -> str | None:
        """Write the refused rows with their whole content; the file's key, or None if there are none.

        The rows of a file that is in quarantine already (the same bytes) are not written again.
        """
        if not merged.refused_rows:
            return None
        digests = {file.name: file.sha256 for file in self.claims.files}
        quarantine = self.spark_tables.tables.read("quarantine", columns=["file_sha256"])
        known = set(quarantine["file_sha256"].to_pylist())
        refused, now = f"{self.spark_tables.files.scratch}/refused{self.attempt}", datetime.now(UTC)
        merged.refused.write.parquet(refused)
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


def affected_days(merged: Merged, contract: Contract) -> set[int]:
    """The days on which a feature or a label can differ after the merge."""
    reach = -(-contract.lookback_hours // 24)
    return {day + ahead for day in merged.changed_days for ahead in range(reach + 1)}
