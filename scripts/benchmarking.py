"""What the benchmarks share: contenders run in processes of their own, in turn, several rounds; medians count."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

Result = dict[str, Any]
Value = TypeVar("Value")
RUN = ("script", "machine", "round", "contender")  # what says which run of a benchmark was measured
OWN_SECONDS = 0.4  # for which a process may end by itself; within a second, training takes two signals for one
TESTS = Path(__file__).resolve().parent.parent / "tests" / "helpers"


# === Arguments: types for argparse, whose errors end a script with 2 ===


def positive_int(text: str) -> int:
    """A whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, not {text!r}")
    return number


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return number


def comma_list(kind: Callable[[str], Value]) -> Callable[[str], list[Value]]:
    """Values of a kind, with commas between them."""
    return lambda text: [kind(part) for part in text.split(",")]


def named_text(text: str) -> tuple[str, str]:
    """A name and what it stands for, such as a file, from NAME=TEXT."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"expected a name, = and a value, not {text!r}")
    return name, value


def require_own_names(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Ends the script with an error about usage if two texts have one name, by which their results are told apart.

    Args:
        parser: The parser of the script.
        names: Names of the texts.
    """
    for name, number in Counter(names).items():
        if number > 1:
            parser.error(f"two texts are called {name!r}: give each a name of its own.")


def named_value(text: str) -> tuple[str, Any]:
    """A setting and its value, from NAME=VALUE."""
    name, _, value = text.partition("=")
    try:
        return name.replace("-", "_"), json.loads(value)
    except ValueError:
        return name.replace("-", "_"), value


def arguments(description: str, rounds: int = 3) -> argparse.ArgumentParser:
    """The options that all benchmarks have; --worker is how a contender is started in its own process."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=positive_int, default=rounds, help="runs of each contender, interleaved")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where each run is added; runs that the file has are not repeated"
    )
    parser.add_argument("--only", metavar="TEXT", help="leave out what has not this in its name")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser


def chosen(contenders: Sequence[Result], only: str | None) -> list[Result]:
    """The contenders that `--only` does not leave out. Raises `ConfigError` if it leaves out all of them."""
    names = names_with(only or "", [contender["name"] for contender in contenders])
    return [contender for contender in contenders if contender["name"] in names]


def names_with(part: str, names: Sequence[str]) -> list[str]:
    """The names with a text in them. Raises `ConfigError` if there are none."""
    from textgen.errors import ConfigError

    found = [name for name in names if part in name]
    if not found:
        raise ConfigError(f"Nothing to measure has {part!r} in its name: name a part of one of {', '.join(names)}.")
    return found


# === How scripts end, and the processes that they start ===


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs the main function of a script and exits.

    A wrong name, a missing file or Ctrl-C is one line, without a traceback, and a reader that has left is no error: the
    exit code is that of textgen. SIGTERM and SIGHUP end it like Ctrl-C, so that nothing is left behind.
    """
    import click
    from click.exceptions import Exit

    from textgen.cli import output
    from textgen.cli.signals import ending_in_order
    from textgen.errors import TextgenError

    try:
        with ending_in_order():
            try:
                # By itself, a command of Click would end with 1 by any signal.
                code = main(standalone_mode=False) if isinstance(main, click.Command) else main()
            except click.Abort as abort:
                raise abort.__cause__ or abort from None
            except OSError as error:
                # It may be that of a pipe to another process.
                if not output.has_no_reader(error) or _has_reader():
                    raise
                raise output.reader_left() from None
            finally:
                output.flush()  # raises `Exit` if the reader has left
    except Exit as end:
        code = end.exit_code
    except KeyboardInterrupt as interrupt:
        output.note(f"\n{str(interrupt) or 'Interrupted.'}")
        code = getattr(interrupt, "exit_code", 130)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (TextgenError, OSError) as error:
        output.note(f"Error: {error}")
        code = getattr(error, "exit_code", 1)
    sys.exit(code)


def _has_reader() -> bool:
    """Whether standard output still takes a line."""
    from textgen.cli import output

    try:
        print(flush=True)
    except OSError as error:
        if output.has_no_reader(error):
            return False
        raise
    return True


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that does not outlive the block: if that ends early, as by a signal, the process ends in order.

    Args:
        command: The program and its arguments.
        options: Those of `subprocess.Popen`.
    """
    process = subprocess.Popen(command, **options)
    try:
        yield process
    except KeyboardInterrupt:
        # On Windows it cannot be asked to end, only killed, and Ctrl-C has reached it.
        end_in_order(process, None if os.name == "nt" else OWN_SECONDS)
        raise
    except BaseException:
        end_in_order(process, OWN_SECONDS)
        raise
    finally:
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            pipe.close()


def completed(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Runs a process to its end.

    `subprocess.run` kills it a quarter of a second after Ctrl-C, which is too early to save what it has trained.

    Args:
        command: The program and its arguments.
        options: Those of `subprocess.Popen`.

    Returns:
        The process with its exit status and what it wrote.
    """
    with started(command, **options) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def end_in_order(process: subprocess.Popen[Any], seconds: float | None) -> None:
    """Ends a process and waits until it has saved and cleaned up. Another signal meanwhile kills it.

    Args:
        process: The process.
        seconds: How long it may take to end by itself before it is asked: a terminal sends Ctrl-C to it, too, and a
            service manager its signals. None to never ask it.
    """
    with _killed_by_another_signal([process]):
        try:
            process.communicate(timeout=seconds)  # which reads on, so that it never waits for a reader
        except subprocess.TimeoutExpired:
            process.terminate()
            process.communicate()


