"""The Evaluate step: champion and challenger on the same rows, the gate's verdict, a version in the registry."""

import hashlib
import io
import json
import tarfile
import tempfile
from importlib.metadata import version as installed
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pytest
from run_sets import CONTRACT, FIRST_DAY, STRONG, rows_table, write_code, write_contract, write_set
from sklearn.ensemble import RandomForestClassifier

from pipeline.data import dataset
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.own_code import NO_CODE
from pipeline.estimators.predict import scores
from pipeline.evaluation import evaluation
from pipeline.registry.registry import CorruptModel, Registry
from pipeline.scorer.bundle import ModelBundle
from pipeline.scorer.forest import PackedScorer
from pipeline.steps import evaluate
from pipeline.training.fit import train
from processing.contracts.reader import parse
from processing.errors import BadInput
from processing.features.feature_set import FeatureSet
from processing.job.earlier_features import folder_of
from processing.storage.open import open_home

TEST_SET = {"days": 4, "first_day": FIRST_DAY + 22, "per_day": 200, "seed": 1}


def model_archive(path, model, training, rows):
    """The model archive as a SageMaker training job delivers it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path, "w:gz") as tar:
        ModelBundle.of_model(model, training, rows.X).write(Path(folder))
        for file in sorted(Path(folder).iterdir()):
            tar.add(file, file.name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    rows = dataset.read(write_set(tmp_path_factory.mktemp("train"), rows_table()), CONTRACT)
    models = {n: train(rows, CONTRACT, Hyperparameters(max_iterations=n, max_features=1.0)) for n in (1, 30)}
    return {n: (*model, rows) for n, model in models.items()}


@pytest.fixture
def step(tmp_path, monkeypatch, trained):
    """Run the step on a challenger with the given number of trees; returns evaluation.json."""
    monkeypatch.setenv("ML_ROOT", str(tmp_path / "ml"))
    # Drawing takes seconds; the report has tests of its own.
    monkeypatch.setattr(evaluation, "model_report", lambda version, *_: f"about {version}".encode())
    folder = tmp_path / "ml/processing"
    write_set(folder / "test", rows_table(**TEST_SET))

    def run(trees, *more, floor=0.1, contract=CONTRACT, models=trained, code=NO_CODE, **training):
        write_contract(folder / "contract", contract)
        write_code(folder / "code", code)
        model, record, rows = models[trees]
        record = {**record, "contract": {"name": contract.name, "digest": contract.digest}, **training}
        model_archive(folder / "model/model.tar.gz", model, record, rows)
        evaluate.main(["--home", str(tmp_path / "home"), "--run", "r1", "--floor", str(floor), *more])
        return json.loads((folder / "evaluation/evaluation.json").read_text())

    return run


@pytest.fixture
def registry(tmp_path):
    return Registry(open_home(tmp_path / "home"))


def test_the_first_model_is_evaluated_and_published(step, registry, trained, tmp_path):
    registry.home.write("runs/r1/features.json", b'{"snapshot": 7}')
    outcome = step(30)
    assert outcome["champion"] is None
    assert outcome["comparison"] is None
    assert outcome["gate"]["verdict"] == "passed"
    assert "first model" in outcome["gate"]["reason"]
    assert outcome["gate"]["average_precision"] == outcome["metrics"]["average_precision"] > 0.5
    published = registry.metrics(outcome["version"])
    assert {"version": outcome["version"], "manifest": registry.open(outcome["version"]).digest, **published} == outcome
    assert registry.versions()[0].status == "candidate"

    manifest, record = registry.manifest(outcome["version"]), trained[30][1]
    assert manifest["features"] == list(FeatureSet(CONTRACT).names)
    assert set(manifest["dtypes"].values()) == {"float64"}
    assert parse(manifest["contract"]["text"]) == CONTRACT
    assert manifest["contract"]["digest"] == CONTRACT.digest
    assert manifest["threshold"] == record["threshold"]
    assert manifest["rows"] == {"train": 1200, "test": 800}
    assert manifest["data_digests"]["train"] == record["data_digest"] != manifest["data_digests"]["test"]
    assert manifest["data"] == {"snapshot": 7}
    assert manifest["run"] == "r1"
    assert manifest["code_revision"]
    model = registry.read_file(outcome["version"], "model.joblib")
    assert manifest["files"]["model.joblib"] == hashlib.sha256(model).hexdigest()
    assert manifest["scorer"] == "packed"
    assert "1200 rows" in manifest["scorer_reason"]
    test = dataset.read(tmp_path / "ml/processing/test", CONTRACT)
    served = scores(joblib.load(io.BytesIO(model)), test.X)
    assert np.array_equal(served, scores(trained[30][0], test.X))
    packed = PackedScorer.from_bytes(registry.read_file(outcome["version"], "scorer.npz"))
    assert np.array_equal(packed.scores(test.X), served)


def test_a_model_that_cannot_be_packed_is_published_as_joblib_alone(step, registry, trained, tmp_path):
    test = dataset.read(tmp_path / "ml/processing/test", CONTRACT)
    forest = RandomForestClassifier(3, random_state=0).fit(test.X, test.y)
    outcome = step("forest", models={"forest": (forest, *trained[1][1:])})
    manifest = registry.manifest(outcome["version"])
    assert set(manifest["files"]) == {"model.joblib", "metrics.json", "reference.json", "report.html"}
    assert manifest["scorer"] == "joblib"
    assert "RandomForestClassifier cannot be packed" in manifest["scorer_reason"]


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_the_joblib_file_of_a_packed_model_is_never_loaded(step, registry, tmp_path, monkeypatch):
    """Neither the challenger's nor the champion's: training must not run code in evaluation's role."""
    mark, write = tmp_path / "unpickled", ModelBundle.write

    def write_with_trap(bundle, folder):
        write(bundle, folder)
        joblib.dump(Trap(mark), folder / "model.joblib")

    monkeypatch.setattr(ModelBundle, "write", write_with_trap)
    first = step(30)
    registry.promote(first["version"], "test", "first")
    second = step(30)
    assert second["champion"]["version"] == first["version"]
    assert not mark.exists()
    joblib.load(io.BytesIO(registry.read_file(first["version"], "model.joblib")))
    assert mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("allowed", ["packed", "any"])
