"""The whole program: it begins, takes signals, and survives clients that behave badly."""

from __future__ import annotations

import http.client
import json
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from processes import child_process
from servers import PATIENCE, Running, running

from textgen.server.config import ServerConfig
from textgen.server.open_files import RESERVED
from textgen.server.serving import CHUNK_BYTES, FEW_CHUNKS, Protocol

STRICT = ServerConfig(port=0, idle_time=0.5, max_connections=20)
LOOP_OF_WINDOWS = "import asyncio; del asyncio.SelectorEventLoop.add_signal_handler"  # which cannot handle signals
FLOOD = 10_000  # bytes of a request that the server may refuse before all of it has come


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models, STRICT) as there:
        yield there


@contextmanager
def started(models: Path, *arguments: str, code: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The program, and the port that it listens on; with `code` that is run before it."""
    program_of = ["-c", f"{code}; from textgen.__main__ import main; main()"] if code else ["-m", "textgen"]
    command = [sys.executable, *program_of, "serve", "--port", "0", "--models-dir", str(models), *arguments]
    with child_process(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr
        lines = iter(program.stderr.readline, "")
        found = next(filter(None, (re.search(r"Listening on http://[^ ]*:(\d+)", line) for line in lines)))
        yield program, int(found[1])


def get(port: int, path: str, **headers: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status


def until(port: int, path: str, status: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while get(port, path) != status:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", ""), ("SIGHUP", ""), ("SIGINT", LOOP_OF_WINDOWS)])
def test_at_a_signal_it_says_so_ends_its_texts_and_exits_with_0(tiny_models: Path, name: str, code: str) -> None:
    program_of = started(tiny_models, "--drain-time", "200", code=code)
    with program_of as (program, port), closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        until(port, "/ready", 200)
        fields = {"max_tokens": 1000, "min_tokens": 1000, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(fields))
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        program.send_signal(getattr(signal, name))
        until(port, "/ready", 503)
        assert get(port, "/health") == 200
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as refused:
            refused.request("POST", "/v1/completions", "{}")
            assert refused.getresponse().read().startswith(b'{"error"')
        assert response.read().endswith(b"data: [DONE]\n\n")
        connection.close()
        assert program.wait(PATIENCE) == 0
        assert program.stderr
        assert "Traceback" not in program.stderr.read()


def test_a_closed_terminal_does_not_end_it_under_nohup(tiny_models: Path) -> None:
    with started(tiny_models, code="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)") as (program, port):
        until(port, "/ready", 200)
        program.send_signal(signal.SIGHUP)
        assert get(port, "/ready") == 200
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 0


def test_a_second_signal_ends_it_at_once(tiny_models: Path) -> None:
    """It waits neither for its texts, which nobody reads, nor for connections to close."""
    code = "from textgen.server import serving; serving.CLOSE_SECONDS = 200"
    with started(tiny_models, "--drain-time", "200", "--idle-time", "200", code=code) as (program, port):
        until(port, "/ready", 200)
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            fields = {"max_tokens": 16_000, "min_tokens": 16_000, "n": 16, "stream": True}
            connection.request("POST", "/v1/completions", json.dumps(fields))
            assert connection.getresponse().readline().startswith(b"data: ")
            program.send_signal(signal.SIGTERM)
            until(port, "/ready", 503)
            program.send_signal(signal.SIGTERM)
            assert program.wait(PATIENCE) == 0
            assert program.stderr
            assert "Error" not in program.stderr.read()


def test_texts_that_do_not_end_in_time_have_an_error_as_their_last_event(tiny_models: Path) -> None:
    with started(tiny_models, "--drain-time", "0.1") as (program, port), ExitStack() as stack:
        until(port, "/ready", 200)
        responses = list[http.client.HTTPResponse]()
        fields = {"max_tokens": 16_000, "min_tokens": 16_000, "stream": True}
        for _ in range(3):
            connection = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port)))
            connection.request("POST", "/v1/completions", json.dumps(fields))
            responses.append(connection.getresponse())
            assert responses[-1].readline().startswith(b"data: ")
        program.send_signal(signal.SIGTERM)
        for response in responses:
            last = response.read().decode().strip().split("\n\n")[-1]
            assert json.loads(last.removeprefix("data: "))["error"]["message"] == "The server is closing."
        stack.close()
        assert program.wait(PATIENCE) == 0
        assert program.stderr
        assert "Error" not in program.stderr.read()


def test_a_signal_ends_it_while_a_model_is_loaded(tiny_models: Path) -> None:
    slow = "import time, textgen.server.models as models; models._read = lambda *_: time.sleep(600)"
    with started(tiny_models, code=slow) as (program, port):
        assert get(port, "/health") == 200
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 0


def test_a_default_model_that_is_damaged_ends_it_with_1(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "tiny", tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"nothing")
    command = [sys.executable, "-m", "textgen", "serve", "--port", "0", "--models-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert "cannot be loaded" in line
    assert "Traceback" not in result.stderr


def test_keys_are_asked_for_and_wrong_ones_refused(tiny_models: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    with started(tiny_models, "--api-key-file", str(keys)) as (program, port):
        until(port, "/ready", 200)
        assert get(port, "/v1/models") == 401
        assert get(port, "/metrics") == 401
        assert get(port, "/v1/models", Authorization="Bearer secret") == 200
        assert get(port, "/v1/models", Authorization="Bearer secret", Host="evil.example") == 403
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 0


def test_the_operator_reads_why_a_network_is_not_computed_as_asked(tiny_models: Path) -> None:
    code = (
        "from textgen.saved_model import saved_model; saved_model.require_onnx = lambda: None; "
        "saved_model.cached_int8_network = lambda *given: (None, 'much')"
    )
    with started(tiny_models, "--runtime", "onnx", code=code) as (program, _):
        assert program.stderr
        assert "tiny would lose too much accuracy (much): NumPy writes" in program.stderr.readline()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no model 'nothing'"),
        (["--host", "192.0.2.1"], "Cannot listen on 192.0.2.1"),
        (["--api-key-file", "/nowhere"], "Cannot read the keys"),
        (["tiny", "tiny"], "Two models are called"),
    ],
)
def test_what_cannot_begin_says_so_in_one_line(tiny_models: Path, arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "textgen", "serve", "--port", "0", "--models-dir", str(tiny_models), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("Warning")]
    assert message in line


# === Clients that behave badly ===


def raw(server: Running, *parts: bytes, pause: float = 0.0) -> bytes:
    """What a connection answers to these bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        received = b""
        try:
            while data := connection.recv(1 << 16):
                received += data
        except ConnectionResetError:
            return received
        return received


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00" + bytes(100) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"X-Flood: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(20_000)) + b"\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_in_the_shape_of_errors(server: Running, data: bytes) -> None:
    head, _, body = raw(server, data).partition(b"\r\n\r\n")
    if head or len(data) < FLOOD:  # a flood may be cut off before its answer can be read
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert server.request("GET", "/health")[0] == 200


