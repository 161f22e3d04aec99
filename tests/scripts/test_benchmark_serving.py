"""The load on a server: what is counted, and what counts as a failure."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from script_modules import load_script
from servers import running

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_serving.py"
TOKEN = b'data: {"choices":[{"logprobs":{"tokens":["a"]}}]}\n\n'


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("benchmark_serving", monkeypatch)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """A server that answers everything in the same way, and then ends the connection. Yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield http.server_address[1]
        http.shutdown()
        thread.join()


def test_streams_and_requests_by_time_are_answered_and_counted(script: ModuleType, tiny_models: Path) -> None:
    with running(tiny_models) as server:
        target = script.Target("127.0.0.1", server.port, os.getpid(), tokens=5, is_seeded=True)
        for how, name in (({"streams": 3}, "3"), ({"rate": 20.0}, "20")):
            load = asyncio.run(script.measure(target, 0.5, **how))
            assert load.name == name
            assert not load.failures
            assert load.tokens == 5 * len(load.whole) == 5 * len(load.first) > 0
            assert len(load.between) == 4 * len(load.whole)
            assert 0 < script.quantile(load.first, 0.5) <= script.quantile(load.first, 0.99) <= max(load.whole)
            assert load.busy > 0
            before, most, after = load.memory
            assert most >= max(before, after) > 1e6
            cells = load.row().strip("| ").split(" | ")
            assert len(cells) == script.HEADER.splitlines()[0].count("|") - 1
            assert cells[9:11] == ["5.0", "0"]
            columns = [line.count("|") for line in (*script.HEADER.splitlines(), load.row())]
            assert len(set(columns)) == 1


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (503, b"", "HTTP/1.0 503 Service Unavailable"),
        (200, TOKEN, "the answer broke off"),
        (200, b"data: [DONE]\n\n", "a text without tokens"),
        (200, TOKEN + b"data: [DONE]\n\n", "a text with another number of tokens than asked for"),
    ],
)
def test_what_is_not_complete_has_failed(script: ModuleType, status: int, body: bytes, failure: str) -> None:
    with answering(status, body) as port:
        target = script.Target("127.0.0.1", port, None, tokens=2, is_seeded=False)
        load = asyncio.run(script.measure(target, 0.1, streams=1))
    assert set(load.failures) == {failure}
    assert not load.whole
    assert f"| 0 |  | {load.failures.total():,} | 0 | 0 | 0 |" in load.row()


def test_events_with_text_of_another_program_are_its_tokens(script: ModuleType) -> None:
    event = 'data: {{"choices":[{{"index":0,"text":"{}"}}]}}\n\n'.format
    body = event(" a") + event(" b") + 'data: {"choices":[{"finish_reason":"length","index":0,"text":""}]}\n\n'
    with answering(200, body.encode()) as port:
        target = script.Target("127.0.0.1", port, None, tokens=3, is_seeded=False, peer="other")
        load = asyncio.run(script.measure(target, 0.1, streams=1))
    assert not load.failures
    assert load.tokens == 2 * len(load.whole) > 0
    assert "| 2.0 | 0 |" in load.row(), "it may end a text before it has all tokens"
    assert target.fields() == {"max_tokens": 3, "stream": True, "model": "other"}


@pytest.mark.parametrize("pid", [None, 2**30])
def test_memory_and_time_of_a_process_that_is_not_known_are_left_out(script: ModuleType, pid: int | None) -> None:
    """On macOS, which has no /proc, that of no process is."""
    target = script.Target("127.0.0.1", 1, pid, tokens=1, is_seeded=False)
    assert (target.resident(), target.processor_time()) == (0, 0.0)
    load = script.Load("1", seconds=2.0, tokens=10, busy=target.processor_time())
    assert load.row().split("|")[2:4] == [" 5 ", "  "]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["tiny", "--rates=-1"], "--rates: expected a number above 0, not '-1'"),
        (["tiny", "--rates", "1,0"], "--rates: expected a number above 0, not '0'"),
        (["tiny", "--streams", "0"], "--streams: expected a whole number from 1 on, not '0'"),
        (["tiny", "--streams", "1,a"], "--streams: expected a whole number from 1 on, not 'a'"),
        (["--url", "localhost:18000"], "--url: expected http://HOST:PORT, not 'localhost:18000'"),
        (["--url", "https://localhost"], "--url: expected http://HOST:PORT, not 'https://localhost'"),
        (["tiny", "--peer", "other"], "--peer is about a server that is running: give its --url, too"),
        (["tiny", "--pid", "12"], "--pid is about a server that is running: give its --url, too"),
        (["tiny", "--url", "http://localhost", "--pid", "0"], "--pid: expected a whole number from 1 on, not '0'"),
        (["--url", "http://localhost:no"], "--url: expected http://HOST:PORT, not 'http://localhost:no'"),
    ],
)
def test_wrong_arguments_end_it_before_a_server_begins(
    script: ModuleType,
    arguments: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark_serving.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        script.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(problem)


def test_each_number_of_streams_and_of_requests_is_a_row(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = list[tuple[Any, ...]]()

    async def measure(target: Any, seconds: float, **how: float) -> Any:
        asked.append((target.host, target.port, how))
        return script.Load("row", seconds=seconds)

    monkeypatch.setattr(script, "measure", measure)
    for flags in ([], ["--rates", "0.5,2"]):
        monkeypatch.setattr(sys, "argv", ["benchmark_serving.py", "--url", "http://[::1]:18000/", *flags])
        assert script.main() == 0
    assert {(host, port) for host, port, _ in asked} == {("::1", 18000)}
    assert [how for _, _, how in asked] == [
        *({"streams": number} for number in (1, 8, 32, 64)),
        *({"rate": rate} for rate in (0.5, 2.0)),
    ]
    assert capsys.readouterr().out.count("| row |") == 6
