"""What `textgen sample` prints when, and which settings it refuses, with a model of random weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from networks import random_weights

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.generation.config import SamplingConfig
from textgen.generation.decoding import Decoder
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infill, Infiller
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.settings import to_dict
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return tmp_path / "prompts.jsonl"


def sample(models: Path, *arguments: str) -> Result:
    """The command with the model `tiny`; a bug shows its traceback."""
    command = ["sample", "tiny", "--models-dir", str(models), *arguments]
    return CliRunner().invoke(textgen, command, catch_exceptions=False, prog_name="textgen")


def from_lines(models: Path, prompts: Path, lines: list[dict[str, Any]], *arguments: str) -> Result:
    """The command with a .jsonl file of prompts."""
    prompts.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return sample(models, "--prompt-file", str(prompts), *arguments)


@contextmanager
def interrupted_at_step(number: int) -> Iterator[None]:
    """In the block, Ctrl-C comes in place of this step of the decoder, counted from 1."""
    step, taken = Decoder.step, []

    def interrupted(decoder: Decoder) -> Any:
        taken.append(decoder)
        if len(taken) == number:
            raise KeyboardInterrupt
        return step(decoder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "step", interrupted)
        yield


# === When texts appear ===


def test_ctrl_c_leaves_the_texts_that_are_finished(tiny_models: Path, prompts: Path) -> None:
    lines = [{"prompt": "The", "max_tokens": 3}, {"prompt": "A", "max_tokens": 99, "min_tokens": 99}]
    with interrupted_at_step(5):
        result = from_lines(tiny_models, prompts, lines, "--json")
    assert (result.exit_code, result.stderr) == (130, "\nInterrupted.\n")
    (row,) = map(json.loads, result.stdout.splitlines())
    assert (row["prompt"], row["stop_reason"]) == ("The", "length")


# === The seed of texts that are drawn at random ===


SEED = re.compile(
    r"^Seeds? (\d+)(?: to (\d+), one for each text)?: add --seed (\d+) to write .* again\.$", re.MULTILINE
)


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        ([], 1),
        (["--num", "3"], 3),
        (["--prompt", "A", "--prompt", "The", "--num", "2"], 4),
        (["--best-of", "3"], 1),
        (["--best-of", "3", "--num", "2"], 0),
        (["--exact", "--show-probabilities"], 1),
        (["--suffix", " cat"], 1),
        (["--suffix", " cat", "--num", "2"], 0),
        (["--temperature", "0", "--dynatemp-range", "1"], 1),
    ],
    ids=str,
)
def test_the_seed_that_is_told_writes_the_same_again(both_models: Path, flags: list[str], number: int) -> None:
    prompt = [] if "--prompt" in flags else ["--prompt", "The"]
    first = sample(both_models, *prompt, *flags, "--max-tokens", "8")
    assert first.exit_code == 0, first.output
    (told,) = SEED.findall(first.stderr)
    assert told == (told[0], str(int(told[0]) + number - 1) if number > 1 else "", told[0])
    again = sample(both_models, *prompt, *flags, "--max-tokens", "8", "--seed", told[0])
    assert (again.stdout, again.stderr) == (first.stdout, SEED.sub("", first.stderr).rstrip("\n"))


@pytest.mark.parametrize(
    "flags",
    [["--seed", "5"], ["--json"], ["--num-beams", "2"], ["--temperature", "0"], ["--top-k", "1"]],
    ids=str,
)
def test_no_seed_is_told_where_it_is_known_or_decides_nothing(tiny_models: Path, flags: list[str]) -> None:
    assert sample(tiny_models, "--prompt", "The", "--max-tokens", "2", *flags).stderr == ""


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [([{"seed": 4}, {"temperature": 0.0}], False), ([{"seed": 4}, {"seed": None}], True), ([{"seed": 4}, {}], True)],
    ids=str,
)
def test_a_seed_is_told_for_lines_without_one_of_their_own(
    tiny_models: Path, prompts: Path, settings: list[dict[str, Any]], is_told: bool
) -> None:
    lines = [{"prompt": "The", "max_tokens": 8} | values for values in settings]
    first = from_lines(tiny_models, prompts, lines)
    seeds = SEED.findall(first.stderr)
    assert bool(seeds) == is_told
    for seed, *_ in seeds:
        assert from_lines(tiny_models, prompts, lines, "--seed", seed).stdout == first.stdout


def test_no_seed_is_told_where_the_state_before_the_text_is_replaced(tiny_models: Path, tmp_path: Path) -> None:
    old, new, short = str(tmp_path / "old.state"), str(tmp_path / "new.state"), ["--max-tokens", "2"]
    assert SEED.search(sample(tiny_models, *short, "--save-state", old).stderr)
    assert SEED.search(sample(tiny_models, *short, "--load-state", old, "--save-state", new).stderr)
    assert not SEED.search(sample(tiny_models, *short, "--load-state", old, "--save-state", old).stderr)
    timed = sample(tiny_models, *short, "--max-seconds", "99").stderr
    assert timed.endswith("to write this text again, as far as the time allows.\n")


@pytest.mark.parametrize("flags", [[], ["--num", "2"]], ids=str)
def test_ctrl_c_tells_the_seed(tiny_models: Path, flags: list[str]) -> None:
    given = ["--prompt", "The", "--min-tokens", "99", "--max-tokens", "99", *flags]
    with interrupted_at_step(5):
        result = sample(tiny_models, *given)
    assert result.exit_code == 130
    if flags:  # no text is finished
        assert (result.stdout, result.stderr) == ("", "\nInterrupted.\n")
        return
    assert result.stderr.startswith("\nInterrupted. Seed ")
    ((seed, *_),) = SEED.findall(result.stderr.replace("Interrupted. ", ""))
    assert sample(tiny_models, *given, "--seed", seed).stdout.startswith(result.stdout)


# === How a text was computed ===


def test_json_tells_what_wrote_a_text(tiny_models: Path) -> None:
    def computed(*flags: str) -> tuple[str, str]:
        result = sample(tiny_models, "--prompt", "The", "--max-tokens", "1", "--runtime", "numpy", "--json", *flags)
        values = json.loads(result.stdout)
        return values["fingerprint"], values["runtime"]

    plain, runtime = computed()
    assert (plain, runtime) == (load_model("tiny", tiny_models).fingerprint, "numpy")
    assert computed("--exact") == (f"{plain} exact=true", "numpy")
    assert computed("--clamp", "L1/3=0.5") == (f"{plain} clamp=L1/3.c=0.5", "numpy")
    assert computed("--neural-cache") == (f"{plain} neural_cache=true", "numpy")


def test_json_tells_what_wrote_towards_an_ending(both_models: Path) -> None:
    result = sample(both_models, "--suffix", "cat", "--max-tokens", "1", "--json")
    values = json.loads(result.stdout)
    assert (values["fingerprint"], values["runtime"]) == (load_model("tiny", both_models).fingerprint, "numpy")


# === Lines of a file of prompts ===


@pytest.fixture
def both_models(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A folder of models with one in it, `tiny`, that reads in both directions."""
    config, folder = ModelConfig(tokenizer.vocab_size, 6, 8, direction="both"), tmp_path / "both"
    corpus = CorpusConfig(documents="line")
    save_model(folder / "tiny", random_weights(config), config, TokenizerConfig("char"), corpus, tokenizer)
    return folder


