"""The program as a user runs it."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from command_tree import commands_with
from networks import random_weights
from processes import child_process

from textgen.cli import textgen
from textgen.cli.options import novelty_line
from textgen.cli.train import Arguments, planned
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset import token_cache
from textgen.dataset.ngram_index import Novelty
from textgen.errors import ConfigError, CorpusError
from textgen.model.config import ModelConfig
from textgen.saved_model.saved_model import load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.distributed.distribution import Distribution

POEMS = "\n\n".join(
    f"Song {n}\n{first} sings of the {second},\nand nobody {third}."
    for n, (first, second, third) in enumerate(
        (a, b, c)
        for a in ("The fox", "The owl", "The river", "The moon")
        for b in ("rain", "mill", "old road", "winter")
        for c in ("listens", "answers", "minds")
    )
)
TINY = [
    *("--tokenizer", "char", "--hidden-units", "16", "--num-layers", "1"),
    *("--batch-size", "4", "--sequence-length", "16", "--steps", "6", "--num-validations", "2"),
]
LIBRARY_LOG = re.compile(r"^[IWEF]\d{4} ", re.MULTILINE)  # how TensorFlow's lines begin


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """One command in this process; a bug shows its traceback."""
    return CliRunner().invoke(textgen, arguments, input=stdin, catch_exceptions=False, prog_name="textgen")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder of models with one in it, `my-songs`, and what its training said."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "my songs.txt").write_text(POEMS, encoding="utf-8")
    result = run("train", str(folder / "my songs.txt"), "--models-dir", str(folder), *TINY)
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture(scope="module")
def models(training: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one in it, `songs`."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(training[0] / "my-songs", folder / "songs")
    return folder


def test_training_says_the_plan_on_stderr_and_the_result_on_stdout(training: tuple[Path, Result]) -> None:
    folder, result = training
    assert "48 documents by blank-line" in result.stderr
    assert "held-out loss" in result.stderr
    assert "nats per token" in result.stdout
    assert f"textgen sample {folder / 'my-songs'}\n" in result.stdout
    assert (folder / "my-songs" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "songs", "songs.txt"],
        ["tune-state", "songs", "songs.txt", "--out", "a.state", "--steps", "1"],
        ["sample", "songs", "--adapt", "songs.txt", "--max-tokens", "2"],
    ],
)
def test_a_model_may_be_saved_anew_while_a_text_is_encoded(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models / "songs", tmp_path / "models" / "songs")
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    encode, saved_anew = token_cache.encoded, list[Path]()

    def encoded(*given: Any) -> Any:
        saved = load_model("songs")
        configs = (saved.model_config, saved.tokenizer_config, saved.corpus_config)
        save_model(
            saved.folder, {name: 2 * array for name, array in saved.weights().items()}, *configs, saved.tokenizer
        )
        saved_anew.append(saved.folder)
        return encode(*given)

    monkeypatch.setattr(token_cache, "encoded", encoded)
    result = run(*command)
    assert (result.exit_code, len(saved_anew)) == (0, 1), result.stderr


@pytest.mark.slow
def test_a_profile_is_recorded_among_the_logs(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    arguments = ["--models-dir", str(tmp_path / "models"), *TINY, "--steps", "13", "--profile-steps", "2"]
    assert run("train", str(tmp_path / "songs.txt"), *arguments).exit_code == 0
    assert len(list((tmp_path / "models" / "songs" / "logs").glob("plugins/profile/*/*.xplane.pb"))) == 1


@pytest.mark.slow
def test_learning_rates_are_tried_and_nothing_is_saved(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    arguments = [
        "train",
        str(tmp_path / "songs.txt"),
        "--models-dir",
        str(tmp_path / "models"),
        *TINY,
        "--find-learning-rate",
    ]
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    losses = [point["nats_per_token"] for point in found["points"]]
    assert min(losses) < losses[0] - 0.2
    assert found["points"][0]["learning_rate"] < found["suggestion"] < found["points"][-1]["learning_rate"]
    assert not (tmp_path / "models").exists()
    assert run(*arguments, "--workers", "2").exit_code == 2


def test_a_second_run_takes_the_next_name(models: Path, tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    shutil.copytree(models / "songs", tmp_path / "models" / "songs")
    short = [*TINY, "--steps", "1", "--num-validations", "1"]
    result = run("train", str(tmp_path / "songs.txt"), "--models-dir", str(tmp_path / "models"), *short)
    assert result.exit_code == 0
    assert "textgen sample songs-2\n" in result.stdout
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["songs", "songs-2"]


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    result = run("train", str(tmp_path / "songs.txt"), "--models-dir", str(tmp_path / "models"), "--dry-run")
    assert result.exit_code == 0
    for row in ("corpus", "vocabulary", "network", "parameters", "memory", "expected"):
        assert row in result.stdout
    assert not (tmp_path / "models").exists()


def test_settings_come_from_a_file_and_flags_override_them(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    (tmp_path / "settings.toml").write_text('hidden_units = 24\nnum_layers = 3\ntokenizer = "char"\n', encoding="utf-8")
    arguments = ["--config", str(tmp_path / "settings.toml"), "--num-layers", "2", "--batch-size", "4", "--dry-run"]
    result = run("train", str(tmp_path / "songs.txt"), *arguments)
    assert "2 x LSTM of 24 units" in result.stdout
    for line, expected in (
        ("hiden_units = 24", "There is no setting 'hiden_units'. Did you mean 'hidden_units'? There are: '"),
        ("minutes = 0", "minutes must be a number greater than 0 and at most 1e+12. Received: 0."),
        ("hidden_units = 1.5", "hidden_units must be an integer. Received: 1.5."),
    ):
        (tmp_path / "settings.toml").write_text(f"{line}\n", encoding="utf-8")
        result = run("train", str(tmp_path / "songs.txt"), *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: {tmp_path / 'settings.toml'}: {expected}")


def test_training_from_standard_input(tmp_path: Path) -> None:
    result = run("train", "-", "--models-dir", str(tmp_path), "--json", *TINY, stdin=POEMS)
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["progress"]["step"] == 6
    assert (tmp_path / "stdin" / "config.json").exists()


def test_a_corpus_is_prepared_in_shards_trained_on_and_resumed(tmp_path: Path) -> None:
    poems, out, models = tmp_path / "songs.txt", str(tmp_path / "prepared"), str(tmp_path / "models")
    poems.write_text(POEMS, encoding="utf-8")
    first = run("corpus", "prepare", str(poems), "--out", out, "--shard", "2/2", "--tokenizer", "char", "--json")
    assert first.exit_code == 0
    assert json.loads(first.stdout)["missing"] == [1]
    tiny = [option for option in TINY if option not in ("--tokenizer", "char")]
    early = run("train", out, "--models-dir", models, *tiny)
    assert early.exit_code == 1
    assert f"`textgen corpus prepare {poems} --out {out} --shard 1/2`" in early.stderr
    assert not Path(models).exists()

    rest = run("corpus", "prepare", str(poems), "--out", out)
    assert rest.exit_code == 0
    assert "Shard 2 of 2 already exists." in rest.stderr
    assert f"textgen train {out}" in rest.stdout
    counts = json.loads(run("corpus", "prepare", str(poems), "--out", out, "--json").stdout)
    assert counts["train"]["num_documents"] + counts["valid"]["num_documents"] == 48

    trained = run("train", out, "--models-dir", models, "--json", *tiny)
    assert trained.exit_code == 0
    assert "48 documents by blank-line" in trained.stderr
    record = json.loads(trained.stdout)
    assert record["tokens"]["train"] == counts["train"]["tokens"]
    assert record["scores"]["bytes"] == counts["valid"]["bytes"]
    refused = run("train", out, "--valid-file", "missing.txt", "--models-dir", models, *tiny)
    assert refused.stderr == f"Error: {out} has held-out text of its own: leave out --valid-file.\n"
    poems.unlink()
    resumed = run("train", "--resume", "--models-dir", models, "--json", "--steps", "9")
    assert json.loads(resumed.stdout)["progress"]["step"] == 9


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_shard_is_made_though_another_one_is_damaged(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poems, out = tmp_path / "songs.txt", tmp_path / "out"
    poems.write_text(POEMS, encoding="utf-8")
    command = ["corpus", "prepare", str(poems), "--out", str(out), "--tokenizer", "char", "--shard"]
    assert run(*command, "2/2").exit_code == 0
    with (out / "shard-00002-of-00002" / "train.bin").open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr("textgen.dataset.prepared_corpus.PreparedCorpus.data", pytest.fail)
    result = run(*command, "1/2", *more)
    assert result.exit_code == 0, result.stderr
    assert "1 of 2 shards are missing or damaged: shard 2: " in result.stderr
    if more:
        assert json.loads(result.stdout)["missing"] == []
    else:
        assert result.stdout == f"{out}: none of its 2 shards is missing.\n"


@pytest.mark.parametrize("shard", ["3", "1/2/3", "a/b", "-1/3"])
def test_a_shard_that_cannot_be_read_is_wrong_usage(tmp_path: Path, shard: str) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    result = run("corpus", "prepare", str(tmp_path / "songs.txt"), "--out", str(tmp_path / "out"), "--shard", shard)
    assert result.exit_code == 2
    assert "is not of the form 3/16" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_same_seed_writes_the_same_text(models: Path) -> None:
    texts = {run("sample", "songs", "--models-dir", str(models), "--seed", "5").stdout for _ in range(2)}
    assert len(texts) == 1
    assert texts != {run("sample", "songs", "--models-dir", str(models), "--seed", "6").stdout}


def test_sampling_with_no_model_named_takes_the_newest(models: Path) -> None:
    result = run("sample", "--models-dir", str(models), "--prompt", "春", "--max-tokens", "5")
    assert result.exit_code == 0
    assert result.stdout.startswith("春")


def test_prompts_from_standard_input_and_from_a_file(models: Path, tmp_path: Path) -> None:
    result = run("sample", "songs", "--models-dir", str(models), "--prompt", "-", "--seed", "1", stdin="The fox")
    assert result.stdout.startswith("The fox")
    (tmp_path / "prompt.txt").write_text("The fox", encoding="utf-8")
    again = run(
        "sample", "songs", "--models-dir", str(models), "--prompt-file", f"{tmp_path}/prompt.txt", "--seed", "1"
    )
    assert again.stdout == result.stdout


def test_several_texts_and_json_lines(models: Path) -> None:
    options = ["--models-dir", str(models), "--seed", "3", "--max-tokens", "30", "--json"]
    result = run("sample", "songs", "--prompt", "Song", "--prompt", "The", "--num", "2", *options)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["prompt"] for row in rows] == ["Song", "Song", "The", "The"]
    assert [row["seed"] for row in rows] == [3, 4, 5, 6]
    assert {row["stop_reason"] for row in rows} <= {"end", "length"}
    assert {"model", "text", "ids"} <= rows[0].keys()


def test_evaluate_prints_the_names_that_programs_read(models: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "songs.txt").write_text(POEMS, encoding="utf-8")
    (tmp_path / "other" / "picture.png").write_bytes(b"\x89PNG\0\0")
    result = run("evaluate", "songs", str(tmp_path / "other"), "--models-dir", str(models), "--json")
    assert f"Skipped {tmp_path / 'other' / 'picture.png'}: it looks like a binary file.\n" in result.stderr
    scores = json.loads(result.stdout)
    assert set(scores) == {
        "nats_per_token", "bits_per_byte", "perplexity_per_token", "perplexity_per_word", "tokens", "bytes", "words",
        "documents_mode",
    }  # fmt: skip
    assert scores["bytes"] == len(POEMS) - 2 * 47  # blank lines stand between documents, not in them
    assert "bits per byte" in run("evaluate", "songs", str(tmp_path / "other"), "--models-dir", str(models)).stdout


def test_evaluate_shows_what_attention_brings(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, num_layers=1, attention=4)
    corpus = CorpusConfig(documents="line")
    save_model(tmp_path / "tiny", random_weights(config), config, TokenizerConfig("char"), corpus, tokenizer)
    (tmp_path / "other.txt").write_text("The cat sat.\nThe mat.\n", encoding="utf-8")
    arguments = ["evaluate", str(tmp_path / "tiny"), str(tmp_path / "other.txt")]
    scores = json.loads(run(*arguments, "--json").stdout)
    assert abs(scores["nats_per_token_without_attention"] - scores["nats_per_token"]) > 0.001
    assert re.search(r"^nats per token without attention +\d", run(*arguments).stdout, re.MULTILINE)


def test_evaluate_with_a_second_model(models: Path, tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(POEMS, encoding="utf-8")
    arguments = ["evaluate", "songs", str(tmp_path / "other.txt"), "--models-dir", str(models), "--json"]
    alone, twice = (json.loads(run(*arguments, *more).stdout) for more in ([], ["--ensemble", "songs"]))
    assert alone.pop("documents_mode") == twice.pop("documents_mode") == "blank-line"
    assert twice == pytest.approx(alone, rel=1e-6)
    result = run(*arguments, "--ensemble", str(tiny_models / "tiny"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "tiny and songs have different vocabularies" in result.stderr


def test_sample_with_a_cache_and_after_learning(models: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("zebra zoo\n" * 200, encoding="utf-8")
    weights = models / "songs" / "model.safetensors"
    before = weights.read_bytes()
    arguments = ["sample", "songs", "--seed", "1", "--max-tokens", "60", "--models-dir", str(models)]
    adapt = ["--adapt", str(tmp_path / "other.txt"), "--dynamic-learning-rate", "1"]
    plain, cached, learned = (
        run(*arguments, *more).stdout for more in ([], ["--neural-cache", "--neural-cache-lambda", "0.5"], adapt)
    )
    assert plain != cached
    assert plain.count("z") < learned.count("z") > 5
    assert weights.read_bytes() == before
    result = run(*arguments, "--dynamic-decay", "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--dynamic-decay needs --adapt" in result.stderr
    missing = run(*arguments, "--adapt", str(tmp_path / "missing.txt"))
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "missing.txt" in missing.stderr
    state = ["--load-state", str(tmp_path / "state")]
    assert run(*arguments, "--neural-cache", "--save-state", str(tmp_path / "state")).exit_code == 0
    assert run(*arguments, "--neural-cache", *state).exit_code == 0
    assert "the state of another model" in run(*arguments, *state).stderr


def test_a_state_after_learning_knows_the_text_and_not_its_place(models: Path, tmp_path: Path) -> None:
    text, elsewhere, state = tmp_path / "private.txt", tmp_path / "moved.txt", tmp_path / "state"
    text.write_text("zebra zoo\n" * 20, encoding="utf-8")
    elsewhere.write_text("zebra zoo\r\n" * 20, encoding="utf-16", newline="")
    sample = ["sample", "songs", "--max-tokens", "3", "--models-dir", str(models)]
    assert run(*sample, "--adapt", str(text), "--save-state", str(state)).exit_code == 0
    assert b"private" not in state.read_bytes()
    again = [*sample, "--load-state", str(state), "--adapt"]
    assert run(*again, str(elsewhere), "--encoding", "utf-16").exit_code == 0
    other_ways = run(*again, str(text), "--dynamic-learning-rate", "0.5")
    text.write_text("zebra zoo\n" * 19 + "zebra zob\n", encoding="utf-8")
    for result in (other_ways, run(*again, str(text)), run(*again[:-1])):
        assert (result.exit_code, result.stdout) == (1, "")
        assert "the state of another model, or was saved with other settings" in result.stderr


def test_evaluate_with_a_cache_and_learning(models: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(POEMS, encoding="utf-8")
    arguments = ["evaluate", "songs", str(tmp_path / "other.txt"), "--models-dir", str(models), "--json"]
    results = [run(*arguments, *more) for more in ([], ["--neural-cache"], ["--dynamic"])]
    alone, cached, learned = (json.loads(result.stdout) for result in results)
    assert "nats_per_token_as_saved" not in alone
    for adapted in (cached, learned):
        assert adapted["nats_per_token"] < alone["nats_per_token"]
        assert adapted["nats_per_token_as_saved"] == pytest.approx(alone["nats_per_token"], rel=1e-6)
    assert "worse" not in results[2].stderr
    assert "Adapting made it worse: try" in run(*arguments, "--dynamic", "--dynamic-learning-rate", "30").stderr
    result = run(*arguments, "--neural-cache-window", "10")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--neural-cache-window needs --neural-cache" in result.stderr
    assert "--dynamic-decay needs --dynamic" in run(*arguments, "--dynamic-decay", "0").stderr


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((6, 0, None, 0, "", 0, 0.0), "novelty: too short to tell, shorter than 6 tokens."),
        ((6, 8, 0.0, 0, "", 0, 0.0), "novelty: 0.0 % of the runs of 6 tokens occur in the training text."),
        (
            (6, 8, 0.25, 7, "of the", 6, 0.08),
            "novelty: 25.0 % of the runs of 6 tokens occur in the training text (up to 8 % by mistake); "
            "the longest copy has at most 7 tokens: 'of the'",
        ),
        (
            (6, 8, 1.0, 2470, f"{'a' * 100} copy of a chapter\n{'b' * 100}", 6, 0.0),
            "novelty: 100.0 % of the runs of 6 tokens occur in the training text; "
            f"the longest copy has at most 2,470 tokens: '{'a' * 100}...{'b' * 100}'",
        ),
    ],
)
def test_the_line_about_copying(found: tuple[Any, ...], expected: str) -> None:
    assert novelty_line(Novelty(*found)) == expected


def test_novelty_of_what_is_written_and_of_a_text(models: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(POEMS, encoding="utf-8")
    where = ["--models-dir", str(models)]
    result = run("sample", "songs", "--novelty", "--max-tokens", "400", "--seed", "1", *where)
    assert result.stderr.startswith("novelty: ")
    result = run("sample", "songs", "--novelty", "--max-tokens", "5", "--num", "2", *where)
    assert result.stderr.count("too short to tell") == 2
    (row,) = run("sample", "songs", "--novelty", "--max-tokens", "40", "--json", *where).stdout.splitlines()
    assert json.loads(row)["novelty"].keys() == {
        "ngram", "ngrams", "copied_fraction", "longest_copy", "longest_copy_text", "longest_copy_characters",
        "false_positive_rate",
    }  # fmt: skip
    found = json.loads(run("evaluate", "songs", str(tmp_path / "other.txt"), "--novelty", "--json", *where).stdout)
    assert found["novelty"]["copied_fraction"] > 0.9  # a tenth was held out
    assert found["novelty"]["longest_copy_text"] in POEMS
    (tmp_path / "own.txt").write_text("What nobody has ever said about anything under the moon.", encoding="utf-8")
    result = run("evaluate", "songs", str(tmp_path / "own.txt"), "--novelty", *where)
    assert result.stdout.splitlines()[-1].startswith("novelty: 0.0 % of")


def test_no_copy_forbids_what_the_model_would_recite(models: Path, tmp_path: Path) -> None:
    ngram = load_model("songs", models).ngrams().ngram
    options = ["--temperature", "0", "--max-tokens", "80", "--models-dir", str(models), "--novelty", "--json"]
    row = json.loads(run("sample", "songs", "--no-copy", str(ngram - 1), *options).stdout)
    assert row["novelty"]["copied_fraction"] == 0.0
    result = run("sample", "songs", "--no-copy", str(ngram - 2), *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"--no-copy must be at least {ngram - 1}" in result.stderr


def test_a_model_without_an_index_cannot_tell_of_copying(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The cat\n", encoding="utf-8")
    where = ["--models-dir", str(tiny_models)]
    for command in (
        ["sample", "tiny", "--novelty"],
        ["sample", "tiny", "--no-copy", "30"],
        ["evaluate", "tiny", str(tmp_path / "text.txt"), "--novelty"],
    ):
        result = run(*command, *where)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "has no index of its training text" in result.stderr.splitlines()[-1]


def test_models_list_show_and_remove(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copied"
    shutil.copytree(models / "songs", folder / "songs")  # other tests may have trained beside it
    assert "songs" in run("models", "list", "--models-dir", str(folder)).stdout
    assert json.loads(run("models", "list", "--models-dir", str(folder), "--json").stdout)[0]["name"] == "songs"
    assert "1 LSTM layer of 16 units" in run("models", "show", "--models-dir", str(folder)).stdout
    assert run("models", "remove", "songs", "--models-dir", str(folder), stdin="n\n").exit_code == 1
    assert (folder / "songs").exists()
    assert run("models", "remove", "songs", "--yes", "--models-dir", str(folder)).exit_code == 0
    assert not (folder / "songs").exists()


def test_a_tokenizer_is_taken_over(models: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text(POEMS, encoding="utf-8")
    arguments = ["--tokenizer-from", "songs", "--models-dir", str(models), "--name", "more", "--dry-run"]
    result = run("train", str(tmp_path / "more.txt"), "--batch-size", "4", *arguments)
    assert result.exit_code == 0
    assert "char" in result.stdout


def _gzip_broken(path: Path) -> None:
    path.write_bytes(gzip.compress(POEMS.encode())[:-20])


BAD_CORPORA: list[tuple[str, Callable[[Path], object], list[str], str]] = [
    ("missing.txt", lambda path: None, [], "missing.txt"),
    ("folder", lambda path: path.mkdir(), [], "No text"),
    ("empty.txt", lambda path: path.write_text(""), [], "No text"),
    ("blank.txt", lambda path: path.write_text(" \n\n\t\n"), [], "No text"),
    ("short.txt", lambda path: path.write_text("Too short."), [], "too few"),
    ("small.txt", lambda path: path.write_text("word " * 300), ["--batch-size", "128"], "less than one batch"),
    ("picture.png", lambda path: path.write_bytes(b"\x89PNG\0\0" * 500), [], "binary"),
    ("latin.txt", lambda path: path.write_bytes(("na\xefve " * 400).encode("latin-1")), [], "encoding"),
    ("broken.gz", _gzip_broken, [], "broken.gz"),
    ("no-field.jsonl", lambda path: path.write_text('{"body": "x"}\n'), [], "--text-field"),
    ("no-column.csv", lambda path: path.write_text("title,body\na,b\n"), [], "--text-column"),
    ("big-vocabulary.txt", lambda path: path.write_text(POEMS), ["--vocab-size", "50000", "--steps", "1"], "at most"),
    ("unknown-encoding.txt", lambda path: path.write_text(POEMS), ["--encoding", "utf-9"], "utf-9"),
    ("bad-dropout.txt", lambda path: path.write_text(POEMS), ["--dropout", "1.5"], "dropout"),
    ("no-length.txt", lambda path: path.write_text(POEMS), ["--steps", "0"], "steps must be a number"),
    ("no-preset.txt", lambda path: path.write_text(POEMS), ["--from", "nobody"], "no model 'nobody'"),
]


OUT_OF_RANGE = ("bad-dropout.txt", "no-length.txt")


@pytest.mark.parametrize(("name", "make", "options", "expected"), BAD_CORPORA, ids=[row[0] for row in BAD_CORPORA])
def test_a_bad_corpus_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, name: str, make: Callable[[Path], object], options: list[str], expected: str
) -> None:
    make(tmp_path / name)
    result = run("train", str(tmp_path / name), "--models-dir", str(tmp_path / "models"), *options)
    assert result.exit_code == (2 if name in OUT_OF_RANGE else 1)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.stderr.endswith(errors[0] + "\n")
    assert expected in errors[0]
    assert not list((tmp_path / "models").glob("*"))


BAD_SAMPLES: list[tuple[list[str], str | bytes | None, int, str]] = [
    (["songs", "--temperature", "-1"], None, 2, "temperature must be a number from 0"),
    (["songs", "--temperature", "hot"], None, 2, "not a valid float"),
    (["songs", "--top-p", "1.5"], None, 2, "--top-p must be"),
    (["songs", "--stop", ""], None, 1, "stop"),
    (
        ["songs", "--samplers", "top_k;heat"],
        None,
        1,
        "There is no sampler 'heat'. There are: 'penalties', 'dry', 'top_n_sigma',",
    ),
    (["songs", "--min-tokens", "9", "--max-tokens", "5"], None, 1, "--min-tokens (9) is more than --max-tokens (5)"),
    (
        ["songs", "--require", "Ode", "--ban", "O"],
        None,
        1,
        "--require must not contain a banned text: 'Ode' contains 'O'.",
    ),
    (["songs", "--require", "Ode" * 200], None, 1, "take 600 tokens, and --max-tokens is 500"),
    (["songs", "--logit-bias", "#99999=1"], None, 1, "there is no token #99999"),
    (["songs", "--mirostat", "3"], None, 2, "mirostat must be a number from 0 to 2"),
    (["songs", "--num", "0"], None, 2, "--num must be a number of at least 1. Received: 0."),
    (["songs", "--max-tokens", "0"], None, 2, "--max-tokens must be a number of at least 1. Received: 0."),
    (["songs", "--no-copy", "0"], None, 2, "--no-copy must be a number of at least 1"),
    (["nobody"], None, 1, "There are: songs"),
    (["songs", "--prompt", "-"], b"\xff\xfe\xff", 1, "not UTF-8"),
    (["songs", "--prompt", "half \udce2 a character"], None, 1, "not valid text"),
    (["songs", "--prompt-file", "missing.txt"], None, 1, "missing.txt"),
    (["songs", "--prompt-lines", "-"], "\n\n", 1, "There is no prompt in -."),
    (["songs", "--prompt", "-", "--prompt-lines", "-"], "The\n", 1, "Standard input can be read only once"),
    (["songs", "--prompt", "-", "--prompt", "-"], "The\n", 1, "Standard input can be read only once"),
    (["songs", "--until", "noon"], None, 2, "noon"),
    (["songs", "--best-of", "2", "--num", "3"], None, 1, "--best-of (2) is less than num (3)"),
    (["songs", "--best-of", "2", "--num-beams", "3"], None, 2, "without random draws: leave out --best-of"),
    (["songs", "--num-beams", "3", "--temperature", "0.8"], None, 2, "without random draws: leave out --temperature"),
    (["songs", "--length-penalty", "2", "--top-k", "5"], None, 2, "--length-penalty searches for the likeliest text"),
    (["songs", "--num-beams", "3", "--samplers", "top_k"], None, 2, "without random draws: leave out --samplers"),
    (["songs", "--num-beams", "3", "--mirostat", "2"], None, 2, "without random draws: leave out --mirostat"),
    (["songs", "--num-beams", "3", "--seed", "1"], None, 2, "without random draws: leave out --seed"),
    (["songs", "--num-beams", "3", "--batch-size", "64"], None, 2, "without random draws: leave out --batch-size"),
    (
        ["songs", "--num-beams", "3", "--top-logprobs", "2", "--json"],
        None,
        2,
        "without random draws: leave out --top-logprobs",
    ),
    (["songs", "--top-logprobs", "0"], None, 2, "--top-logprobs needs --json"),
    (["songs", "--num-beams", "2", "--num", "3"], None, 1, "--num-beams 2 finds at most 2 texts, not 3"),
    (["songs", "--num-beams", "4", "--num-beam-groups", "3"], None, 1, "must be a multiple of --num-beam-groups (3)"),
    (["songs", "--length-penalty", "nan"], None, 2, "--length-penalty must be a number"),
    (["songs", "--length-penalty", "11"], None, 2, "--length-penalty must be a number from -10 to 10"),
    (["songs", "--label", "odes"], None, 1, "The model was trained without labels, so it knows none such as 'odes'"),
    (["songs", "--load-state", "missing.state"], None, 1, "Name a file written by --save-state."),
    (["songs", "--save-state", "state", "--num", "2"], None, 1, "A state belongs to one text"),
]


@pytest.mark.parametrize(("arguments", "stdin", "code", "expected"), BAD_SAMPLES, ids=[row[3] for row in BAD_SAMPLES])
def test_a_bad_sample_is_one_clear_line(
    models: Path, arguments: list[str], stdin: str | bytes | None, code: int, expected: str
) -> None:
    result = run("sample", *arguments, "--models-dir", str(models), stdin=stdin)
    assert result.exit_code == code
    assert expected in result.stderr.splitlines()[-1]
    assert not result.stdout


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('{"prompt": "The"}\n{"prompt": ', "prompts.jsonl, line 2 is not JSON"),
        ('\n{"prompt": "The"}\n\n{"prompt": ', "prompts.jsonl, line 4 is not JSON"),
        ('\n\n{"prompt": 7}', 'prompts.jsonl, line 3: a line must be an object with "prompt"'),
        ('{"prompt": "The", "heat": 1}', "prompts.jsonl, line 1: There is no sampling setting 'heat'. "),
        (
            '{"prompt": "The", "max-tokens": 1}',
            "line 1: There is no sampling setting 'max-tokens'. Did you mean 'max_tokens'? There are: 'temp",
        ),
        ('{"prompt": "The", "max_tokens": "1"}', "line 1: max_tokens must be an integer"),
        ('{"prompt": "The", "temperature": -1}', "prompts.jsonl, line 1: temperature must be a number from 0"),
        ('{"text": "The"}', 'prompts.jsonl, line 1: a line must be an object with "prompt"'),
        ('["The"]', 'prompts.jsonl, line 1: a line must be an object with "prompt"'),
        ('{"prompt": 7}', 'prompts.jsonl, line 1: a line must be an object with "prompt"'),
        (
            '{"prompt": "The"}\n{"prompt": "The", "label": "x"}',
            "prompts.jsonl, line 2: The model was trained without labels",
        ),
        ('{"prompt": "\\ud800"}', "prompts.jsonl, line 1: The text"),
        ('{"prompt": "The", "top_logprobs": 2}', "prompts.jsonl, line 1: top_logprobs needs --json."),
        ("\n", "There is no prompt in"),
    ],
)
def test_a_bad_file_of_prompts_is_named_with_its_line(models: Path, tmp_path: Path, lines: str, expected: str) -> None:
    (tmp_path / "prompts.jsonl").write_text(lines, encoding="utf-8")
    result = run("sample", "songs", "--models-dir", str(models), "--prompt-file", str(tmp_path / "prompts.jsonl"))
    assert result.exit_code == 1
    assert expected in result.stderr.splitlines()[-1]
    assert not result.stdout


def rows_of(models: Path, *arguments: str, stdin: str | None = None, model: str = "songs") -> list[dict[str, Any]]:
    result = run("sample", model, "--models-dir", str(models), "--json", *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_many_prompts_with_settings_of_their_own(models: Path, tmp_path: Path) -> None:
    """In their order; each becomes what it would alone."""
    entries: list[dict[str, Any]] = [{"prompt": f"Song {number}\n"} for number in range(70)]
    entries[5] |= {"seed": 99, "max_tokens": 3}
    entries[6] |= {"temperature": 0, "stop": ["e"]}
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    options = ["--seed", "3", "--max-tokens", "12"]
    rows = rows_of(models, "--prompt-file", str(tmp_path / "prompts.jsonl"), *options)
    assert [row["prompt"] for row in rows] == [entry["prompt"] for entry in entries]
    assert [row["seed"] for row in rows] == [3, 4, 5, 6, 7, 99, *range(9, 73)]
    assert rows[5]["config"] == {"max_tokens": 3}
    assert rows[6]["config"] == {"max_tokens": 12, "temperature": 0, "stop": ["e"]}
    assert len(rows[5]["ids"]) == 3
    assert rows_of(models, "--prompt", "Song 69\n", "--seed", "72", "--max-tokens", "12") == rows[69:]


def test_prompts_with_settings_are_known_by_an_ending_in_upper_case(models: Path, tmp_path: Path) -> None:
    (tmp_path / "PROMPTS.JSONL").write_text('{"prompt": "The"}\n{"prompt": "A"}\n')
    rows = rows_of(models, "--prompt-file", str(tmp_path / "PROMPTS.JSONL"), "--max-tokens", "2")
    assert [row["prompt"] for row in rows] == ["The", "A"]


def test_after_the_largest_seed_comes_the_lowest(models: Path) -> None:
    prompts = ["--prompt", "The", "--prompt", "A", "--num", "2", "--max-tokens", "2"]
    rows = rows_of(models, *prompts, "--seed", str((1 << 63) - 1))
    assert [row["seed"] for row in rows] == [(1 << 63) - 1, 0, 1, 2]


def test_each_line_is_a_prompt(models: Path, tmp_path: Path) -> None:
    lines = "The fox\n\nThe owl \r\n床前\n"
    rows = rows_of(models, "--prompt-lines", "-", "--max-tokens", "2", stdin=lines)
    assert [row["prompt"] for row in rows] == ["The fox", "The owl ", "床前"]
    (tmp_path / "lines.txt").write_bytes(lines.encode())
    rows = rows_of(models, "--prompt", "A", "--prompt-lines", str(tmp_path / "lines.txt"), "--num", "2")
    assert [row["prompt"] for row in rows] == [text for text in ("A", "The fox", "The owl ", "床前") for _ in "ab"]


def test_the_same_seed_writes_the_same_text_as_stream_batch_and_json(models: Path) -> None:
    options = ["sample", "songs", "--models-dir", str(models), "--prompt", "The", "--seed", "8", "--max-tokens", "40"]
    (alone,) = rows_of(models, "--prompt", "The", "--seed", "8", "--max-tokens", "40")
    assert run(*options).stdout == "The" + alone["text"] + "\n"
    assert run(*options, "--num", "3").stdout.startswith("The" + alone["text"] + "\n\nThe")
    together = rows_of(models, "--prompt", "The", "--seed", "8", "--max-tokens", "40", "--num", "3")
    assert together[0] == alone
    for size in ("1", "2"):
        assert together == rows_of(
            models, "--prompt", "The", "--seed", "8", "--max-tokens", "40", "--num", "3", "--batch-size", size
        )


def test_log_probabilities_in_json_and_in_colour(models: Path) -> None:
    options = ["--prompt", "The", "--seed", "1", "--max-tokens", "9", "--min-tokens", "9"]
    (row,) = rows_of(models, *options, "--top-logprobs", "2")
    assert len(row["logprobs"]) == len(row["top_logprobs"]) == len(row["ids"]) == 9
    assert all(value <= 0 for value in row["logprobs"])
    assert all(len(top) == 2 for top in row["top_logprobs"])
    assert rows_of(models, *options)[0]["logprobs"] is None
    for more in ([], ["--num", "2"]):
        command = ["sample", "songs", "--models-dir", str(models), *options, "--show-probabilities", *more]
        coloured = CliRunner().invoke(textgen, command, color=True, catch_exceptions=False).stdout
        assert coloured.count("\x1b[0m") >= 5
        plain = CliRunner().invoke(textgen, command, catch_exceptions=False).stdout
        assert click.unstyle(coloured) == plain
        assert plain.startswith("The" + row["text"])


def test_a_search_prints_the_likeliest_texts(models: Path) -> None:
    options = ["--prompt", "The", "--max-tokens", "8"]
    rows = rows_of(models, *options, "--num-beams", "4", "--num", "3")
    totals = [sum(row["logprobs"]) for row in rows]
    assert len(rows) == 3
    assert totals == sorted(totals, reverse=True)
    drawn = rows_of(models, *options, "--num", "20", "--best-of", "20", "--seed", "0")
    assert max(sum(row["logprobs"]) for row in drawn if len(row["ids"]) == 8) <= totals[0] + 1e-4
    text = run("sample", "songs", "--models-dir", str(models), *options, "--num-beams", "4").stdout
    assert text == "The" + rows[0]["text"] + "\n"


def test_a_text_is_saved_and_gone_on_with(models: Path, tmp_path: Path) -> None:
    state, greedy = str(tmp_path / "song.state"), ["--temperature", "0", "--no-heal"]
    (whole,) = rows_of(models, "--prompt", "The", *greedy, "--max-tokens", "20")
    (first,) = rows_of(models, "--prompt", "The", *greedy, "--max-tokens", "12", "--save-state", state)
    (second,) = rows_of(models, *greedy, "--max-tokens", "8", "--load-state", state)
    assert first["text"] + second["text"] == whole["text"]
    shown = run("sample", "songs", "--models-dir", str(models), *greedy, "--max-tokens", "8", "--load-state", state)
    assert shown.stdout == second["text"] + "\n"


@pytest.fixture(scope="module")
def labelled(models: Path) -> Path:
    """A table of songs, from which the model `labelled` has learned."""
    path = models.parent / "labelled.csv"
    songs = (song.replace("\n", " ").replace(",", "") for song in POEMS.split("\n\n"))
    path.write_text("by,text\n" + "".join(f"{('fox', 'owl')[n % 2]},{song}\n" for n, song in enumerate(songs)))
    result = run("train", str(path), "--models-dir", str(models), *TINY, "--labels", "by", "--name", "labelled")
    assert result.exit_code == 0, result.output
    assert "labels      2 by by: fox, owl" in result.stderr
    assert f"textgen sample {models / 'labelled'} --label fox\n" in result.stdout
    os.utime(models / "songs" / "MANIFEST.json")  # still the newest
    return path


def test_texts_by_label(models: Path, labelled: Path, tmp_path: Path) -> None:
    lines = [
        json.dumps({"prompt": "Song", "label": label, "seed": 3, "top_logprobs": 0}) for label in ("fox", "owl", None)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    common = ["--max-tokens", "30", "--prompt-file", str(tmp_path / "prompts.jsonl")]
    texts = rows_of(models, *common, model="labelled")
    assert [text["config"].get("label") for text in texts] == ["fox", "owl", None]
    assert len({tuple(text["logprobs"]) for text in texts}) == 3
    arguments = ["--prompt", "Song", "--label", "owl", "--seed", "3", "--max-tokens", "30"]
    assert rows_of(models, *arguments, model="labelled")[0]["text"] == texts[1]["text"]
    assert run("sample", "labelled", *arguments, "--models-dir", str(models)).stdout == f"Song{texts[1]['text']}\n"
    listed = json.loads(run("models", "list", "--models-dir", str(models), "--json").stdout)
    assert {model["name"]: model["labels"] for model in listed}["labelled"] == ["fox", "owl"]
    assert "| labels | fox, owl |" in run("models", "show", "labelled", "--models-dir", str(models)).stdout


def test_texts_are_scored_by_label(models: Path, labelled: Path) -> None:
    def bits(*arguments: str) -> float:
        result = run(*arguments, "--models-dir", str(models), "--json", stdin="The fox sings of the rain.")
        assert result.exit_code == 0, result.stderr
        return float(json.loads(result.stdout)["bits_per_byte"])

    for command in ("score", "evaluate"):
        assert len({bits(command, "labelled", "-", "--label", label) for label in ("fox", "owl")}) == 2
    counts = json.loads(run("corpus", "stats", str(labelled), "--labels", "by", "--json").stdout)
    assert counts["label_counts"] == {"fox": 24, "owl": 24}
    assert "24  fox" in run("corpus", "stats", str(labelled), "--labels", "by").stdout
    bits("evaluate", "labelled", str(labelled))


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "labelled", "--prompt", "The"],
        ["sample", "labelled", "--num-beams", "2"],
        ["score", "labelled", "-"],
        ["score", "labelled", "-", "--follow"],
        ["evaluate", "labelled", "-"],
    ],
    ids=" ".join,
)
def test_a_label_that_does_not_exist_is_one_clear_line(models: Path, labelled: Path, arguments: list[str]) -> None:
    result = run(*arguments, "--label", "ow", "--models-dir", str(models), stdin="The fox")
    assert result.exit_code == 1
    assert result.stderr == "Error: There is no label 'ow'. There are: owl, fox.\n"
    assert not result.stdout


def test_labels_that_are_not_there_are_an_error_in_every_command(models: Path, labelled: Path, tmp_path: Path) -> None:
    """Every command that has the flag."""
    out, in_models = ["--out", str(tmp_path / "out")], ["--models-dir", str(models)]
    arguments = {
        "train": ["train"],
        "corpus prepare": ["corpus", "prepare", *out],
        "corpus stats": ["corpus", "stats"],
        "tokenizer train": ["tokenizer", "train", *out],
        "evaluate": ["evaluate", "labelled", *in_models],
        "tune-state": ["tune-state", "labelled", *out, *in_models],
    }
    assert set(arguments) == commands_with("labels", textgen)
    for command in arguments.values():
        result = run(*command, str(labelled), "--labels", "author")
        assert result.exit_code == 1, command
        assert "No document has a label 'author'" in result.stderr.splitlines()[-1]
        assert result.stderr.endswith("There are: by, text.\n")
    assert not (tmp_path / "out").exists()


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


def test_writing_loads_no_tensorflow(models: Path) -> None:
    code = (
        "import sys\nfrom textgen.cli import textgen\n"
        f"textgen(['sample', 'songs', '--models-dir', {str(models)!r}, '--max-tokens', '3'], standalone_mode=False)\n"
        "print({'tensorflow', 'keras'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "set()"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    (tmp_path / "file").write_text("a file where a folder should be", encoding="utf-8")
    result = run("train", str(tmp_path / "songs.txt"), "--models-dir", str(tmp_path / "file" / "models"), *TINY)
    assert result.exit_code == 1
    assert "Error: Cannot write" in result.stderr


def test_a_full_disk_is_said_and_leaves_no_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = run("train", str(tmp_path / "songs.txt"), "--models-dir", str(tmp_path / "models"), *TINY)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr.splitlines()[-1]
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]


def test_nothing_to_train_on_is_wrong_usage() -> None:
    assert run("train").exit_code == 2


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
        planned(Arguments((named[1],), valid_file=named[3]), None, {"valid_fraction": 0.2}, Distribution)


@pytest.mark.parametrize("odd", [0, 1])
def test_an_encoding_that_two_texts_share_is_not_advised_for_one(tmp_path: Path, odd: int) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for place, path in enumerate(paths):
        path.write_bytes(POEMS.encode() + b"caf\xe9\n" * (place == odd))
    advice = rf"^{paths[odd]} is not .*, if that is the encoding of all files; or convert it with iconv -f cp1252"
    with pytest.raises(CorpusError, match=advice):
        planned(Arguments((str(paths[0]),), valid_file=str(paths[1])), None, {}, Distribution)


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


def test_a_search_has_no_format(models: Path) -> None:
    result = run("embed", "songs", "--text", "fox", "--search", "fox", "--format", "npy", "--models-dir", str(models))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--format" in result.stderr


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
    plan, _ = planned(Arguments((str(text),), valid_file=str(held_out)), None, {}, Distribution)
    assert plan.sources.valid
    assert list(plan.sources.valid.documents()) == ["a song", "of lines"]


def test_resuming_with_nothing_there_is_said(tmp_path: Path) -> None:
    result = run("train", "--resume", "--models-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "no run to resume" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--activation-penalty", "2", "--temporal-penalty", "1", "--word-dropout", "0.1", "--weight-drop", "0.2"],
        [
            "--random-bptt",
            "0.05",
            "--label-smoothing",
            "0.1",
            "--optimizer",
            "asgd",
            "--gradient-accumulation-steps",
            "2",
        ],
        ["--tokenizer", "unigram", "--subword-alpha", "0.1", "--weight-averaging", "ema"],
        ["--direction", "both", "--layer-norm", "--residual", "--clip-value", "0.1"],
        ["--attention", "8", "--schedule", "inverse-sqrt"],
        *(["--cell", cell] for cell in ("gru", "rnn", "peephole", "mogrifier")),
        *(["--precision", precision] for precision in ("float32", "bfloat16")),
        ["--no-tie-embeddings", "--no-carry-state", "--recurrent-initializer", "glorot"],
    ],
    ids=" ".join,
)
def test_training_says_nothing_of_its_libraries(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    command = [sys.executable, "-m", "textgen", "train", str(tmp_path / "songs.txt"), *TINY, *flags]
    done = subprocess.run([*command, "--steps", "3"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not LIBRARY_LOG.search(done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_and_the_run_goes_on_where_it_was(tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "songs.txt").write_text(POEMS, encoding="utf-8")
    command = [sys.executable, "-m", "textgen", "train", "--models-dir", str(tmp_path / "models")]
    options = [*TINY, "--steps", "1000000", "--num-validations", "100000", "--patience", "1000000"]
    options += ["--activation-penalty", "2", "--temporal-penalty", "1"]
    command += [str(tmp_path / "songs.txt"), *options]
    with (tmp_path / "stderr.txt").open("wb") as errors, child_process(command, stderr=errors) as process:
        until = time.monotonic() + 120
        while b"held-out loss" not in (tmp_path / "stderr.txt").read_bytes():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(60) == code
    said = (tmp_path / "stderr.txt").read_text(encoding="utf-8")
    assert "everything is saved. Continue with textgen train --resume --name " in said
    assert "Traceback" not in said
    assert not LIBRARY_LOG.search(said)
    record = json.loads((tmp_path / "models" / "songs" / "training.json").read_text(encoding="utf-8"))
    stopped_at = record["progress"]["step"]
    assert record["status"] == "interrupted"
    result = run(
        "train", "--resume", "--models-dir", str(tmp_path / "models"), "--steps", str(stopped_at + 3), "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["progress"]["step"] == stopped_at + 3


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


def test_a_closed_pipe_ends_quietly(models: Path) -> None:
    arguments = f"sample songs --models-dir {models} --num 3 --seed 1 --max-tokens 2000"
    command = f"{sys.executable} -m textgen {arguments} | head -c 10"
    result = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert b"Traceback" not in result.stderr
    assert len(result.stdout) == 10
