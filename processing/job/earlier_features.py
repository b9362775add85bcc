"""The test rows with the features of earlier models, so that a new model can be compared with them.

A model scores the features of the contract that it was trained under. If the home's contract has other features by now,
the feature job computes both, from the same rows of the transactions table, the earlier ones for the test days only:
runs/<run>/earlier/<digest of the features' definition>/.
"""

from collections.abc import Callable

from processing.contract import Contract
from processing.contracts.model_contract import contracts_of_models, not_computable
from processing.features.feature_set import FeatureSet
from processing.storage.home import Home
from processing.tables.schemas import definition_digest

MAX_SETS = 3  # of earlier features, the champion's first


def folder_of(run: str, theirs: Contract) -> str:
    """The key of the folder with a run's test rows under an earlier contract."""
    return f"runs/{run}/earlier/{definition_digest(theirs)}"


def earlier_contracts(home: Home, ours: Contract, say: Callable[[str], None]) -> list[Contract]:
    """The contracts of the serving version and of earlier ones whose features differ from the home's.

    At most `MAX_SETS`, each with other features, the serving version's first. A contract that cannot be read, or whose
    features cannot be computed, is skipped, and `say` gets the reason; evaluation then finds no rows for its models and
    reports that they could not be compared. Raises Damaged for a pointer that cannot be read.
    """
    known, contracts_found = [FeatureSet(ours).definition], list[Contract]()
    for version, theirs in contracts_of_models(
        home, lambda version, why: say(f"no features for model {version}: {why}")
    ):
        definition = FeatureSet(theirs).definition
        if definition in known:
            continue
        known.append(definition)
        if why := not_computable(theirs, ours):
            say(f"no features for model {version}: {why}")
        elif len(contracts_found) < MAX_SETS:
            contracts_found.append(theirs)
    return contracts_found
