"""Event files for TensorBoard."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import markdown  # type: ignore[import-untyped]
import numpy as np
import pytest
from events import read, series
from google.protobuf import text_format  # type: ignore[import-untyped]
from streams import unmarked
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.projector import ProjectorConfig
from tensorboard.util.tensor_util import make_ndarray

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import TokenData, encode_and_split
from textgen.errors import TextgenError
from textgen.model.config import ModelConfig
from textgen.model.reference import initial_state, loss_and_gradients, stack_of
from textgen.system.runtime import load_tensorflow
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.config import TrainingConfig
from textgen.training.observers.observer import Observer, RunReport, StepReport, ValidationReport
from textgen.training.observers.tensorboard import Allowance, Monitor, fenced

load_tensorflow()

PIECES = ["<eos>", "\\n", "a\tb", "▁fox"]


class Words(Tokenizer):
    """Four pieces, one with a tab in it."""

    def __init__(self) -> None:
        super().__init__("word", [b""] * 4, b"")

    def encode_batch(self, texts: Sequence[str], num_threads: int = -1) -> list[list[int]]:
        raise NotImplementedError

    def _extended(self, more: Sequence[str]) -> Tokenizer:
        raise NotImplementedError

    def _printed_pieces(self) -> list[str]:
        return PIECES


class Network:
    """What a monitor looks at; `moves` changes it."""

    config = ModelConfig(4, embedding_dim=3, hidden_units=2, num_layers=1)

    def __init__(self) -> None:
        weights = {name: np.zeros(shape, np.float32) for name, shape in self.config.weight_shapes().items()}
        weights["embedding/table"] = np.arange(12, dtype=np.float32).reshape(4, 3)
        weights["lstm_0/bias"] = np.array([0, 0, 9, -9, 0, 0, 0, 9], np.float32)  # i, f, g, o
        weights["head/bias"] = np.array([3, 4, 0, 0], np.float32)
        self.weights = weights

    def weights_as_arrays(self) -> dict[str, np.ndarray]:
        return {name: weight.copy() for name, weight in self.weights.items()}


@dataclass
class Ids:
    """Of a split."""

    ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.array(self.ids[start:stop], np.int32)

    @property
    def counts(self) -> np.ndarray:
        return np.bincount(self.ids, minlength=4)


def started(folder: Path, run: RunReport | None = None, network: Network | None = None) -> Monitor:
    data = TokenData(Ids([0, 0, 2, 2, 2, 3]), Ids([2, 3, 0]))  # type: ignore[arg-type]
    monitor = Monitor(folder, network or Network(), Words(), data)  # type: ignore[arg-type]
    monitor.on_start(run or RunReport("fables", {}))
    return monitor


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for its share of the time."""
    monkeypatch.setattr("textgen.training.observers.tensorboard.UPDATES_FRACTION", 1e9)
    monkeypatch.setattr("textgen.training.observers.tensorboard.LOOKS_FRACTION", 1e9)


def step(number: int) -> StepReport:
    return StepReport(number, 0.5, number / 100, 2.0, 1e-3, 0.7, {"head/bias": 0.7}, 12345.0, 61.0)


def validation(number: int, improved: bool = True) -> ValidationReport:
    return ValidationReport(number, 0.5, 2.0, 2.1, 8.17, 1.5, improved, "Once a fox\nsaid nothing.")


