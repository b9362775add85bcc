"""What the online store counts, compared with a simple model: decisions, reports and runs in any order.

Rows may be late or in the future, the tables may lack a decided transaction or have another one under its id, a run may
settle all profiles or only those that may have changed, and the horizon may move forward or back. After every step the
state of any event from the horizon on equals the model's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pytest
from feature_job import bring_up_to_date, event_table, with_reports
from hypothesis import given, settings
from hypothesis import strategies as st
from limited_dynamodb import limited_table

from processing.contract import Contract
from processing.contracts.reader import parse
from processing.durations import HOUR_US, MINUTE_US, SECOND_US
from processing.features.feature_set import FeatureSet
from processing.features.state_plan import StatePlan
from processing.features.table_features import window_state
from processing.store.decisions import Decision, Event
from processing.store.dynamo.store import DynamoStore
from processing.store.interface import OnlineStore
from processing.store.profiles.plan import ProfilePlan
from processing.store.refresh_data import Report, Reports
from processing.store.sqlite.store import SqliteStore

HEAD = """
name = "counted"
numeric = ["lat", "lon"]
categorical = { channel = ["chip", "online"] }
[columns]
id = "id"
time = "at"
amount = "value"
label = "fraud"
[label]
delay_days = 1
"""
IN_DAYS = parse(
    HEAD
    + """
[[entity]]
name = "card"
column = "card_no"
windows_days = [1, 2]
[[entity]]
name = "shop"
column = "shop_no"
windows_days = [1]
fraud_windows_days = [1, 2]
[[entity]]
name = "visitor"
columns = ["card_no", "shop_no"]
windows_days = [1]
fraud_windows_days = [1]
"""
)
IN_TILES = parse(
    HEAD
    + """
[[entity]]
name = "card"
column = "card_no"
windows = ["10m", "2d"]
aggregates = ["count", "amount", "extremes", "recency", "distinct:shop_no", "last:lat,lon", "share:channel"]
[[entity]]
name = "shop"
column = "shop_no"
windows = ["6h", "13d"]
fraud_windows = ["1d", "13d"]
aggregates = ["distinct:channel", "extremes"]
busy = true
[[entity]]
name = "visitor"
columns = ["card_no", "shop_no"]
windows = ["1d"]
fraud_windows = ["1d"]
aggregates = ["recency", "last:lat", "share:channel"]
"""
)
CONTRACTS = [IN_DAYS, IN_TILES]
CARDS, SHOPS = ("a", "a,b"), ("x", "b,x")  # a,b,x is the text of two pairs
BEGIN = 490_008  # hours since 1970: a day begins
NOW = datetime(2026, 3, 1, tzinfo=UTC)
T = TypeVar("T")


class Decide(NamedTuple):
    """A transaction reaches the API."""

    event: Event


class Label(NamedTuple):
    """A transaction's label is reported."""

    transaction_id: str
    is_fraud: bool


class Run(NamedTuple):
    """Rows arrive, then the feature job runs."""

    decided: frozenset[str]  # ids whose rows arrive as decided
    others: tuple[
        tuple[Event, int | None], ...
    ]  # other rows and their labels, regardless of decisions with the same ids
    horizon: int
    whole: bool


Step = Decide | Label | Run
Key = tuple[str, str]  # of an entity


@dataclass(eq=False)
class KeyModel:
    """What is expected of the profile of one key: `counted` maps transactions to whether they count as fraud."""

    counted: dict[Event, bool] = field(default_factory=dict)
    horizon: int = 0


