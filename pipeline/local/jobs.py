"""Training and processing jobs on this machine: each runs its command in a folder laid out like a container's /opt/ml.

The environment variable ML_ROOT names the folder, see `pipeline.steps.container`.
"""

import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any

from pipeline.local.step_process import run_process
from pipeline.local.transfer import download, upload
from processing.errors import BadInput, NotFound, RunFailed
from processing.processes import children

CONTAINER_ROOT = PurePosixPath("/opt/ml")
SEE_LOG = "its log may say why"  # the log is not quoted, since it may contain card data


class JobFailed(RunFailed):
    """The job's command ended with an exit code other than 0, its `code`. The message is its failure reason.

    `exit_code` is that of the `fraudline` command, which ends with this error.
    """

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Job:
    """Where and how one job runs.

    folder: the step's folder; log: the file for the command's output
    python: the interpreter for `python3` in a command; stopping: set to end the job
    """

    name: str
    folder: Path
    log: Path
    python: str
    stopping: Event

    @property
    def root(self) -> Path:
        """The folder in place of /opt/ml."""
        return self.folder / "ml"


def run_training_job(job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run a CreateTrainingJob request. Returns the response of DescribeTrainingJob. Raises JobFailed."""
    algorithm = request["AlgorithmSpecification"]
    output = request["OutputDataConfig"]
    channels = {}
    for channel in request.get("InputDataConfig", []):
        folder = job.root / "input/data" / channel["ChannelName"]
        _download(_s3(channel["DataSource"], "S3DataSource"), folder, f"the channel {channel['ChannelName']}")
        channels[channel["ChannelName"]] = folder
    hyperparameters = request.get("HyperParameters", {})
    _write(job.root / "input/config/hyperparameters.json", {k: str(v) for k, v in hyperparameters.items()})
    config = {
        name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        for name in channels
    }
    _write(job.root / "input/config/inputdataconfig.json", config)
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
        upload(_tar(job.root / "output/data", job.folder / "output.tar.gz"), f"{target}/output.tar.gz")
    if output.get("CompressionType") == "NONE":
        artifacts = f"{target}/model/"
        upload(job.root / "model", artifacts)
    else:
        artifacts = f"{target}/model.tar.gz"
        upload(_tar(job.root / "model", job.folder / "model.tar.gz"), artifacts)
    return {
        **request,
        "TrainingJobName": job.name,
        "TrainingJobArn": f"arn:aws:sagemaker:local:000000000000:training-job/{job.name}",
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": artifacts},
    }


def run_processing_job(job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run a CreateProcessingJob request. Returns the response of DescribeProcessingJob. Raises JobFailed."""
    for job_input in request.get("ProcessingInputs", []):
        source = _s3(job_input, "S3Input")
        _download(source, _local(job, source["LocalPath"]), f"the input {job_input['InputName']}")
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    for output in outputs:
        _local(job, output["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
    (job.root / "output").mkdir(parents=True, exist_ok=True)
    _write(job.root / "config/processingjobconfig.json", {**request, "ProcessingJobName": job.name})
    _write(job.root / "config/resourceconfig.json", _resources())
    _run(job, request["AppSpecification"], {}, request.get("Environment", {}))

    for output in outputs:
        upload(_local(job, output["S3Output"]["LocalPath"]), output["S3Output"]["S3Uri"])
    return {
        **request,
        "ProcessingJobName": job.name,
        "ProcessingJobArn": f"arn:aws:sagemaker:local:000000000000:processing-job/{job.name}",
        "ProcessingJobStatus": "Completed",
        "ExitMessage": _message(job, "message") or "",
    }


def _run(job: Job, program: Mapping[str, Any], contract: Mapping[str, str], environment: Mapping[str, str]) -> None:
    command = [*program.get("ContainerEntrypoint", []), *program.get("ContainerArguments", [])]
    if not command:
        raise BadInput(f"{job.name} has no ContainerEntrypoint; a local run cannot read the image's own")
    variables = {**children.child_environment({**os.environ, **environment}), **contract, "ML_ROOT": str(job.root)}
    if command[1:2] != ["-m"]:  # a script imports the modules beside it, as in a container
        del variables["PYTHONSAFEPATH"]
    if command[0] in ("python", "python3"):
        command[0] = job.python
    end = run_process(command, job.folder, variables, job.log, job.stopping)
    if end.code != 0:
        raise JobFailed(
            _message(job, "failure") or _message(job, "message") or f"the command {end}; {SEE_LOG}", end.code
        )


def _message(job: Job, name: str) -> str | None:
    path = job.root / "output" / name
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None


def _s3(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The S3 part of an input. Raises BadInput for one that a local run does not support."""
    s3: Mapping[str, Any] = source.get(key, {})
    if not s3 or s3.get("S3DataType", "S3Prefix") != "S3Prefix":
        raise BadInput(f"a local run only supports inputs of S3DataType S3Prefix, not {dict(source)}")
    return s3


def _download(source: Mapping[str, Any], folder: Path, what: str) -> None:
    try:
        download(source["S3Uri"], folder)
    except NotFound as error:
        raise NotFound(f"{what}: {error}") from None


def _local(job: Job, path: str) -> Path:
    """The path on this machine for a path in the container."""
    pure = PurePosixPath(path)
    if not pure.is_relative_to(CONTAINER_ROOT) or ".." in pure.parts:
        raise BadInput(f"{path} is not below {CONTAINER_ROOT}; a local run supports no other folder of the container")
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
