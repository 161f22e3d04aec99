from __future__ import annotations

import pickle
import random

import pytest
import sentencepiece
from hypothesis import given
from vocabularies import AWKWARD, TEXT, TRAINED, texts, tokenizer_of

from textgen.errors import TokenizerError
from textgen.tokenizer import kinds
from textgen.tokenizer.config import TOKENIZERS, TokenizerConfig
from textgen.tokenizer.kinds import SentencePieceTokenizer, load_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

PTB = " no it was n't <unk> N \n the <unk> rose N N in october \n"


@pytest.fixture(scope="module")
def word() -> Tokenizer:
    return train_tokenizer([PTB * 3], TokenizerConfig("word"))


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


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_only_people_see_is_not_made_when_a_tokenizer_is_loaded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = tokenizer_of(kind).with_labels(["poe"])
    made: list[str] = []

    def counted(piece: str) -> str:
        made.append(piece)
        return piece

    monkeypatch.setattr(kinds, "printable", counted)
    loaded = load_tokenizer(trained.serialized)
    assert loaded.decode(loaded.encode("the cat")) == trained.decode(trained.encode("the cat"))
    assert not made
    loaded.pieces()
    count = len(made)
    assert count > 0
    assert len(loaded.pieces()) == loaded.vocab_size
    assert loaded.piece(loaded.vocab_size - 1) == "<label poe>"
    assert len(made) == count, "they are made once"


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


# loading


@pytest.mark.parametrize("kind", TRAINED)
def test_a_loaded_tokenizer_is_the_same(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    loaded = load_tokenizer(tokenizer.serialized)
    assert loaded.kind == kind
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    assert loaded.pieces() == tokenizer.pieces()
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert isinstance(loaded, SentencePieceTokenizer) is (kind != "word")


@pytest.mark.parametrize("damage", [b"x", b"\0" * 99, b'{"version": 1}'])
def test_what_is_no_model(damage: bytes) -> None:
    for serialized in (damage, tokenizer_of("bpe").serialized[:-9]):
        with pytest.raises(TokenizerError, match="not a SentencePiece model, or is damaged"):
            load_tokenizer(serialized)


@pytest.mark.parametrize("kind", [*TRAINED, "byte"])
def test_tokens_are_counted_before_anything_is_made_of_each(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labeled = tokenizer_of(kind).with_labels(["fox", "owl"])
    size = labeled.vocab_size
    assert load_tokenizer(labeled.serialized, size).labels == ("fox", "owl")
    for made in ("SentencePieceTokenizer", "WordTokenizer", "ByteTokenizer"):
        monkeypatch.setattr(kinds, made, pytest.fail)
    monkeypatch.setattr(sentencepiece.SentencePieceProcessor, "id_to_piece", pytest.fail)
    with pytest.raises(TokenizerError, match=f"The tokenizer has {size:,} tokens and the model {size - 1:,}\\. They"):
        load_tokenizer(labeled.serialized, size - 1)
    monkeypatch.setattr(kinds, "MAX_VOCAB_SIZE", size - 1)
    with pytest.raises(TokenizerError, match=f"has more than {size - 1:,} tokens, the limit"):
        load_tokenizer(labeled.serialized)


def test_a_file_of_far_too_many_tokens_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MAX_VOCAB_SIZE", 300)
    monkeypatch.setattr(kinds, "decoded_json", pytest.fail)
    monkeypatch.setattr(sentencepiece, "SentencePieceProcessor", pytest.fail)
    for bomb in (b"\n\0" * 3000, b"[" + b"1," * 3000 + b"1]"):
        with pytest.raises(TokenizerError, match="has more than 300 tokens, the limit"):
            load_tokenizer(bomb)


@pytest.mark.parametrize("labels", [[], ["fox", "owl"]])
@pytest.mark.parametrize("kind", [*TRAINED, "byte"])
def test_a_tokenizer_is_pickled(kind: str, labels: list[str]) -> None:
    tokenizer = tokenizer_of(kind).with_labels(labels)
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert (type(copy), copy.kind, copy.labels) == (type(tokenizer), kind, tuple(labels))
    assert copy.pieces() == tokenizer.pieces()
    assert copy.fingerprint() == tokenizer.fingerprint()
    assert copy.encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize("names", [["<label >"], ["<label fox>"], ["<label fox>", "<label >"]])
def test_labels_without_that_of_no_label_are_refused(names: list[str]) -> None:
    with pytest.raises(TokenizerError, match="The labels of the vocabulary are damaged"):
        load_tokenizer(tokenizer_of("bpe").serialized + kinds._control_pieces(names))


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
