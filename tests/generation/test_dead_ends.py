"""What happens where no piece may follow, and where a model's numbers are none: one clear end, never `<pad>`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from networks import random_weights
from plain_fakes import Recital, TableModel, WordsTokenizer
from safetensors import safe_open
from safetensors.numpy import load_file, save

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError, SavedModelError, TextgenError
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infiller
from textgen.generation.request import Request
from textgen.generation.sampling.sampler import Sampler
from textgen.generation.suggestions import Suggester
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import WEIGHTS
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.storage.manifests import update_folder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer

BYTES = ByteTokenizer()
PAD, EOS, V = BYTES.pad_id, BYTES.eos_id, BYTES.vocab_size
WORDS = WordsTokenizer([" fo", " fox", " for", " cat", "xy"])
PLAIN = SamplingConfig(temperature=1.0, min_p=0.0, seed=0)
HEALED = replace(PLAIN, ban=("o",), min_tokens=10, max_tokens=20)
ONCE = replace(PLAIN, no_repeat_ngram_size=1, min_tokens=400, max_tokens=500)
ASCII = [BYTES.first_byte + code for code in range(128)]


def spelling_bytes() -> TableModel:
    """Likes to begin characters of several bytes, so that their continuations are used up first."""
    model = TableModel(V, scale=0.1)
    model.tables[:, :, ASCII] -= 30.0
    return model


# === Nothing may follow ===


@pytest.mark.parametrize("seed", range(5))
def test_inside_a_character_nothing_is_left(seed: int) -> None:
    """Each byte may come once: the continuation bytes are used up within a character."""
    (generation,) = Generator(spelling_bytes(), BYTES).generate("", replace(ONCE, seed=seed))
    assert generation.stop_reason == "blocked"
    assert generation.ids[-1] == EOS
    assert len(set(generation.ids)) == len(generation.ids)
    assert "\ufffd" not in generation.text


def test_a_text_that_is_blocked_ends_alone() -> None:
    """Texts beside it go on, and each is what it is alone."""
    model = TableModel(V, seed=3)
    settings = [
        replace(ONCE, seed=seed) if seed % 2 else replace(PLAIN, seed=seed, max_tokens=300) for seed in range(6)
    ]
    sampler = Sampler(settings, BYTES)
    assert not sampler.blocked.any()
    generator = Generator(model, BYTES)
    alone = [generator.generate("", config)[0] for config in settings]
    assert list(generator.generate_requests([Request("", config) for config in settings])) == alone
    assert {result.stop_reason for result in alone[1::2]} == {"blocked"}
    assert "blocked" not in {result.stop_reason for result in alone[::2]}


def test_a_search_that_is_blocked_says_so() -> None:
    tokenizer = WordsTokenizer([])
    config = SamplingConfig(no_repeat_ngram_size=1, min_tokens=400, max_tokens=500)
    found = Generator(TableModel(V, scale=0.5), tokenizer).search("", config, SearchConfig(2))
    assert len(found) == 2
    for result in found:
        assert result.stop_reason == "blocked"
        assert len(set(result.ids)) == len(result.ids)
        assert result.ids[-1] == EOS
        assert np.isfinite(result.logprobs or ()).all()


def test_a_search_prefers_texts_that_end_by_themselves() -> None:
    config = SamplingConfig(no_repeat_ngram_size=1, max_tokens=500, heal=False)
    found = Generator(TableModel(V, scale=0.5), BYTES).search("", config, SearchConfig(3))
    assert [result.stop_reason for result in found] == ["end"] * 3


def test_filling_that_is_blocked_says_so() -> None:
    config = replace(ONCE, heal=False)
    (filling,) = Infiller(Faulty(0.0, 0, after=1000), BYTES).infill("", "", config)
    assert filling.stop_reason == "blocked"
    assert len(set(filling.text)) == len(filling.text)


# === Healing ===


def reciting(prompt: str, text: str) -> Generator:
    """Wants to write `text` after `prompt`, in pieces of one byte."""
    ids = [*WORDS.encode(prompt), *BYTES.encode(text)]
    return Generator(Recital(ids, WORDS.vocab_size), WORDS)


@pytest.mark.parametrize("require", [(), ("xy",), ("xy", "cab")])
def test_healing_is_given_up_where_it_leaves_banned_pieces_alone(require: tuple[str, ...]) -> None:
    for seed in range(5):
        config = replace(HEALED, seed=seed, require=require)
        for result in Generator(TableModel(WORDS.vocab_size, seed), WORDS).generate("The fo", config, 3):
            assert result.healed == 0
            assert result.stop_reason in ("length", "end")
            assert len(result.ids) >= 10
            assert "o" not in result.text
            assert all(text in result.text for text in require)
            assert result.missing == ()


def test_healing_keeps_to_what_a_ban_leaves() -> None:
    config = replace(PLAIN, ban=("fox",), max_tokens=3, temperature=0.0)
    seen = set()
    for seed in range(40):
        model = TableModel(WORDS.vocab_size, seed)
        (result,) = Generator(model, WORDS).generate("The fo", config)
        assert "fox" not in "fo" + result.text
        seen.add(result.healed > 0)
    assert seen == {True, False}


def test_healing_leaves_room_for_what_is_required() -> None:
    """The first of as many pieces as the required text takes cannot be another one."""
    config = replace(PLAIN, require=("abc",), max_tokens=3)
    for seed in range(20):
        (result,) = Generator(TableModel(WORDS.vocab_size, seed), WORDS).generate("The fo", replace(config, seed=seed))
        assert (result.text, result.healed, result.missing) == ("abc", 0, ())


def test_what_is_missing_is_said() -> None:
    generator = reciting("", "one. two")
    (result,) = generator.generate("", replace(PLAIN, temperature=0.0, require=("zz",), stop=(".",)))
    assert (result.text, result.stop_reason, result.missing) == ("one", "stop", ("zz",))
    (result,) = generator.search("", SamplingConfig(require=("zz",), stop=(".",)), SearchConfig(1))
    assert (result.stop_reason, result.missing) == ("stop", ("zz",))


# === Numbers that are none ===


class Faulty(TableModel):
    """Says `value` of one piece, or of all, after some steps."""

    def __init__(self, value: float, piece: int | None, vocab_size: int = V, after: int = 3) -> None:
        super().__init__(vocab_size)
        self._value, self._piece, self._left = value, piece, after

    def step(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        logits, state = super().step(ids, state)
        self._left -= 1
        if self._left < 0:
            logits[..., slice(None) if self._piece is None else self._piece] = self._value
        return logits, state

    def token_losses(self, inputs: np.ndarray, targets: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        return np.zeros(targets.shape), self.read(inputs, state)


FAULTS = [(np.nan, None), (np.nan, 70), (np.inf, 70), (-np.inf, None), (3e38, 70), (np.nan, PAD)]


@pytest.mark.parametrize(("value", "piece"), FAULTS)
@pytest.mark.parametrize("way", ["draw", "penalties", "ban", "logprobs", "search", "heal", "fill", "suggest"])
def test_numbers_that_are_none_are_an_error_of_one_line(value: float, piece: int | None, way: str) -> None:
    model = Faulty(value, piece)
    generator = Generator(model, BYTES)
    config = replace(PLAIN, max_tokens=10, min_tokens=9)
    ways: dict[str, Any] = {
        "draw": lambda: generator.generate("", config),
        "penalties": lambda: generator.generate(
            "", replace(config, repeat_penalty=2.0, dry_multiplier=1.0, mirostat=2)
        ),
        "ban": lambda: generator.generate("", replace(config, ban=("zz",), temperature=0.0)),
        "logprobs": lambda: generator.generate("", replace(config, top_logprobs=3)),
        "search": lambda: generator.search("", SamplingConfig(max_tokens=10, min_tokens=9), SearchConfig(2)),
        "heal": lambda: Generator(Faulty(value, piece, WORDS.vocab_size, after=0), WORDS).generate("The fo", PLAIN),
        "fill": lambda: Infiller(model, BYTES).infill("", "x", config),
        "suggest": lambda: Suggester(model, BYTES).suggest("abcdefghi", length=5),
    }
    with pytest.raises(TextgenError, match="not finite") as caught:
        ways[way]()
    assert "\n" not in str(caught.value)


def test_large_numbers_are_drawn_from_at_any_temperature() -> None:
    logits = np.array([[0.0, 0.0, -1e27, 1e27] + [0.0] * (V - 4)], np.float32)
    for temperature in (0.0, 1e-5, 1e-3, 1.0, 100.0):
        config = replace(PLAIN, temperature=temperature, repeat_penalty=0.01, top_n_sigma=1.0)
        assert Sampler([config], BYTES).draw(logits).tolist() == [3]


# === Saved models, states and the command line ===


def sample(folder: Path, *arguments: str) -> Result:
    """`textgen sample` in this process; a bug shows its traceback."""
    where = ["--models-dir", str(folder)]
    return CliRunner().invoke(textgen, ["sample", "tiny", *where, *arguments], catch_exceptions=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_when_it_is_read(
    tiny_models: Path, tmp_path: Path, value: float
) -> None:
    shutil.copytree(tiny_models, tmp_path / "models")
    folder = tmp_path / "models" / "tiny"
    weights = load_file(folder / WEIGHTS)
    weights["lstm_1/kernel"][2, 3] = value
    update_folder(folder, {WEIGHTS: save(weights)})
    saved = load_model("tiny", tmp_path / "models")
    for use in (saved.weights, saved.numpy_model, saved.network):
        with pytest.raises(SavedModelError, match=r"not finite \(lstm_1/kernel\)") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_one_line(tiny_models: Path, tmp_path: Path, value: float) -> None:
    saved = load_model("tiny", tiny_models)
    generator = Generator(saved.numpy_model(), saved.tokenizer, fingerprint=saved.fingerprint)
    generator.save_state(tmp_path / "state", generator.start())
    arrays = load_file(tmp_path / "state")
    arrays["memory/1"][0, 1] = value
    with safe_open(tmp_path / "state", framework="numpy") as file:
        (tmp_path / "state").write_bytes(save(arrays, file.metadata()))
    state = generator.start()
    state.model_state[0][1][0, 1] = value
    for use in (
        lambda: generator.save_state(tmp_path / "other", state),
        lambda: generator.load_state(tmp_path / "state"),
        lambda: generator.tokens("a", PLAIN, state),
        lambda: generator.read("a", state),
    ):
        with pytest.raises(SavedModelError, match="not finite") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "other").exists()
    result = sample(tiny_models, "--load-state", str(tmp_path / "state"))
    assert (result.exit_code, result.stdout, result.stderr.strip().count("\n")) == (1, "", 0)


def test_an_adaptation_that_diverges_is_one_line(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = ModelConfig(tokenizer.vocab_size, 6, 8, cell="rnn", activation="relu")
    save_model(
        tmp_path / "tiny", random_weights(config), config, TokenizerConfig("char"), CorpusConfig("line"), tokenizer
    )
    (tmp_path / "letters.txt").write_text("The cat sat on the mat.\n" * 100)
    reckless = ["--dynamic-learning-rate", "1000", "--dynamic-decay", "0", "--dynamic-clip-norm", "1e30"]
    result = sample(tmp_path, "--adapt", str(tmp_path / "letters.txt"), *reckless)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "diverged while it learned" in result.stderr
    assert result.stderr.strip().count("\n") == 0


def test_the_command_line_says_why_a_text_ended(tiny_models: Path) -> None:
    once = ["--no-repeat-ngram-size", "1", "--min-tokens", "400", "--seed", "1", "--min-p", "0"]
    shown = sample(tiny_models, *once)
    assert shown.exit_code == 0
    assert "leave no token to draw" in shown.stderr
    several = sample(tiny_models, *once, "--num", "2")
    assert several.stderr.count("leave no token to draw") == 2
    rows = [json.loads(line) for line in sample(tiny_models, *once, "--json", "--num", "2").stdout.splitlines()]
    assert {row["stop_reason"] for row in rows} == {"blocked"}


def test_the_command_line_says_what_is_missing(tiny_models: Path) -> None:
    early = ["--require", "dog", "--stop", "e", "--stop", "a", "--seed", "1", "--temperature", "3", "--min-p", "0"]
    shown = sample(tiny_models, *early)
    assert "Missing: 'dog' (require) did not come before the text ended." in shown.stderr
    assert json.loads(sample(tiny_models, *early, "--json").stdout)["missing"] == ["dog"]
    assert "Missing" not in sample(tiny_models, "--require", "dog").stderr


# === Text that is none ===


HALF = "a\udcffb"
SETTINGS: list[dict[str, Any]] = [
    {"stop": (HALF,)}, {"ban": (HALF,)}, {"require": (HALF,)}, {"dry_sequence_breakers": (HALF,)},
    {"logit_bias": (f"{HALF}=1",)}, {"label": HALF},
]  # fmt: skip


@pytest.mark.parametrize("values", SETTINGS, ids=str)
def test_half_a_character_in_a_setting_is_one_line(tiny_models: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    """In Python, in a line of prompts, and as a flag, where a shell gives bytes that are no UTF-8."""
    (name, value), *_ = values.items()
    with pytest.raises(ConfigError, match=f"{name} must be valid text") as caught:
        SamplingConfig(**values)
    assert "\n" not in str(caught.value)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "a", **values}) + "\n")
    for arguments in (
        ["--prompt-file", str(prompts)],
        [f"--{name.replace('_', '-')}", value if name == "label" else value[0], "--dry-multiplier", "1"],
    ):
        result = sample(tiny_models, *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.strip().count("\n") == 0
        assert "must be valid text" in result.stderr


def test_half_a_character_in_a_prompt_is_one_line(tiny_models: Path, tmp_path: Path) -> None:
    saved = load_model("tiny", tiny_models)
    generator = Generator(saved.numpy_model(), saved.tokenizer)
    filler = Infiller(saved.numpy_model(), saved.tokenizer, saved.numpy_model())
    for use in (
        lambda: generator.generate(HALF),
        lambda: generator.generate(["a", HALF]),
        lambda: generator.search(HALF),
        lambda: list(generator.stream(HALF)),
        lambda: generator.read(HALF),
        lambda: filler.infill(HALF, "a"),
        lambda: filler.infill("a", HALF),
        lambda: Suggester(saved.numpy_model(), saved.tokenizer).suggest(HALF, length=3),
        lambda: generator.start(HALF),
    ):
        with pytest.raises(TextgenError) as caught:
            use()
        assert "\n" not in str(caught.value)
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": HALF}) + "\n")
    for arguments in (["--prompt", HALF], ["--prompt-file", str(tmp_path / "prompts.jsonl")], ["--suffix", HALF]):
        result = sample(tiny_models, *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.strip().count("\n") == 0
