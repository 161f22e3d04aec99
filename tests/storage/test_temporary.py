"""Temporary files: what is said where the system has no room for them, by everything that makes one."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from disk import names

from textgen.corpus.corpus import Corpus
from textgen.storage import temporary
from textgen.storage.cache_folder import cache_folder
from textgen.storage.files import CannotWrite, writing
from textgen.storage.new_files import new_file
from textgen.storage.temporary import (
    new_temporary_file,
    new_temporary_folder,
    remove_temporary_folder,
    temporary_folder,
)
from textgen.training.distributed.workers import run_workers


def read_standard_input(folder: Path) -> None:
    Corpus(["-"])


def read_a_page(folder: Path) -> None:
    (folder / "page.html").write_text("<p>The cat", encoding="utf-8")
    Corpus([folder / "page.html"]).stats()


def start_workers(folder: Path) -> None:
    run_workers([], list, 2, folder, max_restarts=0, say=print, command=["true"])


USES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda folder: new_temporary_folder(),
    "a file": lambda folder: new_temporary_file(),
    "a folder for a block": lambda folder: temporary_folder().__enter__(),
    "standard input": read_standard_input,
    "a web page": read_a_page,
    "a cache": lambda folder: cache_folder(),
    "workers": start_workers,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("named", [True, False])
def test_without_a_temporary_folder_it_is_one_clear_line(
    use: str, named: bool, tmp_path: Path, no_temporary_folder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The cat")))
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setenv("TMPDIR", "/dev/null/named") if named else monkeypatch.delenv("TMPDIR", raising=False)
    with pytest.raises(CannotWrite) as caught:
        USES[use](tmp_path)
    place = "/dev/null/named" if named else "/tmp"
    assert str(caught.value).startswith(f"Cannot write {place}: No usable temporary directory found in ")
    assert str(caught.value).endswith(". Free some space, or set TMPDIR to a folder with more space.")


def test_of_too_many_open_files_nobody_is_told_to_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        pytest.raises(CannotWrite, match=r"Too many open files\. Close other programs"),
        temporary_folder() as folder,
        writing(folder / "file"),
    ):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_folder_for_a_block_goes_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with suppress(KeyError), temporary_folder() as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_bytes(b"")
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        raise KeyError
    assert names(tmp_path) == []


def test_folders_of_killed_processes_are_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = [tmp_path / name for name in ("textgen-checkout", "textgen-tmp-of-mine", "textgen-tmp-12345678-x")]
    left = [tmp_path / name for name in ("textgen-tmp-ab_12345", "textgen-tmp-cache-ab_12345")]
    young = tmp_path / "textgen-tmp-abcdefgh"
    readable = tmp_path / "textgen-tmp-readable"
    for folder in (*kept, *left, young, readable):
        folder.mkdir(mode=0o755 if folder == readable else 0o700)
        (folder / "text").write_text("mine")
    held = new_temporary_folder()
    for folder in (*kept, *left, readable, held):
        os.utime(folder, (0, 0))
    temporary._sweep.cache_clear()
    with temporary_folder() as folder:
        assert names(tmp_path) == sorted(path.name for path in (*kept, young, readable, held, folder))
    remove_temporary_folder(held)
    assert names(tmp_path) == sorted(path.name for path in (*kept, young, readable))


# Each makes a temporary folder that goes with `kept` or with the process.
FORKED = {
    "a folder for a block": """
        from textgen.storage.temporary import temporary_folder
        block = temporary_folder()
        kept = block, block.__enter__()
        leave = lambda: block.__exit__(None, None, None)
    """,
    "a cache": """
        from textgen.storage.cache_folder import cache_folder
        kept = cache_folder()
    """,
    "a conversion": """
        from textgen.corpus.corpus import Corpus
        Path("page.html").write_text("<p>The cat", encoding="utf-8")
        kept = Corpus(["page.html"])
        kept.stats()
    """,
    "standard input": """
        from textgen.corpus.corpus import Corpus
        kept = Corpus(["-"])
    """,
    "the segmentation of an epoch": """
        from types import SimpleNamespace
        from textgen.dataset import subword_sampling
        subword_sampling.TokenStream.__init__ = lambda *parts: None
        about = SimpleNamespace(folder=Path("tokens"), split="train", shards=[])
        kept = subword_sampling.SampledStream(about, SimpleNamespace(kind="bpe"), 0.1, 0)
    """,
}
FORK = """
import gc, os, sys
from pathlib import Path
leave = lambda: None
there = lambda: len([path for path in Path(os.environ["TMPDIR"]).rglob("*") if path.is_dir()])
{make}
number = there()
assert number
if not (child := os.fork()):
    leave()
    del kept
    gc.collect()
    sys.exit()  # with what else is done at the end of a process
os.waitpid(child, 0)
assert there() == number
leave()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process")
@pytest.mark.parametrize("kind", FORKED)
def test_a_forked_child_leaves_the_files_of_its_parent(kind: str, tmp_path: Path) -> None:
    code = FORK.replace("{make}", textwrap.dedent(FORKED[kind]))
    place = tmp_path / "temporary"
    place.mkdir()
    environment = os.environ | {"HOME": "/dev/null", "TMPDIR": str(place)}
    for name in ("TEXTGEN_CACHE", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, input=b"The cat", capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert names(place) == []


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="a device of POSIX")
def test_what_a_process_that_was_killed_while_it_wrote_into_a_pipe_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with new_file(Path("/dev/null")) as path:
        left = tmp_path / path.parent.name
        shutil.copytree(path.parent, tmp_path / "copy")
    (tmp_path / "copy").rename(left)
    os.utime(left, (0, 0))
    temporary._sweep.cache_clear()
    with temporary_folder() as folder:
        assert names(tmp_path) == [folder.name]


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="a device of POSIX")
def test_another_process_leaves_what_is_written_into_a_stream_after_long_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "from textgen.storage.temporary import temporary_folder\nwith temporary_folder(): pass"
    with new_file(Path("/dev/null")) as path:
        path.write_bytes(b"the work of hours")
        os.utime(path.parent, (0, 0))
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, check=True)
        assert path.read_bytes() == b"the work of hours"
    assert names(tmp_path) == []
