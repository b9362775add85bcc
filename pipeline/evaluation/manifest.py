"""A version's manifest.json: where the model comes from."""

import json
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.evaluation.run_rows import RunRows
from pipeline.registry.requirements import library_versions
from pipeline.scorer.bundle import ModelBundle
from processing.errors import NotFound
from processing.storage.home import Home


def manifest_of(rows: RunRows, bundle: ModelBundle) -> dict[str, Any]:
    """The manifest of a run's model: the record of its training, and what else a reader needs to trust the model."""
    training, contract, test = bundle.training, rows.contract, rows.test
    about = {key: value for key, value in training.items() if key not in ("data_digest", "rows", "frauds", "strengths")}
    return {
        **about,
        "contract": {"name": contract.name, "digest": contract.digest, "text": contract.text},
        "evaluated_with": library_versions(),
        "rows": {"train": training["rows"], "test": test.rows},
        "frauds": {"train": training["frauds"], "test": test.frauds},
        "data_digests": {"train": training["data_digest"], "test": test.digest},
        "data": _data(rows.home, rows.run),
        "run": rows.run,
        "code_revision": code_revision(),
        "scorer": bundle.kind,
        "code": bundle.code.digest if bundle.code.files else None,
    }


def _data(home: Home, run: str) -> dict[str, Any] | None:
    """What the feature job recorded about the run's data; None if it recorded nothing."""
    try:
        document: dict[str, Any] = json.loads(home.read(f"runs/{run}/features.json"))
        return document
    except NotFound:
        return None


def code_revision() -> str:
    """The revision of the running code, as `git describe` names it.

    An image, which has no repository, has it in FRAUDLINE_CODE_REVISION; otherwise it is the package's version.
    """
    if built := os.environ.get("FRAUDLINE_CODE_REVISION"):
        return built
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return described.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        try:
            return version("fraudline")
        except PackageNotFoundError:
            return "unknown"