@pytest.mark.parametrize(
    "ends",
    [b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"transfer-encoding: chunked\r\nCONTENT-LENGTH: 4"],
)
def test_a_request_that_says_twice_where_it_ends_is_refused_and_the_connection_closed(
    server: Running, ends: bytes
) -> None:
    hidden = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + ends
    answer = raw(server, head + b"\r\n\r\n0\r\n\r\n" + hidden)
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert "has both Content-Length and Transfer-Encoding" in json.loads(body)["error"]["message"]


def test_a_body_that_is_too_large_is_refused_before_it_comes(server: Running) -> None:
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n"
    )
    assert raw(server, head).startswith(b"HTTP/1.1 413")


# === Bodies that are refused ===

CHUNKED = b"%s %s HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
BOUNDED = ServerConfig(port=0, max_body=50_000, idle_time=2 * PATIENCE)


@pytest.fixture(scope="module")
def bounded(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models, BOUNDED, keys=("secret",)) as there:
        yield there


def taken(connection: socket.socket, part: bytes, most: int) -> int:
    """Bytes of copies of a part that could be sent, up to `most`, until the server has closed the connection."""
    size = 0
    with suppress(OSError):
        while size < most:
            connection.sendall(part)
            size += len(part)
    return size


def status_of(connection: socket.socket) -> int:
    """The status of an answer, all of which is read."""
    with closing(http.client.HTTPResponse(connection)) as response:
        response.begin()
        response.read()
        return response.status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (CHUNKED % (b"POST", b"/v1/completions", b"localhost"), 401),
        (CHUNKED % (b"GET", b"/health", b"localhost"), 200),
        (CHUNKED % (b"POST", b"/v1/completions", b"foreign.example"), 403),
        (CHUNKED % (b"POST", b"/nowhere", b"localhost"), 404),
        (CHUNKED % (b"POST", b"/health", b"localhost"), 405),
        (CHUNKED % (b"POST", b"/v1/completions", b"localhost\r\nAuthorization: Bearer secret"), 413),
    ],
)
def test_no_more_is_read_of_a_body_than_twice_the_largest(bounded: Running, head: bytes, status: int) -> None:
    part = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", bounded.port), timeout=PATIENCE) as connection:
        connection.sendall(head)
        if status == 413:
            connection.sendall(part + part)
        connection.settimeout(0.2 if status == 200 else PATIENCE)  # which is answered once its body has come
        with suppress(TimeoutError):
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 %d " % status)
        connection.settimeout(PATIENCE)
        assert taken(connection, part, 1 << 26) < 1 << 26  # most of which waits in the operating system
    assert bounded.request("GET", "/health")[0] == 200


