"""Scores of texts, against the reference, the evaluation, and by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights
from scored import CONFIG, TOKENIZER

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import encode_corpus
from textgen.errors import ConfigError, TokenizerError
from textgen.evaluation import scoring
from textgen.evaluation.scoring import Score, Scorer, TextScore, of_like_length, perplexity
from textgen.model import reference
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.system.runtime import load_tensorflow

PAD, EOS = TOKENIZER.pad_id, TOKENIZER.eos_id
TEXTS = ["The cat sat.", "", "É là", "one  two three\n" * 9, "床前明月光", "a", "🀄"]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(NumpyModel(CONFIG, random_weights(CONFIG)), TOKENIZER)


def reference_nats(ids: Sequence[int]) -> np.ndarray:
    """-log p of each id, the first after the end of a document; float64."""
    weights = {name: value.astype(np.float64) for name, value in random_weights(CONFIG).items()}
    inputs, targets = np.array([[EOS, *ids[:-1]]]), np.array(ids)
    logits = reference.forward(weights, inputs, reference.initial_state(weights, 1))[0][0]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -log_p[np.arange(len(ids)), targets]


# === The network ===


@pytest.mark.parametrize("hidden_units", [6, 8], ids=["as wide as the embedding", "projected"])
@pytest.mark.parametrize("tied", [True, False])
def test_token_losses_are_those_of_the_steps(hidden_units: int, tied: bool) -> None:
    """Whole sequences, and cut into two."""
    config = ModelConfig(50, embedding_dim=6, hidden_units=hidden_units, num_layers=2, tie_embeddings=tied)
    model = NumpyModel(config, random_weights(config))
    ids = np.random.default_rng(1).integers(0, 50, (3, 12)).astype(np.int32)
    state, expected = model.initial_state(3), np.zeros((3, 11))
    for t in range(11):
        logits, state = model.step(ids[:, t], state)
        expected[:, t] = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(3), ids[:, t + 1]]
    nats, last = model.token_losses(ids[:, :-1], ids[:, 1:], model.initial_state(3))
    np.testing.assert_allclose(nats, expected, rtol=1e-5)
    np.testing.assert_allclose(np.array(last), np.array(state), rtol=1e-5)
    first, between = model.token_losses(ids[:, :4], ids[:, 1:5], model.initial_state(3))
    rest, _ = model.token_losses(ids[:, 4:-1], ids[:, 5:], between)
    np.testing.assert_allclose(np.concatenate([first, rest], axis=1), nats, rtol=1e-5)


def test_logits_that_would_overflow() -> None:
    weights = {name: np.zeros(shape, np.float32) for name, shape in CONFIG.weight_shapes().items()}
    weights["head/bias"][:2] = 1000.0, 3000.0
    model = NumpyModel(CONFIG, weights)
    nats, _ = model.token_losses(np.array([[0, 0]]), np.array([[1, 0]]), model.initial_state(1))
    np.testing.assert_array_equal(nats, [[0.0, 2000.0]])


# === Texts ===


def test_surprisals_are_the_reference_s(scorer: Scorer) -> None:
    for text, score in zip(TEXTS, scorer.scores(TEXTS), strict=True):
        assert score.text == text
        assert list(score.ids) == [*TOKENIZER.encode(text), EOS]
        np.testing.assert_allclose(score.surprisal * math.log(2), reference_nats(score.ids), rtol=1e-4)
        assert score.total.nats == pytest.approx(reference_nats(score.ids).sum(), rel=1e-5)
        assert (score.total.tokens, score.total.bytes) == (len(text.encode()) + 1, len(text.encode()))


def test_a_text_that_may_go_on_is_scored_up_to_there(scorer: Scorer) -> None:
    for whole, beginning in zip(scorer.scores(TEXTS), scorer.scores(TEXTS, ends=False), strict=True):
        assert beginning.ids == whole.ids[:-1]
        np.testing.assert_allclose(beginning.surprisal, whole.surprisal[:-1], rtol=1e-5)
    nothing = scorer.score("", ends=False).total
    assert (nothing, nothing.nats_per_token, nothing.bits_per_byte) == (Score(), 0.0, 0.0)


def test_a_document_has_the_nats_of_its_evaluation(scorer: Scorer, tmp_path: Path) -> None:
    load_tensorflow()
    from textgen.evaluation.evaluator import Evaluator
    from textgen.model.language_model import LanguageModel

    model = LanguageModel(CONFIG, pad_id=PAD)
    model.assign_weights(random_weights(CONFIG))
    evaluator = Evaluator(model)
    for number, text in enumerate(TEXTS[2:4]):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
        stream = encode_corpus(
            Corpus([tmp_path / f"{number}.txt"], CorpusConfig(documents="file")), TOKENIZER, tmp_path / str(number)
        )
        expected, score = evaluator.scores(stream), scorer.score(text).total
        assert evaluator.nats(stream)[0] == pytest.approx(score.nats, rel=1e-5)
        values = score.to_dict()
        for name in ("nats_per_token", "perplexity_per_token", "bits_per_byte", "tokens", "bytes"):
            assert values[name] == pytest.approx(getattr(expected, name), rel=1e-4), name


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=30), max_size=20), ends=st.booleans())
def test_neither_neighbours_nor_batches_nor_windows_matter(scorer: Scorer, texts: list[str], ends: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BATCH", 3)
        patch.setattr(scoring, "AHEAD_TEXTS", 7)
        patch.setattr(scoring, "AHEAD_CHARACTERS", 50)
        patch.setattr(scoring, "WINDOW_LOGITS", 4 * 3 * TOKENIZER.vocab_size)
        together = list(scorer.scores(texts, ends=ends))
    assert [score.text for score in together] == texts
    for score in together:
        alone = scorer.score(score.text, ends=ends)
        assert score.ids == alone.ids
        np.testing.assert_allclose(score.surprisal, alone.surprisal, rtol=1e-4)


@given(lengths=st.lists(st.integers(0, 40) | st.integers(0, 100_000), max_size=100))
def test_a_batch_is_hardly_padded(lengths: list[int]) -> None:
    rows = [range(length) for length in lengths]
    batches = list(of_like_length(rows))
    assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
    for batch in batches:
        assert 0 < len(batch) <= 32
        sizes = [lengths[row] for row in batch]
        assert sizes == sorted(sizes)
        assert len(sizes) * max(sizes) <= 2 * sum(sizes)


def test_texts_of_about_the_same_length_share_a_batch() -> None:
    assert [len(batch) for batch in of_like_length([range(10 + number % 7) for number in range(70)])] == [32, 32, 6]
    assert [len(batch) for batch in of_like_length([*[range(3)] * 31, range(1000)])] == [2, 30]


def test_texts_are_read_as_they_are_asked_for(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "AHEAD_TEXTS", 2)
    read: list[str] = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    scores = scorer.scores(texts())
    assert not read
    next(scores)
    assert len(read) == 2


def test_text_that_is_none(scorer: Scorer) -> None:
    with pytest.raises(TokenizerError, match="lone surrogate"):
        scorer.score("half \udce2 a character")


def test_one_text_is_scored_as_a_whole(scorer: Scorer) -> None:
    (score,) = scorer.scores(TEXTS[0])
    assert score.text == TEXTS[0]
    assert np.array_equal(score.surprisal, scorer.score(TEXTS[0]).surprisal)
    with pytest.raises(ConfigError, match="texts must be a text or a list of texts"):
        list(scorer.scores(None))  # type: ignore[arg-type]


def test_threads_share_a_scorer(scorer: Scorer) -> None:
    expected = [score.surprisal for score in scorer.scores(TEXTS)]
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: [score.surprisal for score in scorer.scores(TEXTS)], range(8)):
            for values, expected_values in zip(found, expected, strict=True):
                np.testing.assert_array_equal(values, expected_values)


# === Sums ===


def test_scores_by_hand() -> None:
    """Two pieces of 3 and 5 bits, three bytes."""
    score = TextScore("é!", (5, 6), np.array([3.0, 5.0])).total
    assert score.to_dict() == pytest.approx(
        {
            "log_probability": -8 * math.log(2),
            "nats_per_token": 4 * math.log(2),
            "perplexity_per_token": 16.0,
            "bits_per_byte": 8 / 3,
            "tokens": 2,
            "bytes": 3,
        }
    )
    assert score + Score(1.0, 2, 4) == Score(score.nats + 1.0, 4, 7)


def test_perplexity() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(100)) == pytest.approx(100)
    assert perplexity(699.0) < math.inf
    assert perplexity(1e9) == math.inf
