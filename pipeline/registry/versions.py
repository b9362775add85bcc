"""A version in the registry: its name, and its files as its manifest pins them.

`manifest.json` has the SHA-256 of every other file of the version, and `models/latest.json` has the manifest's for each
promoted version. So a reader with a pin gets what was promoted, or an error.

Imports only the standard library and the home, because it also runs in a Lambda function.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from processing.errors import BadInput, Damaged, NotFound
from processing.storage.documents import parse_document
from processing.storage.home import Home

MODEL_FILE = "model.joblib"
MANIFEST_FILE = "manifest.json"
METRICS_FILE = "metrics.json"
CODE_FILE = "code.zip"  # the modules that its training brought along
REPORT_FILE = "report.html"
NAME = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{5})")
SHA256 = re.compile(r"[0-9a-f]{64}")
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
REMEDY = "restore the file, or roll back to another version"
MODELS = "FRAUDLINE_MODELS"  # the operator's setting, any or packed: which models may be loaded
WAITING = "waiting"  # a verdict of the gate, see `pipeline.evaluation.gate`


class CorruptModel(Damaged):
    """A stored file is not the one that was published, or not the one that was promoted."""


@dataclass(frozen=True)
class Version:
    """The parts of a version's name; `str` joins them. Names sort by time."""

    created: datetime
    content: str

    def __str__(self) -> str:
        return f"{self.created.astimezone(UTC).strftime(TIME_FORMAT)}-{self.content}"

    @classmethod
    def parse(cls, name: str) -> "Version":
        """The parts of a name. Raises BadInput."""
        found = NAME.fullmatch(name)
        try:
            created = datetime.strptime(found[1], TIME_FORMAT) if found else None
        except ValueError:  # shaped like a time but invalid: the 99th of a month
            created = None
        if not found or not created:
            raise BadInput(f"{name!r} is not a model version, expected e.g. 20261122T103000Z-baf3f")
        return cls(created.replace(tzinfo=UTC), found[2])


@dataclass(frozen=True)
class Published:
    """A version as its manifest, read once, describes it; its files must match the manifest's digests.

    digest: the SHA-256 of manifest.json
    pinned: whether the version was promoted with that digest; then manifest and files are the promoted ones, whoever
        has written to the home since
    """

    home: Home
    version: str
    manifest: dict[str, Any]
    digest: str
    pinned: bool

    @property
    def files(self) -> dict[str, str]:
        """The SHA-256 of each file, by name."""
        files: dict[str, str] = self.manifest["files"]
        return files

    def read(self, name: str) -> bytes:
        """A file's bytes, its digest verified. Raises NotFound for an unknown name, and CorruptModel."""
        if name not in self.files:
            raise NotFound(f"version {self.version} has no file {name!r}; it has {', '.join(self.files)}")
        where = self.home.url_of(file_key(self.version, name))
        try:
            data = self.home.read(file_key(self.version, name))
        except NotFound:
            raise CorruptModel(f"{where} is missing, expected sha256 {self.files[name]}; {REMEDY}") from None
        found = sha256(data)
        if found != self.files[name]:
            raise CorruptModel(
                f"{where} is not the published file: expected sha256 {self.files[name]}, found {found}; {REMEDY}"
            )
        return data

    def document(self, name: str) -> dict[str, Any]:
        """A file that is a JSON object. Raises NotFound, CorruptModel and Damaged."""
        return parse_document(self.read(name), self.home.url_of(file_key(self.version, name)), REMEDY)

    def own_code(self) -> bytes | None:
        """The archive of the modules that its training brought along, verified; None without any."""
        return self.read(CODE_FILE) if CODE_FILE in self.files else None

    def metrics(self) -> dict[str, Any]:
        """metrics.json: the version's metrics, the champion it was compared with, the gate's verdict."""
        return self.document(METRICS_FILE)

    def verify(self) -> None:
        """Read and verify every file. Raises CorruptModel."""
        for name in self.files:
            self.read(name)


def read_published(home: Home, version: str, pin: str | None) -> Published:
    """A version by its full name; `pin` is the digest that its manifest must have if it was promoted.

    Raises NotFound if there is no manifest, CorruptModel if it is not the pinned one, and Damaged if it is unreadable.
    """
    where = home.url_of(file_key(version, MANIFEST_FILE))
    try:
        data = home.read(file_key(version, MANIFEST_FILE))
    except NotFound:
        if pin is None:
            raise
        raise CorruptModel(f"{where} is missing, expected sha256 {pin}; {REMEDY}") from None
    digest = sha256(data)
    if pin is not None and digest != pin:
        raise CorruptModel(
            f"{where} is not the manifest that was promoted: expected sha256 {pin}, found {digest}; {REMEDY}"
        )
    manifest = parse_document(data, where, REMEDY)
    files = manifest.get("files")
    if manifest.get("version") != version or not isinstance(files, dict) or not all(map(_is_pin, files.items())):
        raise Damaged(f"{where} is damaged: it lacks the version's name or the files' digests; {REMEDY}")
    return Published(home, version, manifest, digest, pin is not None)


def _is_pin(item: tuple[str, Any]) -> bool:
    name, digest = item
    return "/" not in name and isinstance(digest, str) and SHA256.fullmatch(digest) is not None


def part_of(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within a document, such as the gate's verdict in a version's metrics; empty if there is none."""
    part = document.get(name)
    return part if isinstance(part, dict) else {}


def packed_only() -> bool:
    """Whether the operator allows only packed models, since joblib models run as code. Raises BadInput."""
    allowed = os.environ.get(MODELS) or "any"
    if allowed not in ("any", "packed"):
        raise BadInput(f"{MODELS} is {allowed!r}, expected any or packed")
    return allowed == "packed"


def waits(gate: Mapping[str, Any]) -> bool:
    """Whether the gate could not decide, so that a person must approve."""
    return gate.get("verdict") == WAITING


def overruled(gate: Mapping[str, Any]) -> bool:
    """Whether the gate rejected the version or never saw it: if it serves anyway, it was forced."""
    return not gate.get("passed", False) and not waits(gate)


def file_key(version: str, name: str) -> str:
    """The key of a version's file in the home."""
    return f"models/{version}/{name}"


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """A JSON document as it is stored."""
    return json.dumps(document, indent=2).encode()
