"""`fraudline models` in a damaged home: it names the damage and shows the rest."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.command.models import app
from pipeline.registry.registry import POINTER, Registry
from processing.errors import Damaged
from processing.storage.open import open_home

MEASURED = {
    "metrics": {"average_precision": 0.7},
    "gate": {"passed": True},
}  # without recall, as other software might publish it


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(open_home(tmp_path))
    for number in range(3):
        when = datetime(2026, 11, 22, number, tzinfo=UTC)
        registry.publish({"model.joblib": b"%d" % number}, {"contract": {"name": "c"}}, MEASURED, when)
    registry.promote(registry.names()[0], "me", "first")
    return registry


def cut(registry: Registry, key: str) -> None:
    registry.home.write(key, registry.home.read(key)[:-20])


@pytest.mark.parametrize("file", ["manifest.json", "metrics.json"])
def test_a_damaged_version_is_listed_as_damaged(registry: Registry, tmp_path: Path, file: str) -> None:
    first, damaged, last = registry.names()
    cut(registry, f"models/{damaged}/{file}")
    result = CliRunner().invoke(app, ["list", "--home", str(tmp_path)])
    assert result.exit_code == 0, result.exception
    for text in (first, last, "serving", "candidate", "0.700", "damaged"):
        assert text in result.output
    assert f"{damaged} is damaged: " in result.output
    versions = json.loads(CliRunner().invoke(app, ["list", "--json", "--home", str(tmp_path)]).stdout)
    assert {one["version"]: one["status"] for one in versions} == {
        first: "serving",
        damaged: "damaged",
        last: "candidate",
    }


@pytest.mark.parametrize("words", [["list"], ["history"], ["rollback"]])
def test_a_damaged_pointer_is_reported_with_its_remedy(registry: Registry, tmp_path: Path, words: list[str]) -> None:
    cut(registry, POINTER)
    result = CliRunner().invoke(app, [*words, "--home", str(tmp_path)])
    assert isinstance(result.exception, Damaged)  # printed as one line
    assert "`fraudline home repair` restores it" in str(result.exception)
    assert all(version in result.output for version in registry.names()) == (words == ["list"])
