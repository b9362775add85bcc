"""Which contract a home has: the one that its data depends on. It may change in entries that no stored data depends on.

A home takes its contract with its data: the run that is about to commit writes contract.toml, and a run that fails
before leaves no trace of it. A home without transactions may take any contract. In one with transactions, a contract
may be replaced by one that differs only in entries of `processing.contract.CHANGEABLE`. The earlier one is kept.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from processing.contract import HOME_KEY, Contract
from processing.contracts.reader import load, parse_bytes
from processing.errors import BadInput, FraudlineError, NotFound
from processing.storage.home import Home

EARLIER = "contracts/"  # a home's replaced contracts, by the time of their replacement


def contract_for(home: Home, name: str | Path | None = None, default: str = "transactions") -> Contract:
    """The contract for a run in a home: the one named, else the home's, else `default`. Changes nothing.

    Raises BadInput, saying where they differ, if the home's transactions do not fit the contract that is named.
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
    if name is None:
        return _parsed(home, data)
    named, current = load(name), _parsed(home, data)
    if (differ := named.changes(current, bound=True)) and has_transactions(home):
        raise BadInput(
            f"the home {home.url} holds transactions of the contract {current.name!r} (its {HOME_KEY}), and the "
            f"contract {named.name!r} differs from it in entries that they and their features depend on: "
            f"{'; '.join(differ)}. Keep these entries as they are in the home, or use another --home for other data"
        )
    return named


def adopt(home: Home, contract: Contract, *, replace: bool = True) -> list[str]:
    """Give a home a contract; in words, what changes. Call only while holding the home's lease.

    A different contract that the home had is kept in contracts/. Without `replace` the home keeps its own: if someone
    changed it during the run, that change stays, unless stored data depends on it (BadInput). Raises Conflict if
    someone else changes it at the same time.
    """
    try:
        data, tag = home.read_tagged(HOME_KEY)
    except NotFound:
        home.write_if(HOME_KEY, contract.text.encode(), None)
        return []
    before = _parsed(home, data)
    if not replace and (differ := contract.changes(before, bound=True)):
        where = home.url_of(HOME_KEY)
        raise BadInput(f"{where} was changed during this run: {'; '.join(differ)}. Run again")
    change = _change(before, contract)
    if not replace or not change:
        return []
    earlier = f"{EARLIER}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{before.digest[:12]}.toml"
    home.write(earlier, data)
    home.write_if(HOME_KEY, contract.text.encode(), tag)
    return [change, f"the earlier {HOME_KEY} is kept as {earlier}"]


def contract_change(home: Home, contract: Contract) -> str:
    """What a contract would change in the home, in words; "" if nothing, or if the home has no contract yet."""
    try:
        return _change(_parsed(home, home.read(HOME_KEY)), contract)
    except NotFound:
        return ""


def _change(before: Contract, after: Contract) -> str:
    if before.text == after.text:
        return ""
    return f"{HOME_KEY} changes: {'; '.join(after.changes(before) or ['nothing but its wording'])}"


def _parsed(home: Home, data: bytes) -> Contract:
    return parse_bytes(data, home.url_of(HOME_KEY))


def has_transactions(home: Home) -> bool:
    """Whether transactions were ever committed to a home. Looks at Iceberg's own files, so it needs no catalog."""
    return any("/transactions/metadata/snap-" in entry.key for entry in home.entries("warehouse/"))


def earlier_digests(home: Home, contract: Contract) -> Iterator[str]:
    """The digests of earlier runs' contracts that a contract may replace, newest first."""
    for run in reversed(home.folders("runs/")):
        key = f"runs/{run}/contract/{HOME_KEY}"
        try:
            earlier = parse_bytes(home.read(key), key)
        except FraudlineError:  # the run has no copy, or one of an older version
            continue
        if earlier.fingerprint == contract.fingerprint:
            yield earlier.digest
