"""The online store in a model of DynamoDB that loses responses, and with runs that are killed: no count is wrong."""

import random

import pytest
from feature_job import bring_up_to_date
from limited_dynamodb import Killed, LimitedDynamoDB, limited_table
from test_counted import BEGIN, CHANNELS, CONTRACTS, Label, Model, Run, follow, random_steps

from processing.contract import Contract
from processing.durations import HOUR_US
from processing.store.decisions import Event
from processing.store.dynamo.store import DynamoStore

both = pytest.mark.parametrize("contract", CONTRACTS, ids=["days", "tiles"])


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> LimitedDynamoDB:
    random.seed(11)
    return limited_table(BEGIN * 3600.0, monkeypatch)


@both
@pytest.mark.parametrize("seed", range(10, 12))
def test_calls_whose_responses_are_lost_count_once(table: LimitedDynamoDB, contract: Contract, seed: int) -> None:
    table.lost = 0.2
    store = DynamoStore("table", contract, timeout=20.0)
    follow(store, contract, random_steps(seed, 30))


@both
@pytest.mark.parametrize("writes", [0, 1, 3, 6, 9])
def test_after_a_killed_refresh_the_next_one_sets_everything(
    table: LimitedDynamoDB, contract: Contract, writes: int
) -> None:
    """Between them the store says that it is not complete."""
    steps = random_steps(23, 25)
    store = DynamoStore("table", contract, timeout=20.0)
    follow(store, contract, steps)
    before = store.state()
    rows = {Event("new", (BEGIN + 30) * HOUR_US, 500, ("a", "x"), (("lat", None), ("lon", None), ("channel", None))): 1}
    table.ends_after = writes
    with pytest.raises(Killed):
        bring_up_to_date(store, rows, BEGIN + 31, contract)
    table.ends_after = None
    if writes:
        assert (store.state().basis, store.state().filled) == ("", True)
    else:
        assert store.state() == before
    last = Run(frozenset("pqrs"), (), BEGIN + 48, True)
    model = Model(contract)
    for step in (*steps, last):
        if isinstance(step, Run):
            model.run(step)
        elif isinstance(step, Label):
            if step.transaction_id in model.decided:
                model.label(*step)
        else:
            model.decide(step.event)
    bring_up_to_date(store, model.rows, last.horizon, contract)
    extras = (("lat", 1.0), ("lon", 2.0), ("channel", CHANNELS[1]))
    probes = [Event("probe", (BEGIN + hour) * HOUR_US, 7, ("a", "x"), extras) for hour in (73, 96)]
    assert [store.recall(probe)[1] for probe in probes] == model.states(probes)