class Model:
    """The expected counts."""

    def __init__(self, contract: Contract) -> None:
        self.contract, self.plan, self.features = contract, ProfilePlan(contract), FeatureSet(contract)
        self.rows: dict[Event, int | None] = {}
        self.decided: dict[str, Event] = {}
        self.reported: dict[str, bool] = {}
        self.profiles: dict[Key, KeyModel] = {}
        self.displaced: set[str] = set()
        self.read: set[str] = set()  # ids of the decisions that the last run read
        self.frauds: set[Event] = set()  # of the last run
        self.pending = 0  # how many decisions the next run need not compare with the tables
        self.horizon = 0

    def profiles_of(self, event: Event) -> list[KeyModel]:
        """Those of the event's keys."""
        names = zip(self.plan.layouts, self.plan.seen(event), strict=True)
        return [self.profiles.setdefault((name, each.key), KeyModel()) for name, each in names]

    def in_tail(self, row: Event) -> bool:
        """Whether a row of the tables is not before the horizon of each of its profiles."""
        return any(row in profile.counted and row.hour >= profile.horizon for profile in self.profiles_of(row))

    def decide(self, event: Event) -> None:
        key = event.transaction_id
        if key in self.decided:
            return
        self.decided[key] = event
        row = next((row for row in self.rows if row.transaction_id == key and self.in_tail(row)), None)
        if row is None:
            for profile in self.profiles_of(event):
                if event.hour >= profile.horizon:
                    profile.counted[event] = False
        elif row != event:
            self.displaced.add(key)

    def label(self, key: str, is_fraud: bool) -> None:
        self.reported[key] = is_fraud
        event = self.decided[key]
        if key in self.displaced:
            return
        known = key in self.read or event in self.frauds
        for profile in self.profiles_of(event):
            if event in profile.counted and (known or event.hour >= profile.horizon):
                profile.counted[event] = is_fraud

    def run(self, step: Run) -> dict[Event, int | None] | None:
        """Returns the rows of the run before, unless the run settles all profiles."""
        before, ids = dict(self.rows), {row.transaction_id for row in self.rows}
        arriving = [(self.decided[key], None) for key in sorted(step.decided) if key in self.decided]
        for row, label in (*arriving, *step.others):
            if row.transaction_id not in ids:
                ids.add(row.transaction_id)
                self.rows[row] = label
        newest = {key: Report(self.decided[key], label) for key, label in self.reported.items()}
        self.rows = with_reports(self.rows, Reports(newest, 0))
        lacking = {e: self.reported.get(key, False) for key, e in self.decided.items() if key not in ids}
        counted = {row: bool(label) for row, label in self.rows.items()} | lacking
        displaced = {event for event in self.decided.values() if event not in counted}
        changed = {row for row, label in self.rows.items() if row not in before or before[row] != label}
        whole = step.whole or step.horizon < self.horizon
        compared = list(self.decided.values())[self.pending :]
        found = {event for event in compared if event in lacking or event in displaced}
        self.pending += next((i for i, event in enumerate(compared) if event in lacking), len(compared))
        settled = [profile for event in {*changed, *found} for profile in self.profiles_of(event)]
        for profile in self.profiles.values():
            profile.counted = {}
        for event, is_fraud in counted.items():
            for profile in self.profiles_of(event):
                profile.counted[event] = is_fraud
        for profile in self.profiles.values():
            if whole or profile in settled:
                profile.horizon = step.horizon if profile.counted else 0
        self.displaced = {event.transaction_id for event in displaced}
        self.read = set(self.decided)
        self.frauds = {event for event, is_fraud in counted.items() if is_fraud}
        self.horizon = step.horizon
        return None if whole else before

    def states(self, probes: Sequence[Event]) -> list[list[int]]:
        """The state of each probe, as the feature job computes it from everything counted."""
        states: list[list[int]] = [[] for _ in probes]
        for index, entity in enumerate(self.contract.entities):
            rows: dict[Event, int | None] = {}
            places = []
            for number, probe in enumerate(probes):
                own = self.profiles_of(probe)[index].counted
                rows |= {apart(event, number): int(is_fraud) for event, is_fraud in own.items()}
                places.append(len(rows))
                rows[apart(probe, number)] = 0
            found = window_state(entity, self.features, event_table(self.contract, rows, self.plan, "event_time"))
            for state, place in zip(states, places, strict=True):
                state += found[place].tolist()
        return states


def apart(event: Event, number: int) -> Event:
    """The event in a world of its own."""
    return replace(event, keys=tuple(f"{number}/{key}" for key in event.keys))


def follow(store: OnlineStore, contract: Contract, steps: list[Step]) -> None:
    """Apply the steps to the store and to the model, and compare them after each."""
    model = Model(contract)
    for step in steps:
        match step:
            case Decide(event):
                store.recall(event)
                store.record(Decision(event, "legit", 0.25, 0.5, "v", b"", NOW))
                model.decide(event)
            case Label(key, is_fraud):
                if key in model.decided:
                    store.report(key, is_fraud)
                    model.label(key, is_fraud)
            case Run():
                before = model.run(step)
                bring_up_to_date(store, model.rows, step.horizon, contract, before=before)
        newest = max((event.hour for event in model.decided.values()), default=BEGIN)
        begin = max(model.horizon, newest - 1)  # what earlier transactions need may be gone
        probes = [
            Event("probe", (begin + hour) * HOUR_US + 1, 7, keys, (("lat", 1.0), ("lon", 2.0), ("channel", "chip")))
            for hour in (0, 1, 24, 27, 49)
            for keys in (("a", "b,x"), ("a,b", "x"))
        ]
        for probe, expected in zip(probes, model.states(probes), strict=True):
            assert store.recall(probe)[1] == expected, (step, probe)


ids = st.sampled_from("pqrstu")
hours = st.builds(lambda day, hour: BEGIN + 24 * day + hour, st.integers(0, 2), st.sampled_from([0, 1, 23]))
INSIDE = (0, 1, SECOND_US, 7 * MINUTE_US, HOUR_US - 1)
AMOUNTS = (1, 100, 10_000_000)
PLACES = (None, -7.5, 48.25)
CHANNELS = (None, "chip", "radio")


