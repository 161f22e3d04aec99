"""What measuring scripts share: results that are kept in a file, the heading of a table, memory, how scripts end."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from processes import child_process
from script_modules import SCRIPTS, load_script
from windows_pipes import unread_on_windows

from textgen.errors import ENDING_SIGNALS, ConfigError

MEGABYTE = 1 << 20
STUB = """
import json, os, sys
job = json.loads(sys.argv[2])
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(job["name"] + chr(10))
number = len(open(os.environ["STUB_LOG"]).readlines())  # of the worker
if number == job["fails_at"]:
    sys.exit("broken")
print(json.dumps({"seconds": number}))
"""
HOLDS_MEMORY = f"held = b'x' * {100 * MEGABYTE}; print('ready', flush=True); input()"


@pytest.fixture
def benchmarking(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("benchmarking", monkeypatch)


def test_results_in_the_file_are_read_again(tmp_path: Path, benchmarking: ModuleType) -> None:
    path = tmp_path / "results.jsonl"
    results = [{"name": "诗", "seconds": 1.5}, {"name": "b\n"}]
    assert benchmarking.known_results(path) == []
    for result in results:
        benchmarking.add_result(path, result)
    assert benchmarking.known_results(path) == results


@pytest.mark.parametrize("line", ["[1]", "{", '{"name": "c"}'])
def test_a_damaged_result_is_named_by_its_file_and_line(tmp_path: Path, benchmarking: ModuleType, line: str) -> None:
    path = tmp_path / "results.jsonl"
    benchmarking.add_result(path, {"name": "a", "seconds": 1})
    path.write_text(f"{path.read_text()}\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(f"{path} has no result of this script in line 3: remove the line")):
        benchmarking.known_results(path, ("name", "seconds"))


@pytest.mark.parametrize("place", ["no-such-folder/results.jsonl", "."])
def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(
    place: str, tmp_path: Path, benchmarking: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarking, "by_worker", lambda *_: pytest.fail("it was measured"))
    with pytest.raises(OSError, match=re.escape(str(tmp_path / place))):
        benchmarking.interleave("a.py", [{"name": "one"}], 1, tmp_path / place)


def test_runs_before_one_that_fails_are_kept_and_not_repeated(
    tmp_path: Path, benchmarking: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "log"))
    (tmp_path / "stub.py").write_text(STUB, encoding="utf-8")
    contenders, path = [{"name": "one", "units": 4}, {"name": "two", "units": 4}], tmp_path / "results.jsonl"

    def interleave(number: int, units: int = 4) -> list[dict[str, Any]]:
        runs = [{**contender, "units": units} for contender in contenders]
        found: list[dict[str, Any]] = benchmarking.interleave(
            str(tmp_path / "stub.py"), runs, 2, path, {"fails_at": number}
        )
        return found

    with pytest.raises(SystemExit, match="two failed:\nbroken"):
        interleave(4)
    kept = benchmarking.known_results(path, (*benchmarking.RUN, "measured"))
    assert [(each["round"], each["contender"]["name"], each["measured"]) for each in kept] == [
        (1, "one", {"seconds": 1}), (1, "two", {"seconds": 2}), (2, "one", {"seconds": 3}),
    ]  # fmt: skip
    one, two = interleave(0)
    assert (one["seconds"], two["seconds"]) == (2.0, 3.5), "medians of 1 and 3, and of 2 and 5"
    assert interleave(0) == [one, two], "all of it was known"
    assert interleave(0, units=8)[0]["seconds"] == 7.0, "medians of 6 and 8: other runs have results of their own"


def test_runs_need_no_file(tmp_path: Path, benchmarking: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarking, "by_worker", lambda *_: {"seconds": 2})
    (one,) = benchmarking.interleave("a.py", [{"name": "one"}], 3, None)
    assert (one["seconds"], len(one["runs"])) == (2, 3)


def test_cores_are_counted_where_no_set_of_them_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr("textgen.system.machine._most_cores", None)  # that of the tests
    assert ", 3 cores, Python" in load_script("benchmarking", monkeypatch).machine()


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_no_script_asks_for_a_set_of_cores(script: Path) -> None:
    """A container may grant less time than its cores have."""
    text = script.read_text(encoding="utf-8")
    assert not re.search(r"sched_getaffinity|processor_cores|cpu_count", text), "use textgen.system.machine.num_cores"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_no_script_needs_its_docstring(script: Path) -> None:
    """With PYTHONOPTIMIZE=2 there is none, so it has no first line."""
    assert not re.search(r"__doc__[^\n]*(splitlines|split\()", script.read_text(encoding="utf-8")), "use partition"


# === Memory ===


@contextmanager
def child(code: str) -> Iterator[int]:
    """A process that has printed something and waits. Yields its number."""
    command = [sys.executable, "-S", "-c", code]
    with child_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.communicate("\n")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_is_that_of_a_process_and_those_below_it(benchmarking: ModuleType) -> None:
    before = benchmarking.resident(os.getpid())
    with child(HOLDS_MEMORY) as pid:
        assert benchmarking.resident(pid) >= 100 * MEGABYTE
        assert benchmarking.resident(os.getpid()) >= before + 90 * MEGABYTE
    assert benchmarking.resident(pid) == 0  # it has ended


def test_the_most_memory_is_watched_while_something_is_done(
    benchmarking: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, sizes = threading.Event(), iter([10**14, 10**15])

    def resident(pid: int) -> int:
        size = next(sizes, 1)
        if size == 1:
            asked.set()
        return size

    monkeypatch.setattr(benchmarking, "resident", resident)
    seconds, peak = benchmarking.with_memory(lambda: asked.wait(60))
    assert 0 < seconds < 60
    assert peak == 10**15


def test_without_proc_the_largest_process_that_has_ended_counts(
    benchmarking: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarking, "resident", lambda pid: 0)
    monkeypatch.setattr(benchmarking, "peak_memory", lambda children=False: 5.0 if children else 2.0)
    assert benchmarking.with_memory(lambda: None)[1] == 7.0


def test_memory_is_not_known_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert math.isnan(load_script("benchmarking", monkeypatch).peak_memory())


# === How scripts end ===


def print_row() -> None:
    print("a row")


def print_table() -> None:
    for row in range(200_000):  # more than is kept until the end
        print(row)


@pytest.mark.parametrize("main", [print_row, print_table])
def test_a_reader_that_has_left_ends_a_script_quietly(
    main: Callable[[], None],
    benchmarking: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as caught:
            benchmarking.run_script(main)
    assert caught.value.code == 141
    assert capsys.readouterr().err == ""


def test_on_windows_an_invalid_argument_says_that_the_reader_has_left(
    benchmarking: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with unread_on_windows(tmp_path) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(os, "name", "nt")
        with pytest.raises(SystemExit) as caught:
            benchmarking.run_script(lambda: print("a row", flush=True))
    assert (caught.value.code, capsys.readouterr().err) == (141, "")


def test_a_broken_pipe_to_another_process_is_an_error(
    benchmarking: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SystemExit) as caught:
        benchmarking.run_script(main)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "Error: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize("kind", [lambda main: main, click.command()], ids=["function", "command"])
def test_ctrl_c_ends_a_script_without_a_traceback(
    kind: Callable[[Any], Any],
    benchmarking: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    main = kind(interrupted)
    monkeypatch.setattr(sys, "argv", ["script.py"])
    with pytest.raises(SystemExit) as caught:
        benchmarking.run_script(main)
    assert caught.value.code == 130
    assert capsys.readouterr().err.strip("\n") == "Interrupted."


@pytest.mark.parametrize(("flag", "code", "said"), [("--help", 0, ""), ("--no", 2, "No such option")])
def test_a_script_that_is_a_command_of_click_reads_its_options(
    flag: str,
    code: int,
    said: str,
    benchmarking: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", flag])
    with pytest.raises(SystemExit) as caught:
        benchmarking.run_script(click.command()(print_row))
    assert caught.value.code == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("code", [None, 0, 1])
def test_the_exit_code_is_what_a_script_returns(code: int | None, benchmarking: ModuleType) -> None:
    with pytest.raises(SystemExit) as caught:
        benchmarking.run_script(lambda: code)
    assert caught.value.code == code


@pytest.fixture
def default_signals() -> Iterator[list[int]]:
    """The signals that end a process, as a shell leaves them."""
    handlers = {getattr(signal, name): signal.SIG_DFL for name in ENDING_SIGNALS if hasattr(signal, name)}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield list(handlers)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_of_the_system_end_a_script_in_order(
    default_signals: list[int], benchmarking: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in default_signals:

        def main(number: int = number) -> None:
            with tempfile.TemporaryDirectory(dir=tmp_path):
                signal.raise_signal(number)
                pytest.fail("it went on")

        with pytest.raises(SystemExit) as caught:
            benchmarking.run_script(main)
        assert caught.value.code == 128 + number
        assert capsys.readouterr().err == f"\n{ENDING_SIGNALS[signal.Signals(number).name]}\n"
        assert not list(tmp_path.iterdir())
        assert signal.getsignal(number) == signal.SIG_DFL


# === Processes that scripts start ===

SAVES_LATE = """
import os, pathlib, signal, time
got = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: got.append(number))
pathlib.Path("ready").write_text(str(os.getpid()))
while not got:
    time.sleep(0.01)