def refused(result: Result) -> str:
    """The error of a command that has written nothing, after its first word."""
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


@pytest.mark.parametrize(
    ("settings", "flags", "expected"),
    [
        ({"logit_bias": ["#999999=1"]}, [], "logit_bias: there is no token #999999"),
        ({"require": ["The cat"], "max_tokens": 1}, [], "require must fit into max_tokens: its texts take 7 tokens"),
        ({"require": ["The cat"]}, ["--max-tokens", "3"], "require must fit into max_tokens: its texts take 7 tokens"),
        ({"no_copy": 20}, [], "{models}/tiny has no index of its training text"),
        ({"temperature": 0.5}, ["--num-beams", "2"], "A search makes no random draws: leave out temperature."),
        (
            {"dry_sequence_breakers": ["x"], "dry_multiplier": 0.0},
            ["--num-beams", "2"],
            "A search makes no random draws",
        ),
        ({"seed": 5}, ["--num-beams", "2"], "A search makes no random draws: leave out seed."),
        ({"top_logprobs": 2}, ["--num-beams", "2", "--json"], "A search computes no probabilities of other tokens"),
        ({"dry_base": 2.0}, [], "dry_base needs dry_multiplier."),
        ({"top_p": 0.9, "samplers": "top_k"}, [], "top_p needs top_p in samplers."),
        ({"top_p": 0.9, "mirostat": 2}, [], "mirostat cannot be combined with top_p: leave out one of them."),
    ],
    ids=str,
)
def test_a_line_that_cannot_be_is_named_before_anything_is_written(
    tiny_models: Path, prompts: Path, settings: dict[str, Any], flags: list[str], expected: str
) -> None:
    lines: list[dict[str, Any]] = [{"prompt": "The"}, {"prompt": "A", **settings}]
    batch = [] if "--num-beams" in flags else ["--batch-size", "1"]
    error = refused(from_lines(tiny_models, prompts, lines, *batch, *flags))
    assert error.startswith(f"{prompts}, line 2: {expected.format(models=tiny_models)}")


