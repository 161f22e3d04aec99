"""What stands in the training text, against brute force on small corpora."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fakes import CountingModel, as_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as to_safetensors

import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset import ngram_index
from textgen.dataset.ngram_index import NgramIndex, index_stream, read_index
from textgen.dataset.token_cache import encode_corpus
from textgen.dataset.token_stream import TokenStream
from textgen.errors import ConfigError, SavedModelError
from textgen.generation.config import SamplingConfig
from textgen.generation.constraints.copy_guard import CopyGuard
from textgen.generation.generator import Generator
from textgen.saved_model.layout import NGRAMS
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_ngrams
from textgen.storage.manifests import MANIFEST
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

TOKENIZER = ByteTokenizer()
EOS = TOKENIZER.eos_id
K = 3
ROOM = 10_000  # so much that no n-gram of a small corpus is taken for another

letters = st.lists(st.integers(3, 5), max_size=40)  # three pieces: everything comes again and again
documents = st.lists(letters, min_size=1, max_size=4)


def stream_ids(texts: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([id for text in texts for id in (*text, EOS)], np.int32)


def index_of(texts: Sequence[Sequence[int]], ngram: int = K) -> NgramIndex:
    return NgramIndex.build([stream_ids(texts)], ngram, ROOM, EOS)


def stands_in(run: Sequence[int], texts: Sequence[Sequence[int]]) -> bool:
    return any(list(run) == list(text[at : at + len(run)]) for text in texts for at in range(len(text) - len(run) + 1))


# === Texts, against brute force ===


@settings(max_examples=100, deadline=None)
@given(documents, documents)
def test_novelty_is_that_of_brute_force(corpus: list[list[int]], texts: list[list[int]]) -> None:
    ngrams = {tuple(text[at : at + K]) for text in corpus for at in range(len(text) - K + 1)}
    found = index_of(corpus).novelty_of_ids(stream_ids(texts), TOKENIZER)
    flags = [[tuple(text[at : at + K]) in ngrams for at in range(len(text) - K + 1)] for text in texts]
    total = sum(map(len, flags))
    assert found.ngrams == total
    assert found.copied_fraction == (sum(map(sum, flags)) / total if total else None)
    runs = ["".join("x" if flag else " " for flag in row).split() for row in flags]
    longest = max((len(run) for row in runs for run in row), default=0)
    assert found.longest_copy == (longest + K - 1 if longest else 0)
    copied = [{at + step for at, flag in enumerate(row) if flag for step in range(K)} for row in flags]
    ids, spans = stream_ids(texts), index_of(corpus).copies(stream_ids(texts), TOKENIZER)
    starts = [0, *(np.flatnonzero(ids == TOKENIZER.eos_id) + 1).tolist()]
    assert [at for start, end in spans for at in range(start, end)] == [
        start + at for start, row in zip(starts, copied, strict=False) for at in sorted(row)
    ]
    assert all(one[1] < other[0] for one, other in pairwise(spans))
    # Verbatim runs of k pieces or more are never longer than is said.
    verbatim = max(
        (end - start for text in texts for start in range(len(text)) for end in range(start + K, len(text) + 1)
         if stands_in(text[start:end], corpus)), default=0,
    )  # fmt: skip
    assert verbatim <= found.longest_copy


@settings(max_examples=100, deadline=None)
@given(documents, st.integers(K - 1, 8), st.integers(0, 1 << 32))
def test_a_guarded_text_has_no_longer_copy(corpus: list[list[int]], no_copy: int, seed: int) -> None:
    """What is forbidden is what brute force forbids, and among the other pieces any may be drawn."""
    guard, rng, text = CopyGuard(index_of(corpus), no_copy, 6), np.random.default_rng(seed), list[int]()
    for _ in range(40):
        forbidden = guard.forbidden().tolist()
        last = text[len(text) - no_copy :] if len(text) >= no_copy else None
        expected = [
            id
            for id in range(3, 6)
            if last is not None
            and all(stands_in([*last, id][at : at + K], corpus) for at in range(no_copy + 1 - K + 1))
        ]
        assert forbidden == expected
        allowed = sorted({3, 4, 5}.difference(forbidden))
        if not allowed:
            break  # the end of the document is left
        text.append(int(rng.choice(allowed)))
        guard.accept(text[-1])
    for at in range(len(text) - no_copy):
        assert not stands_in(text[at : at + no_copy + 1], corpus)


@settings(max_examples=50, deadline=None)
@given(documents, st.integers(1, 7))
def test_neither_chunks_nor_their_borders_matter(corpus: list[list[int]], size: int) -> None:
    ids = stream_ids(corpus)
    chunks = [ids[start : start + size] for start in range(0, len(ids), size)]
    assert NgramIndex.build(chunks, K, ROOM, EOS).to_bytes() == index_of(corpus).to_bytes()
    with pytest.MonkeyPatch.context() as patch:
        whole = index_of(corpus).contains(ids)
        patch.setattr(ngram_index, "CHUNK", size)
        np.testing.assert_array_equal(index_of(corpus).contains(ids), whole)


def test_completions() -> None:
    index = index_of([[3, 4, 5], [3, 4, 200], [7, 4, 9]])
    assert index.completions([3, 4], 256).tolist() == [5, 200]
    assert index.completions([4, 3], 256).tolist() == []


def test_by_hand() -> None:
    """A quotation between the model's own words; a run does not go on from one document to the next."""
    index = index_of([TOKENIZER.encode("to be or not to be"), TOKENIZER.encode("question")], ngram=6)
    found = index.novelty("He said to be or not, Sir", TOKENIZER)
    assert (found.ngram, found.ngrams) == (6, 20)
    # Of 13 pieces every 6 in a row stand there: " to be", which is at its end, and "to be or not".
    assert (found.longest_copy_text, found.longest_copy, found.longest_copy_characters) == (" to be or not", 13, 13)
    assert found.copied_fraction == 8 / 20
    assert index.novelty("o bequest", TOKENIZER).longest_copy == 0
    assert index.novelty("to be", TOKENIZER).copied_fraction is None


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@pytest.mark.parametrize(
    ("written", "copied"),
    [
        ("夊前明月光疑是地上霜", "前明月光疑是地上霜"),  # the last byte of 夊 is that of 床
        ("床前明月光疑是地上霝", "床前明月光疑是地上"),  # the first two bytes of 霝 are those of 霜
        ("夊前明月光疑是地上霝", "前明月光疑是地上"),
        ("床前明月光疑是地上霜", "床前明月光疑是地上霜"),
    ],
)
def test_the_longest_copy_begins_and_ends_with_a_whole_character(kind: str, written: str, copied: str) -> None:
    tokenizer = TOKENIZER if kind == "byte" else train_tokenizer(["other words"], TokenizerConfig(kind))
    index = index_of([tokenizer.encode("床前明月光疑是地上霜")], ngram=6)
    found = index.novelty(written, tokenizer)
    assert (found.longest_copy_text, found.longest_copy_characters) == (copied, len(copied))


