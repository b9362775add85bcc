"""An experiment's own modules are imported from one archive, apart from all others, and only within a block."""

import importlib
import sys
import threading
import zipfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.estimators.own_code import LARGEST, MOST, NO_CODE, OwnCode
from processing.errors import BadInput

FILES = {
    "entry.py": "from parts.deep import leaf\nimport beside\nvalue = leaf.value + beside.value\n",
    "beside.py": "value = 1\n",
    "parts/__init__.py": "from . import first\n",
    "parts/first.py": "value = 10\n",
    "parts/deep/leaf.py": "from ..first import value as ten\nvalue = ten * 10\n",  # its folder has no __init__.py
}
CODE = OwnCode(FILES)


def imported(name: str) -> object:
    return importlib.import_module(name).value


def test_modules_import_each_other_and_packages_below_them() -> None:
    with CODE.importable():
        assert imported("entry") == 101
    for name in ("entry", "beside", "parts", "parts.deep.leaf"):
        assert name not in sys.modules
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_two_archives_with_the_same_names_do_not_mix() -> None:
    functions = []
    for value in (1, 2):
        code = OwnCode({"entry.py": "import beside\ndef f(): return beside.value", "beside.py": f"value = {value}"})
        with code.importable():
            functions.append(importlib.import_module("entry").f)
    assert [function() for function in functions] == [1, 2]


def test_a_module_of_the_same_name_is_back_afterwards_even_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside.py").write_text("value = 'theirs'")
    monkeypatch.syspath_prepend(str(tmp_path))
    theirs = importlib.import_module("beside")
    try:
        with pytest.raises(ModuleNotFoundError, match="nowhere"), CODE.importable():
            importlib.import_module("nowhere" if imported("beside") == 1 else "beside")
        assert importlib.import_module("beside") is theirs
    finally:
        del sys.modules["beside"]


def test_blocks_of_two_threads_wait_for_each_other() -> None:
    seen, inside = [], threading.Event()

    def other() -> None:
        inside.wait()
        with OwnCode({"beside.py": "value = 2"}).importable():
            seen.append(imported("beside"))

    thread = threading.Thread(target=other)
    thread.start()
    with CODE.importable():
        inside.set()
        thread.join(0.05)
        seen.append(imported("beside"))
    thread.join()
    assert seen == [1, 2]


def test_an_error_names_the_module_and_the_line() -> None:
    with OwnCode({"broken.py": "x = 1\nx = 1 +"}).importable(), pytest.raises(SyntaxError) as error:
        importlib.import_module("broken")
    assert (error.value.filename, error.value.lineno) == ("<own code>/broken.py", 2)


paths = st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}\.py", fullmatch=True)


@given(st.dictionaries(paths, st.text()))
def test_the_same_modules_give_the_same_bytes_and_come_back(files: dict[str, str]) -> None:
    code = OwnCode(files)
    assert OwnCode(dict(reversed(files.items()))).to_bytes() == code.to_bytes()
    assert OwnCode.from_bytes(code.to_bytes()) == code


def test_without_modules_nothing_is_prepared() -> None:
    before = list(sys.meta_path)
    with NO_CODE.importable():
        assert sys.meta_path == before


@pytest.mark.parametrize("files", [{"a.py": "#" * (LARGEST + 1)}, {f"m{i}.py": "" for i in range(MOST + 1)}])
def test_too_much_code_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="limited to"):
        OwnCode(files).to_bytes()


def test_a_small_archive_that_unpacks_to_a_large_one_is_refused_unread() -> None:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", "#" * (LARGEST + 1))
    with pytest.raises(BadInput, match="limited to"):
        OwnCode.from_bytes(file.getvalue())


@given(st.integers(0, len(CODE.to_bytes()) - 1), st.integers(1, 255))
def test_a_damaged_archive_is_refused_or_gives_modules(place: int, flip: int) -> None:
    data = bytearray(CODE.to_bytes())
    data[place] ^= flip
    with suppress(BadInput):  # any other error fails the test
        assert all(isinstance(source, str) for source in OwnCode.from_bytes(bytes(data)).files.values())


@pytest.mark.parametrize("data", [b"", b"no archive", CODE.to_bytes()[:-30]])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        OwnCode.from_bytes(data)
