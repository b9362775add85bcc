"""Scratch folders are removed with their owner, or by the next owner if theirs was killed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from processing.processes import children
from processing.storage.scratch import DAY, remove_abandoned, scratch_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


OWNER = """
import os, signal
from processing.storage.scratch import scratch_folder
with scratch_folder("job") as folder:
    (folder / "blockmgr").mkdir()
    (folder / "blockmgr/rows").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    input()
"""


def test_a_folder_exists_and_is_empty_for_the_duration_of_its_block(temporary: Path) -> None:
    with scratch_folder("job") as folder:
        assert folder.is_relative_to(temporary)
        assert list(folder.iterdir()) == []
        assert remove_abandoned() == 0
        assert folder.exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, None])
def test_the_folder_of_a_killed_owner_is_removed_and_that_of_a_live_one_is_not(
    temporary: Path, number: signal.Signals | None
) -> None:
    environment = children.child_environment(TMPDIR=str(temporary))
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        assert folder.exists()
        assert remove_abandoned() == 0
        assert (folder / "blockmgr/rows").exists()
        if number:
            owner.send_signal(number)
            owner.wait(60)
            assert folder.exists()
            assert remove_abandoned() == 1000
        assert folder.exists() == (number is None)
        owner.kill()


def test_other_folders_are_not_removed(temporary: Path) -> None:
    """One without an owner yet, one with another name, and a link to a folder elsewhere."""
    (temporary / "fraudline-new").mkdir()
    (temporary / "mine").mkdir()
    (temporary / "precious").mkdir()
    (temporary / "precious/rows").touch()
    (temporary / "fraudline-link").symlink_to(temporary / "precious")
    long_ago = time.time() - 2 * DAY
    os.utime(temporary / "mine", (long_ago, long_ago))
    os.utime(temporary / "precious", (long_ago, long_ago))
    assert remove_abandoned() == 0
    assert {path.name for path in temporary.iterdir()} == {"fraudline-new", "mine", "precious", "fraudline-link"}
    assert (temporary / "precious/rows").exists()


def test_old_folders_of_an_earlier_version_are_removed(temporary: Path) -> None:
    (temporary / "fraudline-abc").mkdir()
    (temporary / "fraudline-abc/rows").write_bytes(b"12345")
    long_ago = time.time() - 2 * DAY
    os.utime(temporary / "fraudline-abc", (long_ago, long_ago))
    assert remove_abandoned() == 5
    assert list(temporary.iterdir()) == []
