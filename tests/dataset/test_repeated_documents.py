"""Held-out documents that also occur in the training text: counted whatever their order, and said."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streams import corpus_of

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset import repeated_documents
from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.repeated_documents import LEAST_BYTES, DocumentHashes, Repeated
from textgen.dataset.token_cache import encode_and_split
from textgen.dataset.token_files import SUMMARY, read_description
from textgen.errors import CorpusError
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

BUNDLED = Path(__file__).parents[2] / "corpora"


def texts(count: int, length: int = 40, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return ["".join(generator.choices("abcd 月", k=length + number % 9)) + f"{number}" for number in range(count)]


def counts_in(folder: Path) -> Repeated:
    return read_description(folder).repeated


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 18])
def test_what_is_held_out_is_found_in_the_training_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(repeated_documents, "BLOCK_TOKENS", block)
    known, others, short = texts(30), texts(20, seed=1), ["x" * (LEAST_BYTES - 1), "月" * 7]
    train = [*known, *short, "another text that is not held out"]
    valid = [*known[:5], *known[:2], *short, *others, known[7][:-1], known[8] + "."]
    data = encode_and_split(corpus_of(tmp_path, train), ByteTokenizer(), corpus_of(tmp_path, valid, "valid.txt"))
    assert counts_in(data.train.folder) == Repeated(7, len(valid))


def test_a_label_does_not_make_another_document(tmp_path: Path) -> None:
    rows = [{"text": text, "by": label} for text in texts(30) for label in "ab"]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = encode_and_split(Corpus([path], CorpusConfig(labels="by")), ByteTokenizer(["a", "b"]))
    found = counts_in(data.train.folder)
    assert found.held_out == data.valid.summary.documents
    assert found.found >= found.held_out - 2


def test_repeated_documents_are_said_also_of_a_cached_corpus(tmp_path: Path) -> None:
    corpus, said = corpus_of(tmp_path, texts(500) * 2), list[str]()
    for _ in range(2):
        encode_and_split(corpus, ByteTokenizer(), say=said.append)
    assert len(said) == 2
    assert said[0] == said[1]
    assert said[0].endswith(
        " of 100 held-out documents also occur in the training text, so the validation loss is too low: "
        "remove repeated documents."
    )
    assert int(said[0].split()[0]) > 80
    prepare_corpus([str(tmp_path / "text.txt")], tmp_path / "out", {"tokenizer": "byte", "shards": 1}, say=said.append)
    assert said[-1].startswith("Shard 1: ")
    assert said[-1].endswith(said[0].partition(" of 100 ")[2])


@pytest.mark.parametrize(
    ("name", "mode"), [("fables.txt", "blank-line"), ("verse.txt", "blank-line"), ("verse.txt", "line")]
)
def test_nothing_is_said_of_ordinary_texts(name: str, mode: str) -> None:
    said = list[str]()
    data = encode_and_split(Corpus([BUNDLED / name], CorpusConfig(documents=mode)), ByteTokenizer(), say=said.append)
    assert said == []
    assert counts_in(data.train.folder).held_out >= 20


@pytest.mark.parametrize(
    ("found", "held_out", "is_said"), [(1, 10, False), (2, 40, True), (2, 41, False), (5, 100, True), (0, 0, False)]
)
def test_few_repeated_documents_are_not_worth_a_message(found: int, held_out: int, is_said: bool) -> None:
    assert bool(Repeated(found, held_out).message) is is_said


def test_only_so_many_held_out_documents_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_documents, "MAX_HELD_OUT", 10)
    monkeypatch.setattr(repeated_documents, "BLOCK_TOKENS", 100)
    documents = texts(30)
    data = encode_and_split(corpus_of(tmp_path, documents), ByteTokenizer(), corpus_of(tmp_path, documents, "b.txt"))
    assert counts_in(data.train.folder) == Repeated(10, 10)


@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_documents_with_unknown_words_are_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(repeated_documents, "BLOCK_TOKENS", block)
    documents = [f"The order {number} of a customer was sent in May." for number in range(1000, 1300)]
    words = train_tokenizer(["The order of a customer was sent in May."] * 9, TokenizerConfig("word"))
    assert len({tuple(ids) for ids in words.encode_batch(documents)}) == 1
    data = encode_and_split(corpus_of(tmp_path, documents), words)
    assert counts_in(data.train.folder) == Repeated(0, data.valid.summary.documents)
    known = ["The order of a customer was sent in May.", "The customer was sent in May. The order was in May."]
    held_out = corpus_of(tmp_path, [*known, *documents[:9]], "valid.txt")
    data = encode_and_split(corpus_of(tmp_path, [*known, *documents]), words, held_out)
    assert counts_in(data.train.folder) == Repeated(2, 11)


def test_the_training_text_is_not_hashed_where_no_message_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = list[str]()
    of = DocumentHashes.of

    def noted(self: DocumentHashes, path: Path) -> Iterator[Any]:
        hashed.append(path.stem)
        return of(self, path)

    monkeypatch.setattr(DocumentHashes, "of", noted)
    corpus = corpus_of(tmp_path, texts(100))
    for count, names in {1: ["valid"], 2: ["valid", "train"]}.items():
        for short, expected in {18 * count: names, 100: ["valid"]}.items():
            hashed.clear()
            held_out = corpus_of(tmp_path, [*texts(count), *["x"] * short], f"{count}-{short}.txt")
            encode_and_split(corpus, ByteTokenizer(), held_out)
            assert hashed == expected


def test_files_without_the_counts_are_read(tmp_path: Path) -> None:
    folder = encode_and_split(corpus_of(tmp_path, texts(40)), ByteTokenizer()).train.folder
    values = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    assert values.pop("repeated") == {"found": 0, "held_out": 4}
    (folder / SUMMARY).write_text(json.dumps(values), encoding="utf-8")
    assert counts_in(folder) == Repeated()
    for odd in (1, {"found": "x"}, {"more": 1}):
        (folder / SUMMARY).write_text(json.dumps({**values, "repeated": odd}), encoding="utf-8")
        with pytest.raises(CorpusError, match="repeated must hold the counts found, held_out"):
            read_description(folder)
