"""Other ways to serve the same model, each in its own virtual environment in the user's cache folder."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pipeline.benchmarks.serving.servers import Server
from processing.errors import BadInput, RunFailed
from processing.processes import children

FOLDER = Path(__file__).parent / "peers"
ROOT = Path(__file__).parents[3]  # peers unpickle the model's transformer from here
SPARK = "spark"  # the previous system; it runs in this environment, which has PySpark
NAMES = ("mlflow", "bentoml", "flask", SPARK)
PATH, INPUTS = "/invocations", "inputs"


def chosen(names: str) -> list[str]:
    """The peers for `all`, `none` or a list such as `mlflow,spark`. Raises BadInput."""
    if names in ("all", "none"):
        return list(NAMES) if names == "all" else []
    selected = [name.strip() for name in names.split(",")]
    if unknown := [name for name in selected if name not in NAMES]:
        raise BadInput(f"--peers: unknown peer {unknown[0]!r}; known: all, none, {', '.join(NAMES)}")
    return selected


def peer(name: str, model: Path, console: Console) -> Server:
    """A peer that serves a model file. Sets up its environment the first time. Raises RunFailed if that fails."""
    python = sys.executable if name == SPARK else str(peer_environment(name, console) / "bin" / "python")
    commands = {
        "mlflow": [python, str(FOLDER / "mlflow_model.py")],
        "bentoml": [
            *(python, "-m", "bentoml", "serve", "bento_service:Fraud", "--working-dir", str(FOLDER)),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ],
        "flask": [
            *(python, "-m", "gunicorn", "flask_app:app", "--chdir", str(FOLDER), "--bind", "127.0.0.1:{port}"),
            *("--workers", "1", "--worker-class", "gthread", "--threads", "4"),
        ],
        SPARK: [python, str(FOLDER / "spark_app.py")],
    }
    variables = {"MODEL": str(model), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"}
    ready = "/readyz" if name == "bentoml" else "/ping"
    server = Server(name, commands[name], PATH, INPUTS, ready, variables)
    if name == SPARK:  # a request occupies all cores for much of a second, so more callers would only wait
        return replace(server, max_requests=50, max_callers=1)
    return server


def peer_environment(name: str, console: Console) -> Path:
    """The virtual environment with a peer's pinned requirements, created if it does not exist."""
    requirements = FOLDER / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "fraudline" / f"{name}-{digest}"
    if (folder / "ready").exists():
        return folder
    console.print(f"setting up {name} in {folder} (first time only)")
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "bin" / "python"
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        try:
            _run([sys.executable, "-m", "uv", "pip", "install", "--python", str(python), "-r", str(requirements)])
        except subprocess.CalledProcessError:  # uv is not installed or cannot reach the packages
            _run([str(python), "-m", "pip", "install", "-r", str(requirements)])
    except (subprocess.SubprocessError, OSError) as error:
        message = getattr(error, "stderr", "") or str(error)
        raise RunFailed(f"cannot set up the environment of {name}: {message.strip().splitlines()[-1]}") from None
    (folder / "ready").touch()
    return folder


def _run(command: list[str]) -> None:
    children.run(command, timeout=1800, env={**os.environ, "PYTHONSAFEPATH": "1"}).check_returncode()
