"""The registry: versions never change, the pointer changes in one step, and a damaged file is detected."""

import hashlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.registry.registry import POINTER, AlreadyServing, CorruptModel, Registry, Version
from processing.errors import BadInput, Conflict, Damaged, NotFound
from processing.storage.local import LocalHome
from processing.storage.open import open_home

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PASSED = {"metrics": {"average_precision": 0.7}, "gate": {"passed": True, "reason": "good"}}
WAITING = {
    "metrics": {"average_precision": 0.7},
    "gate": {"passed": False, "verdict": "waiting", "reason": "it could not be compared"},
}
REFUSED = {"metrics": {"average_precision": 0.1}, "gate": {"passed": False, "reason": "below the floor"}}


def publish(registry, number=0, metrics=PASSED):
    files = {"model.joblib": b"model %d" % number, "report.html": b"<p>"}
    return registry.publish(files, {"contract": {"name": "c"}}, metrics, NOON + timedelta(hours=number))


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cloud)])
def registry(request, tmp_path):
    address = tmp_path / "home" if request.param == "local" else request.getfixturevalue("s3_url")()
    return Registry(open_home(address))


@given(st.datetimes(datetime(2000, 1, 1), datetime(9999, 1, 1)), st.text("0123456789abcdef", min_size=5, max_size=5))
def test_a_version_parses_from_its_name(moment, content):
    version = Version(moment.replace(microsecond=0, tzinfo=UTC), content)
    assert Version.parse(str(version)) == version


@pytest.mark.parametrize("name", ["", "latest.json", "20261399T103000Z-baf3f", "20261122T103000Z-BAF3F"])
def test_an_invalid_version_name_is_refused(name):
    with pytest.raises(BadInput, match="not a model version"):
        Version.parse(name)


def test_a_published_version_has_its_time_content_and_digests(registry):
    name = publish(registry)
    assert name == "20261122T120000Z-" + hashlib.sha256(b"model 0").hexdigest()[:5]
    manifest = registry.manifest(name)
    assert set(manifest["files"]) == {"model.joblib", "report.html", "metrics.json"}
    assert manifest["files"]["report.html"] == hashlib.sha256(b"<p>").hexdigest()
    assert registry.read_file(name, "model.joblib") == b"model 0"
    assert registry.metrics(name) == PASSED


def test_a_published_version_is_never_overwritten(registry):
    first, second = publish(registry), publish(registry, metrics=REFUSED)
    assert first < second
    assert registry.metrics(first) == PASSED


def test_a_version_without_a_manifest_does_not_exist(registry):
    name = publish(registry)
    registry.home.move(f"models/{name}/manifest.json", "elsewhere.json")
    assert registry.versions() == []
    with pytest.raises(NotFound):
        registry.manifest(name)


def test_a_version_with_a_changed_file_cannot_be_read_or_promoted(registry):
    name = publish(registry)
    registry.home.write(f"models/{name}/report.html", b"<b>")
    with pytest.raises(CorruptModel) as error:
        registry.read_file(name, "report.html")
    for part in ("report.html", hashlib.sha256(b"<p>").hexdigest(), hashlib.sha256(b"<b>").hexdigest()):
        assert part in str(error.value)
    with pytest.raises(CorruptModel):
        registry.promote(name, "me", "try")
    assert registry.latest() is None


def test_promotions_and_rollbacks_change_the_serving_version(registry):
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
    with pytest.raises(BadInput, match="no version has been promoted yet"):
        registry.rollback("me")


def test_a_version_the_gate_rejected_must_be_forced(registry):
    name = publish(registry, metrics=REFUSED)
    assert registry.versions()[0].status == "rejected"
    with pytest.raises(BadInput, match="did not pass the gate: below the floor"):
        registry.promote(name, "me", "try")
    assert registry.promote(name, "me", "must", force=True).forced
    assert registry.latest().forced
    assert registry.versions()[0].metrics == {"average_precision": 0.1}


def test_the_history_records_who_promoted_and_forced_what(registry):
    a, b, c = publish(registry), publish(registry, 1, REFUSED), publish(registry, 2)
    registry.promote(a, "ann", "first")
    registry.promote(b, "bob", "must", force=True)
    registry.promote(c, "ann", "better")
    registry.rollback("cid")
    changes = [(past["version"], past["by"], past["reason"], past["forced"]) for past in registry.latest().history]
    assert changes == [(c, "ann", "better", False), (b, "bob", "must", True), (a, "ann", "first", False)]


