"""The test rows with the features of earlier models, so that a new model can be compared with them.

A model scores the features of the contract that it was trained under. If the home's contract has other features by now,
the feature job computes both, from the same rows of the transactions table, the earlier ones for the test days only:
runs/<run>/earlier/<digest of the features' definition>/.
"""

import hashlib
from collections.abc import Callable

from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.errors import BadInput, Damaged, NotFound
from processing.features.feature_set import FeatureSet
from processing.storage.documents import read_document
from processing.storage.home import Home

POINTER = "models/latest.json"
MAX_SETS = 3  # of earlier features, the champion's first
REMEDY = "`fraudline home check` tells more"


def folder_of(run: str, theirs: Contract) -> str:
    """The key of the folder with a run's test rows under an earlier contract."""
    return f"runs/{run}/earlier/{hashlib.sha256(repr(FeatureSet(theirs).definition).encode()).hexdigest()[:16]}"


def earlier_contracts(home: Home, ours: Contract, say: Callable[[str], None]) -> list[Contract]:
    """The contracts of the serving version and of earlier ones whose features differ from the home's.

    At most `MAX_SETS`, each with other features, the serving version's first. A contract that cannot be read, or whose
    features cannot be computed, is skipped, and `say` gets the reason; evaluation then finds no rows for its models and
    reports that they could not be compared. Raises Damaged for a pointer that cannot be read.
    """
    try:
        pointer = read_document(home, POINTER, "`fraudline home repair` restores it from models/history/")
    except NotFound:
        return []
    known, contracts_found = [FeatureSet(ours).definition], list[Contract]()
    previous = pointer.get("previous")
    for version in (pointer.get("version"), *(previous if isinstance(previous, list) else [])):
        try:
            theirs = training_contract(read_document(home, f"models/{version}/manifest.json", REMEDY), str(version))
        except (NotFound, Damaged, BadInput) as error:
            say(f"no features for model {version}: {error}")
            continue
        definition = FeatureSet(theirs).definition
        if definition in known:
            continue
        known.append(definition)
        if why := not_computable(theirs, ours):
            say(f"no features for model {version}: {why}")
        elif len(contracts_found) < MAX_SETS:
            contracts_found.append(theirs)
    return contracts_found


def training_contract(manifest: dict[str, object], version: str) -> Contract:
    """The contract in a version's manifest. Raises BadInput if there is none, or this code cannot read it."""
    part = manifest.get("contract")
    text = part.get("text") if isinstance(part, dict) else None
    if not isinstance(text, str):
        raise BadInput(f"the manifest of {version} does not contain the contract that it was trained under")
    return contracts.parse(text, f"the contract of {version}")


def not_computable(theirs: Contract, ours: Contract) -> str:
    """Why the features of one contract cannot be computed from the transactions of another; "" if they can."""
    has = dict(zip(ours.key_names, ours.key_columns, strict=True))
    for name, column in zip(theirs.key_names, theirs.key_columns, strict=True):
        if name not in has:
            kind = "entity" if name in {entity.name for entity in theirs.entities} else "column"
            return f"its features need the {kind} {name!r}, which the contract no longer has"
        if has[name] != column:
            return f"its entity {name!r} was the column {column!r}, and is {has[name]!r} now"
    for kind, wanted, there in (
        ("number", theirs.numeric, ours.numeric),
        ("category", theirs.categorical, ours.categorical),
    ):
        if missing := [name for name in wanted if name not in there]:
            return f"its features need the {kind} {missing[0]!r}, which the contract no longer has"
    if theirs.amount_decimals != ours.amount_decimals:
        return f"its amounts had {theirs.amount_decimals} decimals, and have {ours.amount_decimals} now"
    return ""
