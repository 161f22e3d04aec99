"""Several processes: started, watched, started again; and real ones that train together (slow)."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import child_process

from textgen.errors import ConfigError, TrainingError
from textgen.storage.leftovers import move_aside
from textgen.storage.locks import locked
from textgen.storage.system_errors import OPEN_FILES_ADVICE
from textgen.training.checkpoints import newest_checkpoint
from textgen.training.distributed import worker_group, workers
from textgen.training.distributed.joining import planned_shares
from textgen.training.distributed.workers import run_workers

SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
folder, first, rest = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
place = json.loads(os.environ["TEXTGEN_WORKER"])
index = place["worker"]
assert len(place["links"]) == (1 if index else place["of"] - 1)
def log(worker):
    return folder / f"log-{worker}"
def starts(worker):
    return log(worker).read_text().count("\\n") if log(worker).exists() else 0
times = starts(index)
print("worker", index, "speaks", file=sys.stderr)
with log(index).open("a") as file:
    file.write(" ".join(rest) + "\\n")
until = time.monotonic() + 60  # the first that fails leaves the others too little time to begin
while min(map(starts, range(place["of"]))) <= times and time.monotonic() < until:
    time.sleep(0.01)
what = first[times][index] if times < len(first) else 0
if what == "wait":
    time.sleep(60)
elif what == "stop":
    os.kill(os.getpid(), signal.SIGSTOP)
elif isinstance(what, str):
    os.kill(os.getpid(), getattr(signal, what))
sys.exit(what)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that ends as it is told, each time it is started."""
    monkeypatch.setattr(
        "textgen.training.distributed.workers.time.sleep", lambda seconds: time_sleep(min(seconds, 0.05))
    )
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


time_sleep = time.sleep


def run(script: Path, endings: list[list[object]], max_restarts: int = 3) -> tuple[int, list[str]]:
    """The exit code and what was said, where the workers' n-th start ends with `endings[n]`."""
    said: list[str] = []
    command = [sys.executable, str(script), str(script.parent), json.dumps(endings)]
    number = len(endings[0])
    code = run_workers(
        ["begin"],
        lambda: ["go", "on"],
        number,
        script.parent,
        max_restarts=max_restarts,
        say=said.append,
        command=command,
    )
    return code, said


def starts(script: Path, worker: int = 0) -> list[str]:
    return (script.parent / f"log-{worker}").read_text(encoding="utf-8").splitlines()


def test_all_are_done(script: Path) -> None:
    assert run(script, [[0, 0, 0]]) == (0, [])
    assert [starts(script, worker) for worker in range(3)] == [["begin"]] * 3


