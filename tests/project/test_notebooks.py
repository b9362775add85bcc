"""The notebooks run from top to bottom, one after the other, on the small home that the first one creates."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from places import ROOT

from pipeline.registry.registry import Registry
from processing.contracts.reader import of_home
from processing.storage.open import open_home

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


class ThisPython(AsyncKernelManager):
    """A kernel with the Python that runs the tests, whatever kernels are installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, language="python", display_name="Python 3")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the notebooks' home, which the first one creates."""
    folder = tmp_path_factory.mktemp("notebooks") / "home"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FRAUDLINE_HOME", str(folder))
        patched.setenv("PYTHONPATH", str(FOLDER.parent))
        yield folder


def run(path: Path) -> tuple[str, int]:
    """Run a notebook; returns what it prints and how many charts it draws."""
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, km=ThisPython(), timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    charts = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), charts


@pytest.mark.notebooks
@pytest.mark.spark
@pytest.mark.slow
def test_the_notebooks_run_and_end_with_a_new_model_and_a_rollback(home: Path) -> None:
    exploration, charts = run(NOTEBOOKS[0])
    assert "label delay of 3 days" in exploration
    assert charts == 2
    registry = Registry(open_home(home))
    first = registry.latest()
    assert first is not None

    experiment, charts = run(NOTEBOOKS[1])
    assert "customer: window '1h' is new" in experiment
    assert "the champion is beaten" in experiment
    assert charts == 2
    assert 'windows = ["1h", "1d", "7d"]' in of_home(open_home(home)).text  # the run has put the contract in force
    second = registry.latest()
    assert second is not None
    assert second.previous == (first.version,)

    runs, charts = run(NOTEBOOKS[2])
    assert f"{second.version} is serving again: rollback from" in runs
    assert charts == 1
    assert len(registry.names()) == 3
    assert open_home(home).folders("runs/")[2:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, 4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_everything_a_notebook_uses_of_our_modules_exists(path: Path) -> None:
    code = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    tree, modules = ast.parse("\n".join(code)), dict[str, object]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(("pipeline.", "processing.", "serving.")):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    modules[alias.name] = importlib.import_module(f"{node.module}.{alias.name}")
                elif isinstance(getattr(module, alias.name), ModuleType):
                    modules[alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr)
