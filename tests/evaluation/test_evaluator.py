from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.batches import Batches
from textgen.dataset.token_cache import encode_corpus
from textgen.dataset.token_stream import TokenStream
from textgen.errors import CorpusError
from textgen.evaluation import evaluator, excerpt
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.evaluation.evaluator import WINDOW, Evaluator, nats_without_attention
from textgen.evaluation.neural_cache import NeuralCache
from textgen.model import reference
from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.model.sharding import join_states, shard_rows
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.kinds import ByteTokenizer

load_tensorflow()

TOKENIZER = ByteTokenizer()
LINES = ["The cat sat.", "É là", "", "one  two three", "床前明月光"] * 15
CONFIG = ModelConfig(TOKENIZER.vocab_size, embedding_dim=6, hidden_units=8, num_layers=2)


def stream_of(folder: Path, lines: list[str]) -> TokenStream:
    """A document a line."""
    path = folder / "text.txt"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return encode_corpus(Corpus([path], CorpusConfig(documents="line")), TOKENIZER, folder / "tokens")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TokenStream:
    return stream_of(tmp_path_factory.mktemp("stream"), LINES)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    model = LanguageModel(CONFIG, pad_id=TOKENIZER.pad_id)
    model.assign_weights(random_weights(CONFIG))
    return model


def unigram_model(counts: np.ndarray) -> LanguageModel:
    """All weights zero but for the bias: it knows how frequent the pieces are, and nothing else."""
    model = LanguageModel(CONFIG, pad_id=TOKENIZER.pad_id)
    model.assign_weights({name: np.zeros(s, np.float32) for name, s in CONFIG.weight_shapes().items()})
    model.start_bias(counts)
    return model


def reference_nats(model: LanguageModel, ids: np.ndarray, rows: int) -> float:
    """Total nats of `ids` as a ring of `rows` streams, each read in one pass."""
    weights = {name: value.astype(np.float64) for name, value in model.weights_as_arrays().items()}
    length, total = -(-len(ids) // rows), 0.0
    before = np.roll(ids, 1)  # the last piece stands before the first
    for start in range(0, len(ids), length):
        inputs, targets = before[None, start : start + length], ids[None, start : start + length]
        logits, _, _ = reference.forward(weights, inputs, reference.initial_state(weights, 1))
        total += reference.cross_entropy(logits, targets, TOKENIZER.pad_id)[0] * targets.size
    return total


def test_a_text_that_is_cut_off_meanwhile_is_an_error_of_the_text(model: LanguageModel, tmp_path: Path) -> None:
    """The thread that reads ahead finds it."""
    stream = stream_of(tmp_path, LINES)
    path = stream.folder / f"{stream.split}.bin"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorpusError, match=rf"{path.name}"):
        Evaluator(model).scores(stream)


