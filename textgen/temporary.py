"""Makes folders and files among the temporary ones of the system, and says clearly where there is no room for them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

from textgen.files import OTHER_TEMPORARY, writing

USUAL_PLACE = "/tmp"  # what an error names if neither TMPDIR nor any of Python's places can be used


def new_temporary_folder(prefix: str = "textgen-") -> Path:
    """Creates a folder that only the user can read. The caller removes it.

    Args:
        prefix: How its name begins.

    Returns:
        Path of the folder.

    Raises:
        CannotWrite: No temporary folder of the system can be written to. The message names TMPDIR.
    """
    with writing(_place(), OTHER_TEMPORARY):
        return Path(tempfile.mkdtemp(prefix=prefix))


def new_temporary_file() -> IO[bytes]:
    """Creates a file without a name, which is gone once it is closed.

    Returns:
        The open file, for writing and reading.

    Raises:
        CannotWrite: No temporary folder of the system can be written to. The message names TMPDIR.
    """
    with writing(_place(), OTHER_TEMPORARY):
        return tempfile.TemporaryFile()


def _place() -> Path:
    """The folder of temporary files. Python looks for it at the first call, and raises an error if it finds none."""
    with writing(Path(os.environ.get("TMPDIR") or USUAL_PLACE), OTHER_TEMPORARY):
        return Path(tempfile.gettempdir())
