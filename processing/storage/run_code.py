"""An experiment's own code on its way into a run: stored once under its digest, then delivered to the run's steps.

    code/<digest>.zip        an archive, as `pipeline.estimators.own_code` reads it
    runs/<run>/code/code.zip  that of a run; of a run without own code an empty one, because a channel needs a file

Here it is bytes; only training, and what an operator allows to load joblib models, imports it.
"""

import hashlib
import re
from contextlib import suppress
from io import BytesIO
from zipfile import ZipFile

from processing.errors import BadInput, Conflict, Damaged, NotFound
from processing.storage.home import Home

CODE_FILE = "code.zip"
DIGEST = re.compile(r"[0-9a-f]{64}")


def store_code(home: Home, archive: bytes) -> str:
    """Store an archive in a home; its SHA-256, by which a run names it."""
    digest = hashlib.sha256(archive).hexdigest()
    with suppress(Conflict):  # it is stored already
        home.write_if(_key(digest), archive, None)
    return digest


def load_code(home: Home, digest: str) -> bytes:
    """The archive of that digest; for "" an empty one.

    Raises BadInput for a digest that the home has no archive of, and Damaged if the archive has another one.
    """
    if not digest:
        return _empty()
    if not DIGEST.fullmatch(digest):
        raise BadInput(f"the parameter Code is {digest!r}, expected the SHA-256 of an archive in {home.url_of('code')}")
    try:
        archive = home.read(_key(digest))
    except NotFound:
        raise BadInput(f"there is no {home.url_of(_key(digest))}; start the run from where the code is") from None
    if hashlib.sha256(archive).hexdigest() != digest:
        raise Damaged(f"{home.url_of(_key(digest))} is not the archive of that digest; delete it and start again")
    return archive


def deliver_code(home: Home, run: str, archive: bytes) -> str:
    """Put a run's archive into its folder; the address of the folder that holds nothing else."""
    home.write(f"runs/{run}/code/{CODE_FILE}", archive)
    return home.url_of(f"runs/{run}/code")


def _empty() -> bytes:
    file = BytesIO()
    with ZipFile(file, "w"):
        pass
    return file.getvalue()


def _key(digest: str) -> str:
    return f"code/{digest}.zip"