def test_a_line_that_copies_more_than_the_index_can_tell_is_named(
    tiny_models: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelFolder, "ngrams", lambda self: SimpleNamespace(ngram=9))
    lines: list[dict[str, Any]] = [{"prompt": "The"}, {"prompt": "A", "no_copy": 3}]
    error = refused(from_lines(tiny_models, prompts, lines, "--batch-size", "1"))
    assert error.startswith(f"{prompts}, line 2: no_copy must be at least 8")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"stop": ["b"]}, "stop follows the text from left to right, so it cannot be used with a suffix."),
        ({"max_seconds": 3.0}, "max_seconds follows the text from left to right"),
        ({"require": ["b"]}, "require follows the text from left to right"),
    ],
    ids=str,
)
def test_a_line_that_cannot_lead_to_an_ending_is_named(
    both_models: Path, prompts: Path, settings: dict[str, Any], expected: str
) -> None:
    lines = [{"prompt": "The"}, {"prompt": "A"}, {"prompt": "A", **settings}]
    error = refused(from_lines(both_models, prompts, lines, "--suffix", " cat", "--max-tokens", "2"))
    assert error.startswith(f"{prompts}, line 3: {expected}")


def test_flags_and_lines_that_only_work_together_are_fine(tiny_models: Path, prompts: Path) -> None:
    lines: list[dict[str, Any]] = [{"prompt": "The"}, {"prompt": "A", "dry_multiplier": 0.8}]
    result = from_lines(tiny_models, prompts, lines, "--dry-base", "2", "--max-tokens", "1", "--json")
    assert result.exit_code == 0, result.output
    rows = list(map(json.loads, result.stdout.splitlines()))
    assert [row["config"].get("dry_multiplier") for row in rows] == [None, 0.8]
    result = from_lines(tiny_models, prompts, lines[:1], "--dry-base", "2")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == "Error: --dry-base needs --dry-multiplier."


def test_a_flag_that_does_nothing_in_any_line_is_refused(tiny_models: Path, prompts: Path) -> None:
    off: dict[str, Any] = {"prompt": "A", "mirostat": 2}
    own: dict[str, Any] = {"prompt": "A", "top_p": 0.5}
    flags = ("--top-p", "0.9", "--max-tokens", "1")
    result = from_lines(tiny_models, prompts, [off, off], *flags)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        "Error: --top-p does nothing for any of the prompts: mirostat cannot be combined with top_p: leave out one of "
        "them."
    )
    for lines in ([off, {"prompt": "The"}], [{"prompt": "The"}, off], [off, own]):
        assert from_lines(tiny_models, prompts, lines, *flags).exit_code == 0
    assert from_lines(tiny_models, prompts, [off], *flags, "--prompt", "The").exit_code == 0


