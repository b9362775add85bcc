"""Checks a home for damage and repairs what can be repaired, while no run is in progress.

The check reads the contract, the catalog, every page of the tables, the online store, the models and the records of
runs.
"""

from collections.abc import Callable, Iterator
from functools import partial

from pipeline.registry.registry import Registry
from processing.contract import HOME_KEY, Contract
from processing.contracts.contract_change import ContractChange
from processing.contracts.home_contract import has_transactions
from processing.contracts.reader import parse
from processing.errors import BadInput, Damaged, FraudlineError, NotFound
from processing.job.store_check import store_damage, store_lag
from processing.job.store_repair import rebuild_store, refill_store
from processing.job.table_check import Fault, damaged_tables
from processing.storage.documents import read_document
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.store.open import STORE_KEY

RUN_RECORDS = ("outcome.json", "features.json")
MAX_REPAIRS = 1_000  # in one call; each damaged file takes one


def home_problems(home: Home) -> Iterator[Fault]:
    """Every problem in a home, as it is found."""
    contract = None
    backup = _contract_of_last_run(home)
    try:
        contract = _contract(home)
        if backup and _differs(contract, backup):
            contract = None
            yield Fault(home.url_of(HOME_KEY), "it is not the last run's contract", _restore(home, backup))
    except (BadInput, NotFound) as error:
        # A new home has no contract yet.
        if not (isinstance(error, NotFound) and backup is None and not has_transactions(home)):
            yield Fault(home.url_of(HOME_KEY), str(error), _restore(home, backup) if backup else None)
    if contract is not None:
        yield from damaged_tables(home, contract)
        if isinstance(home, LocalHome) and (damage := store_damage(home)):
            yield Fault(home.url_of(STORE_KEY), damage, partial(rebuild_store, home, contract))
        elif isinstance(home, LocalHome) and contract.entities and (lag := store_lag(home, contract)):
            yield Fault(home.url_of(STORE_KEY), lag, partial(refill_store, home, contract))
    for fault in Registry(home).problems():
        yield Fault("models", fault)
    yield from _run_problems(home)


def repair_home(home: Home, say: Callable[[str], None]) -> list[Fault]:
    """Repair what can be repaired; `say` gets a line about each repair. Returns the problems that remain."""
    for repair in Registry(home).repair_pointer():
        say(repair)
    for _ in range(MAX_REPAIRS):  # a repair can uncover the next problem, e.g. a damaged file behind a lost catalog
        problems = list(home_problems(home))
        repairable = [problem for problem in problems if problem.repair]
        if not repairable:
            return problems
        problem = repairable[0]
        assert problem.repair is not None
        say(f"{problem}")
        say(f"  repaired: {problem.repair()}")
    return list(home_problems(home))


def _contract(home: Home) -> Contract:
    data = home.read(HOME_KEY)
    try:
        return parse(data.decode(), home.url_of(HOME_KEY))
    except UnicodeDecodeError as error:
        raise BadInput(f"it is not UTF-8 at byte {error.start}") from None


def _differs(contract: Contract, backup: Contract) -> bool:
    """Whether a contract cannot follow the last run's: it is another one, or truncated, which can still be valid."""
    truncated = len(contract.text) < len(backup.text) and backup.text.startswith(contract.text)
    return truncated or bool(ContractChange(backup, contract).refusals)


def _contract_of_last_run(home: Home) -> Contract | None:
    """The newest valid copy of the contract that a run has left."""
    for run in reversed(home.folders("runs/")):
        key = f"runs/{run}/contract/{HOME_KEY}"
        try:
            return parse(home.read(key).decode(), key)
        except (FraudlineError, UnicodeDecodeError):
            continue
    return None


def _restore(home: Home, backup: Contract) -> Callable[[], str]:
    def repair() -> str:
        home.write(HOME_KEY, backup.text.encode())
        return "restored from the last run that has a valid copy"

    return repair


def _run_problems(home: Home) -> Iterator[Fault]:
    for run in home.folders("runs/"):
        for name in RUN_RECORDS:
            key = f"runs/{run}/{name}"
            try:
                read_document(home, key, "the run is over; delete the file, or restore it from a backup")
            except NotFound:
                continue
            except Damaged as error:
                yield Fault(home.url_of(key), str(error))
