"""Small attacks on the API: each is refused, takes little memory, and keeps nobody else from being answered."""

import contextlib
import io
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from serving_home import TestClient, address_of, row, running, server_process, serving_home, settings
from structlog.testing import capture_logs

from pipeline.registry.api_keys import HomeKeys, added
from processing.contracts import reader as contracts
from serving.api import connections
from serving.api.problems import MalformedRequest, TooLarge
from serving.api.transaction import transaction_model
from serving.api.validation import EXTRA_FIELDS, validate_json
from serving.app import create_app
from serving.batch.format import BatchLimits, UnreadableRow
from serving.batch.formats import ARROW, FORMATS
from serving.batch.json_array import SLACK
from serving.console.pages import MAX_FORM_FIELDS

CONTRACT = contracts.load("transactions")
GROWTH = 200.0  # MiB; the attacks below took the server to 400 and more, the worst of them to gigabytes
HEAD = b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
JSON, NDJSON = "application/json", "application/x-ndjson"


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    address: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def peak(self) -> float:
        """The most memory that it had, MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextlib.contextmanager
def started(folder: Path, files: int | None = None, **variables: str) -> Iterator[Server]:
    """A server over a home; it may open so many files."""

    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    process = server_process(folder, stdout=subprocess.DEVNULL, preexec_fn=limit, **variables)
    try:
        address = address_of(process)
        assert process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()
        httpx.get(f"{address}/health/ready", timeout=120).raise_for_status()
        yield Server(address, process.pid)
    finally:
        process.kill()
        process.wait(20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    serving_home(folder)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with started(folder) as server:
        warm = httpx.post(f"{server.address}/v1/score/batch", content=as_arrow([fresh()]), headers=kind(ARROW))
        assert warm.status_code == 200
        yield server


def fresh(**changes: Any) -> dict[str, Any]:
    return row(CONTRACT, **{"transaction_id": uuid.uuid4().hex} | changes)


def kind(name: str) -> dict[str, str]:
    return {"Content-Type": name}


def as_arrow(rows: list[dict[str, Any]]) -> bytes:
    return stream(pa.Table.from_pylist(rows))


def stream(*tables: pa.Table | pa.RecordBatch, schema: pa.Schema | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema or tables[0].schema) as writer:
        for table in tables:
            writer.write(table)
    return sink.getvalue()


def small_and_answering(server: Server, attack: Callable[[], Any]) -> Any:
    """What an attack gives. While it goes on others are answered, and the server does not grow by much."""
    before, results, failed = server.peak(), list[Any](), list[BaseException]()

    def run() -> None:
        try:
            results.append(attack())
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    attacker = threading.Thread(target=run)
    with httpx.Client(base_url=server.address, timeout=60) as caller:
        attacker.start()
        answered = 0
        while attacker.is_alive() or not answered:
            assert caller.post("/v1/score", json=fresh()).status_code == 200
            answered += 1
    attacker.join()
    if failed:
        raise failed[0]
    assert server.peak() - before < GROWTH
    return results[0]


def sent(server: Server, first: bytes, piece: bytes, most: int) -> tuple[bytes, int]:
    """What is answered to bytes that go on and on until the server hangs up, and how many it took of so many."""
    answer, taken = b"", 0
    with server.connect() as caller, contextlib.suppress(ConnectionError):
        caller.sendall(first)
        while taken < most:
            caller.sendall(piece)
            taken += len(piece)
        caller.shutdown(socket.SHUT_WR)
        while got := caller.recv(65_536):
            answer += got
    return answer, taken


class TestHead:
    """A request before it is understood."""

    @pytest.mark.parametrize(
        ("first", "piece"),
        [
            (HEAD, b"a:b\r\n" * 10_000),
            (HEAD + b"x-long: ", b"x" * 50_000),
            (HEAD + b"x-long: \r\n", b" x\r\n" * 10_000),
            (b"GET /", b"x" * 50_000),
            (b"GET / HTTP/1.1\r\n", b"x" * 50_000),
            (CHUNKED + b"0\r\n", b"a:b\r\n" * 10_000),
            (CHUNKED + b"0\r\nx-long: ", b"x" * 50_000),
            (CHUNKED + b"1;note=", b"x" * 50_000),
        ],
        ids=["lines", "a value", "a folded value", "an address", "a name", "trailers", "a trailer", "a chunk's note"],
    )
    def test_one_that_does_not_end_is_cut_off(self, server: Server, first: bytes, piece: bytes) -> None:
        most = 64 << 20
        assert small_and_answering(server, lambda: sent(server, first, piece, most))[1] < most / 2

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/health/live", {}, 200),
            ("/health/live?" + "x" * 4000, {}, 200),
            ("/health/live?" + "x" * 5000, {}, 414),
            ("/health/live", {f"x-{i}": "y" for i in range(80)}, 200),
            ("/health/live", {f"x-{i}": "y" for i in range(100)}, 431),
            ("/health/live", {"x": "y" * 32_000}, 200),
            ("/health/live", {"x": "y" * 33_000}, 431),
            ("/health/live", {"x": "y" * 330_000}, 431),
        ],
    )
    def test_what_is_too_much_is_told(self, server: Server, path: str, headers: dict[str, str], status: int) -> None:
        reply = httpx.get(server.address + path, headers=headers)
        assert reply.status_code == status
        assert status == 200 or ("error" in reply.json() and reply.headers["Connection"] == "close")

    def test_what_is_not_http_is_told_in_the_same_shape(self, server: Server) -> None:
        answer = raw(server, b"hello there\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]

    def test_requests_that_do_not_wait_for_their_answers_are_bounded(self, server: Server) -> None:
        asked = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        few = raw(server, asked * 5 + asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert few.count(b"HTTP/1.1 200 OK") == 6
        answer, _ = small_and_answering(server, lambda: sent(server, b"", asked * 5_000, 2 * len(asked) * 5_000))
        assert answer.count(b"HTTP/1.1 200 OK") < 5_000

    def test_a_web_socket_is_not_opened(self, server: Server) -> None:
        asked = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n"
        asked += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        with server.connect() as caller:
            caller.sendall(asked)
            assert caller.recv(65_536).startswith(b"HTTP/1.1 200 ")


def raw(server: Server, asked: bytes) -> bytes:
    answer = b""
    with server.connect() as caller:
        caller.sendall(asked)
        while got := caller.recv(65_536):
            answer += got
    return answer


class TestTime:
    """A caller who is slow is hung up on; one in time is not."""

    @pytest.fixture
    def port(self, folder: Path) -> Iterator[int]:
        given = settings(folder, head_seconds=0.3, body_seconds=0.6, idle_seconds=1.0, answer_seconds=0.5)
        with running(create_app(given), given) as address:
            yield int(address.rpartition(":")[2])

    @staticmethod
    def answer(port: int, *pieces: bytes) -> bytes:
        """All that is answered until the server hangs up, one byte of the last piece being sent at a time."""
        with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
            for piece in pieces[:-1]:
                caller.sendall(piece)
            got = b""
            caller.settimeout(0.05)
            ends = time.monotonic() + 30
            for i in range(10_000):
                with contextlib.suppress(ConnectionError):
                    caller.sendall(pieces[-1][i : i + 1])
                try:
                    more = caller.recv(65_536)
                except TimeoutError:
                    assert time.monotonic() < ends
                    continue
                except ConnectionError:
                    return got
                if not more:
                    return got
                got += more
        raise AssertionError("the server did not hang up")

    @pytest.mark.parametrize(
        ("pieces", "status"),
        [
            ((b"",), None),
            ((b"GET / HTTP/1.1\r\nx: ", b"y" * 10_000), 408),
            ((b"\r\n" * 5_000,), None),
            ((HEAD + b"Content-Length: 9999\r\n\r\n", b"x" * 10_000), 408),
            ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1_500), 408),
            ((b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b""), 200),
            ((b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n", b"x" * 10_000), 200),
            ((b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET /hea" + b"x" * 10_000), 200),
        ],
        ids=[
            "nothing",
            "slow head",
            "line ends",
            "slow body",
            "slow chunks",
            "idle",
            "body nobody reads",
            "slow second head",
        ],
    )
    def test_who_is_slow_is_hung_up_on(self, port: int, pieces: tuple[bytes, ...], status: int | None) -> None:
        answer = self.answer(port, *pieces)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode() if status else b"")
        assert bool(answer) == bool(status)

    def test_an_answer_that_nobody_fetches_is_given_up(self, port: int) -> None:
        rows = [fresh(amount=-1) for _ in range(8_000)]  # answered at length, and at once
        asked = json.dumps(rows).encode()
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(("127.0.0.1", port))
            caller.settimeout(60)
            head = HEAD.replace(b"/v1/score", b"/v1/score/batch") + f"Content-Length: {len(asked)}\r\n\r\n".encode()
            caller.sendall(head + asked)
            ends = time.monotonic() + 60
            while "CLOSE" not in state(port, caller.getsockname()[1]):
                assert time.monotonic() < ends
                time.sleep(0.05)

    def test_who_leaves_is_no_error_of_ours(self, folder: Path) -> None:
        app = create_app(settings(folder))
        with running(app) as address, capture_logs() as lines:
            for path in (b"/v1/score", b"/v1/score/batch"):
                with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as caller:
                    caller.sendall(HEAD.replace(b"/v1/score", path) + b"Content-Length: 99\r\n\r\n{")
                    time.sleep(0.2)
            ends = time.monotonic() + 30
            while 'status="499"' not in httpx.get(f"{address}/metrics").text and time.monotonic() < ends:
                time.sleep(0.05)
        assert time.monotonic() < ends
        assert "request_failed" not in {line["event"] for line in lines}


def state(port: int, peer: int) -> str:
    """What the kernel says of the server's end of a connection; CLOSED when it has none any more."""
    ends = f":{port:04X}", f":{peer:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        here, there, code = line.split()[1:4]
        if here.endswith(ends[0]) and there.endswith(ends[1]):
            return {"01": "ESTABLISHED"}.get(code, "CLOSE")
    return "CLOSED"


