"""Training and processing jobs on this machine: the step's own command, in a folder laid out like a container.

The folder stands for /opt/ml; the environment variable ML_ROOT names it. See `pipeline.steps.container`.
"""

import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any

from pipeline.local.child import run_process
from pipeline.local.staging import deliver, fetch
from processing.errors import BadInput, NotFound, RunFailed
from processing.processes import children

CONTAINER_ROOT = PurePosixPath("/opt/ml")
WHY = "its log may say why"  # which is not quoted: it may hold values of the rows


class JobFailed(RunFailed):
    """The job's command ended with an exit code other than 0, its `code`. The message is its failure reason.

    (`exit_code` is another matter: that of the `fraudline` command which ends by this error.)
    """

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Job:
    """Where and how one job runs.

    folder: the step's folder; log: the file that the command's output goes to
    python: what `python3` means in a command; stopping: set by whoever wants the job to end
    """

    name: str
    folder: Path
    log: Path
    python: str
    stopping: Event

    @property
    def root(self) -> Path:
        """What stands for /opt/ml."""
        return self.folder / "ml"


def train(job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run a CreateTrainingJob request; what DescribeTrainingJob would say of it. Raises JobFailed."""
    algorithm = request["AlgorithmSpecification"]
    output = request["OutputDataConfig"]
    channels = {}
    for channel in request.get("InputDataConfig", []):
        folder = job.root / "input/data" / channel["ChannelName"]
        _fetch(_s3(channel["DataSource"], "S3DataSource"), folder, f"the channel {channel['ChannelName']}")
        channels[channel["ChannelName"]] = folder
    hyperparameters = request.get("HyperParameters", {})
    _write(job.root / "input/config/hyperparameters.json", {k: str(v) for k, v in hyperparameters.items()})
    described = {
        name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        for name in channels
    }
    _write(job.root / "input/config/inputdataconfig.json", described)
    _write(job.root / "input/config/resourceconfig.json", _resources())
    for folder in ("model", "output/data"):
        (job.root / folder).mkdir(parents=True, exist_ok=True)
    environment = {
        "TRAINING_JOB_NAME": job.name,
        "SM_MODEL_DIR": str(job.root / "model"),
        "SM_OUTPUT_DATA_DIR": str(job.root / "output/data"),
        "SM_HPS": json.dumps(hyperparameters),
        "SM_CHANNELS": json.dumps(sorted(channels)),
        **{f"SM_CHANNEL_{name.upper()}": str(folder) for name, folder in channels.items()},
    }
    _run(job, algorithm, environment, request.get("Environment", {}))

    target = f"{output['S3OutputPath'].rstrip('/')}/{job.name}/output"
    if any((job.root / "output/data").iterdir()):
        deliver(_tar(job.root / "output/data", job.folder / "output.tar.gz"), f"{target}/output.tar.gz")
    if output.get("CompressionType") == "NONE":
        artifacts = f"{target}/model/"
        deliver(job.root / "model", artifacts)
    else:
        artifacts = f"{target}/model.tar.gz"
        deliver(_tar(job.root / "model", job.folder / "model.tar.gz"), artifacts)
    return {
        **request,
        "TrainingJobName": job.name,
        "TrainingJobArn": f"arn:aws:sagemaker:local:000000000000:training-job/{job.name}",
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": artifacts},
    }


def process(job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run a CreateProcessingJob request; what DescribeProcessingJob would say of it. Raises JobFailed."""
    for given in request.get("ProcessingInputs", []):
        source = _s3(given, "S3Input")
        _fetch(source, _inside(job, source["LocalPath"]), f"the input {given['InputName']}")
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    for output in outputs:
        _inside(job, output["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
    (job.root / "output").mkdir(parents=True, exist_ok=True)
    _write(job.root / "config/processingjobconfig.json", {**request, "ProcessingJobName": job.name})
    _write(job.root / "config/resourceconfig.json", _resources())
    _run(job, request["AppSpecification"], {}, request.get("Environment", {}))

    for output in outputs:
        deliver(_inside(job, output["S3Output"]["LocalPath"]), output["S3Output"]["S3Uri"])
    return {
        **request,
        "ProcessingJobName": job.name,
        "ProcessingJobArn": f"arn:aws:sagemaker:local:000000000000:processing-job/{job.name}",
        "ProcessingJobStatus": "Completed",
        "ExitMessage": _said(job, "message") or "",
    }


def _run(job: Job, program: Mapping[str, Any], contract: Mapping[str, str], environment: Mapping[str, str]) -> None:
    command = [*program.get("ContainerEntrypoint", []), *program.get("ContainerArguments", [])]
    if not command:
        raise BadInput(f"{job.name} names no ContainerEntrypoint; a local run cannot look into an image for it")
    variables = {**children.child_environment({**os.environ, **environment}), **contract, "ML_ROOT": str(job.root)}
    if command[1:2] != ["-m"]:  # a script finds the modules beside it, as in a container
        del variables["PYTHONSAFEPATH"]
    if command[0] in ("python", "python3"):
        command[0] = job.python
    ended = run_process(command, job.folder, variables, job.log, job.stopping)
    if ended.code != 0:
        raise JobFailed(_said(job, "failure") or _said(job, "message") or f"the command {ended}; {WHY}", ended.code)


def _said(job: Job, name: str) -> str | None:
    path = job.root / "output" / name
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None


def _s3(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The S3 part of an input. Raises BadInput for what a local run does not know."""
    found: Mapping[str, Any] = source.get(key, {})
    if not found or found.get("S3DataType", "S3Prefix") != "S3Prefix":
        raise BadInput(f"a local run reads inputs of S3DataType S3Prefix only, not {dict(source)}")
    return found


def _fetch(source: Mapping[str, Any], folder: Path, what: str) -> None:
    try:
        fetch(source["S3Uri"], folder)
    except NotFound as error:
        raise NotFound(f"{what}: {error}") from None


def _inside(job: Job, path: str) -> Path:
    """Where a path of the container lies on this machine."""
    pure = PurePosixPath(path)
    if not pure.is_relative_to(CONTAINER_ROOT) or ".." in pure.parts:
        raise BadInput(f"{path} is not below {CONTAINER_ROOT}, which is all that a local run stands in for")
    return job.root / pure.relative_to(CONTAINER_ROOT)


def _resources() -> dict[str, Any]:
    return {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}


def _tar(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    return target


def _write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
