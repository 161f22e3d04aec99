"""The scripts that write a large text and measure each stage of training on it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from script_modules import SCRIPTS, load_script

MAX_STORY_BYTES = 3_000  # bytes of a story, at most


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    script = load_script("make_large_corpus", monkeypatch)
    for name, count in (("MADE_UP", 100), ("SENTENCES", 500), ("STORIES", 20)):  # so that it takes no time
        monkeypatch.setattr(script, name, count)
    return script


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("measure_large_corpus", monkeypatch)


def ended(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str:
    """The exit code of a script; None stands for 0."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        script.run_script(script.main)
    return caught.value.code or 0


@pytest.mark.parametrize("size", [1, 500, 40_000])
def test_a_text_ends_with_the_story_that_reaches_its_size(
    size: int, maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = []
    for number in (size, 60_000):
        path = tmp_path / f"{number}.txt"
        assert ended(maker, monkeypatch, path, "--bytes", f"{number:e}") == 0
        texts.append(path.read_bytes())
    text, longer = texts
    *stories, rest = text.split(b"\n\n")
    assert rest == b""
    assert len(text) >= size > len(text) - len(stories[-1]) - 2
    assert max(map(len, stories)) < MAX_STORY_BYTES
    assert longer.startswith(text), "the same text, cut"


@pytest.mark.parametrize("size", ["nan", "-5", "0", "inf", "much"])
def test_a_size_that_is_none_is_refused_before_a_file_is_replaced(
    size: str, maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.txt"
    path.write_text("of another day")
    assert ended(maker, monkeypatch, path, "--bytes", size) == 2
    assert "--bytes" in capsys.readouterr().err.splitlines()[-1]
    assert path.read_text() == "of another day"


def test_a_seed_below_0_is_wrong_usage(maker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(maker, monkeypatch, tmp_path / "large.txt", "--seed", "-1") == 2


@pytest.fixture
def stages(meter: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The stages that were measured; each leaves a file, as textgen does."""
    found: list[list[str]] = []

    def measure(arguments: list[str], output: Path) -> tuple[float, int]:
        output.write_text("done")
        found.append(arguments)
        return 1.0, 1

    monkeypatch.setattr(meter, "measure", measure)
    return found


def test_a_folder_that_is_not_empty_is_refused_before_the_first_stage(
    meter: ModuleType,
    stages: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, scratch = tmp_path / "large.txt", tmp_path / "scratch"
    text.write_text("a text")
    assert ended(meter, monkeypatch, text, "--scratch", scratch) == 0
    assert len(stages) == 5
    capsys.readouterr()
    assert ended(meter, monkeypatch, text, "--scratch", scratch) == 1
    assert len(stages) == 5
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"Error: {scratch} is not empty, ")


def test_the_stages_are_called_as_in_the_table_of_the_readme(
    meter: ModuleType,
    stages: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = tmp_path / "large.txt"
    text.write_text("a text")
    assert ended(meter, monkeypatch, text, "--scratch", tmp_path / "scratch") == 0
    section = (SCRIPTS / "README.md").read_text(encoding="utf-8").partition("\n## Large corpora\n")[2]
    printed, shown = (
        re.findall(r"^\| (`textgen .*?) \|", table, re.MULTILINE) for table in (capsys.readouterr().out, section)
    )
    assert printed == shown
    assert len(shown) == 5


@pytest.mark.parametrize("wrong", [["--preset", "smal"], ["--steps", "0"]], ids=["preset", "steps"])
def test_wrong_settings_of_the_last_stage_are_refused_before_the_first(
    wrong: list[str], meter: ModuleType, stages: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "large.txt"
    text.write_text("a text")
    assert ended(meter, monkeypatch, text, "--scratch", tmp_path / "scratch", *wrong) == 2
    assert stages == []


def test_a_stage_that_fails_is_named(
    meter: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "large.txt"
    text.write_bytes(b"")
    assert ended(meter, monkeypatch, text, "--scratch", tmp_path / "scratch") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"Error: textgen tokenizer train {text} --out ")
    assert " failed with 1:\nError: " in err