class TestPlaces:
    """Connections are counted."""

    @pytest.mark.parametrize("limit", ["connections", "files"])
    def test_those_that_ask_nothing_keep_out_nobody(self, folder: Path, limit: str) -> None:
        files = 60 + connections.OTHER_FILES if limit == "files" else None
        variables = {} if files else {"FRAUDLINE_CONNECTIONS": "60"}
        with started(folder, files, **variables) as server, contextlib.ExitStack() as held:
            kept = held.enter_context(httpx.Client(base_url=server.address, timeout=60))
            assert kept.get("/health/live").status_code == 200
            for _ in range(150):
                held.enter_context(server.connect()).sendall(b"GET / HTTP/1.1\r\nx: ")
            ends = time.monotonic() + 60
            for _ in range(5):  # each on a new connection
                while asked_alone(server) != 200:
                    assert time.monotonic() < ends
                    time.sleep(0.2)
            assert len(os.listdir(f"/proc/{server.pid}/fd")) < 60 + connections.OTHER_FILES

    def test_who_finds_no_place_is_told(self, folder: Path) -> None:
        given = settings(folder, connections=2)
        with running(create_app(given), given) as address, contextlib.ExitStack() as held:
            port = int(address.rpartition(":")[2])
            for _ in range(2):  # at work, both
                caller = held.enter_context(socket.create_connection(("127.0.0.1", port)))
                caller.sendall(HEAD + b"Content-Length: 9\r\n\r\n{")
            time.sleep(connections.SETTLED_SECONDS + 0.5)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as third:
                answer = third.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer

    def test_too_few_files_are_told(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        code = "from serving.api.connections import max_connections; print(max_connections(50))"
        for files, says in ((100, "too low to serve"), (150, "22"), (4096, "50")):
            files = min(files, limits[1])
            script = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files})); {code}"
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
            assert says in done.stdout + done.stderr


