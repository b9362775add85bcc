"""Small attacks on the API: each is refused, takes little memory, and does not keep others from a response."""

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

from pipeline.registry.api_keys import HomeKeys, keys_with_new
from processing.contracts import reader as contracts
from serving.api import connection_limits
from serving.api.problems import MalformedRequest, TooLarge
from serving.api.transaction import transaction_model
from serving.api.validation import EXTRA_FIELDS, validate_json
from serving.app import create_app
from serving.batch.format import BatchLimits, UnreadableRow
from serving.batch.formats import ARROW, FORMATS
from serving.batch.json_array import SLACK
from serving.console.pages import MAX_FORM_FIELDS

CONTRACT = contracts.load("transactions")
GROWTH = 200.0  # MiB; without limits these attacks take the server to 400 and more, the worst to gigabytes
HEAD = b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
JSON, NDJSON = "application/json", "application/x-ndjson"


@dataclass(frozen=True)
class Server:
    """A server in another process."""

    address: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def peak(self) -> float:
        """Its peak memory, MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextlib.contextmanager
def started(folder: Path, files: int | None = None, **variables: str) -> Iterator[Server]:
    """A server for a home, with a limit of open files."""

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


def during_attack(server: Server, attack: Callable[[], Any]) -> Any:
    """The result of an attack. Meanwhile others get responses, and the server's memory grows little."""
    before, results, errors = server.peak(), list[Any](), list[BaseException]()

    def run() -> None:
        try:
            results.append(attack())
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    attacker = threading.Thread(target=run)
    with httpx.Client(base_url=server.address, timeout=60) as caller:
        attacker.start()
        answered = 0
        while attacker.is_alive() or not answered:
            assert caller.post("/v1/score", json=fresh()).status_code == 200
            answered += 1
    attacker.join()
    if errors:
        raise errors[0]
    assert server.peak() - before < GROWTH
    return results[0]


def sent(server: Server, first: bytes, piece: bytes, limit: int) -> tuple[bytes, int]:
    """Send endless bytes until the server hangs up; its response, and how many bytes it accepted."""
    answer, accepted = b"", 0
    with server.connect() as caller, contextlib.suppress(ConnectionError):
        caller.sendall(first)
        while accepted < limit:
            caller.sendall(piece)
            accepted += len(piece)
        caller.shutdown(socket.SHUT_WR)
        while got := caller.recv(65_536):
            answer += got
    return answer, accepted


