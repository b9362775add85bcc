"""How Spark reads and writes a home's files: in the home itself, or through copies on this machine.

Under Glue Spark reads and writes s3:// itself. A laptop's Spark cannot, and no connector is downloaded for it: files of
a home in S3 are downloaded through boto3, and what Spark writes is uploaded before any commit. Spark sees a home on
this machine through a link in the run's scratch folder, so that no character in the home's own name is special to it.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from processing.errors import BadInput
from processing.storage.home import Home
from processing.storage.local import LocalHome
from processing.storage.open import open_home
from processing.storage.scratch import scratch_folder

PATTERN = re.compile(r"([\[\]{}*?\\])")


class SparkFiles:
    """The files of one run: their keys in the home, and the paths (or addresses in S3) by which Spark has them.

    `scratch` is a path that Spark's tasks and this process can write to and read. Raises FraudlineError when the home
    does not answer.
    """

    def __init__(self, home: Home, run: str, folder: Path, *, direct: bool) -> None:
        if "," in str(folder):
            raise BadInput(f"Spark cannot work in {folder}: its name has a comma; set TMPDIR to another folder")
        self.home, self.folder, self.direct = home, folder, direct
        self._link = Path(tempfile.mkdtemp(dir=folder), "home")
        if isinstance(home, LocalHome):
            self._link.symlink_to(home.folder)
        here = isinstance(home, LocalHome) or not direct
        self._scratch_key = None if here else f"runs/{run}/scratch"
        self.scratch = home.url_of(self._scratch_key) if self._scratch_key else str(folder)

    def task_path(self, key: str, path: Path) -> str:
        """The path by which a task opens a file of the home; `path` is its copy on this machine."""
        return self.home.url_of(key) if self._scratch_key else str(path)

    def read_paths(self, keys: Iterable[str]) -> list[str]:
        """The paths by which Spark reads files of the home."""
        return [self._path(key) if self.direct else str(self._downloaded(key)) for key in keys]

    def _path(self, key: str) -> str:
        return str(self._link / key) if isinstance(self.home, LocalHome) else self.home.url_of(key)

    def _downloaded(self, key: str) -> Path:
        path = self._copy(key)
        if not path.exists():  # a file of a table never changes
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.home.local_file(key) as downloaded:
                shutil.move(downloaded, path)
        return path

    def _copy(self, key: str) -> Path:
        return self.folder / "staged" / key

    def write_path(self, key: str) -> str:
        """Where Spark writes what is to be published under a key."""
        return self._path(key) if self.direct else str(self._copy(key))

    def publish(self, key: str) -> list[str]:
        """Store what Spark wrote to `write_path(key)` under the key; the keys of its Parquet files."""
        if not self.direct:
            written = self._copy(key)
            for path in sorted(written.rglob("*.parquet")):
                self.home.upload(path, f"{key}/{path.relative_to(written).as_posix()}")
        return [entry.key for entry in self.home.entries(f"{key}/") if entry.key.endswith(".parquet")]

    def discard(self, key: str) -> None:
        """Remove everything that was published under a key."""
        self.home.remove(f"{key}/")

    def close(self) -> None:
        """Remove what tasks left in the home. The caller removes what is on this machine."""
        if self._scratch_key:
            self.home.remove(f"{self._scratch_key}/")


def open_spark_files(home: Home, run: str, folder: Path, spark: SparkSession) -> SparkFiles:
    """The files of a run for a session. `folder` of this machine is for copies; the caller removes it."""
    return SparkFiles(home, run, folder, direct=isinstance(home, LocalHome) or can_read_s3(spark))


def can_read_s3(spark: SparkSession) -> bool:
    """Whether the session has a file system for s3:// addresses."""
    from py4j.protocol import Py4JJavaError

    context = spark.sparkContext
    systems = context._jvm.org.apache.hadoop.fs.FileSystem  # type: ignore[union-attr]
    try:
        systems.getFileSystemClass("s3", context._jsc.hadoopConfiguration())
    except Py4JJavaError:  # there is none
        return False
    return True


def read_parquet(spark: SparkSession, paths: Iterable[str], schema: pa.Schema) -> DataFrame:
    """The rows of the Parquet files at these paths."""
    reader = spark.read.schema(from_arrow_schema(schema)).option("recursiveFileLookup", "true")
    escaped = [as_spark_path(path) for path in paths]
    return reader.parquet(*escaped) if escaped else spark.createDataFrame([], from_arrow_schema(schema))


def as_spark_path(path: str) -> str:
    """A path or an address in S3 for Spark to read, with the characters escaped that Spark takes for a pattern."""
    return path if path.startswith("s3://") else "file://" + PATTERN.sub(r"\\\1", path)


@contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """The file at a path or an address in S3 as a local one, wherever this runs: also in a task on another machine."""
    if path.startswith("s3://"):
        folder, name = path.rsplit("/", 1)
        with open_home(folder).local_file(name) as local:
            yield local
    else:
        yield Path(path)


def move_to(file: Path, path: str) -> None:
    """Move a local file to a path or an address in S3."""
    if path.startswith("s3://"):
        folder, name = path.rsplit("/", 1)
        open_home(folder).upload(file, name)
        file.unlink()
    else:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target)


@contextmanager
def local_parquet_files(path: str) -> Iterator[list[Path]]:
    """The Parquet files below a path or an address in S3, as local files while the `with` block runs."""
    if not path.startswith("s3://"):
        yield sorted(Path(path).rglob("*.parquet"))
        return
    home = open_home(path)
    with scratch_folder("parquet") as folder:
        for i, entry in enumerate(home.entries("")):
            if entry.key.endswith(".parquet"):
                with home.local_file(entry.key) as local:
                    shutil.move(local, folder / f"{i:05}.parquet")
        yield sorted(folder.iterdir())
