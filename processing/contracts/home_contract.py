"""Which contract a home goes by: the one its data is bound to, which may change in what is not bound.

A home takes its contract with its data: the run that is about to commit writes contract.toml, and a run that fails
before leaves no trace of it. A home without transactions may take any contract. In one with transactions a contract may
follow that differs in entries which nothing stored depends on (`processing.contract.FREE`). The one before is kept.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from processing.contract import HOME_KEY, Contract
from processing.contracts.reader import load, parse_bytes
from processing.errors import BadInput, FraudlineError, NotFound
from processing.storage.home import Home

FORMER = "contracts/"  # the contracts of a home that others have replaced, by the time of that


def contract_for(home: Home, name: str | Path | None = None, default: str = "transactions") -> Contract:
    """The contract that a run in a home goes by: the one named, else the home's, else `default`. Changes nothing.

    Raises BadInput if the home holds transactions that the one named does not fit, saying where they differ.
    """
    try:
        data = home.read(HOME_KEY)
    except NotFound:
        if has_transactions(home):
            raise BadInput(
                f"the home {home.url} holds transactions, and its {HOME_KEY} is gone: restore it from a backup, or run "
                "`fraudline home repair`, which puts back the copy that the last run kept"
            ) from None
        return load(name or default)
    if name is None:
        return _parsed(home, data)
    given = load(name)
    kept = _parsed(home, data)
    if (differ := given.changes(kept, bound=True)) and has_transactions(home):
        raise BadInput(
            f"the home {home.url} holds transactions of the contract {kept.name!r} (its {HOME_KEY}), and the contract "
            f"{given.name!r} differs from it in entries that they and their features were made by: "
            f"{'; '.join(differ)}. Leave these as they are in the home, or use another --home for another dataset"
        )
    return given


def adopt(home: Home, contract: Contract, *, replace: bool = True) -> list[str]:
    """Have a home go by a contract from now on; in words, what that changes. To be called by who may commit.

    The one before, if there is one that differs, is kept in contracts/. Without `replace` it stays: whoever changed it
    while the run went on has the last word, but for what data is bound to (BadInput). Raises Conflict if someone else
    changes it at the same time.
    """
    try:
        data, tag = home.read_tagged(HOME_KEY)
    except NotFound:
        home.write_if(HOME_KEY, contract.text.encode(), None)
        return []
    before = _parsed(home, data)
    if not replace and (differ := contract.changes(before, bound=True)):
        where = home.url_of(HOME_KEY)
        raise BadInput(f"{where} was changed while this run went on: {'; '.join(differ)}. Run again")
    change = _change(before, contract)
    if not replace or not change:
        return []
    former = f"{FORMER}{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{before.digest[:12]}.toml"
    home.write(former, data)
    home.write_if(HOME_KEY, contract.text.encode(), tag)
    return [change, f"the {HOME_KEY} of before is kept as {former}"]


def contract_change(home: Home, contract: Contract) -> str:
    """What would change if the home went by a contract, in words; "" if nothing, or if the home has none yet."""
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
    """Whether transactions were ever committed to a home: Iceberg's own files tell, also without a catalog."""
    return any("/transactions/metadata/snap-" in entry.key for entry in home.entries("warehouse/"))


def earlier_digests(home: Home, contract: Contract) -> Iterator[str]:
    """The digests of contracts that runs of the home have kept and that a contract may follow, the newest first."""
    for run in reversed(home.folders("runs/")):
        key = f"runs/{run}/contract/{HOME_KEY}"
        try:
            kept = parse_bytes(home.read(key), key)
        except FraudlineError:  # the run kept none, or one of a time before these entries
            continue
        if kept.fingerprint == contract.fingerprint:
            yield kept.digest
