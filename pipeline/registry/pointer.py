"""`models/latest.json`, the pointer that says which version serves, and the records of its changes.

    models/latest.json              which version serves, and the SHA-256 of the manifest of each promoted one: `Latest`
    models/history/00000012.json    the pointer as change 12 left it; written once, never changed

The pointer is changed by `Home.write_if` alone, so of two changes at once the later one is made on top of the earlier,
and `serial` counts every one. That write is the change. The record of it follows; should the writer die in between, the
next change writes the missing record first. From the records a damaged or lost pointer is restored.

Imports no more than the standard library and the home: it also runs in a Lambda function.
"""

import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.registry.versions import NAME, SHA256, as_json
from processing.errors import Conflict, Damaged, NotFound
from processing.storage.documents import parse_document
from processing.storage.home import Home

POINTER = "models/latest.json"
HISTORY = "models/history/"
RECORD = re.compile(r"\d{8,}\.json")
REMEMBERED = 20  # versions that a rollback can step back through, and changes in the history
ATTEMPTS = 100
REMEDY = "`fraudline home repair` restores it from models/history/"
ASIDE = "`fraudline home repair` sets it aside"
KINDS: dict[str, type[Any]] = {"previous": list, "history": list, "pins": dict}


@dataclass(frozen=True)
class Latest:
    """Which version serves, the ones before it (latest first), and who changed it when and why.

    `serial` goes up by one with every change. `forced`: the gate had refused the version. `history` has the changes
    before this one, latest first: {"version", "promoted_at", "by", "reason", "forced", "manifest"}. `pins` has the
    SHA-256 of the manifest of `version` and of each of `previous`, as they were promoted; one that was last promoted
    before pins were kept has none.
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
        """The digest of the manifest of the version that serves; None if it was promoted before pins were kept."""
        return self.pins.get(self.version)

    def served_until(self, version: str) -> str | None:
        """When another version came in the place of a previous one; None where the history does not go back so far."""
        end = self.promoted_at
        for past in self.history:
            if past.get("version") == version:
                return end
            end = str(past.get("promoted_at"))
        return None


def parse_latest(data: bytes, where: str, remedy: str) -> Latest:
    """The pointer in some bytes that were read from `where`. Unknown entries are let be. Raises Damaged."""
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
        raise Damaged(f"{where} is damaged: an entry is missing or not of its type; {remedy}")
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
        """What it says; None as long as no version was promoted. Raises Damaged."""
        return self._read()[0]

    def change(self, change: Callable[[Latest | None], Latest]) -> Latest:
        """Replace it by what `change` makes of it, anew whenever another writer came first. Raises Damaged, Conflict.

        What `change` makes has no history yet; that, and pins of no more versions than it names, are seen to here.
        """
        for attempt in range(ATTEMPTS):
            current, tag = self._read()
            if current:
                self._record(current)  # unless its writer did, or it is of a time before there were records
            new = change(current)
            if current:
                past = {name: getattr(current, name) for name in ("version", "promoted_at", "by", "reason", "forced")}
                new = replace(new, history=({**past, "manifest": current.pin}, *current.history)[:REMEMBERED])
            named = (new.version, *new.previous)
            new = replace(new, pins={name: new.pins[name] for name in named if name in new.pins})
            try:
                self.home.write_if(POINTER, as_json(asdict(new)), tag)
            except Conflict:
                time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))
                continue
            self._record(new)
            return new
        raise Conflict(f"{self.home.url_of(POINTER)} kept changing; {ATTEMPTS} attempts failed, nothing was written")

    def problems(self) -> list[str]:
        """What is wrong with the pointer and its records, a sentence each."""
        where, found = self.home.url_of(POINTER), list(self._broken().values())
        try:
            latest = self.read()
        except Damaged as error:
            return [str(error), *found]
        if latest is None:
            return found
        record = self.home.url_of(_record_key(latest.serial))
        if latest.pin is None:
            found.append(
                f"{where}, written by an earlier version of Fraudline, does not pin the manifest of {latest.version}; "
                f"`fraudline models promote {latest.version}` pins what is there now"
            )
        elif latest.serial not in self._serials():
            found.append(
                f"{where} is at change {latest.serial}, but {record} is missing; `fraudline home repair` writes it"
            )
        elif latest.serial not in self._broken() and self._recorded(latest.serial) != latest:
            found.append(f"{where} is not what {record} says it was changed to; promote the version that should serve")
        return found

    def repair(self) -> list[str]:
        """Restore a damaged or lost pointer from the newest valid record, and write a record that is missing.

        What was done, a sentence each; nothing if all is sound. Broken records are set aside. So is a damaged pointer
        without any valid record: then a version can be promoted again. Raises Conflict if the pointer changes.
        """
        done, numbers = [], self._serials()
        for serial in self._broken():
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
        """Make the newest record the pointer, under the number of the newest change that there is a trace of."""
        where, serials = self.home.url_of(POINTER), self._serials()
        if not serials:
            return (
                f"{self._set_aside(POINTER)}; there is no record to restore it from, so no version serves: promote "
                "the one that should with `fraudline models promote VERSION`"
            )
        try:
            tag: str | None = self.home.read_tagged(POINTER)[1]
        except NotFound:
            tag = None
        found = replace(self._recorded(serials[-1]), serial=number)
        self.home.write_if(POINTER, as_json(asdict(found)), tag)
        self._record(found)
        return (
            f"restored {where} from {self.home.url_of(_record_key(serials[-1]))}: {found.version} serves, as of "
            f"{found.promoted_at}; promote another version if one was promoted after that"
        )

    def _set_aside(self, key: str) -> str:
        self.home.move(key, f"{key}.damaged")
        return f"set {self.home.url_of(key)} aside as {self.home.url_of(f'{key}.damaged')}"

    def _read(self) -> tuple[Latest | None, str | None]:
        where = self.home.url_of(POINTER)
        for _ in range(2):  # the first promotion may come between the two questions, and then is there at the second
            try:
                data, tag = self.home.read_tagged(POINTER)
                return parse_latest(data, where, REMEDY), tag
            except NotFound:
                if not self._serials():
                    return None, None
        raise Damaged(f"{where} is gone, though versions were promoted; {REMEDY}")

    def _record(self, latest: Latest) -> None:
        """Keep a change. One that is recorded already stays as it is; `problems` compares."""
        with suppress(Conflict):
            self.home.write_if(_record_key(latest.serial), as_json(asdict(latest)), None)

    def _recorded(self, serial: int) -> Latest:
        where = self.home.url_of(_record_key(serial))
        found = parse_latest(self.home.read(_record_key(serial)), where, ASIDE)
        if found.serial != serial:
            raise Damaged(f"{where} is damaged: it holds the record of change {found.serial}; {ASIDE}")
        return found

    def _broken(self) -> dict[int, str]:
        """What is wrong with records, by their numbers."""
        found = {}
        for serial in self._serials():
            try:
                self._recorded(serial)
            except Damaged as error:
                found[serial] = str(error)
        return found

    def _serials(self) -> list[int]:
        """The numbers of the changes that are recorded, in order."""
        names = [entry.key.removeprefix(HISTORY) for entry in self.home.entries(HISTORY)]
        return sorted(int(name.removesuffix(".json")) for name in names if RECORD.fullmatch(name))


def _record_key(serial: int) -> str:
    return f"{HISTORY}{serial:08}.json"
