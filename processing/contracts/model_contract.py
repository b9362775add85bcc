"""The contract that a model was trained under, which its features are computed by wherever it serves or is compared."""

from collections.abc import Callable, Iterator, Mapping

from processing.contract import Contract
from processing.contracts.reader import parse
from processing.errors import BadInput, Damaged, NotFound
from processing.storage.documents import read_document
from processing.storage.home import Home

POINTER = "models/latest.json"


def training_contract(manifest: Mapping[str, object], version: str) -> Contract:
    """The contract in a version's manifest. Raises BadInput if there is none, or this code cannot read it."""
    part = manifest.get("contract")
    text = part.get("text") if isinstance(part, dict) else None
    if not isinstance(text, str):
        raise BadInput(f"the manifest of {version} does not contain the contract that it was trained under")
    return parse(text, f"the contract of {version}")


def not_computable(theirs: Contract, ours: Contract) -> str:
    """Why the features of one contract cannot be computed from the transactions of another; "" if they can.

    A further column that only the first has counts as missing where a transaction lacks it.
    """
    has = dict(zip(ours.key_names, ours.key_columns, strict=True))
    for name, column in zip(theirs.key_names, theirs.key_columns, strict=True):
        if name not in has:
            kind = "entity" if name in {entity.name for entity in theirs.entities} else "column"
            return f"its features need the {kind} {name!r}, which the contract no longer has"
        if has[name] != column:
            return f"its entity {name!r} was the column {column!r}, and is {has[name]!r} now"
    if theirs.amount_decimals != ours.amount_decimals:
        return f"its amounts had {theirs.amount_decimals} decimals, and have {ours.amount_decimals} now"
    return ""


def contracts_of_models(home: Home, skip: Callable[[str, str], None]) -> Iterator[tuple[str, Contract]]:
    """The serving version and those that served before, each with its contract, newest first.

    `skip` gets a version whose contract cannot be read, and why. Raises Damaged for a pointer that cannot be read.
    """
    try:
        pointer = read_document(home, POINTER, "`fraudline home repair` restores it from models/history/")
    except NotFound:
        return
    previous = pointer.get("previous")
    for version in (pointer.get("version"), *(previous if isinstance(previous, list) else [])):
        try:
            manifest = read_document(home, f"models/{version}/manifest.json", "`fraudline home check` tells more")
            yield str(version), training_contract(manifest, str(version))
        except (NotFound, Damaged, BadInput) as error:
            skip(str(version), str(error))


def contracts_kept_for(home: Home, ours: Contract) -> list[Contract]:
    """The contracts for whose features the online store keeps what they need: the home's, that of the serving version
    and those of versions that served before."""
    return [ours, *(contract for _, contract in contracts_of_models(home, lambda version, why: None))]