def event_at(key: str, hour: int, inside: int, cents: int, keys: tuple[str, str], place: float | None) -> Event:
    extras = (("lat", place), ("lon", place), ("channel", CHANNELS[PLACES.index(place)]))
    return Event(key, hour * HOUR_US + inside, cents, keys, extras)


events = st.builds(
    event_at,
    ids,
    hours,
    st.sampled_from(INSIDE),
    st.sampled_from(AMOUNTS),
    st.tuples(st.sampled_from(CARDS), st.sampled_from(SHOPS)),
    st.sampled_from(PLACES),
)
runs = st.builds(
    Run,
    st.frozensets(ids),
    st.lists(st.tuples(events, st.sampled_from([None, 0, 1])), max_size=3).map(tuple),
    hours,
    st.booleans(),
)
steps = st.lists(st.builds(Decide, events) | st.builds(Label, ids, st.booleans()) | runs, max_size=14)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(st.sampled_from(CONTRACTS), steps)
def test_the_store_counts_as_the_model_does(
    tmp_path_factory: pytest.TempPathFactory, contract: Contract, steps: list[Step]
) -> None:
    store = SqliteStore(tmp_path_factory.mktemp("counted") / "store.sqlite", contract)
    try:
        follow(store, contract, steps)
    finally:
        store.close()


def random_steps(seed: int, count: int) -> list[Step]:
    """Random steps of the same kinds, for a store too slow for hundreds of examples."""
    random = np.random.default_rng(seed)

    def one(values: Sequence[T]) -> T:
        return values[int(random.integers(0, len(values)))]

    def hour() -> int:
        return BEGIN + 24 * int(random.integers(0, 3)) + one((0, 1, 23))

    def event() -> Event:
        return event_at(key(), hour(), one(INSIDE), one(AMOUNTS), (one(CARDS), one(SHOPS)), one(PLACES))

    def key() -> str:
        return one("pqrstuvw")

    def run() -> Run:
        others = tuple((event(), one((None, 0, 1))) for _ in range(random.integers(0, 3)))
        return Run(frozenset(key() for _ in range(random.integers(0, 4))), others, hour(), one((False, True)))

    kinds: list[Callable[[], Step]] = [
        lambda: Decide(event()),
        lambda: Decide(event()),
        lambda: Label(key(), one((False, True))),
        run,
    ]
    return [one(kinds)() for _ in range(count)]


@pytest.mark.cloud
@pytest.mark.parametrize("contract", CONTRACTS, ids=["days", "tiles"])
@pytest.mark.parametrize("seed", range(4))
def test_dynamodb_counts_as_the_model_does(online_table: str, contract: Contract, seed: int) -> None:
    store = DynamoStore(online_table, contract, timeout=20.0)
    follow(store, contract, random_steps(seed, 20))
    store.close()


def few_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("profiles", "profile_items", "settling"):
        monkeypatch.setattr(f"processing.store.dynamo.{module}.SHARDS", 3)


def test_shards_keep_what_they_counted_when_the_horizon_moves_on_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    few_shards(monkeypatch)
    limited_table(BEGIN * 3600.0, monkeypatch)

    def decided(ids: str, hour: int) -> list[Step]:
        events = [event_at(key, BEGIN + hour, 0, 100 + ord(key), ("a", "x"), None) for key in ids]
        return [Decide(event) for event in events]

    there, back = Run(frozenset("pqrstu"), (), BEGIN + 24, True), Run(frozenset(), (), BEGIN, True)
    steps = [back, *decided("pqrstu", 2), there, *decided("abcdef", 25), back]
    follow(DynamoStore("table", IN_TILES, timeout=20.0), IN_TILES, steps)


class Folding(DynamoStore):
    """Folds a shard whenever something is recalled."""

    def recall(self, event: Event, plan: StatePlan | None = None) -> tuple[Decision | None, list[int]]:
        self.tidy()
        return super().recall(event, plan)


@pytest.mark.parametrize("contract", CONTRACTS, ids=["days", "tiles"])
@pytest.mark.parametrize("seed", range(6))
def test_dynamodb_counts_as_the_model_does_over_many_steps(
    contract: Contract, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a model of the service, with few shards, so that many transactions are in each."""
    few_shards(monkeypatch)
    for name in ("FOLDED_BYTES", "FOLD_SECONDS_PER_BYTE"):
        monkeypatch.setattr(f"processing.store.dynamo.profiles.{name}", 0)
    limited_table(BEGIN * 3600.0, monkeypatch)
    store = Folding("table", contract, timeout=20.0)
    follow(store, contract, random_steps(seed, 40))
    store.close()


@pytest.mark.parametrize("contract", CONTRACTS, ids=["days", "tiles"])
@pytest.mark.parametrize("seed", range(6))
def test_sqlite_counts_as_the_model_does_over_many_steps(tmp_path: Path, contract: Contract, seed: int) -> None:
    store = SqliteStore(tmp_path / "store.sqlite", contract)
    follow(store, contract, random_steps(seed, 40))
    store.close()
