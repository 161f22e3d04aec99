"""Files of the user beside those of the repository are not taken for its own; the package has those that it reads.

Limits are named alike everywhere in it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from repository import ROOT, files_of_the_repository

from textgen.storage.manifests import read_manifest, verified

OURS = ("README.md", "corpora/fables.txt", "scripts/setup", "textgen/cli/README.md")
IGNORED = ("scripts/example_models/a/config.json", "build/lib/a.py", "scripts/.DS_Store", "scripts/__pycache__/a.pyc")
OF_THE_USER = ("notes.md", "corpora/mine.txt")
OTHER_WORDS = re.compile(  # instead of MAX and MIN, at the beginning of a name
    "_*(MOST|LONGEST|LARGEST|HIGHEST|GREATEST|BIGGEST|FASTEST|LATEST|MAXIMUM|LIMIT"
    "|LEAST|SHORTEST|SMALLEST|LOWEST|FEWEST|SLOWEST|EARLIEST|MINIMUM|ENOUGH)(_.*)?"
)
NO_LIMITS = [  # constants that begin with such a word, and are about a limit
    "textgen/storage/cache_eviction.py: LIMIT_VARIABLE",
    "textgen/storage/remote_cache.py: LIMIT_PARTS",
]


def names(folder: Path, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in files_of_the_repository(folder, root)]


def constants_of(source: str, suffix: str) -> list[str]:
    """The names in capitals that a file of Python or JavaScript gives to values, in order."""
    if suffix == ".js":
        given = re.findall(r"\b(?:const|let|var|static)\s+([^;=]+?)\s*=", source)
        return [name for names in given for name in re.findall(r"[\w$]+", names) if name.isupper()]
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    return [node.id for node in nodes if isinstance(node.ctx, ast.Store) and node.id.isupper()]


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


def test_constants_are_found_in_both_languages() -> None:
    python = "A = 1\nB, _C = 2, a\nD: int = 3\nb = max(A, 4)\nclass E:\n    F = 5\nif b:\n    G = A == B\n"
    assert sorted(constants_of(python, ".py")) == ["A", "B", "D", "F", "G", "_C"]
    script = "const A = 1;\nexport const B_2 = A;\nlet [C, d] = a;\nclass E {\n  static #F = 2;\n}\nif (A === G) {}\n"
    assert constants_of(script, ".js") == ["A", "B_2", "C", "F"]


def test_names_of_limits_begin_with_max_or_min() -> None:
    """One word for one meaning. Only what is no limit itself may begin with another one."""
    folders = (ROOT / "textgen", ROOT / "scripts")
    paths = [path for folder in folders for path in files_of_the_repository(folder) if path.suffix in (".py", ".js")]
    found = {
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path in paths
        for name in constants_of(path.read_text(encoding="utf-8"), path.suffix)
        if OTHER_WORDS.fullmatch(name)
    }
    assert sorted(found) == NO_LIMITS
