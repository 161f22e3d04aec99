"""Settings, prompts and models at random: whatever is asked for, a text keeps to it, or a reason says why not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from plain_fakes import TableModel

from textgen.dataset.ngram_index import NgramIndex
from textgen.errors import TextgenError
from textgen.generation.config import SAMPLERS, SamplingConfig, SearchConfig
from textgen.generation.generated_text import Generation
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infiller
from textgen.generation.request import Request
from textgen.generation.sampling.sampler_settings import DRAWING
from textgen.generation.suggestions import Suggester
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

TEXT = "The cat sat on the mat.\nThe dog saw the cat, and the fox saw the dog.\n床前明月光，疑是地上霜。\n"
REASONS = {"end", "length", "stop", "until", "time", "blocked"}
ROUNDS, MANY = 200, 3000


def tokenizers() -> dict[str, Tokenizer]:
    kinds = ("char", "unigram", "word")
    return {"byte": ByteTokenizer()} | {kind: train_tokenizer([TEXT] * 8, TokenizerConfig(kind)) for kind in kinds}


TOKENIZERS = tokenizers()
LABELLED = {f"{kind}, labels": each.with_labels(["Poe", "Li Bai"]) for kind, each in TOKENIZERS.items()}
ALL = TOKENIZERS | LABELLED


class Scored(TableModel):
    """A table that scores, too, as filling needs it."""

    def token_losses(self, inputs: np.ndarray, targets: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        nats = []
        for at in range(inputs.shape[1]):
            logits, state = self.step(inputs[:, at], state)
            chosen = np.take_along_axis(logits, targets[:, at, None], axis=1)[:, 0]
            nats.append(np.logaddexp.reduce(logits, axis=1) - chosen)
        return np.stack(nats, axis=1), state


MODELS = {
    (name, scale): Scored(tokenizer.vocab_size, scale=scale) for name, tokenizer in ALL.items() for scale in (0.1, 8.0)
}


def stretch(rng: random.Random, longest: int = 8) -> str:
    """A stretch of the text, which may begin and end anywhere, or something else."""
    if rng.random() < 0.15:
        return rng.choice(["", " ", "\n", "  ", "\t", "\0", "é", "👩‍🚀", "<pad>", "<unk>", "\u2581", "\ufffd", "xyz"])
    start = rng.randrange(len(TEXT))
    return TEXT[start : start + rng.randint(1, longest)]


def texts(rng: random.Random) -> tuple[str, ...]:
    return tuple(filter(None, (stretch(rng, 4) for _ in range(rng.randrange(4)))))


def settings_of(rng: random.Random, tokenizer: Tokenizer) -> dict[str, Any]:
    """Some of all settings, most of them in range."""
    order = rng.sample(SAMPLERS, rng.randrange(len(SAMPLERS) + 1))
    choices: dict[str, Any] = {
        "temperature": [0.0, 1e-7, 0.5, 1.0, 100.0], "top_k": [0, 1, 5], "top_p": [0.0, 0.5, 1.0],
        "min_p": [0.0, 0.05, 1.0], "stop": [texts(rng)], "until": ["sentence", "line", "paragraph"],
        "label": [None, "Poe", "nobody"], "heal": [False], "top_logprobs": [0, 3, 1 << 20],
        "samplers": [";".join(order)],
        "dynatemp_range": [0.5, 100.0], "dynatemp_exponent": [0.0, 2.0], "typical_p": [0.0, 0.5],
        "top_n_sigma": [0.1, 3.0],
        "epsilon_cutoff": [0.001, 1.0], "eta_cutoff": [0.001, 1.0], "xtc_probability": [0.5, 1.0],
        "xtc_threshold": [0.0, 0.1], "mirostat": [1, 2], "mirostat_tau": [0.0, 5.0, 100.0], "mirostat_eta": [0.0, 1.0],
        "repeat_penalty": [0.01, 1.3, 100.0], "presence_penalty": [-100.0, 1.0, 100.0],
        "frequency_penalty": [-1.0, 100.0],
        "repeat_last_n": [0, 1, 300], "dry_multiplier": [0.8, 100.0], "dry_base": [1.0, 100.0],
        "dry_allowed_length": [1, 3], "dry_penalty_last_n": [0, 9], "dry_sequence_breakers": [texts(rng)],
        "no_repeat_ngram_size": [1, 1, 2, 3], "logit_bias": [("the=5",), ("#3=-100",), (f"#{tokenizer.pad_id}=100",)],
        "ban": [texts(rng), texts(rng)], "require": [texts(rng), texts(rng)], "min_tokens": [1, 5, 40],
        "no_copy": [5, 9], "max_seconds": [0.0, 60.0],
    }  # fmt: skip
    chosen = rng.sample(sorted(choices), rng.randrange(7))
    values = {name: rng.choice(choices[name]) for name in chosen} | {"max_tokens": rng.choice([1, 4, 12, 40])}
    if rng.random() < 0.1:  # each piece once, and more of them than a small vocabulary has
        values |= {"no_repeat_ngram_size": 1, "min_tokens": 80, "max_tokens": 80}
    return values


def check(result: Generation, tokenizer: Tokenizer) -> None:
    """What holds for every text that is drawn, or found by a search."""
    config, text = result.config, result.text
    assert result.stop_reason in REASONS
    assert 1 <= len(result.ids) <= config.max_tokens
    assert not set(result.ids) & set(tokenizer.never_written)
    assert tokenizer.eos_id not in result.ids[:-1]
    assert (result.ids[-1] == tokenizer.eos_id) == (result.stop_reason in ("end", "blocked")) or _cut(result)
    assert text == text.encode().decode()
    assert "\ufffd" not in text or "\ufffd" in tokenizer.decode(result.ids)
    assert not any(banned in text for banned in config.ban), (config.ban, text)
    assert not any(stop in text for stop in config.stop)
    written = result.prompt[len(result.prompt) - result.healed :] + text
    assert result.missing == tuple(required for required in config.require if required not in written)
    if result.missing:
        assert result.stop_reason != "end" or tokenizer.kind == "word"
    if result.stop_reason == "end":
        assert len(result.ids) > config.min_tokens
    assert np.isfinite(result.logprobs or ()).all()


def _cut(result: Generation) -> bool:
    """Whether a stop text or a unit was found over when the end of the document came."""
    return result.stop_reason in ("stop", "until")


def ways(rng: random.Random, name: str, tokenizer: Tokenizer, prompts: Sequence[str], config: SamplingConfig) -> str:
    """Writes in one of the ways that there are; which, and how it ended."""
    model = MODELS[name, rng.choice([0.1, 8.0])]
    index = NgramIndex.build([np.array(tokenizer.encode(TEXT))], 6, 200, tokenizer.eos_id)
    generator = Generator(model, tokenizer, read_index=lambda: index)
    way = rng.choice(["batch", "batch", "stream", "search", "fill", "suggest"])
    if way == "batch":
        results = list(generator.generate_requests([Request(prompt, config) for prompt in prompts]))
        for result in results:
            check(result, tokenizer)
        return results[0].stop_reason
    if way == "stream":
        writing = generator.tokens(prompts[0], config)
        result = writing.result(list(writing))
        check(result, tokenizer)
        return result.stop_reason
    if way == "search":
        drawing = {
            each.name: each.default for each in fields(config) if each.name in (*DRAWING, "seed", "top_logprobs")
        }
        asked = SamplingConfig(**{**vars(config), **drawing})
        for result in generator.search(prompts[0], asked, SearchConfig(rng.choice([1, 3]))):
            check(result, tokenizer)
        return "search"
    if way == "fill":
        filler = Infiller(model, tokenizer, model if rng.random() < 0.5 else None)
        for filling in filler.infill(rng.choice(["", prompts[0]]), prompts[-1], config, 1, 2):
            assert filling.text == filling.text.encode().decode()
            assert filling.stop_reason in ("begin", "length", "cut", "blocked")
        return "fill"
    for suggestion in Suggester(model, tokenizer, label=config.label).suggest(prompts[0], length=4):
        assert suggestion.text == suggestion.text.encode().decode()
    return "suggest"


def run(seed: int) -> str:
    """One round: how it ended."""
    rng = random.Random(seed)
    name = rng.choice(sorted(ALL))
    tokenizer = ALL[name]
    prompts = [stretch(rng) for _ in range(rng.randint(1, 3))]
    try:
        config = SamplingConfig(**settings_of(rng, tokenizer), seed=seed)
        return ways(rng, name, tokenizer, prompts, config)
    except TextgenError as error:
        return "error" if "\n" not in str(error) else f"several lines: {error}"


def assert_rounds(rounds: range) -> None:
    ends = Counter(run(seed) for seed in rounds)
    assert set(ends) <= {*REASONS, "search", "fill", "suggest", "error"}, ends
    assert {"length", "blocked", "search", "fill", "suggest", "error"} <= set(ends), ends
    assert ends["error"] < 0.6 * len(rounds), ends


def test_settings_prompts_and_models_at_random() -> None:
    assert_rounds(range(ROUNDS))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_very_many_settings_prompts_and_models_at_random(part: int) -> None:
    assert_rounds(range(part * MANY, (part + 1) * MANY))
