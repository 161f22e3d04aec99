"""textgen sample --save-state and --load-state: a text goes on where it ended."""

from __future__ import annotations

from pathlib import Path

import song_model
from networks import random_weights
from song_model import rows_of, run

from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer

models = song_model.models  # fixture


def test_a_text_is_saved_and_gone_on_with(models: Path, tmp_path: Path) -> None:
    state, greedy = str(tmp_path / "song.state"), ["--temperature", "0", "--no-heal"]
    (whole,) = rows_of(models, "--prompt", "The", *greedy, "--max-tokens", "20")
    (first,) = rows_of(models, "--prompt", "The", *greedy, "--max-tokens", "12", "--save-state", state)
    (second,) = rows_of(models, *greedy, "--max-tokens", "8", "--load-state", state)
    assert first["text"] + second["text"] == whole["text"]
    shown = run("sample", "songs", "--models-dir", str(models), *greedy, "--max-tokens", "8", "--load-state", state)
    assert shown.stdout == second["text"] + "\n"


def test_what_a_stop_text_takes_back_is_not_in_the_state(models: Path, tmp_path: Path) -> None:
    state, greedy = str(tmp_path / "song.state"), ["--temperature", "0", "--no-heal", "--max-tokens", "6"]
    (whole,) = rows_of(models, "--prompt", "The", *greedy)
    stop = whole["text"][2:4]
    (cut,) = rows_of(models, "--prompt", "The", *greedy, "--stop", stop, "--save-state", state)
    assert cut["stop_reason"] == "stop"
    (rest,) = rows_of(models, *greedy, "--load-state", state)
    assert (cut["text"] + rest["text"])[: len(whole["text"])] == whole["text"]


def test_the_state_of_a_cut_text_that_began_inside_a_character_repeats_no_byte(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    config = ModelConfig(tokenizer.vocab_size, 6, 8)
    weights = random_weights(config)
    weights["head/bias"][tokenizer.encode("床前é")] += 30.0
    save_model(tmp_path / "bytes", weights, config, TokenizerConfig("byte"), CorpusConfig(), tokenizer)
    half, after = str(tmp_path / "half.state"), str(tmp_path / "after.state")
    drawn = ("--seed", "1", "--max-tokens", "12")
    (first,) = rows_of(tmp_path, "--max-tokens", "1", "--seed", "1", "--save-state", half, model="bytes")
    (whole,) = rows_of(tmp_path, *drawn, "--load-state", half, model="bytes")
    assert not first["text"]
    (cut,) = rows_of(
        tmp_path, *drawn, "--load-state", half, "--stop", whole["text"][2], "--save-state", after, model="bytes"
    )
    assert (cut["text"], cut["stop_reason"]) == (whole["text"][:2], "stop")
    state = load_model("bytes", tmp_path).generator().load_state(after)
    assert tokenizer.decode(state.ids) == cut["text"]


def test_a_state_that_cannot_be_written_is_said(models: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "folder")
    result = run("sample", "songs", "--models-dir", str(models), "--max-tokens", "2", "--save-state", path)
    assert result.exit_code == 1
    assert "Error: Cannot write" in result.stderr


def test_a_hint_names_what_writes_states(models: Path, tmp_path: Path) -> None:
    result = run("sample", "songs", "--models-dir", str(models), "--load-state", str(tmp_path / "missing.state"))
    assert result.exit_code == 1
    assert result.stderr.endswith("Name a file that textgen tune-state or --save-state has written.\n")
