"""Attention as the rest of the program meets it; equations are tested with the reference, the layer with the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import random_weights

from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.stepping import read_all
from textgen.generation.text_state import pick
from textgen.model import reference
from textgen.model.compiled_model import CompiledModel
from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.model.numpy_model import NumpyModel
from textgen.model.protocols import StepModel
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.kinds import ByteTokenizer

load_tensorflow()

TOKENIZER = ByteTokenizer()
CONFIG = ModelConfig(TOKENIZER.vocab_size, embedding_dim=6, hidden_units=8, num_layers=1, attention=5)
IDS = np.random.default_rng(1).integers(3, 259, (3, 14)).astype(np.int32)


@pytest.fixture(scope="module", params=["numpy", "compiled"])
def writer(request: pytest.FixtureRequest) -> StepModel:
    if request.param == "numpy":
        return NumpyModel(CONFIG, random_weights(CONFIG))
    model = LanguageModel(CONFIG, pad_id=TOKENIZER.pad_id)
    model.assign_weights(random_weights(CONFIG))
    return CompiledModel(model)


def test_writing_step_by_step_is_the_whole_text_of_the_reference(writer: StepModel) -> None:
    weights, stack = random_weights(CONFIG), reference.stack_of(CONFIG)
    whole, last, _ = reference.forward(weights, IDS, reference.initial_state(weights, 3, stack), stack)
    state = writer.read(IDS[:, :4], writer.initial_state(3))
    for t in range(4, 14):
        logits, state = writer.step(IDS[:, t], state)
        np.testing.assert_allclose(logits, whole[:, t], atol=1e-4)
    for ours, theirs in zip(state[-1], last[-1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert [len(array) for array in state[-1]] == [3, 3]
    assert np.asarray(state[-1][0]).shape == (3, 5, 8)  # however long the text


def test_texts_of_different_lengths_remember_what_each_would_alone(writer: StepModel) -> None:
    rows = [IDS[0, :2].tolist(), IDS[1, :9].tolist(), []]
    together = read_all(writer, rows, writer.initial_state(3))
    assert np.asarray(together[-1][1]).tolist() == [[2], [5], [0]]
    for number, ids in enumerate(rows):
        alone = read_all(writer, [ids], writer.initial_state(1))
        for ours, theirs in zip(pick(together, [number])[-1], alone[-1], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_state_is_kept_in_a_file_and_forked(writer: StepModel, tmp_path: Path) -> None:
    generator = Generator(writer, TOKENIZER, fingerprint="this one")
    config = SamplingConfig(temperature=0.0, max_tokens=16, no_repeat_ngram_size=2, logit_bias=("#2=-100",), heal=False)
    whole = [piece.id for piece in generator.tokens("The cat", config)]
    writing = generator.tokens("The cat", replace(config, max_tokens=8))
    first = [piece.id for piece in writing]
    generator.save_state(tmp_path / "state", writing.state)
    kept = generator.load_state(tmp_path / "state")
    for _ in range(2):
        assert first + [piece.id for piece in generator.tokens("", replace(config, max_tokens=8), kept)] == whole


def test_low_precision_is_close_and_leaves_the_state_in_full() -> None:
    results = []
    for precision in ("float32", "bfloat16"):
        model = LanguageModel(CONFIG, pad_id=TOKENIZER.pad_id, precision=precision)
        model.assign_weights({name: array / 2 for name, array in random_weights(CONFIG).items()})
        features, state = model.features(IDS)
        assert features.dtype == precision
        assert {array.dtype.name for layer in state for array in layer} == {"float32"}
        results.append(np.asarray(features, np.float32))
    assert 0 < np.abs(results[0] - results[1]).max() < 0.05 * np.abs(results[0]).max()
