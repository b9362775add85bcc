"""The check of a laptop's online store: whether it is damaged, or behind the tables."""

from processing.contract import Contract
from processing.errors import Damaged
from processing.storage.local import LocalHome
from processing.store.open import STORE_KEY
from processing.store.sqlite import recovery
from processing.tables.tables import open_tables


def store_damage(home: LocalHome) -> str:
    """What is wrong with the online store; "" if nothing is, or there is no store. Reads all of it."""
    path = home.path(STORE_KEY)
    return recovery.file_fault(path) if path.exists() else ""


def store_lag(home: LocalHome, contract: Contract) -> str:
    """Why an intact store does not count what the tables hold; "" if it does. For a contract with entities."""
    path, lack = home.path(STORE_KEY), "it is missing"
    if path.exists():
        begun, finished = recovery.refresh_status(path)
        if begun:
            return "" if finished else "a refresh of it began and did not finish"
        lack = "no refresh has filled it"
    try:
        filled = open_tables(home, contract).find("transactions") is not None
    except Damaged:  # the check of the tables reports it
        return ""
    return f"{lack}, although the tables hold transactions" if filled else ""
