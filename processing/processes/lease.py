"""A home's lease: who may change its tables and give it a model. One run at a time, wherever the home lies.

The lease is a document in the home, written on condition that nobody else has written it since. The processes of the
run that holds it renew it; one whose processes are gone, or that was not renewed for its duration, is taken over.
Clocks of different machines are never compared: a lease of another machine counts as not renewed when this one has
watched it for the whole duration.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from processing.errors import Conflict, FraudlineError, NotFound
from processing.processes.identity import Process
from processing.storage.documents import parse_document
from processing.storage.home import Home

KEY = "runs/lease.json"
TOKEN = "FRAUDLINE_LEASE"  # the variable by which a run tells its own children that they work under its lease
SECONDS = 60.0
LOOK_SECONDS = 0.2
REMEDY = "if no run is going on in this home, remove the file"

Say = Callable[[str], None]


class Lease:
    """A lease that this process holds or shares. `hold` makes one.

    token: what names the run that holds it
    """

    def __init__(self, home: Home, run: str, token: str, seconds: float) -> None:
        self.home, self.run, self.token, self.seconds = home, run, token, seconds
        self._writing = threading.Lock()
        self._ended = threading.Event()

    def check(self) -> None:
        """Make sure, by renewing it, that the lease is still held. To be called right before each commit.

        Raises Conflict if another run has taken it over, e.g. because this process stood still for too long.
        """
        self._change(lambda document: document)

    def environment(self) -> dict[str, str]:
        """The variables for a child process that works under this lease."""
        return {TOKEN: self.token}

    def join(self) -> None:
        """Count this process among those of the lease. Raises Conflict if it is not held any more."""
        self._change(lambda document: document | {"processes": [*document["processes"], Process.current().document()]})

    def leave(self) -> None:
        """Count this process no more; the lease is free when no other is left."""

        def without(document: dict[str, Any]) -> dict[str, Any]:
            left = [each for each in document["processes"] if each != Process.current().document()]
            return document | {"processes": left} | ({} if left else {"owner": None})

        self._change(without)

    def keep(self, say: Say) -> None:
        """Renew the lease until `stop`; for a thread."""
        while not self._ended.wait(self.seconds / 3):
            try:
                self.check()
            except Conflict as error:
                say(str(error))  # the work is stopped by its own next check
                return
            except FraudlineError as error:
                say(f"the lease could not be renewed, it is tried again: {error}")

    def stop(self) -> None:
        """End `keep`."""
        self._ended.set()

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        with self._writing:
            while True:
                found, tag = _read(self.home)
                if found.get("owner") != self.token:
                    raise Conflict(
                        f"run {self.run} does not hold {self.home.url} any more: {_name(found)} took it over while "
                        "this one stood still, or its lease was removed. Nothing more was committed; run it again"
                    )
                try:
                    return self.home.write_if(KEY, _stamped(change(found)), tag)
                except Conflict:  # another process of this run has renewed it
                    continue


@contextmanager
def hold(home: Home, run: str, *, say: Say, seconds: float = SECONDS) -> Iterator[Lease]:
    """Hold the home's lease for the time of a `with` block, or share that of the run which started this process.

    `say` is told, in a line, what a user has to know. Raises Conflict if another run goes on: at once if it is one of
    this machine, else as soon as it renews its lease. One that does not is waited for, `seconds` at most.
    """
    token = os.environ.get(TOKEN)
    lease = Lease(home, run, token or secrets.token_hex(16), seconds)
    if token:
        lease.join()
    else:
        _take(lease, say)
    keeper = threading.Thread(target=lease.keep, args=(say,), name="lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.stop()
        keeper.join()
        try:
            lease.leave()
        except Conflict:  # there is nothing to give back; who lost it was told by `check`
            pass
        except FraudlineError as error:
            say(f"the lease of {home.url} could not be given back, it ends by itself in {seconds:.0f} s: {error}")


def _take(lease: Lease, say: Say) -> None:
    home, seen, since = lease.home, None, 0.0
    mine = {"owner": lease.token, "run": lease.run, "seconds": lease.seconds}
    while True:
        found, tag = _read(home)
        free = found.get("owner") is None
        processes = [Process.parse(each) for each in found.get("processes") or []]
        here = [process for process in processes if process and process.is_here()]
        if not free and any(process.is_running() for process in here):
            raise Conflict(_going_on(home, found))
        gone = bool(here) and len(here) == len(processes)
        if not free and not gone and tag != seen:
            if seen is not None:
                raise Conflict(_going_on(home, found))
            seen, since = tag, time.monotonic()
            say(f"{_name(found)} holds {home.url}; waiting whether it still goes on")
        unrenewed = tag == seen and time.monotonic() - since >= float(found.get("seconds", SECONDS))
        if free or gone or unrenewed:
            try:
                home.write_if(KEY, _stamped(mine | {"processes": [Process.current().document()]}), tag)
            except Conflict:  # another one was quicker
                continue
            if not free:
                say(f"{_name(found)} ended without giving its lease back; it was taken over")
            return
        time.sleep(LOOK_SECONDS)


def _read(home: Home) -> tuple[dict[str, Any], str | None]:
    """The lease's document, empty if there never was one, and its tag."""
    try:
        data, tag = home.read_tagged(KEY)
    except NotFound:
        return {}, None
    return parse_document(data, home.url_of(KEY), REMEDY), tag


def _stamped(document: dict[str, Any]) -> bytes:
    """The document, different each time: its tag tells others that somebody is there."""
    count = int(document.get("renewals", 0)) + 1
    return json.dumps(document | {"renewals": count, "renewed": datetime.now(UTC).isoformat()}, indent=2).encode()


def _going_on(home: Home, found: dict[str, Any]) -> str:
    return f"a run is going on in {home.url}: {_name(found)}; wait for its end, it can be followed in runs/"


def _name(found: dict[str, Any]) -> str:
    processes = [Process.parse(each) for each in found.get("processes") or []]
    return ", ".join([f"run {found.get('run')}", *(str(process) for process in processes if process)])
