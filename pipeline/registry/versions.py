"""A version in the registry: its name, and its files as its manifest pins them.

`manifest.json` has the SHA-256 of every other file of the version, and `models/latest.json` that of the manifest of
each version that was promoted. So whoever holds a pin reads what was promoted, or nothing.

Imports no more than the standard library and the home: it also runs in a Lambda function.
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
REPORT_FILE = "report.html"
NAME = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{5})")
SHA256 = re.compile(r"[0-9a-f]{64}")
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
REMEDY = "restore the file, or roll back to another version"
MODELS = "FRAUDLINE_MODELS"  # the operator's setting: which models may be loaded, any or packed
WAITING = "waiting"  # a verdict of the gate, see `pipeline.evaluation.gate`


class CorruptModel(Damaged):
    """A stored file is not the one that was published, or not the one that was promoted."""


@dataclass(frozen=True)
class Version:
    """A version's name taken apart; `str` puts it together again. Names sort by time."""

    created: datetime
    content: str

    def __str__(self) -> str:
        return f"{self.created.astimezone(UTC).strftime(TIME_FORMAT)}-{self.content}"

    @classmethod
    def parse(cls, name: str) -> "Version":
        """The version of that name. Raises BadInput."""
        found = NAME.fullmatch(name)
        try:
            created = datetime.strptime(found[1], TIME_FORMAT) if found else None
        except ValueError:  # the shape of a time, but none: the 99th of a month
            created = None
        if not found or not created:
            raise BadInput(f"{name!r} is no model version, expected e.g. 20261122T103000Z-baf3f")
        return cls(created.replace(tzinfo=UTC), found[2])


@dataclass(frozen=True)
class Published:
    """A version as one reading of its manifest describes it; its files are held to the digests in that.

    digest: the SHA-256 of manifest.json. pinned: whether the version was promoted with that digest; then its manifest
    and its files are the promoted ones, whoever has written to the home since.
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
        """A file's bytes, its digest verified. Raises NotFound for a name it does not have, and CorruptModel."""
        if name not in self.files:
            raise NotFound(f"version {self.version} has no file {name!r}; it has {', '.join(self.files)}")
        where = self.home.url_of(key_of(self.version, name))
        try:
            data = self.home.read(key_of(self.version, name))
        except NotFound:
            raise CorruptModel(f"{where} is gone, expected sha256 {self.files[name]}; {REMEDY}") from None
        found = sha256(data)
        if found != self.files[name]:
            raise CorruptModel(
                f"{where} is not the published file: expected sha256 {self.files[name]}, found {found}; {REMEDY}"
            )
        return data

    def document(self, name: str) -> dict[str, Any]:
        """A file that is a JSON object. Raises NotFound, CorruptModel and Damaged."""
        return parse_document(self.read(name), self.home.url_of(key_of(self.version, name)), REMEDY)

    def metrics(self) -> dict[str, Any]:
        """metrics.json: the version's metrics, the champion it was compared to, the gate's verdict."""
        return self.document(METRICS_FILE)

    def verify(self) -> None:
        """Read every file. Raises CorruptModel."""
        for name in self.files:
            self.read(name)


def read_published(home: Home, version: str, pin: str | None) -> Published:
    """A version by its full name; `pin` is the digest that its manifest must have, if it was promoted.

    Raises NotFound if there is no manifest, CorruptModel if it is not the pinned one, and Damaged if it is unreadable.
    """
    where = home.url_of(key_of(version, MANIFEST_FILE))
    try:
        data = home.read(key_of(version, MANIFEST_FILE))
    except NotFound:
        if pin is None:
            raise
        raise CorruptModel(f"{where} is gone, expected sha256 {pin}; {REMEDY}") from None
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
    """Whether the operator allows packed models alone: joblib models run as code. Raises BadInput."""
    allowed = os.environ.get(MODELS) or "any"
    if allowed not in ("any", "packed"):
        raise BadInput(f"{MODELS} is {allowed!r}, expected any or packed")
    return allowed == "packed"


def waits(gate: Mapping[str, Any]) -> bool:
    """Whether the gate could not say all that it should, so that a person's approval is needed."""
    return gate.get("verdict") == WAITING


def overruled(gate: Mapping[str, Any]) -> bool:
    """Whether the gate refused the version, or never saw it: where it serves all the same, it was forced."""
    return not gate.get("passed", False) and not waits(gate)


def key_of(version: str, name: str) -> str:
    """The key of a version's file in the home."""
    return f"models/{version}/{name}"


def sha256(data: bytes) -> str:
    """The digest of some bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def as_json(document: Mapping[str, Any]) -> bytes:
    """A document as it is stored."""
    return json.dumps(document, indent=2).encode()
