"""A home, in a folder or in a bucket: the same behaviour, for any keys."""

import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from processing.aws_client import client
from processing.errors import BadInput, Conflict, FraudlineError, NotFound
from processing.storage.home import Entry, Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home

SPAWN = multiprocessing.get_context("spawn")
ODD_KEYS = ["a b/c d.csv", "München/100%/x+y.csv", "100%25.csv", "what?/who#1&2.csv", "day=2026-03-01/part 0.parquet"]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cloud)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "local":
        return open_home(tmp_path / "a home")
    make: Callable[[], str] = request.getfixturevalue("s3_url")
    return open_home(make())


def keys(home: Home, prefix: str) -> list[str]:
    return [entry.key for entry in home.entries(prefix)]


def test_the_last_written_content_is_read(home: Home) -> None:
    home.write("a/b.txt", b"one")
    home.write("a/b.txt", b"two")
    home.write("empty", b"")
    assert home.read("a/b.txt") == b"two"
    assert home.read("empty") == b""


@pytest.mark.parametrize("key", ["nothing", "a/nothing", "a"])
def test_a_missing_key_raises_not_found(home: Home, key: str, tmp_path: Path) -> None:
    home.write("a/b", b"")
    with pytest.raises(NotFound, match=f"{key} does not exist in the home"):
        home.read(key)
    with pytest.raises(NotFound), home.local_file(key):
        pass
    if key != "a":
        with pytest.raises(NotFound):
            home.move(key, "elsewhere")


def test_the_tag_changes_with_the_content(home: Home) -> None:
    home.write("x", b"one")
    tag = home.read_tagged("x")[1]
    assert home.read_tagged("x") == (b"one", tag)
    home.write("x", b"two")
    assert home.read_tagged("x")[1] != tag


def test_a_conditional_write_fails_unless_the_content_is_the_expected_one(home: Home) -> None:
    home.write_if("x", b"one", None)
    with pytest.raises(Conflict, match="x was changed"):
        home.write_if("x", b"two", None)
    tag = home.read_tagged("x")[1]
    home.write_if("x", b"two", tag)
    with pytest.raises(Conflict):
        home.write_if("x", b"three", tag)
    with pytest.raises(Conflict):
        home.write_if("gone", b"three", tag)
    assert home.read("x") == b"two"
    assert keys(home, "") == ["x"]


def increment(home: Home, times: int) -> None:
    while times:
        try:
            data, tag = home.read_tagged("counter.json")
        except NotFound:
            data, tag = b"0", None
        try:
            home.write_if("counter.json", json.dumps(json.loads(data) + 1).encode(), tag)
            times -= 1
        except Conflict:
            time.sleep(0.005)


def increment_at(address: str, times: int) -> None:
    increment(open_home(address), times)


