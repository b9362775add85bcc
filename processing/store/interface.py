"""The online store: the hour buckets that features are computed from while a card payment waits.

The feature job *sets* the buckets of the hours its data covers (idempotent); the API *adds* to the hours after.
The store also holds what was decided, so that the same transaction is never counted or decided twice, and what
investigators reported, until the next run takes it in.

What is counted, as of the last refresh: every transaction of the data, and every decided one whose id the data lacks.
Where the data has another transaction under the id of a decision, the data's stands, and the decision is *displaced*:
it is counted no more, and a report of it changes no window. A decision dated before the horizon is counted from the
next refresh on, because only a run knows whether the data has it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from processing.contract import Contract
from processing.errors import FraudlineError
from processing.features.windows import HOUR_US

if TYPE_CHECKING:
    from processing.store.lookup import Page, Search


class StoreUnavailable(FraudlineError):
    """The online store did not answer in time (locked, full, out of reach)."""


class StoreBusy(StoreUnavailable):
    """The online store could not be written at once, because somebody else writes; waiting may help."""


@dataclass(frozen=True)
class Event:
    """A transaction as the windows see it: `keys` are its entities' values, in the order of the contract."""

    transaction_id: str
    time_us: int
    amount: int  # minor units
    keys: tuple[str, ...]

    @property
    def hour(self) -> int:
        """Its hour bucket."""
        return self.time_us // HOUR_US


@dataclass(frozen=True)
class Decision:
    """What was decided about a transaction, and on what grounds."""

    event: Event
    decision: str
    score: float
    threshold: float
    model_version: str
    features: bytes  # float64, in the order of the model's features
    decided_at: datetime
    is_fraud: bool | None = None  # as reported later
    reasons: str | None = None  # as `serving.decision.reasons` writes them; none for what is legit, or not explained


class Bucket(NamedTuple):
    """One entity's hour: count, amount in minor units, its squares, frauds, their amount."""

    entity: int  # place in the contract
    key: str
    hour: int
    n: int
    s: int
    q: int
    f: int
    g: int


class Report(NamedTuple):
    """A label reported through the API, and the transaction as it was decided."""

    event: Event
    is_fraud: bool


@dataclass(frozen=True)
class Reports:
    """What was reported through the API: the newest report of each transaction, by its id, and how far was read."""

    newest: dict[str, Report]
    mark: int

    @property
    def labels(self) -> dict[str, bool]:
        """The newest label of each transaction id."""
        return {key: report.is_fraud for key, report in self.newest.items()}


class Recorded(NamedTuple):
    """A decided transaction, and its place in the order of recording."""

    number: int
    event: Event


@dataclass(frozen=True)
class Recordings:
    """Decided transactions in batches, and the number up to which they were read."""

    batches: Iterator[Sequence[Recorded]]
    read: int


@dataclass(frozen=True)
class Comparison:
    """What a run found when it compared decided transactions with its data.

    `read` is that of the recordings; `pending` the number of the first one whose id the data lacks (one more than
    `read` if it lacks none): the next run compares from there on. `displaced` are the ids that the data has for
    another transaction.
    """

    read: int = 0
    pending: int = 0
    displaced: Collection[str] = ()


NOT_COMPARED = Comparison()
Former = Callable[[], Iterable[str]]  # the digests of contracts that a home went by before, and may follow one another


def is_bound_to(contract: Contract, digest: str, fingerprint: str | None, former: Former) -> bool:
    """Whether a store is of a contract, by what it holds of its own.

    A store of a time before fingerprints holds the digest of the contract's text alone, which may have changed since
    in what no store depends on.
    """
    if fingerprint is not None:
        return fingerprint == contract.fingerprint
    return digest == contract.digest or digest in former()


class StoreState(NamedTuple):
    """How far a store reaches, and whether it is whole. Times are in microseconds since 1970.

    `filled` is whether any refresh was finished in it or is under way, `horizon_us` up to when the data's transactions
    are counted. `labelled_us` is the time of the newest transaction whose label is known, 0 while none is.
    `unfinished_since_us` says when the refresh began that is not finished; None if all are.
    """

    filled: bool
    horizon_us: int
    labelled_us: int
    unfinished_since_us: int | None


class Ledger(Protocol):
    """Where a decision finds what was before it, and where it is recorded."""

    def recall(self, event: Event) -> tuple[Decision | None, list[int]]:
        """See `OnlineStore.recall`."""

    def record(self, decision: Decision) -> Decision:
        """See `OnlineStore.record`."""


class OnlineStore(ABC):
    """One interface, a store for a laptop and one for the cloud. Every call is safe from many processes at once.

    All raise StoreUnavailable when the store does not answer within its time limit. `near` says whether a call takes
    microseconds (a file) or waits for a network.
    """

    near = False

    @contextmanager
    def together(self, *, wait: bool = True) -> Iterator[Ledger]:
        """What is recalled and recorded in the `with` block is one transaction, where the store can do that.

        Each decision then sees all that were recorded before it. Without `wait` it raises StoreBusy, rather than
        wait for other writers.
        """
        yield self

    @abstractmethod
    def recall(self, event: Event) -> tuple[Decision | None, list[int]]:
        """The decision already recorded under the event's id, and the event's state for `FeatureSet.compute`."""

    @abstractmethod
    def record(self, decision: Decision) -> Decision:
        """Record a decision and count its transaction, both or neither.

        Returns the decision that stands: this one, or the one that was recorded first under the same id
        (nothing is counted again then).
        """

    @abstractmethod
    def report(self, transaction_id: str, is_fraud: bool) -> None:
        """Take in a label for a recorded transaction; the last report stands. Raises NotFound."""

    @abstractmethod
    def decisions(self, limit: int, since: datetime | None = None) -> list[Decision]:
        """The latest decisions, newest first; with `since`, those made at that time or later."""

    @abstractmethod
    def search(self, search: "Search", limit: int, after: str | None = None, *, newer: bool = False) -> "Page":
        """A page of recorded decisions: at most `limit` of those that a search is for, the newest ones.

        `after` is a position of an earlier page of the same search: its `last` to go on to older ones, or with
        `newer` its `first` to go back to those that came after it, the nearest ones.
        """

    @abstractmethod
    def reports(self) -> Reports:
        """Everything reported so far."""

    @abstractmethod
    def recorded(self, since_us: int) -> Recordings:
        """The decided transactions of that time or later which the data may lack; some that it has may be among them.

        A run reads them after the reports, so that it knows every transaction that it has a report of.
        """

    @abstractmethod
    def refresh(
        self,
        horizon: int,
        buckets: Iterable[Sequence[Bucket]],
        tail: Sequence[Event],
        mark: int,
        frauds: Collection[Event] = (),
        comparison: Comparison = NOT_COMPARED,
        labelled_us: int = 0,
    ) -> None:
        """Set all buckets of the hours before `horizon` (those not given are dropped), while the API goes on.

        The buckets hold the data's transactions and the decided ones that the data lacks, with all reports up to
        `mark`; reports newer than that are kept on top of them. `tail` are the data's events from the hour `horizon`
        on, which may not be over: each is counted unless it was. `frauds` are the events among all of these that are
        fraud, so that a report of one of them counts it no second time. The horizon may go back; the hours that the
        store then holds too much of are counted anew, from `tail` and the decisions. `labelled_us` is the time of the
        data's newest transaction whose label is known, 0 if none is.
        """

    @abstractmethod
    def state(self) -> StoreState:
        """How far the store reaches, as of now."""

    def tidy(self) -> None:  # noqa: B027 - most stores need none
        """Housekeeping that takes milliseconds; a server has it done every so often, in a thread."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held open."""
