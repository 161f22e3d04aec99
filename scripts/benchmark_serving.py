"""Load on `textgen serve`: tokens per second, latency, failures and memory against the load.

    python scripts/benchmark_serving.py english --streams 1,8,32,64 --seconds 20
    python scripts/benchmark_serving.py english --rates 1,2,4,8 --seconds 60

Starts a server, and loads it from this process. With --streams, the given number of streams is open at a time: each
ends after `--tokens` tokens, and another one begins at once. With --rates, requests arrive at random times, the given
number a second on average, whether or not the earlier ones have been answered: latency against the offered load. A
table in Markdown is printed, and on standard error every minute how far it is and what failed. With --url a server that
is running is measured, with --peer one of another program, such as `transformers serve`. Returns 1 if a request failed.

A request succeeds if it is answered with status 200, all of its tokens and the end of the stream. A server of another
program may end its texts earlier: compare the tokens of a text before the rates.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarking import comma_list, positive_int, positive_number, run_script, started

from textgen.system.child_processes import child_command

TEXT = "the cat sat on a mat and saw the moon over an old house by the sea where nobody had lived for years"
PATIENCE = 120.0  # seconds without a line from the server after which a request has failed
START = 120.0  # seconds that a server may take to begin
MINUTE = 60.0
STREAMS = [1, 8, 32, 64]


@dataclass
class Target:
    """The server, and what is asked of it.

    Attributes:
        host: Name of its machine.
        port: Its port.
        pid: Its process; None where it is not known.
        tokens: Tokens of each text.
        is_seeded: Whether each text has a seed, so that it is computed by itself.
        peer: The model to name to a server of another program, each of whose events with text is counted as a token;
            None for textgen.
    """

    host: str
    port: int
    pid: int | None
    tokens: int
    is_seeded: bool
    peer: str | None = None

    def fields(self) -> dict[str, Any]:
        """What each request asks for, besides its prompt."""
        asked: dict[str, Any] = {"max_tokens": self.tokens, "stream": True}
        return asked | ({"model": self.peer} if self.peer else {"min_tokens": self.tokens, "logprobs": 0})

    def is_end(self, line: bytes) -> bool:
        """Whether a line of the answer is the last that counts."""
        return line.startswith(b"data: [DONE]") or bool(self.peer and b'"finish_reason":"' in line)

    def is_token(self, line: bytes) -> bool:
        """Whether a line of the answer brings a token."""
        if self.peer:
            return line.startswith(b"data: {") and b'"text":"' in line and b'"text":""' not in line
        return line.startswith(b"data: {") and b'"tokens":[' in line

    def processor_time(self) -> float:
        """Seconds of processor time of the server; 0 where it is not known."""
        fields = self._known("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100.0 if fields else 0.0

    def resident(self) -> int:
        """Resident memory of the server in bytes; 0 where it is not known."""
        found = re.search(r"VmRSS:\s+(\d+)", self._known("status"))
        return 1024 * int(found[1]) if found else 0

    def _known(self, name: str) -> str:
        """A file about the process of the server; "" where there is none, as on macOS."""
        try:
            return Path(f"/proc/{self.pid}/{name}").read_text(encoding="utf-8") if self.pid else ""
        except OSError:
            return ""


@dataclass
class Load:
    """What a load met.

    Attributes:
        name: How many streams, or requests per second.
        seconds: How long.
        first: Seconds from each request to its first token.
        between: Seconds between two tokens of a stream.
        whole: Seconds from each request to the end of its text.
        tokens: Tokens in all.
        whole_tokens: Tokens of the texts that are complete.
        failures: How often each failure happened.
        memory: Resident memory of the server before, at most, and after, in bytes.
        busy: Seconds of processor time that the server used.
    """

    name: str
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    tokens: int = 0
    whole_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    memory: tuple[int, int, int] = (0, 0, 0)
    busy: float = 0.0

    def row(self) -> str:
        """A row of the table."""
        shares = [(self.first, 0.5), (self.first, 0.99), (self.between, 0.5), (self.between, 0.99), (self.whole, 0.5)]
        times = " | ".join(f"{1000 * quantile(values, share):,.0f}" for values, share in shares)
        rate, a_core = self.tokens / self.seconds, f"{self.tokens / self.busy:,.0f}" if self.busy else ""
        memory = " | ".join(f"{size / 2**20:,.0f}" for size in self.memory)
        a_text = f"{self.whole_tokens / len(self.whole):,.1f}" if self.whole else ""
        return (
            f"| {self.name} | {rate:,.0f} | {a_core} | {times} | {len(self.whole):,} | {a_text} | "
            f"{self.failures.total():,} | {memory} |"
        )


HEADER = (
    "| {} | tokens/s | tokens/s a core | first token ms, p50 | p99 | between tokens ms, p50 | p99 | text ms, p50 | "
    "texts | tokens a text | failed | memory MB, begin | most | end |\n" + 14 * "|---" + "|"
)


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def request(load: Load, target: Target, rng: random.Random, seed: int) -> None:
    """One request; what it met is added to the load."""
    prompt = " ".join(rng.choices(TEXT.split(), k=rng.randint(1, 40)))
    fields = {"prompt": prompt, **target.fields()}
    body = json.dumps({**fields, "seed": seed} if target.is_seeded else fields).encode()
    try:
        await _answer(load, target, body)
    except (OSError, TimeoutError, EOFError) as error:
        load.failures[str(error) or type(error).__name__] += 1
        await asyncio.sleep(0.05)


async def _answer(load: Load, target: Target, body: bytes) -> None:
    """Sends a request and reads its answer. Raises `OSError` if that is not complete."""
    began = last = time.perf_counter()
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {target.host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        status, count, line = await _line(reader), 0, b""
        if b" 200 " not in status:
            raise OSError(status.decode(errors="replace").strip())
        while not target.is_end(line):
            line = await _line(reader)
            if target.is_token(line):
                now = time.perf_counter()
                (load.between if count else load.first).append(now - last)
                count, last = count + 1, now
                load.tokens += 1
        if not count:
            raise OSError("a text without tokens")
        if count != target.tokens and not target.peer:  # others may end a text, as they know no least number
            raise OSError("a text with another number of tokens than asked for")
        load.whole.append(last - began)
        load.whole_tokens += count
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await asyncio.wait_for(reader.readline(), PATIENCE)
    if not line:
        raise EOFError("the answer broke off")
    return line


async def stream(load: Load, target: Target, seed: int, until: float) -> None:
    """Keeps one stream open until a time."""
    rng = random.Random(seed)
    while time.perf_counter() < until:
        await request(load, target, rng, seed)


async def arrivals(load: Load, target: Target, rate: float, until: float) -> None:
    """Sends requests at random times, `rate` a second, until a time; waits for the answers."""
    rng, due = random.Random(0), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            due += rng.expovariate(rate)
            if due > until:
                return
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(request(load, target, random.Random(number), number))


async def watch(load: Load, target: Target) -> None:
    """Notes the memory every second, and tells every minute how far the load is."""
    before, began = target.resident(), time.perf_counter()
    most = before
    for number in itertools.count(1):
        load.memory = before, most, target.resident()
        await asyncio.sleep(1.0)
        most = max(most, target.resident())
        if number % MINUTE == 0:
            print(
                f"{load.name}: {time.perf_counter() - began:.0f} s, {len(load.whole):,} texts, {load.tokens:,} tokens, "
                f"first token p99 {1000 * quantile(load.first, 0.99):,.0f} ms, failed {dict(load.failures)}, "
                f"{target.resident() / 2**20:,.0f} MB",
                file=sys.stderr,
            )


async def measure(target: Target, seconds: float, streams: int = 0, rate: float = 0.0) -> Load:
    """Measures a number of streams, or of requests per second, after a second of warming up.

    Args:
        target: The server.
        seconds: How long requests are sent.
        streams: Streams at a time; 0 if requests arrive at random times.
        rate: Requests a second in that case.

    Returns:
        What was measured, without the warming up.
    """
    warm = Load("warming up")
    await asyncio.gather(*[stream(warm, target, seed, time.perf_counter() + 1.0) for seed in range(streams or 1)])
    load = Load(f"{streams}" if streams else f"{rate:g}")
    began, busy, until = time.perf_counter(), target.processor_time(), time.perf_counter() + seconds
    watching = asyncio.create_task(watch(load, target))
    await asyncio.sleep(0)  # so that it reads the memory before
    if streams:
        await asyncio.gather(*[stream(load, target, seed, until) for seed in range(streams)])
    else:
        await arrivals(load, target, rate, until)
    load.seconds = time.perf_counter() - began
    watching.cancel()
    load.busy = target.processor_time() - busy
    before, most, _ = load.memory
    load.memory = before, max(most, target.resident()), target.resident()
    return load


@contextmanager
def server(model: str) -> Iterator[tuple[str, int]]:
    """A server of a model: its address and process. It writes to a file, so that it never waits for a reader."""
    command = [*child_command("textgen"), "serve", model, "--port", "0", "--slots", "64"]
    with tempfile.NamedTemporaryFile() as log, started(command, stderr=log) as program:
        path, until = Path(log.name), time.perf_counter() + START
        while not (found := re.search(r"http://\S+:\d+", path.read_text(errors="replace"))):
            if program.poll() is not None or time.perf_counter() > until:
                raise SystemExit(f"The server did not begin:\n{path.read_text(errors='replace')}")
            time.sleep(0.1)
        yield found[0], program.pid
        program.terminate()
        program.wait()


def address(url: str) -> tuple[str, int]:
    """The host and the port of a server, from its address; a type for argparse. Requests are sent without TLS."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # such as a port that is no number
        host, port = None, None
    if not host or parts.scheme != "http":
        raise argparse.ArgumentTypeError(f"expected http://HOST:PORT, not {url!r}")
    return host, port or 80


