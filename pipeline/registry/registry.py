"""A home's model registry: versions that never change, and one pointer that says which of them serves.

    models/<version>/      the version's files, metrics.json, and finally manifest.json with the SHA-256 of every file
    models/latest.json     which version serves, and the SHA-256 of its manifest; see `pipeline.registry.pointer`
    models/history/        a record of every change of the pointer

A version exists from the moment its manifest is stored. Nothing in its folder is ever overwritten. A reader of a
promoted version gets what was promoted: its manifest must match the pointer's digest, its files the manifest's.

Imports only the standard library and the home, because it also runs in a Lambda function.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

from pipeline.registry.listing import WAITS, Listed, list_version
from pipeline.registry.pointer import POINTER, Latest, Pointer
from pipeline.registry.promotion import AlreadyServing, Promotion, Rollback, check_promotable
from pipeline.registry.versions import (
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    NAME,
    REPORT_FILE,
    CorruptModel,
    Published,
    Version,
    file_key,
    json_bytes,
    overruled,
    packed_only,
    part_of,
    read_published,
    sha256,
)
from processing.errors import BadInput, Conflict, Damaged, NotFound
from processing.storage.home import Home

__all__ = [
    "MANIFEST_FILE",
    "METRICS_FILE",
    "MODEL_FILE",
    "POINTER",
    "REPORT_FILE",
    "WAITS",
    "AlreadyServing",
    "CorruptModel",
    "Latest",
    "Listed",
    "Published",
    "Registry",
    "Version",
    "packed_only",
]

Check = Callable[[Published], None]


def _unchecked(published: Published) -> None:
    pass


class Registry:
    """The models of a home. A version may be given by the beginning of its name if no other begins alike."""

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
        """Store a new version and return its name. It does not serve until it is promoted.

        `files` holds bytes by name, among them model.joblib; other files may be functions of the version's name.
        `manifest` and `metrics` are JSON documents; version, time and the files' digests are added to the manifest. No
        version is overwritten: if the name is taken, the next free second names it. Raises Conflict if another writer
        puts a file into the new version's folder.
        """
        model, metrics_file = files[MODEL_FILE], json_bytes(metrics)
        if callable(model):
            raise TypeError(f"{MODEL_FILE} must be bytes, because they give the version its name")
        content = sha256(model)[:5]
        while True:
            name = str(Version(now, content))
            try:
                self.home.write_if(file_key(name, METRICS_FILE), metrics_file, None)  # claims the name
                break
            except Conflict:
                now += timedelta(seconds=1)
        stored = {file: data(name) if callable(data) else data for file, data in files.items()}
        for file, data in stored.items():
            self.home.write_if(file_key(name, file), data, None)
        stored[METRICS_FILE] = metrics_file
        own = {"version": name, "created": Version.parse(name).created.isoformat()}
        digests = {file: sha256(data) for file, data in sorted(stored.items())}
        document = {**own, **manifest, **own, "files": digests}
        self.home.write_if(file_key(name, MANIFEST_FILE), json_bytes(document), None)
        return name

    def names(self) -> list[str]:
        """The names of all published versions, oldest first."""
        return [name for name in self._folders() if self._is_published(name)]

    def versions(self) -> list[Listed]:
        """All published versions with their metrics, newest first; a damaged one is listed with the reason.

        A damaged pointer affects only the statuses; `latest` says what is wrong with it.
        """
        try:
            latest = self.latest()
        except Damaged:
            latest = None
        names = {*self.names(), *_promoted(latest)}
        return [list_version(self.home, name, latest) for name in sorted(names, reverse=True)]

    def find(self, version: str) -> str:
        """A version's full name, from its beginning. Raises NotFound naming similar ones, BadInput for several."""
        if NAME.fullmatch(version) and self._is_published(version):
            return version
        names = self.names()
        matches = [name for name in names if version and name.startswith(version)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise BadInput(f"several versions begin with {version!r}: {', '.join(matches)}; give more of the name")
        near = get_close_matches(version, names, 3) or names[:-4:-1]
        hint = f"did you mean {', '.join(near)}?" if near else "there are none yet; `fraudline run` publishes one"
        raise NotFound(f"no model version {version!r} in {self.home.url}; {hint}")

    def open(self, version: str, latest: Latest | None = None) -> Published:
        """A version to read; one that was promoted is read as it was promoted. `latest`: the pointer, if already read.

        Raises NotFound, BadInput, CorruptModel, Damaged.
        """
        latest = latest or self.latest()
        pins = latest.pins if latest else {}
        return read_published(self.home, version if version in pins else self.find(version), pins.get(version))

    def manifest(self, version: str) -> dict[str, Any]:
        """A version's manifest. Raises as `open` does."""
        return self.open(version).manifest

    def metrics(self, version: str) -> dict[str, Any]:
        """A version's metrics.json: its metrics, the champion it was compared with, the gate's verdict."""
        return self.open(version).metrics()

    def report(self, version: str) -> str | None:
        """The address of a version's report; None if it was published without one. Raises as `open` does."""
        published = self.open(version)
        return self.home.url_of(file_key(published.version, REPORT_FILE)) if REPORT_FILE in published.files else None

    def read_file(self, version: str, name: str) -> bytes:
        """A file of a version, its digest verified. Raises as `open` does."""
        return self.open(version).read(name)

    def verify(self, version: str) -> None:
        """Read and verify every file of a version. Raises as `open` does."""
        self.open(version).verify()

    def latest(self) -> Latest | None:
        """Which version serves; None until one is promoted. Raises Damaged."""
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
        """Make a version the serving one, and pin it. Its files are verified first; `check` is called last.

        `manifest`: the digest of the evaluated manifest; a version with another one is refused. `approved`: a person
        approves, which a version that waits needs. `check` raises an error if the version cannot serve in this home;
        then nothing changes. The serving version can be promoted again only if it is not yet pinned.

        Raises NotFound, BadInput (the gate rejected it, and neither its run nor `force` overrules that; or it waits for
        approval), CorruptModel, Damaged, or AlreadyServing, also if another promotion of the same version came first.
        """
        seen = self.latest()
        published = self.open(version, seen)
        forced = check_promotable(published, manifest=manifest, force=force, approved=approved)
        published.verify()
        if seen is None or seen.version != published.version or seen.pin is None:  # otherwise `change` refuses it
            check(published)
        return self._pointer.change(Promotion(published, by, reason, forced).change)

    def rollback(self, by: str, *, check: Check = _unchecked) -> Latest:
        """Return to the version that served before the current one, as it was promoted then.

        `check` as in `promote`. Raises BadInput if there is none, CorruptModel if it is not what was promoted, and
        Conflict if another version is promoted at the same moment, which the caller did not mean to roll back.
        """
        seen = self.latest()
        if seen is None:
            raise BadInput(
                "no version has been promoted yet, so there is nothing to roll back; `fraudline run` promotes one"
            )
        if not seen.previous:
            raise BadInput(f"no version served before {seen.version}, so there is nothing to roll back to")
        target = self.open(seen.previous[0], seen)
        target.verify()
        forced = overruled(part_of(target.metrics(), "gate"))
        check(target)
        return self._pointer.change(Rollback(target, seen, by, forced).change)

    def problems(self) -> list[str]:
        """The problems with the models of the home: a sentence each, which says what to do. Reads every file."""
        problems = self._pointer.problems()
        try:
            latest = self.latest()
        except Damaged:
            latest = None  # reported above
        for name in sorted({*self._folders(), *_promoted(latest)}):
            try:
                read_published(self.home, name, latest.pins.get(name) if latest else None).verify()
            except NotFound:
                problems.append(
                    f"{self.home.url_of(file_key(name, MANIFEST_FILE))} is missing, so version {name} does not count: "
                    "its publication was interrupted, or the file is lost; restore it, or remove the folder"
                )
            except Damaged as error:
                problems.append(str(error))
        return problems

    def repair_pointer(self) -> list[str]:
        """Restore a damaged or lost latest.json from the records of its changes; see `Pointer.repair`."""
        return self._pointer.repair()

    def _folders(self) -> list[str]:
        return [name for name in self.home.folders("models/") if NAME.fullmatch(name)]

    def _is_published(self, name: str) -> bool:
        return any(entry.key == file_key(name, MANIFEST_FILE) for entry in self.home.entries(f"models/{name}/"))


def _promoted(latest: Latest | None) -> tuple[str, ...]:
    return (latest.version, *latest.previous) if latest else ()
