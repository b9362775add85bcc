"""Serving while the home's contract changes: the model of the earlier contract serves on, and nothing is lost."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pyarrow.csv as pacsv
import pytest
from rich.console import Console
from serving_home import TestClient, begin, explained_home, promote, publish, row, settings, trained

from pipeline.registry.registry import Registry
from processing.contract import HOME_KEY, Contract
from processing.contracts.home_contract import adopt
from processing.contracts.reader import load, of_home, parse
from processing.features.feature_set import FeatureSet
from processing.storage.home import Home
from processing.store.decisions import Decision, Event
from processing.store.open import open_store
from serving.app import create_app, following_app
from serving.decision.loaded_model import CannotServe, check_loadable, load_model
from serving.files.score_file import score_file

BEFORE = load("transactions")


def changed(*edits: tuple[str, str]) -> Contract:
    text = BEFORE.text
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return parse(text)


WINDOW = ("[1, 7, 30]     #", "[1, 14, 90]     #")
NUMBER = ("numeric = []", 'numeric = ["age"]')
NO_CHANNEL = ('categorical = { channel = ["chip", "contactless", "online"] }', "categorical = {}")
AFTER = changed(WINDOW, NUMBER, NO_CHANNEL)


def values_of(decision: Decision, contract: Contract) -> dict[str, float]:
    return dict(zip(FeatureSet(contract).names, np.frombuffer(decision.features, "<f8").tolist(), strict=True))


def recorded(home: Home, contract: Contract) -> dict[str, Decision]:
    store = open_store(home, contract)
    decisions = {decision.event.transaction_id: decision for decision in store.decisions(10_000)}
    store.close()
    return decisions


def test_a_model_of_the_earlier_contract_computes_its_own_features(tmp_path: Path) -> None:
    home = explained_home(tmp_path)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.post("/v1/score", json=row(BEFORE, transaction_id="a", amount=10.0)).status_code == 200
    adopt(home, AFTER)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.get("/health/ready").json()["trouble"] is None
        with_age = row(AFTER, transaction_id="b", amount=30.0, age=7.0)
        assert client.post("/v1/score", json=with_age).status_code == 200
        assert client.post("/v1/score", json=row(BEFORE, transaction_id="c", amount=80.0)).status_code == 200
        assert client.post("/v1/score", json=row(BEFORE, transaction_id="d", colour="red")).status_code == 422
    decided = recorded(home, AFTER)
    b, c = (values_of(decided[key], BEFORE) for key in "bc")
    assert (b["customer_count_7d"], b["customer_mean_amount_30d"]) == (2.0, 20.0)
    assert (c["customer_count_30d"], c["amount"]) == (3.0, 80.0)
    assert np.isnan(b["channel"])  # the request lacks it
    assert c["channel"] == 0.0  # the contract lacks it, the request does not


def trained_for(width: int) -> bytes:
    """A pickled model for so many features."""
    model = joblib.load(io.BytesIO(trained("transactions", 0)))
    random = np.random.default_rng(1)
    x = random.lognormal(3.0, 1.0, (400, width))
    file = io.BytesIO()
    joblib.dump(model.fit(x, (x[:, 0] > 60).astype(int)), file)
    return file.getvalue()


def test_two_models_of_two_contracts_see_the_same_events(tmp_path: Path) -> None:
    """Once the new model is promoted, its features count what was decided under the earlier one."""
    home = explained_home(tmp_path)
    adopt(home, AFTER)
    width = len(FeatureSet(AFTER).names)
    flat = trained_for(width)
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.post("/v1/score", json=row(AFTER, transaction_id="a", amount=10.0)).status_code == 200
    promote(home, publish(home, file=flat))
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.post("/v1/score", json=row(AFTER, transaction_id="b", amount=30.0, age=7.0)).status_code == 200
    value = values_of(recorded(home, AFTER)["b"], AFTER)
    assert (value["customer_count_14d"], value["customer_mean_amount_90d"], value["age"]) == (2.0, 20.0, 7.0)


def test_a_file_is_scored_with_the_columns_that_the_earlier_model_uses(tmp_path: Path) -> None:
    home = explained_home(tmp_path / "home")
    sent = [row(BEFORE, transaction_id=f"r{number}", amount=5.0 * number) for number in range(1, 40)]
    lines = [",".join(sent[0]), *(",".join(map(str, one.values())) for one in sent)]
    (tmp_path / "before.csv").write_text("\n".join(lines))
    (tmp_path / "after.csv").write_text("\n".join(lines))
    (tmp_path / "bare.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))  # without the channel
    console = Console(file=io.StringIO())
    score_file(tmp_path / "before.csv", home, None, None, console)
    adopt(home, AFTER)
    for name in ("after.csv", "bare.csv"):  # both lack the age, which the earlier contract did not have
        assert score_file(tmp_path / name, home, None, None, console).refused == 0
    scores = {
        name: pacsv.read_csv(tmp_path / f"{name}.scored.csv")["score"].to_pylist()
        for name in ("before", "after", "bare")
    }
    assert scores["before"] == scores["after"] != scores["bare"]


REFUSED = {
    "2 decimals": ("decimals = 2", "decimals = 1"),
    "time.format": ('format = "iso"', 'format = "unix"'),
    "entity 'terminal'": ('name = "terminal"', 'name = "till"'),
}


@pytest.mark.parametrize("why", sorted(REFUSED))
def test_a_model_whose_rows_meant_something_else_is_refused_with_the_reason(why: str, tmp_path: Path) -> None:
    home = explained_home(tmp_path)
    (name,) = Registry(home).names()
    with pytest.raises(CannotServe, match=why):
        load_model(Registry(home), name, changed(REFUSED[why]))


def test_a_model_is_promoted_only_while_the_store_reaches_as_far_back_as_it(tmp_path: Path) -> None:
    home = begin(tmp_path)
    longer = changed(WINDOW)
    adopt(home, longer)
    wide = publish(home, file=trained_for(len(FeatureSet(longer).names)))
    check_loadable(Registry(home).open(wide), longer)
    adopt(home, BEFORE)
    with pytest.raises(
        CannotServe, match="needs 90 days of history in tiles of an hour, and the online store keeps 30"
    ):
        check_loadable(Registry(home).open(wide), BEFORE)
    promote(home, wide)  # as if it had served before: then the store keeps what it needs
    check_loadable(Registry(home).open(wide), BEFORE)


def fields(client: TestClient) -> set[str]:
    """The fields of a request, as the API documents them."""
    document = client.get("/openapi.json").json()
    return set(document["components"]["schemas"]["Transaction"]["properties"])


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(400):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen within eight seconds")


def test_a_server_follows_the_contract_and_repeats_what_it_decided(tmp_path: Path) -> None:
    home = explained_home(tmp_path)
    first = row(BEFORE, transaction_id="a")
    with TestClient(following_app(settings(tmp_path, follow_seconds=0.005))) as client:
        before = client.post("/v1/score", json=first).json()
        assert "age" not in fields(client)
        adopt(home, AFTER)
        wait_for(lambda: "age" in fields(client))
        again = client.post("/v1/score", json=first).json()
        assert again == before | {"repeated": True}
        assert client.post("/v1/score", json=row(AFTER, transaction_id="b", age=3.0)).status_code == 200
    assert values_of(recorded(home, AFTER)["b"], BEFORE)["customer_count_1d"] == 2.0


def test_a_contract_that_cannot_be_served_leaves_the_server_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = explained_home(tmp_path)
    unfit = changed(REFUSED["entity 'terminal'"])
    with TestClient(following_app(settings(tmp_path, follow_seconds=0.005))) as client:
        for text in ("name = [", unfit.text):
            home.write(HOME_KEY, text.encode())
            wait_for(lambda: "contract_not_followed" in capsys.readouterr().out)
            assert client.post("/v1/score", json=row(BEFORE, transaction_id=text[:9])).status_code == 200


def test_no_request_is_lost_or_counted_twice_while_the_contract_changes(tmp_path: Path) -> None:
    home = explained_home(tmp_path)
    statuses: list[int] = []
    switched = threading.Event()

    app = following_app(settings(tmp_path, follow_seconds=0.002))
    with TestClient(app) as client:

        def send(sender: int) -> None:
            number = 0
            while not switched.is_set() or number < 20:
                sent = row(BEFORE, transaction_id=f"{sender}-{number}", customer_id="C")
                statuses.append(client.post("/v1/score", json=sent).status_code)
                number += 1

        senders = [threading.Thread(target=send, args=(number,)) for number in range(3)]
        for sender in senders:
            sender.start()
        for contract in (AFTER, changed(NUMBER), AFTER):
            adopt(home, contract)
            wait_for(lambda: app.contract == of_home(home))
        switched.set()
        for sender in senders:
            sender.join()
    assert set(statuses) == {200}
    decided = recorded(home, AFTER)
    assert len(decided) == len(statuses)
    newest = max(decision.event.time_us for decision in decided.values())
    store = open_store(home, AFTER)
    probe = Event("probe", newest + 1_000_000, 1, ("C", "nowhere"))
    assert store.recall(probe)[1][0] == len(statuses)
    store.close()
