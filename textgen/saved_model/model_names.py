"""Names of models: made from the path of a corpus, checked."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from glob import has_magic
from pathlib import Path

from textgen.errors import SavedModelError
from textgen.storage.addresses import is_remote, may_be_pattern, without_secrets
from textgen.storage.names import JOINERS, joiners_in, only_words

NAME_BYTES = 200  # longest name; file systems allow 255 bytes, and temporary names add some
FORBIDDEN = '<>:"|?*'  # characters that Windows allows in no name
DEVICE = re.compile("(con|prn|aux|nul|(com|lpt)[0-9¹²³])", re.IGNORECASE)  # names of devices of Windows


def corpus_path(paths: Sequence[str | Path]) -> str | Path:
    """Selects the path that a model is named after.

    Args:
        paths: The paths of its corpus, at least one.

    Returns:
        The folder of the paths if there are several and all are in one, as when the shell has replaced `poems/*.txt` by
        the names of the files. Otherwise the first path.

    Example:
        >>> corpus_path(["poems/spring.txt", "poems/winter.txt"]).name
        'poems'
    """
    first, *others = dict.fromkeys(map(str, paths))
    folders = {_folder_of(path) for path in (first, *others)} if others else {None}
    return folders.pop() or first if len(folders) == 1 else first


def _folder_of(path: str) -> Path | None:
    """The folder of a path or pattern. None where its name says nothing about the texts in it."""
    if path == "-":
        return None
    if (folder := _above_wildcard(path)) is None:
        if is_remote(path) and path.count("/") < 4:  # the host is no folder
            return None
        folder = _absolute(path).parent
    return None if folder == folder.parent or _is_home(folder) else folder


def _is_home(folder: Path) -> bool:
    """Whether a folder is the home folder, whose name is that of the user."""
    return folder == Path(os.path.expanduser("~"))


def _above_wildcard(path: str) -> Path | None:
    """The folder of a pattern, above its first part with a wildcard. None for other paths."""
    is_pattern = "::" not in path and (may_be_pattern(path) if is_remote(path) else has_magic(path))
    if not is_pattern or os.path.lexists(path):
        return None
    # The working folder is no part of the pattern, so that a wildcard in its path is none.
    place = Path(without_secrets(path))  # without a query, in which there may be one, too
    return next((_absolute(str(folder)) for folder in (place, *place.parents) if not has_magic(str(folder))), None)


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(without_secrets(path)))


def name_from(path: str | Path) -> str:
    """Makes a model name from the path of its corpus; "-" gives "stdin", and a pattern the name of its folder.

    A pattern in the home folder does not: it would name the model after the user.
    """
    called = "stdin"
    if str(path) != "-":
        folder = _above_wildcard(str(path))
        place = folder or _absolute(str(path))
        called = "" if folder and _is_home(folder) else place.name.lstrip(".").split(".")[0]
    stem = re.sub("\0+", "-", only_words(called, "-", "\0"))  # no name of a file has a NUL of its own
    return stem.encode()[: NAME_BYTES // 2].decode(errors="ignore").strip(f"-{JOINERS}") or "model"


def free_name(folder: Path, path: str | Path, may_replace: Callable[[Path], bool] = lambda place: False) -> str:
    """Makes an unused model name from the path of its corpus, with a number appended if the name is taken.

    Args:
        folder: Folder of models.
        path: Path of the corpus.
        may_replace: Whether a new model may have the name of this entry of the folder.

    Returns:
        A name that no other entry of the folder has, and that other systems allow.
    """
    stem = name_from(path)
    names = (stem if n == 1 else f"{stem}-{n}" for n in itertools.count(2 if problem_elsewhere(stem) else 1))
    # The file system is asked, since it may take names for equal that differ in case or in their Unicode form.
    return next(name for name in names if not os.path.lexists(folder / name) or may_replace(folder / name))


def check_name(name: str, problem: str = "") -> str:
    """Checks that a name is valid for a model: a single path component. `check_new_name` checks that of a new one.

    Args:
        name: The name to check.
        problem: Another reason why it is not valid.

    Returns:
        The name.

    Raises:
        SavedModelError: The name is not valid; the message gives the reason.
    """
    if problem := problem_of_name(name) or problem:
        raise SavedModelError(f"A model cannot be called {name!r}: {problem}. Choose a name such as novel or poems-2.")
    return name


def check_new_name(name: str) -> str:
    """Checks that a name is valid for a new model, also on other systems, since models are copied between them.

    Args:
        name: The name to check.

    Returns:
        The name.

    Raises:
        SavedModelError: The name is not valid; the message gives the reason.
    """
    return check_name(name, problem_elsewhere(name))


def problem_elsewhere(name: str) -> str:
    """Returns the reason why another system does not allow a name; empty if it does.

    Example:
        >>> problem_elsewhere("aux.txt"), problem_elsewhere("auxiliary")
        ('Windows has a device of this name', '')
    """
    if found := sorted(set(name).intersection(FORBIDDEN)):
        return f"Windows does not allow {' '.join(found)} in a name"
    if name.endswith("."):
        return "Windows does not keep a full stop at the end"
    if DEVICE.fullmatch(name.partition(".")[0].rstrip()):
        return "Windows has a device of this name"
    return ""


def problem_of_name(name: object) -> str:
    """Returns the reason why a name is not valid for a model; empty if it is valid."""
    if not isinstance(name, str):
        return "a name is a text"
    if not name:
        return "the name is empty"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "a name is one part of a path"
    if name[0] == ".":
        return "names with a full stop at the beginning are hidden ones"
    if name[0] == "-":
        return "names with a hyphen at the beginning look like options"
    joined = joiners_in(name)  # invisible, but a part of the spelling
    is_shown = all(character.isprintable() or place in joined for place, character in enumerate(name))
    if not is_shown or name != name.strip():
        return "it has characters that cannot be shown, or a space at an end"
    return f"it has more than {NAME_BYTES} bytes" if len(name.encode()) > NAME_BYTES else ""