def test_an_unknown_word_copies_nothing(tmp_path: Path) -> None:
    """All unknown words have one id: a run of others would be the run that the corpus has."""
    lines = [
        f"the fox sings of the rain and w{n:03} x{n:03} y{n:03} z{n:03} u{n:03} v{n:03} go home" for n in range(30)
    ]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus = Corpus([tmp_path / "text.txt"], CorpusConfig(documents="line"))
    words = train_tokenizer(lines, TokenizerConfig(tokenizer="word", vocab_size=12))
    unknown = words.encode("lorem ipsum dolor sit amet tempor")
    assert unknown == [words.unk_id] * 6
    index = index_stream(encode_corpus(corpus, words, tmp_path / "tokens"), words)
    assert index.ngram == 6
    old = NgramIndex.build([np.array(words.encode(lines[0]), np.int32)], 6, ROOM, words.eos_id)
    for each in (index, old):  # an index of an older version holds the unknown words
        assert each.novelty("lorem ipsum dolor sit amet tempor", words).copied_fraction is None
        found = each.novelty("rain and lorem ipsum dolor sit", words)
        assert (found.ngrams, found.copied_fraction, found.longest_copy) == (0, None, 0)
        found = each.novelty("the fox sings of the rain and lorem ipsum", words)
        assert (found.ngrams, found.copied_fraction, found.longest_copy) == (2, 1.0, 7)
        assert each.copies(np.array(unknown, np.int32), words) == []
        ids = np.array(words.encode("lorem the fox sings of the rain and ipsum"), np.int32)
        assert each.copies(ids, words) == [(1, 8)]
    assert not index.contains(np.array(unknown, np.int32)).any()


