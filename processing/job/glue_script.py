"""The script that AWS Glue runs: sets up what `processing.job.job` expects, and runs it.

The package comes as a zip file. Contracts are read as files, so the driver unpacks it into a folder; executors import
from the zip.
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
    """Run the feature job. Its error message becomes the job run's, the only text that a listener sees."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--home-region", help="the AWS region of the home")
    parser.add_argument("--online-table", help="name of the DynamoDB table of the online store")
    options, _ = parser.parse_known_args(arguments)
    for name, value in (("AWS_REGION", options.home_region), ("FRAUDLINE_ONLINE_TABLE", options.online_table)):
        if value:
            os.environ[name] = value
    unpack()
    SparkSession.builder.getOrCreate()  # with the cluster's settings; the job uses the active session
    from processing.job.job import main as run_job

    errors = StringIO()
    try:
        with redirect_stderr(errors):
            code = run_job(arguments)
    finally:
        print(errors.getvalue(), file=sys.stderr, end="")
    if code:
        reason = errors.getvalue().rpartition("error: ")[2].strip()
        raise RuntimeError(reason or f"the feature job ended with exit code {code}")


def unpack() -> None:
    """Unpack the package, so that the folder comes before the zip file in the module path."""
    for path in sys.path:
        if zipfile.is_zipfile(path) and PACKAGE in (archive := zipfile.ZipFile(path)).namelist():
            folder = Path(tempfile.mkdtemp(prefix="fraudline-package-"))
            archive.extractall(folder)
            sys.path.insert(0, str(folder))
            return


if __name__ == "__main__":
    main(sys.argv[1:])
