"""The repair of a laptop's online store: what can be read of it is kept, the profiles come from the tables."""

from contextlib import ExitStack, suppress

from processing.contract import Contract
from processing.errors import NotFound
from processing.storage.local import LocalHome
from processing.storage.scratch import scratch_folder
from processing.store.open import STORE_KEY, open_store
from processing.store.sqlite import recovery


def refill_store(home: LocalHome, contract: Contract) -> str:
    """Set the profiles of a store from the tables, creating it if it is gone; what was done, in words. Starts Spark."""
    return f"{_refresh(home, contract):,} profiles were set from the tables"


def rebuild_store(home: LocalHome, contract: Contract) -> str:
    """Set a damaged store aside and build a new one; what was done, in words. Starts Spark.

    Decisions and reports are kept as far as they can be read; the profiles come from the tables.
    """
    aside = recovery.set_aside(home.path(STORE_KEY))
    store = open_store(home, contract)
    decisions = reports = 0
    for decision in recovery.readable_decisions(aside):
        decisions += store.record(decision) is decision
    for transaction_id, is_fraud in recovery.readable_reports(aside):
        with suppress(NotFound):  # the decision itself is lost
            store.report(transaction_id, is_fraud)
            reports += 1
    store.close()
    profiles = _refresh(home, contract)
    kept = f"kept {decisions:,} decisions and {reports:,} reports"
    return f"set aside as {aside.name}; {kept}; {profiles:,} profiles were set from the tables"


def _refresh(home: LocalHome, contract: Contract) -> int:
    from processing.job.store_refresh import refresh_only  # imports Spark, which a check does not need

    with scratch_folder("store") as scratch, ExitStack() as held:
        return refresh_only(home, contract, scratch, held)
