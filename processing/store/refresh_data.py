"""What a run reads from the online store before a refresh, and what it sets in it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from processing.store.decisions import Event


class SettledProfile(NamedTuple):
    """The profile of one entity's key as the tables give it, packed (see `processing.store.profiles.packing`)."""

    entity: str
    key: str
    data: bytes


class Report(NamedTuple):
    """A label reported through the API, and the transaction as it was decided."""

    event: Event
    is_fraud: bool


@dataclass(frozen=True)
class Reports:
    """The newest report of each transaction, by its id. `mark` is the number of the last report that was read."""

    newest: dict[str, Report]
    mark: int

    @property
    def labels(self) -> dict[str, bool]:
        """The newest label of each transaction id."""
        return {key: report.is_fraud for key, report in self.newest.items()}


class RecordedEvent(NamedTuple):
    """A decided transaction, and its number in the order of recording."""

    number: int
    event: Event


@dataclass(frozen=True)
class RecordedEvents:
    """Decided transactions in batches. `read_up_to` is the number of the last one."""

    batches: Iterator[Sequence[RecordedEvent]]
    read_up_to: int


@dataclass(frozen=True)
class Comparison:
    """The result of comparing decided transactions with the tables.

    read_up_to: the number of the last decided transaction that was compared
    pending: the number of the first one whose id is not in the tables, where the next run starts to compare; one more
        than `read_up_to` if the tables have them all
    displaced: the ids under which the tables have another transaction
    """

    read_up_to: int = 0
    pending: int = 0
    displaced: Collection[str] = ()


NOT_COMPARED = Comparison()
