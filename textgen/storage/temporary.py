"""Makes folders and files among the temporary ones of the system, and says clearly where there is no room for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from textgen.storage.files import TMPDIR_ADVICE, CannotWrite, writing

USUAL_PLACE = "/tmp"  # named in errors if neither TMPDIR nor any of Python's places can be used


def new_temporary_folder(prefix: str = "textgen-") -> Path:
    """Creates a folder that only the user can read. The caller removes it.

    Args:
        prefix: How its name begins.

    Returns:
        Path of the folder.

    Raises:
        CannotWrite: No temporary folder of the system can be written to. The message names TMPDIR.
    """
    with writing(_place(), TMPDIR_ADVICE):
        return Path(tempfile.mkdtemp(prefix=prefix))


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Creates a folder among the temporary files of the system, and removes it after the block.

    Yields:
        Path of the folder.

    Raises:
        CannotWrite: The folder cannot be created, or the block cannot write to it. The message names TMPDIR.
    """
    folder = new_temporary_folder()
    try:
        yield folder
    except CannotWrite as error:
        if not error.path.is_relative_to(folder):
            raise
        raise CannotWrite(error.path, error.reason, TMPDIR_ADVICE) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_temporary_file() -> IO[bytes]:
    """Creates a file without a name, which is gone once it is closed.

    Returns:
        The open file, for writing and reading.

    Raises:
        CannotWrite: No temporary folder of the system can be written to. The message names TMPDIR.
    """
    with writing(_place(), TMPDIR_ADVICE):
        return tempfile.TemporaryFile()


def _place() -> Path:
    """The folder of temporary files. Python looks for it at the first call, and raises an error if it finds none."""
    with writing(Path(os.environ.get("TMPDIR") or USUAL_PLACE), TMPDIR_ADVICE):
        return Path(tempfile.gettempdir())
