"""The base models that are part of the program: where they are, and which one suits a text.

A base is an ordinary saved model with the name of a language. In the repository the bases are in `saved_models/bases/`,
in an installed package in `textgen/bases/`. $TEXTGEN_BASES names another folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from textgen.corpus.scripts import HAN
from textgen.errors import SavedModelError
from textgen.storage.addresses import folder_here
from textgen.storage.manifests import MANIFEST

BASES: Mapping[str, str] = {"english": "Latin letters", "chinese": "Chinese characters"}
"""The letters of the texts that each base is for."""
PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (PACKAGE / "bases", PACKAGE.parent / "saved_models" / "bases")  # in an installed package, in the repository

LETTER = re.compile(r"[^\W\d_]+")
LATIN = re.compile(
    "[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]+"
)


def bases_folder() -> Path:
    """Returns the folder of the bases: $TEXTGEN_BASES, or else the one of this installation. It may be missing.

    Raises:
        ConfigError: $TEXTGEN_BASES is an address.
    """
    if folder := os.environ.get("TEXTGEN_BASES"):
        return folder_here(folder, "TEXTGEN_BASES")
    return next((place for place in PLACES if place.is_dir()), PLACES[0])


def installed_bases() -> list[str]:
    """Returns the names of the bases that this installation has, in the order of `BASES`."""
    return [name for name in BASES if _is_there(bases_folder() / name)]


def base_folder(name: str) -> Path:
    """Returns the folder of a base. Its files are not checked; `load_model` checks them.

    Args:
        name: Name of the base, one of `BASES`.

    Returns:
        The folder of the base.

    Raises:
        SavedModelError: There is no base of this name, or this installation lacks it.
    """
    if name not in BASES:
        raise SavedModelError(f"There is no base {name!r}. The bases are: {', '.join(BASES)}.")
    folder = bases_folder() / name
    if not _is_there(folder):
        raise SavedModelError(
            f"This installation lacks the base {name!r}: {folder} is missing. Install textgen again, or set "
            "TEXTGEN_BASES to a folder that holds it."
        )
    return folder


def is_base(folder: Path) -> bool:
    """Checks whether a folder holds a base, which belongs to the program and not to the user."""
    return folder.name in BASES and os.path.realpath(folder.parent) == os.path.realpath(bases_folder())


def base_for(text: str) -> str | None:
    """Returns the name of the base for the writing system of a text, installed or not.

    A letter counts by its bytes in UTF-8, since a Chinese character says more than a Latin letter.

    Args:
        text: The text, or a part of it.

    Returns:
        "chinese" if more than half of its letters are Chinese characters, "english" if more than half are Latin
        letters or the text is blank, otherwise None.

    Example:
        >>> base_for("Once upon a time"), base_for("床前明月光"), base_for("กาลครั้งหนึ่ง"), base_for("")
        ('english', 'chinese', None, 'english')
    """
    if not text or text.isspace():
        return "english"
    letters = _size(LETTER, text)
    if _size(HAN, text) * 2 > letters:
        return "chinese"
    return "english" if _size(LATIN, text) * 2 > letters else None


def _size(pattern: re.Pattern[str], text: str) -> int:
    """Returns the bytes of all matches in UTF-8."""
    return len("".join(pattern.findall(text)).encode(errors="surrogatepass"))


def _is_there(folder: Path) -> bool:
    return os.path.lexists(folder / MANIFEST)
