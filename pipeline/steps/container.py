"""A step's view of its container, under SageMaker's contract.

In a SageMaker job everything is under /opt/ml; in a local run the environment variable ML_ROOT names another folder.
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from processing.errors import BadInput, FraudlineError
from processing.tracebacks import error_summary, redacted_traceback

MESSAGE_LIMIT = 1024  # characters of a failure that SageMaker stores


def root() -> Path:
    """The folder of a job's inputs and outputs."""
    return Path(os.environ.get("ML_ROOT", "/opt/ml"))


def hyperparameters() -> dict[str, str]:
    """A training job's hyperparameters. SageMaker passes every value as text."""
    path = root() / "input/config/hyperparameters.json"
    values: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return values


def channel(name: str) -> Path:
    """The folder of a training job's input channel. Raises BadInput if the job has no such channel."""
    folder = Path(os.environ.get(f"SM_CHANNEL_{name.upper()}", root() / "input/data" / name))
    if not folder.is_dir():
        raise BadInput(f"the training job has no channel {name!r}: {folder} does not exist")
    return folder


def model_dir() -> Path:
    """The folder in which a training job leaves its model."""
    return Path(os.environ.get("SM_MODEL_DIR", root() / "model"))


def processing_path(name: str) -> Path:
    """The folder of a processing job's input or output."""
    return root() / "processing" / name


def fail(message: str) -> NoReturn:
    """End the job as failed; the message becomes its failure reason."""
    _report(message)
    sys.exit(1)


@contextmanager
def reported_failures() -> Iterator[None]:
    """End the job as failed if the block raises. Only an unexpected error prints a traceback."""
    try:
        yield
    except FraudlineError as error:
        fail(str(error))
    except Exception as error:
        print(redacted_traceback(error), file=sys.stderr)
        _report(f"it ended unexpectedly: {error_summary(error)}; its log has the traceback")
        raise SystemExit(1) from error


def _report(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    folder = root() / "output"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("failure", "message"):  # SageMaker reads the first from training jobs, the second from processing jobs
        (folder / name).write_text(message[:MESSAGE_LIMIT], encoding="utf-8")
