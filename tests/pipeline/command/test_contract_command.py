"""`fraudline contract`: what it prints, and what it leaves alone."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.command.main import app
from processing.contract import HOME_KEY
from processing.contracts.reader import load
from processing.features.feature_set import FeatureSet

TEXT = load("transactions").text


def contract(*words: str) -> Result:
    return CliRunner().invoke(app, ["contract", *words], env={"COLUMNS": "400"})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / HOME_KEY).write_text(TEXT)
    return folder


def mine(folder: Path, old: str, new: str) -> str:
    path = folder / "mine.toml"
    path.write_text(TEXT.replace(old, new))
    return str(path)


def test_show_prints_the_contract_as_it_is_and_says_where_it_is(home: Path) -> None:
    shown = contract("show", "--home", str(home))
    assert shown.stdout == TEXT
    assert str(home / HOME_KEY) in shown.stderr


def test_check_summarises_a_contract_and_names_a_wrong_entry(tmp_path: Path) -> None:
    summary = json.loads(contract("check", "transactions", "--json").stdout)
    assert summary["features"] == len(FeatureSet(load("transactions")).names)
    assert summary["columns"][0] == "transaction_id"
    assert "customer (customer_id) over 1d, 7d, 30d" in contract("check", "transactions").stdout
    wrong = contract("check", mine(tmp_path, "delay_days = 7", "delay_days = -7"))
    assert "delay_days" in str(wrong.exception)


def test_diff_says_what_changes_and_changes_nothing(home: Path, tmp_path: Path) -> None:
    done = contract("diff", mine(tmp_path, "numeric = []", 'numeric = ["age"]'), "--home", str(home))
    assert done.exit_code == 0
    assert "numeric column 'age' is new" in done.stdout
    assert "1 feature added: age" in done.stdout
    assert contract("diff", "transactions", "--home", str(home)).stdout == "nothing changes\n"
    assert [path.name for path in home.iterdir()] == [HOME_KEY]


def test_diff_exits_with_2_for_what_is_refused(home: Path, tmp_path: Path) -> None:
    file = mine(tmp_path, "decimals = 2", "decimals = 0")
    done = contract("diff", file, "--home", str(home), "--json")
    assert done.exit_code == 2
    assert "amount.decimals" in json.loads(done.stdout)["refusals"][0]
    assert "refused: amount.decimals" in contract("diff", file, "--home", str(home)).stdout


def test_apply_lets_a_contract_wait_until_it_is_withdrawn(home: Path, tmp_path: Path) -> None:
    before = (home / HOME_KEY).read_text()
    file = mine(tmp_path, "numeric = []", 'numeric = ["age"]')
    for _ in range(2):
        done = contract("apply", file, "--home", str(home))
        assert "1 feature added: age" in done.stdout
        assert "fraudline run" in done.stdout
        assert (home / "contracts/pending.toml").read_text() == Path(file).read_text()
    assert "waits for the next run" in contract("show", "--home", str(home)).stderr
    assert (home / HOME_KEY).read_text() == before
    assert "no other contract is pending" in contract("apply", "transactions", "--home", str(home)).stdout
    assert not (home / "contracts/pending.toml").exists()
