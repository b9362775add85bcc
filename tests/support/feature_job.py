"""What the feature job does to the online store, without Spark, for many small cases."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import pyarrow as pa

from processing.contract import Contract
from processing.durations import HOUR_US
from processing.store.decisions import Event
from processing.store.interface import OnlineStore
from processing.store.profiles.packing import pack
from processing.store.profiles.plan import ProfilePlan
from processing.store.profiles.profile import Profile
from processing.store.profiles.settling import settled_profiles
from processing.store.refresh_data import Comparison, Reports, SettledProfile

Labels = Mapping[Event, int | None]


def event_table(contract: Contract, labels: Labels, plan: ProfilePlan | None = None, time: str = "us") -> pa.Table:
    """Events and their labels as rows of the tables, with their time in a column of that name."""
    plan, events = plan or ProfilePlan(contract), list(labels)
    columns = {
        "transaction_id": pa.array([event.transaction_id for event in events], pa.string()),
        time: pa.array([event.time_us for event in events], pa.int64() if time == "us" else pa.timestamp("us", "UTC")),
        "amount_minor": pa.array([event.amount for event in events], pa.int64()),
        "is_fraud": pa.array(list(labels.values()), pa.int32()),
    }
    for index, name in enumerate(contract.key_names):
        columns[name] = pa.array([event.keys[index] for event in events], pa.string())
    for name in plan.event_columns:
        kind = pa.float64() if plan.is_numeric(name) else pa.string()
        columns[name] = pa.array([dict(event.extras).get(name) for event in events], kind)
    return pa.table(columns)


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
    before: Labels | None = None,
    reports: Reports | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    between: Callable[[int], None] = lambda batch: None,
) -> None:
    """A run over `rows`, all of the data, which read `reports` (by default all).

    Calls `meanwhile` when it has read what it needs of the store, `between` before each profile it settles. With
    `before`, the rows and labels of the run before, it settles only profiles that may have changed since.
    """
    reports, recorded_events = reports or store.reports(), store.recorded_events(0)
    recorded = [one for batch in recorded_events.batches for one in batch]
    labels, by_id = with_reports(rows, reports), {event.transaction_id: event for event in rows}
    tail = {event: label for event, label in labels.items() if event.hour >= horizon}
    lacking = [one for one in recorded if one.event.transaction_id not in by_id]
    displaced = [one.event for one in recorded if by_id.get(one.event.transaction_id, one.event) != one.event]
    pending = min((one.number for one in lacking), default=recorded_events.read_up_to + 1)
    changed: list[Event] | None = None
    if before is not None:
        changed = [event for event, label in labels.items() if event not in before or before[event] != label]
        changed += [event for event in before if event not in labels]
        changed += [one.event for one in lacking] + displaced
    for one in lacking:
        report = reports.newest.get(one.event.transaction_id)
        labels[one.event] = None if report is None else int(report.is_fraud)
    meanwhile()

    def batches() -> Iterator[Sequence[SettledProfile]]:
        for number, profile in enumerate(profiles_of(store.plan, labels, horizon, changed)):
            between(number)
            yield [profile]

    store.refresh(
        horizon,
        batches(),
        list(tail),
        reports.mark,
        [event for event, label in tail.items() if label],
        Comparison(recorded_events.read_up_to, pending, {event.transaction_id for event in displaced}),
        whole=before is None,
        basis=f"{horizon}",
    )


def profiles_of(
    plan: ProfilePlan, labels: Labels, horizon: int, changed: Collection[Event] | None = None
) -> Iterator[SettledProfile]:
    """The profiles of events before the hour `horizon`; with `changed`, those of the keys of these events.

    A changed key may have no event left.
    """
    first = horizon - plan.longest_us // HOUR_US
    rows = {event: label for event, label in labels.items() if first <= event.hour < horizon}
    for index, entity in enumerate(plan.layouts):
        chosen, empty = rows, set()
        if changed is not None:
            empty = {plan.seen(event)[index].key for event in changed}
            chosen = {event: label for event, label in rows.items() if plan.seen(event)[index].key in empty}
        for profile in settled_profiles(plan, entity, event_table(plan.contract, chosen, plan), horizon * HOUR_US):
            empty.discard(profile.key)
            yield profile
        for key in sorted(empty):
            yield SettledProfile(entity, key, pack(Profile(plan.layouts[entity], horizon * HOUR_US)))