# === Kept with a model ===


def stream_of(folder: Path, text: str, documents: str = "line") -> TokenStream:
    folder.mkdir()
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return encode_corpus(Corpus([folder / "text.txt"], CorpusConfig(documents=documents)), TOKENIZER, folder / "tokens")


def test_the_index_of_a_corpus(tmp_path: Path) -> None:
    """24 bytes of text, however many pieces those are; a document that is shorter has no n-gram."""
    lines = "".join(f"{n} The fox sings of the rain, and nobody listens.\n" for n in range(50))
    index = index_stream(stream_of(tmp_path / "one", f"{lines}short\n"), TOKENIZER)
    assert index.ngram == 24
    assert index.novelty(lines.split("\n")[7], TOKENIZER).copied_fraction == 1.0
    assert index.novelty("The fox sings of the rain, or so they say.", TOKENIZER).longest_copy == 27
    assert index.novelty(lines.upper(), TOKENIZER).copied_fraction == pytest.approx(0.0, abs=0.01)
    assert index.false_positive_rate < 0.001
    open_end = stream_of(tmp_path / "two", "a text of one document, without an end of its own", "file")
    assert (
        index_stream(open_end, TOKENIZER).novelty("a text of one document, without", TOKENIZER).copied_fraction == 1.0
    )


def test_a_fine_tuned_model_knows_both_texts(tmp_path: Path) -> None:
    texts = ["the first text is about a fox and an owl\n", "the second one is about the moon and the rain\n"]
    first = index_stream(stream_of(tmp_path / "first", texts[0]), TOKENIZER)
    both = index_stream(stream_of(tmp_path / "second", texts[1] * 2), TOKENIZER, base=first)
    (tmp_path / "ngrams").write_bytes(both.to_bytes())
    for index in (both, read_index(tmp_path / "ngrams")):
        assert [index.novelty(text.strip(), TOKENIZER).copied_fraction for text in texts] == [1.0, 1.0]
        assert index.novelty("neither of them says anything like that", TOKENIZER).copied_fraction == 0.0
        assert index.false_positive_rate > first.false_positive_rate


@pytest.fixture
def tiny(tiny_models: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    return tmp_path / "tiny"


def test_the_index_stands_in_the_manifest_and_comes_back(tiny: Path) -> None:
    assert not load_model(str(tiny)).has_ngrams
    index = index_of([[3, 4, 5, 4, 3], [5, 5, 5]])
    save_ngrams(tiny, index)
    saved = load_model(str(tiny))
    assert saved.ngrams().to_bytes() == index.to_bytes()
    assert saved.weights()  # all else is still there
    assert NGRAMS in (tiny / MANIFEST).read_text()


DAMAGED: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda data: data[:-1], "bytes long, not"),
    (lambda data: data[:-1] + b"x", "was altered"),
]


@pytest.mark.parametrize(("damage", "expected"), DAMAGED, ids=[row[1] for row in DAMAGED])
def test_a_damaged_index_is_named(tiny: Path, damage: Callable[[bytes], bytes], expected: str) -> None:
    save_ngrams(tiny, index_of([[3, 4, 5]]))
    (tiny / NGRAMS).write_bytes(damage((tiny / NGRAMS).read_bytes()))
    with pytest.raises(SavedModelError, match=f"{NGRAMS}.*{expected}"):
        load_model(str(tiny)).ngrams()


def test_a_model_without_an_index_says_so(tiny: Path) -> None:
    with pytest.raises(SavedModelError, match="has no index of its training text"):
        load_model(str(tiny)).ngrams()


BITS = np.zeros(4, np.uint8)


def file_of(bits: dict[str, np.ndarray], about: object) -> bytes:
    return to_safetensors(bits, {ngram_index.ABOUT: json.dumps(about)})


