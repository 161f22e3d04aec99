"""Shards made on a Dask cluster: the same as those made here, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from textgen.cli import textgen
from textgen.dataset import dask_cluster
from textgen.dataset.corpus_preparation import make_on_worker, prepare_corpus
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.errors import ConfigError, CorpusError

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


def test_a_folder_that_is_begun_needs_a_cluster_only_for_missing_shards(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()
    monkeypatch.setattr("textgen.dataset.corpus_preparation.require_cluster", asked.append)
    made = tmp_path / "made"
    prepare_corpus([str(text)], made, {"tokenizer": "byte"})
    prepare_corpus([str(text)], made, dask="tcp://127.0.0.1:1")
    assert asked == []


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
