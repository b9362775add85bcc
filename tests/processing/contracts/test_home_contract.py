"""The contract of a home: taken with the data, changed by a run, refused if it would falsify stored rows."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from serving_home import TestClient, explained_home, row, settings
from table_home import at, put
from typer.testing import CliRunner

from pipeline.command.main import app
from processing.contract import ENTRIES, LASTING, Contract
from processing.contracts import reader as contracts
from processing.contracts.home_contract import (
    EARLIER,
    NO_COLUMNS,
    PENDING_KEY,
    added_columns,
    adopt,
    adopted,
    contract_for,
    former_columns,
    has_transactions,
    pending,
    propose,
)
from processing.contracts.reader import load, parse
from processing.errors import BadInput, Conflict
from processing.storage.local import LocalHome
from processing.synthetic.synthesize import synthesize, write
from serving.app import create_app

CONTRACT = load("transactions")
CHANGES = {  # of the shipped contract's text
    "name": ('name = "transactions"', 'name = "tills"'),
    "amount.maximum": ("maximum = 100000.0", "maximum = 500.0"),
    "split.train_days": ("train_days = 60", "train_days = 30"),
    "costs.needless_alert": ("needless_alert = 3.0", "needless_alert = 0.5"),
    "costs.alerts_per_day": ("alerts_per_day = 40", "alerts_per_day = 10"),
    "refuse_above": ("refuse_above = 0.05", "refuse_above = 0.5"),
    "label.delay_days": ("delay_days = 7", "delay_days = 2"),
    "entity": ("windows_days = [1, 7, 30]     # behaviour", "windows_days = [1, 7, 90]     # behaviour"),
    "numeric": ("numeric = []", 'numeric = ["age"]'),
    "categorical": ('"chip", ', ""),
}
REFUSED = {
    "columns.amount": ('amount = "amount"', 'amount = "value"'),
    "columns.id": ('id = "transaction_id"', 'id = "txn"'),
    "time.format": ('format = "iso"', 'format = "unix"'),
    "amount.decimals": ("decimals = 2", "decimals = 1"),
}


def changed(*changes: tuple[str, str]) -> Contract:
    text = CONTRACT.text
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return parse(text)


def file_of(folder: Path, contract: Contract) -> str:
    path = folder / "mine.toml"
    path.write_text(contract.text)
    return str(path)


@pytest.fixture
def home(tmp_path: Path) -> LocalHome:
    """A home with a transaction, as a run leaves it."""
    home = at(tmp_path / "home")
    adopt(home, CONTRACT)
    put(home, "one", ["a"])
    return home


def content(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_every_entry_of_a_contract_is_compared() -> None:
    names = {field.name for field in fields(Contract)} - {"text"}
    assert set(ENTRIES) == names
    assert set(LASTING) < names


@given(st.sets(st.sampled_from(sorted(CHANGES))), st.sets(st.sampled_from(sorted(REFUSED)), max_size=2))
def test_a_fingerprint_changes_with_what_never_may_and_only_with_it(free: set[str], lasting: set[str]) -> None:
    other = changed(*(CHANGES[name] for name in free), *(REFUSED[name] for name in lasting))
    assert (other.fingerprint == CONTRACT.fingerprint) is not bool(lasting)
    assert {change.split(" (")[0] for change in other.changes(CONTRACT, LASTING)} == lasting
    assert {change.split(" (")[0] for change in other.changes(CONTRACT)} == lasting | free


def test_what_would_falsify_stored_rows_is_refused_by_its_name_and_leaves_no_trace(
    home: LocalHome, tmp_path: Path
) -> None:
    before = content(home.folder)
    for entry, change in REFUSED.items():
        refused = changed(change, CHANGES["costs.needless_alert"])
        with pytest.raises(BadInput, match="another --home") as error:
            contract_for(home, file_of(tmp_path, refused))
        assert f"{entry} (was " in str(error.value)
        assert "needless_alert" not in str(error.value)
        with pytest.raises(BadInput, match="another --home"):
            propose(home, refused)
    assert content(home.folder) == before


@given(st.lists(st.sets(st.sampled_from(sorted(CHANGES))), min_size=1, max_size=3))
def test_the_contract_proposed_last_waits_for_the_next_run(proposals: list[set[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = at(Path(folder) / "home")
        adopt(home, CONTRACT)
        for proposal in proposals:
            wanted = changed(*(CHANGES[name] for name in proposal))
            for _ in range(2):  # the second time changes nothing more
                propose(home, wanted)
                assert pending(home) == (wanted if proposal else None)
            assert contract_for(home) == wanted
        assert contracts.of_home(home) == CONTRACT
        with adopted(home, wanted):
            assert contracts.of_home(home) == wanted
        assert (contract_for(home), pending(home)) == (wanted, None)
        assert propose(home, wanted).lines == []
        assert pending(home) is None


def test_a_run_that_fails_leaves_the_earlier_contract_in_force_and_the_other_pending(home: LocalHome) -> None:
    wider = changed(CHANGES["entity"])
    propose(home, wider)
    for error in (Conflict("another run"), KeyboardInterrupt(), SystemExit(143)):
        with pytest.raises(type(error)), adopted(home, wider):
            raise error
        assert contracts.of_home(home) == CONTRACT
        assert pending(home) == wider
    assert [entry.key for entry in home.entries(EARLIER)] == [PENDING_KEY]


def test_a_proposal_made_while_another_contract_is_adopted_goes_on_waiting(home: LocalHome) -> None:
    wider, cheaper = changed(CHANGES["entity"]), changed(CHANGES["costs.needless_alert"])
    with adopted(home, wider):
        propose(home, cheaper)
    assert pending(home) == cheaper


def test_columns_that_were_removed_are_known_as_former_ones(home: LocalHome) -> None:
    without = parse(CONTRACT.text.replace("categorical = {", "# {").replace("numeric = []", 'numeric = ["age"]'))
    assert former_columns(home, CONTRACT) == NO_COLUMNS
    adopt(home, without)
    assert former_columns(home, without) == ((), CONTRACT.categorical)
    adopt(home, CONTRACT)
    assert former_columns(home, CONTRACT) == (("age",), {})
    assert added_columns(home, without) == {"age"}
    assert added_columns(home, CONTRACT) == {"channel"}  # files of the time between lack it


def test_a_new_contract_replaces_the_old_one_which_is_kept(home: LocalHome, tmp_path: Path) -> None:
    cheaper = changed(CHANGES["costs.needless_alert"])
    assert contract_for(home, file_of(tmp_path, cheaper)) == cheaper
    assert contracts.of_home(home) == CONTRACT  # until it is adopted
    messages = adopt(home, cheaper)
    assert "costs.needless_alert (was 3.0, is 0.5)" in messages[0]
    assert contracts.of_home(home) == cheaper
    [earlier] = home.entries(EARLIER)
    assert earlier.key in messages[1]
    assert home.read(earlier.key).decode() == CONTRACT.text
    assert adopt(home, cheaper) == []
    assert len(home.entries(EARLIER)) == 1


def test_a_run_without_a_contract_of_its_own_keeps_one_that_changed_during_the_run(home: LocalHome) -> None:
    adopt(home, changed(CHANGES["costs.alerts_per_day"]))
    assert adopt(home, CONTRACT, replace=False) == []
    assert contracts.of_home(home).alerts_per_day == 10
    home.write("contract.toml", changed(CHANGES["numeric"]).text.encode())
    with pytest.raises(BadInput, match=r"during this run: numeric column 'age' is new"):
        adopt(home, CONTRACT, replace=False)


def test_one_of_two_simultaneous_changes_raises_conflict(home: LocalHome, monkeypatch: pytest.MonkeyPatch) -> None:
    read = home.read_tagged

    def read_late(key: str) -> tuple[bytes, str]:
        document = read(key)
        if key == "contract.toml":
            home.write(key, changed(CHANGES["refuse_above"]).text.encode())
        return document

    monkeypatch.setattr(home, "read_tagged", read_late)
    with pytest.raises(Conflict):
        adopt(home, changed(CHANGES["costs.alerts_per_day"]))


def test_a_home_without_transactions_takes_any_contract(tmp_path: Path) -> None:
    """A failed run of an earlier version left a contract and nothing else."""
    home = at(tmp_path / "home")
    assert contract_for(home) == CONTRACT
    adopt(home, CONTRACT)
    assert not has_transactions(home)
    assert contract_for(home, "handbook") == load("handbook")


def test_a_home_that_lost_its_contract_accepts_no_other(home: LocalHome) -> None:
    home.delete("contract.toml")
    for name in (None, "transactions", "handbook"):
        with pytest.raises(BadInput, match="home repair"):
            contract_for(home, name)


def test_a_table_without_a_commit_does_not_bind_the_contract(tmp_path: Path) -> None:
    from processing.tables.tables import open_tables

    home = at(tmp_path / "home")
    with suppress(ZeroDivisionError), open_tables(home, load("handbook"))._committing("transactions"):
        raise ZeroDivisionError
    assert not has_transactions(home)
    put(home, "one", ["a"])
    assert has_transactions(home)


def test_home_check_accepts_changed_costs_and_reports_a_truncated_contract(home: LocalHome) -> None:
    def check() -> str:
        done = CliRunner().invoke(app, ["home", "check", "--home", str(home.folder)], env={"COLUMNS": "400"})
        return "" if done.exit_code == 0 else done.output

    home.write("runs/one/contract/contract.toml", CONTRACT.text.encode())
    home.write("contract.toml", changed(CHANGES["costs.needless_alert"]).text.encode())
    assert "contract.toml" not in check()
    home.write("contract.toml", CONTRACT.text[: CONTRACT.text.index("[costs]")].encode())  # still a valid contract
    assert "contract.toml" in check()


def test_the_api_serves_a_model_trained_under_other_costs(tmp_path: Path) -> None:
    home = explained_home(tmp_path)
    same = row(CONTRACT, transaction_id="a")
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.post("/v1/score", json=same).status_code == 200
    adopt(home, changed(*CHANGES.values()))
    with TestClient(create_app(settings(tmp_path))) as client:
        assert client.get("/health/ready").json()["trouble"] is None
        assert client.post("/v1/score", json=row(CONTRACT, transaction_id="b")).status_code == 200
        assert client.post("/v1/score", json=same).json()["repeated"]
        assert client.post("/v1/score", json=row(CONTRACT, amount=600.0)).status_code == 422  # the maximum is lower
    home.write("contract.toml", changed(REFUSED["amount.decimals"]).text.encode())
    with pytest.raises(BadInput, match="another contract"):
        create_app(settings(tmp_path))


READERS: list[list[str]] = [
    *([["models", name] for name in ("list", "history", "rollback")]),
    *(["models", name, "20260301T000000Z-abcde"] for name in ("show", "promote")),
    *(["drift"], ["search"], ["home", "check"], ["home", "repair", "--yes"]),
    *(["keys", "list"], ["keys", "add", "till", "--scope", "score"], ["keys", "revoke", "till"]),
    *(["serve"], ["score", "rows.csv"], ["watch"], ["run"]),
]


def fraudline(*words: str, home: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FRAUDLINE_HOME": str(home), "COLUMNS": "400", "PYTHONPATH": str(ROOT)}
    environment |= {"FRAUDLINE_PORT": "0"}
    command = [sys.executable, "-m", "pipeline.command.main", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_no_command_creates_a_home_for_a_mistyped_name(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("transaction_id\n1\n")
    done = fraudline(*words, home=tmp_path / "typo", cwd=tmp_path)
    assert done.returncode == 2
    assert str(tmp_path / "typo") in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "typo").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words in READERS if words[0] not in ("watch", "keys")], ids=" ".join)
def test_commands_that_find_no_home_leave_nothing_in_the_folder(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("transaction_id\n1\n")
    (tmp_path / "empty").mkdir()
    done = fraudline(*words, home=tmp_path / "empty", cwd=tmp_path)
    assert "Traceback" not in done.stderr
    remains = content(tmp_path / "empty") - {
        "runs",
        "runs/lease.json",
        "runs/.lease.json.lock",
    }  # a repair takes the lease
    assert not remains


def rows(folder: Path, days: int, name: str = "rows.parquet") -> Path:
    path = folder / name
    write(synthesize(date(2026, 3, 1), days, customers=1500, terminals=400, seed=3), path)
    return path


SMALL = ("--set", "MaxIterations=5", "--force", "--json")


@pytest.mark.spark
def test_a_home_adopts_its_contract_with_its_first_data_and_a_failed_run_adopts_none(tmp_path: Path) -> None:
    """A user's first hour: an empty folder, too little history, the advice followed, a wrong contract, another cost."""
    home = tmp_path / "home"
    assert fraudline("run", home=home).returncode == 2
    assert not home.exists()

    done = fraudline("run", "--data", str(rows(tmp_path, 14)), home=home)
    assert done.returncode != 0
    assert "set split.test_days to 3 in a copy" in done.stderr
    assert not (home / "contract.toml").exists()
    assert (home / "incoming/rows.parquet").exists()
    (copied,) = home.glob("runs/*/contract.toml")
    assert str(copied) in done.stderr.replace("\n", "")

    mine = tmp_path / "mine.toml"
    mine.write_text(copied.read_text().replace("test_days = 7", "test_days = 3"))
    done = fraudline("run", "--contract", str(mine), *SMALL, home=home)
    assert done.returncode == 0, done.stderr
    assert (home / "contract.toml").read_text() == mine.read_text()
    first = json.loads(done.stdout)["version"]

    done = fraudline("run", "--contract", "handbook", home=home)
    assert done.returncode == 2
    assert "columns.time" in done.stderr
    mine.write_text(mine.read_text().replace("needless_alert = 3.0", "needless_alert = 0.5"))
    done = fraudline("run", "--contract", str(mine), *SMALL, home=home)
    assert done.returncode == 0, done.stderr
    assert contracts.of_home(at(home)).needless_alert_cost == 0.5
    assert "costs.needless_alert (was 3.0, is 0.5)" in "".join(
        path.read_text() for path in home.glob("runs/*/steps/Features/log.txt")
    )
    assert [path.read_text().count("needless_alert = 3.0") for path in home.glob("contracts/*.toml")] == [1]

    back = fraudline("models", "promote", first, "--force", home=home)
    assert back.returncode == 0, back.stderr
    with TestClient(create_app(settings(home))) as client:
        ready = client.get("/health/ready").json()
        assert (ready["model_version"], ready["trouble"]) == (first, None)
    assert fraudline("home", "check", home=home).returncode == 0
