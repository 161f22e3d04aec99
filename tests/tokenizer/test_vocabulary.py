from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from vocabularies import TEXT, TRAINED

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import TokenizerError
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import load_tokenizer
from textgen.tokenizer.pieces import FIRST_LEARNED
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import choose_vocab_size, learn_vocabulary, train_tokenizer


@pytest.mark.parametrize("kind", TRAINED)
def test_training_again_gives_the_same_bytes(kind: str) -> None:
    tokenizer = train_tokenizer([TEXT], TokenizerConfig(kind))
    again = train_tokenizer(TEXT.splitlines(keepends=True), TokenizerConfig(kind))
    assert tokenizer.serialized == again.serialized
    assert tokenizer.fingerprint() == again.fingerprint()


@pytest.mark.parametrize("kind", TRAINED)
def test_sentencepiece_is_silent(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = train_tokenizer([TEXT, "\0\u2585" + "x" * 10_000], TokenizerConfig(kind))
    with pytest.raises(TokenizerError):
        train_tokenizer([TEXT], TokenizerConfig(kind, vocab_size=100_000))
    with pytest.raises(TokenizerError):
        load_tokenizer(tokenizer.serialized[:-9])
    tokenizer.decode(tokenizer.encode("\0 一二三 x"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", TRAINED)
def test_a_vocabulary_larger_than_the_text_allows(kind: str) -> None:
    with pytest.raises(TokenizerError, match="vocab_size 100000 is more than this text allows") as caught:
        train_tokenizer([TEXT], TokenizerConfig(kind, vocab_size=100_000))
    most = int(re.findall(r"at most (\d+)", str(caught.value))[0])
    assert train_tokenizer([TEXT], TokenizerConfig(kind, vocab_size=most)).vocab_size == most


@pytest.mark.parametrize("kind", TRAINED)
def test_a_vocabulary_too_small_for_the_text(kind: str) -> None:
    with pytest.raises(TokenizerError, match="vocab_size 4 is too small") as caught:
        train_tokenizer([TEXT], TokenizerConfig(kind, vocab_size=4))
    least = int(re.findall(r"at least (\d+)", str(caught.value))[0])
    assert train_tokenizer([TEXT], TokenizerConfig(kind, vocab_size=least)).vocab_size == least
    if kind in ("unigram", "bpe"):
        assert least == 260 + len(set(TEXT) - {"\n", "\t"})


@pytest.mark.parametrize("texts", [[], [""], ["\n\n", "\t\0"], ["\u2581\u2585"], ["\r", "\r\r\n"]])
@pytest.mark.parametrize("kind", TRAINED)
def test_nothing_to_learn_from(texts: list[str], kind: str) -> None:
    with pytest.raises(TokenizerError, match="no text to learn"):
        train_tokenizer(texts, TokenizerConfig(kind))


@pytest.mark.parametrize(
    "texts", [["<0x41>"] * 3, ["the byte <0x4A> and <0xFF><0x00>, <0x"] * 20], ids=["only", "some"]
)
@pytest.mark.parametrize("kind", [kind for kind in TRAINED if kind != "word"])
def test_the_characters_in_the_name_of_a_byte_are_learned(texts: list[str], kind: str) -> None:
    """SentencePiece takes the name for the token, wherever it stands in what it is trained on."""
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind))
    assert all(len(tokenizer.encode(character)) == 1 for character in set("".join(texts)))
    assert set("".join(texts)) <= {piece.decode(errors="replace") for piece in tokenizer.piece_bytes[FIRST_LEARNED:]}
    assert tokenizer.decode(tokenizer.encode(texts[0])) == texts[0]


def test_the_name_of_a_byte_is_a_word_among_others() -> None:
    tokenizer = train_tokenizer(["the byte <0x4A> and"] * 20, TokenizerConfig("word"))
    assert len(tokenizer.encode("<0x4A>")) == 1
    assert tokenizer.unk_id not in tokenizer.encode("<0x4A>")


def test_the_first_bytes_are_the_sample() -> None:
    asked = 0

    def endless() -> Iterator[str]:
        nonlocal asked
        while True:
            asked += 1
            yield "the cat sat on the mat\n"

    train_tokenizer(endless(), TokenizerConfig(sample_bytes=10_000))
    assert asked <= 10_000 / 22 + 1


@pytest.mark.parametrize(
    ("line", "compressed"),
    [("{} word\n", True), ("{} word ", False), pytest.param("{} word ", True, marks=pytest.mark.slow)],
)
def test_the_sample_of_a_corpus_is_spread(tmp_path: Path, line: str, compressed: bool) -> None:
    text = "".join(line.format(number % 10) for number in range(200_000))
    text += "".join(line.format("tail") for _ in range(200_000))
    path = tmp_path / ("text.txt.gz" if compressed else "text.txt")
    path.write_bytes(gzip.compress(text.encode(), 0) if compressed else text.encode())
    corpus = Corpus([path], CorpusConfig(documents="file"))
    config = TokenizerConfig("word", sample_bytes=600_000)
    tokenizer = learn_vocabulary(corpus, config)
    assert tokenizer.unk_id not in tokenizer.encode("7 tail word")
    assert tokenizer.serialized == learn_vocabulary(corpus, config).serialized
    assert tokenizer.unk_id in train_tokenizer([text], config).encode("tail word")


@pytest.mark.parametrize("sample_bytes", [20_000, 200_000])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_size_does_not_depend_on_what_else_a_table_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, sample_bytes: int
) -> None:
    def noted(*given: Any, character_counts: Mapping[str, int]) -> Tokenizer:
        characters.append(sum(character_counts.values()))
        return train_tokenizer(*given, character_counts=character_counts)

    monkeypatch.setattr("textgen.tokenizer.vocabulary.train_tokenizer", noted)
    lines, sizes, characters = TEXT.splitlines(), list[int](), list[int]()
    lines = [f"{lines[number % len(lines)]} {number}" for number in range(2000)]
    for other in ("", "other words" * 30):
        rows = [json.dumps({"text": line, "other": other}) for line in lines]
        if suffix == ".csv":
            rows = ["text,other", *(f'"{line}",{other}' for line in lines)]
        (tmp_path / f"a{suffix}").write_text("\n".join(rows), encoding="utf-8")
        corpus = Corpus([tmp_path / f"a{suffix}"])
        sizes.append(learn_vocabulary(corpus, TokenizerConfig("bpe", sample_bytes=sample_bytes)).vocab_size)
    total = sum(map(len, lines))
    assert characters == ([total] * 2 if sample_bytes > total else [pytest.approx(total, rel=0.2)] * 2)
    assert sizes[0] == sizes[1] or sample_bytes < total


