"""Verify the Glue job: configured right, and writing a run's data sets to the right place.

    python tests/verify_glue_job.py

A job run of its own takes in what waits in incoming/ (as any run does) and writes train and test sets under
runs/verify-.../, which are removed again. It is started only if the configuration is right.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit

from verification import System, verify

from processing.aws_client import client
from processing.errors import NotFound

WAIT_SECONDS = 1800.0
SWITCHES = ("--enable-auto-scaling", "--enable-metrics", "--enable-continuous-cloudwatch-log")
ENDED = ("SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT", "ERROR")


def checks(system: System) -> None:
    """The configuration, then a job run."""
    configured(system)
    if system.sound:
        performed(system)
    else:
        system.expect("a test data set is written", False, "not tried, since the configuration is not right")


def configured(system: System) -> None:
    """The job as it is defined."""
    job = client("glue").get_job(JobName=system.outputs["GlueJobName"])["Job"]
    arguments = job["DefaultArguments"]
    system.expect("it runs on Glue 5.1, which is Spark 3.5.6", job["GlueVersion"] == "5.1", job["GlueVersion"])
    command = (job["Command"]["Name"], job["Command"]["PythonVersion"])
    system.expect("it is a PySpark job", command == ("glueetl", "3"), command)
    system.expect("it works as its own role", job["Role"] == system.outputs["FeatureJobRole"], job["Role"])
    off = [switch for switch in SWITCHES if arguments.get(switch) != "true"]
    system.expect("workers scale, metrics and logs are on", not off, f"off: {', '.join(off)}")
    most = job.get("ExecutionProperty", {}).get("MaxConcurrentRuns", 1)  # the service's default
    system.expect("one run at a time", most == 1, most)
    system.expect("what it leaves is encrypted", job.get("SecurityConfiguration"), "no security configuration")
    for name, output in (("--home", "HomeUrl"), ("--online-table", "OnlineTable")):
        system.expect(f"{name} is the deployment's", arguments.get(name) == system.outputs[output], arguments.get(name))
    for what, address in (("script", job["Command"]["ScriptLocation"]), ("package", arguments["--extra-py-files"])):
        with system.asking(f"its {what} is there"):
            parts = urlsplit(address)
            client("s3").head_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))
            system.expect(f"its {what} is there", True)
    for database in ("fraudline", "fraudline_landing"):
        with system.asking(f"the database {database} is there"):
            client("glue").get_database(Name=database)
            system.expect(f"the database {database} is there", True)


def performed(system: System) -> None:
    """A job run, and what it left."""
    glue, job, run = client("glue"), system.outputs["GlueJobName"], f"verify-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    started = glue.start_job_run(JobName=job, Arguments={"--run": run})["JobRunId"]

    def ended() -> str | None:
        state: str = glue.get_job_run(JobName=job, RunId=started)["JobRun"]["JobRunState"]
        return state if state in ENDED else None

    state = system.until(ended, WAIT_SECONDS)
    system.expect("a job run succeeds", state == "SUCCEEDED", f"{started} is {state or 'still going on'}")
    record = f"runs/{run}/features.json"
    system.until(lambda: system.home.entries(record), system.options.settle)
    try:
        done = json.loads(system.home.read(record))
    except NotFound:
        system.expect("a test data set is written", False, f"there is no {record}; see the job run {started}")
        return
    for name in ("train", "test"):
        place = system.home.url_of(f"runs/{run}/{name}")
        files = [entry.key for entry in system.home.entries(f"runs/{run}/{name}/") if entry.key.endswith(".parquet")]
        right = done[f"{name}_url"] == place and files
        system.expect(f"its {name} set is at {place}", right, f"{done[f'{name}_url']}, {len(files)} files")
    system.home.remove(f"runs/{run}/")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--settle", type=float, default=0.0, help="seconds to wait for its record, in an emulator")
    sys.exit(verify(str(__doc__), checks, parser))
