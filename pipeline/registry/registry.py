"""The model registry of a home: versions that never change, and one pointer that says which of them serves.

    models/<version>/      the version's files, metrics.json, and last of all manifest.json, with every file's SHA-256
    models/latest.json     which version serves, and the SHA-256 of its manifest; see `pipeline.registry.pointer`
    models/history/        a record of every change of that

A version's folder counts from the moment its manifest is there. Nothing in it is ever written twice. What is read of a
version that was promoted is what was promoted: its manifest is held to the pointer's digest, its files to the manifest.

Imports no more than the standard library and the home: it also runs in a Lambda function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from pipeline.registry.pointer import POINTER, REMEMBERED, Latest, Pointer
from pipeline.registry.versions import (
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    NAME,
    REPORT_FILE,
    CorruptModel,
    Published,
    Version,
    as_json,
    key_of,
    overruled,
    packed_only,
    part_of,
    read_published,
    sha256,
    waits,
)
from processing.errors import BadInput, Conflict, Damaged, NotFound
from processing.storage.home import Home

__all__ = [
    "MANIFEST_FILE",
    "METRICS_FILE",
    "MODEL_FILE",
    "POINTER",
    "REPORT_FILE",
    "AlreadyServing",
    "CorruptModel",
    "Latest",
    "Listed",
    "Published",
    "Registry",
    "Version",
    "packed_only",
]

WAITS = "waits for approval"


class AlreadyServing(BadInput):
    """The version asked for is the one that serves."""


@dataclass(frozen=True)
class Listed:
    """A version in the list: its status is serving, previous, candidate, `WAITS`, rejected or damaged (`reason`: how).

    notes: what whoever promotes it should know besides, a sentence each
    """

    version: str
    status: str
    created: datetime
    contract: str
    metrics: dict[str, float]
    reason: str
    has_report: bool = False
    notes: tuple[str, ...] = ()


Check = Callable[[Published], None]


def _unchecked(found: Published) -> None:
    pass


class Registry:
    """The models of a home. Calls that take a version also take the beginning of its name, if only one begins so."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._pointer = Pointer(home)

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
        Raises Conflict if another writer puts a file into the new version's folder.
        """
        model, measured = files[MODEL_FILE], as_json(metrics)
        if callable(model):
            raise TypeError(f"{MODEL_FILE} gives the version its name: its bytes are needed")
        content = sha256(model)[:5]
        while True:
            name = str(Version(now, content))
            try:
                self.home.write_if(key_of(name, METRICS_FILE), measured, None)  # claims the name
                break
            except Conflict:
                now += timedelta(seconds=1)
        stored = {file: data(name) if callable(data) else data for file, data in files.items()}
        for file, data in stored.items():
            self.home.write_if(key_of(name, file), data, None)
        stored[METRICS_FILE] = measured
        own = {"version": name, "created": Version.parse(name).created.isoformat()}
        digests = {file: sha256(data) for file, data in sorted(stored.items())}
        document = {**own, **manifest, **own, "files": digests}
        self.home.write_if(key_of(name, MANIFEST_FILE), as_json(document), None)
        return name

    def names(self) -> list[str]:
        """The names of all published versions, oldest first."""
        return [name for name in self._folders() if self._published(name)]

    def versions(self) -> list[Listed]:
        """All published versions, newest first, with what they were measured at.

        One that is damaged is listed as that, with the reason. A damaged pointer changes no more than the statuses:
        `latest` says what is wrong with it.
        """
        try:
            latest = self.latest()
        except Damaged:
            latest = None
        names = {*self.names(), *_promoted(latest)}
        return [self._listed(name, latest) for name in sorted(names, reverse=True)]

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

    def open(self, version: str, latest: Latest | None = None) -> Published:
        """A version to read: as it was promoted, if it serves or did so before.

        `latest`: the pointer to go by, if the caller has read it. Raises NotFound, BadInput, CorruptModel, Damaged.
        """
        latest = latest or self.latest()
        pins = latest.pins if latest else {}
        return read_published(self.home, version if version in pins else self.find(version), pins.get(version))

    def manifest(self, version: str) -> dict[str, Any]:
        """A version's manifest. Raises as `open` does."""
        return self.open(version).manifest

    def metrics(self, version: str) -> dict[str, Any]:
        """A version's metrics.json: its metrics, the champion it was compared to, the gate's verdict."""
        return self.open(version).metrics()

    def report(self, version: str) -> str | None:
        """Where a version's report is; None for one that was published without. Raises as `open` does."""
        found = self.open(version)
        return self.home.url_of(key_of(found.version, REPORT_FILE)) if REPORT_FILE in found.files else None

    def read_file(self, version: str, name: str) -> bytes:
        """A file of a version, its digest verified. Raises as `open` does."""
        return self.open(version).read(name)

    def verify(self, version: str) -> None:
        """Read every file of a version. Raises as `open` does."""
        self.open(version).verify()

    def latest(self) -> Latest | None:
        """Which version serves; None as long as none was promoted. Raises Damaged."""
        return self._pointer.read()

    def promote(
        self,
        version: str,
        by: str,
        reason: str,
        force: bool = False,
        manifest: str | None = None,
        *,
        approved: bool = False,
        check: Check = _unchecked,
    ) -> Latest:
        """Let a version serve, and pin it. Its files are verified first, and `check` is asked last.

        `manifest`: the digest of the manifest that was evaluated; a version that has another is refused. `approved`:
        whether a person wants it, as a version that waits for approval needs. `check` raises what speaks against
        serving the version in this home; nothing is changed then. The version that serves can be promoted again only
        if it is not pinned yet.

        Raises NotFound, BadInput (the gate refused it, and neither did its run force it nor is `force` set; or it
        waits for approval), CorruptModel, Damaged, or AlreadyServing, also when another promotion of the same version
        came first.
        """
        seen = self.latest()
        found = self.open(version, seen)
        version = found.version
        if manifest is not None and found.digest != manifest:
            raise CorruptModel(
                f"version {version} is not what was evaluated: its manifest has sha256 {found.digest}, evaluation "
                f"published {manifest}; nothing was promoted, run the pipeline again"
            )
        gate = part_of(found.metrics(), "gate")
        refused, why = overruled(gate), gate.get("reason", "it was never measured")
        if refused and not force and not gate.get("forced_by"):
            raise BadInput(f"version {version} did not pass the gate: {why}. Use --force to promote it anyway")
        if waits(gate) and not (approved or force):
            raise BadInput(
                f"version {version} waits for a person's approval, which `fraudline models promote {version}` gives. "
                f"{why}"
            )
        found.verify()
        if seen is None or seen.version != version or seen.pin is None:  # else it serves already, see below
            check(found)

        def on_top(current: Latest | None) -> Latest:
            pin = {version: found.digest}
            if current is None:
                return Latest(version, (), _now(), by, reason, 1, refused, pins=pin)
            if current.version == version and current.pin is not None:
                raise AlreadyServing(f"version {version} serves already, since {current.promoted_at} by {current.by}")
            older = tuple(name for name in (current.version, *current.previous) if name != version)[:REMEMBERED]
            return Latest(version, older, _now(), by, reason, current.serial + 1, refused, pins={**current.pins, **pin})

        return self._pointer.change(on_top)

    def rollback(self, by: str, *, check: Check = _unchecked) -> Latest:
        """Let the version serve that did before the current one, as it was promoted then.

        `check` as in `promote`. Raises BadInput if there is none, CorruptModel if it is not what was promoted, and
        Conflict if another version was promoted at the same moment: that one was not meant.
        """
        seen = self.latest()
        if seen is None:
            raise BadInput("no version was promoted yet, so there is none to roll back; a pipeline run promotes one")
        if not seen.previous:
            raise BadInput(f"no version served before {seen.version}: there is nothing to roll back to")
        target = self.open(seen.previous[0], seen)
        target.verify()
        forced = overruled(part_of(target.metrics(), "gate"))
        check(target)

        def one_back(current: Latest | None) -> Latest:
            if current is None or (current.version, current.serial) != (seen.version, seen.serial):
                found = current.version if current else "no version"
                raise Conflict(f"{found} was promoted in the meantime; nothing was rolled back")
            reason, pins = f"rollback from {seen.version}", {**seen.pins, target.version: target.digest}
            return Latest(target.version, seen.previous[1:], _now(), by, reason, seen.serial + 1, forced, pins=pins)

        return self._pointer.change(one_back)

    def problems(self) -> list[str]:
        """What is wrong with the models of the home, a sentence each that says what to do. Reads every file."""
        found = self._pointer.problems()
        try:
            latest = self.latest()
        except Damaged:
            latest = None  # said above
        for name in sorted({*self._folders(), *_promoted(latest)}):
            try:
                read_published(self.home, name, latest.pins.get(name) if latest else None).verify()
            except NotFound:
                found.append(
                    f"{self.home.url_of(key_of(name, MANIFEST_FILE))} is missing, so version {name} does not count: "
                    "its publication was interrupted, or the file is lost; restore it, or remove the folder"
                )
            except Damaged as error:
                found.append(str(error))
        return found

    def repair_pointer(self) -> list[str]:
        """Restore a damaged or lost latest.json from the records of its changes; see `Pointer.repair`."""
        return self._pointer.repair()

    def _listed(self, name: str, latest: Latest | None) -> Listed:
        created = Version.parse(name).created
        try:
            found = read_published(self.home, name, latest.pins.get(name) if latest else None)
            measured = found.metrics()
        except (Damaged, NotFound) as error:
            return Listed(name, "damaged", created, "", {}, str(error))
        gate = part_of(measured, "gate")
        status = "rejected" if overruled(gate) else WAITS if waits(gate) else "candidate"
        if latest and name in latest.previous:
            status = "previous"
        if latest and name == latest.version:
            status = "serving"
        contract, metrics = part_of(found.manifest, "contract").get("name", ""), part_of(measured, "metrics")
        reason, notes = gate.get("reason", ""), tuple(map(str, gate.get("notes", ())))
        return Listed(name, status, created, contract, metrics, reason, REPORT_FILE in found.files, notes)

    def _folders(self) -> list[str]:
        return [name for name in self.home.folders("models/") if NAME.fullmatch(name)]

    def _published(self, name: str) -> bool:
        return any(entry.key == key_of(name, MANIFEST_FILE) for entry in self.home.entries(f"models/{name}/"))


def _promoted(latest: Latest | None) -> tuple[str, ...]:
    return (latest.version, *latest.previous) if latest else ()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
