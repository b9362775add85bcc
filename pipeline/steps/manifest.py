"""What a version's manifest.json says of a model's origin."""

import json
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.data.dataset import Dataset
from pipeline.training.fit import library_versions
from processing.contract import Contract
from processing.errors import NotFound
from processing.storage.home import Home


def manifest_of(home: Home, run: str, contract: Contract, training: dict[str, Any], test: Dataset) -> dict[str, Any]:
    """The manifest of a run's model: what training recorded, and what a reader needs besides to trust the model."""
    about = {key: value for key, value in training.items() if key not in ("data_digest", "rows", "frauds", "strengths")}
    return {
        **about,
        "contract": {"name": contract.name, "digest": contract.digest, "text": contract.text},
        "evaluated_with": library_versions(),
        "rows": {"train": training["rows"], "test": test.rows},
        "frauds": {"train": training["frauds"], "test": test.frauds},
        "data_digests": {"train": training["data_digest"], "test": test.digest},
        "data": _data(home, run),
        "run": run,
        "code_revision": code_revision(),
    }


def _data(home: Home, run: str) -> dict[str, Any] | None:
    """What the feature job recorded about the run's data, if it did."""
    try:
        document: dict[str, Any] = json.loads(home.read(f"runs/{run}/features.json"))
        return document
    except NotFound:
        return None


def code_revision() -> str:
    """What `git describe` calls the code that runs.

    An image, which has no repository, names it in FRAUDLINE_CODE_REVISION; else it is the installed package's version.
    """
    if built := os.environ.get("FRAUDLINE_CODE_REVISION"):
        return built
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--tags"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        try:
            return version("fraudline")
        except PackageNotFoundError:
            return "unknown"
