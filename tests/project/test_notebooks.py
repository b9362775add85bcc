"""The notebooks run from top to bottom, one after the other, over the small home that the first of them makes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from places import ROOT

from pipeline.registry.registry import Registry
from processing.storage.open import open_home

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

pytestmark = [pytest.mark.notebooks, pytest.mark.spark, pytest.mark.slow]


class ThisPython(AsyncKernelManager):
    """A kernel of the Python that runs the tests, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, language="python", display_name="Python 3")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the notebooks find or make their home."""
    folder = tmp_path_factory.mktemp("notebooks") / "home"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FRAUDLINE_HOME", str(folder))
        patched.setenv("PYTHONPATH", str(FOLDER.parent))
        yield folder


def ran(path: Path) -> tuple[str, int]:
    """What a notebook prints, and how many pictures it draws."""
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, km=ThisPython(), timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), pictures


def test_the_notebooks_run_and_end_with_another_model_and_a_rollback(home: Path) -> None:
    explored, pictures = ran(NOTEBOOKS[0])
    assert "label delay of 3 days" in explored
    assert pictures == 2
    registry = Registry(open_home(home))
    first = registry.latest()
    assert first is not None

    experiment, pictures = ran(NOTEBOOKS[1])
    assert "the champion is beaten" in experiment
    assert pictures == 1
    second = registry.latest()
    assert second is not None
    assert second.previous == (first.version,)

    runs, pictures = ran(NOTEBOOKS[2])
    assert f"{second.version} serves again: rollback from" in runs
    assert pictures == 1
    assert len(registry.names()) == 3
    assert open_home(home).folders("runs/")[2:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_its_outputs(path: Path) -> None:
    cells = nbformat.read(path, 4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
