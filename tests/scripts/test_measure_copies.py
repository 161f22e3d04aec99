"""The script that counts what generated text has in common with other texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from base_scripts import measure_copies

SCRIPT = Path(measure_copies.__file__)
TALE = "Once upon a time there was a king, who had no daughter but three sons and a fox."


def test_runs_are_found_at_any_length_but_not_across_documents() -> None:
    runs = measure_copies.Runs(["abcdef", "xyz"])
    assert runs.found_in(["--bcde-", "ab", "cdxyz"], least=2) == {
        2: {tuple(run) for run in ("bc", "cd", "de", "ab", "xy", "yz")},
        3: {tuple(run) for run in ("bcd", "cde", "xyz")},
        4: {tuple("bcde")},
    }


def test_nothing_is_found_in_nothing() -> None:
    assert measure_copies.Runs([]).found_in(["abc"], least=2) == {}
    assert measure_copies.Runs(["abc"]).found_in([], least=2) == {}
    assert measure_copies.Runs(["abc"]).found_in(["b", ""], least=2) == {}


def test_runs_that_come_twice_count_twice() -> None:
    runs = measure_copies.Runs(["abab"]).of_length(2)
    assert measure_copies.share(runs, {tuple("ab")}) == pytest.approx(2 / 3)


def test_the_first_words_of_some_texts() -> None:
    assert list(measure_copies.first_words(["a b", "c d", "e"], str.split, 3)) == [["a", "b"], ["c"]]


def test_scripts_are_alike_without_the_characters_that_differ() -> None:
    assert measure_copies.characters("函谷壮，皇居") == list("函谷壮皇居")
    assert measure_copies.shared_characters("函谷壯皇居") == measure_copies.shared_characters("函谷壮，皇居")


def table(folder: Path, *arguments: object) -> list[str]:
    """Runs the script on a text of people."""
    (folder / "written.txt").write_text(f"{TALE}\n", encoding="utf-8")
    (folder / "corpus.txt").write_text("A time? There WAS a king who had no daughter, but a fox.\n", encoding="utf-8")
    (folder / "mix.txt").write_text("Three foxes and three sons.\n", encoding="utf-8")
    names = {"--texts": "written.txt", "--corpus": "corpus.txt", "--base-text": "mix.txt"}
    command = [SCRIPT, *(part for name, file in names.items() for part in (name, folder / file)), *arguments]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_table_of_what_people_have_written(tmp_path: Path) -> None:
    lines = table(tmp_path)
    assert lines[0] == "| run | runs | corpus | base's text | either |"
    assert lines[2] == "| 8 | 11 | 36.36% | 0.00% | 36.36% |"
    assert lines[-3] == "Longest in the corpus: 11. a time there was a king who had no daughter but"
    assert lines[-1] == "Longest in the base's text: 0. "


def test_there_must_be_something_to_look_at_and_to_look_in(tmp_path: Path) -> None:
    for arguments, line in (([], "Name a model"), (["--texts", tmp_path / "written.txt"], "Name a text to look in")):
        done = subprocess.run([sys.executable, *map(str, [SCRIPT, *arguments])], capture_output=True, text=True)
        assert done.returncode == 2
        assert f"error: {line}" in done.stderr


def test_a_model_writes_until_there_are_enough_words(tiny_models: Path, tmp_path: Path) -> None:
    for name in ("corpus.txt", "mix.txt"):
        (tmp_path / name).write_text(f"{TALE}\n", encoding="utf-8")
    command = [SCRIPT, tiny_models / "tiny", "--corpus", tmp_path / "corpus.txt", "--base-text", tmp_path / "mix.txt"]
    command += ["--words", "300", "--characters"]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=True)
    run, runs, *_ = done.stdout.splitlines()[2].strip("| ").split(" | ")
    assert run == "7"
    assert 0 < int(runs) < 300
