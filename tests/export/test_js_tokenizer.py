"""The tokenizer of the page gives the ids that textgen gives, and the texts."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from javascript import in_node, needs_node
from vocabularies import AWKWARD, CHINESE, ENGLISH

from textgen.export.packing import learned_pieces, learned_scores
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.model_file import read_tokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

pytestmark = needs_node

BASES = Path(__file__).parent.parent.parent / "saved_models" / "bases"
MORE_AWKWARD = [
    *AWKWARD, "a\0b", "\ufeffa", "\x1c\x85\xa0", "</script>", "<new line>", "ﬁ Å ſ İ ı ß", "the" * 60, "ab" * 300,
    "\U0010ffff", "\ufffd", "1234567890 " * 9,
]  # fmt: skip
ALPHABETS = (
    "The cat sat.\u2581\n", "明月光 疑是\u2581\n", "aeiou thersn,.\n'\"", "<>&\u2028\ufeff\0\t\r \u3000\x85",
    "".join(map(chr, range(32, 0x250))), "".join(map(chr, range(0x4E00, 0x5200))), "\U0001f600\U0001f469\u200d\u0301é",
)  # fmt: skip


def some_texts(number: int, seed: int) -> list[str]:
    """Texts of many kinds: awkward ones, letters of an alphabet, any characters, and parts of English and Chinese."""
    rng = random.Random(seed)
    texts = list(MORE_AWKWARD)
    while len(texts) < number:
        kind, length = rng.random(), rng.choice([1, 3, 10, 30, 100])
        if kind < 0.5:
            texts.append("".join(rng.choices(rng.choice(ALPHABETS), k=length)))
        elif kind < 0.7:
            codes = rng.choices([*range(0xD800), *range(0xE000, 0xFFFF), *range(0x10000, 0x20000)], k=length)
            texts.append("".join(map(chr, codes)))
        else:
            words = rng.choices((ENGLISH + CHINESE).replace("\n", " \n").split(" "), k=length)
            texts.append(rng.choice(["", " ", "  "]).join(words))
    return texts


@cache
def vocabularies() -> dict[str, Tokenizer]:
    """Small vocabularies of every kind, one that has no piece for a space, and those of the bases."""
    text = [(ENGLISH + CHINESE) * 20]
    made = {kind: train_tokenizer(text, TokenizerConfig(kind)) for kind in ("unigram", "bpe", "char", "word")}
    made["byte"] = train_tokenizer(text, TokenizerConfig("byte"))
    made["no space"] = train_tokenizer([CHINESE.replace("\n", "") * 20], TokenizerConfig("bpe"))
    made["labels"] = made["unigram"].with_labels(["Li Bai", "</script>"])
    made["bytes and labels"] = made["byte"].with_labels(["a"])
    return made | {name: read_tokenizer(BASES / name) for name in ("english", "chinese")}


def described(tokenizer: Tokenizer) -> dict[str, Any]:
    """A vocabulary as the page gets it."""
    about = {
        "kind": tokenizer.kind,
        "pieces": learned_pieces(tokenizer),
        "labels": list(tokenizer.labels),
    }
    return {"vocabulary": about, "scores": learned_scores(tokenizer).astype(float).tolist()}


ENCODED = """
const { texts, vocabularies } = given;
return vocabularies.map(({ vocabulary, scores }) => {
  const tokenizer = new Tokenizer(vocabulary, Float32Array.from(scores));
  return texts.map((text) => { const ids = tokenizer.encode(text); return [ids, tokenizer.decode(ids)]; });
});
"""


def check_ids(names: list[str], texts: list[str], folder: Path) -> None:
    tokenizers = [vocabularies()[name] for name in names]
    found = in_node(ENCODED, {"texts": texts, "vocabularies": [described(each) for each in tokenizers]}, folder)
    for name, tokenizer, rows in zip(names, tokenizers, found, strict=True):
        for text, ids, (own, decoded) in zip(texts, tokenizer.encode_batch(texts, num_threads=1), rows, strict=True):
            assert own == ids, (name, text)
            assert decoded == tokenizer.decode(ids), (name, text)


def test_ids_and_texts_are_those_of_python(tmp_path: Path) -> None:
    check_ids([*vocabularies()], some_texts(500, seed=1), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_twenty_thousand_texts(seed: int, tmp_path: Path) -> None:
    check_ids(["unigram", "bpe", "char", "word", "english", "chinese"], some_texts(5000, seed=100 + seed), tmp_path)


def test_half_of_a_surrogate_pair_becomes_the_replacement_character(tmp_path: Path) -> None:
    script = "return ['a\\ud800b', '\\udc00', '\\ud83d\\ude00', '\\ud800\\ud83d\\ude00\\udc00'].map(wellFormed);"
    assert in_node(script, None, tmp_path) == ["a\ufffdb", "\ufffd", "😀", "\ufffd😀\ufffd"]


def test_special_tokens(tmp_path: Path) -> None:
    """Ids of labels, what opens a document, what is never written, and the text of every id."""
    names = ["unigram", "word", "byte", "labels", "bytes and labels"]
    script = """
    return given.map(({ vocabulary, scores }) => {
      const tokenizer = new Tokenizer(vocabulary, Float32Array.from(scores));
      const openings = [null, ...tokenizer.labels].map((label) => tokenizer.opening(label));
      return {
        openings, size: tokenizer.size, never: tokenizer.neverWritten, firstByte: tokenizer.firstByte,
        bytes: tokenizer.pieceBytes.map((bytes) => Array.from(bytes)),
      };
    });
    """
    tokenizers = [vocabularies()[name] for name in names]
    results = in_node(script, [described(each) for each in tokenizers], tmp_path)
    for tokenizer, found in zip(tokenizers, results, strict=True):
        assert found["openings"] == [tokenizer.opening(label) for label in (None, *tokenizer.labels)]
        assert found["size"] == tokenizer.vocab_size
        assert found["never"] == tokenizer.never_written
        assert found["firstByte"] == tokenizer.first_byte
        assert found["bytes"] == [list(piece) for piece in tokenizer.piece_bytes]


def test_streams_are_decoded_as_in_python(tmp_path: Path) -> None:
    """Any ids, token by token: broken characters, words with their spaces, the beginning of a line or not."""
    names, rng = ["unigram", "word", "byte", "english"], random.Random(5)
    cases = []
    for name in names:
        tokenizer = vocabularies()[name]
        for number in range(150):
            low = tokenizer.first_byte if tokenizer.first_byte is not None and number % 2 else 0
            high = min(low + 260, tokenizer.vocab_size) if number % 2 else tokenizer.vocab_size
            ids = [rng.randrange(low, high) for _ in range(rng.randrange(12))]
            # Python waits for a third byte after ED A0, half of a surrogate pair, although none can complete it.
            ids = [id for id in ids if b"\xed" not in tokenizer.piece_bytes[id]]
            if number % 10 == 1 and low:  # a document that ends within a character
                ids += [low + 0xF0, *[low + 0x9F] * (number % 3), tokenizer.eos_id]
            cases.append((names.index(name), ids, number % 3 == 0))
    script = """
    const tokenizers = given.vocabularies.map((each) => new Tokenizer(each.vocabulary, Float32Array.from(each.scores)));
    return given.cases.map(([number, ids, lineStart]) => {
      const decoder = new StreamDecoder(tokenizers[number], lineStart);
      const texts = ids.map((id) => decoder.feed(id));
      return [...texts, decoder.flush(), tokenizers[number].unfinished(ids)];
    });
    """
    described_ones = [described(vocabularies()[name]) for name in names]
    found = in_node(script, {"vocabularies": described_ones, "cases": cases}, tmp_path)
    for (number, ids, line_start), own in zip(cases, found, strict=True):
        tokenizer = vocabularies()[names[number]]
        decoder = tokenizer.decoder(line_start)
        assert own == [*[decoder.feed([id]) for id in ids], decoder.flush(), tokenizer.unfinished(ids)], (number, ids)


LARGE = """
const names = Array.from({ length: 200_000 }, (_, number) => `w${number.toString(36)}`);
const lengths = {};
for (const kind of ["bpe", "word"]) {
  const tokenizer = new Tokenizer({ kind, pieces: names, labels: [] }, new Float32Array(names.length));
  const prefixes = new Prefixes(tokenizer);
  lengths[kind] = [prefixes.longest, prefixes.ids.length];
  if (kind === "word") lengths.encoded = tokenizer.encode(names.join(" ")).length;
}
const rows = [new Float64Array(200_300).fill(-1)];
const cover = Array.from({ length: 200_000 }, (_, id) => id);
lengths.cut = chooseCut(rows, [0], [cover], 0.8, 0.5);
lengths.long = bytesAsString(new Uint8Array(200_000).fill(65)).length;
return lengths;
"""


def test_a_vocabulary_and_a_line_may_be_larger_than_the_arguments_that_a_function_takes(tmp_path: Path) -> None:
    found = in_node(LARGE, None, tmp_path)
    assert found["bpe"] == [5, 200_257]
    assert found["word"] == [0, 0]
    assert (found["encoded"], found["cut"], found["long"]) == (200_000, 0, 200_000)