def asked_alone(server: Server) -> int:
    try:
        return httpx.get(f"{server.address}/health/live", timeout=10).status_code
    except httpx.TransportError:
        return 0


MANY = ",".join(f'"{i}":0' for i in range(600_000))
MANY_IN_A_ROW = ",".join(f'"{i}":0' for i in range(6_000))  # within the bytes of a row
RECORDS = pa.record_batch({"a": pa.nulls(10_000)})
LONG = pa.array(["x" * 4_000_000, "y"])


def aliased(columns: int) -> bytes:
    """Columns of text that share their buffers: what is said of the first one's places is said of all."""
    names, lengths = [f"c{i}" for i in range(columns)], [4 * 4_001, 4_000_000]
    texts, empty = pa.array(["x" * 1_000] * 4_000), pa.array([""] * 4_000)
    body = bytearray(stream(pa.record_batch([texts, *[empty] * (columns - 1)], names)))
    # (offset, length) of a column's validity, which is empty, of its offsets, and of its characters
    first = body.index(struct.pack("<qqqqq", 0, 0, 0, lengths[0], 16_008))
    assert struct.unpack_from("<q", body, first + 40)[0] == lengths[1]
    for i in range(1, columns):
        body[first + 48 * i : first + 48 * (i + 1)] = body[first : first + 48]
    return bytes(body)