def test_a_rollback_to_a_forced_version_is_recorded_as_forced(registry):
    forced, good = publish(registry, 0, REFUSED), publish(registry, 1)
    registry.promote(forced, "bob", "must", force=True)
    registry.promote(good, "ann", "better")
    assert registry.rollback("cid").forced
    changes = [(past["version"], past["forced"]) for past in registry.promote(good, "ann", "better").history]
    assert changes == [(forced, True), (good, False), (forced, True)]


def test_a_version_that_waits_needs_a_person_but_no_force(registry):
    waiting, good = publish(registry, 0, WAITING), publish(registry, 1)
    assert [one.status for one in registry.versions()] == ["candidate", "waits for approval"]
    with pytest.raises(BadInput, match=r"waits for a person's approval.*could not be compared"):
        registry.promote(waiting, "a run", "passed")
    assert registry.latest() is None
    assert not registry.promote(waiting, "ann", "looked at it", approved=True).forced
    registry.promote(good, "ann", "better")
    assert not registry.rollback("ann").forced


@pytest.mark.parametrize("change", ["promote", "rollback"])
def test_a_version_that_fails_its_check_changes_nothing(registry, change):
    a, b, c = (publish(registry, number) for number in range(3))
    registry.promote(a, "me", "first")
    registry.promote(b, "me", "second")
    before, checked = registry.home.read(POINTER), []

    def refuse(candidate):
        checked.append(candidate.version)
        raise BadInput("it would not serve")

    arguments = (c, "me", "third") if change == "promote" else ("me",)
    with pytest.raises(BadInput, match="it would not serve"):
        getattr(registry, change)(*arguments, check=refuse)
    assert checked == [c if change == "promote" else a]
    assert registry.home.read(POINTER) == before


def test_the_history_records_until_when_a_version_served(registry):
    a, b, c = (publish(registry, number) for number in range(3))
    for version in (a, b, c):
        registry.promote(version, "me", "better")
    latest = registry.latest()
    assert latest.served_until(b) == latest.promoted_at
    assert latest.served_until(a) == latest.history[0]["promoted_at"]
    assert latest.served_until("20200101T000000Z-00000") is None


def test_a_file_can_be_generated_from_the_versions_name(registry):
    files = {"model.joblib": b"m", "report.html": lambda name: f"<h1>{name}".encode()}
    name = registry.publish(files, {}, PASSED, NOON)
    assert registry.read_file(name, "report.html") == f"<h1>{name}".encode()


def test_a_unique_prefix_identifies_a_version(registry):
    a, b = publish(registry), publish(registry, 1)
    assert registry.promote("20261122T13", "me", "short").version == b
    assert registry.manifest(a[:13])["version"] == a
    with pytest.raises(BadInput, match="several versions begin with '2026'"):
        registry.manifest("2026")
    with pytest.raises(NotFound, match=f"did you mean .*{a}"):
        registry.manifest(a[:-1] + "x")
    with pytest.raises(NotFound):
        registry.manifest("")


def test_a_rollback_does_not_undo_a_concurrent_promotion(tmp_path):
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
    assert registry.promote(c, "me", "slower").previous == (b, a)  # on top of the promotion that came first
    home.meanwhile = a
    with pytest.raises(Conflict, match=f"{a} was promoted in the meantime"):
        registry.rollback("me")
    home.meanwhile = b
    with pytest.raises(AlreadyServing):
        registry.promote(b, "me", "the same at once")


def promote_all(address, versions, start, results):
    registry = Registry(open_home(address))
    start.wait(60)
    for version in versions:
        results.put((version, registry.promote(version, "a process", "race").serial))


@pytest.mark.slow
def test_concurrent_promotions_are_all_recorded(registry):
    versions = [publish(registry, number) for number in range(21)]
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=promote_all, args=(registry.home.url, versions[i::3], start, results)) for i in range(3)
    ]
    for process in processes:
        process.start()
    outcomes = dict(results.get(timeout=60) for _ in versions)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    by_serial = sorted(versions, key=outcomes.get, reverse=True)
    assert sorted(outcomes.values()) == list(range(1, 22))
    latest = registry.latest()
    assert [latest.version, *latest.previous] == by_serial  # all of them are remembered