def main() -> int:
    """Measures and prints. Returns 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a name in saved_models, a base or a folder")
    parser.add_argument("--url", type=address, metavar="URL", help="a server that is running, as http://HOST:PORT")
    parser.add_argument("--peer", metavar="MODEL", help="with --url: a server of another program, and its model")
    parser.add_argument(
        "--pid", type=positive_int, help="with --url: the process of that server, to measure its memory"
    )
    parser.add_argument(
        "--streams",
        type=comma_list(positive_int),
        help="numbers of streams, with commas; 1,8,32,64 if no rates are given",
    )
    parser.add_argument("--rates", type=comma_list(positive_number), help="requests per second, with commas")
    parser.add_argument("--seconds", type=positive_number, default=20.0, help="for each row")
    parser.add_argument("--tokens", type=positive_int, default=100, help="of each text")
    parser.add_argument("--seeded", action="store_true", help="give each text a seed, so that it is computed by itself")
    arguments = parser.parse_args()
    if not (arguments.url or arguments.model):
        parser.error("name a model, or give --url")
    if alone := [flag for flag in ("peer", "pid") if getattr(arguments, flag) is not None and not arguments.url]:
        parser.error(f"--{alone[0]} is about a server that is running: give its --url, too")
    if arguments.url:
        return run(arguments, arguments.url, arguments.pid)
    with server(arguments.model) as (url, pid):
        return run(arguments, address(url), pid)


def run(arguments: argparse.Namespace, place: tuple[str, int], pid: int | None) -> int:
    """Prints the tables that were asked for. Returns 1 if a request failed."""
    target = Target(*place, pid, arguments.tokens, arguments.seeded, arguments.peer)
    rates = arguments.rates or []
    numbers = arguments.streams or ([] if rates else STREAMS)
    failures: Counter[str] = Counter()
    tables: dict[str, list[dict[str, Any]]] = {
        "streams": [{"streams": number} for number in numbers],
        "requests/s": [{"rate": rate} for rate in rates],
    }
    for title, loads in tables.items():
        if loads:
            print(HEADER.format(title))
        for how in loads:
            load = asyncio.run(measure(target, arguments.seconds, **how))
            print(load.row(), flush=True)
            failures += load.failures
        print()
    for reason, count in failures.most_common():
        print(f"{count:,} failed: {reason}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    run_script(main)
