"""The word guard of the page allows the tokens that textgen's allows."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from javascript import in_node, needs_node
from safetensors.numpy import load as from_safetensors

from textgen.dataset.word_filter import WordFilter
from textgen.dataset.words import MAX_WORD_CHARS, letter_changes, letters_of
from textgen.export.packing import learned_pieces, learned_scores
from textgen.generation.constraints.word_guard import WordGuard
from textgen.generation.constraints.word_tokens import WordTokens
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

pytestmark = needs_node

TEXT = (
    "The cat sat on the mat. Didn't the dog see the cat? “Don't!” said he, and the 2nd cat saw the dogs' mats.\n\n"
    "It was a dark night; naïve café owners sang a song of rain, and the moon was cold.\nSo it goes, Mr. Fox.\n"
    "床前明月光，疑是地上霜。\nἈγαθὸς ἄνθρωπος. Привет, мир! ὈΔΥΣΣΕΎΣ\n"
)
WORDS = [
    "cat",
    "cats",
    "mat",
    "the",
    "didn",
    "'t",
    "'s",
    "dog",
    "café",
    "naïve",
    "night",
    "rain",
    "said",
    "moon",
    "мир",
    "привет",
    "it",
    "a",
    "in",
    "song",
    "on",
    "of",
    "o",
]
PROMPTS = [
    "",
    "The ca",
    "Alrtod went to Qwxyz\nAlr",
    "don't y",
    "café 明",
    "x2 v1",
    "🦊 Fox",
    "Ἀγαθ",
    "it's o'",
    "qwx" * 20,
    "qwx" * 20 + " qwx a",
    "q" * 48 + "\n" + "q" * 49 + " q",
]


@cache
def letters() -> list[int]:
    """Where the kind of a character changes, as the page has it."""
    return [4 * code + kind for code, kind in letter_changes()]


TOKENS = """
const { vocabulary, scores, words } = given;
const tokenizer = new Tokenizer(vocabulary, Float32Array.from(scores));
const arrays = Object.fromEntries(words.bits.map((bits, at) => [`bits_${at}`, { values: Uint8Array.from(bits) }]));
const filter = new WordFilter({ arrays, about: { "textgen.words": JSON.stringify({ hashes: words.hashes }) } });
const tokens = new WordTokens(tokenizer, filter, new Letters(Uint32Array.from(given.letters)));
"""
WALK = """
return given.walks.map(({ prompt, texts, ids }) => {
  const guard = new WordGuard(tokens, texts);
  guard.read(prompt);
  const told = [];
  for (const id of [...ids, null]) {
    told.push(Array.from(guard.fork().allowed()).join(""));
    if (id !== null) guard.accept(id);
  }
  return told;
});
"""


def described(tokenizer: Tokenizer, words: WordFilter) -> dict[str, Any]:
    filters = words._filters
    assert from_safetensors(words.to_bytes()).keys() == {f"bits_{number}" for number in range(len(filters))}
    about = {"kind": tokenizer.kind, "pieces": learned_pieces(tokenizer), "labels": []}
    return {
        "vocabulary": about,
        "scores": learned_scores(tokenizer).astype(float).tolist(),
        "letters": letters(),
        "words": {"bits": [each.bits.tolist() for each in filters], "hashes": [each.num_hashes for each in filters]},
    }


def walk(tokens: WordTokens, tokenizer: Tokenizer, rng: random.Random) -> tuple[dict[str, Any], list[str]]:
    """A text of random tokens, most of them allowed, and which tokens are allowed before each."""
    prompt, texts = tokenizer.encode(rng.choice(PROMPTS)), rng.choice([[], ["a zebra"]])
    if tokenizer.first_byte is not None and rng.random() < 0.3:
        prompt += [tokenizer.first_byte + byte for byte in "é".encode()[:1]]
    guard, ids, told = WordGuard(tokens, texts), list[int](), list[str]()
    guard.read(prompt)
    for _ in range(25):
        allowed = guard.allowed()
        told.append("".join(map(str, allowed.astype(int).tolist())))
        possible = np.flatnonzero(allowed) if rng.random() < 0.8 and allowed.any() else np.arange(len(allowed))
        if tokenizer.first_byte is not None and rng.random() < 0.3:  # parts of characters
            low = tokenizer.first_byte + (0x80 if guard._pending else 0xC3)
            possible = np.arange(low, low + 0x1F)
        ids.append(int(rng.choice(possible.tolist())))
        guard.accept(ids[-1])
    return {"prompt": prompt, "texts": texts, "ids": ids[:-1]}, told


def test_the_same_tokens_are_allowed(tmp_path: Path) -> None:
    for kind in ("unigram", "char", "byte"):
        tokenizer = train_tokenizer([TEXT * 3], TokenizerConfig(kind))
        words = WordFilter.build(WORDS, base=WordFilter.build(["owl", "zoo"]))
        tokens = WordTokens(tokenizer, words)
        rng = random.Random(kind)
        walks = [walk(tokens, tokenizer, rng) for _ in range(16)]
        found = in_node(TOKENS + WALK, {**described(tokenizer, words), "walks": [each for each, _ in walks]}, tmp_path)
        for (case, expected), told in zip(walks, found, strict=True):
            for step, (own, other) in enumerate(zip(told, expected, strict=True)):
                differing = [id for id, pair in enumerate(zip(own, other, strict=True)) if pair[0] != pair[1]]
                assert not differing, (kind, case, step, differing)


def test_a_run_of_letters_that_is_too_long_is_no_word_of_a_text(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([TEXT * 3], TokenizerConfig("char"))
    script = "return given.texts.map((text) => [...tokens.unknownIn(tokens.alphabet.of(text))].sort());"
    longest = ["q" * MAX_WORD_CHARS, "𐐨" * MAX_WORD_CHARS]  # the second one in characters of two units
    texts = [*longest, *(f"The {word}{word[-2:]} qx's {word}" for word in longest), "q" * 100_000]
    given = {**described(tokenizer, WordFilter.build(WORDS)), "texts": texts}
    one, other = longest
    assert in_node(TOKENS + script, given, tmp_path) == [[one], [other], sorted(["qx", one]), ["qx", other], []]


def test_letters_of_every_character(tmp_path: Path) -> None:
    """Of all scripts with spaces between words, and of a part of the others."""
    codes = [*range(0xD800), *range(0xE000, 0x20100), *range(0x20100, 0x110000, 97), *range(0xE0000, 0xE0200)]
    script = """
    const alphabet = new Letters(Uint32Array.from(given.letters));
    return [given.codes.map((code) => alphabet.of(String.fromCodePoint(code))), alphabet.of(given.text)];
    """
    text = "ΟΔΥΣΣΕΥΣ ὈΔΥΣΣΕΎΣ, Don’t “İstanbul” 3rd x²½ Ⅷ 日本 한국 ไทย \u200d"
    found, own = in_node(script, {"letters": letters(), "text": text, "codes": codes}, tmp_path)
    assert own == letters_of(text)
    assert [hex(code) for code, own in zip(codes, found, strict=True) if own != letters_of(chr(code))] == []
