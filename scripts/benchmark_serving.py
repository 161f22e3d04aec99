"""Load on `textgen serve`: tokens per second, latency and memory against the number of streams.

    python scripts/benchmark_serving.py novel --streams 1,8,32,64 --seconds 20

Starts a server, and from this process keeps so many streams open; each ends after `--tokens` tokens, and another one
begins at once. Prints a table in Markdown. With --url it measures a server that is running.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

TEXT = "the cat sat on a mat and saw the moon over an old house by the sea where nobody had lived for years"


@dataclass
class Load:
    """What so many streams met.

    Attributes:
        streams: Streams at a time.
        seconds: How long.
        first: Seconds from a request to its first token.
        between: Seconds between two tokens of a stream.
        tokens: Tokens in all.
        failed: Requests that failed.
        memory: Resident memory of the server, bytes.
        busy: Seconds of processor time that the server used.
    """

    streams: int
    seconds: float
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    failed: int = 0
    memory: int = 0
    busy: float = 0.0

    def row(self) -> str:
        """A row of the table."""
        figures = [quantile(self.first, 0.5), quantile(self.first, 0.99), quantile(self.between, 0.5)]
        figures.append(quantile(self.between, 0.99))
        times = " | ".join(f"{1000 * seconds:,.0f}" for seconds in figures)
        rate, cores = self.tokens / self.seconds, self.busy / self.seconds
        return (
            f"| {self.streams} | {rate:,.0f} | {rate / max(cores, 1e-9):,.0f} | {times} | {len(self.first):,} | "
            f"{self.failed} | {self.memory / 2**20:,.0f} |"
        )


HEADER = (
    "| streams | tokens/s | tokens/s a core | first token ms, p50 | p99 | between tokens ms, p50 | p99 | requests | "
    "failed | memory MB |\n|---|---|---|---|---|---|---|---|---|---|"
)


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def stream(load: Load, host: str, port: int, tokens: int, seed: int | None, until: float) -> None:
    """Keeps one stream open until a time."""
    rng = random.Random(seed)
    while time.perf_counter() < until:
        prompt = " ".join(rng.choices(TEXT.split(), k=rng.randint(1, 40)))
        fields = {"prompt": prompt, "max_tokens": tokens, "min_tokens": tokens, "stream": True, "logprobs": 0}
        body = json.dumps(fields if seed is None else {**fields, "seed": seed}).encode()
        began = last = time.perf_counter()
        is_first = True
        try:
            reader, writer = await asyncio.open_connection(host, port)
            head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            while line := await reader.readline():
                now = time.perf_counter()
                if line.startswith(b"data: [DONE]"):
                    break
                if line.startswith(b"HTTP/1.1") and b" 200 " not in line:
                    raise OSError(line)
                if line.startswith(b"data: {") and b'"tokens":[' in line:
                    (load.first if is_first else load.between).append(now - last)
                    is_first, last = False, now
                    load.tokens += 1
            writer.close()
            if is_first:
                raise OSError("no token")
        except OSError:
            load.failed += 1
            await asyncio.sleep(0.05)
        if time.perf_counter() - began < 0.001:
            await asyncio.sleep(0.001)


async def measure(streams: int, seconds: float, tokens: int, url: str, pid: int | None, is_seeded: bool) -> Load:
    """Measures a number of streams, after a second of warming up."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    warm = Load(streams, 1.0)
    seeds = [number if is_seeded else None for number in range(streams)]
    await asyncio.gather(*[stream(warm, host, port, 5, seed, time.perf_counter() + 1.0) for seed in seeds])
    load, began, busy = Load(streams, seconds), time.perf_counter(), processor_time(pid)
    await asyncio.gather(*[stream(load, host, port, tokens, seed, began + seconds) for seed in seeds])
    load.seconds = time.perf_counter() - began
    load.busy, load.memory = processor_time(pid) - busy, resident(pid)
    return load


def processor_time(pid: int | None) -> float:
    """Seconds of processor time of a process; 0 where it is not known."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def resident(pid: int | None) -> int:
    """Resident memory of a process in bytes; 0 where it is not known."""
    if pid is None:
        return 0
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    return 1024 * int(found[1]) if found else 0


@contextmanager
def server(model: str) -> Iterator[tuple[str, int]]:
    """A server of a model: its address and process."""
    command = [sys.executable, "-m", "textgen", "serve", model, "--port", "0", "--slots", "64"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        try:
            for line in program.stderr or ():
                if found := re.search(r"http://\S+:\d+", line):
                    yield found[0], program.pid
                    break
            else:
                raise SystemExit("The server did not begin.")
        finally:
            program.terminate()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a name in saved_models or a folder")
    parser.add_argument("--url", help="a server that is running")
    parser.add_argument("--streams", default="1,8,32,64", help="numbers of streams, with commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each number of streams")
    parser.add_argument("--tokens", type=int, default=100, help="of each text")
    parser.add_argument("--seeded", action="store_true", help="give each text a seed, so that it is computed by itself")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.streams.split(",")]

    def run(url: str, pid: int | None) -> None:
        print(HEADER)
        for number in numbers:
            how = (arguments.seconds, arguments.tokens, url, pid, arguments.seeded)
            print(asyncio.run(measure(number, *how)).row(), flush=True)

    if arguments.url:
        run(arguments.url, None)
    elif arguments.model:
        with server(arguments.model) as (url, pid):
            run(url, pid)
    else:
        parser.error("name a model, or give --url")


if __name__ == "__main__":
    main()
