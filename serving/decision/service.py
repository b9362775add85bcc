"""What decides transactions over one home, opened from its settings: no web framework is in it."""

from dataclasses import dataclass

from pipeline.registry.registry import Registry
from processing.contracts.reader import of_home
from processing.features.feature_set import FeatureSet
from processing.storage.open import open_home
from processing.store.open import open_store
from serving.decision.decide import Decider
from serving.decision.follow import Follower
from serving.decision.group_commit import GroupCommit, late_after
from serving.decision.metrics import Metrics
from serving.decision.watch import StoreWatch
from serving.settings import Settings


@dataclass(frozen=True)
class Service:
    """What decisions are made with. `close` releases it; used again, it opens what it needs."""

    features: FeatureSet
    decider: Decider
    decisions: GroupCommit
    follower: Follower
    metrics: Metrics
    watch: StoreWatch

    def close(self) -> None:
        self.decisions.close()
        self.watch.close()
        if self.decider.store is not None:
            self.decider.store.close()


def open_service(settings: Settings) -> Service:
    """The service over the home of the settings.

    Raises BadInput if the home was not begun by a run, or its online store is of another contract, and
    StoreUnavailable.
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
    metrics = Metrics(follower, watch)
    decisions = GroupCommit(
        decider, without_store=settings.without_store, metrics=metrics, watch=watch, late_seconds=late
    )
    return Service(features, decider, decisions, follower, metrics, watch)
