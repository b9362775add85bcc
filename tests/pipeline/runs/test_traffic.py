"""The demo's traffic: several payments at once, but never two of one customer or terminal."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.runs.traffic import Traffic


class RecordingTraffic(Traffic):
    """Sends nothing; notes the order, and whether payments of one customer or terminal overlap."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.order: list[str] = []
        self.open: Counter[str] = Counter()
        self.most_open = 0
        self.overlaps = 0
        self._lock = threading.Lock()

    def send(self, request: dict[str, Any]) -> None:
        keys = (request["customer_id"], request["terminal_id"])
        with self._lock:
            self.order.append(request["transaction_id"])
            self.open.update(keys)
            self.overlaps += max(self.open[key] for key in keys) > 1
            self.most_open = max(self.most_open, self.open.total() // 2)
        threading.Event().wait(0.001)
        with self._lock:
            self.open.subtract(keys)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
def test_payments_of_one_customer_or_terminal_are_sent_one_after_the_other(pairs: list[tuple[int, int]]) -> None:
    start = datetime(2026, 6, 1, tzinfo=UTC)
    rows = pa.table(
        {
            "transaction_id": [f"{number:03d}" for number in range(len(pairs))],
            "event_time": [start + timedelta(seconds=number) for number in range(len(pairs))],
            "customer_id": [f"C{customer}" for customer, _ in pairs],
            "terminal_id": [f"T{terminal}" for _, terminal in pairs],
        }
    )
    traffic = RecordingTraffic()
    traffic.score(rows, Console(file=StringIO()))
    assert sorted(traffic.order) == rows["transaction_id"].to_pylist()
    assert not traffic.overlaps
    for key in range(6):
        for side in (0, 1):
            own = [number for number, pair in enumerate(pairs) if pair[side] == key]
            assert [int(sent) for sent in traffic.order if int(sent) in own] == own


def test_payments_of_different_customers_and_terminals_are_sent_at_once() -> None:
    now = [datetime(2026, 6, 1, tzinfo=UTC)] * 40
    ids = [f"{number:03d}" for number in range(40)]
    columns = {"customer_id": [f"C{each}" for each in ids], "terminal_id": [f"T{each}" for each in ids]}
    traffic = RecordingTraffic()
    traffic.score(pa.table({"transaction_id": ids, "event_time": now, **columns}), Console(file=StringIO()))
    assert traffic.most_open > 1
