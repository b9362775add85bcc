"""A run's own code is stored under its digest and delivered as one file, also if there is none."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from processing.errors import BadInput, Damaged
from processing.storage.open import open_home
from processing.storage.run_code import deliver_code, load_code, store_code


def test_an_archive_is_stored_once_and_delivered_to_a_run(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    digest = store_code(home, b"modules")
    assert store_code(home, b"modules") == digest
    assert [entry.key for entry in home.entries("code/")] == [f"code/{digest}.zip"]
    address = deliver_code(home, "r1", load_code(home, digest))
    assert address == home.url_of("runs/r1/code")
    assert home.read("runs/r1/code/code.zip") == b"modules"


def test_a_run_without_code_gets_an_archive_without_modules(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    deliver_code(home, "r1", load_code(home, ""))
    with ZipFile(tmp_path / "runs/r1/code/code.zip") as archive:
        assert archive.namelist() == []


def test_only_the_archive_of_that_digest_is_delivered(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    for digest, message in (("../contract", "expected the SHA-256"), ("a" * 64, "there is no")):
        with pytest.raises(BadInput, match=message):
            load_code(home, digest)
    digest = store_code(home, b"modules")
    home.write(f"code/{digest}.zip", b"others")
    with pytest.raises(Damaged, match="not the archive of that digest"):
        load_code(home, digest)
