"""`models/latest.json`, the pointer to the version that serves, and the records of its changes.

    models/latest.json              which version serves, and the SHA-256 of each promoted version's manifest: `Latest`
    models/history/00000012.json    the pointer as change 12 left it; written once, never changed

The pointer is changed only by `Home.write_if`, so of two simultaneous changes the later one builds on the earlier, and
`serial` counts them all. That write is the change. Its record follows; if the writer dies in between, the next change
writes the missing record first. A damaged or lost pointer is restored from the records.

Imports only the standard library and the home, because it also runs in a Lambda function.
"""

import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.registry.versions import NAME, SHA256, json_bytes
from processing.errors import Conflict, Damaged, NotFound
from processing.storage.documents import parse_document
from processing.storage.home import Home

POINTER = "models/latest.json"
HISTORY = "models/history/"
RECORD = re.compile(r"\d{8,}\.json")
REMEMBERED = 20  # versions that rollbacks can return through, and changes in the history
ATTEMPTS = 100
REMEDY = "`fraudline home repair` restores it from models/history/"
ASIDE = "`fraudline home repair` sets it aside"
KINDS: dict[str, type[Any]] = {"previous": list, "history": list, "pins": dict}


@dataclass(frozen=True)
class Latest:
    """Which version serves, the previous ones (latest first), and who changed it when and why.

    serial: increases by one with every change
    forced: whether the gate had rejected the version
    history: the changes before this one, latest first: {"version", "promoted_at", "by", "reason", "forced", "manifest"}
    pins: the SHA-256 of the promoted manifest of `version` and of each of `previous`; versions that were last promoted
        before pins existed have none
    """

    version: str
    previous: tuple[str, ...]
    promoted_at: str
    by: str
    reason: str
    serial: int
    forced: bool = False
    history: tuple[dict[str, Any], ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)

    @property
    def pin(self) -> str | None:
        """The digest of the serving version's manifest; None if it was promoted before pins existed."""
        return self.pins.get(self.version)

    def served_until(self, version: str) -> str | None:
        """When another version replaced a previous one; None if the history does not reach back so far."""
        end = self.promoted_at
        for past in self.history:
            if past.get("version") == version:
                return end
            end = str(past.get("promoted_at"))
        return None


def parse_latest(data: bytes, where: str, remedy: str) -> Latest:
    """The pointer in bytes that were read from `where`. Unknown entries are ignored. Raises Damaged."""
    document = parse_document(data, where, remedy)
    texts = ("version", "promoted_at", "by", "reason")
    previous, history, pins = (document.get(name, kind()) for name, kind in KINDS.items())
    sound = (
        all(isinstance(document.get(name), str) for name in texts)
        and NAME.fullmatch(document["version"])
        and isinstance(document.get("serial"), int)
        and isinstance(document.get("forced", False), bool)
        and all(isinstance(value, kind) for value, kind in zip((previous, history, pins), KINDS.values(), strict=True))
        and all(isinstance(name, str) and NAME.fullmatch(name) for name in previous)
        and all(isinstance(past, dict) for past in history)
        and all(isinstance(pin, str) and SHA256.fullmatch(pin) for pin in pins.values())
    )
    if not sound:
        raise Damaged(f"{where} is damaged: an entry is missing or has the wrong type; {remedy}")
    return Latest(
        **{name: document[name] for name in (*texts, "serial")},
        previous=tuple(previous),
        forced=document.get("forced", False),
        history=tuple(history),
        pins=pins,
    )