def test_event_files_hold_all_that_is_promised(tmp_path: Path) -> None:
    network = Network()
    monitor = started(tmp_path, RunReport("fables", {"model": {"hidden_units": 8}}), network)
    for number in range(1, 61):
        if number == 50:
            network.weights["head/bias"] *= 1.25
        monitor.on_step(step(number))
    monitor.on_fault("Step 60: left out.")
    monitor.on_validation(validation(60))
    monitor.on_step(step(70))
    monitor.on_validation(validation(70, improved=False))
    monitor.on_end()
    events = read(tmp_path)
    points, looks = range(10, 71, 10), (60, 70)
    scalars: dict[str, dict[int, float]] = {
        "loss/train_nats_per_token": dict.fromkeys(points, 2.0),
        "perplexity/train": dict.fromkeys(points, math.exp(2.0)),
        "optimizer/learning_rate": dict.fromkeys(points, 1e-3),
        "optimizer/epochs": dict.fromkeys(points, 0.5),
        "gradient_norm/all": dict.fromkeys(points, 0.7),
        "gradient_norm/head/bias": dict.fromkeys(points, 0.7),
        "speed/tokens_per_second": dict.fromkeys(points, 12345.0),
        "update_ratio/head/bias": {50: 0.25},
        "update_ratio/embedding/table": {50: 0.0},
        "update_ratio/lstm_0/bias": {50: 0.0},
        "weight_norm/head/bias": {50: 6.25},
        "weight_norm/embedding/table": {50: math.sqrt(506)},
        "weight_norm/lstm_0/bias": {50: math.sqrt(243)},
        "weight_norm/lstm_0/kernel": {50: 0.0},
        "weight_norm/lstm_0/recurrent_kernel": {50: 0.0},
        "weight_norm/projection/kernel": {50: 0.0},
        "weight_norm/projection/bias": {50: 0.0},
        "loss/valid_nats_per_token": dict.fromkeys(looks, 2.1),
        "loss/valid_bits_per_byte": dict.fromkeys(looks, 1.5),
        "perplexity/valid": dict.fromkeys(looks, 8.17),
        "best/bits_per_byte": {60: 1.5},
        "best/nats_per_token": {60: 2.1},
        "best/perplexity": {60: 8.17},
        "gate_below_0.1/lstm_0/i": dict.fromkeys(looks, 0.0),
        "gate_above_0.9/lstm_0/i": dict.fromkeys(looks, 0.0),
        "gate_below_0.1/lstm_0/f": dict.fromkeys(looks, 0.5),
        "gate_above_0.9/lstm_0/f": dict.fromkeys(looks, 0.5),
        "gate_below_0.1/lstm_0/o": dict.fromkeys(looks, 0.0),
        "gate_above_0.9/lstm_0/o": dict.fromkeys(looks, 0.5),
        "cell_norm/lstm_0": dict.fromkeys(looks, 0.0),
    }
    for tag, expected in scalars.items():
        assert dict(series(events, tag)) == pytest.approx(expected), tag
        assert len(series(events, tag)) == len(expected), tag
    texts = {tag: series(events, tag)[0][1] for tag in ("sample", "settings", "faults")}
    assert b"Once a fox" in texts["sample"]
    assert b'"hidden_units": 8' in texts["settings"]
    assert b"left out" in texts["faults"]
    assert all(text.startswith(b"```\n") for text in texts.values())
    histograms = {f"weights/{name}" for name in network.weights} | {f"gates/lstm_0/{gate}" for gate in "ifo"}
    for tag in histograms:
        assert [at for at, _ in series(events, tag)] == [60, 70]
    left, right, count = make_ndarray(events.Tensors("gates/lstm_0/f")[0].tensor_proto).T
    assert count.sum() == 3 * 1 * 2  # T, B, H
    assert (left[0], right[-1]) == pytest.approx((1 / (1 + np.exp(9)), 1 / (1 + np.exp(-9))), rel=1e-3)
    shown = set(events.Tags()["tensors"]) - {"_hparams_/experiment", "_hparams_/session_start_info"}
    memory = {tag for tag in shown if tag.startswith("memory/")}
    assert shown == set(scalars) | set(texts) | histograms | memory


def test_what_takes_longer_waits_when_its_share_of_the_time_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.training.observers.tensorboard.UPDATES_FRACTION", -1)
    monkeypatch.setattr("textgen.training.observers.tensorboard.LOOKS_FRACTION", -1)
    monitor = started(tmp_path)
    for number in range(1, 101):
        monitor.on_step(step(number))
    monitor.on_validation(validation(100))
    monitor.on_end()
    groups = {tag.split("/")[0] for tag in read(tmp_path).Tags()["tensors"]}
    assert {"loss", "perplexity", "best", "sample", "gradient_norm", "speed"} <= groups
    assert not groups & {"gate_below_0.1", "cell_norm", "weights", "gates", "weight_norm", "update_ratio"}


def test_an_allowance_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 100.0, 100.0, 102.0, 102.0, 299.0, 301.0])
    monkeypatch.setattr("textgen.training.observers.tensorboard.time.monotonic", lambda: next(times))
    allowance = Allowance(0.01)
    is_left = [allowance.is_left]
    with allowance.spending():
        pass  # for two seconds
    is_left += [allowance.is_left for _ in range(3)]
    assert is_left == [True, False, False, True]


