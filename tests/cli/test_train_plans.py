"""The plan that textgen train shows before a run, and options that contradict each other."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from pathlib import Path

import pytest
import song_model
from song_model import POEMS, TINY, run

from textgen.cli.train import Arguments, planned, train
from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError, CorpusError
from textgen.model.config import ModelConfig
from textgen.training.distributed.distribution import Distribution

models = song_model.models  # fixture


def arguments_of(*words: str) -> Arguments:
    """The command line `textgen train WORDS...`, without the settings."""
    options = train.make_context("train", [*words]).params
    return Arguments(**{field.name: options[field.name] for field in fields(Arguments)})


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    result = run("train", str(tmp_path / "songs.txt"), "--models-dir", str(tmp_path / "models"), "--dry-run")
    assert result.exit_code == 0
    for row in ("corpus", "vocabulary", "network", "parameters", "memory", "expected"):
        assert row in result.stdout
    assert not (tmp_path / "models").exists()


def test_a_plan_can_be_read_by_programs_and_held_out_text_is_cut_like_the_other(tmp_path: Path) -> None:
    text, held_out = tmp_path / "songs.txt", tmp_path / "held.txt"
    words, lot = ["market", "rises", "as", "city", "council", "votes", "on", "new", "budget"], random.Random(1)
    headlines = [" ".join(lot.sample(words, lot.randint(3, 9))) for _ in range(300)]
    text.write_text("\n".join(headlines), encoding="utf-8")
    held_out.write_text("a song\nof lines\n", encoding="utf-8")
    assert Corpus([held_out]).documents_mode == "file"
    result = run("train", str(text), "--valid-file", str(held_out), "--dry-run", "--json", "--steps", "7", *TINY[:4])
    made = json.loads(result.stdout)
    assert (made["corpus"]["config"]["documents"], made["training"]["steps"]) == ("line", 7)
    assert made["parameters"] == ModelConfig(**made["model"]).num_parameters
    assert not (tmp_path / "saved_models").exists()
    plan, _ = planned(arguments_of(str(text), "--valid-file", str(held_out)), None, {}, Distribution)
    assert plan.sources.valid
    assert list(plan.sources.valid.documents()) == ["a song", "of lines"]


@pytest.mark.parametrize("workers", [2, 3])
def test_the_plan_for_several_workers_is_shown_by_one_process(tmp_path: Path, workers: int) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    result = run("train", str(tmp_path / "songs.txt"), "--workers", str(workers), "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["training"]["batch_size"] % workers == 0


def test_of_several_processes_the_chief_shows_the_plan_and_none_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    said = []
    for index in range(3):
        cluster = {"worker": [f"host{number}:2222" for number in range(3)]}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}))
        result = run("train", str(tmp_path / "songs.txt"), "--name", "songs", "--dry-run", "--json")
        assert result.exit_code == 0, result.output
        said.append(result.stdout)
        finding = run("train", str(tmp_path / "songs.txt"), "--name", "songs", "--find-learning-rate")
        assert finding.exit_code == 2
        assert "starts a separate run in one process" in finding.stderr
    assert json.loads(said[0])["training"]["batch_size"] % 3 == 0
    assert said[1:] == ["", ""]


def test_settings_come_from_a_file_and_flags_override_them(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    (tmp_path / "settings.toml").write_text('hidden_units = 24\nnum_layers = 3\ntokenizer = "char"\n', encoding="utf-8")
    arguments = ["--config", str(tmp_path / "settings.toml"), "--num-layers", "2", "--batch-size", "4", "--dry-run"]
    result = run("train", str(tmp_path / "songs.txt"), *arguments)
    assert "2 x LSTM of 24 units" in result.stdout
    for line, expected in (
        ("hiden_units = 24", "There is no setting 'hiden_units' (did you mean 'hidden_units'?).\n"),
        ("[training]\nepochs = 3", "A file of settings has no tables: remove [training], and write each setting as"),
        ("minutes = 0", "minutes must be a number greater than 0 and at most 1e+12. Received: 0."),
        ("hidden_units = 1.5", "hidden_units must be an integer. Received: 1.5."),
    ):
        (tmp_path / "settings.toml").write_text(f"{line}\n", encoding="utf-8")
        result = run("train", str(tmp_path / "songs.txt"), *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: {tmp_path / 'settings.toml'}: {expected}")


def test_a_tokenizer_is_taken_over(models: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text(POEMS, encoding="utf-8")
    arguments = ["--tokenizer-from", "songs", "--models-dir", str(models), "--name", "more", "--dry-run"]
    result = run("train", str(tmp_path / "more.txt"), "--batch-size", "4", *arguments)
    assert result.exit_code == 0
    assert "char" in result.stdout


@pytest.mark.parametrize(
    ("flag", "value"),
    [("tokenizer", "char"), ("vocab-size", "300"), ("character-coverage", "0.99"), ("sample-bytes", "9")],
)
def test_settings_of_a_vocabulary_contradict_one_that_is_given(
    models: Path, tmp_path: Path, flag: str, value: str
) -> None:
    (tmp_path / "a.txt").write_text(POEMS, encoding="utf-8")
    where = ["--tokenizer-from", "songs", "--models-dir", str(models), f"--{flag}", value]
    for command in (["train", "--dry-run"], ["corpus", "prepare", "--out", str(tmp_path / "made")]):
        result = run(*command, str(tmp_path / "a.txt"), *where)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"taken from another model or file: leave out --{flag}." in result.stderr
        assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("flags", [["--dry-run"]])
def test_what_a_resumed_run_would_ignore_is_wrong_usage(tmp_path: Path, flags: list[str]) -> None:
    """Other flags are compared with what the run has: see test_resumption."""
    result = run("train", "--resume", "--models-dir", str(tmp_path), *flags)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"leave out {flags[0]}." in result.stderr


def test_a_held_out_file_and_a_fraction_contradict_each_other(tmp_path: Path) -> None:
    result = run("train", "a.txt", "--valid-file", "b.txt", "--valid-fraction", "0.1", "--models-dir", str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "leave out --valid-fraction." in result.stderr


def test_a_fraction_of_a_file_of_settings_contradicts_a_held_out_file_too(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(POEMS, encoding="utf-8")
    (tmp_path / "c.toml").write_text("valid_fraction = 0.2", encoding="utf-8")
    named = ["train", str(tmp_path / "a.txt"), "--valid-file", str(tmp_path / "b.txt"), "--dry-run"]
    result = run(*named, "--config", str(tmp_path / "c.toml"), *TINY)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "leave out --valid-fraction" in result.stderr
    with pytest.raises(ConfigError, match="leave out valid_fraction"):
        planned(arguments_of(*named[1:4]), None, {"valid_fraction": 0.2}, Distribution)


def test_a_held_out_file_is_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("texts")
    folder.mkdir()
    for name in ("songs.txt", "held.txt"):
        (folder / name).write_text(POEMS, encoding="utf-8")
    Path("link.txt").symlink_to(folder / "held.txt")
    for held_out in ("texts/held.txt", "link.txt", "texts"):
        result = run("train", "texts", "--valid-file", held_out, "--dry-run", *TINY)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"{Path(held_out).name} is held-out text" in result.stderr or held_out == "texts"
        assert "Move it out of the folder" in result.stderr
    result = run("train", "texts/songs.txt", "--valid-file", "texts/held.txt", "--dry-run", *TINY)
    assert result.exit_code == 0, result.stderr


def test_a_file_may_have_a_number_for_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("songs.txt").write_text(POEMS, encoding="utf-8")
    Path("2023").write_text("a text", encoding="utf-8")
    result = run("train", "songs.txt", "--valid-file", "2023", "--dry-run", *TINY)
    assert result.exit_code == 0, result.stderr
    assert "held out    2023\n" in result.stdout


@pytest.mark.parametrize("odd", [0, 1])
def test_an_encoding_that_two_texts_share_is_not_advised_for_one(tmp_path: Path, odd: int) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for place, path in enumerate(paths):
        path.write_bytes(POEMS.encode() + b"caf\xe9\n" * (place == odd))
    advice = rf"^{paths[odd]} is not .*, if that is the encoding of all files; or convert it with iconv -f cp1252"
    with pytest.raises(CorpusError, match=advice):
        planned(arguments_of(str(paths[0]), "--valid-file", str(paths[1])), None, {}, Distribution)
