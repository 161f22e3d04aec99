"""The pieces of the training loop that can be told exactly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from textgen.model.language_model import LanguageModel
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.config import TrainingConfig


def test_one_update_is_adamw_on_the_clipped_mean_gradient(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the reference network's gradients and AdamW written out, with the batch in one and in two shards."""
    from textgen.corpus.config import CorpusConfig
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.token_cache import encode_and_split
    from textgen.model.config import ModelConfig
    from textgen.model.reference import clip_by_global_norm, initial_state, loss_and_gradients
    from textgen.training import trainer

    (tmp_path / "text.txt").write_text("abc cab bca acb " * 40, encoding="utf-8")
    data = encode_and_split(Corpus([tmp_path / "text.txt"], CorpusConfig(documents="file")), tokenizer)
    shape = ModelConfig(
        tokenizer.vocab_size, embedding_dim=6, hidden_units=8, num_layers=2, dropout=0.0, embedding_dropout=0.0
    )
    config = TrainingConfig(
        batch_size=4, sequence_length=5, steps=1, clip_norm=0.05, weight_decay=0.1, warmup_fraction=0.0
    )
    results = []
    for cores in (1, 2):
        monkeypatch.setattr("textgen.training.distribution.num_cores", lambda processes, cores=cores: cores)
        model = LanguageModel(shape, pad_id=tokenizer.pad_id)
        before = {name: array.astype(np.float64) for name, array in model.weights_as_arrays().items()}
        loop = trainer.Trainer(model, data, config, tmp_path / f"checkpoints-{cores}")
        inputs, targets = next(iter(loop.reader.batches.epoch(0)))
        gradient = loop._step(inputs, targets, 0.01)
        results.append(model.weights_as_arrays())

        loss, gradients, _, _ = loss_and_gradients(before, inputs, targets, initial_state(before, 4))
        clipped, length = clip_by_global_norm(gradients, config.clip_norm)
        assert gradient.nats == pytest.approx(loss, abs=1e-5)
        assert gradient.norm == pytest.approx(length, rel=1e-4)
        for name, weight in before.items():
            decay = 0.0 if name.endswith("bias") else config.weight_decay
            step = clipped[name] / (np.abs(clipped[name]) + 1e-8 / math.sqrt(1 - 0.99))  # Adam's first step
            expected = weight - 0.01 * decay * weight - 0.01 * step
            moved = np.abs(clipped[name]) > 1e-5  # where the gradient is more than rounding
            np.testing.assert_allclose(results[-1][name][moved], expected[moved], atol=2e-5)
    for name, array in results[0].items():
        np.testing.assert_allclose(array, results[1][name], atol=2e-5)


def test_a_window_begins_with_the_state_before_it_or_with_zeros(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Losses of the first three windows, without learning, against the reference network."""
    from textgen.corpus.config import CorpusConfig
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.token_cache import encode_and_split
    from textgen.model.config import ModelConfig
    from textgen.model.reference import initial_state, loss_and_gradients
    from textgen.training.trainer import Trainer

    (tmp_path / "text.txt").write_text("abc cab bca acb " * 40, encoding="utf-8")
    data = encode_and_split(Corpus([tmp_path / "text.txt"], CorpusConfig(documents="file")), tokenizer)
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, dropout=0.0, embedding_dropout=0.0)
    for carry_state in (True, False):
        config = TrainingConfig(batch_size=4, sequence_length=5, steps=3, carry_state=carry_state)
        model = LanguageModel(shape, pad_id=tokenizer.pad_id)
        for name, weight in model.named_weights().items():
            weight.assign(3 * weight.numpy() + 0.01 * len(name))  # so that the state matters
        weights = {name: array.astype(np.float64) for name, array in model.weights_as_arrays().items()}
        loop = Trainer(model, data, config, tmp_path / "checkpoints")
        state, expected, carried_on = initial_state(weights, 4), [], []
        for inputs, targets in list(loop.reader.batches.epoch(0))[:3]:
            afresh = loss_and_gradients(weights, inputs, targets, initial_state(weights, 4))[0]
            loss, _, state, _ = loss_and_gradients(weights, inputs, targets, state)
            carried_on.append(loss)
            expected.append(loss if carry_state else afresh)
            assert loop._step(inputs, targets, 0.0).nats == pytest.approx(expected[-1], abs=1e-5)
        assert carry_state or min(abs(a - b) for a, b in zip(expected[1:], carried_on[1:], strict=True)) > 1e-3


def test_a_model_of_one_file_knows_how_texts_begin_and_how_rarely_they_end(tmp_path: Path) -> None:
    from textgen.corpus.config import CorpusConfig
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.token_cache import encode_and_split
    from textgen.evaluation.scoring import Scorer
    from textgen.model.config import ModelConfig
    from textgen.model.numpy_model import NumpyModel
    from textgen.tokenizer.tokenizer import ByteTokenizer
    from textgen.training.trainer import Trainer

    rng, tokenizer = np.random.default_rng(0), ByteTokenizer()
    paragraphs = [f">{''.join(rng.choice(list('abcd'), 60))}\n\n" for _ in range(300)]
    (tmp_path / "text.txt").write_text("".join(paragraphs), encoding="utf-8")
    data = encode_and_split(Corpus([tmp_path / "text.txt"], CorpusConfig(documents="file")), tokenizer)
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=8, hidden_units=16, dropout=0.0, embedding_dropout=0.0)
    config = TrainingConfig(batch_size=8, sequence_length=32, epochs=6, num_validations=1, learning_rate=0.01)
    model = LanguageModel(shape, pad_id=tokenizer.pad_id)
    model.start_bias(data.train.counts)
    Trainer(model, data, config, tmp_path / "checkpoints").run([], None)  # type: ignore[arg-type]
    score = Scorer(NumpyModel(shape, model.weights_as_arrays()), tokenizer).score(paragraphs[0])
    assert score.surprisal[0] < 2, "a text begins as paragraphs do, one character in 63"
    assert 8 < score.surprisal[-1] < 18, "about one token in 16,000 is an end: 14 bits"
