"""The counters of the online store, compared with a simple model: decisions, reports and runs in any order.

Rows may be late or in the future, the tables may lack a decided transaction or have another one under its id, and the
horizon may move forward or back. After every step the state of any event from the horizon on equals the model's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pytest
from feature_job import bring_up_to_date, with_reports
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.contracts.reader import parse
from processing.durations import HOUR_US
from processing.features.feature_set import FeatureSet
from processing.features.windows import sawtooth
from processing.store.decisions import Decision, Event
from processing.store.dynamo.store import DynamoStore
from processing.store.interface import OnlineStore
from processing.store.refresh_data import Report, Reports
from processing.store.sqlite.store import SqliteStore

CONTRACT = parse("""
name = "counted"
[columns]
id = "id"
time = "at"
amount = "value"
label = "fraud"
[label]
delay_days = 1
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
""")
WINDOWS = FeatureSet(CONTRACT).windows
CARDS, SHOPS = ("a", "a,b"), ("x", "b,x")  # a,b,x is the text of two pairs
BEGIN = 490_000  # hours since 1970
NOW = datetime(2026, 3, 1, tzinfo=UTC)


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


Step = Decide | Label | Run


@dataclass
class Model:
    """The expected counts: `counted` maps transactions to whether they count as fraud."""

    rows: dict[Event, int | None] = field(default_factory=dict)
    decided: dict[str, Event] = field(default_factory=dict)
    reported: dict[str, bool] = field(default_factory=dict)
    counted: dict[Event, bool] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)  # decided late; the next run finds out whether the tables have them
    displaced: set[str] = field(default_factory=set)
    frauds: set[Event] = field(default_factory=set)  # of the last run
    horizon: int = 0

    def decide(self, event: Event) -> None:
        key = event.transaction_id
        if key in self.decided:
            return
        self.decided[key] = event
        tail = {row.transaction_id: row for row in self.rows if row.hour >= self.horizon}
        if key in tail:
            if tail[key] != event:
                self.displaced.add(key)
        elif event.hour >= self.horizon:
            self.counted[event] = False
        else:
            self.unknown.add(key)

    def label(self, key: str, is_fraud: bool) -> None:
        self.reported[key] = is_fraud
        event = self.decided[key]
        if key not in self.displaced and (key not in self.unknown or event in self.frauds):
            self.counted[event] = is_fraud

    def run(self, step: Run) -> None:
        ids = {row.transaction_id for row in self.rows}
        arriving = [(self.decided[key], None) for key in sorted(step.decided) if key in self.decided]
        for row, label in (*arriving, *step.others):
            if row.transaction_id not in ids:
                ids.add(row.transaction_id)
                self.rows[row] = label
        newest = {key: Report(self.decided[key], label) for key, label in self.reported.items()}
        self.rows = with_reports(self.rows, Reports(newest, 0))
        self.counted = {row: bool(label) for row, label in self.rows.items()}
        self.counted |= {e: self.reported.get(key, False) for key, e in self.decided.items() if key not in ids}
        self.displaced = {key for key, event in self.decided.items() if event not in self.counted}
        self.unknown = set()
        self.frauds = {event for event, label in self.counted.items() if label and event.hour < step.horizon}
        self.horizon = step.horizon

    def state(self, probe: Event) -> list[int]:
        """The state by definition, from everything counted."""
        events = [*self.counted, probe]
        time_us, amount = (np.array([getattr(e, name) for e in events], np.int64) for name in ("time_us", "amount"))
        fraud = np.array([*self.counted.values(), False], np.int64)
        state: list[int] = []
        keys = {"card": [e.keys[0] for e in events], "shop": [e.keys[1] for e in events]}
        for name, windows in WINDOWS.items():
            own: list[object] = [*keys.get(name, [e.keys for e in events])]
            codes = np.array([own.index(key) for key in own], np.int64)
            state += sawtooth(windows, codes, time_us, amount, fraud)[-1].tolist()
        return state


def follow(store: OnlineStore, steps: list[Step]) -> None:
    """Apply the steps to the store and to the model, and compare them after each."""
    model = Model()
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
                model.run(step)
                bring_up_to_date(store, model.rows, step.horizon, CONTRACT)
        for hour in (0, 1, 24, 27, 49):
            for card, shop in (("a", "b,x"), ("a,b", "x")):
                probe = Event("probe", (max(model.horizon, BEGIN) + hour) * HOUR_US + 1, 7, (card, shop))
                assert store.recall(probe)[1] == model.state(probe), (step, hour, card, shop)


ids = st.sampled_from("pqrstu")
hours = st.builds(lambda day, hour: BEGIN + 24 * day + hour, st.integers(0, 2), st.sampled_from([0, 1, 23]))
events = st.builds(
    lambda key, hour, inside, cents, card, shop: Event(key, hour * HOUR_US + inside, cents, (card, shop)),
    ids,
    hours,
    st.sampled_from([0, 1, HOUR_US - 1]),
    st.sampled_from([1, 100, 10_000_000]),
    st.sampled_from(CARDS),
    st.sampled_from(SHOPS),
)
runs = st.builds(
    Run,
    st.frozensets(ids),
    st.lists(st.tuples(events, st.sampled_from([None, 0, 1])), max_size=3).map(tuple),
    hours,
)
steps = st.lists(st.builds(Decide, events) | st.builds(Label, ids, st.booleans()) | runs, max_size=14)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(steps)
def test_the_store_counts_as_the_model_does(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    store = SqliteStore(tmp_path_factory.mktemp("counted") / "store.sqlite", CONTRACT)
    try:
        follow(store, steps)
    finally:
        store.close()


def random_steps(seed: int, count: int) -> list[Step]:
    """Random steps of the same kinds, for a store too slow for hundreds of examples."""
    random = np.random.default_rng(seed)

    def event() -> Event:
        hour = BEGIN + 24 * random.integers(0, 3) + random.choice([0, 1, 23])
        inside = random.choice([0, 1, HOUR_US - 1])
        keys = (str(random.choice(CARDS)), str(random.choice(SHOPS)))
        return Event(key(), int(hour * HOUR_US + inside), int(random.choice([1, 100, 10_000_000])), keys)

    def key() -> str:
        return str(random.choice(list("pqrstuvw")))

    def run() -> Run:
        others = tuple((event(), [None, 0, 1][random.integers(0, 3)]) for _ in range(random.integers(0, 3)))
        horizon = BEGIN + 24 * random.integers(0, 3) + random.choice([0, 1, 23])
        return Run(frozenset(key() for _ in range(random.integers(0, 4))), others, int(horizon))

    kinds: list[Callable[[], Step]] = [
        lambda: Decide(event()),
        lambda: Decide(event()),
        lambda: Label(key(), bool(random.integers(0, 2))),
        run,
    ]
    return [kinds[random.integers(0, len(kinds))]() for _ in range(count)]


@pytest.mark.cloud
@pytest.mark.parametrize("seed", range(4))
def test_dynamodb_counts_as_the_model_does(online_table: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processing.store.dynamo.refresh.STRAY_SECONDS", 0.0)
    store = DynamoStore(online_table, CONTRACT, timeout=20.0)
    follow(store, random_steps(seed, 20))
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_sqlite_counts_as_the_model_does_over_many_steps(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    store = SqliteStore(tmp_path_factory.mktemp("counted") / "store.sqlite", CONTRACT)
    follow(store, random_steps(seed, 40))
    store.close()
