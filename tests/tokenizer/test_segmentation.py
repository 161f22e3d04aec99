"""Segmentations drawn at random: with the right probabilities, the same in every process, and of the whole text."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import CHINESE, pieces_of

from textgen.errors import ConfigError
from textgen.tokenizer import segmentation
from textgen.tokenizer.kinds import SentencePieceTokenizer
from textgen.tokenizer.pieces import FIRST_BYTE, FIRST_LEARNED, SPACE
from textgen.tokenizer.segmentation import UNKNOWN_PENALTY, BpeSegmenter, Segmenter, UnigramSegmenter

LINE = "the moon and the river sang the old song of rain, and the fox listened to the singing river\n"
SPACES = "    if moon:  the   river\n"
AWKWARD = [
    "", " ", "  ", "\n", "\n\n \n", "\t", "\0", "\ufeff", "\r\n", "\u2028", "\u2581", "the\u2581 \u2581fox", "\u2585",
    "e\u0301", "\U0001f469\u200d\U0001f467", "🀄月", "<unk>", "<eos>", "<0x41>", "the  fox\n sang ",
    SPACES, LINE, CHINESE,
]  # fmt: skip
texts = st.text() | st.text("the moonsigr\u2581, \n明月") | st.sampled_from(AWKWARD)


TOKENIZERS = {kind: pieces_of(kind, [LINE, SPACES, CHINESE] * 20) for kind in ("unigram", "bpe")}
PIECES = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4, "▁": 5, "▁a": 6}
SCORES = [-1.5, -2.0, -2.5, -3.5, -3.0, -2.0, -2.25]  # log probabilities
RANKS = [-9.0, -9.0, -1.0, -2.0, -3.0, -9.0, -0.5]
BYTES = 10  # id of the first
SEGMENTERS: dict[str, Segmenter] = {
    "unigram": UnigramSegmenter(PIECES, SCORES, 0.5, BYTES),
    "bpe": BpeSegmenter(PIECES, RANKS, 0.4, BYTES),
}


@pytest.fixture(params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return TOKENIZERS[request.param]


def learned(tokenizer: SentencePieceTokenizer) -> dict[str, int]:
    oracle = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.serialized)
    return {oracle.id_to_piece(id): id for id in range(FIRST_LEARNED, tokenizer.vocab_size)}


def byte_ids(character: str, first_byte: int) -> tuple[int, ...]:
    return tuple(first_byte + byte for byte in character.encode())


def unigram_probabilities(
    text: str, pieces: dict[str, int], scores: list[float], alpha: float, first_byte: int
) -> dict[tuple[int, ...], float]:
    """The probability of every segmentation, by listing all of them."""
    unknown = min(scores[id] for id in pieces.values()) - UNKNOWN_PENALTY

    def rests(rest: str) -> Iterator[tuple[tuple[int, ...], float]]:
        if not rest:
            yield (), 0.0
        for end in range(1, len(rest) + 1):
            if rest[:end] in pieces:
                id = pieces[rest[:end]]
                yield from (((id, *ids), scores[id] + score) for ids, score in rests(rest[end:]))
            elif end == 1:
                ids_here = byte_ids(rest[0], first_byte)
                yield from (((*ids_here, *ids), unknown + score) for ids, score in rests(rest[1:]))

    weights = {ids: math.exp(alpha * score) for ids, score in rests(text)}
    return {ids: weight / sum(weights.values()) for ids, weight in weights.items()}


def bpe_probabilities(
    text: str, pieces: dict[str, int], scores: list[float], alpha: float, first_byte: int
) -> dict[tuple[int, ...], float]:
    """The probability of every segmentation, by following each merge both ways: made, and left out for good."""
    found: dict[tuple[int, ...], float] = defaultdict(float)

    def follow(cuts: tuple[int, ...], left_out: frozenset[tuple[int, ...]], probability: float) -> None:
        triples = [cuts[at : at + 3] for at in range(len(cuts) - 2)]
        agenda = [
            (-scores[pieces[text[triple[0] : triple[2]]]], triple)
            for triple in triples
            if text[triple[0] : triple[2]] in pieces and triple not in left_out
        ]
        if agenda:
            _, best = min(agenda)
            follow(tuple(cut for cut in cuts if cut != best[1]), left_out, probability * (1 - alpha))
            follow(cuts, left_out | {best}, probability * alpha)
            return
        symbols = [text[start:end] for start, end in pairwise(cuts)]
        rows = [(pieces[symbol],) if symbol in pieces else byte_ids(symbol, first_byte) for symbol in symbols]
        found[tuple(id for row in rows for id in row)] += probability

    follow(tuple(range(len(text) + 1)), frozenset(), 1.0)
    return found


PROBABILITIES = {"unigram": unigram_probabilities, "bpe": bpe_probabilities}


def chi_squared(counts: Counter[tuple[int, ...]], probabilities: dict[tuple[int, ...], float]) -> float:
    """In standard deviations from its mean; rare segmentations are counted together."""
    total = counts.total()
    assert counts.keys() <= probabilities.keys()
    rare = [ids for ids, probability in probabilities.items() if probability * total < 5]
    cells = [(counts[ids], probabilities[ids] * total) for ids in probabilities.keys() - rare]
    cells.append((sum(counts[ids] for ids in rare), sum(probabilities[ids] for ids in rare) * total))
    cells = [(count, expected) for count, expected in cells if expected >= 5]
    statistic = sum((count - expected) ** 2 / expected for count, expected in cells)
    freedom = len(cells) - 1
    assert freedom > 0
    return (statistic - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("text", ["abaab", "a▁aba", "abécab", "▁▁ab"])
@pytest.mark.parametrize("kind", list(SEGMENTERS))
def test_every_segmentation_has_its_probability(kind: str, text: str) -> None:
    scores, alpha = (SCORES, 0.5) if kind == "unigram" else (RANKS, 0.4)
    probabilities = PROBABILITIES[kind](text, PIECES, scores, alpha, BYTES)
    assert len(probabilities) > 2
    random = Random(3)
    counts = Counter(tuple(SEGMENTERS[kind].draw(text, random)) for _ in range(20_000))
    assert abs(chi_squared(counts, probabilities)) < 4


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3])
def test_every_segmentation_has_its_probability_in_a_learned_vocabulary(
    tokenizer: SentencePieceTokenizer, alpha: float
) -> None:
    text, kind = "the singing", tokenizer.kind
    pieces, scores = learned(tokenizer), tokenizer.scores()
    probabilities = PROBABILITIES[kind](text.replace(" ", SPACE), pieces, scores, alpha, FIRST_BYTE)
    counts = Counter(tuple(tokenizer.sample(text, alpha, seed)) for seed in range(5000))
    if kind == "bpe" and alpha == 0:
        assert counts == {tuple(tokenizer.encode(text)): 5000}
    else:
        assert abs(chi_squared(counts, probabilities)) < 4


def test_sentencepiece_draws_segmentations_with_the_same_probabilities(tokenizer: SentencePieceTokenizer) -> None:
    """Its random numbers differ from process to process, so the limit is one that chance does not reach."""
    text, alpha, number = "the moon sang", {"unigram": 0.03, "bpe": 0.3}[tokenizer.kind], 10_000
    oracle = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.serialized)
    rows = oracle.encode([text] * number, num_threads=1, enable_sampling=True, alpha=alpha, nbest_size=-1)
    theirs = Counter(map(tuple, rows))
    ours = Counter(tuple(tokenizer.sample(text, alpha, seed)) for seed in range(number))
    common = [ids for ids, count in (theirs + ours).items() if count >= 100]
    assert len(common) > 5
    differences = [abs(theirs[ids] - ours[ids]) / math.sqrt(theirs[ids] + ours[ids]) for ids in common]
    assert max(differences) < 7  # standard deviations


@given(text=texts, seed=st.integers(0, 1 << 130), alpha=st.sampled_from([0.0, 0.2, 1.0]))
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("kind", list(TOKENIZERS))
def test_no_segmentation_loses_anything(kind: str, text: str, seed: int, alpha: float) -> None:
    tokenizer = TOKENIZERS[kind]
    text = text.encode("utf-8", "ignore").decode()
    assert tokenizer.decode(tokenizer.sample(text, alpha, seed)) == text


@given(text=texts)
@settings(deadline=None, max_examples=60)
def test_bpe_without_dropout_is_what_encode_gives(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert TOKENIZERS["bpe"].sample(text, 0.0, 1) == TOKENIZERS["bpe"].encode(text)


@given(text=texts)
@settings(deadline=None, max_examples=60)
def test_the_likeliest_segmentation_is_what_encode_gives(text: str) -> None:
    """Or one that is as likely: SentencePiece adds scores in float32."""
    tokenizer = TOKENIZERS["unigram"]
    text = text.encode("utf-8", "ignore").decode()
    drawn, likeliest, scores = tokenizer.sample(text, 1e5, 1), tokenizer.encode(text), tokenizer.scores()
    assert Counter(drawn) == Counter(likeliest) or math.isclose(
        sum(scores[id] for id in drawn), sum(scores[id] for id in likeliest), rel_tol=1e-4
    )


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
@pytest.mark.parametrize("alpha", [-1, -1e-9, math.nan, math.inf, 1e302, "x", None, True])
def test_an_alpha_that_cannot_be_is_named(kind: str, alpha: Any) -> None:
    tokenizer = pieces_of(kind, [LINE])
    limits = "from 0 to 1" if kind == "bpe" else "of at least 0"
    with pytest.raises(ConfigError, match=f"alpha must be a number {limits}. Received: {re.escape(repr(alpha))}."):
        tokenizer.sample("the moon", alpha, 1)


def test_the_probability_of_leaving_out_a_merge_is_at_most_1() -> None:
    with pytest.raises(ConfigError, match=r"alpha must be a number from 0 to 1\. Received: 1\.5\."):
        TOKENIZERS["bpe"].sample("the moon", 1.5, 1)
    assert TOKENIZERS["unigram"].sample("the moon", 1e300, 1) == TOKENIZERS["unigram"].encode("the moon")


@pytest.mark.parametrize("seed", [-1, "x", 1.5, None, True])
def test_a_seed_that_cannot_be_is_named(tokenizer: SentencePieceTokenizer, seed: Any) -> None:
    with pytest.raises(ConfigError, match=f"seed must be .*Received: {re.escape(repr(seed))}."):
        tokenizer.sample("the moon", 0.5, seed)


def test_the_numbers_of_numpy_give_the_segmentation_of_those_of_python(tokenizer: SentencePieceTokenizer) -> None:
    seed: Any = np.int64(5)
    assert tokenizer.sample("the moon", np.float64(0.3), seed) == tokenizer.sample("the moon", 0.3, 5)


def test_bpe_with_all_merges_left_out_is_characters() -> None:
    tokenizer = TOKENIZERS["bpe"]
    assert len(tokenizer.sample("the moon 明月", 1.0, 1)) == len("the moon 明月")


def test_a_character_without_a_piece_is_its_bytes(tokenizer: SentencePieceTokenizer) -> None:
    for seed in range(20):
        ids = tokenizer.sample("moon🌙", 0.2, seed)
        assert ids[-4:] == [FIRST_BYTE + byte for byte in "🌙".encode()]
        assert min(ids[:-4]) >= FIRST_LEARNED


def test_the_random_numbers_are_fixed_for_good() -> None:
    """A run that another version or machine resumes reads the same tokens."""
    drawn = {kind: segmenter.draw("abaab▁abaéab", Random(1)) for kind, segmenter in SEGMENTERS.items()}
    assert drawn == {"unigram": [4, 0, 1, 5, 2, 0, 205, 179, 2], "bpe": [4, 2, 5, 4, 205, 179, 0, 1]}


def test_every_process_draws_the_same(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    model = tmp_path / "own.model"
    tokenizer.save(model)
    text = (LINE + CHINESE) * 5
    code = (
        "import json, sys; from textgen.tokenizer.model_file import read_tokenizer\n"
        "print(json.dumps(read_tokenizer(sys.argv[1]).sample(sys.argv[2], 0.3, 5)))"
    )
    result = subprocess.run([sys.executable, "-c", code, str(model), text], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == tokenizer.sample(text, 0.3, 5) != tokenizer.sample(text, 0.3, 6)


def test_what_is_cached_does_not_matter(tokenizer: SentencePieceTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = LINE * 10
    drawn = tokenizer.sample(text, 0.3, 5)
    assert tokenizer.sample(text, 0.3, 5) == drawn
    monkeypatch.setattr(segmentation, "MAX_CACHED_CHARS", 0)
    assert tokenizer.sample(text, 0.3, 5) == drawn


@pytest.mark.parametrize("kind", list(SEGMENTERS))
def test_a_long_stretch_is_drawn_too(kind: str) -> None:
    """Its probability is less than the least number, and it has more segmentations than the greatest."""
    text = "ab" * 5000
    ids = SEGMENTERS[kind].draw(text, Random(1))
    names = {id: piece for piece, id in PIECES.items()}
    assert "".join(names[id] for id in ids) == text
    assert len(set(ids)) == 5


def test_texts_are_cut_where_no_piece_crosses() -> None:
    segmenter = SEGMENTERS["unigram"]
    assert list(segmenter._stretches("aba▁abbéa▁")) == ["aba", "▁ab", "b", "é", "a", "▁"]
    assert list(segmenter._stretches("")) == []
