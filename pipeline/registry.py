"""The model registry of a home: versions that never change, and one pointer that says which of them serves.

    models/<version>/    the version's files, metrics.json, and last of all manifest.json, with every file's SHA-256
    models/latest.json   {"version", "previous", "promoted_at", "by", "reason", "serial", "forced", "history"}: `Latest`

A version's folder counts from the moment its manifest is there. The pointer is changed by `Home.write_if` alone, so
of two promotions at once the later one is made on top of the earlier, and `serial` counts every change.

Imports no more than the standard library and the home: it also runs in a Lambda function.
"""

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from processing.errors import BadInput, Conflict, FraudlineError, NotFound
from processing.home import Home

MODEL_FILE = "model.joblib"
MANIFEST_FILE = "manifest.json"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
POINTER = "models/latest.json"
NAME = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{5})")
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
REMEMBERED = 20  # versions that a rollback can step back through, and changes in the history
ATTEMPTS = 100


class CorruptModel(FraudlineError):
    """A stored file is not the one that was published."""


class AlreadyServing(BadInput):
    """The version asked for is the one that serves."""


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
class Latest:
    """Which version serves, the ones before it (latest first), and who changed it when and why.

    `serial` goes up by one with every change. `forced`: the gate had refused the version. `history` has the changes
    before this one, latest first: {"version", "promoted_at", "by", "reason", "forced"}.
    """

    version: str
    previous: tuple[str, ...]
    promoted_at: str
    by: str
    reason: str
    serial: int
    forced: bool = False
    history: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Listed:
    """A version in the list: its status is serving, previous, candidate or rejected."""

    version: str
    status: str
    created: datetime
    contract: str
    metrics: dict[str, float]
    reason: str


