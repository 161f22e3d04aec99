"""The files of the repository, without those that its user has put beside them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files_of_the_repository(folder: Path, root: Path = ROOT) -> list[Path]:
    """The files below a folder that git tracks.

    Without git, or in a copy without its history: those that are neither hidden nor ignored, nor in such a folder.

    Args:
        folder: The folder.
        root: That of the repository.
    """
    files = _tracked(root) or list(_visible(root, _ignored(root)))
    return sorted(path for path in files if path.is_relative_to(folder) and path.is_file())


def _tracked(root: Path) -> list[Path]:
    """The files that git tracks; none without it."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [root / name for name in done.stdout.decode().split("\0") if name]


def _ignored(root: Path) -> set[Path]:
    """The paths that .gitignore names in full; patterns are left out."""
    path = root / ".gitignore"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return {root / line.strip("/") for line in lines if line.startswith("/") and "*" not in line}


def _visible(folder: Path, ignored: set[Path]) -> Iterator[Path]:
    for path in folder.iterdir():
        if path in ignored or path.name.startswith((".", "__pycache__")):
            continue
        if path.is_dir():
            yield from _visible(path, ignored)
        else:
            yield path
