"""The script that AWS Glue runs: makes Glue's surroundings those that `processing.job.job` expects, and runs it.

The package comes beside it as a zip file. Its contracts are files, which only a folder can hold, so it is unpacked
for the driver; executors import from the zip.
"""

import argparse
import os
import sys
import tempfile
import zipfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from pyspark.sql import SparkSession

PACKAGE = "processing/__init__.py"


def main(arguments: list[str]) -> None:
    """Run the feature job. Its error message becomes that of the job run, which is all that a listener sees of it."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--home-region", help="the AWS region of the home")
    parser.add_argument("--online-table", help="name of the DynamoDB table of the online store")
    given, _ = parser.parse_known_args(arguments)
    for name, value in (("AWS_REGION", given.home_region), ("FRAUDLINE_ONLINE_TABLE", given.online_table)):
        if value:
            os.environ[name] = value
    unpack()
    SparkSession.builder.getOrCreate()  # with the cluster's settings; the job takes the session that is active
    from processing.job.job import main as run_job

    said = StringIO()
    try:
        with redirect_stderr(said):
            code = run_job(arguments)
    finally:
        print(said.getvalue(), file=sys.stderr, end="")
    if code:
        reason = said.getvalue().rpartition("error: ")[2].strip()
        raise RuntimeError(reason or f"the feature job ended with code {code}")


def unpack() -> None:
    """Put the package as a folder ahead of the zip file that it came in."""
    for place in sys.path:
        if zipfile.is_zipfile(place) and PACKAGE in (archive := zipfile.ZipFile(place)).namelist():
            folder = Path(tempfile.mkdtemp(prefix="fraudline-package-"))
            archive.extractall(folder)
            sys.path.insert(0, str(folder))
            return


if __name__ == "__main__":
    main(sys.argv[1:])
