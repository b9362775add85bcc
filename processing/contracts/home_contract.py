"""Which contract a home has, and how it gets another one.

A home takes its contract with its data: the run that is about to commit writes contract.toml, and a run that fails
before leaves no trace of it. A home without transactions may take any contract. One with transactions takes any that
`processing.contracts.contract_change` does not refuse. It can be proposed before (contracts/pending.toml), or named for
a run. A run that commits puts it in force and keeps the earlier one; one that fails leaves the earlier one in force.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from processing.contract import HOME_KEY, Contract
from processing.contracts.contract_change import ContractChange
from processing.contracts.reader import load, of_home, parse_bytes
from processing.errors import BadInput, FraudlineError, NotFound
from processing.storage.home import Home

EARLIER = "contracts/"  # a home's replaced contracts, by the time of their replacement
PENDING_KEY = f"{EARLIER}pending.toml"  # the contract that the next run puts in force


class FormerColumns(NamedTuple):
    """Further columns that a contract does not have, but that earlier ones had."""

    numeric: tuple[str, ...]
    categorical: dict[str, tuple[str, ...]]


NO_COLUMNS = FormerColumns((), {})


def contract_for(home: Home, name: str | Path | None = None, default: str = "transactions") -> Contract:
    """The contract for a run in a home: the one named, else the pending one, else the home's, else `default`.

    Changes nothing. Raises BadInput, saying why, if the home's transactions rule the contract out.
    """
    try:
        data = home.read(HOME_KEY)
    except NotFound:
        if has_transactions(home):
            raise BadInput(
                f"the home {home.url} holds transactions, but its {HOME_KEY} is gone: restore it from a backup, or run "
                "`fraudline home repair`, which restores the last run's copy"
            ) from None
        return load(name or default)
    current = _parsed(home, data)
    wanted = pending(home) if name is None else load(name)
    if wanted is None:
        return current
    check_change(home, current, wanted)
    return wanted


def check_change(home: Home, before: Contract, after: Contract) -> ContractChange:
    """The change from a home's contract to another. Raises BadInput if the home's transactions rule it out."""
    change = ContractChange(before, after)
    if change.refusals and has_transactions(home):
        raise BadInput(
            f"the home {home.url} holds transactions of the contract {before.name!r} (its {HOME_KEY}), which the "
            f"contract {after.name!r} would falsify: {'; '.join(change.refusals)}. Keep these entries as they are in "
            "the home, or use another --home for other data"
        )
    return change


def change_of(home: Home, contract: Contract) -> ContractChange | None:
    """What a contract would change in a home; None if nothing, or if the home has no contract yet."""
    data = _read(home)
    change = ContractChange(_parsed(home, data), contract) if data is not None else None
    return change if change and change.before.text != contract.text else None


def pending(home: Home) -> Contract | None:
    """The contract that the next run puts in force; None if that is the home's own."""
    with suppress(NotFound):
        return parse_bytes(home.read(PENDING_KEY), home.url_of(PENDING_KEY))
    return None


def propose(home: Home, contract: Contract) -> ContractChange:
    """Let the next run put a contract in force; what that changes. If it changes nothing, none is pending any more.

    Raises BadInput if the home has no contract yet, or if its transactions rule this one out.
    """
    change = check_change(home, of_home(home), contract)
    if change.before.text == contract.text:
        withdraw(home)
    else:
        home.write(PENDING_KEY, contract.text.encode())
    return change


def withdraw(home: Home) -> None:
    """Let no contract be pending."""
    with suppress(NotFound):
        home.delete(PENDING_KEY)


@contextmanager
def adopted(home: Home, contract: Contract, *, replace: bool = True) -> Iterator[list[str]]:
    """Give a home a contract for the commit in the `with` block. If that raises, the earlier one is in force again.

    See `adopt`. A kill in the block leaves the new contract, under which the next run goes on.
    """
    before, copies = _read(home), _copies(home)
    changes = adopt(home, contract, replace=replace)
    try:
        yield changes
    except BaseException:
        if changes and before is not None:
            home.write(HOME_KEY, before)
            for key in set(_copies(home)) - set(copies):
                home.delete(key)
        raise
    if replace and (waiting := pending(home)) and waiting.text == contract.text:
        withdraw(home)