def test_memory_is_shown_in_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.training.observers.tensorboard.resident_bytes", lambda: 1_500_000_000)
    monkeypatch.setattr("textgen.training.observers.tensorboard.gpu_bytes", lambda: 0)
    monitor = started(tmp_path)
    monitor.on_step(step(10))
    monitor.on_end()
    assert series(read(tmp_path), "memory/resident_gb") == [(10, 1.5)]
    assert "memory/gpu_gb" not in read(tmp_path).Tags()["tensors"]


def test_runs_compare_by_their_settings(tmp_path: Path) -> None:
    settings: dict[str, dict[str, object]] = {
        "corpus": {"paths": [f"{number}.txt" for number in range(1000)]},
        "model": {"hidden_units": 8, "tie_embeddings": True},
        "training": {"patience": None, "schedule": "cosine"},
    }
    started(tmp_path, RunReport("fables", settings)).on_end()
    start = read(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    info = HParamsPluginData.FromString(start).session_start_info
    assert info.group_name == "fables"
    assert info.hparams["model/hidden_units"].number_value == 8
    assert info.hparams["model/tie_embeddings"].bool_value is True
    assert info.hparams["training/patience"].string_value == "null"
    experiment = read(tmp_path).SummaryMetadata("_hparams_/experiment").plugin_data.content
    columns = HParamsPluginData.FromString(experiment).experiment
    assert {column.name for column in columns.hparam_infos} == set(info.hparams)
    assert "best/bits_per_byte" in [metric.name.tag for metric in columns.metric_infos]
    shown = series(read(tmp_path), "settings")[0][1]
    assert b"0.txt" in shown
    assert b"and 980 more" in shown
    assert b"999.txt" not in shown


def test_a_resumed_run_goes_on_from_its_checkpoint_and_no_point_is_there_twice(tmp_path: Path) -> None:
    first = started(tmp_path)
    for number in range(1, 71):  # the checkpoint is at step 20; the rest is lost, and the file is not closed
        first.on_step(step(number))
        if number in (20, 40):
            first.on_validation(validation(number))
    second = started(tmp_path, RunReport("fables", {}, step=20))
    for number in range(21, 56):
        second.on_step(step(number))
    second.on_end()
    events = read(tmp_path)
    assert [at for at, _ in series(events, "loss/train_nats_per_token")] == [10, 20, 30, 40, 50]
    assert [at for at, _ in series(events, "loss/valid_nats_per_token")] == [20]
    assert [at for at, _ in series(events, "gates/lstm_0/f")] == [20]
    assert [at for at, _ in series(events, "update_ratio/head/bias")] == [50]
    first.on_end()


def test_an_update_is_measured_when_a_run_is_resumed_just_before_it(tmp_path: Path) -> None:
    network = Network()
    monitor = started(tmp_path, RunReport("fables", {}, step=49), network)
    network.weights["head/bias"] *= 1.5
    monitor.on_step(step(50))
    monitor.on_end()
    assert series(read(tmp_path), "update_ratio/head/bias") == [(50, 0.5)]


def test_steps_that_a_run_went_back_on_do_not_count_but_the_cause_is_told(tmp_path: Path) -> None:
    network = Network()
    monitor = started(tmp_path, network=network)
    for number in range(1, 50):
        monitor.on_step(step(number))
    monitor.on_fault("At step 50 the loss is not finite: returned to the weights of step 10.")
    network.weights["head/bias"] *= 2
    for number in range(11, 31):
        monitor.on_step(step(number))
    monitor.on_end()
    events = read(tmp_path)
    assert [at for at, _ in series(events, "gradient_norm/all")] == [10, 20, 30]
    assert [(at, b"returned to" in text) for at, text in series(events, "faults")] == [(11, True)]
    assert not [tag for tag in events.Tags()["tensors"] if tag.startswith("update_ratio")]


@pytest.mark.parametrize("text", ["a\n```\nb", "```\n````\nc <i>", "`d`", "", "*e* _f_\n\n# g"])
def test_a_text_is_shown_as_it_is(text: str) -> None:
    shown = markdown.markdown(fenced(text), extensions=["markdown.extensions.fenced_code"])  # as TensorBoard does
    assert re.fullmatch(r"<pre><code>(.*)\n</code></pre>", shown, re.DOTALL), shown
    assert html.unescape(shown.removeprefix("<pre><code>").removesuffix("\n</code></pre>")) == text


def test_the_projector_shows_the_most_frequent_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textgen.training.observers.tensorboard.PROJECTED_TOKENS", 3)
    monitor = started(tmp_path)
    for number in (10, 20):
        monitor.on_validation(validation(number))
    monitor.on_end()
    assert (tmp_path / "pieces.tsv").read_text(encoding="utf-8") == "piece\tcount\n<eos>\t2\na\\tb\t3\n▁fox\t1\n"
    table = np.fromfile(tmp_path / "embedding.bytes", "<f4").reshape(3, 3)
    np.testing.assert_array_equal(table, [[0, 1, 2], [6, 7, 8], [9, 10, 11]])
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(encoding="utf-8"), ProjectorConfig())
    (embedding,) = config.embeddings
    assert (embedding.tensor_path, embedding.metadata_path) == ("embedding.bytes", "pieces.tsv")
    assert list(embedding.tensor_shape) == [3, 3]


