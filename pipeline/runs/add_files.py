"""Adds a user's files to a home's incoming/."""

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from processing.contract import Contract
from processing.contracts.home_contract import added_columns
from processing.errors import BadInput
from processing.intake.file_names import is_readable
from processing.intake.files import check_file
from processing.intake.incoming import FOLDER, SETTLE_SECONDS
from processing.storage.home import Home
from processing.storage.local import LocalHome


def add_files(home: Home, files: Sequence[Path], contract: Contract) -> None:
    """Copy files into incoming/, all or none. Raises BadInput naming the file that a run could not read."""
    for path in files:
        if not path.is_file():
            raise BadInput(f"there is no file {path}")
        if not is_readable(path.name):
            raise BadInput(f"{path}: only .csv, .csv.gz and .parquet files can be read, and no hidden ones")
        check_file(path, contract, str(path), optional=added_columns(home, contract))
    names = [path.name for path in files]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two of the files are called {name}; rename one")
        if any(entry.key == FOLDER + name for entry in home.entries(FOLDER)):
            raise BadInput(f"{home.url_of(FOLDER + name)} already waits for the next run; rename the new file")
    for path in files:
        if isinstance(home, LocalHome):
            _copy(path, home.path(FOLDER + path.name))
        else:
            home.upload(path, FOLDER + path.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, partial)
    modified = datetime.now(UTC).timestamp() - SETTLE_SECONDS  # the copy is complete, so no run has to wait for it
    os.utime(partial, (modified, modified))
    partial.rename(target)