def test_conditional_writes_of_threads_lose_no_update(home: Home) -> None:
    threads = [Thread(target=increment, args=(home, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert home.read("counter.json") == b"40"


def test_conditional_writes_of_processes_lose_no_update(home: Home) -> None:
    processes: list[Any] = [SPAWN.Process(target=increment_at, args=(home.url, 10)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert home.read("counter.json") == b"30"


def test_entries_and_folders_are_listed_by_prefix(home: Home) -> None:
    began = time.time()
    for key in ("in/b.csv", "in/a/x.csv", "in/a/y.csv", "inside/z", "top"):
        home.write(key, key.encode())
    assert keys(home, "in/") == ["in/a/x.csv", "in/a/y.csv", "in/b.csv"]
    assert keys(home, "") == ["in/a/x.csv", "in/a/y.csv", "in/b.csv", "inside/z", "top"]
    assert keys(home, "none/") == []
    entry = home.entries("in/")[2]
    assert entry.size == len("in/b.csv")
    assert abs(entry.modified - began) < 60
    assert home.folders("") == ["in", "inside"]
    assert home.folders("in/") == ["a"]
    assert home.folders("none/") == []


@pytest.mark.cloud
def test_listings_of_a_bucket_span_several_pages(s3_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    home = open_home(s3_url())
    for i in range(7):
        home.write(f"many/{i}/file", b"")
    pages = []
    s3 = home._s3  # type: ignore[attr-defined]
    s3.meta.events.register("before-parameter-build.s3.ListObjectsV2", lambda params, **_: params.update(MaxKeys=3))
    s3.meta.events.register("after-call.s3.ListObjectsV2", lambda **_: pages.append(1))
    assert keys(home, "many/") == [f"many/{i}/file" for i in range(7)]
    assert home.folders("many/") == [str(i) for i in range(7)]
    assert len(pages) == 6


def test_move_copy_and_remove_replace_and_delete_objects(home: Home) -> None:
    home.write("incoming/x.csv", b"rows")
    home.write("archive/x.csv", b"old")
    home.move("incoming/x.csv", "archive/x.csv")
    assert keys(home, "") == ["archive/x.csv"]
    home.copy("archive/x.csv", "runs/1/train/x.csv")
    home.copy("archive/x.csv", "runs/1/train/x.csv")
    assert home.read("runs/1/train/x.csv") == home.read("archive/x.csv") == b"rows"
    home.remove("runs/")
    home.remove("nothing/")
    assert keys(home, "") == ["archive/x.csv"]


def test_an_uploaded_file_can_be_read_as_a_local_file(home: Home, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"bytes" * 1000)
    home.upload(tmp_path / "here", "there/it is.csv")
    with home.local_file("there/it is.csv") as path:
        assert path.name == "it is.csv"  # readers depend on the suffix
        assert path.read_bytes() == b"bytes" * 1000
    assert path.exists() == path.is_relative_to(tmp_path)  # a download is removed afterwards
    assert keys(home, "") == ["there/it is.csv"]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd"])
def test_keys_outside_the_home_are_refused(home: Home, key: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    for use in (
        lambda: home.read(key),
        lambda: home.write(key, b""),
        lambda: home.write_if(key, b"", None),
        lambda: home.entries(key),
        lambda: home.remove(key),
        lambda: home.move(key, "in"),
        lambda: home.upload(tmp_path / "x", key),
    ):
        with pytest.raises(BadInput, match="outside the home"):
            use()


@pytest.mark.parametrize("key", ODD_KEYS)
def test_unusual_keys_are_kept_unchanged(home: Home, key: str) -> None:
    home.write(key, b"odd")
    assert keys(home, "") == [key]
    assert home.read(key) == b"odd"
    assert home.key_of(home.url_of(key)) == key
    home.copy(key, f"copies/{key}")
    home.move(key, f"moved/{key}")
    assert home.read(f"moved/{key}") == home.read(f"copies/{key}") == b"odd"


@pytest.mark.parametrize("address", ["s3://", "s3:///x", "s3:/bucket/x", "s3:bucket"])
def test_an_address_without_a_bucket_is_refused(address: str) -> None:
    with pytest.raises(BadInput, match="write s3://bucket/prefix"):
        open_home(address)


def test_an_address_elsewhere_is_refused(home: Home) -> None:
    for address in ("s3://other/x", "/elsewhere/x"):
        with pytest.raises(BadInput):
            home.key_of(address)


@pytest.mark.cloud
class TestRefusals:
    """Errors name the call, key and bucket, and say what to check."""

    def test_the_error_for_a_missing_bucket_names_it(self, bucket: str) -> None:
        with pytest.raises(FraudlineError, match=r"s3:GetObject on x/models/latest.json in the bucket no-such-bucket"):
            open_home("s3://no-such-bucket/x").read("models/latest.json")

    def test_the_error_for_a_missing_permission_names_it(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        iam = client("iam")
        iam.create_user(UserName=bucket)
        key = iam.create_access_key(UserName=bucket)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        home = open_home(f"s3://{bucket}/x")
        message = (
            rf"refused s3:\w+ on x/k in the bucket {bucket} \((AccessDenied|403)\): check that the role may use s3://"
        )
        for use in (lambda: home.read("k"), lambda: home.write("k", b""), lambda: home.copy("k", "l")):
            with pytest.raises(FraudlineError, match=message):
                use()

    @pytest.mark.slow
    def test_an_unreachable_bucket_raises_in_time(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:9")
        began = time.monotonic()
        with pytest.raises(FraudlineError, match="s3:PutObject on k in the bucket"):
            open_home(f"s3://{bucket}").write("k", b"")
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", ["my home", "job:2", "a+b", "José", "h%20ome", "a#b?c", "x@y", "(1),=&[z]", "a:b:c"])
def test_an_address_is_taken_literally_and_its_url_names_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for address in (name, f"~/{name}", str(tmp_path / name), tmp_path / name):
        home = open_home(address)
        assert isinstance(home, LocalHome)
        assert home.folder == tmp_path / name
        again = open_home(home.url)
        assert isinstance(again, LocalHome)
        assert again.folder == home.folder
        assert home.key_of(home.url_of(f"models/{name}")) == f"models/{name}"


def listed(home: Home, key: str) -> Entry:
    return next(entry for entry in home.entries("incoming/") if entry.key == key)


def test_finishing_a_claim_archives_the_claimed_content_and_keeps_a_newer_file(home: Home) -> None:
    home.write("incoming/a b.csv", b"read")
    entry = listed(home, "incoming/a b.csv")
    home.claim(entry, "runs/1/incoming/a b.csv")
    home.write("incoming/a b.csv", b"newer")
    assert home.read("runs/1/incoming/a b.csv") == b"read"
    home.finish(entry, "runs/1/incoming/a b.csv", "archive/1/a b.csv")
    assert {key: home.read(key) for key in keys(home, "")} == {
        "archive/1/a b.csv": b"read",
        "incoming/a b.csv": b"newer",
    }


def test_a_replaced_file_is_not_claimed(home: Home) -> None:
    home.write("incoming/a.csv", b"old")
    entry = listed(home, "incoming/a.csv")
    home.write("incoming/a.csv", b"newer")
    with pytest.raises(Conflict):
        home.claim(entry, "runs/1/incoming/a.csv")
    assert {key: home.read(key) for key in keys(home, "")} == {"incoming/a.csv": b"newer"}


@pytest.mark.parametrize("newer", [False, True])
def test_a_released_file_waits_again_and_replaces_nothing(home: Home, newer: bool) -> None:
    home.write("incoming/a.csv", b"first")
    home.claim(listed(home, "incoming/a.csv"), "runs/1/incoming/a.csv")
    if newer:
        home.write("incoming/a.csv", b"newer")
    home.release("runs/1/incoming/a.csv", "incoming/a.csv")
    assert keys(home, "runs/") == []
    waiting = {home.read(key) for key in keys(home, "incoming/")}
    # In a bucket the original stays in incoming/, so the newer file replaced it already.
    assert waiting == ({b"newer"} if newer and home.url.startswith("s3") else {b"first", *([b"newer"] * newer)})