class Registry:
    """The models of a home. Calls that take a version also take the beginning of its name, if only one begins so."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def publish(
        self,
        files: Mapping[str, bytes | Callable[[str], bytes]],
        manifest: Mapping[str, Any],
        metrics: Mapping[str, Any],
        now: datetime,
    ) -> str:
        """Store a new version and give its name. It does not serve before it is promoted.

        `files` by name must hold the bytes of model.joblib; another may be a function of the version's name that
        makes it. `manifest` and `metrics` are JSON documents; to the first are added the version, the time and the
        files' digests. No version is ever overwritten: should the name be taken, it is made of the next free second.
        """
        model, measured = files[MODEL_FILE], _json(metrics)
        if callable(model):
            raise TypeError(f"{MODEL_FILE} gives the version its name: its bytes are needed")
        content = hashlib.sha256(model).hexdigest()[:5]
        while True:
            name = str(Version(now, content))
            try:
                self.home.write_if(_key(name, METRICS_FILE), measured, None)  # claims the name
                break
            except Conflict:
                now += timedelta(seconds=1)
        stored = {file: data(name) if callable(data) else data for file, data in files.items()}
        for file, data in stored.items():
            self.home.write(_key(name, file), data)
        stored[METRICS_FILE] = measured
        document = {
            "version": name,
            "created": Version.parse(name).created.isoformat(),
            **manifest,
            "files": {file: hashlib.sha256(data).hexdigest() for file, data in sorted(stored.items())},
        }
        self.home.write(_key(name, MANIFEST_FILE), _json(document))
        return name

    def names(self) -> list[str]:
        """The names of all published versions, oldest first."""
        return [name for name in self.home.folders("models/") if NAME.fullmatch(name) and self._published(name)]

    def versions(self) -> list[Listed]:
        """All published versions, newest first, with what they were measured at."""
        latest = self.latest()
        return [self._listed(name, latest) for name in reversed(self.names())]

    def find(self, version: str) -> str:
        """The full name of a version given by its name or the beginning of it.

        Raises NotFound naming similar ones, or BadInput if several begin so.
        """
        if NAME.fullmatch(version) and self._published(version):
            return version
        names = self.names()
        found = [name for name in names if version and name.startswith(version)]
        if len(found) == 1:
            return found[0]
        if found:
            raise BadInput(f"several versions begin with {version!r}: {', '.join(found)}; give more of the name")
        near = get_close_matches(version, names, 3) or names[:-4:-1]
        hint = f"is it one of {', '.join(near)}?" if near else "there are none yet; a pipeline run makes one"
        raise NotFound(f"no model version {version!r} in {self.home.url}; {hint}")

    def manifest(self, version: str) -> dict[str, Any]:
        """A version's manifest. Raises NotFound, BadInput."""
        return self._document(self.find(version), MANIFEST_FILE)

    def metrics(self, version: str) -> dict[str, Any]:
        """A version's metrics.json: its metrics, the champion it was compared to, the gate's verdict."""
        document: dict[str, Any] = json.loads(self.read_file(version, METRICS_FILE))
        return document

    def report(self, version: str) -> str | None:
        """Where a version's report is; None for one that was published without. Raises NotFound, BadInput."""
        version = self.find(version)
        has = REPORT_FILE in self._document(version, MANIFEST_FILE)["files"]
        return self._url(version, REPORT_FILE) if has else None

    def read_file(self, version: str, name: str) -> bytes:
        """A file of a version, its digest verified. Raises NotFound, BadInput, CorruptModel."""
        version = self.find(version)
        files = self._document(version, MANIFEST_FILE)["files"]
        if name not in files:
            raise NotFound(f"version {version} has no file {name!r}; it has {', '.join(files)}")
        try:
            data = self.home.read(_key(version, name))
        except NotFound:
            raise CorruptModel(f"{self._url(version, name)} is gone, expected sha256 {files[name]}") from None
        found = hashlib.sha256(data).hexdigest()
        if found != files[name]:
            raise CorruptModel(
                f"{self._url(version, name)} is not the published file: expected sha256 {files[name]}, found {found}; "
                "restore it, or roll back to another version"
            )
        return data

    def verify(self, version: str) -> None:
        """Read every file of a version. Raises NotFound, BadInput, CorruptModel."""
        version = self.find(version)
        for name in self._document(version, MANIFEST_FILE)["files"]:
            self.read_file(version, name)

    def latest(self) -> Latest | None:
        """Which version serves; None as long as none was promoted."""
        return self._pointer()[0]

    def promote(self, version: str, by: str, reason: str, force: bool = False) -> Latest:
        """Let a version serve. Its files are verified first.

        Raises NotFound, BadInput (the gate refused it, and neither did its run force it nor is `force` set),
        CorruptModel, or AlreadyServing, also when another promotion of the same version came first.
        """
        version = self.find(version)
        gate = self.metrics(version).get("gate", {})
        refused = not gate.get("passed", False)
        if refused and not force and not gate.get("forced_by"):
            why = gate.get("reason", "it was never measured")
            raise BadInput(f"version {version} did not pass the gate: {why}. Force it to let it serve all the same")
        self.verify(version)

        def on_top(current: Latest | None) -> Latest:
            if current is None:
                return Latest(version, (), _now(), by, reason, 1, refused)
            if current.version == version:
                raise AlreadyServing(f"version {version} serves already, since {current.promoted_at} by {current.by}")
            older = (current.version, *(name for name in current.previous if name != version))
            return Latest(version, older[:REMEMBERED], _now(), by, reason, current.serial + 1, refused)

        return self._change(on_top)

    def rollback(self, by: str) -> Latest:
        """Let the version serve that did before the current one.

        Raises BadInput if there is none, CorruptModel if it was damaged, and Conflict if another version was
        promoted at the same moment: that one was not meant.
        """
        seen = self.latest()
        if seen is None:
            raise BadInput("no version was promoted yet, so there is none to roll back; a pipeline run promotes one")
        if not seen.previous:
            raise BadInput(f"no version served before {seen.version}: there is nothing to roll back to")
        target = seen.previous[0]
        self.verify(target)

        def one_back(current: Latest | None) -> Latest:
            if current is None or (current.version, current.serial) != (seen.version, seen.serial):
                found = current.version if current else "no version"
                raise Conflict(f"{found} was promoted in the meantime; nothing was rolled back")
            reason = f"rollback from {seen.version}"
            return Latest(target, seen.previous[1:], _now(), by, reason, seen.serial + 1)

        return self._change(one_back)

    def _change(self, change: Callable[[Latest | None], Latest]) -> Latest:
        """Replace the pointer by what `change` makes of it, anew whenever another writer came first."""
        for attempt in range(ATTEMPTS):
            current, tag = self._pointer()
            new = change(current)
            if current:
                past = {name: getattr(current, name) for name in ("version", "promoted_at", "by", "reason", "forced")}
                new = replace(new, history=(past, *current.history)[:REMEMBERED])
            try:
                self.home.write_if(POINTER, _json(asdict(new)), tag)
                return new
            except Conflict:
                time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))
        raise Conflict(f"{self.home.url_of(POINTER)} kept changing; {ATTEMPTS} attempts failed, nothing was written")

    def _pointer(self) -> tuple[Latest | None, str | None]:
        try:
            data, tag = self.home.read_tagged(POINTER)
        except NotFound:
            return None, None
        document = json.loads(data)
        if not isinstance(document, dict):
            raise BadInput(
                f"{self.home.url_of(POINTER)} is damaged: it is no JSON object; `fraudline models promote` "
                "cannot mend it, an older version of the file can"
            )
        sequences = {name: tuple(document.get(name, ())) for name in ("previous", "history")}
        return Latest(**{**document, **sequences}), tag

    def _listed(self, name: str, latest: Latest | None) -> Listed:
        measured = self._document(name, METRICS_FILE)
        gate = measured.get("gate", {})
        status = "candidate" if gate.get("passed", False) else "rejected"
        if latest and name in latest.previous:
            status = "previous"
        if latest and name == latest.version:
            status = "serving"
        contract = self._document(name, MANIFEST_FILE).get("contract", {}).get("name", "")
        created = Version.parse(name).created
        return Listed(name, status, created, contract, measured.get("metrics", {}), gate.get("reason", ""))

    def _published(self, name: str) -> bool:
        return any(entry.key == _key(name, MANIFEST_FILE) for entry in self.home.entries(f"models/{name}/"))

    def _document(self, version: str, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.home.read(_key(version, name)))
        return document

    def _url(self, version: str, name: str) -> str:
        return self.home.url_of(_key(version, name))


def _key(version: str, name: str) -> str:
    return f"models/{version}/{name}"


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
