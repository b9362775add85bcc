"""Between Spark and a home's files: Spark reads and writes them where they lie, or copies of them on this machine.

Under Glue Spark knows s3:// itself. A laptop's Spark does not, and no connector is downloaded for it: what it reads of
a home in S3 is staged through boto3, and what it writes is uploaded, before any commit.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from processing.home import Home, LocalHome, local_path, open_home


class Staging:
    """The files of one run. `scratch` is an address that Spark's tasks and this process can write to and read.

    Raises FraudlineError when the home does not answer.
    """

    def __init__(self, home: Home, run: str, folder: Path, *, direct: bool) -> None:
        self.home, self.folder, self.direct = home, folder, direct
        on_this_machine = isinstance(home, LocalHome) or not direct
        self.scratch = folder.as_uri() if on_this_machine else home.url_of(f"runs/{run}/scratch")

    def arrived(self, key: str, path: Path) -> str:
        """What a task is told to read a file of the home by; `path` is its copy on this machine."""
        return str(path) if self.scratch.startswith("file:") else self.home.url_of(key)

    def reachable(self, files: Iterable[str]) -> list[str]:
        """The addresses by which Spark reads files of the home."""
        return list(files) if self.direct else [str(self._copy(file)) for file in files]

    def _copy(self, file: str) -> Path:
        path = self._staged(file)
        if not path.exists():  # a file of a table never changes
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.home.local_file(self.home.key_of(file)) as downloaded:
                shutil.move(downloaded, path)
        return path

    def _staged(self, address: str) -> Path:
        return self.folder / "staged" / self.home.key_of(address)

    def target(self, address: str) -> str:
        """Where Spark shall write what is to be published at an address."""
        return address if self.direct else self._staged(address).as_uri()

    def publish(self, address: str) -> list[str]:
        """Put what Spark wrote to `target(address)` there; the addresses of its Parquet files."""
        if not self.direct:
            written = self._staged(address)
            for path in sorted(written.rglob("*.parquet")):
                self.home.upload(path, f"{self.home.key_of(address)}/{path.relative_to(written).as_posix()}")
        prefix = self.home.key_of(address)
        keys = [entry.key for entry in self.home.entries(f"{prefix}/")]
        return [address + key.removeprefix(prefix) for key in keys if key.endswith(".parquet")]

    def discard(self, address: str) -> None:
        """Remove what was published at an address, all of it."""
        self.home.remove(f"{self.home.key_of(address)}/")

    def close(self) -> None:
        """Remove what tasks left in the home. What is on this machine is the caller's."""
        if not self.scratch.startswith("file:"):
            self.home.remove(f"{self.home.key_of(self.scratch)}/")


def stage(home: Home, run: str, folder: Path, spark: SparkSession) -> Staging:
    """The staging for a home and a session. `folder` of this machine is for copies, and is the caller's to remove."""
    return Staging(home, run, folder, direct=isinstance(home, LocalHome) or knows_s3(spark))


def knows_s3(spark: SparkSession) -> bool:
    """Whether the session has a file system for s3:// addresses."""
    from py4j.protocol import Py4JJavaError

    context = spark.sparkContext
    systems = context._jvm.org.apache.hadoop.fs.FileSystem  # type: ignore[union-attr]
    try:
        systems.getFileSystemClass("s3", context._jsc.hadoopConfiguration())
    except Py4JJavaError:  # there is none
        return False
    return True


@contextmanager
def at_hand(address: str) -> Iterator[Path]:
    """The file at an address as a local one, wherever this runs: also in a task on another machine."""
    if address.startswith("s3://"):
        folder, name = address.rsplit("/", 1)
        with open_home(folder).local_file(name) as path:
            yield path
    else:
        yield local_path(address)


def deliver(path: Path, address: str) -> None:
    """Move a local file to an address."""
    if address.startswith("s3://"):
        folder, name = address.rsplit("/", 1)
        open_home(folder).upload(path, name)
        path.unlink()
    else:
        target = local_path(address)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)


@contextmanager
def brought(address: str) -> Iterator[list[Path]]:
    """The Parquet files of a folder, wherever it is, on this machine for the time of a with block."""
    if not address.startswith("s3://"):
        yield sorted(local_path(address).rglob("*.parquet"))
        return
    home = open_home(address)
    with tempfile.TemporaryDirectory(prefix="fraudline-") as folder:
        for i, entry in enumerate(home.entries("")):
            if entry.key.endswith(".parquet"):
                with home.local_file(entry.key) as path:
                    shutil.move(path, Path(folder, f"{i:05}.parquet"))
        yield sorted(Path(folder).iterdir())