def adopt(home: Home, contract: Contract, *, replace: bool = True) -> list[str]:
    """Give a home a contract; in words, what changes. Call only while holding the home's lease.

    A different contract that the home had is kept in contracts/. Without `replace` the home keeps its own: if someone
    changed it during the run, that change stays, unless the run's rows depend on it (BadInput). Raises Conflict if
    someone else changes it at the same time.
    """
    try:
        data, tag = home.read_tagged(HOME_KEY)
    except NotFound:
        home.write_if(HOME_KEY, contract.text.encode(), None)
        return []
    change = ContractChange(_parsed(home, data), contract)
    if not replace and (change.refusals or change.affects_rows):
        meanwhile = ContractChange(contract, change.before).entries
        raise BadInput(f"{home.url_of(HOME_KEY)} was changed during this run: {'; '.join(meanwhile)}. Run again")
    if not replace or change.before.text == contract.text:
        return []
    earlier = f"{EARLIER}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{change.before.digest[:12]}.toml"
    home.write(earlier, data)
    home.write_if(HOME_KEY, contract.text.encode(), tag)
    changes = [f"{HOME_KEY} changes: {line}" for line in change.entries or ["nothing but its wording"]]
    return [*changes, f"the earlier {HOME_KEY} is kept as {earlier}"]


def _read(home: Home) -> bytes | None:
    with suppress(NotFound):
        return home.read(HOME_KEY)
    return None


def _parsed(home: Home, data: bytes) -> Contract:
    return parse_bytes(data, home.url_of(HOME_KEY))


def has_transactions(home: Home) -> bool:
    """Whether transactions were ever committed to a home. Looks at Iceberg's own files, so it needs no catalog."""
    return any("/transactions/metadata/snap-" in entry.key for entry in home.entries("warehouse/"))


def former_columns(home: Home, contract: Contract) -> FormerColumns:
    """The further columns that a home's contracts had before and its present one lacks."""
    numeric, categorical = dict[str, None](), dict[str, tuple[str, ...]]()
    for earlier in _replaced(home):
        numeric |= {name: None for name in earlier.numeric if name not in contract.columns}
        categorical = {n: known for n, known in earlier.categorical.items() if n not in contract.columns} | categorical
    return FormerColumns(tuple(name for name in numeric if name not in categorical), categorical)


def added_columns(home: Home, contract: Contract) -> frozenset[str]:
    """The further columns of a contract that an earlier one of the home lacks. Files of that time lack them too."""
    present = _read(home)
    earlier = [*_replaced(home), *([_parsed(home, present)] if present is not None else [])]
    extras = {*contract.numeric, *contract.categorical}
    return frozenset(name for name in extras if any(name not in one.columns for one in earlier))


def earlier_contracts(home: Home) -> Iterator[Contract]:
    """The contracts that a home had before, and those of its runs, newest first, as far as they can be read."""
    yield from _replaced(home)
    for run in reversed(home.folders("runs/")):
        key = f"runs/{run}/contract/{HOME_KEY}"
        with suppress(FraudlineError):  # the run has no copy, or one of an older version
            yield parse_bytes(home.read(key), key)


def _replaced(home: Home) -> Iterator[Contract]:
    """The contracts that were replaced, newest first."""
    for key in reversed(_copies(home)):
        yield parse_bytes(home.read(key), home.url_of(key))


def _copies(home: Home) -> list[str]:
    """The keys of the contracts that were replaced, oldest first."""
    return sorted(entry.key for entry in home.entries(EARLIER) if entry.key != PENDING_KEY)


def earlier_digests(home: Home, contract: Contract) -> Iterator[str]:
    """The digests of the contracts that a home had before `contract`, newest first."""
    return (earlier.digest for earlier in earlier_contracts(home) if earlier.fingerprint == contract.fingerprint)