class Pointer:
    """The pointer of a home."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def read(self) -> Latest | None:
        """Its content; None until a version is promoted. Raises Damaged."""
        return self._read()[0]

    def change(self, change: Callable[[Latest | None], Latest]) -> Latest:
        """Replace it by what `change` returns, and try again if another writer came first. Raises Damaged, Conflict.

        `change` need not fill in the history, nor drop the pins of versions that it no longer names.
        """
        for attempt in range(ATTEMPTS):
            current, tag = self._read()
            if current:
                self._record(current)  # if its writer did not, or wrote it before there were records
            new = change(current)
            if current:
                past = {name: getattr(current, name) for name in ("version", "promoted_at", "by", "reason", "forced")}
                new = replace(new, history=({**past, "manifest": current.pin}, *current.history)[:REMEMBERED])
            named = (new.version, *new.previous)
            new = replace(new, pins={name: new.pins[name] for name in named if name in new.pins})
            try:
                self.home.write_if(POINTER, json_bytes(asdict(new)), tag)
            except Conflict:
                time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))
                continue
            self._record(new)
            return new
        raise Conflict(f"{self.home.url_of(POINTER)} kept changing; {ATTEMPTS} attempts failed, nothing was written")

    def problems(self) -> list[str]:
        """The problems with the pointer and its records, a sentence each."""
        where, problems = self.home.url_of(POINTER), list(self._damaged_records().values())
        try:
            latest = self.read()
        except Damaged as error:
            return [str(error), *problems]
        if latest is None:
            return problems
        record = self.home.url_of(_record_key(latest.serial))
        if latest.pin is None:
            problems.append(
                f"{where}, written by an earlier version of Fraudline, does not pin the manifest of {latest.version}; "
                f"`fraudline models promote {latest.version}` pins what is stored now"
            )
        elif latest.serial not in self._serials():
            problems.append(
                f"{where} is at change {latest.serial}, but {record} is missing; `fraudline home repair` writes it"
            )
        elif latest.serial not in self._damaged_records() and self._recorded(latest.serial) != latest:
            problems.append(
                f"{where} differs from {record}, the record of its last change; promote the version that should serve"
            )
        return problems

    def repair(self) -> list[str]:
        """Restore a damaged or lost pointer from the newest valid record, and write a missing record.

        Returns what was done, a sentence each; nothing if all is sound. Damaged records are set aside, and so is a
        damaged pointer without any valid record; then a version can be promoted again. Raises Conflict if the pointer
        changes meanwhile.
        """
        done, numbers = [], self._serials()
        for serial in self._damaged_records():
            done.append(self._set_aside(_record_key(serial)))
        try:
            latest = self.read()
        except Damaged:
            return [*done, self._restore(max(numbers, default=0))]
        if latest is not None and latest.serial not in self._serials():
            self._record(latest)
            done.append(f"wrote the record {self.home.url_of(_record_key(latest.serial))}")
        return done

    def _restore(self, number: int) -> str:
        """Make the newest record the pointer, numbered as the newest change of which there is any trace."""
        where, serials = self.home.url_of(POINTER), self._serials()
        if not serials:
            return (
                f"{self._set_aside(POINTER)}; there is no record to restore it from, so no version serves; "
                "`fraudline models promote VERSION` promotes one"
            )
        try:
            tag: str | None = self.home.read_tagged(POINTER)[1]
        except NotFound:
            tag = None
        restored = replace(self._recorded(serials[-1]), serial=number)
        self.home.write_if(POINTER, json_bytes(asdict(restored)), tag)
        self._record(restored)
        return (
            f"restored {where} from {self.home.url_of(_record_key(serials[-1]))}: {restored.version} serves, as of "
            f"{restored.promoted_at}; if another version was promoted after that, promote it again"
        )

    def _set_aside(self, key: str) -> str:
        self.home.move(key, f"{key}.damaged")
        return f"set {self.home.url_of(key)} aside as {self.home.url_of(f'{key}.damaged')}"

    def _read(self) -> tuple[Latest | None, str | None]:
        where = self.home.url_of(POINTER)
        for _ in range(2):  # the first promotion may come between the two reads; then the second round finds it
            try:
                data, tag = self.home.read_tagged(POINTER)
                return parse_latest(data, where, REMEDY), tag
            except NotFound:
                if not self._serials():
                    return None, None
        raise Damaged(f"{where} is missing, although versions were promoted; {REMEDY}")

    def _record(self, latest: Latest) -> None:
        """Record a change. An existing record stays as it is; `problems` compares it."""
        with suppress(Conflict):
            self.home.write_if(_record_key(latest.serial), json_bytes(asdict(latest)), None)

    def _recorded(self, serial: int) -> Latest:
        where = self.home.url_of(_record_key(serial))
        record = parse_latest(self.home.read(_record_key(serial)), where, ASIDE)
        if record.serial != serial:
            raise Damaged(f"{where} is damaged: it holds the record of change {record.serial}; {ASIDE}")
        return record

    def _damaged_records(self) -> dict[int, str]:
        """The faults of damaged records, by their numbers."""
        faults = {}
        for serial in self._serials():
            try:
                self._recorded(serial)
            except Damaged as error:
                faults[serial] = str(error)
        return faults

    def _serials(self) -> list[int]:
        """The numbers of the recorded changes, in order."""
        names = [entry.key.removeprefix(HISTORY) for entry in self.home.entries(HISTORY)]
        return sorted(int(name.removesuffix(".json")) for name in names if RECORD.fullmatch(name))


def _record_key(serial: int) -> str:
    return f"{HISTORY}{serial:08}.json"