class TestHead:
    """A request before it is parsed."""

    @pytest.mark.slow
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
        ids=["lines", "a value", "a folded value", "a URL", "a name", "trailers", "a trailer", "a chunk extension"],
    )
    def test_an_endless_one_is_refused(self, server: Server, first: bytes, piece: bytes) -> None:
        limit = 64 << 20
        assert during_attack(server, lambda: sent(server, first, piece, limit))[1] < limit / 2

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
    def test_exceeding_a_limit_is_reported(
        self, server: Server, path: str, headers: dict[str, str], status: int
    ) -> None:
        response = httpx.get(server.address + path, headers=headers)
        assert response.status_code == status
        assert status == 200 or ("error" in response.json() and response.headers["Connection"] == "close")

    def test_invalid_http_is_reported_in_the_same_form(self, server: Server) -> None:
        answer = raw(server, b"hello there\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]

    def test_pipelined_requests_are_limited(self, server: Server) -> None:
        request = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        few = raw(server, request * 5 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert few.count(b"HTTP/1.1 200 OK") == 6
        answer, _ = during_attack(server, lambda: sent(server, b"", request * 5_000, 2 * len(request) * 5_000))
        assert answer.count(b"HTTP/1.1 200 OK") < 5_000

    def test_web_sockets_are_not_opened(self, server: Server) -> None:
        request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n"
        request += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        with server.connect() as caller:
            caller.sendall(request)
            assert caller.recv(65_536).startswith(b"HTTP/1.1 200 ")


def raw(server: Server, request: bytes) -> bytes:
    answer = b""
    with server.connect() as caller:
        caller.sendall(request)
        while got := caller.recv(65_536):
            answer += got
    return answer


class TestTime:
    """Slow callers are disconnected."""

    @pytest.fixture
    def port(self, folder: Path) -> Iterator[int]:
        limits = settings(folder, head_seconds=0.3, body_seconds=0.6, idle_seconds=1.0, answer_seconds=0.5)
        with running(create_app(limits), limits) as address:
            yield int(address.rpartition(":")[2])

    @staticmethod
    def answer(port: int, *pieces: bytes) -> bytes:
        """The response until the server hangs up. The last piece is sent byte by byte."""
        with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
            for piece in pieces[:-1]:
                caller.sendall(piece)
            got = b""
            caller.settimeout(0.05)
            deadline = time.monotonic() + 30
            for i in range(10_000):
                with contextlib.suppress(ConnectionError):
                    caller.sendall(pieces[-1][i : i + 1])
                try:
                    more = caller.recv(65_536)
                except TimeoutError:
                    assert time.monotonic() < deadline
                    continue
                except ConnectionError:
                    return got
                if not more:
                    return got
                got += more
        raise AssertionError("the server did not hang up")

    @pytest.mark.slow
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
            "unread body",
            "slow second head",
        ],
    )
    def test_slow_callers_are_disconnected(self, port: int, pieces: tuple[bytes, ...], status: int | None) -> None:
        answer = self.answer(port, *pieces)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode() if status else b"")
        assert bool(answer) == bool(status)

    def test_a_response_that_is_not_fetched_is_dropped(self, port: int) -> None:
        rows = [fresh(amount=-1) for _ in range(8_000)]  # long responses, and quick
        request = json.dumps(rows).encode()
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(("127.0.0.1", port))
            caller.settimeout(60)
            head = HEAD.replace(b"/v1/score", b"/v1/score/batch") + f"Content-Length: {len(request)}\r\n\r\n".encode()
            caller.sendall(head + request)
            deadline = time.monotonic() + 60
            while "CLOSE" not in state(port, caller.getsockname()[1]):
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def test_a_caller_who_hangs_up_is_not_an_error(self, folder: Path) -> None:
        app = create_app(settings(folder))
        with running(app) as address, capture_logs() as lines:
            for path in (b"/v1/score", b"/v1/score/batch"):
                with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as caller:
                    caller.sendall(HEAD.replace(b"/v1/score", path) + b"Content-Length: 99\r\n\r\n{")
                    time.sleep(0.2)
            deadline = time.monotonic() + 30
            while 'status="499"' not in httpx.get(f"{address}/metrics").text and time.monotonic() < deadline:
                time.sleep(0.05)
        assert time.monotonic() < deadline
        assert "request_failed" not in {line["event"] for line in lines}


def state(port: int, peer: int) -> str:
    """The state of the server's end of a connection; CLOSED if it is gone."""
    deadline = f":{port:04X}", f":{peer:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        here, there, code = line.split()[1:4]
        if here.endswith(deadline[0]) and there.endswith(deadline[1]):
            return {"01": "ESTABLISHED"}.get(code, "CLOSE")
    return "CLOSED"


class TestConnections:
    """The number of connections is limited."""

    @pytest.mark.slow
    @pytest.mark.parametrize("limit", ["connections", "files"])
    def test_idle_ones_keep_nobody_out(self, folder: Path, limit: str) -> None:
        files = 60 + connection_limits.OTHER_FILES if limit == "files" else None
        variables = {} if files else {"FRAUDLINE_CONNECTIONS": "60"}
        with started(folder, files, **variables) as server, contextlib.ExitStack() as held:
            client = held.enter_context(httpx.Client(base_url=server.address, timeout=60))
            assert client.get("/health/live").status_code == 200
            for _ in range(150):
                held.enter_context(server.connect()).sendall(b"GET / HTTP/1.1\r\nx: ")
            deadline = time.monotonic() + 60
            for _ in range(5):  # each on a new connection
                while live_status(server) != 200:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            assert len(os.listdir(f"/proc/{server.pid}/fd")) < 60 + connection_limits.OTHER_FILES

    def test_a_caller_beyond_the_limit_gets_a_503(self, folder: Path) -> None:
        limits = settings(folder, connections=2)
        with running(create_app(limits), limits) as address, contextlib.ExitStack() as held:
            port = int(address.rpartition(":")[2])
            for _ in range(2):  # both busy
                caller = held.enter_context(socket.create_connection(("127.0.0.1", port)))
                caller.sendall(HEAD + b"Content-Length: 9\r\n\r\n{")
            time.sleep(connection_limits.SETTLED_SECONDS + 0.5)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as third:
                answer = third.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer

    @pytest.mark.slow
    def test_too_few_files_are_reported(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        code = "from serving.api.connection_limits import max_connections; print(max_connections(50))"
        for files, says in ((100, "too low to serve"), (150, "22"), (4096, "50")):
            files = min(files, limits[1])
            script = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files})); {code}"
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
            assert says in done.stdout + done.stderr