def test_a_joblib_model_is_loaded_only_where_it_is_allowed_and_pinned(
    step, registry, trained, tmp_path, monkeypatch, allowed
):
    test = dataset.read(tmp_path / "ml/processing/test", CONTRACT)
    forest = RandomForestClassifier(3, random_state=0).fit(test.X, test.y)
    models = {"forest": (forest, *trained[1][1:]), 30: trained[30]}
    registry.promote(step("forest", models=models)["version"], "test", "first")
    monkeypatch.setenv("FRAUDLINE_MODELS", allowed)
    failure = tmp_path / "ml/output/failure"
    if allowed == "packed":
        with pytest.raises(SystemExit):
            step("forest", models=models)
        assert "RandomForestClassifier cannot be packed" in failure.read_text()
        assert "--allow-joblib" in failure.read_text()
        outcome = step(30)
        assert outcome["champion"] is None
        assert "is a joblib model, and only packed models may be loaded here" in outcome["gate"]["reason"]
    else:
        assert step("forest", models=models)["champion"]
        pointer = json.loads(registry.home.read("models/latest.json"))
        registry.home.write("models/latest.json", json.dumps({**pointer, "pins": {}}).encode())
        with pytest.raises(SystemExit):
            step(30)
        assert f"`fraudline models promote {pointer['version']}` pins them" in failure.read_text()


def test_an_invalid_setting_is_reported(step, tmp_path, monkeypatch):
    monkeypatch.setenv("FRAUDLINE_MODELS", "pakced")
    with pytest.raises(SystemExit):
        step(30)
    assert "FRAUDLINE_MODELS is 'pakced', expected any or packed" in (tmp_path / "ml/output/failure").read_text()


