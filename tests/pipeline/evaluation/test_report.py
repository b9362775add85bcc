"""The report: one file that needs nothing else, readable without scripts, with pictures that say what they show."""

import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
from run_sets import CONTRACT, FIRST_DAY, STRONG, rows_table, write_set

from pipeline.data import dataset
from pipeline.estimators.trees import Hyperparameters
from pipeline.evaluation.bootstrap import Scored
from pipeline.evaluation.checks import FAILED, Finding
from pipeline.evaluation.gate import Rules, compare, verdict
from pipeline.evaluation.importance import importances
from pipeline.evaluation.metrics import in_words, measure
from pipeline.evaluation.report import Evaluated, confusion, report_of
from pipeline.training import fit as train
from processing.features.feature_set import FeatureSet

NAMES = FeatureSet(CONTRACT).names
NAMED = ("average_precision", "cost_per_day")
VERSION = "20261122T103000Z-baf3f"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rows = dataset.read(write_set(folder / "train", rows_table()), CONTRACT)
    test = dataset.read(write_set(folder / "test", rows_table(days=4, first_day=FIRST_DAY + 22, seed=1)), CONTRACT)
    model, training = train.train(rows, CONTRACT, Hyperparameters(max_iterations=20))
    ours = Scored(train.scores(model, test.X), training["threshold"])
    theirs = Scored(np.roll(ours.score, 1), 0.3)
    return Evaluated(CONTRACT, test, partial(train.scores, model), ours, theirs), training


def report(evaluated, champion):
    what, training = evaluated
    metrics = measure(what.rows, what.ours.score, what.ours.threshold, CONTRACT)
    theirs = what.theirs if champion else None
    comparison = (
        compare(what.rows, what.ours, theirs, CONTRACT, metrics["cost_of_no_alerts"] / 4, Rules()) if theirs else None
    )
    finding = Finding("label leak", FAILED, "amount", "amount <b>may</b> hold the label")
    results = {
        "metrics": metrics,
        "in_words": in_words(metrics, CONTRACT),
        "champion": {"version": "v1", **measure(what.rows, theirs.score, 0.3, CONTRACT)} if theirs else None,
        "comparison": comparison,
        "checks": [vars(finding)],
        "drift": {"amount": 0.3, "customer_count_1d": 0.01} if champion else None,
        "best": {**{name: {"version": "v0", **comparison[name]} for name in NAMED}, "lookback_days": 180}
        if comparison
        else None,
        "gate": {
            **verdict(metrics["average_precision"], comparison, "v1", [finding], Rules(), "it is the first model"),
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
    shown = Evaluated(what.contract, what.rows, what.score, what.ours, theirs)
    return report_of(VERSION, shown, manifest, results).decode()


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
def made(request, evaluated):
    text = report(evaluated, request.param)
    return text, Page(text), request.param


def test_it_is_one_file_without_scripts(made):
    text, page, _ = made
    assert len(text) < 500_000
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "object")]
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name in ("xmlns", "xmlns:xlink") or "//" not in (value or "")
    assert not re.search(r"url\((?!#)|@import", text)


def test_every_picture_has_a_title_and_a_description(made):
    _, page, champion = made
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == (6 if champion else 5)
    for picture in pictures:
        assert picture["role"] == "img"
        assert set(picture["aria-labelledby"].split()) <= set(page.ids)
        assert picture["viewbox"]


def test_ids_are_different_and_every_reference_has_its_target(made):
    text, page, _ = made
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) - {(i, "") for i in page.ids} <= {
        ("", i) for i in page.ids
    }


def test_pictures_take_the_colours_of_the_page(made):
    text, _, _ = made
    drawn = " ".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--ours)" in drawn
    assert not re.search(r"(fill|stroke): #(?!ffffff)", drawn)
    defined = set(re.findall(r"--(\w+):", text))
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= defined
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_it_tells_the_verdict_the_checks_and_the_facts(made, evaluated):
    _, page, champion = made
    read = " ".join(" ".join(page.texts).split())
    assert f"Model {VERSION}" in read
    assert "Rejected. The model did not pass: the check for a label leak failed" in read
    assert "amount <b>may</b> hold the label" in read  # escaped in the file, so read as text
    assert "of 100 alerts" in read
    assert "cost on validation rows" in read
    foretold, came = evaluated[0].ours.score.sum(), evaluated[0].rows.frauds
    assert f"the scores foretold {foretold:,.0f} frauds, and {came} came" in read
    assert ("There was no champion to compare with." in read) != champion
    assert ("Drift against the champion" in read) == champion
    assert ("the best of the versions that served in the last 180 days" in read) == champion
    assert "It gives no <i>reasons</i>" in read


def test_the_confusion_counts_every_row(evaluated):
    what, _ = evaluated
    parts = confusion(what.rows, what.ours)
    assert sum(count for count, _ in parts.values()) == what.rows.rows
    assert sum(value for _, value in parts.values()) == pytest.approx(what.rows.amount.sum())
    assert parts["caught"][0] + parts["missed"][0] == what.rows.frauds


def test_the_features_that_make_the_fraud_are_the_important_ones(evaluated):
    what, _ = evaluated
    found = importances(what.score, what.rows, NAMES)
    assert {each.feature for each in found} == set(NAMES)
    assert {found[0].feature, found[1].feature} == {"amount", STRONG}
    assert abs(found[-1].loss) < 0.1 < found[1].loss