def live_status(server: Server) -> int:
    try:
        return httpx.get(f"{server.address}/health/live", timeout=10).status_code
    except httpx.TransportError:
        return 0


MANY = ",".join(f'"{i}":0' for i in range(600_000))
MANY_IN_A_ROW = ",".join(f'"{i}":0' for i in range(6_000))  # within the bytes of a row
RECORDS = pa.record_batch({"a": pa.nulls(10_000)})
LONG = pa.array(["x" * 4_000_000, "y"])


def aliased(columns: int) -> bytes:
    """Columns of text that share their buffers: all refer to those of the first."""
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
    """A stream with one column."""
    return stream(pa.table({"a": values if isinstance(values, pa.Array) else pa.array(values, kind)}))


NULLS = pa.record_batch([pa.nulls(10_000)] * 3_000, [f"c{i}" for i in range(3_000)])
RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([1 << 20], pa.int32()), pa.array(["x"]))
UNION = pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])])
SENT_OFTEN = [pa.record_batch({"a": pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), LONG)})] * 1_000
METADATA = {f"{i}": "x" for i in range(5_000)}
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
    "metadata": (ARROW, stream(pa.table({"a": [1]}).replace_schema_metadata(METADATA)), 422, "metadata"),
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
    def test_a_bomb_is_refused(self, server: Server, name: str) -> None:
        form, body, status, says = BATCHES[name]
        response = during_attack(
            server,
            lambda: httpx.post(f"{server.address}/v1/score/batch", content=body, headers=kind(form), timeout=120),
        )
        assert response.status_code == status, response.text[:300]
        assert says in response.json()["error"]["message"]
        assert len(response.content) < 2_000

    @pytest.mark.parametrize("form", [JSON, NDJSON, ARROW])
    def test_a_row_that_exceeds_a_limit_is_reported_in_its_place(self, server: Server, form: str) -> None:
        good, long = fresh(), fresh(customer_id="x" * 70_000)
        if form == ARROW:
            body = as_arrow([good, long] * 60)
        else:
            texts = [json.dumps(good), f"{{{MANY_IN_A_ROW}}}"]
            body = ("[" + ",".join(texts) + "]" if form == JSON else "\n".join([*texts, json.dumps(long)])).encode()
        response = during_attack(
            server,
            lambda: httpx.post(f"{server.address}/v1/score/batch", content=body, headers=kind(form), timeout=120),
        )
        assert response.status_code == 200
        if form == ARROW:
            statuses = [each["status"] for each in pa.ipc.open_stream(response.content).read_all().to_pylist()]
            assert statuses == [None, 413] * 60
        else:
            answers = response.json() if form == JSON else [json.loads(line) for line in response.text.splitlines()]
            assert [each.get("status", 200) for each in answers] == ([200, 422] if form == JSON else [200, 422, 413])

    def test_a_text_shared_by_all_rows_is_stored_once(self, server: Server) -> None:
        texts = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int16()), LONG)
        response = during_attack(
            server,
            lambda: httpx.post(
                f"{server.address}/v1/score/batch",
                content=stream(pa.record_batch({"customer_id": texts})),
                headers=kind(ARROW),
                timeout=120,
            ),
        )
        assert set(pa.ipc.open_stream(response.content).read_all()["status"].to_pylist()) == {413}

    def test_the_number_in_progress_is_limited(self, folder: Path) -> None:
        limits = settings(folder, batches=2)
        ask = HEAD.replace(b"/v1/score", b"/v1/score/batch") + b"Content-Length: 2\r\n\r\n["
        with running(create_app(limits), limits) as address:
            with contextlib.ExitStack() as held:
                for _ in range(2):
                    port = int(address.rpartition(":")[2])
                    held.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(ask)
                deadline = time.monotonic() + 30
                while (response := httpx.post(f"{address}/v1/score/batch", json=[])).status_code != 503:
                    assert time.monotonic() < deadline
                assert response.headers["Retry-After"] == "1"
                assert httpx.post(f"{address}/v1/score", json=fresh()).status_code == 200
            while httpx.post(f"{address}/v1/score/batch", json=[]).status_code != 200:
                assert time.monotonic() < deadline

    def test_its_rows_count_against_the_rate(self, tmp_path: Path) -> None:
        home = serving_home(tmp_path)
        keys, token = keys_with_new((), "till", ["score"], per_second=5.0)
        HomeKeys(home).write(keys, None)
        headers = {"Authorization": f"Bearer {token}"}
        with TestClient(create_app(settings(tmp_path)), headers=headers) as client:
            refused = client.post("/v1/score/batch", json=[fresh() for _ in range(301)])
            assert (refused.status_code, "300 at once" in refused.text) == (413, True)
            whole = client.post("/v1/score/batch", json=[fresh() for _ in range(100)])
            assert [answer.get("status", 200) for answer in whole.json()] == [200] * 100
            later = client.post("/v1/score", json=fresh())
            assert later.status_code == 429
            assert 10 <= int(later.headers["Retry-After"]) <= 20  # 100 rows at 5 a second, less the tokens before


