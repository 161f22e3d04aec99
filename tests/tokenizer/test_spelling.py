"""Vocabularies of words do not score better for saying less: what they do not know, and lose, is accounted for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from networks import random_weights

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import encode_and_split, encode_corpus
from textgen.evaluation.anomalies import follow
from textgen.evaluation.evaluator import Evaluator
from textgen.evaluation.scores import Scores
from textgen.evaluation.scoring import Scorer
from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.saving import save_model
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.spelling import END, NAT, ORDER, Spelling
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

load_tensorflow()

FABLES = Path(__file__).parents[2] / "corpora" / "fables.txt"
JAPANESE = "".join(
    f"{who}は{where}で{what}を{did}。\n"
    for who in ("猫", "犬", "老人", "少年", "鳥")
    for where in ("庭", "山の上", "川のほとり", "家の中")
    for what in ("魚", "本", "月", "古い歌", "花")
    for did in ("見た", "待っていた", "忘れた", "探している")
)


def frequencies(path: Path, kind: str, size: int | None, folder: Path) -> tuple[Tokenizer, NumpyModel, Scores]:
    """A vocabulary of a text, a model that knows how frequent its pieces are and nothing else, and how that scores."""
    tokenizer = train_tokenizer([path.read_text(encoding="utf-8")], TokenizerConfig(kind, size))
    stream = encode_corpus(Corpus([path], CorpusConfig("blank-line")), tokenizer, folder / f"{kind}-{size}")
    config = ModelConfig(tokenizer.vocab_size, 4, 4, 1)
    model = LanguageModel(config, pad_id=tokenizer.pad_id)
    model.assign_weights({name: np.zeros(shape, np.float32) for name, shape in config.weight_shapes().items()})
    model.start_bias(stream.counts)
    return tokenizer, NumpyModel(config, model.weights_as_arrays()), Evaluator(model).scores(stream)


def test_fewer_words_score_no_better(tmp_path: Path) -> None:
    """Fables at 2,000, 300 and 40 words, and in pieces that lose nothing."""
    (tmp_path / "fables.txt").write_text(FABLES.read_text(encoding="utf-8")[:40_000], encoding="utf-8")
    scores = [frequencies(tmp_path / "fables.txt", "word", size, tmp_path)[2] for size in (2000, 300, 40)]
    bits, words = [each.bits_per_byte for each in scores], [each.perplexity_per_word or 0.0 for each in scores]
    assert bits == sorted(bits)
    assert words == sorted(words)
    assert bits[0] > 1.5
    unknown = [each.unknown_words or 0 for each in scores]
    assert unknown == sorted(unknown)
    assert unknown[2] > 0.4 * (scores[2].words or 0)


def test_text_without_spaces_is_not_said_by_words_for_nothing(tmp_path: Path) -> None:
    """A line is a word, and most lines are unknown."""
    (tmp_path / "japanese.txt").write_text(JAPANESE * 2 + JAPANESE[::-1], encoding="utf-8")
    characters = frequencies(tmp_path / "japanese.txt", "char", None, tmp_path)[2]
    for size in (300, 100, 20):
        by_word = frequencies(tmp_path / "japanese.txt", "word", size, tmp_path)[2]
        assert by_word.bits_per_byte > characters.bits_per_byte
        assert by_word.unknown_words


def test_scores_agree_however_a_text_is_scored(tmp_path: Path) -> None:
    """`Scorer`, `Evaluator`, both directions, sums, and a stream of lines: the same bits for the same text."""
    tokenizer, network, _ = frequencies(FABLES, "word", 300, tmp_path)
    texts = [text for text in FABLES.read_text(encoding="utf-8").split("\n\n") if text.strip()][:20]
    (tmp_path / "some.txt").write_text("\n\n".join(texts), encoding="utf-8")
    found = list(Scorer(network, tokenizer).scores(texts))
    for text, score in zip(texts, found, strict=True):
        unknown = np.array(score.ids) == tokenizer.unk_id
        assert score.total.unknown_words == unknown.sum() == len(tokenizer.spelling(text))
        assert score.total.spelling == pytest.approx(sum(tokenizer.spelling(text)) / NAT)
        assert score.total.nats == pytest.approx(float(score.surprisal.sum()) * math.log(2))
    backward = list(Scorer(network, tokenizer, "backward").scores(texts))
    assert [each.total.nats for each in backward] == pytest.approx([each.total.nats for each in found])
    lines = [line for line in texts[0].split("\n") if line]
    for line, result in zip(lines, follow(Scorer(network, tokenizer), lines, "line"), strict=True):
        alone = Scorer(network, tokenizer).score(line).total
        assert result.bits_per_character * (len(line) + 1) == pytest.approx(alone.nats / math.log(2), rel=1e-3)


@pytest.mark.parametrize("loses", ["  a  b \n\tc\n", "a b\r\nc", "a\u3000b", "", "\n", "a \u2581 b"])
def test_white_space_that_is_lost_is_no_byte_that_is_predicted(loses: str) -> None:
    tokenizer = train_tokenizer(["a b c\n"] * 5, TokenizerConfig("word"))
    said = tokenizer.decode(tokenizer.encode(loses))
    assert tokenizer.lost_bytes(loses) == len(loses.encode()) - len(said.encode())
    assert train_tokenizer(["a b c\n"] * 5, TokenizerConfig("char")).lost_bytes(loses) == 0


def test_the_spelling_model_is_a_distribution() -> None:
    """After each context the symbols sum to 1; what it knows is likelier; costs are sums of logarithms."""
    spelling = Spelling(["the", "then", "there", "cat", "é", "é́"])
    symbols = range(256)
    for context in (b"\n\n", b"\nt", b"th", b"he", b"zz", b"\xc3\xa9", b"z\n"):
        assert sum(spelling.probability(context, symbol) for symbol in symbols) == pytest.approx(1.0)
    assert spelling.cost("them") < spelling.cost("xqzj")
    text = bytes([END]) * ORDER + b"them" + bytes([END])
    log_p = sum(math.log(spelling.probability(text[at - ORDER : at], text[at])) for at in range(ORDER, len(text)))
    assert spelling.cost("them") == round(-log_p * NAT)


def test_the_spelling_of_all_short_words_is_no_more_than_certain() -> None:
    spelling = Spelling(["ab", "ba", "a", "b", "abba"])
    total = sum(math.exp(-spelling.cost(a + b) / NAT) for a in map(chr, range(1, 128)) for b in map(chr, range(1, 128)))
    assert 0.1 < total < 1.0


def test_streams_keep_what_is_unknown(tmp_path: Path) -> None:
    """Training's held-out text, too; shards and runs over the cache agree."""
    tokenizer = train_tokenizer([FABLES.read_text(encoding="utf-8")], TokenizerConfig("word", 300))
    for _ in range(2):
        data = encode_and_split(Corpus([FABLES], CorpusConfig("blank-line")), tokenizer, cache=tmp_path)
        for stream in (data.train, data.valid):
            assert stream.summary.unknown_words == int(stream.counts[tokenizer.unk_id]) > 0
            assert stream.summary.spelling > stream.summary.unknown_words * NAT