def test_the_registry_imports_only_the_standard_library_and_the_home():
    code = (
        "import json, sys, pipeline.registry.registry; "
        "print(json.dumps([n for n in ('numpy', 'sklearn', 'joblib', 'pyarrow') if n in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []


# Damage and repair


def cut(home, key, end=-20):
    home.write(key, home.read(key)[:end])


def test_the_list_marks_a_damaged_version_and_lists_the_rest(registry):
    manifest, metrics, bare, removed, sound = (publish(registry, number) for number in range(5))
    registry.promote(removed, "me", "first")
    registry.promote(sound, "me", "second")
    cut(registry.home, f"models/{manifest}/manifest.json")
    cut(registry.home, f"models/{metrics}/metrics.json")
    registry.home.write(f"models/{bare}/manifest.json", b'{"files": 3}')
    registry.home.remove(f"models/{removed}/")
    versions = {one.version: one for one in registry.versions()}
    assert {name: one.status for name, one in versions.items()} == {
        manifest: "damaged",
        metrics: "damaged",
        bare: "damaged",
        removed: "damaged",
        sound: "serving",
    }
    for name, message in (
        (manifest, "manifest.json is damaged: "),
        (metrics, "metrics.json is not the published file"),
        (bare, "lacks the version's name or the files' digests"),
        (removed, "manifest.json is missing"),
    ):
        assert message in versions[name].reason
        assert "restore the file" in versions[name].reason
        assert sum(name in problem and message in problem for problem in registry.problems()) == 1
    assert registry.find(sound[:-2]) == sound


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2000), st.sampled_from(["cut", "flip"]))
def test_damage_anywhere_in_the_pointer_is_detected(position, damage):
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(open_home(folder))
        a, b = publish(registry), publish(registry, 1)
        registry.promote(a, "me", "first")
        expected = registry.promote(b, "me", "second")
        whole = registry.home.read(POINTER)
        position %= len(whole)
        registry.home.write(
            POINTER,
            whole[:position] + (b"" if damage == "cut" else bytes([whole[position] ^ 1]) + whole[position + 1 :]),
        )
        try:
            latest = registry.latest()
        except Damaged as error:
            latest, message = None, str(error)
        if latest is None:
            assert ("latest.json is damaged" in message, "`fraudline home repair`" in message) == (True, True)
            assert len(registry.versions()) == 2
            registry.repair_pointer()
            assert registry.latest() == expected
        else:  # the damage changed an entry or is harmless
            assert latest == expected or any("latest.json" in problem for problem in registry.problems())


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_lost_pointer_is_reported_and_restored_from_its_records(registry, damage):
    a, b = publish(registry), publish(registry, 1)
    registry.promote(a, "me", "first")
    expected = registry.promote(b, "me", "second")
    assert registry.problems() == registry.repair_pointer() == []
    whole = registry.home.read(POINTER)
    if damage == "cut":
        cut(registry.home, POINTER)
    else:
        registry.home.move(POINTER, "elsewhere.json")
    for call in (registry.latest, lambda: registry.promote(a, "me", "x"), lambda: registry.rollback("me")):
        with pytest.raises(Damaged, match=r"latest\.json is .*`fraudline home repair` restores it"):
            call()
    [problem] = registry.problems()
    assert "latest.json" in problem
    [repair] = registry.repair_pointer()
    assert f"{b} serves" in repair
    assert (registry.latest(), registry.home.read(POINTER)) == (expected, whole)
    assert registry.problems() == []
    assert registry.rollback("me").version == a


def test_a_damaged_record_is_skipped_and_its_number_not_reused(registry):
    a, b = publish(registry), publish(registry, 1)
    registry.promote(a, "me", "first")
    registry.promote(b, "me", "second")
    cut(registry.home, POINTER)
    cut(registry.home, "models/history/00000002.json")
    assert sum("00000002.json" in problem for problem in registry.problems()) == 1
    repairs = registry.repair_pointer()
    assert "set" in repairs[0]
    assert f"{a} serves" in repairs[1]
    latest = registry.latest()
    assert (latest.version, latest.serial) == (a, 2)
    assert registry.problems() == []
    assert registry.promote(b, "me", "again").serial == 3