def test_long_lines_are_learned_from() -> None:
    tokenizer = train_tokenizer(["longword " * 10_000], TokenizerConfig("bpe"))
    assert len(tokenizer.encode(" longword" * 100)) == 100


def test_frequent_words_are_unigram_pieces() -> None:
    # Words apart from the marks, as in the Penn Treebank; none is a part of another.
    words = ["said", "october", "zebra", "house", "quick"]
    lines = [" ".join(["so", *random.Random(seed).sample(words, 5), "."]) + "\n" for seed in range(200)]
    tokenizer = train_tokenizer(lines, TokenizerConfig("unigram"))
    assert {f"▁{word}" for word in words} <= set(tokenizer.pieces())


def test_chosen_sizes() -> None:
    counts = {chr(97 + number): 1000 for number in range(20)}
    assert choose_vocab_size("byte", 20_000, counts) == 259
    assert choose_vocab_size("word", 20_000, counts) == 50_000
    assert choose_vocab_size("char", 20_000, counts | {"\n": 5}) == 280
    assert choose_vocab_size("unigram", 20_000, counts) == 992  # 280 + 707, a multiple of 8
    assert choose_vocab_size("bpe", 10**12, counts) == 32_000
    rare = {chr(0x4E00 + number): 1_000_000 if number < 2000 else 1 for number in range(5000)}
    assert choose_vocab_size("char", sum(rare.values()), rare) == 2260


def test_rare_characters_of_a_large_script_are_bytes() -> None:
    generator = random.Random(0)
    common = "".join(chr(0x4E00 + number) for number in range(1500))
    text = "\n".join("".join(generator.sample(common, 1500)) for _ in range(20)) + "龜\n"
    counts = Counter(text)
    tokenizer = train_tokenizer([text], TokenizerConfig("bpe"), character_counts=counts)
    assert len(tokenizer.encode(common[7])) == 1
    assert len(tokenizer.encode("龜")) == 3


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_character_coverage(kind: str) -> None:
    frequent, rare = "".join(chr(0x4E00 + number) for number in range(50)), "龜鱉"
    text = "\n".join([frequent] * 20 + list(rare)) + "\n"
    sizes = {}
    for coverage in (None, 0.99):
        config = TokenizerConfig(kind, character_coverage=coverage)
        tokenizer = train_tokenizer([text], config)
        assert len(tokenizer.encode(rare)) == (2 if coverage is None else 6)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        sizes[coverage] = choose_vocab_size(kind, len(text), Counter(text), coverage)
    assert sizes[0.99] <= sizes[None]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TokenizerConfig("byte", character_coverage=0.99), "byte tokenizer .* leave character_coverage out"),
        (TokenizerConfig("word", character_coverage=0.99), "word tokenizer .* leave character_coverage out, or choose"),
        (TokenizerConfig("word", character_coverage=1.0), "word tokenizer .* leave character_coverage out, or choose"),
        (TokenizerConfig("char", vocab_size=300, character_coverage=0.99), "Both vocab_size and character_coverage"),
    ],
)
def test_a_coverage_that_does_not_suit_the_tokenizer_is_refused(config: TokenizerConfig, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        train_tokenizer([TEXT], config)
