"""Shards made on a Dask cluster: the same as those made here, also when a worker is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from textgen.cli import textgen
from textgen.dataset import dask_cluster
from textgen.dataset.corpus_preparation import make_on_worker, prepare_corpus
from textgen.dataset.prepared_corpus import NUMBER, PreparedCorpus
from textgen.errors import ConfigError, CorpusError
from textgen.storage.cache_layout import SUMMARY

SHARDS = 6


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"The cat {number} sat on the mat.\n" for number in range(3000)), encoding="utf-8")
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_a_cluster_cannot_do_is_refused(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="dask must make all shards: leave shard out"):
        prepare_corpus([str(text)], tmp_path / "made", shard=(1, 2), dask="tcp://127.0.0.1:1")
    with pytest.raises(ConfigError, match="standard input, which the workers of a cluster cannot read"):
        prepare_corpus(["-"], tmp_path / "made", dask="tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    lines = list[str]()
    with pytest.raises(ConfigError, match=r'pip install "\.\[dask\]"'):
        prepare_corpus([str(text)], tmp_path / "made", dask="tcp://127.0.0.1:1", say=lines.append)
    assert lines == []  # nothing was read or learned
    assert not (tmp_path / "made").exists()
    monkeypatch.delitem(sys.modules, "distributed")
    for module in ("dask", "distributed"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('it is broken')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="Using a Dask cluster cannot use dask: it is broken"):
        prepare_corpus([str(text)], tmp_path / "made", dask="tcp://127.0.0.1:1")


def test_a_worker_makes_a_shard_of_a_folder_that_it_sees(tmp_path: Path, text: Path) -> None:
    with pytest.raises(CorpusError, match=r"does not see .*other\. Choose a folder that all machines"):
        make_on_worker([str(text)], str(tmp_path / "other"), 1, 2)
    prepare_corpus([str(text)], tmp_path / "made", {"tokenizer": "byte"}, shard=(1, 2))
    lines = make_on_worker([str(text)], str(tmp_path / "made"), 2, 2)
    assert lines[-1].startswith("Shard 2 of 2: ")
    assert json.loads((tmp_path / "made" / "shard-00002-of-00002" / SUMMARY).read_bytes())[NUMBER] == 2


def test_a_folder_that_is_begun_needs_a_cluster_only_for_missing_shards(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()
    monkeypatch.setattr("textgen.dataset.corpus_preparation.require_cluster", asked.append)
    made = tmp_path / "made"
    prepare_corpus([str(text)], made, {"tokenizer": "byte"})
    prepare_corpus([str(text)], made, dask="tcp://127.0.0.1:1")
    assert asked == []


class FakeCluster:
    """Takes the place of Dask's client and of its queue of shards that are done.

    `ready` tells, each time that a shard is waited for, whether it is done, and each time that it is read, whether its
    worker is still there; if not, there is no worker. `lost` is raised by the second shard.
    """

    dashboard_link, loop = "http://127.0.0.1:8787", None

    def __init__(self, ready: Iterable[bool] = (), lost: Exception | None = None) -> None:
        self.status, self.futures, self.cancelled = "running", list[Any](), 0
        self._ready, self._lost, self._submitted = iter(ready), lost, 0
        self._has_worker = True

    def wait_for_workers(self, number: int, timeout: float) -> None:
        pass

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": {"tcp://127.0.0.1:2": {}} if self._has_worker else {}}

    def has_ready(self) -> bool:
        self._has_worker = next(self._ready, True)
        return self._has_worker

    def submit(self, make: Callable[..., list[str]], *task: Any, **options: Any) -> Any:
        self._submitted += 1
        lost = self._lost if self._submitted == 2 else None
        future = SimpleNamespace(status="error" if lost else "finished")

        def result(timeout: float) -> list[str]:
            if lost:
                self.status = "connecting"
                raise lost
            if not self.has_ready():
                raise TimeoutError
            return make(*task)

        future.result = result
        return future

    def add(self, future: Any) -> None:
        self.futures.append(future)

    def __next__(self) -> Any:
        return self.futures.pop(0)

    def cancel(self, futures: list[Any]) -> None:
        self.cancelled += 1

    def close(self) -> None:
        self.status = "closed"


def use(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledWorker(Exception):
        pass

    fake = SimpleNamespace(
        Client=lambda *where, **options: cluster, KilledWorker=KilledWorker, as_completed=lambda loop: cluster
    )
    monkeypatch.setitem(sys.modules, "distributed", fake)
    monkeypatch.setattr(dask_cluster, "require", lambda *about: None)
    monkeypatch.setattr(dask_cluster, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(dask_cluster, "LOOK_SECONDS", 0.0)


ADDRESS = "tcp://127.0.0.1:1"
TASKS: list[dask_cluster.Task] = [(["a.txt"], "made", number, 3) for number in (1, 2, 3)]


def told(paths: list[str], folder: str, number: int, of: int) -> list[str]:
    return [f"Shard {number} of {of}"]


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        (CancelledError("shard-2 cancelled for reason: scheduler-connection-lost.\nMore"), "connection-lost"),
        (ConnectionError("Comm closed"), "Comm closed"),
        (TimeoutError("no answer"), "no answer"),
    ],
)
def test_a_scheduler_that_is_lost_is_named(lost: Exception, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = FakeCluster(lost=lost), list[str]()
    use(cluster, monkeypatch)
    with pytest.raises(CorpusError) as caught:
        dask_cluster.make_shards(ADDRESS, told, TASKS, said.append)
    assert re.fullmatch(
        rf"The connection to the scheduler at {ADDRESS} was lost, or the shards were cancelled: [^\n]*{why}\. Run the "
        r"command again to make the missing shards\.",
        str(caught.value),
    )
    assert said[1:] == ["Shard 1 of 3"]
    assert (cluster.status, cluster.cancelled) == ("closed", 0)


def test_workers_that_are_gone_are_waited_for_and_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a shard is done, and after that, before it is known what to say of it."""
    ready = [True, True, False, False, True, True, True, False, False, True]
    cluster, said = FakeCluster(ready), list[str]()
    use(cluster, monkeypatch)
    dask_cluster.make_shards(ADDRESS, told, TASKS, said.append)
    assert said == [
        f"1 Dask worker at {ADDRESS}; dashboard: http://127.0.0.1:8787",
        "Shard 1 of 3",
        f"There is no worker at {ADDRESS} any more: waiting for one.",
        "Shard 2 of 3",
        f"There is no worker at {ADDRESS} any more: waiting for one.",
        "Shard 3 of 3",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Dask and its libraries
def test_three_workers_of_which_one_is_killed(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed", reason='pip install ".[dask]"')
    settings: dict[str, Any] = {"tokenizer": "char", "shards": SHARDS, "documents": "line"}
    here = prepare_corpus([str(text)], tmp_path / "here", settings)
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 5)
    with pytest.raises(ConfigError, match=r"There is no Dask scheduler at tcp://127\.0\.0\.1:1"):
        prepare_corpus([str(text)], tmp_path / "none", settings, dask="tcp://127.0.0.1:1")
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=2, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        made, killed = tmp_path / "made", list[int]()

        def kill() -> None:
            while not list(made.glob("shard-*")):
                time.sleep(0.05)
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        lines = list[str]()
        prepare_corpus([str(text)], made, settings, dask=cluster.scheduler_address, say=lines.append)
        killer.join(60)
        assert len(killed) == 1
        assert sum(f" of {SHARDS}: " in line for line in lines) == SHARDS
        assert not PreparedCorpus(made).missing()
        assert files_of(made) == files_of(here.folder)
        again = CliRunner().invoke(
            textgen, ["corpus", "prepare", str(text), "--out", str(made), "--dask", cluster.scheduler_address]
        )
        assert again.exit_code == 0
        assert again.stderr.count("already exists") == SHARDS
