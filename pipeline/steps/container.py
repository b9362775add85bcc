"""A step's view of the container it runs in, by SageMaker's contract.

The same in a SageMaker job, where all lies under /opt/ml, and in a local run, where the environment
variable ML_ROOT names another folder.
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

MESSAGE_LIMIT = 1024  # characters of a failure that SageMaker keeps


def root() -> Path:
    """The folder of everything a job is given and leaves."""
    return Path(os.environ.get("ML_ROOT", "/opt/ml"))


def hyperparameters() -> dict[str, str]:
    """A training job's hyperparameters. SageMaker passes every value as text."""
    path = root() / "input/config/hyperparameters.json"
    values: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return values


def channel(name: str) -> Path:
    """The folder of one of a training job's inputs. Raises BadInput if the job has no such channel."""
    folder = Path(os.environ.get(f"SM_CHANNEL_{name.upper()}", root() / "input/data" / name))
    if not folder.is_dir():
        raise BadInput(f"the training job has no channel {name!r}: {folder} does not exist")
    return folder


def model_dir() -> Path:
    """Where a training job leaves its model."""
    return Path(os.environ.get("SM_MODEL_DIR", root() / "model"))


def processing_path(name: str) -> Path:
    """The folder of one of a processing job's inputs or outputs."""
    return root() / "processing" / name


def fail(message: str) -> NoReturn:
    """End the job as failed. The message becomes the job's failure reason."""
    _report(message)
    sys.exit(1)


@contextmanager
def reported_failures() -> Iterator[None]:
    """Ends the job as failed if the block raises; only what is not our own error leaves a traceback."""
    try:
        yield
    except FraudlineError as error:
        fail(str(error))
    except Exception as error:
        print(redacted_traceback(error), file=sys.stderr)
        _report(f"it ended unexpectedly: {error_summary(error)}; its log has the trace")
        raise SystemExit(1) from error


def _report(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    folder = root() / "output"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("failure", "message"):  # the one is read of training jobs, the other of processing jobs
        (folder / name).write_text(message[:MESSAGE_LIMIT], encoding="utf-8")
