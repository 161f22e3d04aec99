"""Errors of the system that no command expects are one clear line, too."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen
from textgen.errors import TextgenError


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(textgen, arguments, **options)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENAMETOOLONG, "Choose a shorter name."),
        (errno.EACCES, "Change the permissions, or ask the owner to."),
        (errno.EIO, "Try again; if it fails again, check the disk or the connection to it."),
    ],
)
def test_an_error_of_a_path_says_what_to_do(monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    monkeypatch.setattr("textgen.storage.cache_eviction.entries", raising(OSError(number, os.strerror(number), "a/b")))
    result = run("cache", "list")
    assert (result.exit_code, result.stderr) == (1, f"Error: Cannot use a/b: {os.strerror(number)}. {advice}\n")


def test_another_error_of_the_system_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ECONNREFUSED, "Connection refused")
    monkeypatch.setattr("textgen.storage.cache_eviction.entries", raising(error))
    assert run("cache", "list").exception is error


@pytest.mark.skipif(os.name != "posix", reason="no folder in use can be removed there")
@pytest.mark.parametrize("words", [("train", "a.txt"), ("corpus", "prepare", "a.txt", "--out", "zz")])
def test_a_current_folder_that_was_removed_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv("TEXTGEN_MODELS", raising=False)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = run(*words)
    message = "The current folder was removed: change to one that exists (cd)."
    assert (result.exit_code, result.stderr) == (1, f"Error: {message}\n")


@pytest.mark.parametrize(
    ("error", "words", "message"),
    [
        (
            MemoryError("Unable to allocate 3.2 GiB"),
            ("train", "a.txt"),
            "There is too little memory (Unable to allocate 3.2 GiB). Close other programs, or use a smaller "
            "--batch-size.",
        ),
        (
            MemoryError(),
            ("sample", "--seed", "1"),
            "There is too little memory. Close other programs, or use a smaller --batch-size or --num.",
        ),
        (
            MemoryError(),
            ("evaluate", "a.txt"),
            "There is too little memory. Close other programs, or use a machine with more memory.",
        ),
    ],
)
def test_too_little_memory_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, error: MemoryError, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr("textgen.cli.command.SectionCommand.invoke", raising(error))
    result = run(*words)
    assert (result.exit_code, result.stderr) == (1, f"Error: {message}\n")


# === Ctrl-C ===

INTERRUPTED = (130, "", "\nInterrupted.\n")


def test_ctrl_c_before_a_command_begins_ends_it_as_one_that_has_begun() -> None:
    result = run("models", "list", obj=raising(KeyboardInterrupt()))
    assert (result.exit_code, result.stdout, result.stderr) == INTERRUPTED


@pytest.mark.parametrize("name", ["textgen.cli.signals", "textgen.wording"])
def test_ctrl_c_while_modules_of_the_program_are_loaded_ends_it_alike(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = builtins.__import__, list[str]()

    def interrupted_once(module: str, *rest: Any) -> Any:
        if module == name and not loaded:
            loaded.append(name)
            raise KeyboardInterrupt
        return load(module, *rest)

    monkeypatch.setattr("builtins.__import__", interrupted_once)
    result = run("models", "list")
    assert (result.exit_code, result.stdout, result.stderr) == INTERRUPTED


@pytest.mark.parametrize("words", [("--help",), ("models", "list", "--help")])
def test_ctrl_c_in_the_help_ends_the_program_alike(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.Command.get_help", raising(KeyboardInterrupt()))
    result = run(*words)
    assert (result.exit_code, result.stdout, result.stderr) == INTERRUPTED


def test_an_error_of_the_set_up_is_one_clear_line() -> None:
    result = run("models", "list", obj=raising(TextgenError("Nothing works. Start again.")))
    assert (result.exit_code, result.stderr) == (1, "Error: Nothing works. Start again.\n")
