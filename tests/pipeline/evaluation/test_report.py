"""The report: one self-contained file, readable without scripts, with charts that describe themselves."""

import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
from run_sets import CONTRACT, FIRST_DAY, STRONG, rows_table, write_set

from pipeline.data import dataset
from pipeline.estimators.hyperparameters import Hyperparameters
from pipeline.estimators.predict import scores
from pipeline.evaluation.bootstrap import ModelScores
from pipeline.evaluation.checks import FAILED, CheckFinding
from pipeline.evaluation.gate import verdict
from pipeline.evaluation.gate_rules import GateRules
from pipeline.evaluation.importance import importances
from pipeline.evaluation.model_comparison import compare_models
from pipeline.evaluation.model_metrics import measure_model, metrics_in_words
from pipeline.evaluation.report.model_report import ReportInput, confusion, model_report
from pipeline.training.fit import train
from processing.features.feature_set import FeatureSet

NAMES = FeatureSet(CONTRACT).names
NAMED = ("average_precision", "cost_per_day")
VERSION = "20261122T103000Z-baf3f"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rows = dataset.read(write_set(folder / "train", rows_table()), CONTRACT)
    test = dataset.read(write_set(folder / "test", rows_table(days=4, first_day=FIRST_DAY + 22, seed=1)), CONTRACT)
    model, training = train(rows, CONTRACT, Hyperparameters(max_iterations=20))
    ours = ModelScores(scores(model, test.X), training["threshold"])
    theirs = ModelScores(np.roll(ours.score, 1), 0.3)
    return ReportInput(CONTRACT, test, partial(scores, model), ours, theirs), training


def report(evaluated, champion):
    what, training = evaluated
    metrics = measure_model(what.rows, what.ours.score, what.ours.threshold, CONTRACT)
    theirs = what.theirs if champion else None
    comparison = (
        compare_models(what.rows, what.ours, theirs, CONTRACT, metrics["cost_of_no_alerts"] / 4, GateRules())
        if theirs
        else None
    )
    finding = CheckFinding("label leak", FAILED, "amount", "amount <b>may</b> contain the label")
    results = {
        "metrics": metrics,
        "in_words": metrics_in_words(metrics, CONTRACT),
        "champion": {"version": "v1", **measure_model(what.rows, theirs.score, 0.3, CONTRACT)} if theirs else None,
        "comparison": comparison,
        "checks": [vars(finding)],
        "drift": {"amount": 0.3, "customer_count_1d": 0.01} if champion else None,
        "best": {**{name: {"version": "v0", **comparison[name]} for name in NAMED}, "lookback_days": 180}
        if comparison
        else None,
        "gate": {
            **verdict(metrics["average_precision"], comparison, "v1", [finding], GateRules(), "it is the first model"),
            "notes": ["It gives no <i>reasons</i>"],
        },
    }
    manifest = {
        **training,
        "contract": {"name": "made-up", "digest": "d"},
        "rows": {"train": 1200, "test": 240},
        "frauds": {"train": 100, "test": 20},
        "data_digests": {"train": "a", "test": "b"},
        "run": "r1",
        "code_revision": "c",
        "scorer": "packed",
        "scorer_reason": "alike",
    }
    inputs = ReportInput(what.contract, what.rows, what.score, what.ours, theirs)
    return model_report(VERSION, inputs, manifest, results).decode()


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.texts, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)


@pytest.fixture(scope="module", params=[True, False], ids=["with a champion", "without"])
def rendered(request, evaluated):
    text = report(evaluated, request.param)
    return text, Page(text), request.param


def test_the_report_is_one_file_without_scripts(rendered):
    text, page, _ = rendered
    assert len(text) < 500_000
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "object")]
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name in ("xmlns", "xmlns:xlink") or "//" not in (value or "")
    assert not re.search(r"url\((?!#)|@import", text)


def test_every_chart_has_a_title_and_a_description(rendered):
    _, page, champion = rendered
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) == (6 if champion else 5)
    for chart in charts:
        assert chart["role"] == "img"
        assert set(chart["aria-labelledby"].split()) <= set(page.ids)
        assert chart["viewbox"]


def test_ids_are_unique_and_every_reference_has_its_target(rendered):
    text, page, _ = rendered
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) - {(i, "") for i in page.ids} <= {
        ("", i) for i in page.ids
    }


def test_charts_use_the_colours_of_the_page(rendered):
    text, _, _ = rendered
    charts = " ".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--ours)" in charts
    assert not re.search(r"(fill|stroke): #(?!ffffff)", charts)
    defined = set(re.findall(r"--(\w+):", text))
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= defined
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_report_states_the_verdict_the_checks_and_the_facts(rendered, evaluated):
    _, page, champion = rendered
    visible = " ".join(" ".join(page.texts).split())
    assert f"Model {VERSION}" in visible
    assert "Rejected. The model was rejected: the check for a label leak failed" in visible
    assert "amount <b>may</b> contain the label" in visible  # escaped in the file, so read as text
    assert "of 100 alerts" in visible
    assert "cost on the validation rows" in visible
    predicted, actual = evaluated[0].ours.score.sum(), evaluated[0].rows.frauds
    assert f"Predicted frauds: {predicted:,.0f}, actual frauds: {actual}." in visible
    assert ("There was no champion to compare with." in visible) != champion
    assert ("Drift since the champion was tested" in visible) == champion
    assert ("the best of the versions that served in the last 180 days" in visible) == champion
    assert "It gives no <i>reasons</i>" in visible


def test_the_confusion_matrix_counts_every_row(evaluated):
    what, _ = evaluated
    parts = confusion(what.rows, what.ours)
    assert sum(count for count, _ in parts.values()) == what.rows.rows
    assert sum(value for _, value in parts.values()) == pytest.approx(what.rows.amount.sum())
    assert parts["caught"][0] + parts["missed"][0] == what.rows.frauds


def test_the_features_that_drive_fraud_are_the_most_important(evaluated):
    what, _ = evaluated
    important = importances(what.score, what.rows, NAMES)
    assert {each.feature for each in important} == set(NAMES)
    assert {important[0].feature, important[1].feature} == {"amount", STRONG}
    assert abs(important[-1].loss) < 0.1 < important[1].loss
