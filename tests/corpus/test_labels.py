"""Labels on their way: corpus, vocabulary, streams, batches, scores, texts; and what cannot be a label."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import weights_of
from plain_fakes import TableModel, writable
from streams import EOS, PAD, ends_of

from textgen.corpus import documents
from textgen.corpus import labels as corpus_labels
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.corpus.labels import MAX_LABEL_CHARS, MAX_LABELS, NAMED, json_label, named, unknown_label, worth_learning
from textgen.dataset.batches import Batches
from textgen.dataset.config import SplitConfig
from textgen.dataset.corpus_preparation import prepare_corpus
from textgen.dataset.ngram_index import index_stream
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.token_cache import encode_and_split, encode_corpus
from textgen.dataset.token_stream import TokenStream
from textgen.errors import ConfigError, CorpusError, TextgenError, TokenizerError
from textgen.evaluation.anomalies import follow
from textgen.evaluation.scoring import Scorer
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.suggestions import Suggester
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TOKENIZERS, TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer, load_tokenizer
from textgen.tokenizer.model_file import read_tokenizer
from textgen.tokenizer.vocabulary import add_labels, learn_vocabulary, train_tokenizer
from textgen.training.config import TrainingConfig
from textgen.training.planning.plan import Hardware, Sources, make_plan
from textgen.training.planning.vocabulary import corpus_facts

LABELS = ["Li Bai", "poe", "<unk>", "\\n|"]
TEXT = "The cat saw the dog.\n<label poe> 床前明月光\n"
KINDS = {kind: train_tokenizer([TEXT] * 9, TokenizerConfig(kind)) for kind in TOKENIZERS}
BYTES = ByteTokenizer(["a", "b"])
NONE, A, B = range(259, 262)


def table(folder: Path, rows: list[tuple[str, str]], name: str = "rows.csv") -> Path:
    """Labels and texts as a table or as JSON lines."""
    path = folder / name
    if name.endswith("jsonl"):
        path.write_text("".join(json.dumps({"by": label, "text": text}) + "\n" for label, text in rows))
        return path
    file = io.StringIO()
    csv.writer(file, delimiter="\t" if name == "tabs.csv" else ",").writerows([("by", "text"), *rows])
    path.write_text(file.getvalue(), encoding="utf-8")
    return path


def parts_of(*paths: Path, labels: str = "by", **config: Any) -> list[tuple[str | None, str]]:
    return [(part.label, part.text) for part in Corpus(paths, CorpusConfig(labels=labels, **config)).parts()]


# === Corpus ===


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_label_that_no_vocabulary_can_hold_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    path = table(tmp_path, [("poe", "one"), ("a\0b", "two")], name)
    with pytest.raises(CorpusError, match=rf"{name}, line [23]: the label 'a\\x00b' has the character U\+0000.*Remove"):
        parts_of(path)


@pytest.mark.parametrize(("length", "message"), [(6000, "a label of 6,000 characters"), (200, r"has the character U")])
def test_a_label_with_a_wrong_character_does_not_make_a_long_message(length: int, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as refused:
        json_label("x\0".ljust(length, "y"), "by", "rows.jsonl, line 1")
    assert len(str(refused.value)) < 400


def test_labels_with_a_comma_are_quoted_in_a_list() -> None:
    assert named(["Poe, Edgar", "Stoker", "a,b"]) == '"Poe, Edgar", Stoker, a,b'


def test_labels_like_an_unknown_one_are_named_first() -> None:
    labels = ["Mary Shelley", "Edgar Allan Poe", *(f"{number} Stoker" for number in range(50))]
    message = unknown_label("alan po", labels)
    assert message.startswith("There is no label 'alan po'. There are: Edgar Allan Poe, ")
    assert message.endswith(f" and {len(labels) - NAMED} more.")


@pytest.mark.parametrize("labels", [[], ["poe"]])
def test_the_message_for_a_long_unknown_label_is_short_and_quick(
    labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    class Matcher(SequenceMatcher[str]):
        def set_seq2(self, b: Sequence[str]) -> None:
            compared.append(str(b))
            super().set_seq2(b)

    monkeypatch.setattr(corpus_labels, "SequenceMatcher", Matcher)
    message = unknown_label("ae" * 450_000, labels)
    assert "'" + "ae" * (MAX_LABEL_CHARS // 2) + "...'" in message
    assert len(message) < 400
    assert all(len(text) <= MAX_LABEL_CHARS for text in compared)


@pytest.mark.parametrize("name", ["rows.csv", "tabs.csv", "rows.jsonl"])
def test_a_column_or_field_holds_the_labels(tmp_path: Path, name: str) -> None:
    rows = [("poe", "one"), ("  Li \n Bai ", "two\nlines"), ("", "three"), ("poe", " "), ("poe", "four")]
    corpus = Corpus([table(tmp_path, rows, name)], CorpusConfig(labels="by"))
    assert [(part.label, part.text) for part in corpus.parts()] == [
        ("poe", "one"), ("Li Bai", "two\nlines"), (None, "three"), ("poe", "four"),
    ]  # fmt: skip
    assert corpus.labels() == corpus.stats().labels == {"poe": 2, "Li Bai": 1}
    unlabelled = Corpus([tmp_path / name])
    assert unlabelled.labels() == {}
    assert {part.label for part in unlabelled.parts()} == {None}
    assert unlabelled.fingerprint() != corpus.fingerprint()


@pytest.mark.parametrize("mode", ["file", "line", "blank-line"])
def test_folders_are_labels(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PART_CHARS", 4)
    for name in ("poe", "Li Bai"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text("some words\n\nmore")
    table(tmp_path / "poe", [("ignored", "row")])
    found = parts_of(tmp_path, labels="folder", documents=mode)
    assert {label for label, _ in found} == {"poe", "Li Bai"}
    for label, extra in (("Li Bai", ""), ("poe", "row")):
        text = "".join(text for name, text in found if name == label)
        assert text.replace("\n", "") == extra + "some wordsmore", "long parts have the label of their document, too"
    assert len(found) > 4


@pytest.mark.parametrize("is_named", [False, True])
def test_a_linked_file_has_the_label_of_the_folder_of_the_link(
    tmp_path: Path, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blobs").mkdir()
    for name in ("poe", "Li Bai"):
        (tmp_path / "by" / name).mkdir(parents=True)
        (tmp_path / "blobs" / name).write_text(f"words of {name}")
        (tmp_path / "by" / name / "a.txt").symlink_to(tmp_path / "blobs" / name)
    monkeypatch.chdir(tmp_path / "by" / "poe")
    paths = [Path("a.txt"), Path("../Li Bai/a.txt")] if is_named else [tmp_path / "by"]
    assert sorted(parts_of(*paths, labels="folder")) == [("Li Bai", "words of Li Bai"), ("poe", "words of poe")]


def test_a_file_that_is_linked_from_several_folders_has_each_of_their_labels(tmp_path: Path) -> None:
    for name, songs in {"blues": ["1", "2"], "jazz": ["2", "3", "3 again"]}.items():
        (tmp_path / "by" / name).mkdir(parents=True)
        for song in songs:
            (tmp_path / f"{song[0]}.txt").write_text(f"song {song[0]}")
            (tmp_path / "by" / name / song).symlink_to(tmp_path / f"{song[0]}.txt")
    corpus = Corpus([tmp_path / "by"], CorpusConfig(labels="folder", documents="file"))
    assert corpus.labels() == {"blues": 2, "jazz": 2}
    labelled = {("blues", "song 1"), ("blues", "song 2"), ("jazz", "song 2"), ("jazz", "song 3")}
    sections = [part for index in range(3) for part in corpus.section(index, 3)]
    assert {(part.label, part.text) for part in sections} == labelled
    assert sorted(text for _, text in parts_of(tmp_path / "by", documents="file")) == ["song 1", "song 2", "song 3"]


def test_a_corpus_with_other_folders_is_another_corpus(tmp_path: Path) -> None:
    prints = []
    for name in ("poe", "bai"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text("some words")
        for labels in (None, "folder"):
            corpus = Corpus([tmp_path / name], CorpusConfig(labels=labels))
            prints.append((corpus.fingerprint(), corpus.glance()))
    assert prints[0] == prints[2], "where names do not matter"
    assert len(set(prints)) == 3


def test_a_pipe_has_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"some words"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert parts_of(Path("-"), labels="folder") == [(None, "some words")]


@pytest.mark.parametrize(
    ("value", "expected"), [(1987, "1987"), (None, None), (" a  b ", "a b"), (0.5, "0.5"), (" ", None)]
)
def test_values_of_json(value: Any, expected: str | None) -> None:
    assert json_label(value, "by", "here") == expected


def test_a_string_or_an_object_without_the_field_has_no_label(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('"x"\n{"text": "y", "of": "b"}\n{"text": "z", "by": "a"}\n')
    assert parts_of(path, labels="by") == [(None, "x"), (None, "y"), ("a", "z")]


BAD_CORPORA = [
    ("rows.csv", "by,text\na,b\n", "autor", "No document has a label 'autor'. .* There are: by, text."),
    ("rows.csv", "text, by\nb,a\n", "by", "There are: text, ' by'."),
    ("rows.tsv", "by\ttext\na\tb\n", "autor", "There are: by, text."),
    ("rows.jsonl", '{"by": "a", "text": "b"}\n', "autor", "There are: by, text."),
    ("rows.jsonl", '"b"\n', "autor", "neither columns nor fields"),
    ("plain.txt", "by,text\na,b\n", "by", "neither columns nor fields"),
    ("rows.csv", "by,text\n,b\n", "by", "No document has a label 'by'"),
    ("rows.jsonl", '{"by": ["a"], "text": "b"}\n', "by", r"rows.jsonl, line 1: field 'by' does not contain a label"),
    ("rows.jsonl", '{"by": true, "text": "b"}\n', "by", "line 1: field 'by' does not contain a label"),
    ("rows.jsonl", '{"by": "\\ud83d", "text": "b"}\n', "by", "line 1: field 'by' contains half of a character"),
    ("rows.csv", f"by,text\n{'a' * 201},b\n", "by", "rows.csv, line 2: a label of 201 characters"),
]


@pytest.mark.parametrize(("name", "content", "labels", "message"), BAD_CORPORA)
def test_bad_labels_are_said(tmp_path: Path, name: str, content: str, labels: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=message):
        Corpus([tmp_path / name], CorpusConfig(labels=labels)).labels()


def test_a_label_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="labels must be the name"):
        CorpusConfig(labels="")


def test_rare_labels_are_left_out() -> None:
    assert worth_learning({"a": 1, "b": 2}) == ["b", "a"]
    assert worth_learning({"a": 596, "b": 4, "c": 5}) == ["a", "c"]
    assert worth_learning({"a": 294, "b": 2, "c": 3}) == ["a", "c"]
    assert len(worth_learning({str(number): 9 for number in range(2 * MAX_LABELS)})) == MAX_LABELS
    assert worth_learning({}) == []
    assert worth_learning({"a": 596, "b": 4, "c": 3}, known=["c"]) == ["a", "c"]
    assert named([str(number) for number in range(25)], 3) == "0, 1, 2 and 22 more"


# === Vocabulary ===


@pytest.mark.parametrize(("number", "least"), [(200, "2 documents"), (600, "5 documents")])
def test_a_column_whose_labels_are_all_rare_is_refused(tmp_path: Path, number: int, least: str) -> None:
    rows = [(f"day {row}", f"The fox met the miller {row} times.") for row in range(number)]
    corpus = Corpus([table(tmp_path, rows)], CorpusConfig(labels="by"))
    assert len(corpus.labels()) == number, "they can be counted"
    expected = re.escape(
        f"Each label of 'by' is in fewer than {least}, too few to learn from. Set labels to a column or field with "
        "fewer different values, or leave it out."
    )
    for learn in (
        lambda: corpus_facts(corpus, {}, Sources()),
        lambda: learn_vocabulary(corpus, TokenizerConfig("char")),
        lambda: learn_vocabulary(corpus, TokenizerConfig("byte")),
        lambda: add_labels(ByteTokenizer(), corpus),
        lambda: add_labels(ByteTokenizer(["poe"]), corpus),
    ):
        with pytest.raises(CorpusError, match=f"^{expected}$"):
            learn()


def test_folders_that_are_all_rare_labels_are_refused_with_advice_about_folders(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"day {number}").mkdir()
        (tmp_path / f"day {number}" / "a.txt").write_text(f"The fox met the miller {number} times.", encoding="utf-8")
    with pytest.raises(CorpusError) as caught:
        Corpus([tmp_path], CorpusConfig(labels="folder")).labels_to_learn()
    assert str(caught.value) == (
        "Each folder has fewer than 2 documents, too few to learn a label from. Put the files into fewer folders, or "
        "leave labels out."
    )


def test_rare_labels_that_a_vocabulary_has_already_are_used(tmp_path: Path) -> None:
    rows = [(f"day {row}", f"The fox met the miller {row} times.") for row in range(200)]
    corpus, known = Corpus([table(tmp_path, rows)], CorpusConfig(labels="by")), ByteTokenizer(["day 7", "poe"])
    assert add_labels(known, corpus).labels == ("day 7", "poe")
    assert corpus_facts(corpus, {}, Sources(tokenizer=known)).labels == ("day 7",)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_labels_stand_behind_all_other_pieces(kind: str, tmp_path: Path) -> None:
    plain = KINDS[kind]
    tokenizer = plain.with_labels(LABELS)
    assert tokenizer.labels == tuple(LABELS)
    assert tokenizer.first_label == plain.vocab_size == tokenizer.vocab_size - 1 - len(LABELS)
    assert tokenizer.pieces()[: plain.vocab_size] == plain.pieces()
    assert tokenizer.piece_bytes[: plain.vocab_size] == plain.piece_bytes
    assert tokenizer.pieces()[plain.vocab_size :] == [
        "<no label>", "<label Li Bai>", "<label poe>", "<label <unk>>", "<label \\\\n|>",
    ]  # fmt: skip
    assert [tokenizer.opening(label)[1] - plain.vocab_size for label in (None, *LABELS)] == [0, 1, 2, 3, 4]
    assert tokenizer.never_written == [0, 1, *range(plain.vocab_size, tokenizer.vocab_size)]
    assert tokenizer.decode(range(plain.vocab_size, tokenizer.vocab_size)) == ""
    tokenizer.save(tmp_path / "tokenizer.model")
    for again in (load_tokenizer(tokenizer.serialized), read_tokenizer(tmp_path / "tokenizer.model")):
        assert (again.labels, again.pieces(), again.fingerprint()) == (
            tokenizer.labels, tokenizer.pieces(), tokenizer.fingerprint(),
        )  # fmt: skip
    assert tokenizer.fingerprint() != plain.fingerprint()
    assert plain.opening() == [plain.eos_id]
    assert plain.first_label == plain.vocab_size


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=30, deadline=None)
@given(
    text=st.text() | st.text("<label poe>\u2581 ") | st.sampled_from(["<label poe>", "<no label>", "<label\u2581poe>"])
)
def test_no_text_is_a_label(kind: str, text: str) -> None:
    tokenizer = KINDS[kind].with_labels(LABELS)
    ids = tokenizer.encode(text)
    assert ids == KINDS[kind].encode(text)
    assert max(ids, default=0) < tokenizer.first_label


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_more_labels_leave_those_before_in_their_places(kind: str) -> None:
    first = KINDS[kind].with_labels(["a", "b"])
    more = first.with_labels(["c", "b", "é"])
    assert more.labels == ("a", "b", "c", "é")
    assert more.pieces()[: first.vocab_size] == first.pieces()
    assert first.with_labels(["b", "a"]) is first
    assert all(smaller.is_part_of(more) for smaller in (KINDS[kind], first, more))
    assert not more.is_part_of(first)
    assert not KINDS[kind].with_labels(["b"]).is_part_of(more)
    assert not KINDS["char" if kind != "char" else "bpe"].is_part_of(more)


def test_an_unknown_label_is_answered_with_the_likest_ones() -> None:
    tokenizer = BYTES.with_labels(["Shelley", "Poe", "Stoker"])
    with pytest.raises(ConfigError, match=r"no label 'poet'\. There are: Poe, "):
        tokenizer.opening("poet")
    with pytest.raises(ConfigError, match="trained without labels"):
        ByteTokenizer().opening("poet")


@pytest.mark.parametrize("serialized", [b"[", b"[1]", b'[""]', b"[" * 100_000])
def test_damaged_labels_are_said(serialized: bytes) -> None:
    with pytest.raises(TokenizerError, match="is damaged"):
        load_tokenizer(serialized)


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_labels_come_on_top_of_the_vocabulary_size(tmp_path: Path, kind: str) -> None:
    corpus = Corpus([table(tmp_path, [("a", "the cat"), ("b", "the dog")] * 9)], CorpusConfig(labels="by"))
    plain = learn_vocabulary(Corpus([tmp_path / "rows.csv"]), TokenizerConfig(kind))
    assert learn_vocabulary(corpus, TokenizerConfig(kind, plain.vocab_size)).vocab_size == plain.vocab_size + 3


# === Streams and batches ===


def stream_of(folder: Path, rows: list[tuple[str, str]], label: str | None = None) -> TokenStream:
    folder.mkdir(exist_ok=True)
    return encode_corpus(Corpus([table(folder, rows)], CorpusConfig(labels="by")), BYTES, folder / "tokens", label)


def test_a_document_begins_with_its_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "PART_CHARS", 2)  # the label stands before the first part alone
    rows = [("a", "xyz!"), ("b", "x"), ("", "y"), ("unknown", "z")]
    x, y, z, mark = BYTES.encode("xyz!")
    stream = stream_of(tmp_path / "own", rows)
    assert stream.first_label == NONE
    assert stream.read(0, len(stream)).tolist() == [A, x, y, z, mark, EOS, B, x, EOS, NONE, y, EOS, NONE, z, EOS]
    assert [ends.tolist() for ends in stream.document_ends()] == [[6, 9, 12, 15]]
    assert stream.counts.sum() == 11
    assert not stream.counts[NONE:].any(), "labels are not to be predicted"
    assert (stream.summary.tokens, stream.summary.bytes, stream.summary.characters) == (15, 7, 7)
    forced = stream_of(tmp_path / "forced", rows, "b")
    assert (forced.read(0, len(forced)) == B).sum() == 4
    with pytest.raises(ConfigError, match="no label 'c'"):
        stream_of(tmp_path / "wrong", rows, "c")


def test_what_is_held_out_of_a_document_has_its_label(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "text.txt").write_text("0123456789")
    data = encode_and_split(
        Corpus([tmp_path], CorpusConfig(labels="folder", documents="file")), BYTES, SplitConfig(0.2)
    )
    assert data.train.read(0, 9).tolist() == [A, *BYTES.encode("01234567")]
    assert data.valid.read(0, 4).tolist() == [A, *BYTES.encode("89"), EOS]


def test_labels_are_read_and_never_asked_for(tmp_path: Path) -> None:
    x, y = BYTES.encode("xy")
    stream = stream_of(tmp_path, [("a", "xy"), ("b", "y")])
    ((inputs, targets),) = Batches(stream, 1, 7, PAD).epoch(0)
    assert inputs.tolist() == [[EOS, A, x, y, EOS, B, y]]
    assert targets.tolist() == [[PAD, x, y, EOS, PAD, y, EOS]]


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 3), st.data())
def test_withheld_labels_are_a_function_of_seed_epoch_and_place(
    labelled: TokenStream, batch_size: int, sequence_length: int, epoch: int, data: st.DataObject
) -> None:
    def inputs(batches: Iterator[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        rows = np.concatenate([inputs for inputs, _ in batches], axis=1)
        return rows[rows != PAD]

    batches = Batches(labelled, batch_size, sequence_length, PAD, 7, label_dropout=0.4)
    ring = inputs(batches.epoch(epoch))
    assert np.array_equal(ring, inputs(Batches(labelled, 2, 5, PAD, 7, label_dropout=0.4).epoch(epoch)))
    kept = inputs(Batches(labelled, 2, 5, PAD, 7).epoch(epoch))
    changed = ring != kept
    assert (ring[changed] == NONE).all()
    assert (kept[changed] > NONE).all()
    assert 0.2 < changed.sum() / 200 < 0.6
    step = data.draw(st.integers(0, batches.steps_in() - 1))
    for one, other in zip(batches.epoch(epoch, step), list(batches.epoch(epoch))[step:], strict=True):
        assert all(map(np.array_equal, one, other))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    return stream_of(tmp_path_factory.mktemp("labelled"), [("a", "xy"), ("b", "zz")] * 100)


def test_other_labels_are_withheld_in_each_epoch(labelled: TokenStream) -> None:
    def withheld(seed: int, epoch: int) -> int:
        batches = Batches(labelled, 1, len(labelled), PAD, seed, label_dropout=0.5)
        return sum(int((inputs == NONE).sum()) for inputs, _ in batches.epoch(epoch))

    assert len({withheld(seed, epoch) for seed in range(4) for epoch in range(4)}) > 4
    assert TrainingConfig().label_dropout > 0


def test_copies_are_found_whatever_their_label(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, [("a", "a text that the model has read"), ("b", "short")])
    index = index_stream(stream, BYTES)
    assert index.novelty("a text that the model has read", BYTES).copied_fraction == 1.0
    found = index.novelty_of_ids(stream.read(0, len(stream)), BYTES)
    assert found.copied_fraction == 1.0
    assert found.ngrams == 30 - index.ngram + 1, "none of them holds a label"


def test_shards_know_the_labels_of_the_whole_corpus(tmp_path: Path) -> None:
    for name in ("poe", "bai"):
        (tmp_path / "in" / name).mkdir(parents=True)
        lines = "".join(f"{name} writes line {number}\n" for number in range(100))
        (tmp_path / "in" / name / "text.txt").write_text(lines)
    settings = {"labels": "folder", "documents": "line", "tokenizer": "byte", "valid_fraction": 0.1, "shards": 3}
    prepared = prepare_corpus([str(tmp_path / "in")], tmp_path / "out", settings)
    assert prepared.tokenizer.labels == ("bai", "poe")
    tokenizer, texts = prepared.tokenizer, []
    for stream in (prepared.data().train, prepared.data().valid):
        for start, end in pairwise([0, *ends_of(stream)]):
            label, *ids = stream.read(start, end).tolist()
            texts.append((tokenizer.piece(label), tokenizer.decode(ids)))
    expected = [(f"<label {name}>", f"{name} writes line {number}") for name in ("poe", "bai") for number in range(100)]
    assert sorted(texts) == sorted(expected)
    again = prepare_corpus([str(tmp_path / "in")], tmp_path / "out", {"vocab_size": tokenizer.first_label})
    assert again.fingerprint() == prepared.fingerprint() == PreparedCorpus(tmp_path / "out").fingerprint()
    with pytest.raises(ConfigError, match="prepared with labels 'folder', not 'by'"):
        make_plan(prepared, {"labels": "by"}, hardware=Hardware(flops=1e11))
    assert make_plan(prepared, {"batch_size": 1}, hardware=Hardware(flops=1e11)).facts.labels == ("bai", "poe")


def test_a_prepared_folder_adds_labels_to_a_vocabulary_that_is_taken_over(tmp_path: Path) -> None:
    path = table(tmp_path, [("a", "the cat"), ("b", "the dog")] * 30)
    settings = {"labels": "by", "valid_fraction": 0.1}
    prepared = prepare_corpus([str(path)], tmp_path / "out", settings, tokenizer=KINDS["char"])
    assert prepared.tokenizer.labels == ("a", "b")
    prepared.require({}, KINDS["char"])
    with pytest.raises(ConfigError, match="another vocabulary"):
        prepared.require({}, KINDS["char"].with_labels(["b"]))


# === Scores and texts ===


class Losses(TableModel):
    """Scores, too."""

    def token_losses(self, inputs: np.ndarray, targets: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        nats = np.zeros(inputs.shape)
        for t in range(inputs.shape[1]):
            logits, state = self.step(inputs[:, t], state)
            chosen = logits[np.arange(len(logits)), targets[:, t]]
            nats[:, t] = np.log(np.exp(logits.astype(np.float64)).sum(axis=-1)) - chosen
        return nats, state


@pytest.fixture(scope="module")
def model() -> Losses:
    return Losses(BYTES.vocab_size)


def nats_by_hand(model: TableModel, before: list[int], ids: list[int]) -> float:
    return -sum(model.log_probs([*before, *ids[:at]])[id] for at, id in enumerate(ids))


@pytest.mark.parametrize("label", [None, "a", "b"])
def test_a_text_is_scored_after_its_label_which_costs_nothing(model: Losses, label: str | None) -> None:
    for text, score in zip(["xy", "", "z"], Scorer(model, BYTES).scores(["xy", "", "z"], label=label), strict=True):
        expected = nats_by_hand(model, BYTES.opening(label), [*BYTES.encode(text), EOS])
        assert score.total.nats == pytest.approx(expected, rel=1e-5)
        assert (score.total.tokens, score.total.bytes) == (len(text) + 1, len(text))
        assert list(score.ids) == [*BYTES.encode(text), EOS]


@pytest.mark.parametrize("documents", ["file", "line", "blank-line"])
def test_lines_are_scored_after_the_label_of_their_document(model: Losses, documents: str) -> None:
    lines = ["xy", "z", "", "", "yy"]
    found = {line.line: line.bits for line in follow(Scorer(model, BYTES), lines, documents, label="b")}
    opening, (x, y, z, newline) = BYTES.opening("b"), BYTES.encode("xyz\n")
    by_mode = {
        "file": [(opening, [x, y, newline]), ([*opening, x, y, newline], [z, newline])],
        "line": [(opening, [x, y, EOS]), ([*opening, x, y, *opening], [z, EOS])],
        "blank-line": [(opening, [x, y]), ([*opening, x, y], [newline, z])],
    }
    for number, (before, ids) in enumerate(by_mode[documents], 1):
        assert found[number] == pytest.approx(nats_by_hand(model, before, ids) / math.log(2), rel=1e-5)
    last = {"line": [*opening, x, y, *opening, z, *opening], "blank-line": [*opening, x, y, newline, z, *opening]}
    if documents in last:
        ids = [y, y, EOS] if documents == "line" else [y, y]
        assert found[5] == pytest.approx(nats_by_hand(model, last[documents], ids) / math.log(2), rel=1e-5)


def test_evaluation_counts_no_labels(tmp_path: Path) -> None:
    """All pieces are equally likely: the labels of the text change nothing."""
    from textgen.model.config import ModelConfig
    from textgen.system.runtime import load_tensorflow

    load_tensorflow()
    from textgen.evaluation.evaluator import Evaluator
    from textgen.model.language_model import LanguageModel

    config = ModelConfig(BYTES.vocab_size, embedding_dim=4, hidden_units=4, num_layers=1)
    uniform = LanguageModel(config, pad_id=PAD)
    uniform.assign_weights({name: np.zeros(shape, np.float32) for name, shape in config.weight_shapes().items()})
    scores = Evaluator(uniform).scores(stream_of(tmp_path, [("a", "ab cd ab"), ("b", "é!")]))
    assert (scores.tokens, scores.bytes, scores.words) == (13, 11, 6)
    assert scores.nats_per_token == pytest.approx(math.log(262), rel=1e-6)
    assert scores.bits_per_byte == pytest.approx(13 * math.log2(262) / 11, rel=1e-6)


@pytest.fixture
def generator(model: Losses) -> Generator:
    return Generator(model, BYTES)


def greedy(model: TableModel, before: list[int], number: int) -> tuple[int, ...]:
    ids = list(before)
    for _ in range(number):
        log_probs = np.where(writable(BYTES, ids[len(before) :]), model.log_probs(ids), -np.inf)
        ids.append(int(np.argmax(log_probs)))
    return tuple(ids[len(before) :])


def test_a_text_goes_on_after_its_label(generator: Generator, model: TableModel) -> None:
    config = SamplingConfig(temperature=0.0, max_tokens=8, heal=False)
    for prompt in ("", "xy"):
        for label in (None, "a", "b"):
            (found,) = generator.generate(prompt, SamplingConfig(**{**vars(config), "label": label}))
            expected = greedy(model, [*BYTES.opening(label), *BYTES.encode(prompt)], 8)
            assert found.ids == expected[: len(found.ids)]


def test_one_batch_has_texts_of_many_labels(generator: Generator) -> None:
    configs = [SamplingConfig(max_tokens=20, seed=seed, label=label) for seed in range(5) for label in (None, "a", "b")]
    from textgen.generation.request import Request

    together = list(generator.generate_requests([Request("x", config) for config in configs]))
    assert len({found.text for found in together}) > 10
    for config, found in zip(configs, together, strict=True):
        assert generator.generate("x", config)[0].text == found.text == "".join(generator.stream("x", config))


def test_no_label_is_drawn(model: TableModel) -> None:
    model = Losses(BYTES.vocab_size)
    model.tables[:, :, NONE:] += 50.0  # it would like to
    generator = Generator(model, BYTES)
    config = SamplingConfig(temperature=2.0, min_p=0.0, max_tokens=200, seed=1)
    ids = [id for found in generator.generate("", config, num=5) for id in found.ids]
    assert len(ids) > 100
    assert max(ids) < NONE
    assert all(max(found.ids) < NONE for found in generator.search("x", SamplingConfig(max_tokens=5)))
    assert Suggester(model, BYTES).suggest("x", length=3)


def test_suggestions_go_by_the_label(model: TableModel) -> None:
    for label in (None, "a", "b"):
        before = [*BYTES.opening(label), *BYTES.encode("x")]
        p = np.where(writable(BYTES, before), np.exp(model.log_probs(before)), 0.0)
        best = max(Suggester(model, BYTES, num=259, label=label).suggest("x", length=1), key=lambda s: s.probability)
        (piece,) = BYTES.encode(best.text)
        assert best.probability == pytest.approx(p[piece] / p.sum(), rel=1e-4)


def test_a_text_that_has_begun_keeps_its_label(generator: Generator, tmp_path: Path) -> None:
    whole = SamplingConfig(max_tokens=12, seed=1, label="b", temperature=0.0, heal=False)
    writing = generator.tokens("x", whole)
    pieces = [next(writing) for _ in range(3)]
    generator.save_state(tmp_path / "state", writing.state)
    state = generator.load_state(tmp_path / "state")
    assert state.ids[:2] == tuple(BYTES.opening("b"))
    rest = generator.tokens("", SamplingConfig(max_tokens=9, temperature=0.0), state)
    (expected,) = generator.generate("x", whole)
    assert [piece.id for piece in (*pieces, *rest)] == list(expected.ids)
    with pytest.raises(ConfigError, match="has begun"):
        generator.tokens("", whole, state)
    read = generator.read("xy", label="b")
    assert read.ids == (*BYTES.opening("b"), *BYTES.encode("xy"))
    ended = read.after([EOS], generator.read("xy", label="b").model_state)
    assert generator.read("z", ended, "a").ids == (*read.ids, EOS, A, *BYTES.encode("z")), (
        "the next document has its own"
    )


@pytest.mark.parametrize("label", ["c", ""])
def test_a_label_that_is_not_there_is_said_before_anything_is_written(generator: Generator, label: str) -> None:
    config = SamplingConfig(label=label)
    calls: list[Any] = [
        lambda: generator.generate("x", config),
        lambda: generator.tokens("x", config),
        lambda: generator.search("x", config),
        lambda: Suggester(generator.model, BYTES, label=label),
        lambda: list(Scorer(generator.model, BYTES).scores(["x"], label=label)),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(TextgenError, match=f"no label '{label}'. There are: a, b."):
            call()


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_labels_are_for_networks_that_read_forward(tmp_path: Path, direction: str) -> None:
    path = table(tmp_path, [("ab"[number % 2], "moon and river " * 20) for number in range(40)])
    plain, labelled = (Corpus([path], CorpusConfig(labels=labels)) for labels in (None, "by"))
    without = ByteTokenizer()
    prepared = prepare_corpus([str(path)], tmp_path / "prepared", {"labels": "by", "tokenizer": "byte"})
    of_vocabulary = "the vocabulary has some: take a vocabulary without labels"
    cases: list[tuple[Corpus | PreparedCorpus, Sources, str]] = [
        (labelled, Sources(), "the text: leave labels out"),
        (labelled, Sources(tokenizer=without), "the text: leave labels out"),
        (labelled, Sources(tokenizer=BYTES), "the text: leave labels out and take a vocabulary without labels"),
        (plain, Sources(tokenizer=BYTES), of_vocabulary),
        (prepared, Sources(), "the text: prepare the text without labels"),
    ]
    for corpus, sources, what in cases:
        with pytest.raises(ConfigError, match=f"Labels need .* forward, .*{what}, or leave out direction {direction}."):
            make_plan(corpus, {"direction": direction}, sources=sources, hardware=Hardware(flops=1e11))
    assert make_plan(plain, {"direction": direction}, sources=Sources(tokenizer=without), hardware=Hardware(flops=1e11))
    start = in_direction(tmp_path / "start", direction, without)
    for sources in (
        Sources(start=start, tokenizer=BYTES),
        Sources(start=in_direction(tmp_path / "old", direction, BYTES)),
    ):
        with pytest.raises(ConfigError, match=f"{of_vocabulary}, or start from a model of direction forward."):
            make_plan(plain, {}, sources=sources, hardware=Hardware(flops=1e11))


def in_direction(folder: Path, direction: str, tokenizer: ByteTokenizer) -> ModelFolder:
    """A saved model that reads in a direction."""
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=4, hidden_units=3, num_layers=1, direction=direction)
    save_model(folder, weights_of(config), config, TokenizerConfig("byte"), CorpusConfig(), tokenizer)
    return load_model(folder)


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_a_network_that_read_labels_backward_is_used_for_nothing_but_reading_forward(
    tmp_path: Path, direction: str
) -> None:
    def uses(model: ModelFolder) -> list[Callable[[], Any]]:
        both = [model.infiller, model.embedder, model.numpy_models]
        return [*both, *[partial(getattr(model, name), "backward") for name in ("numpy_model", "network", "one_way")]]

    own, plain = (
        in_direction(tmp_path / str(number), direction, each) for number, each in enumerate((BYTES, ByteTokenizer()))
    )
    for use in uses(own):
        with pytest.raises(ConfigError, match="The vocabulary of 0 has labels, which stand before a text"):
            use()
    for use in uses(plain):
        use()
    if direction == "both":
        assert own.generator().generate("x", SamplingConfig(max_tokens=3, label="b"))
        assert own.scorer().score("x", label="b").total.tokens == 2
    else:
        with pytest.raises(ConfigError, match="has labels"):
            own.scorer()