NO_INDEX: list[tuple[str, bytes]] = [
    ("not safetensors", b"ngrams"),
    ("no metadata", to_safetensors({"bits_0": BITS})),
    ("not JSON", to_safetensors({"bits_0": BITS}, {ngram_index.ABOUT: "{"})),
    ("no object", file_of({"bits_0": BITS}, 3)),
    ("no bits", file_of({"bits_1": BITS}, {"ngram": 3, "hashes": [11]})),
    ("no filter", file_of({"bits_0": BITS}, {"ngram": 3, "hashes": []})),
    ("no number", file_of({"bits_0": BITS}, {"ngram": "three", "hashes": [11]})),
    ("too short", file_of({"bits_0": BITS}, {"ngram": 1, "hashes": [11]})),
    ("no hashes", file_of({"bits_0": BITS}, {"ngram": 3, "hashes": [0]})),
    ("too many hashes", file_of({"bits_0": BITS}, {"ngram": 3, "hashes": [1000000000]})),
    ("no bytes", file_of({"bits_0": BITS[:0]}, {"ngram": 3, "hashes": [11]})),
    ("not bytes", file_of({"bits_0": BITS.astype(np.float32)}, {"ngram": 3, "hashes": [11]})),
    ("a matrix", file_of({"bits_0": BITS[None]}, {"ngram": 3, "hashes": [11]})),
]


@pytest.mark.parametrize(("name", "data"), NO_INDEX, ids=[row[0] for row in NO_INDEX])
def test_a_file_that_is_no_index(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / "ngrams").write_bytes(data)
    with pytest.raises(SavedModelError, match="is damaged"):
        read_index(tmp_path / "ngrams")


# === Writing ===

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("no_copy", [5, 6, 11])
def test_no_copy_ends_a_quotation(no_copy: int) -> None:
    """A model that is certain to recite the alphabet; of which nothing but a prompt may be a longer quotation."""
    index = index_of([TOKENIZER.encode(ALPHABET)], ngram=6)
    generator = Generator(as_model(CountingModel()), TOKENIZER, read_index=lambda: index)
    config = SamplingConfig(max_tokens=60, seed=3, no_copy=no_copy, min_p=0.0)
    results = generator.generate(["", "abcdefgh", "xyza"], config, num=2)
    assert results[2].text.startswith("ijklmnopqrstuvwxyz"[:no_copy])
    for result in results:
        assert index.novelty_of_ids(np.array(result.ids), TOKENIZER).longest_copy in (0, *range(6, no_copy + 1))
    assert generator.generate("abcdefgh", SamplingConfig(max_tokens=18))[0].text == "ijklmnopqrstuvwxyz"
    (alone,) = generator.generate("abcdefgh", SamplingConfig(max_tokens=60, seed=5, no_copy=no_copy, min_p=0.0))
    assert alone == results[2]  # neighbours do not matter


def test_no_copy_needs_an_index_and_a_run_that_it_can_see() -> None:
    without = Generator(as_model(CountingModel()), TOKENIZER)
    with pytest.raises(ConfigError, match="needs an index"):
        without.generate("a", SamplingConfig(no_copy=9))
    generator = Generator(as_model(CountingModel()), TOKENIZER, read_index=lambda: index_of([[3, 4]], ngram=6))
    with pytest.raises(ConfigError, match="must be at least 5"):
        generator.generate("a", SamplingConfig(no_copy=4))
    with pytest.raises(ConfigError, match="no_copy must be a number of at least 1"):
        SamplingConfig(no_copy=0)


def test_the_index_is_read_when_it_is_needed_and_checked_then(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`textgen.load` reads all but the index; a damaged one is an error of what needs it, and of nothing else."""
    save_ngrams(tiny, index_of([[3, 4, 5, 4, 3], [5, 5, 5]], ngram=3))
    read, real = list[Path](), ngram_index.read_index

    def counted(path: Path) -> NgramIndex:
        read.append(path)
        return real(path)

    monkeypatch.setattr(ngram_index, "read_index", counted)
    generator = textgen.load(str(tiny))
    generator.generate("a", SamplingConfig(max_tokens=2))
    assert read == []
    copying = SamplingConfig(max_tokens=2, no_copy=5)
    generator.generate("a", copying)
    generator.generate("a", copying)
    assert read == [tiny / NGRAMS]
    assert generator.index is not None
    (tiny / NGRAMS).write_bytes((tiny / NGRAMS).read_bytes()[:-1] + b"x")
    late = textgen.load(str(tiny))
    assert late.generate("a", SamplingConfig(max_tokens=2))
    with pytest.raises(SavedModelError, match="was altered"):
        late.generate("a", copying)
