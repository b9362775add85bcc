"""The decisions that the API recorded, for what is measured on them."""

from datetime import datetime

from processing.contract import Contract
from processing.errors import BadInput
from processing.storage.home import Home
from processing.store.decisions import Decision
from processing.store.open import open_store

MOST = 50_000  # of the latest decisions are read


def latest_decisions(home: Home, contract: Contract, since: datetime | None = None) -> list[Decision]:
    """The latest decisions of a home, newest first: at most MOST, and none made before `since`.

    Raises BadInput if the contract records no decisions, and StoreUnavailable.
    """
    if not contract.entities:
        raise BadInput(f"the contract {contract.name!r} has no entities, so the API records no decisions to compare")
    store = open_store(home, contract, timeout=30.0)
    try:
        return store.decisions(MOST, since=since)
    finally:
        store.close()
