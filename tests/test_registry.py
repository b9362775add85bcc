"""The registry: versions never change, the pointer changes in one step, and a damaged file is noticed."""

import hashlib
import json
import multiprocessing
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.registry import POINTER, AlreadyServing, CorruptModel, Registry, Version
from processing.errors import BadInput, Conflict, NotFound
from processing.home import LocalHome, open_home

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PASSED = {"metrics": {"average_precision": 0.7}, "gate": {"passed": True, "reason": "good"}}
REFUSED = {"metrics": {"average_precision": 0.1}, "gate": {"passed": False, "reason": "below the floor"}}


def publish(registry, number=0, metrics=PASSED):
    files = {"model.joblib": b"model %d" % number, "report.html": b"<p>"}
    return registry.publish(files, {"contract": {"name": "c"}}, metrics, NOON + timedelta(hours=number))


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cloud)])
def registry(request, tmp_path):
    address = tmp_path / "home" if request.param == "local" else request.getfixturevalue("s3_url")()
    return Registry(open_home(address))


@given(st.datetimes(datetime(2000, 1, 1), datetime(9999, 1, 1)), st.text("0123456789abcdef", min_size=5, max_size=5))
def test_a_version_is_its_name(moment, content):
    version = Version(moment.replace(microsecond=0, tzinfo=UTC), content)
    assert Version.parse(str(version)) == version


@pytest.mark.parametrize("name", ["", "latest.json", "20261399T103000Z-baf3f", "20261122T103000Z-BAF3F"])
def test_what_is_no_version_name_is_refused(name):
    with pytest.raises(BadInput, match="no model version"):
        Version.parse(name)


def test_a_published_version_carries_its_time_content_and_digests(registry):
    name = publish(registry)
    assert name == "20261122T120000Z-" + hashlib.sha256(b"model 0").hexdigest()[:5]
    manifest = registry.manifest(name)
    assert set(manifest["files"]) == {"model.joblib", "report.html", "metrics.json"}
    assert manifest["files"]["report.html"] == hashlib.sha256(b"<p>").hexdigest()
    assert registry.read_file(name, "model.joblib") == b"model 0"
    assert registry.metrics(name) == PASSED


def test_nothing_published_is_ever_overwritten(registry):
    first, second = publish(registry), publish(registry, metrics=REFUSED)
    assert first < second
    assert registry.metrics(first) == PASSED


def test_without_its_manifest_a_version_does_not_exist(registry):
    name = publish(registry)
    registry.home.move(f"models/{name}/manifest.json", "elsewhere.json")
    assert registry.versions() == []
    with pytest.raises(NotFound):
        registry.manifest(name)


def test_a_changed_file_is_noticed_and_cannot_be_promoted(registry):
    name = publish(registry)
    registry.home.write(f"models/{name}/report.html", b"<b>")
    with pytest.raises(CorruptModel) as noticed:
        registry.read_file(name, "report.html")
    for part in ("report.html", hashlib.sha256(b"<p>").hexdigest(), hashlib.sha256(b"<b>").hexdigest()):
        assert part in str(noticed.value)
    with pytest.raises(CorruptModel):
        registry.promote(name, "me", "try")
    assert registry.latest() is None


def test_promotions_and_rollbacks(registry):
    a, b, c = (publish(registry, number) for number in range(3))
    assert registry.latest() is None
    for number, version in enumerate((a, b, c, a), 1):
        assert registry.promote(version, "me", "better").serial == number
    latest = registry.latest()
    assert (latest.version, latest.previous) == (a, (c, b))
    assert [v.status for v in registry.versions()] == ["previous", "previous", "serving"]
    with pytest.raises(AlreadyServing, match="by me"):
        registry.promote(a, "you", "again")
    assert registry.rollback("you").version == c
    assert [v.status for v in registry.versions()] == ["serving", "previous", "candidate"]
    assert registry.rollback("you").serial == 6
    with pytest.raises(BadInput, match=f"no version served before {b}"):
        registry.rollback("you")


