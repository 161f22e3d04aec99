"""Writing towards an ending and filling gaps, as a user does it, with a model that has learned to."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from networks import random_weights

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.model.directions import one_way
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

KEYS = "abcdefgh"
SIZES = "--hidden-units 32 --num-layers 1 --batch-size 16 --sequence-length 16 --valid-tokens 200"
LEARNING = "--steps 200 --num-validations 1 --learning-rate 0.05 --dropout 0 --embedding-dropout 0"


def run(*arguments: str) -> Result:
    """One command in this process; a bug shows its traceback."""
    return CliRunner().invoke(textgen, arguments, catch_exceptions=False, prog_name="textgen")


def sample(models: Path, model: str, *arguments: str) -> Result:
    return run("sample", model, *arguments, "--models-dir", str(models))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`both` has learned documents such as (c.c), whose end tells their beginning; `backward` is one half of it."""
    folder = tmp_path_factory.mktemp("models")
    rng = random.Random(0)
    keys = folder.parent / "keys.txt"
    keys.write_text("\n".join(f"({key}.{key})" for key in rng.choices(KEYS, k=800)), encoding="utf-8")
    options = ["--tokenizer", "char", "--direction", "both", *SIZES.split(), *LEARNING.split()]
    result = run("train", str(keys), "--documents", "line", "--name", "both", "--models-dir", str(folder), *options)
    assert result.exit_code == 0, result.output
    assert "1 x LSTM of 32 units, embedding 32, tied, in each direction" in result.stderr
    saved = load_model("both", folder)
    config, weights = one_way(saved.model_config, saved.weights(), "backward")
    save_model(folder / "backward", weights, config, saved.tokenizer_config, saved.corpus_config, saved.tokenizer)
    return folder


@pytest.mark.parametrize("model", ["both", "backward"])
def test_an_ending_is_led_to(models: Path, model: str) -> None:
    for key in KEYS:
        result = sample(models, model, "--suffix", f".{key})", "--temperature", "0")
        assert (result.exit_code, result.stdout) == (0, f"({key}.{key})\n")


def test_a_gap_is_filled_with_what_the_ending_wants_which_a_forward_network_cannot_know(models: Path) -> None:
    wrong = 0
    for number, key in enumerate(KEYS):
        filled = sample(models, "both", "--prompt", "(", "--suffix", f".{key})", "--seed", "1")
        assert filled.stdout == f"({key}.{key})\n"
        blind = sample(models, "both", "--prompt", "(", "--max-tokens", "1", "--seed", str(number))
        wrong += blind.stdout != f"({key}\n"
    assert wrong > len(KEYS) / 2


def test_json_has_the_scores_and_the_best_come_first(models: Path) -> None:
    result = sample(models, "both", "--prompt", "(", "--suffix", ".c)", "--seed", "1", "--num", "3", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found[0]["text"] == "c"
    assert 1 < len(found) <= 3
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    for each in found:
        assert each["config"] == {"max_tokens": 40}
        text = each["prompt"] + each["text"] + each["suffix"]
        assert each["score"] == pytest.approx(
            (each["forward_logprob"] + each["backward_logprob"]) / 2 / (len(text) + 1)
        )


@pytest.mark.parametrize("drafts", [[], ["--best-of", "2"], ["--num", "20"]], ids=str)
def test_gaps_of_equal_prompts_have_drafts_of_their_own(models: Path, drafts: list[str]) -> None:
    """The seeds of one prompt follow those of all drafts of the one before it."""
    gap = ["--suffix", "", "--temperature", "3", "--max-tokens", "30", "--json"]
    result = sample(models, "both", *["--prompt", "("] * 3, *gap, *drafts, "--seed", "1")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    number = {"": 16, "--best-of": 2, "--num": 20}["".join(drafts[:1])]
    seeds = {1 + prompt * number: [each["seed"] for each in found if each["first_seed"] == 1 + prompt * number]
             for prompt in range(3)}  # fmt: skip
    assert sum(map(len, seeds.values())) == len(found)
    for first, own in seeds.items():
        assert own
        assert all(first <= seed < first + number for seed in own)


@pytest.mark.parametrize("drafts", [[], ["--best-of", "5", "--num", "2"]], ids=str)
def test_the_first_seed_in_json_fills_a_gap_in_the_same_way_again(models: Path, drafts: list[str]) -> None:
    gap = ["--prompt", "(", "--suffix", ")", "--temperature", "3", "--max-tokens", "30", "--json", *drafts]
    for _ in range(2):
        first = sample(models, "both", *gap)
        seeds = {json.loads(line)["first_seed"] for line in first.stdout.splitlines()}
        assert len(seeds) == 1
        assert sample(models, "both", *gap, "--seed", str(*seeds)).stdout == first.stdout


def test_several_texts_stand_as_documents_do_and_have_seeds_of_their_own(models: Path) -> None:
    both = sample(models, "backward", "--num", "2", "--seed", "3").stdout
    assert both == "".join(sample(models, "backward", "--seed", seed).stdout for seed in ("3", "4"))


def test_both_directions_are_evaluated_and_a_text_is_scored_in_the_one_there_is(models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("(a.a)\n(b.b)\n", encoding="utf-8")
    arguments = (str(tmp_path / "text.txt"), "--models-dir", str(models), "--json")
    both, backward = (json.loads(run("evaluate", model, *arguments).stdout) for model in ("both", "backward"))
    assert both["backward_nats_per_token"] == pytest.approx(backward["nats_per_token"], rel=1e-5)
    assert "backward_nats_per_token" not in backward
    cached = json.loads(run("evaluate", "both", *arguments, "--neural-cache").stdout)
    assert "backward_nats_per_token" not in cached
    scored = json.loads(run("score", "backward", *arguments).stdout.splitlines()[0])
    assert scored["log_probability"] == pytest.approx(-2.1, abs=0.8), "one of eight keys"
    pieces = run("score", "backward", str(tmp_path / "text.txt"), "--models-dir", str(models), "--tokens").stdout
    surprisal = [float(line.split()[0]) for line in pieces.splitlines()[:6]]
    assert surprisal.index(max(surprisal)) == 4, "read from the end, the last key is the surprise"


@pytest.mark.parametrize(
    ("model", "arguments", "code", "message"),
    [
        (
            "tiny",
            ["--suffix", "a"],
            1,
            "reads text forward only, but a model that reads backward is needed: train one with --direction both, or",
        ),
        ("tiny", ["--suffix", "a", "--prompt", "b"], 1, "train one with --direction both, or"),
        (
            "backward",
            ["--prompt", "("],
            1,
            "reads text backward only, so it cannot continue a prompt: leave the prompt out, or train one with "
            "--direction both.",
        ),
        ("both", ["--suffix", "a", "--stop", "b"], 1, "--stop follows the text from left to right"),
        ("both", ["--suffix", "a", "--best-of", "1", "--num", "2"], 1, "--best-of (1) is less than num (2)"),
        (
            "both",
            ["--suffix", "a", "--neural-cache"],
            2,
            "--neural-cache cannot be used when writing towards an ending",
        ),
        ("both", ["--suffix", "a", "--ensemble", "x"], 2, "--ensemble cannot be used when writing towards an ending"),
        ("both", ["--suffix", "a", "--num-beams", "2"], 2, "--num-beams cannot be used when writing towards an ending"),
        (
            "both",
            ["--suffix", "a", "--batch-size", "8"],
            2,
            "--batch-size cannot be used when writing towards an ending",
        ),
        (
            "both",
            ["--suffix", "a", "--save-state", "s"],
            2,
            "--save-state cannot be used when writing towards an ending",
        ),
        ("backward", ["--novelty"], 2, "--novelty cannot be used when writing towards an ending"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    models: Path, tiny_models: Path, model: str, arguments: list[str], code: int, message: str
) -> None:
    result = sample(tiny_models if model == "tiny" else models, model, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_commands_that_read_forward_refuse_a_model_that_cannot(models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("(a.a)\n", encoding="utf-8")
    text, folder = str(tmp_path / "text.txt"), ("--models-dir", str(models))
    for arguments in (["score", "backward", text, "--follow"], ["evaluate", "both", text, "--ensemble", "backward"]):
        result = run(*arguments, *folder)
        assert result.exit_code == 1
        assert "reads text backward only, but a model that reads forward is needed" in result.stderr
    result = run("export", "both", str(tmp_path / "out.safetensors"), *folder)
    assert (result.exit_code, (tmp_path / "out.safetensors").exists()) == (1, False)
    assert "cannot express this network: direction both" in result.stderr


def test_a_model_of_both_directions_writes_forward_like_its_forward_half(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = ModelConfig(tokenizer.vocab_size, 6, 8, direction="both")
    weights = random_weights(config)
    for name, (own_config, own) in {"both": (config, weights), "half": one_way(config, weights, "forward")}.items():
        save_model(tmp_path / name, own, own_config, TokenizerConfig("char"), CorpusConfig(documents="line"), tokenizer)
    both, half = (
        sample(tmp_path, name, "--prompt", "The", "--seed", "2", "--max-tokens", "20") for name in ("both", "half")
    )
    assert both.stdout == half.stdout
