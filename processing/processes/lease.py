"""A home's lease: it lets one run at a time change the tables and promote a model, wherever the home is.

The lease is a document in the home, changed only by conditional writes. The processes of the run that holds it renew
it. Another run may take it over if those processes are gone, or if it was not renewed for its duration. Clocks of
different machines are never compared: a lease of another machine counts as not renewed once this machine has watched it
unchanged for the whole duration.
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
TOKEN = "FRAUDLINE_LEASE"  # the variable by which a run shares its lease with its children
SECONDS = 60.0
POLL_SECONDS = 0.2
REMEDY = "if no run is in progress in this home, remove the file"

Say = Callable[[str], None]


class Lease:
    """A lease that this process holds or shares; see `hold`.

    token: identifies the run that holds it
    """

    def __init__(self, home: Home, run: str, token: str, seconds: float) -> None:
        self.home, self.run, self.token, self.seconds = home, run, token, seconds
        self._writing = threading.Lock()
        self._ended = threading.Event()

    def check(self) -> None:
        """Renew the lease, to make sure that it is still held. Call right before each commit.

        Raises Conflict if another run has taken it over, e.g. because this process was suspended for too long.
        """
        self._change(lambda document: document)

    def environment(self) -> dict[str, str]:
        """The environment variables for a child process that shares this lease."""
        return {TOKEN: self.token}

    def join(self) -> None:
        """Add this process to those of the lease. Raises Conflict if it is no longer held."""
        self._change(lambda document: document | {"processes": [*document["processes"], Process.current().document()]})

    def leave(self) -> None:
        """Remove this process from those of the lease; after the last one the lease is free."""

        def without(document: dict[str, Any]) -> dict[str, Any]:
            others = [each for each in document["processes"] if each != Process.current().document()]
            return document | {"processes": others} | ({} if others else {"owner": None})

        self._change(without)

    def keep_renewing(self, say: Say) -> None:
        """Renew the lease until `stop`; for a thread."""
        while not self._ended.wait(self.seconds / 3):
            try:
                self.check()
            except Conflict as error:
                say(str(error))  # the next check ends the run
                return
            except FraudlineError as error:
                say(f"could not renew the lease, retrying: {error}")

    def stop(self) -> None:
        """End `keep_renewing`."""
        self._ended.set()

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        with self._writing:
            while True:
                found, tag = _read(self.home)
                if found.get("owner") != self.token:
                    raise Conflict(
                        f"run {self.run} no longer holds {self.home.url}: {_name(found)} took it over while this run "
                        "was suspended, or its lease was removed. Nothing more was committed; run it again"
                    )
                try:
                    return self.home.write_if(KEY, _stamped(change(found)), tag)
                except Conflict:  # another process of this run has renewed it
                    continue


@contextmanager
def hold(home: Home, run: str, *, say: Say, seconds: float = SECONDS) -> Iterator[Lease]:
    """Hold the home's lease while a `with` block runs, or share that of the run which started this process.

    `say` gets messages for the user. Raises Conflict if another run is in progress: at once if it is on this machine,
    else as soon as it renews its lease. Waits up to `seconds` for one that does not.
    """
    token = os.environ.get(TOKEN)
    lease = Lease(home, run, token or secrets.token_hex(16), seconds)
    if token:
        lease.join()
    else:
        _take(lease, say)
    keeper = threading.Thread(target=lease.keep_renewing, args=(say,), name="lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.stop()
        keeper.join()
        try:
            lease.leave()
        except Conflict:  # nothing to release; `check` has reported it
            pass
        except FraudlineError as error:
            say(f"the lease of {home.url} could not be released; it expires in {seconds:.0f} s: {error}")


def _take(lease: Lease, say: Say) -> None:
    home, seen, since = lease.home, None, 0.0
    mine = {"owner": lease.token, "run": lease.run, "seconds": lease.seconds}
    while True:
        found, tag = _read(home)
        free = found.get("owner") is None
        processes = [Process.parse(each) for each in found.get("processes") or []]
        here = [process for process in processes if process and process.is_here()]
        if not free and any(process.is_running() for process in here):
            raise Conflict(_in_progress(home, found))
        gone = bool(here) and len(here) == len(processes)
        if not free and not gone and tag != seen:
            if seen is not None:
                raise Conflict(_in_progress(home, found))
            seen, since = tag, time.monotonic()
            say(f"{_name(found)} holds {home.url}; waiting to see whether it is still running")
        unrenewed = tag == seen and time.monotonic() - since >= float(found.get("seconds", SECONDS))
        if free or gone or unrenewed:
            try:
                home.write_if(KEY, _stamped(mine | {"processes": [Process.current().document()]}), tag)
            except Conflict:  # another run came first
                continue
            if not free:
                say(f"{_name(found)} ended without releasing its lease; this run took it over")
            return
        time.sleep(POLL_SECONDS)


def _read(home: Home) -> tuple[dict[str, Any], str | None]:
    """The lease's document and its tag; empty and None if there never was one."""
    try:
        data, tag = home.read_tagged(KEY)
    except NotFound:
        return {}, None
    return parse_document(data, home.url_of(KEY), REMEDY), tag


def _stamped(document: dict[str, Any]) -> bytes:
    """The document with a counter, so that each renewal changes its tag."""
    count = int(document.get("renewals", 0)) + 1
    return json.dumps(document | {"renewals": count, "renewed": datetime.now(UTC).isoformat()}, indent=2).encode()


def _in_progress(home: Home, found: dict[str, Any]) -> str:
    return f"a run is in progress in {home.url}: {_name(found)}; wait for it to end, runs/ shows its progress"


def _name(found: dict[str, Any]) -> str:
    processes = [Process.parse(each) for each in found.get("processes") or []]
    return ", ".join([f"run {found.get('run')}", *(str(process) for process in processes if process)])