@contextmanager
def _killed_by_another_signal(processes: Sequence[subprocess.Popen[Any]]) -> Iterator[None]:
    """Kills the processes if a signal comes while the block waits for them, after one that has ended the script."""
    from textgen.cli.signals import ending_in_order

    try:
        with ending_in_order():  # by a first signal, as `run_script` handles it, the next would end this process alone
            yield
    except BaseException:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        raise


class Processes:
    """Processes for which threads wait. If the block ends early, as by a signal, they end in order, and none is left.

    Enter the block after that of the threads, which end once their processes do.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: list[subprocess.Popen[Any]] = []
        self._is_over = False

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not kind:
            return
        with _killed_by_another_signal(self._started):
            with self._lock:
                self._is_over = True
            # On Windows they cannot be asked to end, only killed, and Ctrl-C has reached them.
            if not (os.name == "nt" and issubclass(kind, KeyboardInterrupt)):
                until = time.monotonic() + OWN_SECONDS
                while self._running() and time.monotonic() < until:
                    time.sleep(0.01)
                for process in self._running():
                    process.terminate()
            for process in self._started:
                process.wait()

    def _running(self) -> list[subprocess.Popen[Any]]:
        return [process for process in self._started if process.poll() is None]

    def completed(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Runs a process to its end. After the end of the block, or if that has begun, it is not started.

        Args:
            command: The program and its arguments.
            options: Those of `subprocess.Popen`.

        Returns:
            The process with its exit status and what it wrote.
        """
        with self._lock:
            if self._is_over:
                raise CancelledError
            process = subprocess.Popen(command, **options)
            self._started.append(process)
        output, errors = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def interleave(
    script: str, contenders: Sequence[Result], rounds: int, path: Path | None, places: Mapping[str, Any] | None = None
) -> list[Result]:
    """Runs `script --worker JSON` for each contender in turn, `rounds` times; adds the medians to each.

    Args:
        script: Path of the script.
        contenders: What runs against what; each has a `name`.
        rounds: Runs of each.
        path: File to which each run is added as soon as it has ended; those that it has are not repeated.
        places: What the workers get besides, which does not say what is measured, such as paths of temporary files.

    Returns:
        Each contender with the medians of its runs.

    Raises:
        ConfigError: The file has a line that is no run of a benchmark.
        OSError: The file cannot be written.
    """
    known, runs = earlier_results(path, (*RUN, "measured")), list[list[Result]]([] for _ in contenders)
    for number in range(1, rounds + 1):
        for contender, results in zip(contenders, runs, strict=True):
            title = f"round {number}: {contender['name']}"
            run = {"script": Path(script).stem, "machine": machine(), "round": number, "contender": contender}

            def measure(contender: Result = contender) -> Result:
                return by_worker(script, {**contender, **(places or {})}, contender["name"], environment(contender))

            results.append(measured_once(path, known, run, title, measure))
    return [{**contender, **_medians(results)} for contender, results in zip(contenders, runs, strict=True)]


def measured_once(
    path: Path | None, known: Sequence[Result], run: Result, title: str, measure: Callable[[], Result]
) -> Result:
    """What a run measures, by the results known of a file, or else now; then it is added to the file.

    Args:
        path: The file; None to keep nothing.
        known: The results that it had.
        run: What says which run it is.
        title: The same for people, on standard error.
        measure: Measures it.
    """
    for result in known:
        if all(result[name] == value for name, value in run.items()):
            print(f"{title}: measured before, as {path} says", file=sys.stderr)
            found: Result = result["measured"]
            return found
    print(f"{title} ...", file=sys.stderr)
    found = measure()
    if path:
        add_result(path, {**run, "measured": found})
    return found


