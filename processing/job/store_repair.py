"""The online store of a laptop after damage: what can be read of it is kept, the counters come from the tables."""

from contextlib import ExitStack, suppress

from processing.contract import Contract
from processing.errors import Damaged, NotFound
from processing.storage.local import LocalHome
from processing.storage.scratch import scratch_folder
from processing.store.open import STORE_KEY, open_store
from processing.store.sqlite import recovery
from processing.tables.tables import open_tables


def store_fault(home: LocalHome) -> str:
    """What is wrong with the online store of a home; "" if nothing is, or there is none. Reads all of it."""
    path = home.path(STORE_KEY)
    return recovery.file_fault(path) if path.exists() else ""


def store_lag(home: LocalHome, contract: Contract) -> str:
    """Why a store without a fault does not count what the tables hold; "" if it does. For a contract with entities."""
    path, lacks = home.path(STORE_KEY), "it is missing"
    if path.exists():
        begun, finished = recovery.refresh_status(path)
        if begun:
            return "" if finished else "a refresh of it began and did not finish"
        lacks = "it is empty"
    try:
        filled = open_tables(home, contract).find("transactions") is not None
    except Damaged:  # the check of the tables reports it
        return ""
    return f"{lacks}, although the tables hold transactions" if filled else ""


def refilled(home: LocalHome, contract: Contract) -> str:
    """Set the counters of a store from the tables, and make the store if it is gone. What was done, in words. Starts
    Spark."""
    return f"{_refreshed(home, contract):,} counters were set from the tables"


def rebuilt(home: LocalHome, contract: Contract) -> str:
    """Set a damaged store aside and make a new one; returns what was done, in words. Starts Spark.

    It gets the decisions and reports that can be read, and its counters from the tables.
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
    buckets = _refreshed(home, contract)
    kept = f"kept {decisions:,} decisions and {reports:,} reports"
    return f"set aside as {aside.name}; {kept}; {buckets:,} counters were set from the tables"


def _refreshed(home: LocalHome, contract: Contract) -> int:
    from processing.job.job import refresh_only

    with scratch_folder("store") as scratch, ExitStack() as held:
        return refresh_only(home, contract, scratch, held)
