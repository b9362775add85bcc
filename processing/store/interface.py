"""The online store: profiles of entities, from which features are computed while a card payment waits.

A profile holds an entity's tiles and frauds (see `processing.store.profiles`). The feature job *settles* profiles with
the transactions of the tables up to the horizon (idempotent); the API *counts* those after it. The store also records
decisions, so that no transaction is counted or decided twice, and the labels that investigators report, until the next
run reads them.

After a refresh the store counts every transaction of the tables, and every decided one whose id is not in the tables.
If the tables have another transaction under the id of a decision, the tables win and the decision is *displaced*: it is
no longer counted, and a report of it changes no window. A decision dated before the horizon of a profile is counted in
it from the next refresh on, because only a run knows whether the tables have it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple, Protocol

from processing.errors import FraudlineError
from processing.features.state_plan import StatePlan
from processing.store.decisions import Decision, Event
from processing.store.lookup import DecisionPage, Search
from processing.store.profiles.plan import ProfilePlan
from processing.store.refresh_data import NOT_COMPARED, Comparison, RecordedEvents, Reports, SettledProfile


class StoreUnavailable(FraudlineError):
    """The online store did not answer in time: it is locked, full or unreachable."""


class StoreBusy(StoreUnavailable):
    """Another writer holds the online store; waiting may help."""


class StoreState(NamedTuple):
    """How far a store reaches, and whether it is complete. Times are in microseconds since 1970.

    filled: whether a refresh has finished in it or is under way
    horizon_us: the time up to which it counts the transactions of the tables
    labelled_us: the time of the newest transaction with a known label; 0 if there is none
    unfinished_since_us: when the unfinished refresh began; None if there is none
    basis: the `basis` of the last refresh if it has finished; "" otherwise
    """

    filled: bool
    horizon_us: int
    labelled_us: int
    unfinished_since_us: int | None
    basis: str = ""


class Ledger(Protocol):
    """Recalls what came before a decision, and records it."""

    def recall(self, event: Event, plan: StatePlan | None = None) -> tuple[Decision | None, list[int]]:
        """See `OnlineStore.recall`."""

    def record(self, decision: Decision) -> Decision:
        """See `OnlineStore.record`."""


class OnlineStore(ABC):
    """One interface, with one store for a laptop and one for the cloud. Every call is safe from many processes at once.

    Every call raises StoreUnavailable if the store does not answer within its time limit. `near` says whether a call
    takes microseconds (a file) or waits for a network. `plan` says what its profiles keep.
    """

    near = False
    plan: ProfilePlan

    @contextmanager
    def together(self, *, wait: bool = True) -> Iterator[Ledger]:
        """Make everything recalled and recorded in the `with` block one transaction, if the store can.

        Each decision then sees all that were recorded before it. Without `wait` it raises StoreBusy instead of waiting
        for other writers.
        """
        yield self

    @abstractmethod
    def recall(self, event: Event, plan: StatePlan | None = None) -> tuple[Decision | None, list[int]]:
        """The decision recorded under the event's id, if any, and the event's state for `FeatureSet.compute`.

        `plan` is of the contract of the model that scores the event, by default of the home's. The store keeps what the
        contracts with which it was opened need.
        """

    @abstractmethod
    def record(self, decision: Decision) -> Decision:
        """Record a decision and count its transaction, both or neither.

        Returns the decision that stands: this one, or the one recorded first under the same id. In the second case
        nothing is counted again.
        """

    @abstractmethod
    def report(self, transaction_id: str, is_fraud: bool) -> None:
        """Store the label of a recorded transaction; the last report counts. Raises NotFound."""

    @abstractmethod
    def decisions(self, limit: int, since: datetime | None = None) -> list[Decision]:
        """The latest decisions, newest first; with `since`, only those made at that time or later."""

    @abstractmethod
    def search(self, search: Search, limit: int, after: str | None = None, *, newer: bool = False) -> DecisionPage:
        """A page of at most `limit` recorded decisions that match a search, the newest ones.

        `after` is a position from an earlier page of the same search: its `last`, to continue with older decisions, or
        with `newer` its `first`, to get the decisions that follow it, nearest first.
        """

    @abstractmethod
    def reports(self) -> Reports:
        """All reports so far."""

    @abstractmethod
    def recorded_events(self, since_us: int) -> RecordedEvents:
        """Decided transactions of that time or later that the tables may lack, and possibly some that they have.

        A run reads them after the reports, so that it knows every transaction that it has a report of.
        """

    @abstractmethod
    def refresh(
        self,
        horizon: int,
        profiles: Iterable[Sequence[SettledProfile]],
        tail: Sequence[Event],
        mark: int,
        frauds: Collection[Event] = (),
        comparison: Comparison = NOT_COMPARED,
        labelled_us: int = 0,
        *,
        whole: bool = True,
        basis: str = "",
    ) -> None:
        """Settle profiles up to the hour `horizon` while the API goes on.

        profiles: of the transactions in the tables before the horizon, and of the decided ones that the tables lack,
            with all reports up to `mark`; the store adds newer reports itself
        tail: the events of the tables from the horizon on, which may not be over; each is counted once
        frauds: those of `tail` that are fraud
        labelled_us: the time of the newest transaction in the tables with a known label; 0 if there is none
        whole: `profiles` are all that there are; any other key has no transaction before the horizon. Otherwise other
            keys stay as they are, and their own horizons with them.
        basis: what the profiles were computed from, for `state`

        The horizon may move back. Then the events after it are counted again, from `tail` and the decisions.
        """

    @abstractmethod
    def state(self) -> StoreState:
        """How far the store reaches now."""

    def tidy(self) -> None:  # noqa: B027 - most stores need none
        """Do housekeeping that takes milliseconds. A server calls this from a thread every so often."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources."""


class Replay(OnlineStore):
    """A copy of a home's online store that counts further transactions, while the home's own stays as it is.

    First count all events, then ask for their states. A state is point-in-time: it depends only on what lies before its
    event, in whatever order the events came. `horizon` is the hour up to which the tables are counted.
    """

    horizon: int

    @abstractmethod
    def count(self, events: Sequence[Event]) -> None:
        """Count events as the API would: each id once, and none that the store has counted already."""

    @abstractmethod
    def states(self, events: Sequence[Event], plan: StatePlan | None = None) -> list[list[int] | None]:
        """The state of each event, as from `recall`; None if its id was used before for another transaction.

        Counts events that were not counted yet: a truncated file may yield more rows when it is read again.
        """