@pytest.mark.parametrize("code", [1, 2, 130, 143])
def test_what_a_restart_would_not_mend_ends_the_others(
    script: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    assert run(script, [[code, "wait"]]) == (code, [])
    assert starts(script) == ["begin"]


def test_the_error_of_another_worker_is_shown(script: Path) -> None:
    assert run(script, [[75, 1]]) == (1, ["worker 1 speaks"])


def test_one_that_is_killed_is_started_again_with_all_others(script: Path) -> None:
    code, said = run(script, [[75, "SIGKILL"], [0, 0]])
    assert code == 0
    assert starts(script) == starts(script, 1) == ["begin", "begin"]
    assert said == [
        "Worker 1 of 2 was ended by SIGKILL. Its last words: worker 1 speaks "
        "All start again from the last checkpoint in 1 s (1 of 3)."
    ]


@pytest.mark.parametrize("is_aside", [False, True], ids=["", "moved aside"])
def test_a_restart_resumes_once_there_is_a_checkpoint(script: Path, is_aside: bool) -> None:
    """The first start is what was asked for, whatever is there: it may refuse."""
    checkpoint = script.parent / "checkpoints" / "step-000000005"
    checkpoint.mkdir(parents=True)
    if is_aside:  # a worker was killed while it replaced it
        move_aside(checkpoint)
    assert run(script, [[75, 75], [0, 0]])[0] == 0
    assert starts(script) == ["begin", "go on"]


def test_one_that_is_stopped_is_killed_when_another_gives_up_on_it(script: Path) -> None:
    code, said = run(script, [["SIGALRM", "stop"], [0, 0]])
    assert code == 0
    assert "Worker 0 of 2 did not make progress in time (start_timeout, step_timeout)." in said[0]


def test_restarts_come_to_an_end(script: Path) -> None:
    with pytest.raises(TrainingError, match=r"Worker 0 of 2 ended with exit code 7\. That was the last of 2 restarts"):
        run(script, [[7, 0]] * 9, max_restarts=2)
    assert len(starts(script)) == 3


def test_far_more_workers_than_the_machine_can_run_are_refused_before_one_starts(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_group, "available_cores", lambda: 3)
    message = r"workers must be at most 12 on this machine, which has 3 processor cores .*\. Received: 13\."
    with pytest.raises(ConfigError, match=message):
        run(script, [[0] * 13])
    with pytest.raises(ConfigError, match=message):
        planned_shares("auto", 13)
    assert not list(script.parent.glob("log-*"))
    monkeypatch.setattr(worker_group, "available_cores", lambda: 1)
    assert run(script, [[0] * 8]) == (0, [])


@pytest.mark.parametrize(
    ("place", "number", "said"),
    [
        ("socket.socketpair", errno.EMFILE, f"Too many open files. {OPEN_FILES_ADVICE}"),
        ("subprocess.Popen", errno.EAGAIN, "Resource temporarily unavailable. Close other programs, and try again."),
    ],
)
def test_where_the_system_starts_no_more_processes_it_is_one_clear_line_and_none_is_left(
    script: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int, said: str
) -> None:
    """The first of them works."""
    module, name = place.split(".")
    made, real = list[Any](), getattr({"socket": socket, "subprocess": subprocess}[module], name)

    def make(*arguments: Any, **options: Any) -> Any:
        if made:
            raise OSError(number, os.strerror(number))
        made.append(real(*arguments, **options))
        return made[0]

    monkeypatch.setattr(
        f"textgen.training.distributed.{'worker_group' if module == 'socket' else 'workers'}.{place}", make
    )
    descriptors = len(os.listdir("/dev/fd"))
    message = f"3 processes cannot be started: {said} Or choose fewer workers."
    with pytest.raises(TrainingError, match=re.escape(message)):
        run(script, [["wait"] * 3])
    if module == "socket":
        assert [each.fileno() for each in made[0]] == [-1, -1]
    else:
        assert made[0].returncode == -signal.SIGKILL
    assert len(os.listdir("/dev/fd")) == descriptors


def test_a_termination_is_passed_on(script: Path) -> None:
    is_over = threading.Event()

    def terminate() -> None:
        """Ends this program once both workers are there."""
        while not all((script.parent / f"log-{worker}").exists() for worker in range(2)):
            if is_over.wait(0.01):
                return
        if not is_over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    terminating = threading.Thread(target=terminate)
    terminating.start()
    try:
        code, said = run(script, [["wait", "wait"]])
    finally:
        is_over.set()
        terminating.join()
    assert (code, said) == (143, [])  # this program does not save first, and is not started again


def test_a_termination_while_the_others_are_ended_is_the_end(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = workers._Workers._end

    def told_to_stop(self: workers._Workers) -> None:
        signal.raise_signal(signal.SIGTERM)
        end(self)

    monkeypatch.setattr(workers._Workers, "_end", told_to_stop)
    assert run(script, [[75, 75], [0, 0]]) == (143, [])
    assert starts(script) == ["begin"]


# === Real processes ===

WATCHDOG = 15  # seconds; TensorFlow's own heartbeat may be quicker

SETTINGS = [
    "--tokenizer", "char", "--hidden-units", "16", "--embedding-dim", "16", "--num-layers", "2", "--batch-size", "4",
    "--sequence-length", "16", "--steps", "60", "--num-validations", "6", "--precision", "float32", ]  # fmt: skip
ENDLESS = ["--steps", "1000000", "--checkpoint-minutes", "0.001"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    words = ["moon", "river", "the", "old", "fox", "sang", "a", "slow", "song", "of", "rain", "and"]
    path = tmp_path_factory.mktemp("workers") / "songs.txt"
    path.write_text("\n".join(" ".join(rng.choice(words, 6)) for _ in range(200)), encoding="utf-8")
    return path


def start_training(
    text: Path, name: str, *options: str, **variables: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    """A training beside a block, with which it ends."""
    arguments = ["train", str(text), "--name", name, "--models-dir", str(text.parent), *SETTINGS, *options]
    command = [sys.executable, "-m", "textgen", *arguments]
    return child_process(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True)


def training_ends(training: subprocess.Popen[str]) -> str:
    """What it has said; it must have done well."""
    _, said = training.communicate()
    assert training.returncode == 0, said
    return said


def said_until(words: str, training: subprocess.Popen[str]) -> str:
    said = ""
    for line in training.stderr or ():
        said += line
        if words in line:
            return said
    raise AssertionError(f"{words!r} was not said: {said}")


def final_weights(text: Path, name: str) -> dict[str, np.ndarray]:
    return newest_checkpoint(text.parent / name / "checkpoints")[0].tensors


def children(process: subprocess.Popen[str]) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8")
    return [int(child) for child in tasks.split()]


def wait_for_step(text: Path, name: str, step: int) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        saved = sorted((text.parent / name / "checkpoints").glob("step-*"))
        if saved and int(saved[-1].name.split("-")[1]) >= step:
            return
        time_sleep(0.05)
    raise AssertionError("the training did not come so far")


def family(process: subprocess.Popen[str]) -> list[int]:
    """A process and all that descend from it."""
    found = [process.pid]
    for pid in found:
        for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):  # of a thread that has ended
                found += map(int, tasks.read_text(encoding="utf-8").split())
    return found


def sockets_of(pids: Sequence[int]) -> set[str]:
    """The numbers of the sockets that processes have open."""
    links = []
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                links.append(os.readlink(file))
    return {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:[")}


def numbers_in(table: str, column: int) -> set[str]:
    lines = Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]
    return {line.split()[column] for line in lines}


def command_line(pid: int) -> bytes:
    """The words of a process; b"" once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for_the_end(pids: Sequence[int]) -> None:
    until = time.monotonic() + 120
    while any(map(command_line, pids)):
        assert time.monotonic() < until, "some go on"
        time_sleep(0.05)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="finds sockets in /proc")
def test_workers_open_no_port_and_save_and_end_with_their_launcher(text: Path) -> None:
    with start_training(text, "orphans", "--workers", "2", *ENDLESS) as training:
        wait_for_step(text, "orphans", 1)  # a step that took both
        pids = family(training)
        assert len(pids) >= 3
        opened = sockets_of(pids)
        assert len(opened & numbers_in("unix", 6)) >= 2  # the ends of what joins the workers
        assert not opened & {number for table in ("tcp", "tcp6", "udp", "udp6") for number in numbers_in(table, 9)}
        training.kill()
        training.communicate()
    wait_for_the_end(pids)
    record = json.loads((text.parent / "orphans" / "training.json").read_text(encoding="utf-8"))
    assert record["status"] == "interrupted"
    step = newest_checkpoint(text.parent / "orphans" / "checkpoints")[0].position["step"]
    assert record["progress"]["step"] == step >= 1
    with locked(text.parent / "orphans"):
        pass  # nobody holds it


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [3, 8])
def test_what_is_planned_for_several_workers_trains(text: Path, workers: int) -> None:
    options = ["--name", f"of-{workers}", "--models-dir", str(text.parent), "--steps", "2", "--preset", "tiny"]
    command = [sys.executable, "-m", "textgen", "train", str(text), "--workers", str(workers), *options]
    with child_process(command, stderr=subprocess.PIPE, text=True) as training:
        training_ends(training)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_for_the_launcher_stops_all_workers_which_save(text: Path, number: signal.Signals) -> None:
    """Though it reaches no worker by itself."""
    with start_training(text, number.name, "--workers", "2", *ENDLESS) as training:
        wait_for_step(text, number.name, 1)
        training.send_signal(number)
        _, said = training.communicate(timeout=120)
    assert training.returncode == 128 + number, said
    assert "everything is saved. Continue with textgen train --resume --name " in said
    assert newest_checkpoint(text.parent / number.name / "checkpoints")[0].position["step"] > 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", ["1", "2"])
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_the_time_for_which_a_run_is_stopped_is_not_taken_from_its_minutes(text: Path, number: str) -> None:
    """As by Ctrl-Z, which stops all of its processes."""
    name = f"paused-{number}"
    with start_training(text, name, "--workers", number, *ENDLESS) as training:
        wait_for_step(text, name, 1)
        for pid in family(training):
            os.kill(pid, signal.SIGSTOP)
        before = newest_checkpoint(text.parent / name / "checkpoints")[0].position
        time_sleep(20)
        for pid in family(training):
            os.kill(pid, signal.SIGCONT)
        wait_for_step(text, name, before["step"] + 2)
        training.send_signal(signal.SIGINT)
        _, said = training.communicate(timeout=120)
    assert training.returncode == 130, said
    after = newest_checkpoint(text.parent / name / "checkpoints")[0].position
    assert 0 < after["seconds"] - before["seconds"] < 15


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_workers_equal_one_process_whatever_happens_to_them(text: Path) -> None:
    for name, options in (("one", []), ("two", ["--workers", "2"])):
        with start_training(text, name, *options) as training:
            training_ends(training)
    one, two = final_weights(text, "one"), final_weights(text, "two")
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, atol=1e-5)
    assert len(list((text.parent / "two" / "logs").glob("events*"))) == 1  # the chief's

    environment = {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2"}
    chief, other = (
        start_training(text, "slurm", "--trust-network", **environment, SLURM_PROCID=str(index)) for index in range(2)
    )
    with chief as first, other as second:
        training_ends(first)
        training_ends(second)
    for name, array in two.items():  # summed by TensorFlow, in another order
        np.testing.assert_allclose(final_weights(text, "slurm")[name], array, atol=1e-5)

    for number, name, cause in (
        (signal.SIGKILL, "killed", "was ended by SIGKILL"),
        (signal.SIGSTOP, "stopped", "did not"),
    ):
        with start_training(text, name, "--workers", "2", "--step-timeout", str(WATCHDOG)) as training:
            wait_for_step(text, name, 30)
            os.kill(children(training)[1], number)
            began, said = time.monotonic(), said_until("All start again from the last checkpoint", training)
            assert time.monotonic() - began < WATCHDOG + 10  # the time in which others are ended, too
            assert cause in said
            training_ends(training)
        for weight, array in two.items():
            np.testing.assert_array_equal(final_weights(text, name)[weight], array)
