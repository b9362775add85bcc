"""The replay of a file: all of it is counted first, then each row gets the state that the feature job computes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from every_aggregate import CONTRACT as EVERYTHING
from feature_job import bring_up_to_date, event_table
from hypothesis import given
from hypothesis import strategies as st
from test_counted import NOW

from processing.contract import Contract
from processing.contracts import reader as contracts
from processing.durations import DAY_US, HOUR_US, SECOND_US
from processing.features.feature_set import FeatureSet
from processing.features.table_features import window_states
from processing.store.decisions import Decision, Event
from processing.store.sqlite.replay import SqliteReplay
from processing.store.sqlite.store import SqliteStore

START = 20_440 * DAY_US
EXTRAS = {"lat": (None, 1.5, -2.25), "lon": (None, 7.0), "channel": (None, "chip", "radio")}
times = st.builds(
    lambda day, hour, inside: START + day * DAY_US + hour * HOUR_US + inside,
    st.sampled_from([0, 1, 29, 45]),
    st.sampled_from([0, 1, 23]),
    st.sampled_from([0, SECOND_US, HOUR_US - 1]),
)
contents = st.lists(
    st.tuples(times, st.integers(0, 10**7), st.sampled_from("ab"), st.sampled_from("st"), st.integers(0, 2)),
    min_size=1,
    max_size=20,
)


def events_of(contract: Contract, rows: Sequence[tuple[int, int, str, str, int]]) -> list[Event]:
    """Events with what the contract's aggregates read."""
    used = [name for name in EXTRAS if name in (*contract.numeric, *contract.categorical)]
    return [
        Event(f"e{i}", us, amount, (a, b), tuple((name, EXTRAS[name][n % len(EXTRAS[name])]) for name in used))
        for i, (us, amount, a, b, n) in enumerate(rows)
    ]


@pytest.mark.slow
@given(st.sampled_from([EVERYTHING, contracts.load("transactions")]), contents, st.data())
def test_rows_in_any_order_over_any_time_get_the_state_of_the_feature_job(
    tmp_path_factory: pytest.TempPathFactory,
    contract: Contract,
    rows: list[tuple[int, int, str, str, int]],
    data: st.DataObject,
) -> None:
    folder, events = tmp_path_factory.mktemp("replay"), events_of(contract, rows)
    replay = SqliteReplay(folder / "none.sqlite", folder, contract)
    shuffled = data.draw(st.permutations(events))
    for start in range(0, len(shuffled), 7):
        replay.count(shuffled[start : start + 7])
    states = replay.states(events)
    replay.close()
    table = event_table(contract, dict.fromkeys(events, 0), time="event_time")
    assert np.array_equal(np.array(states), window_states(FeatureSet(contract), table))


def test_a_replay_adds_to_what_the_store_holds_and_leaves_the_store_alone(tmp_path: Path) -> None:
    past = [Event(f"d{i}", START + i * HOUR_US, 100, ("a", "s")) for i in range(5)]
    contract = contracts.load("transactions")
    store = SqliteStore(tmp_path / "store.sqlite", contract)
    bring_up_to_date(store, dict.fromkeys(past, 0), past[3].hour, contract)  # the last two are the tail
    decided = Event("live", START + 6 * HOUR_US, 100, ("a", "s"))
    store.record(Decision(decided, "legit", 0.1, 0.5, "v", b"", NOW))
    (tmp_path / "copy").mkdir()
    replay = SqliteReplay(store.path, tmp_path / "copy", contract)
    probe = Event("probe", START + 8 * HOUR_US, 100, ("a", "s"))
    other = Event("live", START + 7 * HOUR_US, 1, ("a", "s"))
    replay.count([probe, decided, past[4], Event("new", START + 7 * HOUR_US, 100, ("a", "s"))])
    state, conflict = replay.states([probe, other])
    assert state is not None
    assert (state[0], conflict) == (7, None)  # those of the store once each, and the new one
    assert store.recall(probe)[1][0] == 6
    replay.close()
    store.close()