def test_rollback_before_any_promotion_is_refused(registry):
    with pytest.raises(BadInput, match="no version was promoted yet"):
        registry.rollback("me")


def test_what_the_gate_refused_must_be_forced(registry):
    name = publish(registry, metrics=REFUSED)
    assert registry.versions()[0].status == "rejected"
    with pytest.raises(BadInput, match="did not pass the gate: below the floor"):
        registry.promote(name, "me", "try")
    assert registry.promote(name, "me", "must", force=True).forced
    assert registry.latest().forced
    assert registry.versions()[0].metrics == {"average_precision": 0.1}


def test_the_history_tells_who_promoted_and_forced_what_before(registry):
    a, b, c = publish(registry), publish(registry, 1, REFUSED), publish(registry, 2)
    registry.promote(a, "ann", "first")
    registry.promote(b, "bob", "must", force=True)
    registry.promote(c, "ann", "better")
    registry.rollback("cid")
    told = [(past["version"], past["by"], past["reason"], past["forced"]) for past in registry.latest().history]
    assert told == [(c, "ann", "better", False), (b, "bob", "must", True), (a, "ann", "first", False)]


def test_a_file_may_be_made_of_the_versions_name(registry):
    files = {"model.joblib": b"m", "report.html": lambda name: f"<h1>{name}".encode()}
    name = registry.publish(files, {}, PASSED, NOON)
    assert registry.read_file(name, "report.html") == f"<h1>{name}".encode()


def test_the_beginning_of_a_name_is_enough_if_only_one_begins_so(registry):
    a, b = publish(registry), publish(registry, 1)
    assert registry.promote("20261122T13", "me", "short").version == b
    assert registry.manifest(a[:13])["version"] == a
    with pytest.raises(BadInput, match="several versions begin with '2026'"):
        registry.manifest("2026")
    with pytest.raises(NotFound, match=f"is it one of .*{a}"):
        registry.manifest(a[:-1] + "x")
    with pytest.raises(NotFound):
        registry.manifest("")


def test_a_rollback_does_not_take_away_what_was_promoted_meanwhile(tmp_path):
    class Raced(LocalHome):
        meanwhile = None

        def write_if(self, key, data, tag):
            if key == POINTER and self.meanwhile:
                version, self.meanwhile = self.meanwhile, None
                Registry(LocalHome(self.folder)).promote(version, "other", "faster")
            super().write_if(key, data, tag)

    registry = Registry(home := Raced(tmp_path))
    a, b, c = (publish(registry, number) for number in range(3))
    registry.promote(a, "me", "first")
    home.meanwhile = b
    assert registry.promote(c, "me", "slower").previous == (b, a)  # on top of the one that came first
    home.meanwhile = a
    with pytest.raises(Conflict, match=f"{a} was promoted in the meantime"):
        registry.rollback("me")
    home.meanwhile = b
    with pytest.raises(AlreadyServing):
        registry.promote(b, "me", "the same at once")


def promote_all(address, versions, start, done):
    registry = Registry(open_home(address))
    start.wait(60)
    for version in versions:
        done.put((version, registry.promote(version, "a process", "race").serial))


def test_of_promotions_at_once_none_is_lost(registry):
    versions = [publish(registry, number) for number in range(21)]
    context = multiprocessing.get_context("spawn")
    start, done = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=promote_all, args=(registry.home.url, versions[i::3], start, done)) for i in range(3)
    ]
    for process in processes:
        process.start()
    outcomes = dict(done.get(timeout=60) for _ in versions)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    by_serial = sorted(versions, key=outcomes.get, reverse=True)
    assert sorted(outcomes.values()) == list(range(1, 22))
    latest = registry.latest()
    assert [latest.version, *latest.previous] == by_serial  # so many are remembered


def test_it_imports_nothing_beyond_the_standard_library_and_the_home():
    code = (
        "import json, sys, pipeline.registry; "
        "print(json.dumps([n for n in ('numpy', 'sklearn', 'joblib', 'pyarrow') if n in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []
