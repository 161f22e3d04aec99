"""Held-out documents that also occur in the training text: counted whatever their order, and said."""

from __future__ import annotations

import errno
import json
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from prepared import flip, make
from streams import corpus_of

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset import repeated_documents
from textgen.dataset.corpus_preparation import make_on_worker, prepare_corpus
from textgen.dataset.prepared_corpus import COMPARED, PreparedCorpus
from textgen.dataset.repeated_documents import MIN_DOCUMENT_BYTES, DocumentHashes, Repeated
from textgen.dataset.token_cache import encode_and_split
from textgen.dataset.token_files import read_description
from textgen.errors import CorpusError, UnreadableCorpus
from textgen.storage.cache_layout import SUMMARY
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.vocabulary import train_tokenizer
from textgen.training.run_start import encode

MESSAGE = "also occur in the training text, so the validation loss is too low: remove repeated documents."
BUNDLED = Path(__file__).parents[2] / "corpora"


def texts(count: int, length: int = 40, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return ["".join(generator.choices("abcd 月", k=length + number % 9)) + f"{number}" for number in range(count)]


def counts_in(folder: Path) -> tuple[int, int]:
    repeated = read_description(folder).repeated
    return repeated.found, repeated.held_out


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 18])
def test_what_is_held_out_is_found_in_the_training_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(repeated_documents, "BLOCK_TOKENS", block)
    known, others, short = texts(30), texts(20, seed=1), ["x" * (MIN_DOCUMENT_BYTES - 1), "月" * 7]
    train = [*known, *short, "another text that is not held out"]
    valid = [*known[:5], *known[:2], *short, *others, known[7][:-1], known[8] + "."]
    data = encode_and_split(corpus_of(tmp_path, train), ByteTokenizer(), corpus_of(tmp_path, valid, "valid.txt"))
    repeated = read_description(data.train.folder).repeated
    assert repeated == Repeated(
        7, len(valid), *(sum(len(text.encode()) for text in part) for part in (valid[:7], valid))
    )


def test_a_label_does_not_make_another_document(tmp_path: Path) -> None:
    rows = [{"text": text, "by": label} for text in texts(30) for label in "ab"]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = encode_and_split(Corpus([path], CorpusConfig(labels="by")), ByteTokenizer(["a", "b"]))
    found, held_out = counts_in(data.train.folder)
    assert held_out == data.valid.summary.documents
    assert found >= held_out - 2


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


def test_shards_of_a_prepared_corpus_are_compared_with_each_other(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):  # each is a shard
        corpus_of(tmp_path, texts(300), name)
    paths, said = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], list[str]()
    settings = {"tokenizer": "byte", "documents": "line", "shards": 2}

    def prepare(shard: tuple[int, int] | None = None) -> PreparedCorpus:
        said.clear()
        return prepare_corpus(paths, tmp_path / "out", settings, shard=shard, say=said.append)

    prepare((1, 2))
    assert MESSAGE not in said[-1], "nothing is repeated within the shard"
    for shard in ((2, 2), None):  # made, and found complete
        prepared = prepare(shard)
        assert re.fullmatch(rf"\d\d of 60 held-out documents {MESSAGE}", said[-1])
        assert MESSAGE not in said[-2]
    assert prepared.repeated.found > 40
    said.clear()
    encode(Mock(corpus=prepared), said.append)
    assert re.fullmatch(rf"\d\d of 60 held-out documents {MESSAGE}", said[-1])
    assert make_on_worker(paths, str(tmp_path / "out"), 2, 2) == ["Shard 2 of 2 already exists."]


