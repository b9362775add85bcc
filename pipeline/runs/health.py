"""The state of a home: what in it is not as it was written, and the mending of what can be mended.

Looked at are the contract, the catalog and every page of the tables, the online store, the models and the records of
runs. For who knows that no run goes on.
"""

from collections.abc import Callable, Iterator
from functools import partial

from pipeline.registry.registry import Registry
from processing.contract import HOME_KEY, Contract
from processing.contracts.home_contract import has_transactions
from processing.contracts.reader import parse
from processing.errors import BadInput, Damaged, FraudlineError, NotFound
from processing.job.damage import Problem, damaged_tables
from processing.job.store_repair import rebuilt, refilled, store_fault, store_lag
from processing.storage.documents import read_document
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.store.open import STORE_KEY

RUN_RECORDS = ("outcome.json", "features.json")
MENDS = 1_000  # of one repair: each damaged file is one


def problems(home: Home) -> Iterator[Problem]:
    """All that is wrong with a home, as it is found."""
    contract = None
    kept = _kept_contract(home)
    try:
        contract = _contract(home)
        if kept and _is_another(contract, kept):
            contract = None
            yield Problem(home.url_of(HOME_KEY), "it is not the contract of the last run", _put_back(home, kept))
    except (BadInput, NotFound) as error:
        if not (isinstance(error, NotFound) and kept is None and not has_transactions(home)):  # a new home has none
            yield Problem(home.url_of(HOME_KEY), str(error), _put_back(home, kept) if kept else None)
    if contract is not None:
        yield from damaged_tables(home, contract)
        if isinstance(home, LocalHome) and (fault := store_fault(home)):
            yield Problem(home.url_of(STORE_KEY), fault, partial(rebuilt, home, contract))
        elif isinstance(home, LocalHome) and contract.entities and (lag := store_lag(home, contract)):
            yield Problem(home.url_of(STORE_KEY), lag, partial(refilled, home, contract))
    for said in Registry(home).problems():
        yield Problem("models", said)
    yield from _runs(home)


def repaired(home: Home, told: Callable[[str], None]) -> list[Problem]:
    """Mend what can be mended, telling what was done; what is left."""
    for done in Registry(home).repair_pointer():
        told(done)
    for _ in range(MENDS):  # one mend may show the next problem: behind a lost catalog there may be a damaged file
        found = list(problems(home))
        mendable = [problem for problem in found if problem.mend]
        if not mendable:
            return found
        problem = mendable[0]
        assert problem.mend is not None
        told(f"{problem}")
        told(f"  mended: {problem.mend()}")
    return list(problems(home))


def _contract(home: Home) -> Contract:
    data = home.read(HOME_KEY)
    try:
        return parse(data.decode(), home.url_of(HOME_KEY))
    except UnicodeDecodeError as error:
        raise BadInput(f"it is not UTF-8 at byte {error.start}") from None


def _is_another(contract: Contract, kept: Contract) -> bool:
    """Whether a home's contract cannot follow the last run's: it is another one, or truncated, which can be valid."""
    truncated = len(contract.text) < len(kept.text) and kept.text.startswith(contract.text)
    return truncated or contract.fingerprint != kept.fingerprint


def _kept_contract(home: Home) -> Contract | None:
    """The contract of the newest run that has kept a sound one."""
    for run in reversed(home.folders("runs/")):
        key = f"runs/{run}/contract/{HOME_KEY}"
        try:
            return parse(home.read(key).decode(), key)
        except (FraudlineError, UnicodeDecodeError):
            continue
    return None


def _put_back(home: Home, kept: Contract) -> Callable[[], str]:
    def mend() -> str:
        home.write(HOME_KEY, kept.text.encode())
        return "it is again the contract of the last run that kept a copy"

    return mend


def _runs(home: Home) -> Iterator[Problem]:
    for run in home.folders("runs/"):
        for name in RUN_RECORDS:
            key = f"runs/{run}/{name}"
            try:
                read_document(home, key, "the run is over; delete the file, or restore it from a backup")
            except NotFound:
                continue
            except Damaged as error:
                yield Problem(home.url_of(key), str(error))
