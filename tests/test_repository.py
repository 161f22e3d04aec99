"""Files of the user beside those of the repository are not taken for its own; the package has those that it reads."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest
from repository import ROOT, files_of_the_repository

from textgen.storage.manifests import read_manifest, verified

OURS = ("README.md", "corpora/fables.txt", "scripts/setup", "textgen/cli/README.md")
IGNORED = ("scripts/example_models/a/config.json", "build/lib/a.py", "scripts/.DS_Store", "scripts/__pycache__/a.pyc")
OF_THE_USER = ("notes.md", "corpora/mine.txt")


def names(folder: Path, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in files_of_the_repository(folder, root)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*OURS, *IGNORED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".gitignore").write_text("__pycache__/\n/build/\n/scripts/example_models/\n", encoding="utf-8")
    return tmp_path


def test_with_git_they_are_those_that_it_tracks(checkout: Path) -> None:
    try:
        subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    except FileNotFoundError:
        pytest.skip("needs git")
    subprocess.run(["git", "add", *OURS], cwd=checkout, check=True)
    for name in OF_THE_USER:
        (checkout / name).touch()
    assert names(checkout, checkout) == list(OURS)
    assert names(checkout / "scripts", checkout) == ["scripts/setup"]
    (checkout / "scripts" / "setup").unlink()
    assert names(checkout / "scripts", checkout) == []


def test_without_git_what_is_hidden_or_ignored_is_left_out(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert names(checkout, checkout) == list(OURS)


def test_files_that_the_package_reads_are_named_for_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["textgen"]
    named = {pattern: set((ROOT / "textgen").glob(pattern)) for pattern in patterns}
    files = {path for path in files_of_the_repository(ROOT / "textgen") if path.suffix not in (".py", ".md")}
    assert files - set().union(*named.values()) == set()
    assert [pattern for pattern, found in named.items() if not found & files] == []


def test_git_changes_no_line_ends_where_it_is_told_to(tmp_path: Path) -> None:
    """Git for Windows asks for it unless told otherwise; the manifests of the bases name checksums."""
    names = [path.relative_to(ROOT).as_posix() for path in files_of_the_repository(ROOT / "saved_models" / "bases")]
    command = ["git", "-c", "core.autocrlf=true", "checkout-index", f"--prefix={tmp_path}/", "--", "scripts/setup"]
    try:
        subprocess.run([*command, *names], cwd=ROOT, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs git and the history")
    assert b"\r" not in (tmp_path / "scripts" / "setup").read_bytes()
    manifests = list(tmp_path.rglob("MANIFEST.json"))
    assert len(manifests) > 1
    for folder in (path.parent for path in manifests):
        for name, entry in read_manifest(folder)["files"].items():
            assert verified(folder, name, entry) == folder / name
