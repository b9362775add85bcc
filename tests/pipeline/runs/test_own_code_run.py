"""A run on this machine brings an estimator and its helper along, through the definition that SageMaker has too."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from run_sets import CONTRACT, FIRST_DAY, rows_table, write_contract, write_set

import pipeline.runs.local_run
from pipeline.estimators.own_code import OwnCode
from pipeline.registry.registry import Registry
from pipeline.runs.local_run import run_and_report
from pipeline.runs.own_code import pack
from processing.contracts.home_contract import adopt
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.run_code import deliver_code, load_code

WOODS = """
import helper
from sklearn.ensemble import ExtraTreesClassifier

class Woods(ExtraTreesClassifier):
    pass

def make(hyperparameters):
    return Woods(helper.size(hyperparameters), min_samples_leaf=3, random_state=0)
"""


@pytest.mark.slow
def test_an_estimator_beside_its_helper_is_trained_measured_and_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/woods.py").write_text(WOODS)
    (tmp_path / "mine/helper.py").write_text("def size(hyperparameters):\n    return hyperparameters.max_iterations\n")
    home = open_home(tmp_path / "home")
    assert isinstance(home, LocalHome)
    adopt(home, CONTRACT)
    home.write("incoming/rows.csv", b"what the feature job would read")

    def features(message: dict[str, Any], log: Any, **_: Any) -> dict[str, str]:
        """The outputs of a feature job that made these sets."""
        run, code = message["arguments"]["run"], message["arguments"]["code"]
        folder = home.path(f"runs/{run}")
        write_set(folder / "train", rows_table())
        write_set(folder / "test", rows_table(days=4, first_day=FIRST_DAY + 22, per_day=200, seed=1))
        write_contract(folder / "contract")
        addresses = {f"{name}_url": home.url_of(f"runs/{run}/{name}") for name in ("train", "test", "contract")}
        code_url = deliver_code(home, run, load_code(home, code))
        return {**addresses, "code_url": code_url, "rows_accepted": "1", "rows_refused": "0"}

    monkeypatch.setattr(pipeline.runs.local_run, "_compute_features", features)
    estimator = f"{tmp_path}/mine/woods.py:make"
    result = run_and_report(home, Console(quiet=True), {"Estimator": estimator, "MaxIterations": "20"})

    published = Registry(home).open(result["version"])
    code = published.own_code()
    assert result["serving"] == result["version"]
    assert code is not None
    assert OwnCode.from_bytes(code) == pack(estimator)[1]
    assert published.manifest["code"] == OwnCode.from_bytes(code).digest
    assert published.manifest["hyperparameters"]["estimator"] == "woods:make"
    channels = json.loads(home.read(f"runs/{result['run']}/steps/Train/arguments.json"))["InputDataConfig"]
    assert [channel["ChannelName"] for channel in channels] == ["train", "contract", "code"]
