"""The contract that a model was trained under, which its features are computed by wherever it serves or is compared."""

from collections.abc import Mapping

from processing.contract import Contract
from processing.contracts.reader import parse
from processing.errors import BadInput


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
    has = {entity.name: entity.columns for entity in ours.entities}
    for entity in theirs.entities:
        if entity.name not in has:
            return f"its features need the entity {entity.name!r}, which the contract no longer has"
        if has[entity.name] != entity.columns:
            now = ", ".join(has[entity.name])
            return f"its entity {entity.name!r} was the column {entity.identified_by!r}, and is {now!r} now"
    if theirs.amount_decimals != ours.amount_decimals:
        return f"its amounts had {theirs.amount_decimals} decimals, and have {ours.amount_decimals} now"
    return ""
