"""The cache folder: the user's, a named one, or a temporary one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from disk import names

from textgen.errors import TextgenError
from textgen.storage.cache_folder import cache_folder


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "textgen"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder() == tmp_path / "me" / ".cache" / "textgen"


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/me"])
def test_without_a_folder_for_it_the_cache_is_a_temporary_one(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    said: list[str] = []
    folder = cache_folder(said.append)
    (folder / "file").write_bytes(b"")
    assert cache_folder(said.append) == folder
    assert all(f"Cannot write to {home}/.cache/textgen: " in line and str(folder) in line for line in said)
    assert all("Set TEXTGEN_CACHE to a folder that you can write to" in line for line in said)


def test_a_user_without_a_home_has_a_temporary_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEXTGEN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is no home
    said: list[str] = []
    assert cache_folder(said.append).is_dir()
    assert "there is no home folder" in said[0]


def test_a_cache_that_was_named_and_cannot_be_written_to_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTGEN_CACHE", "/dev/null/cache")
    with pytest.raises(TextgenError, match="Cannot write to /dev/null/cache, the folder in TEXTGEN_CACHE"):
        cache_folder()


def test_the_temporary_cache_goes_with_the_program(tmp_path: Path) -> None:
    code = "import textgen.storage.cache_folder\nprint(textgen.storage.cache_folder.cache_folder(), flush=True)\n"
    environment = {"HOME": "/dev/null", "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(told.stdout.split()[0]).parent == tmp_path
    assert names(tmp_path) == []
