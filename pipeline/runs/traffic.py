"""Traffic for the scoring API: transactions sent one by one over HTTP, with every response accounted for."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from rich.console import Console
from rich.progress import track

from processing.errors import RunFailed

CALLERS = 4
PAUSE_SECONDS = 0.05  # between two transactions of the background traffic


class Traffic:
    """A caller of one API.

    answered: requests with a decision; flagged: those flagged as fraud; versions: how many each model version scored;
    failed: the error of each other request
    """

    def __init__(self, api: str) -> None:
        self.address = urlsplit(api).netloc
        self.answered = 0
        self.flagged = 0
        self.failed: list[str] = []
        self.versions: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._stop = threading.Event()

    def score(self, rows: pa.Table, console: Console) -> None:
        """Send all rows over several connections and print the totals.

        A payment waits for the earlier ones of its customer and its terminal, as it would at a till.
        """
        requests = as_requests(rows)
        began = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as callers:
            for response in track(
                self._in_order(callers, requests), "scoring", len(requests), console=console, transient=True
            ):
                response.result()
        seconds = time.monotonic() - began
        console.print(
            f"{self.answered:,} transactions scored in {seconds:.0f} s, {self.flagged} flagged as fraud, "
            f"{len(self.failed)} requests failed",
            highlight=False,
        )

    def _in_order(self, callers: ThreadPoolExecutor, requests: list[dict[str, Any]]) -> list[Future[None]]:
        """Submit all requests. Callers take them in this order, so one that waits never waits for a later one."""
        latest: dict[str, Future[None]] = {}
        responses = []
        for request in requests:
            keys = (request["customer_id"], request["terminal_id"])
            response = callers.submit(self._send_after, [latest[key] for key in keys if key in latest], request)
            latest |= dict.fromkeys(keys, response)
            responses.append(response)
        return responses

    def _send_after(self, earlier: list[Future[None]], request: dict[str, Any]) -> None:
        wait(earlier)
        self.send(request)

    @contextmanager
    def background(self, rows: pa.Table) -> Iterator[None]:
        """Send rows slowly in the background, until the `with` block ends."""
        requests = as_requests(rows)

        def run() -> None:
            for request in requests:
                if self._stop.wait(PAUSE_SECONDS):
                    return
                self.send(request)

        caller = threading.Thread(target=run)
        caller.start()
        try:
            yield
        finally:
            self._stop.set()
            caller.join()

    def send(self, request: dict[str, Any]) -> None:
        """Score one transaction, over this thread's own keep-alive connection."""
        try:
            if not hasattr(self._local, "connection"):
                self._local.connection = HTTPConnection(self.address, timeout=10)
            headers = {"Content-Type": "application/json"}
            self._local.connection.request("POST", "/v1/score", json.dumps(request), headers)
            response = self._local.connection.getresponse()
            body = response.read()
            error = None if response.status == 200 else f"{response.status} {body[:200]!r}"
        except (OSError, HTTPException) as problem:
            self._local.connection.close()  # the next request opens it again
            error = f"{type(problem).__name__}: {problem}"
        with self._lock:
            if error:
                self.failed.append(error)
                return
            decision = json.loads(body)
            self.answered += 1
            self.flagged += decision["decision"] == "fraud"
            self.versions[decision["model_version"]] += 1

    def await_version(self, version: str, seconds: float) -> None:
        """Wait until this version has scored a transaction. Raises RunFailed if none has after so many seconds."""
        deadline = time.monotonic() + seconds
        while not self.versions[version]:
            if time.monotonic() > deadline:
                raise RunFailed(f"the API did not switch to {version}; its responses are from {dict(self.versions)}")
            time.sleep(0.05)


def as_requests(rows: pa.Table) -> list[dict[str, Any]]:
    """Transactions as requests to the API: without the label, times in ISO 8601."""
    columns = [name for name in rows.column_names if name != "is_fraud"]
    requests: list[dict[str, Any]] = rows.select(columns).to_pylist()
    for request in requests:
        request["event_time"] = request["event_time"].isoformat()
    return requests