def test_what_people_see(tmp_path: Path) -> None:
    """evaluate, score, the record of a training and its card."""
    tokenizer = train_tokenizer([FABLES.read_text(encoding="utf-8")], TokenizerConfig("word", 300))
    config = ModelConfig(tokenizer.vocab_size, 6, 8, 1)
    save_model(
        tmp_path / "words", random_weights(config), config, TokenizerConfig("word"), CorpusConfig("file"), tokenizer
    )
    path, where = tmp_path / "text.txt", ["--models-dir", str(tmp_path)]
    path.write_text("the cat xylophoned  the dog", encoding="utf-8")
    shown = CliRunner().invoke(textgen, ["evaluate", "words", str(path), "--json", *where], catch_exceptions=False)
    evaluated = json.loads(shown.stdout)
    shown = CliRunner().invoke(textgen, ["score", "words", str(path), "--json", *where], catch_exceptions=False)
    scored = json.loads(shown.stdout)
    unknown = len(tokenizer.spelling(path.read_text()))
    assert evaluated["unknown_words"] == scored["unknown_words"] == unknown >= 1
    for name in ("nats_per_token", "perplexity_per_token", "bits_per_byte", "tokens", "bytes"):
        assert evaluated[name] == pytest.approx(scored[name], rel=1e-4), name
    assert evaluated["bytes"] == len("the cat xylophoned the dog")
    shown = CliRunner().invoke(textgen, ["evaluate", "words", str(path), *where], catch_exceptions=False)
    assert "unknown words" in shown.stdout
