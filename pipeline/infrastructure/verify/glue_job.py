"""Verify the Glue job: that it is configured correctly, and that it writes a run's data sets to the right place.

It starts a job run of its own, which reads what waits in incoming/ (as any run does) and writes train and test sets
under runs/verify-.../; those are removed afterwards. If the configuration is wrong, nothing is started.
"""

import argparse
import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pipeline.definition.glue_statuses import ENDED
from pipeline.infrastructure.names import DATABASES, Output
from pipeline.infrastructure.verify.system import DeployedSystem
from processing.aws_client import client
from processing.errors import NotFound

WAIT_SECONDS = 1800.0
SWITCHES = ("--enable-auto-scaling", "--enable-metrics", "--enable-continuous-cloudwatch-log")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the check's own options."""
    parser.add_argument("--settle", type=float, default=0.0, help="seconds to wait for its record, in an emulator")


def check(system: DeployedSystem) -> None:
    """The configuration, then a job run."""
    _check_configuration(system)
    if system.sound:
        _check_job_run(system)
    else:
        system.expect("a test data set is written", False, "not tried: the configuration is wrong")


def _check_configuration(system: DeployedSystem) -> None:
    job = client("glue").get_job(JobName=system.outputs[Output.GLUE_JOB_NAME])["Job"]
    arguments = job["DefaultArguments"]
    system.expect("it runs on Glue 5.1, which is Spark 3.5.6", job["GlueVersion"] == "5.1", job["GlueVersion"])
    command = (job["Command"]["Name"], job["Command"]["PythonVersion"])
    system.expect("it is a PySpark job", command == ("glueetl", "3"), command)
    system.expect("it has its own role", job["Role"] == system.outputs[Output.FEATURE_JOB_ROLE], job["Role"])
    off = [switch for switch in SWITCHES if arguments.get(switch) != "true"]
    system.expect("auto-scaling, metrics and logs are on", not off, f"off: {', '.join(off)}")
    most = job.get("ExecutionProperty", {}).get("MaxConcurrentRuns", 1)  # 1 is the service's default
    system.expect("it runs once at a time", most == 1, most)
    system.expect("its output is encrypted", job.get("SecurityConfiguration"), "no security configuration")
    for name, output in (("--home", Output.HOME_URL), ("--online-table", Output.ONLINE_TABLE)):
        system.expect(f"{name} is the deployment's", arguments.get(name) == system.outputs[output], arguments.get(name))
    for what, address in (("script", job["Command"]["ScriptLocation"]), ("package", arguments["--extra-py-files"])):
        with system.asking(f"its {what} exists"):
            parts = urlsplit(address)
            client("s3").head_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
            system.expect(f"its {what} exists", True)
    for database in DATABASES:
        with system.asking(f"the database {database} exists"):
            client("glue").get_database(Name=database)
            system.expect(f"the database {database} exists", True)


def _check_job_run(system: DeployedSystem) -> None:
    glue, job = client("glue"), system.outputs[Output.GLUE_JOB_NAME]
    run = f"verify-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    job_run = glue.start_job_run(JobName=job, Arguments={"--run": run})["JobRunId"]

    def final_state() -> str | None:
        state: str = glue.get_job_run(JobName=job, RunId=job_run)["JobRun"]["JobRunState"]
        return state if state in ENDED else None

    state = system.wait_for(final_state, WAIT_SECONDS)
    system.expect("a job run succeeds", state == "SUCCEEDED", f"{job_run} is {state or 'still running'}")
    record = f"runs/{run}/features.json"
    system.wait_for(lambda: system.home.entries(record), system.options.settle)
    try:
        features = json.loads(system.home.read(record))
    except NotFound:
        system.expect("a test data set is written", False, f"there is no {record}; see the job run {job_run}")
        return
    for name in ("train", "test"):
        url = system.home.url_of(f"runs/{run}/{name}")
        files = [entry.key for entry in system.home.entries(f"runs/{run}/{name}/") if entry.key.endswith(".parquet")]
        right = features[f"{name}_url"] == url and files
        system.expect(f"its {name} set is at {url}", right, f"{features[f'{name}_url']}, {len(files)} files")
    system.home.remove(f"runs/{run}/")