def test_a_full_disk_is_one_clear_error(tmp_path: Path, disk_of: Callable[[int], AbstractContextManager[None]]) -> None:
    monitor = started(tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    with disk_of(size + 10), pytest.raises(TextgenError, match=f"Cannot write {tmp_path}.*Free some space"):
        monitor.on_step(step(10))
    monitor.on_end()


def test_where_no_file_can_be_created_that_is_the_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    monitor = Monitor(tmp_path / "logs", Network(), Words(), TokenData(Ids([0, 2, 3]), Ids([2, 3, 0])))  # type: ignore[arg-type]
    with pytest.raises(TextgenError, match=f"^Cannot write {tmp_path / 'logs'}: "):
        monitor.on_start(RunReport("fables", {}))
    monitor.on_end()
    assert (tmp_path / "logs").read_text() == "in the way"


def test_the_points_of_a_run_are_those_of_the_reference_network(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first update of a training, from its event file, against NumPy."""
    from textgen.dataset.batches import Batches
    from textgen.model.language_model import LanguageModel
    from textgen.training.trainer import Trainer

    monkeypatch.setattr("textgen.training.observers.tensorboard.STEPS_PER_POINT", 1)
    monkeypatch.setattr("textgen.training.observers.tensorboard.STEPS_PER_UPDATE", 1)
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40, encoding="utf-8")
    data = encode_and_split(Corpus([tmp_path / "text.txt"], CorpusConfig(documents="file")), tokenizer)
    shape = ModelConfig(tokenizer.vocab_size, 6, 8, 1, cell="gru", dropout=0.0, embedding_dropout=0.0)
    config = TrainingConfig(batch_size=4, sequence_length=5, steps=2, num_validations=2, precision="float32")
    model = LanguageModel(shape, pad_id=tokenizer.pad_id)
    weights = [model.weights_as_arrays()]

    class Keep(Observer):
        def on_step(self, report: StepReport) -> None:
            weights.append(model.weights_as_arrays())

    loop = Trainer(model, data, config, tmp_path / "checkpoints")
    loop.run([Keep(), Monitor(tmp_path / "logs", model, tokenizer, data)], RunReport("x", {}))

    events, stack, (before, after, last) = read(tmp_path / "logs"), stack_of(shape), weights
    batches = Batches(data.train, 4, 5, tokenizer.pad_id, seed=config.seed, has_fresh=True)
    inputs, targets = next(iter(batches.epoch(0)))
    state = initial_state(before, 4, stack)
    loss, gradients, _, _ = loss_and_gradients(before, unmarked(inputs), targets, state, tokenizer.pad_id, stack)

    def first(tag: str) -> Any:
        return dict(series(events, tag))[1]

    def length(array: np.ndarray) -> Any:
        return np.sqrt((array**2).sum())

    assert first("loss/train_nats_per_token") == pytest.approx(loss, rel=1e-4)
    for name, gradient in gradients.items():
        assert first(f"gradient_norm/{name}") == pytest.approx(length(gradient), rel=1e-3)
        assert first(f"weight_norm/{name}") == pytest.approx(length(after[name]), rel=1e-5)
        if before[name].any():
            ratio = length(after[name] - before[name]) / length(before[name])
            assert first(f"update_ratio/{name}") == pytest.approx(ratio, rel=1e-4)
    table = np.fromfile(tmp_path / "logs" / "embedding.bytes", "<f4").reshape(-1, 6)
    np.testing.assert_array_equal(table, last["embedding/table"])
    assert [at for at, _ in series(events, "cell_norm/gru_0")] == [1, 2]