def column(values: Any, kind: pa.DataType | None = None) -> bytes:
    """A stream of one column."""
    return stream(pa.table({"a": values if isinstance(values, pa.Array) else pa.array(values, kind)}))


NULLS = pa.record_batch([pa.nulls(10_000)] * 3_000, [f"c{i}" for i in range(3_000)])
RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([1 << 20], pa.int32()), pa.array(["x"]))
UNION = pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])])
SENT_OFTEN = [pa.record_batch({"a": pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), LONG)})] * 1_000
NOTES = {f"{i}": "x" for i in range(5_000)}
BATCHES: dict[str, tuple[str, str | bytes, int, str]] = {
    "one row of many fields": (JSON, f"[{{{MANY}}}]", 413, "exceeds the limit"),
    "one long text": (JSON, '[{"amount": "' + "x" * 8_000_000 + '"}]', 413, "exceeds the limit"),
    "blanks": (JSON, " " * 8_000_000, 422, "expected a JSON array"),
    "brackets": (JSON, "[" * 8_000_000, 422, "nested too deep"),
    "digits": (JSON, "[" + "1" * 8_000_000 + "]", 422, "digits"),
    "numbers": (JSON, "[" + "1," * 4_000_000 + "1]", 413, "rows"),
    "blank lines": (NDJSON, "\n" * 8_000_000, 413, "blank lines"),
    "null columns": (ARROW, stream(NULLS), 422, "3,000 columns"),
    "shared columns": (ARROW, aliased(60), 422, "share bytes"),
    "a dictionary sent often": (ARROW, stream(*SENT_OFTEN), 422, "share bytes"),
    "many rows": (ARROW, stream(*[RECORDS] * 1_999), 413, "rows"),
    "many messages": (ARROW, stream(*[RECORDS.slice(0, 1)] * 2_001), 422, "messages"),
    "a long name": (ARROW, stream(pa.table({"a" * 300_000: [1]})), 422, "header"),
    "notes": (ARROW, stream(pa.table({"a": [1]}).replace_schema_metadata(NOTES)), 422, "metadata"),
    "lists": (ARROW, column([[1]]), 422, "the type list"),
    "structs": (ARROW, column([{"b": 1}]), 422, "the type struct"),
    "runs": (ARROW, column(RUNS), 422, "the type run-end encoded"),
    "unions": (ARROW, column(UNION), 422, "the type union"),
    "views": (ARROW, column(["x"], pa.string_view()), 422, "the type utf8 view"),
    "lists in a dictionary": (
        ARROW,
        stream(schema=pa.schema([("a", pa.dictionary(pa.int8(), pa.list_(pa.int8())))])),
        422,
        "the type list",
    ),
}