def test_evaluators_of_short_texts_are_compiled_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorFlow would count them as one function that is compiled again and again."""
    stream = stream_of(tmp_path, ["The cat"])
    model = LanguageModel(replace(CONFIG, num_layers=1, cell="rnn"), pad_id=TOKENIZER.pad_id)
    for _ in range(5):
        Evaluator(model).nats(stream)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_unigram_model_scores_minus_log_p(stream: TokenStream) -> None:
    nats, tokens = Evaluator(unigram_model(stream.counts)).nats(stream)
    smoothed = stream.counts + 0.5
    log_p = np.log(smoothed / smoothed.sum())
    assert tokens == len(stream) == sum(len(line.encode()) + 1 for line in LINES if line)
    assert nats / tokens == pytest.approx(-log_p[stream.read(0, len(stream))].mean(), rel=1e-6)


def test_scores_by_hand(tmp_path: Path) -> None:
    """Two documents: 8 bytes and two words in the one, 3 bytes and one word in the other."""
    stream = stream_of(tmp_path, ["ab cd ab", "é!"])
    counts = np.zeros(TOKENIZER.vocab_size, np.int64)
    scores = Evaluator(unigram_model(counts)).scores(stream)  # all 259 pieces equally likely
    assert (scores.tokens, scores.bytes, scores.words) == (13, 11, 6)
    assert scores.nats_per_token == pytest.approx(math.log(259), rel=1e-6)
    assert scores.bits_per_byte == pytest.approx(13 * math.log2(259) / 11, rel=1e-6)
    assert scores.perplexity_per_token == pytest.approx(259, rel=1e-5)
    assert scores.perplexity_per_word == pytest.approx(259 ** (13 / 6), rel=1e-5)


def test_a_word_of_hundreds_of_tokens_has_no_perplexity(tmp_path: Path) -> None:
    """exp of its loss is beyond all numbers."""
    stream = stream_of(tmp_path, ["moonlight" * 80])
    scores = Evaluator(unigram_model(np.zeros(TOKENIZER.vocab_size, np.int64))).scores(stream)
    assert scores.words == 2
    assert scores.perplexity_per_word is None
    assert "perplexity_per_word" not in scores.to_dict()
    assert all(math.isfinite(value) for value in scores.to_dict().values())


def test_a_script_without_spaces_has_no_words(tmp_path: Path) -> None:
    scores = Evaluator(unigram_model(np.zeros(TOKENIZER.vocab_size, np.int64))).scores(
        stream_of(tmp_path, ["床前明月光"])
    )
    assert (scores.words, scores.perplexity_per_word) == (None, None)
    assert scores.to_dict().keys().isdisjoint({"words", "perplexity_per_word"})


def test_one_row_is_the_reference_s_cross_entropy(model: LanguageModel, stream: TokenStream) -> None:
    """The state goes on from window to window."""
    assert WINDOW < len(stream) < evaluator.ROW_TOKENS
    nats, tokens = Evaluator(model).nats(stream)
    assert tokens == len(stream)
    expected = reference_nats(model, stream.read(0, len(stream)), rows=1)
    assert nats / tokens == pytest.approx(expected / tokens, abs=1e-5)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_many_rows_are_the_reference_s_cross_entropy(
    model: LanguageModel, stream: TokenStream, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    """However many cores share the rows; the last row is not full."""
    rows = 6
    monkeypatch.setattr(evaluator, "ROWS", rows)
    monkeypatch.setattr(evaluator, "ROW_TOKENS", 10)
    monkeypatch.setattr("textgen.model.sharding.num_cores", lambda: cores)
    assert len(stream) % rows != 0
    nats, tokens = Evaluator(model).nats(stream)
    assert tokens == len(stream)
    expected = reference_nats(model, stream.read(0, len(stream)), rows)
    assert nats / tokens == pytest.approx(expected / tokens, abs=1e-5)


def test_a_stream_shorter_than_a_window(model: LanguageModel, tmp_path: Path) -> None:
    stream = stream_of(tmp_path, ["a"])
    nats, tokens = Evaluator(model).nats(stream)
    assert tokens == 2
    assert nats == pytest.approx(reference_nats(model, stream.read(0, 2), rows=1), abs=1e-5)


def test_a_part_of_the_stream(model: LanguageModel, stream: TokenStream) -> None:
    evaluator = Evaluator(model)
    window = WINDOW
    ids = stream.read(0, len(stream))
    weights = model.weights_as_arrays()
    for max_tokens, windows in ((1, 1), (window, 1), (2 * window, 2)):
        nats, tokens = evaluator.nats(stream, max_tokens)
        assert tokens == windows * window
        inputs, targets = np.roll(ids, 1)[None, :tokens], ids[None, :tokens]
        logits, _, _ = reference.forward(weights, inputs, reference.initial_state(weights, 1))
        expected, _ = reference.cross_entropy(logits, targets)
        assert nats / tokens == pytest.approx(expected, abs=1e-5)
    assert evaluator.nats(stream, 10 * len(stream)) == evaluator.nats(stream)


def test_each_window_is_told_of(model: LanguageModel, stream: TokenStream) -> None:
    evaluator, told = Evaluator(model), list[int]()
    evaluator.on_window = lambda: told.append(1)
    _, tokens = evaluator.nats(stream, max_tokens=200)
    assert len(told) == -(-tokens // 64) > 1


def test_as_many_tokens_as_there_are_is_the_whole_stream(model: LanguageModel, stream: TokenStream) -> None:
    """Also where they are no whole number of windows."""
    evaluator = Evaluator(model)
    whole = evaluator.nats(stream)
    assert evaluator.nats(stream, len(stream)) == evaluator.nats(stream, 2 * len(stream)) == whole
    assert evaluator.nats(stream, len(stream) // 3)[1] < whole[1]


def test_scores_of_a_part_are_estimates_of_the_whole(stream: TokenStream) -> None:
    evaluator = Evaluator(unigram_model(np.zeros(TOKENIZER.vocab_size, np.int64)))
    whole, part = evaluator.scores(stream), evaluator.scores(stream, 5 * WINDOW)
    assert part.tokens == 5 * WINDOW < whole.tokens
    assert part.bytes == pytest.approx(whole.bytes * part.tokens / whole.tokens, abs=1)
    # Every piece costs the same, so a part tells all.
    assert part.nats_per_token == pytest.approx(whole.nats_per_token)
    assert part.bits_per_byte == pytest.approx(whole.bits_per_byte)
    assert part.perplexity_per_word == pytest.approx(whole.perplexity_per_word)


def test_a_part_that_is_counted_in_bytes_is_scored_and_its_bytes_are_those_that_were_scored(
    stream: TokenStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excerpt, "STRETCH_BYTES", 300)
    monkeypatch.setattr(excerpt, "MIN_STRETCH_BYTES", 100)
    sizes, ids = TOKENIZER.token_bytes, stream.read(0, len(stream))
    part = excerpt.excerpt(stream, sizes, 520 / len(stream), evaluator.ROWS)
    assert part
    assert len(part.stretches) == 2
    scored = np.concatenate([ids[first:end] for first, end in part.stretches])
    smoothed = stream.counts + 0.5
    expected = -np.log(smoothed / smoothed.sum())[scored].sum()
    found = Evaluator(unigram_model(stream.counts), token_bytes=sizes).scores(stream, 520)
    assert (found.tokens, found.bytes) == (len(scored), sizes[scored].sum())
    assert found.nats_per_token * found.tokens == pytest.approx(expected, rel=1e-6)
    assert found.bits_per_byte == pytest.approx(expected / math.log(2) / found.bytes, rel=1e-6)


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_a_part_is_counted_in_tokens_unless_the_network_reads_forward_only(
    direction: str, stream: TokenStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excerpt, "STRETCH_BYTES", 300)
    config = replace(CONFIG, direction=direction)
    model = LanguageModel(config, pad_id=TOKENIZER.pad_id)
    model.assign_weights(random_weights(config))
    by_bytes = Evaluator(model, token_bytes=TOKENIZER.token_bytes)
    assert not by_bytes.counts_bytes
    assert by_bytes.scores(stream, 200) == Evaluator(model).scores(stream, 200)


def test_each_direction_is_scored_by_its_own_tokens(tmp_path: Path) -> None:
    """The beginning has many labels, which are not scored, and the end, where the other direction begins, has few."""
    tokenizer = TOKENIZER.with_labels(("a",))
    (tmp_path / "text.txt").write_text("x\n" * 40 + "y" * 200, encoding="utf-8")
    corpus = Corpus([tmp_path / "text.txt"], CorpusConfig(documents="line"))
    stream = encode_corpus(corpus, tokenizer, tmp_path / "tokens", label="a")
    config = replace(CONFIG, vocab_size=tokenizer.vocab_size, direction="both")
    uniform = LanguageModel(config, pad_id=tokenizer.pad_id)
    uniform.assign_weights({name: np.zeros(s, np.float32) for name, s in config.weight_shapes().items()})
    scores = Evaluator(uniform).scores(stream, WINDOW)
    assert scores.tokens < WINDOW
    assert scores.nats_per_token == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-6)
    assert scores.backward_nats_per_token == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-6)


def test_scores_are_the_same_each_time(model: LanguageModel, stream: TokenStream) -> None:
    evaluator = Evaluator(model)
    assert evaluator.scores(stream) == evaluator.scores(stream) == Evaluator(model).scores(stream)


def test_new_weights_count_without_compiling_again(stream: TokenStream) -> None:
    model = unigram_model(stream.counts)
    evaluator = Evaluator(model)
    before, _ = evaluator.nats(stream)
    model.start_bias(np.zeros_like(stream.counts))
    after, tokens = evaluator.nats(stream)
    assert after == pytest.approx(tokens * math.log(CONFIG.vocab_size), rel=1e-6)
    assert before < after


def test_padding_does_not_count(stream: TokenStream) -> None:
    batches = list(Batches(stream, 1, WINDOW, TOKENIZER.pad_id).epoch(0))
    assert (batches[-1][1] == TOKENIZER.pad_id).any()
    assert sum(int((targets != TOKENIZER.pad_id).sum()) for _, targets in batches) == len(stream)


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 6, 7, 32])
def test_shards_are_all_rows_in_order(rows: int, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.model.sharding.num_cores", lambda: cores)
    monkeypatch.setattr("tensorflow.config.get_visible_devices", lambda _: [])
    shards = shard_rows(rows)
    assert [row for shard in shards for row in range(rows)[shard]] == list(range(rows))
    assert len(shards) <= cores
    assert len({len(range(rows)[shard]) for shard in shards}) == 1


def test_join_states_undoes_a_cut(model: LanguageModel) -> None:
    _, state = model(np.full((6, 3), 70, np.int32) + np.arange(6, dtype=np.int32)[:, None])
    parts = [tuple((h[rows], c[rows]) for h, c in state) for rows in (slice(0, 2), slice(2, 3), slice(3, 6))]
    for layer, expected in zip(join_states(parts), state, strict=True):
        for array, array_expected in zip(layer, expected, strict=True):
            np.testing.assert_array_equal(array, array_expected)


# === The neural cache ===


def test_a_cache_goes_through_the_whole_stream(model: LanguageModel, stream: TokenStream) -> None:
    """The same as reading it at once: the network is the reference, the cache has one window."""
    assert len(stream) > 3 * WINDOW
    config = NeuralCacheConfig(neural_cache_window=100, neural_cache_theta=0.5, neural_cache_lambda=0.3)
    ids = stream.read(0, len(stream))
    inputs, targets = np.roll(ids, 1)[None], ids[None]
    weights = model.weights_as_arrays()
    logits, _, trace = reference.forward(weights, inputs, reference.initial_state(weights, 1))
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    alone = -np.take_along_axis(log_p, targets[:, :, None], axis=-1)[:, :, 0]
    cache = NeuralCache(config)
    expected = cache.token_losses(cache.initial_memory(1, 6), inputs, trace.features, targets, alone)
    nats, tokens = Evaluator(model, config).nats(stream)
    assert tokens == len(stream)
    assert nats / tokens == pytest.approx(expected.mean(), abs=1e-5)
    assert nats < alone.sum() - 1.0  # of lines that come again and again


def test_a_cache_of_lambda_0_changes_nothing(model: LanguageModel, stream: TokenStream) -> None:
    expected, _ = Evaluator(model).nats(stream)
    nats, tokens = Evaluator(model, NeuralCacheConfig(neural_cache_lambda=0.0)).nats(stream)
    assert tokens == len(stream)
    assert nats == pytest.approx(expected, rel=1e-6)


def test_what_a_cache_is_compared_with_is_read_as_it_is(
    model: LanguageModel, stream: TokenStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one row, although the stream is long enough for several, whose first tokens lack their context."""
    monkeypatch.setattr(evaluator, "ROW_TOKENS", len(stream) // 4)
    with_cache, as_it_is = NeuralCacheConfig(neural_cache_lambda=0.0), Evaluator(model, in_one_row=True)
    assert as_it_is.nats(stream)[0] == pytest.approx(Evaluator(model, with_cache).nats(stream)[0], rel=1e-6)
    assert as_it_is.nats(stream)[0] != pytest.approx(Evaluator(model).nats(stream)[0], rel=1e-6)


# === Dynamic evaluation ===

DYNAMIC = DynamicConfig(dynamic_learning_rate=0.5, dynamic_window=16)


def test_the_first_window_is_scored_before_anything_is_learned(model: LanguageModel, stream: TokenStream) -> None:
    ids, weights = stream.read(0, len(stream)), model.weights_as_arrays()
    logits, _, _ = reference.forward(weights, np.roll(ids, 1)[None, :16], reference.initial_state(weights, 1))
    first = reference.cross_entropy(logits, ids[None, :16])[0] * 16
    nats, tokens = Evaluator(model, dynamic=DYNAMIC).nats(stream, 16)
    assert tokens == 16
    assert nats == pytest.approx(first, rel=1e-5)


def test_text_that_repeats_itself_is_learned_and_forgotten_again(model: LanguageModel, stream: TokenStream) -> None:
    before = model.weights_as_arrays()
    alone, tokens = Evaluator(model).nats(stream)
    evaluator = Evaluator(model, dynamic=DYNAMIC)
    first = evaluator.nats(stream)
    assert first[1] == tokens
    assert first[0] < 0.8 * alone
    for name, array in model.weights_as_arrays().items():
        np.testing.assert_array_equal(array, before[name], strict=True)
    assert evaluator.nats(stream) == first
    both, _ = Evaluator(model, NeuralCacheConfig(neural_cache_lambda=0.2), DYNAMIC).nats(stream)
    assert both < first[0]


def test_weights_come_back_when_reading_fails(
    model: LanguageModel, stream: TokenStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.weights_as_arrays()
    evaluator = Evaluator(model, NeuralCacheConfig(), DYNAMIC)
    monkeypatch.setattr(NeuralCache, "remember", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluator.nats(stream)
    for name, array in model.weights_as_arrays().items():
        np.testing.assert_array_equal(array, before[name], strict=True)


# === Several models ===


def test_without_attention_the_network_is_that_of_its_layers(model: LanguageModel, stream: TokenStream) -> None:
    config = replace(CONFIG, attention=9)
    attentive = LanguageModel(config, pad_id=TOKENIZER.pad_id)
    fresh = attentive.weights_as_arrays()
    output = np.random.default_rng(1).normal(0, 1.0, (8, 8)).astype(np.float32)
    attentive.assign_weights({**fresh, **model.weights_as_arrays(), "attention/output": output})
    alone = Evaluator(model).scores(stream).nats_per_token
    assert nats_without_attention(attentive, stream) == pytest.approx(alone, rel=1e-6)
    assert abs(Evaluator(attentive).scores(stream).nats_per_token - alone) > 0.01
    np.testing.assert_array_equal(attentive.weights_as_arrays()["attention/output"], output)


def other_model(model: LanguageModel) -> LanguageModel:
    other = LanguageModel(CONFIG, pad_id=TOKENIZER.pad_id)
    other.assign_weights({name: array[::-1].copy() for name, array in model.weights_as_arrays().items()})
    return other


def test_two_models_score_the_mean_of_their_probabilities(model: LanguageModel, stream: TokenStream) -> None:
    ids, probabilities = stream.read(0, len(stream)), []
    for weights in (model.weights_as_arrays(), other_model(model).weights_as_arrays()):
        logits, _, _ = reference.forward(weights, np.roll(ids, 1)[None], reference.initial_state(weights, 1))
        p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        probabilities.append(p[0, np.arange(len(ids)), ids])
    nats, tokens = Evaluator(model, ensemble=[other_model(model)]).nats(stream)
    assert nats / tokens == pytest.approx(-np.log(np.mean(probabilities, axis=0)).mean(), abs=1e-5)


def test_a_model_beside_itself_is_itself(model: LanguageModel, stream: TokenStream) -> None:
    both, _ = Evaluator(model, NeuralCacheConfig(), ensemble=[model]).nats(stream)
    alone, _ = Evaluator(model, NeuralCacheConfig()).nats(stream)
    assert both == pytest.approx(alone, rel=1e-9)


@pytest.mark.slow
def test_each_of_two_models_learns_and_forgets(model: LanguageModel, stream: TokenStream) -> None:
    models = [model, other_model(model)]
    before = [each.weights_as_arrays() for each in models]
    frozen, _ = Evaluator(models[0], ensemble=models[1:]).nats(stream)
    learned, _ = Evaluator(models[0], dynamic=DYNAMIC, ensemble=models[1:]).nats(stream)
    assert learned < 0.8 * frozen
    for each, arrays in zip(models, before, strict=True):
        for name, array in each.weights_as_arrays().items():
            np.testing.assert_array_equal(array, arrays[name], strict=True)