print("much" * 100_000, flush=True)  # more than a pipe holds
time.sleep(1.0)  # longer than subprocess.run waits, and than signals may be apart
pathlib.Path("saved").touch()
"""
IGNORES = """
import os, pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("asked").touch())
pathlib.Path("ready").write_text(str(os.getpid()))
while True:
    time.sleep(0.01)
"""


COMPLETED = """
def main():
    return benchmarking.completed(command, stdout=subprocess.PIPE).returncode
"""
IN_A_THREAD = """
from concurrent.futures import ThreadPoolExecutor
def main():
    with ThreadPoolExecutor(1) as pool, benchmarking.Processes() as processes:
        def run(_):
            return processes.completed(command, stdout=subprocess.PIPE).returncode
        return sum(pool.map(run, range(3)))  # two of which wait
"""


@contextmanager
def script_with(child: str, folder: Path, wait: str) -> Iterator[subprocess.Popen[bytes]]:
    """A script that waits for a process, which is ready, in a process group of its own."""
    code = (
        f"import subprocess, sys; sys.path.insert(0, {str(SCRIPTS)!r}); import benchmarking\n"
        f"command = [sys.executable, '-S', '-c', {child!r}]\n{wait}\nbenchmarking.run_script(main)"
    )
    command = [sys.executable, "-c", code]
    with child_process(command, cwd=folder, stderr=subprocess.PIPE, start_new_session=True) as script:
        wait_for(folder / "ready")
        yield script


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} never came"
        time.sleep(0.01)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("send", ["kill", "killpg"])
@pytest.mark.parametrize("wait", [COMPLETED, IN_A_THREAD], ids=["by the script", "by a thread"])
def test_a_process_saves_before_the_script_that_waits_for_it_ends(
    wait: str, name: str, send: str, tmp_path: Path
) -> None:
    """A terminal sends a signal to both of them, `kill` only to the script."""
    number = getattr(signal, name)
    with script_with(SAVES_LATE, tmp_path, wait) as script:
        getattr(os, send)(script.pid, number)
        said = script.communicate(timeout=60)[1].decode()
    assert (tmp_path / "saved").exists()
    assert script.returncode == 128 + number
    assert said == f"\n{ENDING_SIGNALS.get(name, 'Interrupted.')}\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("wait", [COMPLETED, IN_A_THREAD], ids=["by the script", "by a thread"])
def test_a_second_signal_kills_a_process_that_does_not_end(wait: str, name: str, tmp_path: Path) -> None:
    number = getattr(signal, name)
    with script_with(IGNORES, tmp_path, wait) as script:
        os.kill(script.pid, number)
        wait_for(tmp_path / "asked")
        os.kill(script.pid, number)
        script.communicate(timeout=60)
    assert script.returncode == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "ready").read_text()), 0)


def test_an_error_ends_the_processes_that_threads_wait_for(benchmarking: ModuleType, tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", SAVES_LATE]
    with ThreadPoolExecutor(2) as pool:
        processes = benchmarking.Processes()
        waiting = pool.submit(processes.completed, command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        wait_for(tmp_path / "ready")
        with pytest.raises(OSError, match="full"), processes:
            raise OSError("The disk is full")
        assert (tmp_path / "saved").exists()
        done = waiting.result()
        assert (done.returncode, done.stdout) == (0, "much" * 100_000 + "\n")
        with pytest.raises(CancelledError):
            processes.completed(command)


def test_what_a_process_prints_and_returns_is_given_back(benchmarking: ModuleType) -> None:
    command = [sys.executable, "-S", "-c", "import sys; print('a row'); sys.exit(3)"]
    done = benchmarking.completed(command, stdout=subprocess.PIPE, text=True)
    assert (done.stdout, done.returncode) == ("a row\n", 3)
