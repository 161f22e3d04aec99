"""What goes into a wheel and into a source distribution."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from repository import files_of_the_repository
from script_modules import SCRIPTS

import textgen

ROOT = SCRIPTS.parent
PAGES = ("CHANGELOG.md", "README.md", "README.zh-CN.md", "SECURITY.md", "corpora/README.md", "corpora/fables.txt",
         "saved_models/README.md", "textgen/README.md", "textgen/cli/README.md")  # fmt: skip
FILES = ("textgen/__init__.py", "textgen/old.py", "tests/test_api.py", "saved_models/bases/english/config.json",
         "saved_models/bases/english/checkpoints/step-1/state", "corpora/mine.txt", *PAGES)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small package that is built as textgen is."""
    for name in ("setup.py", "MANIFEST.in"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = textgen\n[options]\npackages = textgen\n", encoding="utf-8")
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def build(project: Path, *commands: str) -> None:
    done = subprocess.run([sys.executable, "setup.py", "-q", *commands], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_that_were_removed_stay_out_of_later_wheels(project: Path) -> None:
    built = project / "build" / "lib" / "textgen"
    for path in (built / "old.py", built / "bases" / "old" / "config.json"):  # of an earlier build
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (project / "textgen" / "old.py").unlink()
    build(project, "build")
    files = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert files == {"__init__.py", "bases/english/config.json"}


@pytest.mark.parametrize("place", [".", "link"])
def test_a_build_into_the_source_keeps_it(project: Path, place: str) -> None:
    (project / "link").symlink_to(project)
    (project / "textgen" / "__init__.py").write_text("x = 1\n")
    build(project, "build_py", "--build-lib", place)
    assert (project / "textgen" / "__init__.py").read_text() == "x = 1\n"
    assert (project / "textgen" / "bases" / "english" / "config.json").exists()


def test_a_source_distribution_has_the_bases_the_pages_and_no_tests(project: Path) -> None:
    manifest = (project / "MANIFEST.in").read_text(encoding="utf-8")
    (project / "MANIFEST.in").write_text(f"include tests/*.py\n{manifest}")  # the default of later setuptools
    build(project, "sdist")
    (archive,) = (project / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert names >= {"saved_models/bases/english/config.json", *PAGES}
    assert not any("checkpoints" in name or "tests" in name or "mine" in name for name in names)


def test_pages_of_the_repository_are_named_for_the_source_distribution() -> None:
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    included = {name for line in lines if line.startswith("include ") for name in line.split()[1:]}
    files = {path for folder in (ROOT, ROOT / "corpora") for path in files_of_the_repository(folder)}
    pages = {path for path in files if (path.parent == ROOT and path.suffix == ".md") or path.parent.name == "corpora"}
    assert {path.relative_to(ROOT).as_posix() for path in pages} == included - {"saved_models/README.md"}


def test_the_version_is_that_of_the_package_and_pages_stay_out_of_wheels() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["setuptools"]["include-package-data"] is False
    attribute = settings["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    read_attr = importlib.import_module("setuptools.config.expand").read_attr
    assert read_attr(attribute, root_dir=ROOT) == textgen.__version__
    package = ROOT / "textgen"
    packed = {path for glob in settings["tool"]["setuptools"]["package-data"]["textgen"] for path in package.glob(glob)}
    assert packed
    assert not [path for path in packed if path.suffix == ".md"]