@pytest.mark.slow
def test_a_worse_challenger_does_not_pass_and_a_better_one_does(step, registry):
    weak = step(1)
    registry.promote(weak["version"], "test", "first")
    better = step(30)
    assert better["gate"]["passed"]
    assert better["champion"]["version"] == weak["version"]
    assert better["champion"]["average_precision"] == weak["metrics"]["average_precision"]
    registry.promote(better["version"], "test", "better")
    worse = step(1)
    assert worse["gate"]["verdict"] == "rejected"
    differences = [outcome["comparison"]["average_precision"]["difference"] for outcome in (worse, better)]
    assert differences[0] == pytest.approx(-differences[1])
    assert "may be worse, by more than the margin, than the champion" in worse["gate"]["reason"]
    assert {one.version: one.status for one in registry.versions()}[worse["version"]] == "rejected"
    assert registry.latest().version == better["version"]
    assert step(30)["gate"]["passed"]  # being non-inferior is enough


def test_the_record_names_who_forced_a_rejected_model(step, registry):
    registry.promote(step(30)["version"], "test", "first")
    forced = step(1, "--forced-by=ann")
    assert forced["gate"]["verdict"] == "forced"
    assert not forced["gate"]["passed"]
    assert forced["gate"]["reason"].endswith("; ann forced it.")
    assert registry.metrics(forced["version"])["gate"]["forced_by"] == "ann"
    assert registry.promote(forced["version"], "the run", "forced").forced
    assert step(30, "--forced-by=ann")["gate"]["verdict"] == "passed"  # nothing to force


def test_a_broken_feature_is_rejected_with_its_name_and_the_champion_stays(step, registry, tmp_path):
    first = step(30)["version"]
    registry.promote(first, "test", "first")
    table = rows_table(**TEST_SET)
    name = STRONG
    values = table[name].to_numpy(zero_copy_only=False)
    shuffled = pa.array(np.random.default_rng(3).permutation(values))
    write_set(tmp_path / "ml/processing/test", table.set_column(table.column_names.index(name), name, shuffled))
    outcome = step(30)
    assert outcome["gate"]["verdict"] == "rejected"
    assert f"lost relation failed: {name} tells almost nothing" in outcome["gate"]["reason"]
    assert registry.latest().version == first


def test_report_and_reference_are_published_with_the_model(step, registry):
    version = step(30)["version"]
    assert registry.read_file(version, "report.html").decode() == f"about {version}"
    reference = json.loads(registry.read_file(version, "reference.json"))
    assert reference["rows"] == 800
    assert sum(reference["score"]["counts"]) == 800
    metrics = registry.metrics(version)
    assert "of 100 alerts" in metrics["in_words"]
    assert {one["status"] for one in metrics["checks"]} == {"passed"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--confidence", "95"], "ConfidenceLevel is 95"), (["--margin", "-0.1"], "NonInferiorityMargin is -0.1")],
)
def test_rules_out_of_range_fail_the_step_with_the_parameters_name(step, tmp_path, arguments, message):
    with pytest.raises(SystemExit):
        step(30, *arguments)
    assert message in (tmp_path / "ml/output/failure").read_text()


def test_a_model_below_the_floor_does_not_pass(step):
    outcome = step(30, floor=0.999)
    assert not outcome["gate"]["passed"]
    assert "below the floor 0.999" in outcome["gate"]["reason"]


@pytest.mark.slow
def test_costs_and_comments_of_the_contract_may_change_between_champion_and_challenger(step, registry):
    """The current contract's costs apply to both."""
    first = step(30)
    registry.promote(first["version"], "test", "first")
    commented = parse(CONTRACT.text + "# a comment changes nothing\n")
    assert step(30, contract=commented)["champion"]
    outcome = step(30, contract=parse(CONTRACT.text.replace("needless_alert = 2.0", "needless_alert = 500.0")))
    assert outcome["champion"]["version"] == first["version"]
    assert outcome["champion"]["average_precision"] == first["metrics"]["average_precision"]
    assert outcome["champion"]["cost"] > first["metrics"]["cost"]
    assert outcome["comparison"]["cost_per_day"]["difference"] == pytest.approx(0.0)


WIDER = parse(CONTRACT.text.replace("windows_days = [1, 7]", "windows_days = [1, 3, 7]"))


def write_earlier_rows(registry, table, run="r1", contract=CONTRACT):
    """The test rows under the champion's contract, as the feature job leaves them in the run's folder."""
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder), table)
        registry.home.upload(Path(folder, "part-0.parquet"), f"{folder_of(run, contract)}/part-0.parquet")


