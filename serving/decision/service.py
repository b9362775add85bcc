"""Everything that decides transactions of one home, without a web framework.

`open_service` is what the API starts from, and what any other front end, such as a message consumer, would start from.
"""

from dataclasses import dataclass

from pipeline.registry.registry import Registry
from processing.contracts.reader import of_home
from processing.features.feature_set import FeatureSet
from processing.storage.open import open_home
from processing.store.open import open_store
from serving.decision.decider import Decider
from serving.decision.follower import Follower
from serving.decision.group_commit import GroupCommit, late_after
from serving.decision.serving_metrics import ServingMetrics
from serving.decision.store_watch import StoreWatch
from serving.settings import Settings


@dataclass(frozen=True)
class Service:
    """The parts that make decisions. After `close` they open what they need when they are used again."""

    features: FeatureSet
    decider: Decider
    decisions: GroupCommit
    follower: Follower
    metrics: ServingMetrics
    watch: StoreWatch

    def close(self) -> None:
        """Release threads and connections."""
        self.decisions.close()
        self.watch.close()
        if self.decider.store is not None:
            self.decider.store.close()


def open_service(settings: Settings) -> Service:
    """The service for the home of the settings.

    Raises StoreUnavailable, and BadInput if the home is not initialised or its online store is of another contract.
    """
    home = open_home(settings.home)
    contract = of_home(home)
    features = FeatureSet(contract)
    store = open_store(home, contract, timeout=settings.store_timeout_seconds) if contract.entities else None
    follower = Follower(
        Registry(home), contract, packed_only=settings.models == "packed", every_seconds=settings.follow_seconds
    )
    decider = Decider(features, store)
    late = late_after(settings.store_timeout_seconds)
    watch = StoreWatch(store, contract, follower, every_seconds=10 * settings.follow_seconds, patience_seconds=late)
    metrics = ServingMetrics(follower, watch)
    decisions = GroupCommit(
        decider, without_store=settings.without_store, metrics=metrics, watch=watch, late_seconds=late
    )
    return Service(features, decider, decisions, follower, metrics, watch)
