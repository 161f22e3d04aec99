"""Streams: what is written into them comes through, and they stay."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from disk import names

from textgen.storage.files import (
    CannotWrite,
    check_writable,
    write_file,
    write_files,
)
from textgen.storage.new_files import new_file
from textgen.storage.streams import is_stream


def as_write_file(path: Path, data: bytes) -> None:
    write_file(path, data)


def as_library(path: Path, data: bytes) -> None:
    with new_file(path) as temporary:
        temporary.write_bytes(data)


@pytest.mark.skipif(os.name != "posix", reason="pipes with names are POSIX's")
@pytest.mark.parametrize("write", [as_write_file, as_library])
def test_a_pipe_is_written_into_and_stays(tmp_path: Path, write: Callable[[Path, bytes], None]) -> None:
    pipe, data, read = tmp_path / "pipe", bytes(range(256)) * 1000, list[bytes]()
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("pipe")
    for path in (pipe, tmp_path / "link"):
        check_writable(path)
        reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
        reader.start()
        write(path, data)
        reader.join(60)
    assert read == [data, data]
    assert names(tmp_path) == ["link", "pipe"]
    assert pipe.is_fifo()


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="open files have no names here")
@pytest.mark.parametrize("write", [as_write_file, as_library])
@pytest.mark.parametrize("named", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_what_is_open_already_is_written_on(tmp_path: Path, named: str, write: Callable[[Path, bytes], None]) -> None:
    """As standard output is that a shell has opened, to append to a file or not."""
    if not os.path.isdir(os.path.dirname(named)) and named != "link":
        pytest.skip("no such folder here")
    for mode in ("wb", "ab"):
        file = tmp_path / mode
        file.write_bytes(b"earlier ")
        with file.open(mode) as opened:
            opened.write(b"before ")
            opened.flush()
            path = Path(named.format(opened.fileno()))
            if named == "link":
                path = tmp_path / f"link-{mode}"
                path.symlink_to(f"/dev/fd/{opened.fileno()}")
            assert is_stream(path)
            check_writable(path)
            assert file.read_bytes().endswith(b"before ")
            write(path, b"new ")
            opened.write(b"after")
        assert file.read_bytes() == (b"earlier " if mode == "ab" else b"") + b"before new after"
    assert [name for name in names(tmp_path) if not name.startswith("link")] == ["ab", "wb"]


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="open files have no names here")
def test_what_is_open_for_reading_alone_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with (tmp_path / "file").open("rb") as opened:
        for write in (check_writable, lambda path: write_file(path, b"x")):
            with pytest.raises(CannotWrite, match=r"Cannot write /dev/fd/\d+: Bad file descriptor"):
                write(Path(f"/dev/fd/{opened.fileno()}"))
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.skipif(os.name != "posix", reason="terminals are files on POSIX alone")
def test_a_device_is_written_into_and_stays() -> None:
    """A terminal, in whose folder nobody can make a file, whatever the program does."""
    master, slave = os.openpty()
    try:
        terminal = Path(os.ttyname(slave))
        check_writable(terminal)
        write_files({terminal: b"a line"})
        assert os.read(master, 100) == b"a line"
        assert terminal.is_char_device()
    finally:
        os.close(master)
        os.close(slave)
