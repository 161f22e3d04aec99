"""What the names of files tell: which are hidden, backups of editors, or put there by a desktop."""

from __future__ import annotations

import os
from pathlib import Path

OWNER_PREFIX = "~$"  # of the files beside open documents by which Word and Excel know who has opened them
DESKTOP_FILES = ("desktop.ini", "thumbs.db")  # in lower case: how Windows shows a folder, and small pictures
BACKUPS = ("~", ".bak", ".orig", ".swp")  # how the names of files end that editors write beside a text
DESKTOP_NAMES = (".ds_store", ".localized", ".directory")  # in lower case: how macOS and KDE show a folder
APPLE_PREFIX = "._"  # of the files in which macOS keeps the attributes of others, on disks that have none


def is_hidden(name: str) -> bool:
    """Checks whether a file is hidden by its name, is one of a desktop program, or is the backup of an editor.

    In such files no user wrote a text, or the text is there twice.

    Args:
        name: Name of the file, without the folders above it.

    Example:
        >>> [is_hidden(name) for name in (".git", "~$poems.docx", "poems.txt~", "poems.docx")]
        [True, True, True, False]
    """
    return name.startswith(".") or is_desktop_file(name) or is_backup(name)


def is_backup(name: str) -> bool:
    """Checks by its name whether a file is one that an editor keeps beside a text. A pattern may end like such names.

    Example:
        >>> is_backup("poems.txt~"), is_backup("*.bak"), is_backup("*")
        (True, True, False)
    """
    return name.lower().endswith(BACKUPS)


def is_desktop_file(name: str) -> bool:
    """Checks by its name whether a file is one that Windows or Word keeps beside the files of users."""
    return name.startswith(OWNER_PREFIX) or name.lower() in DESKTOP_FILES


def names_besides_desktop(path: Path) -> list[str]:
    """Lists the names in a folder, sorted, without those of the files that desktops put there unasked.

    Args:
        path: Path of the folder.

    Returns:
        The names.

    Raises:
        OSError: The folder cannot be read.
    """
    return sorted(name for name in os.listdir(path) if not is_from_desktop(path / name))


def is_from_desktop(path: Path) -> bool:
    """Checks whether a desktop put a file into a folder that somebody has looked at, copied or opened.

    Args:
        path: Path of the file. A folder or a link with such a name is somebody's own.
    """
    name = path.name
    is_called_so = is_desktop_file(name) or name.lower() in DESKTOP_NAMES or name.startswith(APPLE_PREFIX)
    return is_called_so and path.is_file() and not path.is_symlink()