def test_all_settings_of_a_text_may_be_given_again(tiny_models: Path, prompts: Path) -> None:
    every = to_dict(SamplingConfig(seed=3, max_tokens=1))
    assert from_lines(tiny_models, prompts, [{"prompt": "The", **every}], "--json").exit_code == 0
    result = from_lines(tiny_models, prompts, [{"prompt": "The", **every, "seed": None}], "--num-beams", "2")
    assert result.exit_code == 0, result.output


# === Flags that would do nothing ===


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--xtc-threshold 0.2", "--xtc-threshold needs --xtc-probability."),
        ("--dynatemp-exponent 2", "--dynatemp-exponent needs --dynatemp-range."),
        ("--mirostat-tau 3", "--mirostat-tau needs --mirostat."),
        ("--mirostat-eta 0.2", "--mirostat-eta needs --mirostat."),
        ("--dry-sequence-breakers x", "--dry-sequence-breakers needs --dry-multiplier."),
        (
            "--repeat-last-n 9",
            "--repeat-last-n needs --repeat-penalty, --presence-penalty or --frequency-penalty.",
        ),
        ("--diversity-penalty 2", "--diversity-penalty needs --num-beam-groups."),
        ("--top-k 5 --samplers top_p", "--top-k needs top_k in --samplers."),
        ("--repeat-penalty 1.3 --samplers top_p", "--repeat-penalty needs penalties in --samplers."),
        ("--temperature 0.5 --samplers top_k", "--temperature needs temperature in --samplers."),
        ("--top-k 5 --mirostat 2", "--mirostat cannot be combined with --top-k: leave out one of them."),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(tiny_models: Path, flags: str, expected: str) -> None:
    result = sample(tiny_models, *flags.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == f"Error: {expected}"


# === Towards an ending ===


def test_the_length_of_a_text_depends_on_its_own_prompt(
    both_models: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = {}
    wanted = Infiller.infill

    def infill(self: Infiller, prompt: str, suffix: str, config: SamplingConfig, *given: Any, **named: Any) -> Any:
        asked[prompt] = config.max_tokens
        return wanted(self, prompt, suffix, config, best_of=1, wanted=lambda: False)

    monkeypatch.setattr(Infiller, "infill", infill)
    lines: list[dict[str, Any]] = [{"prompt": ""}, {"prompt": "The"}, {"prompt": "A", "max_tokens": 7}]
    assert from_lines(both_models, prompts, lines, "--suffix", " cat").exit_code == 0
    assert asked == {"": 500, "The": 40, "A": 7}
    asked.clear()
    sample(both_models, "--prompt", "", "--suffix", " cat")
    assert asked == {"": 500}


# === Fewer texts than were asked for ===


def test_a_search_that_finds_fewer_texts_says_so(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Generator.search
    monkeypatch.setattr(Generator, "search", lambda *given: found(*given)[: len(given[1])])
    flags = ["--num-beams", "4", "--num", "3", "--max-tokens", "2"]
    for more in ([], ["--json"]):
        result = sample(tiny_models, "--prompt", "A", "--prompt", "The", *flags, *more)
        assert result.exit_code == 0, result.output
        line = "Found 4 different texts instead of 6. A larger --num-beams may find more."
        assert result.stderr.splitlines() == [line]
    assert not sample(tiny_models, "--prompt", "The", *flags).stderr


def test_a_gap_with_fewer_texts_says_so(both_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alike = Infill("The", "x", "cat", "forward", "cut", 0, SamplingConfig())
    monkeypatch.setattr(Infiller, "infill", lambda *given, **named: [alike])
    result = sample(both_models, "--prompt", "The", "--suffix", "cat", "--num", "2", "--seed", "5")
    assert result.stdout == "Thexcat\n"
    assert result.stderr == "Found 1 different text instead of 2. A larger --best-of may find more.\n"