class TestBatch:
    @pytest.mark.parametrize("name", BATCHES)
    def test_a_bomb_is_refused_whole(self, server: Server, name: str) -> None:
        form, body, status, says = BATCHES[name]
        reply = small_and_answering(
            server,
            lambda: httpx.post(f"{server.address}/v1/score/batch", content=body, headers=kind(form), timeout=120),
        )
        assert reply.status_code == status, reply.text[:300]
        assert says in reply.json()["error"]["message"]
        assert len(reply.content) < 2_000

    @pytest.mark.parametrize("form", [JSON, NDJSON, ARROW])
    def test_a_row_that_is_too_much_is_told_in_its_place(self, server: Server, form: str) -> None:
        good, long = fresh(), fresh(customer_id="x" * 70_000)
        if form == ARROW:
            body = as_arrow([good, long] * 60)
        else:
            texts = [json.dumps(good), f"{{{MANY_IN_A_ROW}}}"]
            body = ("[" + ",".join(texts) + "]" if form == JSON else "\n".join([*texts, json.dumps(long)])).encode()
        reply = small_and_answering(
            server,
            lambda: httpx.post(f"{server.address}/v1/score/batch", content=body, headers=kind(form), timeout=120),
        )
        assert reply.status_code == 200
        if form == ARROW:
            told = [each["status"] for each in pa.ipc.open_stream(reply.content).read_all().to_pylist()]
            assert told == [None, 413] * 60
        else:
            answers = reply.json() if form == JSON else [json.loads(line) for line in reply.text.splitlines()]
            assert [each.get("status", 200) for each in answers] == ([200, 422] if form == JSON else [200, 422, 413])

    def test_one_text_in_every_row_is_kept_once(self, server: Server) -> None:
        texts = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int16()), LONG)
        reply = small_and_answering(
            server,
            lambda: httpx.post(
                f"{server.address}/v1/score/batch",
                content=stream(pa.record_batch({"customer_id": texts})),
                headers=kind(ARROW),
                timeout=120,
            ),
        )
        assert set(pa.ipc.open_stream(reply.content).read_all()["status"].to_pylist()) == {413}

    def test_no_more_than_so_many_are_under_way(self, folder: Path) -> None:
        given = settings(folder, batches=2)
        ask = HEAD.replace(b"/v1/score", b"/v1/score/batch") + b"Content-Length: 2\r\n\r\n["
        with running(create_app(given), given) as address:
            with contextlib.ExitStack() as held:
                for _ in range(2):
                    port = int(address.rpartition(":")[2])
                    held.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(ask)
                ends = time.monotonic() + 30
                while (reply := httpx.post(f"{address}/v1/score/batch", json=[])).status_code != 503:
                    assert time.monotonic() < ends
                assert reply.headers["Retry-After"] == "1"
                assert httpx.post(f"{address}/v1/score", json=fresh()).status_code == 200
            while httpx.post(f"{address}/v1/score/batch", json=[]).status_code != 200:
                assert time.monotonic() < ends

    def test_its_rows_count_against_the_rate(self, tmp_path: Path) -> None:
        home = serving_home(tmp_path)
        keys, token = added((), "till", ["score"], per_second=5.0)
        HomeKeys(home).write(keys, None)
        headers = {"Authorization": f"Bearer {token}"}
        with TestClient(create_app(settings(tmp_path)), headers=headers) as client:
            refused = client.post("/v1/score/batch", json=[fresh() for _ in range(301)])
            assert (refused.status_code, "300 at once" in refused.text) == (413, True)
            whole = client.post("/v1/score/batch", json=[fresh() for _ in range(100)])
            assert [answer.get("status", 200) for answer in whole.json()] == [200] * 100
            later = client.post("/v1/score", json=fresh())
            assert later.status_code == 429
            assert 10 <= int(later.headers["Retry-After"]) <= 20  # 100 rows at 5 a second, and what was left before


