"""What the names of files tell: which are hidden, backups of editors, or put there by a desktop."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

OWNER_PREFIX = "~$"  # of the files beside open documents by which Word and Excel know who has opened them
DESKTOP_FILES = ("desktop.ini", "thumbs.db")  # in lower case: how Windows shows a folder, and small pictures
BACKUPS = ("~", ".bak", ".orig", ".swp")  # how the names of files end that editors write beside a text
DESKTOP_NAMES = (".ds_store", ".localized", ".directory")  # in lower case: how macOS and KDE show a folder
JOINERS = "\u200c\u200d"  # invisible characters that are part of the spelling of Persian, Hindi and other languages
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


def only_words(name: str, also: str, gap: str) -> str:
    """Replaces the characters of a name that are part of no word, in the composed form of Unicode (NFC).

    Letters, digits, the marks above, below and beside them, and underscores are, and joiners between letters.

    Args:
        name: The name.
        also: Other characters to keep.
        gap: What stands in place of each other character.

    Example:
        >>> only_words("हिन्दी (1)", "-", "-")
        'हिन्दी--1-'
    """
    name = unicodedata.normalize("NFC", name)
    joined = joiners_in(name)
    return "".join(
        character if character in also or _is_of_word(character) or place in joined else gap
        for place, character in enumerate(name)
    )


def joiners_in(name: str) -> set[int]:
    """Finds the places of the joiners between the letters of a name."""
    around = zip(name, name[1:], name[2:], strict=False)
    return {
        place
        for place, (before, character, after) in enumerate(around, 1)
        if character in JOINERS and all(unicodedata.category(each)[0] in "LM" for each in (before, after))
    }


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"


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
