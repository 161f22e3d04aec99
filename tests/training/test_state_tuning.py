"""The state that texts begin in, trained: it makes the text likelier, the model stays, the file goes on from it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner, Result
from networks import random_weights

from textgen.cli import textgen
from textgen.cli.write import _started
from textgen.corpus.config import CorpusConfig
from textgen.errors import CorpusError, SavedModelError
from textgen.generation.started_model import StartedModel
from textgen.model.config import CELLS, ModelConfig
from textgen.model.directions import one_way
from textgen.model.language_model import LanguageModel
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.config import TuningConfig
from textgen.training.state_tuning import PATIENCE, WINDOW, _Tuner, tune_state, windows_of

load_tensorflow()

TOKENIZER = ByteTokenizer()
CONFIG = ModelConfig(TOKENIZER.vocab_size, embedding_dim=6, hidden_units=8, num_layers=2, attention=3)
PAD, EOS = TOKENIZER.pad_id, TOKENIZER.eos_id
POEM = "The cat saw the dog,\nthe dog saw the cat.\n"


def ids_of(*documents: str) -> np.ndarray:
    return np.array([id for document in documents for id in (*TOKENIZER.encode(document), EOS)], np.int32)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(textgen, arguments, catch_exceptions=False, prog_name="textgen")


def test_windows_begin_where_documents_and_lines_do() -> None:
    ids = ids_of("abc\nd\nefgh\ni", "xy", "0123456789abcdef")
    inputs, targets = windows_of(ids, TOKENIZER, 5)
    texts = [TOKENIZER.decode(row[row != PAD].tolist()) for row in targets]
    assert texts == ["abc\nd", "efgh\n", "i", "xy", "01234", "56789", "abcde", "f"]
    np.testing.assert_array_equal(inputs[:, 0], EOS)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert [int((row == EOS).sum()) for row in targets] == [0, 0, 1, 1, 0, 0, 0, 1]


def test_a_label_is_read_before_each_window_and_never_a_target() -> None:
    tokenizer = TOKENIZER.with_labels(["fox"])
    (_, none), (_, fox) = tokenizer.opening(), tokenizer.opening("fox")
    ids = np.array([none, *TOKENIZER.encode("abcd\nefgh"), EOS, fox, *TOKENIZER.encode("xyz"), EOS], np.int32)
    inputs, targets = windows_of(ids, tokenizer, 5)
    assert inputs[:, :2].tolist() == [[EOS, none], [EOS, none], [EOS, fox]]
    np.testing.assert_array_equal(inputs[:, 2:], targets[:, 1:-1])
    assert targets[:, 0].tolist() == [PAD] * 3
    assert [tokenizer.decode(row[row != PAD].tolist()) for row in targets] == ["abcd\n", "efgh", "xyz"]
    assert [int((row == EOS).sum()) for row in targets] == [0, 1, 1]


def test_the_text_becomes_likelier_and_the_model_stays_as_it_is() -> None:
    weights = random_weights(CONFIG)
    model = LanguageModel(CONFIG, pad_id=PAD)
    model.assign_weights(weights)
    ids = ids_of(*[POEM * 3] * 20)
    lines: list[str] = []
    tuned = tune_state(model, TOKENIZER, ids, TuningConfig(steps=50), lines.append)
    assert tuned.nats_per_token_after < tuned.nats_per_token_before - 0.05
    assert tuned.best_step == 50
    assert len(lines) == 3
    for name, array in model.weights_as_arrays().items():
        np.testing.assert_array_equal(array, weights[name])

    inputs, targets = (windows[-tuned_windows(ids) :] for windows in windows_of(ids, TOKENIZER))
    writer = NumpyModel(CONFIG, weights)
    for writing, expected in (
        (writer, tuned.nats_per_token_before),
        (StartedModel(writer, tuned.model_state), tuned.nats_per_token_after),
    ):
        nats, _ = writer.token_losses(inputs, targets, writing.initial_state(len(inputs)))
        assert nats[targets != PAD].mean() == pytest.approx(expected, rel=1e-5)
    of_layers, (looked_back_on, count) = tuned.model_state[:-1], tuned.model_state[-1]
    assert all(array.any() for layer in of_layers for array in layer)
    assert not looked_back_on.any()
    assert not count.any()


def far_state(config: ModelConfig) -> list[tuple[np.ndarray, ...]]:
    """The state after one step that moves every number by 3."""
    initial_state = NumpyModel(config, random_weights(config)).initial_state  # in no time: no network is built
    model: Any = SimpleNamespace(config=config, initial_state=initial_state)
    tuner = _Tuner(model, learning_rate=3.0)
    tuner._gradient = lambda *_: [tf.ones_like(variable.value) for variable in tuner._variables]
    tuner.learn(np.zeros([1, 1], np.int32), np.zeros([1, 1], np.int32))
    return list(tuner.model_state())


@pytest.mark.parametrize("cell", CELLS)
def test_the_output_of_a_layer_stays_in_the_range_that_the_network_reaches(cell: str) -> None:
    for h, *others in far_state(replace(CONFIG, cell=cell, attention=0)):
        assert np.abs(h).max() == 1.0
        assert all(np.abs(c).max() > 2 for c in others)


def test_the_output_of_relu_has_no_bound() -> None:
    ((h,),) = far_state(replace(CONFIG, cell="rnn", activation="relu", attention=0, num_layers=1))
    assert np.abs(h).max() > 2


def tuned_windows(ids: np.ndarray) -> int:
    return len(windows_of(ids, TOKENIZER)[0]) // 10


@pytest.mark.slow
def test_it_stops_when_nothing_is_gained() -> None:
    model = LanguageModel(CONFIG, pad_id=PAD)
    model.assign_weights(random_weights(CONFIG))
    lines: list[str] = []
    tuned = tune_state(model, TOKENIZER, ids_of(*[POEM] * 9), TuningConfig(learning_rate=0.0), lines.append)
    assert (tuned.best_step, tuned.nats_per_token_after) == (0, tuned.nats_per_token_before)
    assert len(lines) == 1 + PATIENCE
    assert not any(array.any() for layer in tuned.model_state for array in layer)


def test_too_little_text() -> None:
    model = LanguageModel(CONFIG, pad_id=PAD)
    with pytest.raises(CorpusError, match=f"too short .*: give at least {2 * WINDOW} tokens"):
        tune_state(model, TOKENIZER, ids_of("a"))


def test_the_program_leaves_the_model_alone_and_texts_begin_in_the_state(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "poems.txt").write_text(POEM * 40, encoding="utf-8")
    model, state = tiny_models / "tiny", str(tmp_path / "poems.state")
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    arguments = ["tune-state", str(model), str(tmp_path / "poems.txt"), "--out", state, "--steps", "30"]
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)
    assert scores["nats_per_token_after"] < scores["nats_per_token_before"]
    assert scores["bytes"] == Path(state).stat().st_size < 2000
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before

    sample = ["sample", str(model), "--prompt", "The", "--seed", "1", "--max-tokens", "40", "--json"]
    sample += ["--top-logprobs", "0"]
    plain, styled = (json.loads(run(*sample, *more).stdout) for more in ([], ["--load-state", state]))
    assert plain["logprobs"][0] != styled["logprobs"][0]
    assert styled == json.loads(run(*sample, "--load-state", state).stdout)


def save(folder: Path, config: ModelConfig, weights: dict[str, np.ndarray], tokenizer: Tokenizer) -> str:
    corpus = CorpusConfig(documents="line")
    save_model(folder, weights, config, TokenizerConfig(tokenizer.kind), corpus, tokenizer)
    return str(folder)


def tune(model: str, text: Path, out: Path) -> dict[str, float]:
    result = run("tune-state", model, str(text), "--out", str(out), "--steps", "2", "--json")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_a_model_of_both_directions_is_tuned_as_its_forward_part(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction="both")
    weights, text, state = random_weights(config), tmp_path / "poems.txt", tmp_path / "both.state"
    line = POEM.replace("\n", " ") * 4  # as long as some windows
    text.write_text(f"{line}\n" * 20, encoding="utf-8")
    model = save(tmp_path / "both", config, weights, tokenizer)
    nats = tune(model, text, state)["nats_per_token_before"]
    ids = np.array([*tokenizer.encode(line), tokenizer.eos_id] * 20, np.int32)
    windows = windows_of(ids, tokenizer)
    inputs, targets = (each[-(len(each) // 10) :] for each in windows)
    forward = NumpyModel(*one_way(config, weights, "forward"))
    expected, _ = forward.token_losses(inputs, targets, forward.initial_state(len(inputs)))
    assert nats == pytest.approx(expected[targets != tokenizer.pad_id].mean(), rel=1e-5)
    result = run("sample", model, "--load-state", str(state), "--max-tokens", "3")
    assert result.exit_code == 0, result.stderr


def test_a_model_that_reads_backward_is_refused_before_the_text_is_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction="backward")
    model = save(tmp_path / "backward", config, random_weights(config), tokenizer)
    result = run("tune-state", model, "missing.txt", "--out", str(tmp_path / "poems.state"))
    assert result.exit_code == 1
    assert "backward reads text backward only" in result.stderr
    assert "missing.txt" not in result.stderr


def test_a_labelled_model_is_tuned_on_its_text_alone(tmp_path: Path) -> None:
    """Labels are not to be predicted: their pieces may be as improbable as they like."""
    tokenizer = ByteTokenizer(["fox"])
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    weights, text = random_weights(config), tmp_path / "poems.txt"
    text.write_text(POEM * 40, encoding="utf-8")
    weights["head/bias"][tokenizer.first_label :] = -1000.0
    model = save(tmp_path / "labelled", config, weights, tokenizer)
    assert tune(model, text, tmp_path / "poems.state")["nats_per_token_before"] < 20.0
    result = run("sample", model, "--label", "fox", "--load-state", str(tmp_path / "poems.state"), "--max-tokens", "3")
    assert result.exit_code == 0, result.stderr


def test_what_it_says_is_what_there_is_to_know(tiny_models: Path, tmp_path: Path) -> None:
    """Files that are left out, and a line that writes with the state wherever it is run."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "poems.txt").write_text(POEM * 40, encoding="utf-8")
    (tmp_path / "texts" / "photo").write_bytes(b"\0\1\2")
    state, where = tmp_path / "my poems.state", ["--models-dir", str(tiny_models)]
    result = run("tune-state", "tiny", str(tmp_path / "texts"), "--out", str(state), "--steps", "1", *where)
    assert f"Skipped {tmp_path / 'texts' / 'photo'}: it looks like a binary file." in result.stderr
    program, *arguments = shlex.split(result.stdout.splitlines()[-1].removeprefix("Write with it: "))
    assert program == "textgen"
    assert run(*arguments, "--max-tokens", "1").exit_code == 0


def test_write_begins_in_a_tuned_state_and_in_no_other(tiny_models: Path, tmp_path: Path) -> None:
    model = str(tiny_models / "tiny")
    (tmp_path / "poems.txt").write_text(POEM * 40, encoding="utf-8")
    tuned, begun = str(tmp_path / "tuned"), str(tmp_path / "begun")
    assert run("tune-state", model, str(tmp_path / "poems.txt"), "--out", tuned, "--steps", "1").exit_code == 0
    assert run("sample", model, "--prompt", "The", "--max-tokens", "3", "--save-state", begun).exit_code == 0
    saved = load_model(model)
    state = _started(saved, saved.numpy_model(), tuned).initial_state(2)
    assert [[array.shape for array in layer] for layer in state] == [[(2, 8)] * 2] * 2
    assert state[0][0].any()
    with pytest.raises(SavedModelError, match="begun is a state from the middle of a text"):
        _started(saved, saved.numpy_model(), begun)