class TestObject:
    @pytest.mark.parametrize("path", ["/v1/score", "/v1/feedback"])
    def test_many_fields_are_not_told_one_by_one(self, server: Server, path: str) -> None:
        def attack() -> list[httpx.Response]:
            with httpx.Client(base_url=server.address, timeout=60) as caller:
                body = f"{{{MANY_IN_A_ROW}}}"
                return [caller.post(path, content=body, headers=kind(JSON)) for _ in range(20)]

        for reply in small_and_answering(server, attack):
            assert (reply.status_code, "fields; the limit" in reply.text) == (422, True)
            assert len(reply.content) < 2_000

    def test_those_told_are_few_and_short(self, server: Server) -> None:
        changes = {f"{i}" + "x" * 500: 0 for i in range(EXTRA_FIELDS - 1)}
        reply = httpx.post(f"{server.address}/v1/score", json=fresh(**changes))
        assert reply.status_code == 422
        assert len(reply.json()["error"]["fields"]) == EXTRA_FIELDS - 1
        assert max(len(problem["field"]) for problem in reply.json()["error"]["fields"]) < 120

    @given(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=120))
    def test_colons_and_names_do_not_matter(self, values: dict[str, Any]) -> None:
        model = transaction_model(CONTRACT)
        most = len(model.model_fields) + EXTRA_FIELDS
        with pytest.raises((MalformedRequest, ValueError)) as told:
            validate_json(model, json.dumps(values).encode())
        assert isinstance(told.value, MalformedRequest) == (len(values) > most)
        colons = fresh(customer_id=":" * 250, terminal_id='":"' * 80)
        assert validate_json(model, json.dumps(colons).encode()) is not None

    def test_a_form_and_a_query_are_bounded_too(self, server: Server) -> None:
        headers = kind("application/x-www-form-urlencoded") | {"HX-Request": "true"}
        form = "&".join(f"f{i}=" for i in range(MAX_FORM_FIELDS + 1))
        assert httpx.post(f"{server.address}/console/score", content=form, headers=headers).status_code == 413
        query = "&".join(f"f{i}" for i in range(700))
        reply = httpx.get(f"{server.address}/v1/decisions?{query}", timeout=60)
        assert (reply.status_code, len(reply.json()["error"]["fields"])) == (422, 100)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@examples(deadline=None)
@given(rows=st.lists(VALUES, max_size=8), indent=st.none() | st.integers(0, 3), escaped=st.booleans())
def test_the_rows_of_an_array_are_its_elements(rows: list[Any], indent: int | None, escaped: bool) -> None:
    """Nothing is cut, nothing is lost; and one row that is longer than the limit is found, wherever the limit is."""
    body = json.dumps(rows, indent=indent, ensure_ascii=escaped).encode()
    assert [json.loads(row) for row in read_json(body, len(body))] == rows
    longest = max((len(row) for row in read_json(body, len(body))), default=0)
    assert len(read_json(body, longest + SLACK)) == len(rows)
    for most in range(1, longest):
        try:
            assert UnreadableRow in map(type, FORMATS[JSON].read(body, BatchLimits(100, most, 10, 1)))
        except TooLarge as error:
            assert "exceeds the limit" in str(error)  # noqa: PT017


def read_json(body: bytes, most: int) -> list[bytes]:
    rows = list(FORMATS[JSON].read(body, BatchLimits(100, most, 10, 1)))
    return [row for row in rows if isinstance(row, bytes)]