def by_worker(script: str, job: Result, name: str, variables: Mapping[str, str] | None = None) -> Result:
    """The result of `script --worker JSON`, a process of its own, which prints it as its last line.

    Args:
        script: Path of the script.
        job: What the worker gets.
        name: What the error message calls the job.
        variables: Environment of the process; that of this one by default.
    """
    command = [sys.executable, script, "--worker", json.dumps(job)]
    done = completed(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    result: Result = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def environment(contender: Result) -> dict[str, str]:
    """That of a contender's process."""
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    variables.pop("OPENBLAS_CORETYPE", None)  # every library chooses what suits this processor
    if contender.get("allocator") == "tuned":
        keep = str(1 << 30)
        variables |= {"MALLOC_MMAP_THRESHOLD_": keep, "MALLOC_TRIM_THRESHOLD_": keep, "MALLOC_TOP_PAD_": str(1 << 26)}
    return variables


def require_torch(contenders: Sequence[Result]) -> None:
    """Raises `TextgenError` if PyTorch is one of the contenders, by their `framework`, and is not installed."""
    from textgen.versions import require

    if any(contender["framework"] == "torch" for contender in contenders):
        require("A comparison with PyTorch", ["torch"], "benchmark")


@contextmanager
def browser_of_tests(name: str) -> Iterator[Any]:
    """A browser, by the driver of the tests. Raises `TextgenError` if it is not installed."""
    import pytest

    from textgen.errors import TextgenError

    sys.path.insert(0, str(TESTS))
    from browsers import opened

    try:
        with opened(name) as browser:
            yield browser
    except pytest.skip.Exception as missing:
        raise TextgenError(str(missing)) from None


def _medians(results: Sequence[Result]) -> Result:
    return {key: statistics.median(result[key] for result in results) for key in results[0]} | {"runs": list(results)}


# === The machine ===


def peak_memory(children: bool = False) -> float:
    """Bytes that this process held at most; NaN where that is not known, as on Windows.

    Args:
        children: Count the largest of the processes that it has started and that have ended instead.
    """
    try:
        import resource
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1 if sys.platform == "darwin" else 1024)


def with_memory(work: Callable[[], object]) -> tuple[float, float]:
    """Does something. Returns its seconds, and the bytes that this process and those below it held at most.

    Their resident sizes are added up ten times a second, so shared pages count twice. Without /proc, it is the peak of
    this process and that of the largest of the others, which have ended by then.
    """
    peak, is_over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(0.1):
            peak = max(peak, resident(os.getpid()))

    watching, started = threading.Thread(target=watch), time.perf_counter()
    watching.start()
    try:
        work()
    finally:
        seconds = time.perf_counter() - started
        is_over.set()
        watching.join()
    return seconds, max(peak, peak_memory()) if peak else peak_memory() + peak_memory(children=True)


def resident(pid: int) -> int:
    """Bytes that a process and those below it hold, by /proc; 0 where that is not known."""
    process = Path(f"/proc/{pid}")
    try:
        pages = int((process / "statm").read_text(encoding="ascii").split()[1])
        children = [child for path in process.glob("task/*/children") for child in path.read_text("ascii").split()]
    except (OSError, IndexError):  # it, or one of its threads, has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)


def machine() -> str:
    """Processor, cores and system, for the heading of a table."""
    from textgen.system.machine import num_cores

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {num_cores()} cores, Python {platform.python_version()}"


# === Files and tables ===


def read_text(path: Path) -> str:
    """The text of a file. Raises `TextgenError` if it cannot be read or is not UTF-8."""
    from textgen.cli import options

    return options.read_text(str(path))


def report(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], measured_on: str | None = None) -> None:
    """A Markdown table on standard output.

    Args:
        title: Its heading.
        header: The names of its columns.
        rows: Its rows.
        measured_on: The machine, for the heading; this one by default.
    """
    print(f"\n{title} ({measured_on or machine()})\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def earlier_results(path: Path | None, names: Collection[str] = ()) -> list[Result]:
    """The results in a file to which more are going to be added, as `known_results` has them; none without a file.

    Raises:
        ConfigError: A line is not such a result.
        OSError: The file cannot be written, which is told before anything is measured.
    """
    if path is None:
        return []
    with path.open("a", encoding="utf-8"):
        return known_results(path, names)


def check_same(path: Path, results: Sequence[Result], what: str, **values: object) -> None:
    """Checks that results of a file are of what is measured now, so that they are not shown for it.

    Args:
        path: The file.
        results: The results.
        what: What they would be of otherwise, for the message.
        values: What each of them must have.

    Raises:
        ConfigError: A result has something else, or does not say what it has.
    """
    from textgen.errors import ConfigError

    if any(name not in result or result[name] != value for result in results for name, value in values.items()):
        raise ConfigError(f"{path} has results of {what}, or does not say what it has results of: name another file.")


def digest(data: bytes) -> str:
    """The SHA-256 of a text, which says on which one something was measured."""
    return hashlib.sha256(data).hexdigest()


def known_results(path: Path, names: Collection[str] = ()) -> list[Result]:
    """The results in a file to which `add_result` has added them; none if there is no file.

    Args:
        path: The file.
        names: What each result has at least.

    Raises:
        ConfigError: A line is not such a result.
    """
    lines = read_text(path).split("\n") if path.exists() else []
    return [_result(path, number, line, names) for number, line in enumerate(lines, 1) if line]


def _result(path: Path, number: int, line: str, names: Collection[str]) -> Result:
    """The result in a line of a file."""
    from textgen.errors import ConfigError

    try:
        result = json.loads(line)
    except ValueError:
        result = None
    if not isinstance(result, dict) or not set(names) <= result.keys():
        raise ConfigError(
            f"{path} has no result of this script in line {number}: remove the line, or name another file."
        )
    return result


def add_result(path: Path, result: Result) -> None:
    """Adds a result to a file, as a line of JSON, so that an interrupted script need not measure it again."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