def test_a_damaged_pointer_without_records_is_set_aside_so_that_a_version_can_be_promoted(registry):
    a = publish(registry)
    registry.home.write(POINTER, b'{"version": ')
    with pytest.raises(Damaged):
        registry.promote(a, "me", "x")
    [repair] = registry.repair_pointer()
    assert "no version serves" in repair
    assert registry.home.read(f"{POINTER}.damaged") == b'{"version": '
    assert registry.promote(a, "me", "x").serial == 1


def test_a_writer_that_dies_before_its_record_leaves_no_gap(tmp_path):
    class Dying(LocalHome):
        alive = True

        def write_if(self, key, data, tag):
            if key.startswith("models/history/") and not self.alive:
                raise KeyboardInterrupt
            super().write_if(key, data, tag)

    registry = Registry(home := Dying(tmp_path))
    a, b = publish(registry), publish(registry, 1)
    home.alive = False
    with pytest.raises(KeyboardInterrupt):
        registry.promote(a, "me", "first")
    assert registry.latest().version == a  # writing the pointer is the promotion
    home.alive = True
    [problem] = registry.problems()
    assert "00000001.json is missing" in problem
    with pytest.raises(AlreadyServing):
        registry.promote(a, "me", "a retried step")
    assert registry.problems() == []
    registry.promote(b, "me", "second")
    assert [entry.key for entry in home.entries("models/history/")] == [
        "models/history/00000001.json",
        "models/history/00000002.json",
    ]


def test_a_pointer_changed_by_hand_is_detected(registry):
    a, b = publish(registry), publish(registry, 1)
    registry.promote(a, "me", "first")
    registry.home.write(POINTER, registry.home.read(POINTER).replace(a.encode(), b.encode()))
    assert sum("latest.json differs from" in problem for problem in registry.problems()) == 1
    registry.home.write(POINTER, registry.home.read(POINTER).replace(b'"serial": 1', b'"serial": 3'))
    assert sum("latest.json is at change 3, but" in problem for problem in registry.problems()) == 1


# Pins


def test_a_promotion_pins_the_version_and_a_rollback_returns_to_it_as_pinned(registry):
    a, b, c = (publish(registry, number) for number in range(3))
    digests = {
        version: hashlib.sha256(registry.home.read(f"models/{version}/manifest.json")).hexdigest()
        for version in (a, b, c)
    }
    for version in (a, b, c):
        registry.promote(version, "me", "better")
    latest = registry.latest()
    assert (latest.pin, latest.pins) == (digests[c], digests)
    assert [past["manifest"] for past in latest.history] == [digests[b], digests[a]]
    back = registry.rollback("me")
    assert (back.version, back.pins) == (b, {version: digests[version] for version in (a, b)})
    assert registry.open(a).pinned
    assert not registry.open(c).pinned


def test_a_pointer_without_pins_is_read_reported_and_pinned_by_a_promotion_or_a_rollback(registry):
    a, b = publish(registry), publish(registry, 1)
    old = {"version": b, "previous": [a], "promoted_at": "2026-01-01T00:00:00.000+00:00", "by": "me", "reason": "x"}
    registry.home.write(POINTER, json.dumps({**old, "serial": 2, "forced": False, "history": []}).encode())
    assert (registry.latest().version, registry.latest().pin) == (b, None)
    [problem] = registry.problems()
    assert f"`fraudline models promote {b}` pins" in problem
    assert registry.promote(b, "me", "pinned").previous == (a,)
    assert registry.latest().pins == {b: registry.open(b).digest}
    assert registry.problems() == []
    assert registry.rollback("me").pins == {a: registry.open(a).digest}
    with pytest.raises(AlreadyServing):
        registry.promote(a, "me", "again")


def test_publishing_never_overwrites_existing_files(tmp_path):
    class Watched(LocalHome):
        def write(self, key, data):
            assert not self.path(key).exists()
            super().write(key, data)

    registry = Registry(home := Watched(tmp_path))
    publish(registry)

    def planting(name):
        home.write(f"models/{name}/manifest.json", b"{}")
        return b""

    with pytest.raises(Conflict):
        registry.publish({"model.joblib": b"m", "report.html": planting}, {}, PASSED, NOON + timedelta(hours=5))


def test_a_publishers_manifest_cannot_replace_its_name_or_digests(registry):
    name = registry.publish({"model.joblib": b"m"}, {"version": "x", "created": "y", "files": {}}, PASSED, NOON)
    manifest = registry.manifest(name)
    assert (manifest["version"], set(manifest["files"])) == (name, {"model.joblib", "metrics.json"})