class TestObject:
    @pytest.mark.parametrize("path", ["/v1/score", "/v1/feedback"])
    def test_too_many_fields_are_not_reported_one_by_one(self, server: Server, path: str) -> None:
        def attack() -> list[httpx.Response]:
            with httpx.Client(base_url=server.address, timeout=60) as caller:
                body = f"{{{MANY_IN_A_ROW}}}"
                return [caller.post(path, content=body, headers=kind(JSON)) for _ in range(20)]

        for response in during_attack(server, attack):
            assert (response.status_code, "fields; the limit" in response.text) == (422, True)
            assert len(response.content) < 2_000

    def test_reported_fields_are_few_and_short(self, server: Server) -> None:
        changes = {f"{i}" + "x" * 500: 0 for i in range(EXTRA_FIELDS - 1)}
        response = httpx.post(f"{server.address}/v1/score", json=fresh(**changes))
        assert response.status_code == 422
        assert len(response.json()["error"]["fields"]) == EXTRA_FIELDS - 1
        assert max(len(problem["field"]) for problem in response.json()["error"]["fields"]) < 120

    @given(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=120))
    def test_fields_are_counted_whatever_they_contain(self, values: dict[str, Any]) -> None:
        model = transaction_model(CONTRACT)
        limit = len(model.model_fields) + EXTRA_FIELDS
        with pytest.raises((MalformedRequest, ValueError)) as caught:
            validate_json(model, json.dumps(values).encode())
        assert isinstance(caught.value, MalformedRequest) == (len(values) > limit)
        colons = fresh(customer_id=":" * 250, terminal_id='":"' * 80)
        assert validate_json(model, json.dumps(colons).encode()) is not None

    def test_forms_and_queries_are_limited_too(self, server: Server) -> None:
        headers = kind("application/x-www-form-urlencoded") | {"HX-Request": "true"}
        form = "&".join(f"f{i}=" for i in range(MAX_FORM_FIELDS + 1))
        assert httpx.post(f"{server.address}/console/score", content=form, headers=headers).status_code == 413
        query = "&".join(f"f{i}" for i in range(700))
        response = httpx.get(f"{server.address}/v1/decisions?{query}", timeout=60)
        assert (response.status_code, len(response.json()["error"]["fields"])) == (422, 100)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@examples(deadline=None)
@given(rows=st.lists(VALUES, max_size=8), indent=st.none() | st.integers(0, 3), escaped=st.booleans())
def test_the_rows_of_an_array_are_its_elements(rows: list[Any], indent: int | None, escaped: bool) -> None:
    """No row is truncated or lost, and a row that exceeds the limit is found, whatever the limit is."""
    body = json.dumps(rows, indent=indent, ensure_ascii=escaped).encode()
    assert [json.loads(row) for row in read_json(body, len(body))] == rows
    longest = max((len(row) for row in read_json(body, len(body))), default=0)
    assert len(read_json(body, longest + SLACK)) == len(rows)
    for limit in range(1, longest):
        try:
            assert UnreadableRow in map(type, FORMATS[JSON].read(body, BatchLimits(100, limit, 10, 1)))
        except TooLarge as error:
            assert "exceeds the limit" in str(error)  # noqa: PT017


def read_json(body: bytes, limit: int) -> list[bytes]:
    rows = list(FORMATS[JSON].read(body, BatchLimits(100, limit, 10, 1)))
    return [row for row in rows if isinstance(row, bytes)]