def test_what_frames_a_body_counts_as_what_is_sent_of_it(bounded: Running) -> None:
    head = CHUNKED % (b"POST", b"/v1/completions", b"localhost\r\nAuthorization: Bearer secret")
    with socket.create_connection(("127.0.0.1", bounded.port), timeout=PATIENCE) as connection:
        connection.sendall(head)
        assert taken(connection, b"1;" + b"a" * 30_000 + b"\r\n \r\n", 1 << 26) < 1 << 26


def test_the_rest_of_a_body_that_is_a_little_too_large_is_read_and_the_connection_goes_on(bounded: Running) -> None:
    """A client may send the whole of it before it reads the answer."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", bounded.port), timeout=PATIENCE) as connection:
        for _ in range(3):
            connection.sendall(head)
            assert status_of(connection) == 401
            connection.sendall(b" " * 99_000)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(connection) == 200


def test_a_body_that_becomes_none_after_the_answer_gets_no_other(bounded: Running) -> None:
    with socket.create_connection(("127.0.0.1", bounded.port), timeout=PATIENCE) as connection:
        connection.sendall(CHUNKED % (b"POST", b"/v1/completions", b"localhost"))
        assert status_of(connection) == 401
        connection.sendall(b"no chunk\r\n")
        assert connection.recv(1 << 16) == b""


@pytest.mark.parametrize("host", [b"localhost", b"foreign.example", b"localhost\r\nAuthorization: Bearer secret"])
def test_chunks_that_are_too_small_do_not_hold_up_the_others(bounded: Running, host: bytes) -> None:
    head = CHUNKED % (b"POST", b"/v1/completions", host)
    with socket.create_connection(("127.0.0.1", bounded.port), timeout=PATIENCE) as connection:
        connection.sendall(head)
        assert taken(connection, b"1\r\n \r\n" * 5000, 1 << 26) < 1 << 26
    answer = raw(bounded, head + b"1\r\n \r\n" * (FEW_CHUNKS + 200))
    if b"secret" in host:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert "chunks of 1.0 bytes on average" in json.loads(body)["error"]["message"]
    else:
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("size", [1, 3, 2 * CHUNK_BYTES, 30_000])
def test_a_body_of_many_lines_may_come_in_chunks(bounded: Running, size: int) -> None:
    body = json.dumps({"prompt": "a", "max_tokens": 1}).replace(" ", "\r\n").encode()
    body += b"\r\n" * ((49_000 if size > CHUNK_BYTES else FEW_CHUNKS * size - 100) // 2 - len(body))
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    with closing(http.client.HTTPConnection("127.0.0.1", bounded.port, timeout=PATIENCE)) as connection:
        headers = {"Authorization": "Bearer secret"}
        connection.request("POST", "/v1/completions", iter(parts), headers, encode_chunked=True)
        response = connection.getresponse()
        assert response.status == 200, response.read()


def test_nothing_is_logged_of_what_is_no_request(tiny_models: Path, tmp_path: Path) -> None:
    """Though its head is one, which the application refuses."""
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    with started(tiny_models, "--api-key-file", str(keys)) as (program, port):
        until(port, "/ready", 200)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
                connection.sendall(CHUNKED % (b"POST", b"/v1/completions", b"localhost") + b"no chunk\r\n")
                assert connection.recv(1 << 16).startswith(b"HTTP/1.1 40")
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 0
        assert program.stderr
        assert program.stderr.read() == ""


# === Clients that are slow, and too many ===


def test_requests_that_do_not_arrive_are_given_up(server: Running) -> None:
    began = time.monotonic()
    assert raw(server, b"GET /health HT") == b""
    assert raw(server, *[b"GET /health HTTP/1.1\r\n", *[b"X: 1\r\n"] * 100], pause=0.05) == b""
    answer = raw(server, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("how", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
def test_a_body_that_arrives_drop_by_drop_is_given_up(server: Running, how: str) -> None:
    drop = b"1\r\n{\r\n" if "chunked" in how else b"{"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n{how}\r\n\r\n".encode())
        began = time.monotonic()
        while not select.select([connection], [], [], 0.05)[0]:
            assert time.monotonic() < began + PATIENCE
            connection.sendall(drop)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408")


def test_more_connections_than_allowed_are_refused_and_places_become_free(server: Running) -> None:
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) for _ in range(30)]
    answers = [connection.recv(1 << 16) for connection in connections[20:]]
    refusals = [answer for answer in answers if answer]  # the others got places that were given up meanwhile
    assert refusals
    assert all(answer.startswith(b"HTTP/1.1 503") and b'"error"' in answer for answer in refusals)
    for connection in connections:
        connection.close()
    server.wait(lambda: len(server.server.server_state.connections) == 0)
    assert server.request("GET", "/health")[0] == 200


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of open files")
def test_connections_beyond_the_open_files_of_the_system_are_refused_too(tiny_models: Path) -> None:
    possible = 22  # so that this process needs few files, too: macOS allows 256
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {2 * (RESERVED + possible,)})"
    with started(tiny_models, code=code) as (program, port), ExitStack() as stack:
        until(port, "/ready", 200)
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) for _ in range(60)
        ]
        refusals = [connection.recv(1 << 16) for connection in connections[possible:]]
        assert all(refusal.startswith(b"HTTP/1.1 503") for refusal in refusals)
        connections[0].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connections[0].recv(1 << 16).startswith(b"HTTP/1.1 200")
        stack.close()
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 0
        assert program.stderr
        assert program.stderr.read() == ""


class Reading:
    """A connection with bytes that wait for the client, on a clock of the test."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.is_aborted = False
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []
        self.protocol = Protocol.__new__(Protocol)
        self.protocol.limits = ServerConfig(idle_time=10.0, max_time=1000.0)
        self.protocol.loop = self.protocol.transport = self.protocol.flow = self  # type: ignore[assignment]

    def call_later(self, seconds: float, work: Callable[..., None], *given: Any) -> Reading:
        self.timers.append((seconds, work, given))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.is_aborted = True

    def pause_writing(self) -> None:
        """That of the flow control, as the following."""

    resume_writing = pause_writing

    def read(self, size: int) -> None:
        """Reads so much before the timer."""
        self.waiting -= size
        ((seconds, work, given),) = self.timers
        assert seconds == 10.0
        self.timers.clear()
        work(*given)


