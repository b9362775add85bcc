"""An estimator is packed with the modules beside it that it imports, and with nothing else."""

from pathlib import Path

import pytest

from pipeline.estimators.own_code import NO_CODE, OwnCode
from pipeline.runs.own_code import pack, with_own_code
from processing.errors import BadInput
from processing.storage.open import open_home
from processing.storage.run_code import load_code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of modules as a notebook has beside it."""
    files = {
        "forest.py": "import json, numpy.random\nfrom helpers.amounts import scale\ndef make(h):\n    import chosen\n",
        "chosen.py": "from helpers import amounts\nimport forest\n",
        "unused.py": "import chosen\n",
        "helpers/__init__.py": "",
        "helpers/amounts.py": "from . import more\n",
        "helpers/more.py": "from .. import unused\n",
        "helpers/.cache/old.py": "1",
        "helpers/notes.txt": "no code",
        "json.py": "raise SystemError('the standard library has this one')",
        "numpy/__init__.py": "raise SystemError('it is installed')",
    }
    for name, text in files.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "mine"


PACKED = {"forest.py", "chosen.py", "helpers/__init__.py", "helpers/amounts.py", "helpers/more.py"}


def test_a_file_is_packed_with_what_it_needs(folder: Path) -> None:
    estimator, code = pack(f"{folder}/forest.py:make")
    assert estimator == "forest:make"
    assert set(code.files) == PACKED
    assert code.files["chosen.py"] == (folder / "chosen.py").read_text()


def test_a_module_on_the_path_is_the_same_as_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    assert pack("forest:make") == pack(f"{folder}/forest.py:make")
    assert pack("helpers.amounts:scale") == ("helpers.amounts:scale", pack(f"{folder}/helpers:scale")[1])


def test_a_package_is_packed_whole_and_a_relative_path_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    estimator, code = pack("./helpers:scale")
    assert (estimator, set(code.files)) == ("helpers:scale", {name for name in PACKED if name.startswith("helpers")})


@pytest.mark.parametrize("estimator", ["pipeline.estimators.trees:trees", "sklearn.linear_model:LogisticRegression"])
def test_what_the_image_has_brings_nothing(estimator: str) -> None:
    assert pack(estimator) == (estimator, NO_CODE)


def test_a_module_that_is_not_here_may_be_in_the_image() -> None:
    assert pack("nowhere.at_all:make", only_here=False) == ("nowhere.at_all:make", NO_CODE)
    with pytest.raises(BadInput, match="no module 'nowhere'"):
        pack("nowhere.at_all:make")


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ("forest", "names no factory"),
        ("forest.py:", "names no factory"),
        ("{folder}/woods.py:make", "no file or package"),
        ("{folder}/helpers/notes.txt:make", "no file or package"),
        ("{folder}/json.py:make", r"rename json\.py"),
        ("{folder}/broken.py:make", r"broken\.py is not Python that can be read: .*line 2"),
    ],
)
def test_what_cannot_be_packed_is_refused(folder: Path, estimator: str, message: str) -> None:
    (folder / "broken.py").write_text("a = 1\nb = (")
    with pytest.raises(BadInput, match=message):
        pack(estimator.format(folder=folder))


def test_a_run_names_its_code_by_digest_and_the_home_has_it(folder: Path, tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    given = {"Estimator": f"{folder}/forest.py:make", "MaxIterations": "3"}
    parameters = with_own_code(home, given)
    code = OwnCode.from_bytes(load_code(home, parameters["Code"]))
    assert parameters == {"Estimator": "forest:make", "MaxIterations": "3", "Code": code.digest}
    assert set(code.files) == PACKED
    assert with_own_code(home, given) == parameters  # again
    assert with_own_code(home, parameters) == parameters  # it is packed already
    assert with_own_code(home, {"MaxIterations": "3"}) == {"MaxIterations": "3"}
