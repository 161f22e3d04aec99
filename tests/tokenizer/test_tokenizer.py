from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from vocabularies import AWKWARD, LOSSLESS, TEXT, TRAINED, texts, tokenizer_of

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import TokenizerError
from textgen.storage.folders import update_folder
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.model_file import read_tokenizer
from textgen.tokenizer.tokenizer import SentencePieceTokenizer, Tokenizer, load_tokenizer
from textgen.tokenizer.vocabulary import choose_vocab_size, learn_vocabulary, train_tokenizer

PTB = " no it was n't <unk> N \n the <unk> rose N N in october \n"


@pytest.fixture(params=LOSSLESS)
def lossless(request: pytest.FixtureRequest) -> Tokenizer:
    return tokenizer_of(request.param)


@pytest.fixture(scope="module")
def word() -> Tokenizer:
    return train_tokenizer([PTB * 3], TokenizerConfig("word"))


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=texts)
def test_nothing_is_lost(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_id not in ids
    assert tokenizer.eos_id not in ids


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("training_text", ["月明月明", "    ", "a", "\u2581x <unk> <unk> <0x41> </s>" * 9])
@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_nothing_is_lost_whatever_was_learned(kind: str, training_text: str, text: str) -> None:
    # In the first of them no piece is a space, which SentencePiece alone would decode to U+2581.
    tokenizer = train_tokenizer([training_text], TokenizerConfig(kind))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
@given(text=texts)
def test_agrees_with_sentencepiece(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    oracle = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.serialized)
    line = text.replace("\u2581", "").replace("\n", "")
    assert tokenizer.encode(line) == oracle.encode(line)
    assert tokenizer.decode(oracle.encode(line)) == oracle.decode(oracle.encode(line)) == line


@pytest.mark.parametrize("kind", [*LOSSLESS, "word"])
@given(first=texts, second=texts)
def test_lines_are_encoded_apart(kind: str, first: str, second: str) -> None:
    tokenizer = tokenizer_of(kind)
    first += "\n"
    assert tokenizer.encode(first) + tokenizer.encode(second) == tokenizer.encode(first + second)


@given(st.lists(texts))
def test_a_batch_is_its_texts(batch: list[str]) -> None:
    tokenizer = tokenizer_of("unigram")
    expected = [tokenizer.encode(text) for text in batch]
    assert tokenizer.encode_batch(batch, num_threads=1) == tokenizer.encode_batch(batch) == expected


def test_special_ids(lossless: Tokenizer) -> None:
    assert (lossless.pad_id, lossless.unk_id, lossless.eos_id) == (0, 1, 2)
    assert lossless.pieces()[:3] == ["<pad>", "<unk>", "<eos>"]
    assert lossless.decode([0, 2, 0]) == ""
    assert lossless.decode([1]) == "\ufffd"


def test_pieces_are_printable(lossless: Tokenizer) -> None:
    labels = lossless.pieces()
    assert len(labels) == len(lossless.piece_bytes) == lossless.vocab_size
    assert all(label.isprintable() and " " not in label for label in labels)
    assert lossless.piece(lossless.encode("\n月")[0]) == "\\n"
    assert lossless.piece(lossless.encode("é")[0]) == "<0xC3>"
    with pytest.raises(TokenizerError, match="no token -1"):
        lossless.piece(-1)
    with pytest.raises(TokenizerError, match=f"no token 99999: ids are from 0 to {lossless.vocab_size - 1}"):
        lossless.decode([5, 99999])


def test_byte_is_the_bytes() -> None:
    tokenizer = train_tokenizer([], TokenizerConfig("byte"))
    assert tokenizer.encode("A\n é") == [68, 13, 35, 198, 172]
    assert [tokenizer.piece(id) for id in (68, 13, 35, 198)] == ["A", "\\n", "▁", "<0xC3>"]
    assert tokenizer.vocab_size == 259
    assert tokenizer.serialized == b""
    assert load_tokenizer(b"").fingerprint() == tokenizer.fingerprint()
    with pytest.raises(TokenizerError, match="nothing to save"):
        tokenizer.save("never.model")
    with pytest.raises(TokenizerError, match="always has 259 tokens"):
        train_tokenizer([], TokenizerConfig("byte", vocab_size=300))


def test_a_lone_surrogate_is_no_text() -> None:
    for kind in [*LOSSLESS, "word"]:
        with pytest.raises(TokenizerError, match=r"not valid text: character 1 is .* U\+D83D"):
            tokenizer_of(kind).encode("a\ud83d")
    with pytest.raises(TokenizerError, match="not valid text"):
        train_tokenizer(["\udc00"], TokenizerConfig())


# word


def test_each_word_is_one_piece(word: Tokenizer) -> None:
    ids = word.encode(PTB)
    assert [word.piece(id) for id in ids] == PTB_PIECES
    assert word.unk_id not in ids
    assert word.decode(ids) == "no it was n't <unk> N\nthe <unk> rose N N in october\n"


PTB_PIECES = [
    "▁no", "▁it", "▁was", "▁n't", "▁<unk>", "▁N", "\\n",
    "▁the", "▁<unk>", "▁rose", "▁N", "▁N", "▁in", "▁october", "\\n",
]  # fmt: skip


def test_each_unknown_word_counts(word: Tokenizer) -> None:
    ids = word.encode("no zebra zebra\u2581quagga")
    assert ids[1:] == [word.unk_id] * 3
    assert word.decode(ids) == "no <unk> <unk> <unk>"


def test_special_names_are_words_like_others() -> None:
    words = "<unk> </s> <s> <pad> <eos> <0x41> <unknown N"
    tokenizer = train_tokenizer([words], TokenizerConfig("word"))
    ids = tokenizer.encode(words)
    assert min(ids) > 3
    assert len(set(ids)) == 8
    assert tokenizer.decode(ids) == words


# training


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


@pytest.mark.parametrize("texts", [[], [""], ["\n\n", "\t\0"], ["\u2581\u2585"]])
def test_nothing_to_learn_from(texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match="no text to learn"):
        train_tokenizer(texts, TokenizerConfig())


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
        (TokenizerConfig("char", vocab_size=300, character_coverage=0.99), "Both vocab_size and character_coverage"),
    ],
)
def test_a_coverage_that_decides_nothing_is_refused(config: TokenizerConfig, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        train_tokenizer([TEXT], config)


# loading


@pytest.mark.parametrize("kind", TRAINED)
def test_a_loaded_tokenizer_is_the_same(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    loaded = load_tokenizer(tokenizer.serialized)
    assert loaded.tokenizer == kind
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    assert loaded.pieces() == tokenizer.pieces()
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert isinstance(loaded, SentencePieceTokenizer) is (kind != "word")


@pytest.mark.parametrize("damage", [b"x", b"\0" * 99, b'{"version": 1}'])
def test_what_is_no_model(damage: bytes) -> None:
    for serialized in (damage, tokenizer_of("bpe").serialized[:-9]):
        with pytest.raises(TokenizerError, match="not a SentencePiece model, or is damaged"):
            load_tokenizer(serialized)


@pytest.mark.parametrize("kind", TRAINED)
def test_a_damaged_model_is_refused_or_works(kind: str) -> None:
    generator = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(tokenizer_of(kind).serialized)
        damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        try:
            load_tokenizer(bytes(damaged)).encode(TEXT[:100])
        except TokenizerError:
            refused += 1
    assert refused > 0


# commands


def invoke(*arguments: str | Path, input: str | bytes | None = None) -> str:
    result = CliRunner().invoke(textgen, ["tokenizer", *map(str, arguments)], input, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes.decode()


def refusal(*arguments: str | Path, input: bytes | None = None) -> str:
    """The one line that a mistake is answered with."""
    result = CliRunner().invoke(textgen, ["tokenizer", *map(str, arguments)], input)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "poems.txt").write_text(TEXT, encoding="utf-8")
    invoke("train", tmp_path / "poems.txt", "--out", tmp_path / "poems.model", "--vocab-size", "310")
    return tmp_path / "poems.model"


def test_commands_go_round(model: Path) -> None:
    text = " The cat\n\n明月 \r\n"
    ids = invoke("encode", model, text)
    assert ids == " ".join(map(str, read_tokenizer(model).encode(text))) + "\n"
    assert invoke("encode", model, input=text.encode()) == ids
    assert invoke("decode", model, input=ids) == text
    assert invoke("decode", model, input=invoke("encode", model, text, "--json")) == text
    assert invoke("decode", model, *ids.split()) == text
    assert invoke("encode", "byte", "é\n", "--pieces") == "<0xC3> <0xA9> \\n\n"
    assert invoke("decode", "byte", "198", "172") == "é"


def test_info(model: Path) -> None:
    facts = json.loads(invoke("info", model, "--json"))
    assert (facts["tokenizer"], facts["vocab_size"], facts["eos_id"]) == ("unigram", 310, 2)
    assert facts["bytes"] == model.stat().st_size
    lines = invoke("info", model, "--pieces").splitlines()
    assert lines[:4] == ["0\t<pad>", "1\t<unk>", "2\t<eos>", "3\t\\n"]
    assert len(lines) == 310
    assert "vocab_size   310" in invoke("info", model)
    assert "tokenizer    byte" in invoke("info", "byte")


def test_commands_find_saved_models_by_name(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model.parent / "saved_models" / "poems"
    update_folder(folder, {"config.json": b"{}", "tokenizer.model": model.read_bytes()})
    monkeypatch.chdir(model.parent)
    monkeypatch.delenv("TEXTGEN_MODELS", raising=False)
    assert invoke("decode", "poems", input=invoke("encode", "saved_models/poems", "cat")) == "cat"


def test_commands_refuse(model: Path) -> None:
    before = model.read_bytes()
    corpus = model.with_suffix(".txt")
    assert "exists" in refusal("train", corpus, "--out", model)
    assert "needs no training" in refusal("train", corpus, "--out", model, "--force", "--tokenizer", "byte")
    assert "not UTF-8" in refusal("encode", "byte", input=b"\xff")
    assert model.read_bytes() == before
    invoke("train", corpus, "--out", model, "--force", "--tokenizer", "word")
    assert read_tokenizer(model).tokenizer == "word"
    assert CliRunner().invoke(textgen, ["tokenizer", "decode", "byte"], "1 two").exit_code == 2