COMPARING = "Comparing the held-out documents with the training text ..."


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose documents are hashed."""
    names = list[str]()
    of = DocumentHashes.of

    def noted(self: DocumentHashes, path: Path) -> Iterator[Any]:
        names.append(path.stem)
        return of(self, path)

    monkeypatch.setattr(DocumentHashes, "of", noted)
    return names


@pytest.mark.parametrize("shards", [1, 2])
def test_a_prepared_corpus_is_compared_once(tmp_path: Path, hashed: list[str], shards: int) -> None:
    corpus_of(tmp_path, [text for text in texts(300) for _ in range(2)])
    said, settings = list[str](), {"shards": shards, "documents": "line"}
    found = make(tmp_path / "text.txt", tmp_path / "out", settings=settings, say=said.append).repeated
    assert found.message
    assert said[-2:] == [said[-2] if shards == 1 else COMPARING, found.message]
    hashed.clear()
    said.clear()
    encode(Mock(corpus=PreparedCorpus(tmp_path / "out")), said.append)
    assert (hashed, said) == ([], [found.message])
    assert PreparedCorpus(tmp_path / "out").repeated == found


@pytest.mark.parametrize("values", [None, "x", {}, {"prepared": "x"}, {"found": -1}, {"found": 9, "held_out": 8}])
def test_a_prepared_corpus_without_the_counts_is_compared_again(
    tmp_path: Path, hashed: list[str], values: object
) -> None:
    corpus_of(tmp_path, [text for text in texts(300) for _ in range(2)])
    found = make(tmp_path / "text.txt", tmp_path / "out").repeated
    path, said = tmp_path / "out" / COMPARED, list[str]()
    if values is None:
        path.unlink()
    else:
        of_this = {"prepared": PreparedCorpus(tmp_path / "out").fingerprint()} if values else {}
        path.write_text(json.dumps({**of_this, **values} if isinstance(values, dict) else values), encoding="utf-8")
    hashed.clear()
    for _ in range(2):
        encode(Mock(corpus=PreparedCorpus(tmp_path / "out")), said.append)
    assert said == [COMPARING, found.message, found.message]
    assert hashed == ["valid"] * 3 + ["train"] * 3


def test_a_prepared_corpus_is_compared_again_when_a_shard_is_made_again_of_other_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Corpus, "glance", lambda _: "as before")  # which may miss a change in the middle of a file
    monkeypatch.setattr(Corpus, "section_glance", lambda *_: "")
    first, settings, said = texts(300), {"shards": 2, "documents": "line"}, list[str]()
    corpus_of(tmp_path, first)
    assert not make(tmp_path / "text.txt", tmp_path / "out", settings=settings).repeated.message
    shutil.rmtree(tmp_path / "out" / "shard-00002-of-00002")
    corpus_of(tmp_path, [*first[:150], *(text for text in first[150:225] for _ in range(2))])
    prepared = make(tmp_path / "text.txt", tmp_path / "out", settings=settings, say=said.append)
    assert said[-2] == COMPARING
    assert MESSAGE in said[-1]
    assert PreparedCorpus(tmp_path / "out").repeated == prepared.repeated


def test_a_damaged_shard_is_named_before_it_is_compared_with_others(tmp_path: Path) -> None:
    corpus_of(tmp_path, [text for text in texts(300) for _ in range(2)])
    make(tmp_path / "text.txt", tmp_path / "out", shard=(2, 2))
    make(tmp_path / "text.txt", tmp_path / "out", shard=(1, 2))
    (tmp_path / "out" / COMPARED).unlink()
    flip(tmp_path / "out" / "shard-00001-of-00002" / "train.bin")
    said = list[str]()
    prepared = make(tmp_path / "text.txt", tmp_path / "out", shard=(2, 2), say=said.append)
    damage = r"1 of 2 shards are .* damaged: shard 1: train\.bin was altered"
    assert re.search(damage, said[-1])
    with pytest.raises(CorpusError, match=damage):
        prepared.say_repeated(said.append)


def test_documents_repeated_within_a_shard_are_said_before_the_others_are_made(tmp_path: Path) -> None:
    path, settings = tmp_path / "text.txt", {"tokenizer": "byte", "documents": "line"}
    corpus_of(tmp_path, [text for text in texts(300) for _ in range(2)])
    for shards, start in {1: "", 2: "Shard 1: "}.items():
        said = list[str]()
        prepare_corpus([str(path)], tmp_path / f"{shards}", settings, shard=(1, shards), say=said.append)
        assert [line for line in said if MESSAGE in line] == said[-1:]
        assert re.match(rf"{start}\d\d of \d\d held-out", said[-1])


@pytest.mark.parametrize(
    ("name", "mode"), [("fables.txt", "blank-line"), ("verse.txt", "blank-line"), ("verse.txt", "line")]
)
def test_nothing_is_said_of_ordinary_texts(name: str, mode: str) -> None:
    said = list[str]()
    data = encode_and_split(Corpus([BUNDLED / name], CorpusConfig(documents=mode)), ByteTokenizer(), say=said.append)
    assert said == []
    assert counts_in(data.train.folder)[1] >= 20


@pytest.mark.parametrize(
    ("found", "held_out", "is_said"), [(1, 10, False), (2, 40, True), (2, 41, False), (5, 100, True), (0, 0, False)]
)
def test_few_repeated_documents_are_not_worth_a_message(found: int, held_out: int, is_said: bool) -> None:
    assert bool(Repeated(found, held_out, 10 * found, 100 * held_out).message) is is_said


@pytest.mark.parametrize(("size", "is_said"), [(0, False), (19, False), (20, True), (100, True)])
def test_few_repeated_documents_are_said_if_they_are_a_large_part_of_the_text(size: int, is_said: bool) -> None:
    said = f"1 of 50 held-out documents, {size}.0 % of the held-out text, also occurs{MESSAGE[10:]}"
    assert Repeated(1, 50, size, 100).message == (said if is_said else "")


def test_a_copy_of_a_training_file_does_not_pass_as_held_out_text(tmp_path: Path) -> None:
    paths, said = [tmp_path / "train.txt", tmp_path / "other.txt", tmp_path / "copy.txt"], list[str]()
    for path, text in zip(paths, ("one two " * 9, "three four " * 9, "one two " * 9), strict=True):
        path.write_text(text)
    train, valid = Corpus(paths[:2], CorpusConfig(documents="file")), Corpus(paths[2:], CorpusConfig(documents="file"))
    encode_and_split(train, ByteTokenizer(), valid, say=said.append)
    assert said == [f"1 of 1 held-out document, 100.0 % of the held-out text, also occurs{MESSAGE[10:]}"]


def test_only_so_many_held_out_documents_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_documents, "MAX_HELD_OUT", 10)
    monkeypatch.setattr(repeated_documents, "BLOCK_TOKENS", 100)
    documents = texts(30)
    data = encode_and_split(corpus_of(tmp_path, documents), ByteTokenizer(), corpus_of(tmp_path, documents, "b.txt"))
    assert counts_in(data.train.folder) == (10, 10)


@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_documents_with_unknown_words_are_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(repeated_documents, "BLOCK_TOKENS", block)
    documents = [f"The order {number} of a customer was sent in May." for number in range(1000, 1300)]
    words = train_tokenizer(["The order of a customer was sent in May."] * 9, TokenizerConfig("word"))
    assert len({tuple(ids) for ids in words.encode_batch(documents)}) == 1
    data = encode_and_split(corpus_of(tmp_path, documents), words)
    assert counts_in(data.train.folder) == (0, data.valid.summary.documents)
    known = ["The order of a customer was sent in May.", "The customer was sent in May. The order was in May."]
    held_out = corpus_of(tmp_path, [*known, *documents[:9]], "valid.txt")
    data = encode_and_split(corpus_of(tmp_path, [*known, *documents]), words, held_out)
    assert counts_in(data.train.folder) == (2, 11)


def test_the_training_text_is_not_hashed_where_no_message_is_possible(tmp_path: Path, hashed: list[str]) -> None:
    corpus = corpus_of(tmp_path, texts(100))
    for count, names in {1: ["valid"], 2: ["valid", "train"]}.items():
        for short, expected in {18 * count: names, 100: ["valid"]}.items():
            hashed.clear()
            too_short = ["x" * (MIN_DOCUMENT_BYTES - 1)] * short
            held_out = corpus_of(tmp_path, [*texts(count), *too_short], f"{count}-{short}.txt")
            encode_and_split(corpus, ByteTokenizer(), held_out)
            assert hashed == expected


def test_files_without_the_counts_are_read(tmp_path: Path) -> None:
    folder = encode_and_split(corpus_of(tmp_path, texts(40)), ByteTokenizer()).train.folder
    values = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    assert values.pop("repeated").items() >= {"found": 0, "held_out": 4}.items()
    (folder / SUMMARY).write_text(json.dumps(values), encoding="utf-8")
    assert counts_in(folder) == (0, 0)
    for odd in (1, {"found": "x"}, {"more": 1}, {"found_bytes": 1}):
        (folder / SUMMARY).write_text(json.dumps({**values, "repeated": odd}), encoding="utf-8")
        with pytest.raises(CorpusError, match=r"repeated (must hold the counts found|counts more)"):
            read_description(folder)


def test_an_error_of_the_disk_is_not_taken_for_the_end_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Mock(read=Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    file.name = "train.bin"
    monkeypatch.setattr(Path, "open", lambda path, mode: nullcontext(file))
    hashes = DocumentHashes(np.dtype(np.uint16), 0, 1, np.ones(300, np.int64), None)
    with pytest.raises(UnreadableCorpus, match=r"Cannot read train\.bin: Input/output error"):
        next(hashes.of(tmp_path / "train.bin"))
