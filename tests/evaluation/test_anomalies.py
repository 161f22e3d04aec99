"""Streams of lines: their scores, what surprises, and files that grow."""

from __future__ import annotations

import codecs
import io
import itertools
import math
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights
from scored import CONFIG, TOKENIZER

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import encode_corpus
from textgen.errors import ConfigError, CorpusError
from textgen.evaluation import anomalies
from textgen.evaluation.anomalies import (
    MIN_DEVIATION,
    WARM_UP,
    Deviations,
    LineScore,
    are_foreign,
    file_lines,
    follow,
    stream_lines,
)
from textgen.evaluation.scoring import Scorer
from textgen.model.numpy_model import NumpyModel
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.kinds import ByteTokenizer

LINES = ["The cat sat.", "É là", "", "one  two three", "  ", "", "床前明月光", "a", ""]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(NumpyModel(CONFIG, random_weights(CONFIG)), TOKENIZER)


class LengthModel:
    """Finds a piece as surprising, in bits, as its value says; the state counts what was read."""

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.zeros((batch_size, 1))

    def token_losses(self, inputs: np.ndarray, targets: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.where(targets == TOKENIZER.encode("!")[0], 9.0, 1.0) * math.log(2), state + inputs.shape[1]


# === Scores ===


@pytest.mark.parametrize("documents", ["line", "blank-line", "file"])
def test_lines_together_have_the_nats_of_their_evaluation(scorer: Scorer, documents: str, tmp_path: Path) -> None:
    """All but the ends of documents that no line shows: those of blank lines, and that of the stream."""
    load_tensorflow()
    from textgen.evaluation.evaluator import Evaluator
    from textgen.model.language_model import LanguageModel

    lines = [line for line in LINES if documents != "file" or not line.isspace()]
    (tmp_path / "text.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    corpus = Corpus([tmp_path / "text.txt"], CorpusConfig(documents=documents))
    stream = encode_corpus(corpus, TOKENIZER, tmp_path / "tokens")
    read: list[int] = []
    bits = 0.0
    recorded = scorer.read

    class Recorder(Scorer):
        def read(self, before: int, ids: list[int], state: object) -> tuple[np.ndarray, object]:  # type: ignore[override]
            nonlocal bits
            values, state = recorded(before, ids, state)
            read.extend(ids)
            bits += values.sum()
            return values, state

    results = list(follow(Recorder(scorer.model, TOKENIZER), lines, documents))
    assert [(result.line, result.text) for result in results] == [
        (number, line) for number, line in enumerate(lines, 1) if line.strip()
    ]
    expected = stream.read(0, len(stream)).tolist()
    assert read == (expected[:-1] if documents == "file" else expected)
    if documents != "file":
        model = LanguageModel(CONFIG, pad_id=TOKENIZER.pad_id)
        model.assign_weights(random_weights(CONFIG))
        assert bits * math.log(2) == pytest.approx(Evaluator(model).nats(stream)[0], rel=1e-5)


def test_a_label_is_read_before_each_document_that_is_not_empty() -> None:
    tokenizer = ByteTokenizer(["tale"])
    read: list[int] = []

    class Recorder(Scorer):
        def read(self, before: int, ids: Sequence[int], state: Any) -> tuple[np.ndarray, Any]:
            read.extend(ids)
            return super().read(before, ids, state)

    lines = ["a", "--", "", "--", "b"]
    assert len(list(follow(Recorder(LengthModel(), tokenizer), lines, "separator:--", label="tale"))) == 2
    end, label = tokenizer.opening("tale")
    assert read == [label, *tokenizer.encode("a"), end, label, *tokenizer.encode("b")]


SEPARATED = ["", "one", "", "", "two  ", "", "---", "", "", "---", "a---b ---", " c", "---d---", "", "e", "---"]


@pytest.mark.parametrize("separator", ["---", "\n---\n", "---\n", "\n---", "\n\n", "\n"])
def test_documents_between_separators_are_those_of_training(scorer: Scorer, separator: str, tmp_path: Path) -> None:
    """Newlines at the ends of a document are none of it, and a separator may stand anywhere in a line."""
    read: list[int] = []

    class Recorder(Scorer):
        def read(self, before: int, ids: Sequence[int], state: Any) -> tuple[np.ndarray, Any]:
            read.extend(ids)
            return super().read(before, ids, state)

    mode = f"separator:{separator}"
    results = list(follow(Recorder(scorer.model, TOKENIZER), SEPARATED, mode))
    (tmp_path / "text.txt").write_text("".join(f"{line}\n" for line in SEPARATED), encoding="utf-8")
    corpus = Corpus([tmp_path / "text.txt"], CorpusConfig(documents=mode))
    expected = [id for document in corpus.documents() for id in (*TOKENIZER.encode(document), TOKENIZER.eos_id)]
    assert read == expected[: len(read)]
    assert len(expected) - len(read) in (0, 1)  # the end of the last document may be that of the stream
    lines = [line for document in corpus.documents() for line in document.split("\n") if line.strip()]
    assert [result.text for result in results] == lines


@pytest.mark.parametrize("separator", ["a\nb", "\n\n\n", "\n-\n-\n"])
def test_a_separator_that_spans_lines_is_refused(scorer: Scorer, separator: str) -> None:
    with pytest.raises(
        ConfigError, match=r"must be a part of a line, but it is .* Set documents to line or blank-line"
    ):
        next(follow(scorer, ["a"], f"separator:{separator}"))


def test_bits_a_character_by_hand() -> None:
    scorer = Scorer(LengthModel(), TOKENIZER)
    first, second = follow(scorer, ["abc", "é!"], "line")
    assert (first.bits_per_character, first.bits) == (1.0, 4.0)  # three letters and the end
    assert second.bits_per_character == pytest.approx(12 / 3)


@pytest.mark.parametrize("documents", ["file", "line", "blank-line", "separator:--"])
def test_a_line_is_as_surprising_as_its_characters_wherever_it_stands(documents: str) -> None:
    """Each piece costs one bit. In blocks no newline stands before the first line."""
    lines = ["ab", "abc", "--" if documents.startswith("separator") else "", "a"]
    results = list(follow(Scorer(LengthModel(), TOKENIZER), lines, documents))
    assert [result.bits_per_character for result in results] == [1.0] * 3
    in_blocks = documents not in ("file", "line")
    assert [result.bits for result in results] == ([2.0, 4.0, 1.0] if in_blocks else [3.0, 4.0, 2.0])


def test_what_surprises_is_flagged_and_nothing_before_there_is_something_to_compare_with() -> None:
    usual = ["ab" * n for n in range(1, 6)]
    lines = ["!!!!", *itertools.islice(itertools.cycle(usual), WARM_UP + 5), "a!!!!", "ab"]
    results = list(follow(Scorer(LengthModel(), TOKENIZER), lines, "line"))
    assert [result.text for result in results if result.flagged] == ["a!!!!"]
    assert all(result.deviation is None for result in results[:WARM_UP])
    assert results[-2].deviation == pytest.approx((38 / 6 - 1) / MIN_DEVIATION)
    assert results[-1].deviation == 0.0


def test_the_threshold_decides() -> None:
    lines = ["ab"] * WARM_UP + ["a" * 99 + "!", "ab"]  # 8 / 101 bits per character more
    for threshold, flagged in ((1.58, True), (1.59, False)):
        results = list(follow(Scorer(LengthModel(), TOKENIZER), lines, "line", threshold=threshold))
        assert results[-2].flagged == flagged


@pytest.mark.parametrize(
    ("text", "bits", "held_out", "expected"),
    [
        ("a" * 9, 6.3, 1.6, True),
        ("a" * 9, 3.1, 1.6, False),  # less than twice as many
        ("a" * 9, 0.9, 0.1, False),  # a small difference of a model that knows all but a few digits
        ("a" * 9, 1.2, 0.1, True),
        ("月" * 9, 5.0, 1.6, False),  # such a character has three bytes
    ],
)
def test_lines_of_another_kind_cost_far_more_than_the_held_out_text(
    text: str, bits: float, held_out: float, expected: bool
) -> None:
    lines = [LineScore(number, text, 10, bits, None, flagged=False) for number in range(WARM_UP)]
    assert are_foreign(lines, held_out) is expected
    assert not are_foreign(lines[1:], held_out), "too few"
    odd = [LineScore(number, text, 10, 99.0, None, flagged=False) for number in range(WARM_UP // 3)]
    assert are_foreign([*odd, *lines[: -len(odd)]], held_out) is expected, "a few odd lines do not decide"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 20), min_size=WARM_UP + 1, max_size=80), st.integers(WARM_UP, 60))
def test_deviations_are_those_of_the_last_values(values: list[float], window: int) -> None:
    deviations = Deviations(window)
    found = [deviations.next(value) for value in values]
    assert found[:WARM_UP] == [None] * WARM_UP
    for at in range(WARM_UP, len(values)):
        before = sorted(values[max(0, at - window) : at])
        median = (before[(len(before) - 1) // 2] + before[len(before) // 2]) / 2
        away = sorted(abs(value - median) for value in before)
        spread = max(1.4826 * (away[(len(away) - 1) // 2] + away[len(away) // 2]) / 2, MIN_DEVIATION)
        assert found[at] == pytest.approx((values[at] - median) / spread)


def test_what_was_odd_becomes_usual() -> None:
    lines = ["ab"] * 40 + ["!!"] * 40
    results = list(follow(Scorer(LengthModel(), TOKENIZER), lines, "line", window=40))
    assert results[40].flagged
    assert not any(result.flagged for result in results[61:])


def test_an_endless_stream_takes_no_memory() -> None:
    lines = follow(Scorer(LengthModel(), TOKENIZER), (f"line {n}" for n in itertools.count()), "line", window=50)
    for _ in itertools.islice(lines, 200):
        pass
    tracemalloc.start()
    try:
        for _ in itertools.islice(lines, 3000):
            pass
        assert tracemalloc.get_traced_memory()[0] < 50_000
    finally:
        tracemalloc.stop()


# === Lines ===


def test_lines_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomalies, "LINE_BYTES", 10)
    stream = io.BytesIO(b"one\r\n\ntoo long a line\n\xff bad\n" + "日本語四\nlast".encode())
    lines = list(stream_lines(stream))
    assert lines[:5] == ["one", "", "too long a", " line", "\ufffd bad"]
    assert "".join(lines[5:]) == "日本語四last"  # a character that is cut in two is whole again
    assert lines[-1] == "last"


@pytest.mark.parametrize("encoding", ["latin-1", "gb18030", "shift_jis"])
def test_lines_in_other_encodings(encoding: str, growing: Path) -> None:
    text = {"latin-1": "für\nélan\n", "gb18030": "日本\n語🀄\n", "shift_jis": "日本\n語ソ\n"}[encoding]
    lines = text.split()
    assert list(stream_lines(io.BytesIO(text.encode(encoding)), encoding)) == lines
    append(growing, text.encode(encoding))
    assert list(itertools.islice(file_lines(growing, encoding), 2)) == lines


def test_lines_that_do_not_end_with_the_byte_10_are_refused() -> None:
    with pytest.raises(CorpusError, match=r"utf-16 text cannot be split into lines .* set encoding to utf-8"):
        list(stream_lines(io.BytesIO("one\n".encode("utf-16")), "utf-16"))


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_the_mark_of_a_stream_is_none_of_its_text_and_names_its_encoding(encoding: str, growing: Path) -> None:
    """That of a log that is written anew, too."""
    data = codecs.BOM_UTF8 + "für\n\ufeffélan\n".encode()
    assert list(stream_lines(io.BytesIO(data), encoding)) == ["für", "\ufeffélan"]
    growing.write_bytes(data)
    lines = file_lines(growing, encoding)
    assert [next(lines), next(lines)] == ["für", "\ufeffélan"]
    growing.write_bytes(codecs.BOM_UTF8 + b"neu\n")
    assert next(lines) == "neu"


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_stream_whose_mark_names_a_wide_encoding_is_refused(mark: str) -> None:
    with pytest.raises(CorpusError, match=rf"{mark[:6]} text cannot be split into lines while it arrives"):
        list(stream_lines(io.BytesIO("\ufeffone\ntwo\n".encode(mark))))


@pytest.mark.parametrize(
    ("newlines", "expected"),
    [
        ("normalize", ["10 %", "20 %", "done", "", "next", "", "last"]),
        ("keep", ["10 %\r20 %\rdone\r", "", "next\r\rlast\r"]),
    ],
)
def test_newlines_are_those_of_the_documents(newlines: str, expected: list[str], tmp_path: Path) -> None:
    data = b"10 %\r20 %\rdone\r\n\nnext\r\rlast\r"
    assert list(stream_lines(io.BytesIO(data), newlines=newlines)) == expected
    (tmp_path / "log").write_bytes(data)
    assert list(itertools.islice(file_lines(tmp_path / "log", newlines=newlines), 2)) == expected[:2]
    (tmp_path / "text.txt").write_bytes(data)
    corpus = Corpus([tmp_path / "text.txt"], CorpusConfig(documents="line", newlines=newlines))
    assert list(corpus.documents()) == [line for line in expected if line]


def test_the_end_of_a_line_that_is_cut_is_no_blank_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomalies, "LINE_BYTES", 4)
    assert list(stream_lines(io.BytesIO(b"four\nfor\r\n\nfo"))) == ["four", "for", "", "fo"]


@pytest.mark.parametrize("encoding", ["utf8x", "hex", "idna", "a\0b"])
def test_an_encoding_that_there_is_not_is_refused(encoding: str, growing: Path) -> None:
    append(growing, b"one\n")
    message = r"There is no encoding .* Set encoding to one such as utf-8"
    with pytest.raises(CorpusError, match=message):
        stream_lines(io.BytesIO(b"one\n"), encoding)
    with pytest.raises(CorpusError, match=message):
        next(file_lines(growing, encoding))


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(anomalies, "POLL_SECONDS", 0.001)
    (tmp_path / "log").write_bytes(b"")
    return tmp_path / "log"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_file_that_grows(growing: Path) -> None:
    lines = file_lines(growing)
    append(growing, b"one\ntwo\nthr")
    assert [next(lines), next(lines)] == ["one", "two"]
    threading.Timer(0.05, append, (growing, "ee é\n".encode())).start()  # while the next line is waited for
    assert next(lines) == "three é"


def test_the_first_wait_for_more_of_a_file_is_told(growing: Path) -> None:
    waits: list[str] = []

    def on_end() -> None:
        waits.append("waited")
        append(growing, b"three\n")

    append(growing, b"one\ntwo\n")
    lines = file_lines(growing, on_end=on_end)
    assert ([next(lines), next(lines)], waits) == (["one", "two"], [])
    assert (next(lines), waits) == ("three", ["waited"])
    threading.Timer(0.05, append, (growing, b"four\n")).start()
    assert (next(lines), waits) == ("four", ["waited"])


def test_a_file_that_is_replaced_or_shortened_is_read_anew(growing: Path) -> None:
    append(growing, b"one\nunfinished")
    lines = file_lines(growing)
    assert next(lines) == "one"
    growing.rename(growing.with_name("log.1"))
    append(growing.with_name("log.1"), b" no more\nlast")
    append(growing, b"new\n")
    assert [next(lines) for _ in range(3)] == ["unfinished no more", "last", "new"]
    growing.write_bytes(b"x\n")
    assert next(lines) == "x"


def test_a_long_line_of_a_file_is_several(growing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomalies, "LINE_BYTES", 8)
    append(growing, b"0123456789\n")
    lines: Iterator[str] = file_lines(growing)
    assert [next(lines), next(lines)] == ["01234567", "89"]


@pytest.mark.parametrize(("name", "expected"), [("missing", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(CorpusError, match=f"Cannot read .*{expected}"):
        next(file_lines(tmp_path / name))
