"""What the feature job does to the online store, without Spark, for many small cases."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from processing.contract import Contract
from processing.features.entity_keys import EntityKeys
from processing.store.decisions import Event
from processing.store.interface import OnlineStore
from processing.store.refresh_data import Bucket, Comparison, Reports

Labels = Mapping[Event, int | None]


def with_reports(rows: Labels, reports: Reports) -> dict[Event, int | None]:
    """The labels of the data, including reports about exactly these transactions."""
    reported = {report.event: int(report.is_fraud) for report in reports.newest.values()}
    return {event: reported.get(event, label) for event, label in rows.items()}


def bring_up_to_date(
    store: OnlineStore,
    rows: Labels,
    horizon: int,
    contract: Contract,
    *,
    reports: Reports | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    between: Callable[[int], None] = lambda batch: None,
) -> None:
    """A run over `rows`, all of the data, which read `reports` (by default all).

    Calls `meanwhile` when it has read what it needs of the store, `between` before each batch of buckets it sets.
    """
    reports, recorded_events = reports or store.reports(), store.recorded_events(0)
    recorded = [one for batch in recorded_events.batches for one in batch]
    labels, by_id = with_reports(rows, reports), {event.transaction_id: event for event in rows}
    lacking = [one for one in recorded if one.event.transaction_id not in by_id]
    displaced = {
        one.event.transaction_id for one in recorded if by_id.get(one.event.transaction_id, one.event) != one.event
    }
    pending = min((one.number for one in lacking), default=recorded_events.read_up_to + 1)
    for one in lacking:
        report = reports.newest.get(one.event.transaction_id)
        labels[one.event] = None if report is None else int(report.is_fraud)
    meanwhile()
    first = horizon - contract.lookback_hours
    whole = [event for event in labels if first <= event.hour < horizon]
    frauds = [event for event, label in labels.items() if label]

    def batches() -> Iterator[Sequence[Bucket]]:
        for number, batch in enumerate(buckets_of(whole, contract, frauds)):
            between(number)
            yield batch

    tail = [event for event in rows if event.hour >= horizon]
    comparison = Comparison(recorded_events.read_up_to, pending, displaced)
    store.refresh(horizon, batches(), tail, reports.mark, frauds, comparison)


def buckets_of(events: Sequence[Event], contract: Contract, frauds: Sequence[Event] = ()) -> list[list[Bucket]]:
    """The hour buckets of events, each in a batch of its own."""
    entity_keys = EntityKeys(contract)
    sums: dict[tuple[int, str, int], list[int]] = {}
    for event in events:
        fraud = int(event in frauds)
        for entity, key in enumerate(entity_keys.of(event.keys)):
            row = sums.setdefault((entity, key, event.hour), [0, 0, 0, 0, 0])
            for i, more in enumerate((1, event.amount, event.amount**2, fraud, fraud * event.amount)):
                row[i] += more
    return [[Bucket(*at, *row)] for at, row in sums.items()]
