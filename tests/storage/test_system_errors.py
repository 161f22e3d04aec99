"""What is said of errors of the system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from textgen.errors import SavedModelError, Unreadable
from textgen.storage.system_errors import cannot_read, explained


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENAMETOOLONG, "Choose a shorter name."),
        (errno.EACCES, "Change the permissions, or ask the owner to."),
        (errno.EROFS, "Choose a place on a disk that is not read-only."),
        (errno.EIO, "Try again; if it fails again, check the disk or the connection to it."),
        (errno.EMFILE, "Close other programs, or allow more open files with `ulimit -n`."),
        (errno.ENOSPC, "Free some space, and try again."),
        (errno.ENOENT, "Check the path, and try again."),
    ],
)
def test_each_error_says_what_to_do(number: int, advice: str) -> None:
    assert explained(OSError(number, os.strerror(number))) == f"{os.strerror(number)}. {advice}"


def test_an_error_without_a_number_is_said_as_it_is() -> None:
    assert explained(OSError("busy")) == "busy. Check the path, and try again."


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES, errno.EMFILE, errno.ENOMEM])
def test_what_may_be_read_later_may_be_intact(number: int) -> None:
    error = cannot_read(Path("a"), OSError(number, os.strerror(number)), "Copy it again.")
    assert isinstance(error, Unreadable)
    assert (error.path, error.reason) == (Path("a"), os.strerror(number))
    assert "Copy it again" not in str(error)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EFBIG, errno.ENAMETOOLONG])
def test_what_lies_at_a_path_does_not_change(number: int) -> None:
    error = cannot_read(Path("a"), OSError(number, os.strerror(number)), "Copy it again.")
    assert (type(error), str(error)) == (SavedModelError, f"Cannot read a: {os.strerror(number)}. Copy it again.")
