"""Streams: pipes, devices, and what this process has open already, such as `/dev/stdout`.

Bytes are written into a stream, and what is there already stays.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

OPEN_FILES = r"/dev/fd|/proc/(self|{process})(/task/\d+)?/fd"  # folders of the open files of this process
MAX_LINKS = 40  # maximum number of links that are followed, as by the system


def is_stream(path: Path) -> bool:
    """Checks whether a path leads to a stream.

    A pipe and a character device are streams, and so is whatever this process has open, under a path such as
    `/dev/stdout` or `/dev/fd/3`: even a file, since a shell may have opened it to append to it.

    Args:
        path: The path; links are followed.
    """
    if open_file_number(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def open_file_number(path: Path) -> int | None:
    """Returns the number of the open file of this process that a path stands for, as `/dev/stdout` does for 1.

    Args:
        path: The path; links are followed.

    Returns:
        The number. None if the path stands for no open file.
    """
    for _ in range(MAX_LINKS):
        folder = os.path.realpath(path.parent)
        if path.name.isdecimal() and re.fullmatch(OPEN_FILES.format(process=os.getpid()), folder):
            return int(path.name)
        try:
            path = Path(folder, os.readlink(Path(folder, path.name)))
        except OSError:
            break
    return None


def open_stream(path: Path) -> BinaryIO:
    """Opens a stream for writing. What is open already is not opened again, which would empty a file.

    Args:
        path: Path of the stream.

    Returns:
        The open stream.

    Raises:
        OSError: The stream cannot be opened.
    """
    number = open_file_number(path)
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")