def other_models(trained, tmp_path, contract=WIDER):
    """A challenger trained under another contract; its test set replaces the step's own."""
    rows = dataset.read(write_set(tmp_path / "wider", rows_table(contract)), contract)
    test = rows_table(contract, **TEST_SET)
    write_set(tmp_path / "ml/processing/test", test)
    return {n: (*train(rows, contract, Hyperparameters(max_iterations=n, max_features=1.0)), rows) for n in (1, 30)}


@pytest.mark.slow
def test_a_champion_with_other_features_is_compared_on_the_same_rows(step, registry, trained, tmp_path):
    first = step(30)
    registry.promote(first["version"], "test", "first")
    table = rows_table(**TEST_SET)
    models = other_models(trained, tmp_path)
    theirs = rows_table(WIDER, **TEST_SET)
    for name in ("event_time", "amount_minor", "is_fraud", "transaction_id"):  # the same rows, other features
        theirs = theirs.set_column(theirs.column_names.index(name), name, table[name])
    write_set(tmp_path / "ml/processing/test", theirs)
    write_earlier_rows(registry, table)
    worse = step(1, contract=WIDER, models=models)
    assert worse["champion"]["version"] == first["version"]
    assert worse["champion"]["average_precision"] == first["metrics"]["average_precision"]
    assert worse["gate"]["verdict"] == "rejected"  # it would pass if it were not compared
    shared = set(worse["drift"])
    assert "amount" in shared
    assert "customer_count_7d" not in shared  # same name, other values


def test_rows_that_differ_from_the_test_set_fail_the_step(step, registry, trained, tmp_path):
    registry.promote(step(30)["version"], "test", "first")
    models = other_models(trained, tmp_path)
    write_earlier_rows(registry, rows_table(**{**TEST_SET, "seed": 2}))
    with pytest.raises(SystemExit):
        step(30, contract=WIDER, models=models)
    assert "does not hold the rows of the test set" in (tmp_path / "ml/output/failure").read_text()


def test_a_champion_that_cannot_be_compared_makes_the_challenger_wait(step, registry, trained, tmp_path):
    first = step(30)["version"]
    registry.promote(first, "test", "first")
    outcome = step(30, contract=WIDER, models=other_models(trained, tmp_path))
    assert (outcome["gate"]["verdict"], outcome["gate"]["passed"], outcome["champion"]) == ("waiting", False, None)
    assert (
        f"could not be compared with the champion {first}: the feature job wrote no test rows"
        in outcome["gate"]["reason"]
    )
    assert {one.version: one.status for one in registry.versions()}[outcome["version"]] == "waits for approval"
    with pytest.raises(BadInput, match="waits for a person's approval"):
        registry.promote(outcome["version"], "a run", "passed")
    assert not registry.promote(outcome["version"], "ann", "looked at it", approved=True).forced


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contract", "training", "why"),
    [
        (parse(CONTRACT.text.replace('column = "c"', 'column = "card"')), {}, "was the column 'c', and is 'card' now"),
        (CONTRACT, {"features": ["amount"]}, "this code computes other features from its contract"),
        (CONTRACT, {"window": {"first_day": "2024-10-04", "last_day": "2024-10-27"}}, "trained on days of this test"),
        (CONTRACT, {"window": None}, "has a missing or invalid entry"),
    ],
)
def test_the_reason_explains_why_a_champion_cannot_be_compared(
    step, registry, trained, tmp_path, contract, training, why
):
    registry.promote(step(30, **training)["version"], "test", "first")
    models = other_models(trained, tmp_path, contract)
    outcome = step(30, contract=contract, models=models)
    assert outcome["gate"]["verdict"] == "waiting"
    assert why in outcome["gate"]["reason"]


