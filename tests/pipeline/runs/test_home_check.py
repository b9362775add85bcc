"""`fraudline home check` and `repair`: every damage is detected, reported in one line, and repaired where possible."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from serving_home import promote, publish, serving_home
from table_home import CONTRACT, FIRST, at, put
from typer.testing import CliRunner

from pipeline.command.main import app
from pipeline.registry.registry import Registry
from processing.storage.local import LocalHome
from processing.store.open import open_store


@pytest.fixture
def home(tmp_path: Path) -> LocalHome:
    """A home with transactions, a previous and a serving model, and the records of a run."""
    home = at(tmp_path / "home")
    serving_home(home.folder)
    promote(home, publish(home, 1))
    put(home, "one", ["a"])
    with closing(open_store(home, CONTRACT)) as store:
        store.refresh(FIRST * 24, [], [], 0)
    home.write("runs/one/contract/contract.toml", home.read("contract.toml"))
    home.write("runs/one/features.json", b'{"files": []}')
    home.write("runs/one/outcome.json", b'{"status": "Succeeded"}')
    return home


def command(home: LocalHome, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["home", *words, "--home", str(home.folder)], env={"COLUMNS": "400"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def content(home: LocalHome) -> dict[str, bytes]:
    keys = [entry.key for entry in home.entries("") if not entry.key.endswith(("-shm", "-wal"))]  # SQLite's own
    return {key: home.read(key) for key in keys}


def test_a_healthy_home_has_no_damage_and_is_not_changed(home: LocalHome) -> None:
    before = content(home)
    assert command(home, "check") == (0, "✓ no damage found\n")
    assert content(home) == before


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def test_a_missing_store_is_detected(home: LocalHome) -> None:
    for path in home.path("online").iterdir():
        path.unlink()
    code, output = command(home, "check")
    assert code == 1
    assert "store.sqlite: it is missing, although the tables hold transactions" in output
    assert "`fraudline home repair` can repair this" in output


@pytest.mark.parametrize("damage", [cut, lambda data: b"\x00" * len(data), lambda data: b""])
@pytest.mark.parametrize(
    ("key", "repairable"),
    [
        ("contract.toml", True),
        ("models/latest.json", True),
        ("warehouse/catalog.db", True),
        ("runs/one/outcome.json", False),
        ("runs/one/features.json", False),
    ],
)
def test_damage_is_detected_and_repaired_where_possible(
    home: LocalHome, key: str, repairable: bool, damage: Callable[[bytes], bytes]
) -> None:
    serving = Registry(home).latest()
    home.write(key, damage(home.read(key)))
    damaged = content(home)
    code, output = command(home, "check")
    assert code == 1
    assert key in output
    assert "Traceback" not in output
    assert content(home) == damaged
    code, output = command(home, "repair", "--yes")
    assert (code == 0) == repairable, output
    assert command(home, "check")[0] == code
    latest = Registry(home).latest()
    assert latest is not None
    assert serving is not None
    assert (latest.version, latest.pins) == (serving.version, serving.pins)


@pytest.mark.parametrize("name", ["manifest.json", "metrics.json", "model.joblib"])
def test_a_damaged_model_is_detected_and_the_others_are_still_listed(home: LocalHome, name: str) -> None:
    version = Registry(home).names()[0]
    key = f"models/{version}/{name}"
    home.write(key, cut(home.read(key)))
    code, output = command(home, "check")
    assert code == 1
    assert version in output
    assert len(Registry(home).versions()) == 2


def test_problems_can_be_printed_as_json(home: LocalHome) -> None:
    home.write("contract.toml", b"name = ")
    code, output = command(home, "check", "--json")
    assert code == 1
    (problem,) = json.loads(output[output.index("[") :])
    assert problem["where"].endswith("contract.toml")
    assert problem["repairable"]


def test_repair_asks_for_confirmation(home: LocalHome) -> None:
    home.write("contract.toml", b"")
    before = content(home)
    result = CliRunner().invoke(app, ["home", "repair", "--home", str(home.folder)], input="n\n")
    assert result.exit_code == 1
    assert content(home) == before
