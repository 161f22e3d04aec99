"""What goes into a wheel and into a source distribution."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from script_modules import SCRIPTS

ROOT = SCRIPTS.parent
FILES = ("textgen/__init__.py", "textgen/old.py", "tests/test_api.py", "saved_models/bases/english/config.json",
         "saved_models/bases/english/checkpoints/step-1/state")  # fmt: skip


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


def test_a_source_distribution_has_the_bases_and_no_tests(project: Path) -> None:
    manifest = (project / "MANIFEST.in").read_text(encoding="utf-8")
    (project / "MANIFEST.in").write_text(f"include tests/*.py\n{manifest}")  # the default of later setuptools
    build(project, "sdist")
    (archive,) = (project / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert "saved_models/bases/english/config.json" in names
    assert not any("checkpoints" in name or "tests" in name for name in names)
