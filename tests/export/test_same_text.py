"""The page writes what `textgen sample --exact` writes for a seed, a prompt and settings: plain, and by WebAssembly."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from javascript import in_node, needs_node
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.dataset.word_filter import WordFilter
from textgen.export.packing import packed_model
from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import Generation
from textgen.generation.generator import Generator
from textgen.generation.request import Request
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, save_words
from textgen.settings import from_dict
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

pytestmark = needs_node

TEXT = (
    "The cat sat on the mat. Didn't the dog see the cat? “Don't!” said he, and the 2nd cat saw the dogs' mats.\n\n"
    "It was a dark night; naïve café owners sang a song of rain, and the moon was cold.\nSo it goes, Mr. Fox.\n"
    "床前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。Ἀγαθὸς ἄνθρωπος. Привет, мир!\n"
)
WORDS = [
    "cat",
    "cats",
    "mat",
    "the",
    "didn",
    "'t",
    "dog",
    "café",
    "naïve",
    "night",
    "rain",
    "said",
    "moon",
    "мир",
    "it",
]
SETTINGS: list[dict[str, Any]] = [
    {}, {"temperature": 0.0}, {"temperature": 1.3}, {"top_k": 7}, {"top_p": 0.8, "min_p": 0.0}, {"typical_p": 0.7},
    {"top_n_sigma": 1.2}, {"epsilon_cutoff": 0.01}, {"eta_cutoff": 0.02}, {"repeat_penalty": 1.4},
    {"presence_penalty": 0.7, "frequency_penalty": 0.3, "repeat_last_n": 9}, {"dry_multiplier": 1.1, "dry_base": 1.5},
    {"xtc_probability": 0.5, "xtc_threshold": 0.05}, {"mirostat": 1}, {"mirostat": 2, "mirostat_tau": 3.0},
    {"dynatemp_range": 0.7, "dynatemp_exponent": 1.7}, {"coin_words": True}, {"heal": False}, {"min_tokens": 25},
    {"samplers": "temperature;top_p;xtc;penalties", "top_p": 0.9, "xtc_probability": 0.9, "repeat_penalty": 1.1},
    {"until": "sentence"}, {"until": "line"}, {"until": "paragraph"}, {"stop": ["at", "og "]}, {"ban": ["a", "the "]},
    {"require": ["a song", "月"], "max_tokens": 30}, {"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 1},
    {"logit_bias": ["cat=4", "#60=3.5", "the dog=-6"]}, {"samplers": "", "temperature": 3.0}, {"max_tokens": 1},
]  # fmt: skip
PROMPTS = [
    "", "The ca", "It was a dark and", "Alrtodise went to Qwxyz. Alrto", "don't yo", "“Why,” said he", "café 明月",
    "x2 v1.0b", "  ", "a\n", "The \u2581 cat</script>", "🦊 fox", "tHE CAT DIDN'", "Привет, ", "ἀγαθό",
]  # fmt: skip
KINDS = ("unigram", "bpe", "char", "byte", "word", "labels")


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    if kind == "labels":
        return tokenizer_of("unigram").with_labels(["Li Bai", "</script>"])
    return train_tokenizer([TEXT * 3], TokenizerConfig(kind))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, ModelFolder]:
    """A model of random weights for each kind of vocabulary; most of them know some words."""
    folder = tmp_path_factory.mktemp("models")
    for number, kind in enumerate(KINDS):
        tokenizer = tokenizer_of(kind)
        config = ModelConfig(tokenizer.vocab_size, embedding_dim=20, hidden_units=24 if number % 2 else 20)
        weights = random_weights(config, seed=number, scale=0.6)
        weights["head/bias"][tokenizer.eos_id] = -1.0
        tokens = TokenizerConfig("unigram" if kind == "labels" else kind)
        save_model(folder / kind, weights, config, tokens, CorpusConfig(documents="line"), tokenizer)
        if kind != "bpe":
            save_words(folder / kind, WordFilter.build(WORDS))
    return {kind: load_model(kind, folder) for kind in KINDS}


WRITTEN = """
const results = [];
for (const { path, wasm, texts } of given) {
  const writer = await Writer.load(bytesOf(path), { wasm });
  for (const text of texts) {
    const { healed } = writer.begin({ ...text, top: 3 });
    const found = { ids: [], text: "", healed: [...healed].length, probabilities: [], top: [], isSimd: writer.isSimd };
    for (let done = false; !done; ) {
      const token = writer.next();
      found.ids.push(token.id);
      found.text += token.text;
      found.probabilities.push(token.probability);
      found.top.push(token.top.map(({ id, probability }) => [id, probability]));
      found.reason = token.reason;
      done = token.done;
    }
    results.push(found);
  }
}
return results;
"""


def cases_for(kind: str, number: int) -> Iterator[dict[str, Any]]:
    """Seeds, prompts and settings, each setting at least once."""
    rng = random.Random(kind)
    labels = tokenizer_of(kind).labels
    for count in range(number):
        settings = SETTINGS[count % len(SETTINGS)]
        if kind == "word" and not settings.keys().isdisjoint(("ban", "require", "logit_bias", "stop")):
            continue  # the vocabulary of words has no tokens for these
        label = rng.choice([None, *labels])
        yield {
            "prompt": rng.choice(PROMPTS), "seed": str(rng.choice([count, rng.randrange(2**63)])), "label": label,
            "settings": {"max_tokens": 30, **settings},
        }  # fmt: skip


def in_python(generator: Generator, cases: Sequence[Mapping[str, Any]]) -> list[Generation]:
    """The texts of all cases, which are written together: each is what it is alone."""
    requests = [
        Request(case["prompt"], from_dict(SamplingConfig, {**case["settings"], "seed": int(case["seed"]),
                                                           "label": case["label"], "top_logprobs": 3}))
        for case in cases
    ]  # fmt: skip
    return list(generator.generate_requests(requests))


def check_texts(models: Mapping[str, ModelFolder], cases: Mapping[str, list[dict[str, Any]]], folder: Path) -> None:
    given = []
    for kind, own in cases.items():
        path = folder / f"{kind}.packed"
        path.write_bytes(packed_model(models[kind]))
        given += [{"path": str(path), "wasm": wasm, "texts": own} for wasm in (True, False)]
    found = iter(in_node(WRITTEN, given, folder))
    for kind, own in cases.items():
        generator = models[kind].generator(exact=True)
        expected = in_python(generator, own)
        for wasm in (True, False):
            for case, text in zip(own, expected, strict=True):
                written = next(found)
                assert written["isSimd"] is wasm
                assert written["ids"] == list(text.ids), (kind, case)
                assert (written["text"], written["reason"]) == (text.text, text.stop_reason), (kind, case)
                assert written["healed"] == text.healed, (kind, case)
                np.testing.assert_allclose(np.log(written["probabilities"]), text.logprobs or (), atol=1e-9)
                top = [[[id, np.exp(log_p)] for id, log_p in each] for each in text.top_logprobs or ()]
                np.testing.assert_allclose(written["top"], top, atol=1e-9)


def test_the_same_text(models: Mapping[str, ModelFolder], tmp_path: Path) -> None:
    """Every sampler and constraint, every kind of vocabulary, with and without healing, labels and words."""
    number = {"unigram": len(SETTINGS), "labels": 4, "byte": 5, "char": 5, "bpe": 8, "word": 5}
    check_texts(models, {kind: [*cases_for(kind, number[kind])] for kind in KINDS}, tmp_path)


def test_prompts_are_cut_in_the_same_places(models: Mapping[str, ModelFolder], tmp_path: Path) -> None:
    """Biases on the tokens that cover the end of a prompt, and samplers that leave the likeliest token."""
    settings: list[dict[str, Any]] = [
        {"logit_bias": ["cat=-100", " cat=-100"]}, {"logit_bias": ["The cat=6", "cat=5", " cat=4", "#60=-3"]},
        {"top_k": 1}, {"min_p": 1.0}, {"top_p": 0.0}, {"epsilon_cutoff": 1.0}, {"top_k": 1, "mirostat": 2},
        {"samplers": "top_p", "temperature": 0.0}, {"samplers": "temperature", "top_k": 1},
    ]  # fmt: skip
    cases = [
        {"prompt": prompt, "seed": str(seed), "label": None, "settings": {"max_tokens": 4, "min_p": 0.0, **own}}
        for prompt in ("The ca", "the do", "It was a dar")
        for own in settings
        for seed in range(2)
    ]
    check_texts(models, {"bpe": cases, "unigram": cases}, tmp_path)


def test_long_repetitions_have_the_same_penalties(models: Mapping[str, ModelFolder], tmp_path: Path) -> None:
    """Repetitions that end at a breaker of one token or several, or with the tokens that are looked at."""
    settings: list[dict[str, Any]] = [
        {"dry_allowed_length": 70}, {"dry_allowed_length": 2, "dry_base": 1.01}, {"dry_penalty_last_n": 62},
        {"dry_sequence_breakers": ["b"]}, {"dry_sequence_breakers": ["aab", "ca"]}, {"dry_sequence_breakers": ["aaaa"]},
        {"dry_sequence_breakers": ["ab", "\n\n", "cabin"]},
    ]  # fmt: skip
    shared = {"dry_multiplier": 3.0, "dry_base": 1.05, "dry_allowed_length": 60, "logit_bias": ["a=12", "b=7"]}
    cases = [
        {"prompt": prompt, "seed": "3", "label": None, "settings": {"max_tokens": 8, **shared, **own}}
        for prompt in ("a" * 80, "aab" * 40, "The cab" + "a" * 65 + "\n\n" + "a" * 65, "cab" * 30 + "ca")
        for own in settings
    ]
    check_texts(models, {"byte": cases, "bpe": cases[::3]}, tmp_path)


def test_a_sentence_goes_on_from_the_prompt(models: Mapping[str, ModelFolder], tmp_path: Path) -> None:
    """Full stops and spaces after an abbreviation, and after a sentence."""
    settings = {"max_tokens": 30, "until": "sentence", "logit_bias": [".=40", " =40"]}
    cases = [
        {"prompt": prompt, "seed": str(seed), "label": None, "settings": settings}
        for prompt in ("I met Mr", "I met him", "I met Mr. ", "by J", "🦊" * 70 + "Dr")
        for seed in range(4)
    ]
    check_texts(models, {"byte": cases}, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_in_many_cases(models: Mapping[str, ModelFolder], kind: str, tmp_path: Path) -> None:
    check_texts(models, {kind: [*cases_for(kind, 10 * len(SETTINGS))]}, tmp_path)


LONG = 2000  # tokens


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_fifty_long_texts(models: Mapping[str, ModelFolder], kind: str, tmp_path: Path) -> None:
    """With the settings of the command line, but for coined words: random weights coin many, which takes long."""
    limits = {"max_tokens": LONG, "min_tokens": LONG, "coin_words": True}
    texts = [{"prompt": PROMPTS[seed % 9], "seed": str(seed), "label": None, "settings": limits} for seed in range(50)]
    check_texts(models, {kind: texts}, tmp_path)


def test_a_place_in_a_text_is_returned_to(models: Mapping[str, ModelFolder], tmp_path: Path) -> None:
    """What comes after `restore` is what came after `fork`, with everything that the samplers remember."""
    settings = {
        "max_tokens": 60, "repeat_penalty": 1.2, "dry_multiplier": 0.8, "dry_allowed_length": 1, "mirostat": 2,
        "no_repeat_ngram_size": 3, "ban": ["sat"], "require": ["rain"], "until": "paragraph", "min_tokens": 50,
    }  # fmt: skip
    script = """
    const writer = await Writer.load(bytesOf(given.path));
    writer.begin({ prompt: "Alrtod went to the dark nigh", seed: 3, settings: given.settings });
    const some = (count) => Array.from({ length: count }, () => writer.next());
    some(12);
    const place = writer.fork();
    const first = some(25);
    writer.restore(place);
    const second = some(9);
    writer.restore(place);
    const third = some(25);
    return { first, second: second.concat(first.slice(9)), third };
    """
    path = tmp_path / "packed"
    path.write_bytes(packed_model(models["unigram"]))
    found = in_node(script, {"path": str(path), "settings": settings}, tmp_path)
    assert found["first"] == found["second"]
    assert found["first"] == found["third"]
    assert len({token["id"] for token in found["first"]}) > 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_does_not_grow(models: Mapping[str, ModelFolder], tmp_path: Path) -> None:
    """Over 100,000 tokens of one text: what is in use after a collection, in bytes."""
    script = """
    const writer = await Writer.load(bytesOf(given.path));
    writer.begin({ prompt: "The", seed: 1, settings: given.settings, top: 8 });
    const used = [];
    for (let part = 0; part < 5; part++) {
      for (let count = 0; count < 20000; count++) writer.next();
      gc();
      used.push(process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers);
    }
    return used;
    """
    path = tmp_path / "packed"
    path.write_bytes(packed_model(models["unigram"]))
    # With coined words, since the words that a text coins are kept, and random weights coin many.
    endless = {"max_tokens": 2**31 - 1, "min_tokens": 2**31 - 1, "repeat_penalty": 1.1, "coin_words": True}
    used = in_node(script, {"path": str(path), "settings": endless}, tmp_path)
    assert used[-1] - used[0] < 1_000_000, used


def test_bad_input_is_refused(models: Mapping[str, ModelFolder], tmp_path: Path) -> None:
    packed = packed_model(models["unigram"])
    for name, data in (("whole", packed), ("cut", packed[:-50]), ("other", b"<html>" * 20), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
    script = """
    const said = async (action) => { try { await action(); return ""; } catch (error) { return error.message; } };
    const found = [];
    for (const name of ["cut", "other", "empty"]) {
      found.push(await said(() => Writer.load(bytesOf(`${given}/${name}`))));
    }
    const writer = await Writer.load(bytesOf(`${given}/whole`));
    found.push(await said(() => writer.begin({ label: "poe" })));
    found.push(await said(() => writer.begin({ settings: { samplers: "top_q" } })));
    found.push(await said(() => writer.begin({ settings: { ban: [""] } })));
    writer.begin({ settings: { max_tokens: 1 } });
    writer.next();
    found.push(await said(() => writer.next()));
    return found;
    """
    expected = ["incomplete", "not a model", "not a model", "no label poe", "no sampler top_q", "empty", "has ended"]
    for part, message in zip(expected, in_node(script, str(tmp_path), tmp_path), strict=True):
        assert part in message
