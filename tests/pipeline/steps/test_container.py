"""A step's view of the container it runs in."""

import json
from pathlib import Path

import pytest

from pipeline.steps import container
from processing.errors import BadInput


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    return tmp_path


def test_paths_are_under_opt_ml_outside_a_local_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ML_ROOT", "SM_MODEL_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert container.model_dir() == Path("/opt/ml/model")
    assert container.processing_path("test") == Path("/opt/ml/processing/test")


def test_channels_are_resolved_with_and_without_their_variable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "input/data/train").mkdir(parents=True)
    assert container.channel("train") == root / "input/data/train"
    monkeypatch.setenv("SM_CHANNEL_TRAIN", str(root / "input"))
    assert container.channel("train") == root / "input"


def test_a_missing_channel_is_named(root: Path) -> None:
    with pytest.raises(BadInput, match="'contract'"):
        container.channel("contract")


def test_hyperparameters_are_text_and_may_be_missing(root: Path) -> None:
    assert container.hyperparameters() == {}
    path = root / "input/config/hyperparameters.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"random_seed": "0"}))
    assert container.hyperparameters() == {"random_seed": "0"}


def test_a_users_error_ends_the_job_with_its_message_and_no_traceback(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"), container.reported_failures():
        raise BadInput("the train set has no rows")
    assert (root / "output/failure").read_text() == "the train set has no rows"
    assert (root / "output/message").read_text() == "the train set has no rows"
    assert capfd.readouterr().err == "the train set has no rows\n"


def test_an_unexpected_error_ends_the_job_and_reports_its_place(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"), container.reported_failures():
        raise ZeroDivisionError("4111" + "1" * 12)  # somebody's card number
    reason, log = (root / "output/failure").read_text(), capfd.readouterr().err
    assert reason.startswith("it ended unexpectedly: ZeroDivisionError at tests/pipeline/steps/test_container.py:")
    assert reason.endswith("; its log has the traceback")
    assert "Traceback" in log
    assert "4111111111111111" not in reason + log


def test_a_failure_message_is_truncated_to_sagemakers_limit(root: Path) -> None:
    with pytest.raises(SystemExit, match="1"), container.reported_failures():
        raise BadInput("x" * 5000)
    assert (root / "output/failure").read_text() == "x" * 1024


def test_a_successful_job_writes_no_failure(root: Path) -> None:
    with container.reported_failures():
        pass
    assert not (root / "output").exists()