@pytest.mark.parametrize(("waiting", "size"), [(1_000_000, 11_000), (20_000_000, 220_000)])
def test_a_client_that_reads_an_answer_slowly_is_not_given_up(waiting: int, size: int) -> None:
    reading = Reading(waiting)
    reading.protocol.pause_writing()
    for _ in range(90):
        reading.read(size)
    reading.protocol.resume_writing()
    assert not reading.is_aborted
    assert not reading.timers


@pytest.mark.parametrize("size", [0, 10_000])
def test_a_client_that_reads_no_more_or_hardly_anything_is_given_up(size: int) -> None:
    reading = Reading(1_000_000)
    reading.protocol.pause_writing()
    reading.read(11_000)
    reading.read(size)
    assert reading.is_aborted
    assert not reading.timers


def test_a_client_that_reads_a_large_answer_too_slowly_for_the_longest_time_is_given_up() -> None:
    reading = Reading(20_000_000)
    reading.protocol.pause_writing()
    reading.read(220_000)
    reading.read(11_000)
    assert reading.is_aborted


def test_a_client_that_does_not_read_is_given_up(server: Running) -> None:
    fields: dict[str, Any] = {"max_tokens": 1000, "min_tokens": 1000, "logprobs": 20, "stream": True}
    connection = server.open("/v1/completions", fields, buffer=4096)
    server.wait(lambda: server.engine.running > 0)
    server.wait(lambda: server.engine.is_idle and not server.server.server_state.connections)
    received = b""
    with closing(connection), suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            received += data
    assert b"[DONE]" not in received