@pytest.mark.slow
def test_the_challenger_is_compared_with_the_best_earlier_version_too(step, registry):
    """The champion is worse than the version before it: being no worse than the champion is not enough."""
    good, weak = step(30)["version"], step(1, "--forced-by=ann")["version"]
    registry.promote(good, "test", "first")
    pointer = json.loads(registry.home.read("models/latest.json"))
    registry.promote(weak, "test", "after many small losses")
    outcome = step(1)
    assert outcome["champion"]["version"] == weak
    assert outcome["best"]["average_precision"]["version"] == outcome["best"]["cost_per_day"]["version"] == good
    assert outcome["comparison"]["average_precision"]["no_worse"]
    assert not outcome["best"]["average_precision"]["no_worse"]
    assert outcome["gate"]["verdict"] == "rejected"
    assert "the best model of the last 180 days: average precision " in outcome["gate"]["reason"]
    assert f"against {good}" in outcome["gate"]["reason"]
    assert step(30)["gate"]["passed"]

    assert step(1, "--lookback-days", "0")["gate"]["passed"]
    long_ago = json.loads(registry.home.read("models/latest.json"))
    long_ago["promoted_at"] = pointer["promoted_at"].replace("202", "201", 1)
    registry.home.write("models/latest.json", json.dumps(long_ago).encode())
    assert step(1)["gate"]["passed"]


@pytest.mark.slow
def test_an_earlier_version_that_cannot_be_measured_is_reported(step, registry):
    damaged, serving = step(30)["version"], step(30)["version"]
    for version in (damaged, serving):
        registry.promote(version, "test", "better")
    registry.home.write(f"models/{damaged}/scorer.npz", b"damaged")
    outcome = step(30)
    assert outcome["gate"]["passed"]
    assert "expected sha256" in outcome["passed_over"][damaged]
    assert any(note.startswith(f"The challenger was not compared with {damaged}") for note in outcome["gate"]["notes"])


@pytest.mark.slow
def test_rolled_back_and_forced_versions_are_excluded_from_the_comparison(step, registry):
    weak, good = step(1)["version"], step(30)["version"]
    registry.promote(weak, "test", "first")
    registry.promote(good, "test", "better")
    registry.rollback("ann")
    assert step(1)["gate"]["passed"]
    forced = step(30, "--forced-by=ann", floor=0.999)["version"]
    registry.promote(forced, "test", "forced")
    registry.promote(weak, "test", "again", approved=True)
    outcome = step(1)
    assert outcome["gate"]["passed"]
    assert outcome["passed_over"] == {forced: "it served although the gate had rejected it"}


def test_the_gate_notes_a_model_that_gives_no_reasons(step, registry, trained, tmp_path):
    test = dataset.read(tmp_path / "ml/processing/test", CONTRACT)
    forest = RandomForestClassifier(3, random_state=0).fit(test.X, test.y)
    outcome = step("forest", models={"forest": (forest, *trained[1][1:])})
    [finding] = [one for one in outcome["checks"] if one["check"] == "reasons for decisions"]
    assert finding["status"] == "warning"
    needs = f"scikit-learn {installed('scikit-learn')}"
    assert f"every server needs {needs}" in finding["says"]
    assert outcome["gate"]["notes"] == [finding["says"].replace("the model", "The model", 1)]
    assert registry.versions()[0].notes == (*outcome["gate"]["notes"],)
    assert registry.manifest(outcome["version"])["estimator_needs"] == {"scikit-learn": installed("scikit-learn")}
    assert step(30)["gate"]["notes"] == []


def test_a_damaged_champion_stops_the_step(step, registry, tmp_path):
    version = step(30)["version"]
    registry.promote(version, "test", "first")
    registry.home.write(f"models/{version}/scorer.npz", b"damaged")
    with pytest.raises(SystemExit):
        step(30)
    assert "expected sha256" in (tmp_path / "ml/output/failure").read_text()
    with pytest.raises(CorruptModel):
        registry.read_file(version, "scorer.npz")


def test_a_challenger_trained_under_another_contract_is_refused(tmp_path, trained):
    model_archive(tmp_path / "model.tar.gz", *trained[1])
    other = parse(CONTRACT.text.replace("made-up", "other"))
    bundle = ModelBundle.from_archive(tmp_path / "model.tar.gz")
    with pytest.raises(BadInput, match=r"trained under the contract 'made-up' .* follow 'other'"):
        bundle.check(other, packed_only=False)


def test_an_archive_that_reaches_outside_its_folder_is_refused(tmp_path):
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("../outside")
        tar.addfile(member, io.BytesIO())
    with pytest.raises(BadInput, match=r"does not contain model\.joblib"):
        ModelBundle.from_archive(tmp_path / "model.tar.gz")
