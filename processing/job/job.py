"""The feature job: reads the files in incoming/, recomputes the features that they affect, and writes the run's sets.

AWS Glue runs it; so does a laptop (`python -m processing.job.job --home ... --run ...`). It either commits or leaves
the tables as they were. runs/<run>/features.json records what it did.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from processing.contract import HOME_KEY, Contract
from processing.contracts.home_contract import added_columns, contract_for, pending
from processing.errors import BadInput, FraudlineError, report
from processing.features.feature_set import FeatureSet
from processing.intake.files import check_file
from processing.intake.incoming import FOLDER, Claims, complete_files, copy_to_incoming, release_abandoned
from processing.intake.merge import Merged
from processing.job.spark import memory_trouble, start_spark
from processing.job.spark_tables import SparkTables
from processing.job.step_log import say
from processing.job.store_refresh import refresh
from processing.job.table_check import raise_if_damaged
from processing.job.table_update import TableUpdate
from processing.job.train_test_sets import write_earlier_sets, write_sets
from processing.processes.lease import hold
from processing.split import DaySplit
from processing.storage.home import Home
from processing.storage.open import open_home
from processing.storage.run_code import deliver_code, load_code
from processing.storage.scratch import remove_abandoned, scratch_folder
from processing.storage.spark_files import open_spark_files
from processing.store.open import open_store
from processing.store.refresh_data import Reports
from processing.tables.leftovers import sweep
from processing.tables.snapshots import snapshot_id
from processing.tables.tables import open_tables
from processing.tracebacks import error_summary, redacted_traceback


def main(arguments: list[str] | None = None) -> int:
    """The entry point. Returns 0, or the exit code of an error, which it prints on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="folder or s3:// address of the installation")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--contract", help="contract that the home has from now on: a shipped one's name, or a file")
    parser.add_argument("--default-contract", default="transactions", help="shipped contract for a new home")
    parser.add_argument("--whole-refresh", action="store_true", help="set all profiles of the online store anew")
    parser.add_argument("--input-url", help="folder to copy files from, if other than the home's incoming/")
    parser.add_argument("--code", default="", help="digest of the experiment's own code that the run brings along")
    options, _ = parser.parse_known_args(arguments)  # Glue adds arguments of its own
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a terminated job cleans up like a failed one
    try:
        home = open_home(options.home)
        contract = contract_for(home, options.contract, options.default_contract)
        remove_abandoned()
        with hold(home, options.run, say=say) as lease, scratch_folder("job") as scratch, ExitStack() as held:
            if options.input_url and options.input_url.rstrip("/") != home.url_of(FOLDER).rstrip("/"):
                copied = copy_to_incoming(home, open_home(options.input_url))
                say(f"{len(copied)} file(s) copied from {options.input_url}")
            replace = options.contract is not None or pending(home) is not None
            run_job(
                home,
                contract,
                options.run,
                scratch,
                held,
                lease.check,
                replace_contract=replace,
                code=options.code,
                whole_refresh=options.whole_refresh,
            )
    except FraudlineError as error:
        return report(error)
    except Exception as error:  # noqa: BLE001 (an error's own text may hold values of rows)
        print(redacted_traceback(error), file=sys.stderr)
        message = (
            memory_trouble(error)
            or f"the feature job failed unexpectedly: {error_summary(error)}; its log has the traceback"
        )
        print(f"error: {message}", file=sys.stderr)
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
    code: str = "",
    whole_refresh: bool = False,
) -> dict[str, Any]:
    """Run the job once; what it did, as in runs/<run>/features.json. Raises FraudlineError.

    No other run may use the home meanwhile: `check` is called right before each commit, and raises Conflict if one may.
    `held` keeps local copies of the files until the caller is done.
    `replace_contract`: from the commit on, the home has this contract, whichever it had before.
    `code`: the digest of the run's own code, see `processing.storage.run_code`.
    `whole_refresh`: set all profiles of the online store, not only those that can differ.
    """
    archive = load_code(home, code)
    tables = open_tables(home, contract)
    if returned := release_abandoned(home):
        say(f"{len(returned)} file(s) of an interrupted run returned to incoming/")
    if removed := sweep(home):
        say(f"{removed} uncommitted data file(s) of an interrupted run removed")
    waiting = complete_files(home)
    if not waiting and not tables.find("transactions"):
        raise BadInput(f"there is nothing to read: put CSV, CSV.gz or Parquet files into {home.url_of('incoming')}")
    with Claims(home, run, held) as claims:
        claims.claim(waiting)
        optional = added_columns(home, contract)
        for file in claims.files:
            if lacks := check_file(file.path, contract, file.name, optional=optional):
                say(f"{file.name} lacks {', '.join(lacks)}, which an earlier contract did not have: null in its rows")
        store = open_store(home, contract) if contract.entities else None
        if store:
            held.callback(store.close)
        spark = start_spark(scratch)
        say(f"Spark {spark.version} started; {len(claims.files)} file(s) to read")
        spark_files = open_spark_files(home, run, scratch, spark)
        held.callback(spark_files.close)
        spark_tables = SparkTables(contract, spark, tables, spark_files)
        update = TableUpdate(home, run, spark_tables, claims, check, replace_contract)
        reports = store.reports() if store else Reports({}, 0)
        try:
            merged = update.commit_files(reports)
            claims.archive()
            split, counts = write_sets(home, run, spark_tables)
            write_earlier_sets(home, run, spark_tables, split.test)
            profiles = refresh(store, reports, spark_tables, whole=whole_refresh) if store else None
        except (Py4JError, PySparkException) as error:
            raise_if_damaged(spark_tables.tables, error)
            raise
    delivered = {"code": code, "code_url": deliver_code(home, run, archive)}
    record = _record(home, update, merged, split, counts, profiles) | delivered
    home.write(f"runs/{run}/contract/{HOME_KEY}", contract.text.encode())
    home.write(f"runs/{run}/features.json", json.dumps(record, indent=2).encode())
    sets = f"{counts['train']:,} to train on, {counts['test']:,} to test on"
    say(f"{update.added:,} new rows, {merged.refused_rows:,} refused; {sets}")
    return record


def _record(
    home: Home, update: TableUpdate, merged: Merged, split: DaySplit, counts: dict[str, int], profiles: int | None
) -> dict[str, Any]:
    """What a run did, for runs/<run>/features.json; `profiles` is None without an online store."""
    folder, tables = f"runs/{update.run}", update.spark_tables.tables
    return {
        "run": update.run,
        "files": [
            {"name": file.name, "bytes": file.entry.size, "sha256": file.sha256, "modified": file.entry.modified}
            for file in update.claims.files
        ],
        "rows_accepted": merged.accepted_rows,
        "rows_refused": merged.refused_rows,
        "rows_new": update.added,
        "reports_set_aside": merged.reports_set_aside,
        "online_profiles": profiles,
        "features": list(FeatureSet(update.contract).names),
        "snapshots": {name: snapshot_id(tables.find(name)) for name in ("transactions", "features", "quarantine")},
        "days": split.dates(),
        "rows": counts,
        "train_url": home.url_of(f"{folder}/train"),
        "test_url": home.url_of(f"{folder}/test"),
        "contract_url": home.url_of(f"{folder}/contract"),
    }


if __name__ == "__main__":
    sys.exit(main())
