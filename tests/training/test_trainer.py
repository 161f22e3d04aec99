"""The pieces of the training loop that can be told exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
from streams import restarted, unmarked
from vocabularies import pieces_of

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import TokenData, encode_and_split
from textgen.errors import ConfigError, CorpusError, TextgenError, TrainingError
from textgen.evaluation.scores import Scores
from textgen.model.language_model import LanguageModel
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.checkpoints import Checkpoint, newest_checkpoint
from textgen.training.config import TrainingConfig
from textgen.training.observers.observer import Observer, RunReport, StepReport, ValidationReport

if TYPE_CHECKING:
    from textgen.training.trainer import Trainer


def data_for(tokenizer: Tokenizer, folder: Path) -> TokenData:
    """A short text, encoded."""
    (folder / "text.txt").write_text("abc cab bca acb " * 40, encoding="utf-8")
    return encode_and_split(Corpus([folder / "text.txt"], CorpusConfig(documents="file")), tokenizer)


def test_one_update_is_adamw_on_the_clipped_mean_gradient(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the reference network's gradients and AdamW written out, with the batch in one and in two shards."""
    from textgen.model.config import ModelConfig
    from textgen.model.reference import clip_by_global_norm, initial_state, loss_and_gradients
    from textgen.training import trainer

    data = data_for(tokenizer, tmp_path)
    shape = ModelConfig(
        tokenizer.vocab_size, embedding_dim=6, hidden_units=8, num_layers=2, dropout=0.0, embedding_dropout=0.0
    )
    config = TrainingConfig(
        batch_size=4, sequence_length=5, steps=1, clip_norm=0.05, weight_decay=0.1, warmup_fraction=0.0
    )
    results = []
    for cores in (1, 2):
        monkeypatch.setattr("textgen.training.distributed.distribution.num_cores", lambda processes, cores=cores: cores)
        model = LanguageModel(shape, pad_id=tokenizer.pad_id)
        before = {name: array.astype(np.float64) for name, array in model.weights_as_arrays().items()}
        loop = trainer.Trainer(model, data, config, tmp_path / f"checkpoints-{cores}")
        inputs, targets = next(iter(loop.reader.batches.epoch(0)))
        gradient = loop._step(inputs, targets, 0.01)
        results.append(model.weights_as_arrays())

        loss, gradients, _, _ = loss_and_gradients(before, unmarked(inputs), targets, initial_state(before, 4))
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


def test_the_time_of_compiling_does_not_end_the_warm_up(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The first update takes a tenth of the time; the rate still rises over 25 updates."""
    from textgen.model.config import ModelConfig
    from textgen.training.trainer import Trainer

    config = TrainingConfig(batch_size=4, sequence_length=5, minutes=1.0, epochs=None, learning_rate=0.01)
    model = LanguageModel(ModelConfig(tokenizer.vocab_size, 6, 8, 1), pad_id=tokenizer.pad_id)
    loop = Trainer(model, data_for(tokenizer, tmp_path), config, tmp_path / "checkpoints")
    rates = []
    for step in range(30):
        loop.position.step, loop.position.seconds = step, 0.0 if step == 0 else 6.0
        rates.append(loop._learning_rate())
    assert rates[:25] == pytest.approx([0.01 * step / 25 for step in (0, *range(2, 26))], rel=0.02, abs=1e-12)
    assert rates[24:] == pytest.approx([0.01] * 6, rel=0.02)
    loop._end_step()  # of the update that was compiled
    rates = []
    for step, seconds in ((1, 6.0), (2, 9.0), (3, 12.0)):  # so slow that 25 of them are more than a tenth of the time
        loop.position.step, loop.position.seconds = step, seconds
        rates.append(loop._learning_rate())
    assert rates == pytest.approx([0.01 * 2 / 25, 0.01 / 2, 0.01], rel=0.1)


def test_a_resumed_run_does_not_begin_its_warm_up_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Neither before the first update of the process, which is compiled, nor after it."""
    from textgen.model.config import ModelConfig
    from textgen.training.trainer import Trainer

    settings: dict[str, Any] = {"batch_size": 4, "sequence_length": 5, "num_validations": 1, "schedule": "constant"}
    config = TrainingConfig(minutes=1.0, epochs=None, learning_rate=0.01, **settings)
    model = LanguageModel(ModelConfig(tokenizer.vocab_size, 6, 8, 1), pad_id=tokenizer.pad_id)

    def resumed(compiling_seconds: float) -> Trainer:
        loop = Trainer(model, data_for(tokenizer, tmp_path), config, tmp_path / "checkpoints")
        position = {"step": 3, "seconds": 12.0, "compiling_seconds": compiling_seconds}
        loop.restore(Checkpoint(loop.tensors.to_arrays(), position))
        return loop

    loop, rates = resumed(6.0), []
    for step, seconds in ((3, 12.0), (4, 18.0), (5, 21.0)):
        loop.position.step, loop.position.seconds = step, seconds
        rates.append(loop._learning_rate())
        loop._end_step()
    assert rates == pytest.approx([0.01] * 3, rel=0.1)
    assert loop.position.compiling_seconds == 6.0
    early = resumed(9.0)
    assert early._learning_rate() == pytest.approx(0.01 / 2, rel=0.1)
    early.position.step, early.position.seconds = 4, 20.0
    early._end_step()
    assert early.position.compiling_seconds == 9.0 + 8.0
    assert early._learning_rate() == pytest.approx(0.01 / 2, rel=0.1)


def test_a_return_to_a_checkpoint_is_not_forgotten_if_the_run_is_killed_after_it(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from textgen.model.config import ModelConfig
    from textgen.training.rollback import RolledBack
    from textgen.training.trainer import Trainer

    config = TrainingConfig(batch_size=4, sequence_length=5, steps=9, keep_checkpoints=3)
    model = LanguageModel(ModelConfig(tokenizer.vocab_size, 6, 8, 1), pad_id=tokenizer.pad_id)
    loop, again = (Trainer(model, data_for(tokenizer, tmp_path), config, tmp_path / "checkpoints") for _ in range(2))
    for step in (0, 2):
        loop.position.step = loop.position.step_in_epoch = step
        loop.save_checkpoint()
    for failed, kept in ((4, 2), (6, 0)):
        loop.position.step = loop.position.step_in_epoch = failed
        with pytest.raises(RolledBack):
            loop._roll_back("the loss was not finite")
        checkpoint, skipped = newest_checkpoint(tmp_path / "checkpoints")
        again.restore(checkpoint)
        assert (skipped, again.position.step, again.position.step_in_epoch) == ([], kept, failed)
    assert again.position.health.rollbacks == 2


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_observer_sets_the_learning_rate_of_one_process_only(num_workers: int) -> None:
    from textgen.training.position import Position
    from textgen.training.trainer import Trainer

    watch, idle = Observer(), Observer()
    loop: Any = object.__new__(Trainer)
    loop._observers, loop._distribution = [idle, watch], SimpleNamespace(num_workers=num_workers)
    loop.position = Position(learning_rate=0.5)
    watch.learning_rate = 0.5  # as it was when the run was resumed
    loop._take_learning_rate()
    watch.learning_rate = 0.1
    if num_workers == 1:
        loop._take_learning_rate()
        assert loop.position.learning_rate == 0.1
    else:
        with pytest.raises(TrainingError, match="Observer sets the learning rate of one process, and 2 train together"):
            loop._take_learning_rate()
        assert loop.position.learning_rate == 0.5


def test_a_window_begins_with_the_state_before_it_or_with_zeros(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Losses of the first three windows, without learning, against the reference network."""
    from textgen.model.config import ModelConfig
    from textgen.model.reference import initial_state, loss_and_gradients
    from textgen.training.trainer import Trainer

    data = data_for(tokenizer, tmp_path)
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
            ids, state = restarted(inputs, state)
            afresh = loss_and_gradients(weights, ids, targets, initial_state(weights, 4))[0]
            loss, _, state, _ = loss_and_gradients(weights, ids, targets, state)
            carried_on.append(loss)
            expected.append(loss if carry_state else afresh)
            assert loop._step(inputs, targets, 0.0).nats == pytest.approx(expected[-1], abs=1e-5)
        assert carry_state or min(abs(a - b) for a, b in zip(expected[1:], carried_on[1:], strict=True)) > 1e-3


def test_where_the_scale_of_the_loss_overflows_the_update_is_left_out_and_the_window_is_read(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from textgen.model.config import ModelConfig
    from textgen.training.loss_scale import LossScale
    from textgen.training.trainer import Trainer

    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    config = TrainingConfig(batch_size=4, sequence_length=5, steps=3)
    model = LanguageModel(shape, pad_id=tokenizer.pad_id, precision="float16")
    loop = Trainer(model, data_for(tokenizer, tmp_path), config, tmp_path / "checkpoints")
    loop.position.loss_scale = LossScale(2.0**30)
    before = model.weights_as_arrays()
    inputs, targets = next(iter(loop.reader.batches.epoch(0)))
    gradient = loop._step(inputs, targets, 0.01)
    assert math.isfinite(gradient.nats)
    assert not gradient.is_finite
    for name, array in model.weights_as_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    read = tf.nest.flatten(loop.tensors.state)
    for ours, theirs in zip(read, tf.nest.flatten(gradient.state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.abs(read[0]).max() > 0


class Watch(Observer):
    """Keeps what it is told."""

    def __init__(self, events: list[tuple[str, int]]) -> None:
        super().__init__()
        self.events, self.steps, self.faults = events, list[StepReport](), list[str]()

    def on_step(self, report: StepReport) -> None:
        self.events.append(("read", report.step))
        self.steps.append(report)

    def on_validation(self, report: ValidationReport) -> None:
        self.events.append(("validated", report.step))

    def on_fault(self, line: str) -> None:
        self.faults.append(line)


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(None, id="sound"),
        pytest.param(3, id="a loss that is not finite", marks=pytest.mark.slow),
    ],
)
def test_where_losses_are_read_one_update_later_the_run_is_the_same(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int | None
) -> None:
    """As on a GPU, which then has the next update before it has finished this one."""
    from textgen.model.config import ModelConfig
    from textgen.training.train_step import Gradient, TrainStep
    from textgen.training.trainer import Trainer

    data = data_for(tokenizer, tmp_path)
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    config = TrainingConfig(batch_size=2, sequence_length=5, steps=6, num_validations=2, valid_tokens=64, clip_norm=0.1)
    events, own = list[tuple[str, int]](), TrainStep.gradient

    def gradient(step: TrainStep, *arguments: Any, **options: Any) -> Gradient:
        made, number = own(step, *arguments, **options), arguments[3] + 1
        events.append(("began", number))
        return replace(made, loss_tensor=tf.constant(np.nan)) if number == lost else made

    monkeypatch.setattr(TrainStep, "gradient", gradient)
    watches, weights = [], []
    for is_ahead in (False, True):
        monkeypatch.setattr(TrainStep, "can_run_ahead", is_ahead)
        model = LanguageModel(shape, pad_id=tokenizer.pad_id, seed=1)
        events.clear()
        watches.append(Watch(events))
        Trainer(model, data, config, tmp_path / f"{is_ahead}").run([watches[-1]], RunReport("model", {}, 0))
        weights.append(model.weights_as_arrays())
    reported = [[(r.step, r.learning_rate, r.epochs) for r in watch.steps] for watch in watches]
    assert reported[0] == reported[1]
    assert [r.step for r in watches[1].steps] == [step for step in range(1, 7) if step != lost]
    for early, late in zip(watches[0].steps, watches[1].steps, strict=True):
        assert late.nats_per_token == pytest.approx(early.nats_per_token, abs=1e-5)
    for name, array in weights[0].items():
        np.testing.assert_allclose(weights[1][name], array, atol=1e-6)
    left_out = [f"Step {lost}: the loss or its gradient was not finite; update left out."] * (lost is not None)
    assert watches[1].faults == watches[0].faults == left_out
    if lost is None:
        assert events == [
            *[("began", 1), ("began", 2), ("read", 1), ("began", 3), ("read", 2), ("read", 3), ("validated", 3)],
            *[("began", 4), ("began", 5), ("read", 4), ("began", 6), ("read", 5), ("read", 6), ("validated", 6)],
        ]


def trainer_of(tokenizer: Tokenizer, folder: Path, **settings: Any) -> Trainer:
    """A trainer of a small network."""
    from textgen.model.config import ModelConfig
    from textgen.training.trainer import Trainer

    model = LanguageModel(
        ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, num_layers=1), pad_id=tokenizer.pad_id
    )
    config = TrainingConfig(**{"batch_size": 4, "sequence_length": 5, **settings})
    return Trainer(model, data_for(tokenizer, folder), config, folder / "checkpoints")


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"steps": 6}, [math.inf, 8, 6, 4, 2, 0]),
        ({"steps": 6, "minutes": 10.0}, [580, 8, 6, 4, 2, 0]),
        ({"steps": 6, "minutes": 28 / 60}, [8, 6, 4, 2, 0]),
        ({"epochs": None, "minutes": 28 / 60}, [8, 6, 4, 2, 0]),
    ],
    ids=str,
)
def test_the_time_left_does_not_count_the_time_of_compiling(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], left: list[float]
) -> None:
    """The first step takes 20 seconds and each later one 2; until there is one, nothing tells the speed."""
    from textgen.training.stopwatch import Stopwatch

    seconds, watch = itertools.count(20, 2), Watch([])
    monkeypatch.setattr(Stopwatch, "read", lambda watch: (float(next(seconds)), 1.0))
    trainer_of(tokenizer, tmp_path, num_validations=1, **limits).run([watch], RunReport("model", {}))
    assert [report.seconds_left for report in watch.steps] == pytest.approx(left)


def test_padding_counts_neither_for_the_speed_nor_for_the_loss(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an epoch whose last batch is hardly filled. Each step takes a second."""
    from textgen.training.stopwatch import SpeedMeter, Stopwatch

    speeds, validations = list[float](), list[ValidationReport]()

    def add(meter: SpeedMeter, speed: float, **_: Any) -> float:
        speeds.append(speed)
        return speed

    monkeypatch.setattr(Stopwatch, "read", lambda watch: (0.0, 1.0))
    monkeypatch.setattr(SpeedMeter, "add", add)
    loop, watch = trainer_of(tokenizer, tmp_path, sequence_length=25, epochs=1.0, num_validations=1), Watch([])
    monkeypatch.setattr(watch, "on_validation", validations.append)
    loop.run([watch], RunReport("model", {}))
    full = 4 * 25
    assert speeds[:-1] == [full] * (len(watch.steps) - 1)
    assert 0 < speeds[-1] < full
    assert sum(speeds) == loop.reader.batches.stream.summary.tokens
    nats = [report.nats_per_token for report in watch.steps]
    assert validations[0].train_nats_per_token == pytest.approx(np.average(nats, weights=speeds), rel=1e-6)


class Fails(Observer):
    """Raises where it is told to, and keeps what was called."""

    def __init__(self, *places: str) -> None:
        super().__init__()
        self.places, self.called = places, list[str]()

    def on_start(self, run: RunReport) -> None:
        self._call("start")

    def on_end(self) -> None:
        self._call("end")

    def _call(self, place: str) -> None:
        self.called.append(place)
        if place in self.places:
            raise ValueError(f"{place} {len(self.places)}")


@pytest.mark.parametrize(
    ("observers", "expected", "called"),
    [
        ([Fails("end"), Fails()], "end 1", [["start", "end"], ["start", "end"]]),
        ([Fails(), Fails("start", "end"), Fails()], "start 2", [["start", "end"], ["start", "end"], []]),
        ([Fails("end"), Fails("end", "never")], "end 2", [["start", "end"], ["start", "end"]]),
    ],
    ids=["at an end", "at a start", "at two ends"],
)
def test_all_observers_that_were_started_are_ended_and_the_first_error_is_told(
    tokenizer: Tokenizer, tmp_path: Path, observers: list[Fails], expected: str, called: list[list[str]]
) -> None:
    loop = trainer_of(tokenizer, tmp_path, steps=1)
    loop.position.step = 1  # all of them, so that no step is made
    for observer in observers:
        observer.called.clear()
    with pytest.raises(ValueError, match=f"^{expected}$"):
        loop.run(observers, RunReport("model", {}))
    assert [observer.called for observer in observers] == called


def test_an_error_at_the_end_of_an_observer_does_not_hide_that_of_the_run(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> str:
        raise TextgenError("first")

    loop, observers = trainer_of(tokenizer, tmp_path, steps=1), [Fails("end"), Fails()]
    monkeypatch.setattr(loop, "_steps", fails)
    with pytest.raises(TextgenError, match=r"^first$"):
        loop.run(observers, RunReport("model", {}))
    assert [observer.called for observer in observers] == [["start", "end"]] * 2


def test_processes_go_back_to_a_checkpoint_by_one_clock(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each would go on with a learning rate of its own, where the budget is in minutes."""
    from textgen.training.rollback import RolledBack

    loop = trainer_of(tokenizer, tmp_path, minutes=1.0)
    loop.save_checkpoint()
    sent = list[float]()

    def total(values: list[float]) -> list[float]:
        sent.extend(values)
        return [20.0]  # of the chief

    monkeypatch.setattr(loop._distribution, "is_chief", False)
    monkeypatch.setattr(loop._distribution, "total", total)
    monkeypatch.setattr("textgen.training.rollback.require_same_state", lambda *read: None)
    loop.position.seconds = 5.0
    with pytest.raises(RolledBack):
        loop._roll_back("the loss was high")
    assert sent == [0.0, 0.0], "neither its clock nor what its checkpoint costs"
    assert loop.progress() == pytest.approx(20 / 60)


def test_all_tensors_are_read_once_before_the_first_step(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the room on the disk and for the first checkpoint."""
    loop, read = trainer_of(tokenizer, tmp_path, steps=1), []
    to_arrays = loop.tensors.to_arrays

    def counted() -> dict[str, np.ndarray]:
        read.append(to_arrays())
        return read[-1]

    monkeypatch.setattr(loop.tensors, "to_arrays", counted)
    monkeypatch.setattr(loop, "_train", lambda restart_timer: "no step is made")
    assert loop.run([], RunReport("model", {})) == "no step is made"
    (expected,) = read
    found, _ = newest_checkpoint(tmp_path / "checkpoints")
    assert found.tensors.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def test_a_run_that_is_over_names_the_limit_that_has_ended_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    loop = trainer_of(tokenizer, tmp_path, minutes=0.1, epochs=30.0)
    assert loop.reader.reached(loop.position) == ""
    loop.position.seconds, loop.position.step_in_epoch = 6.0, 1
    passes = f"{loop.epochs():.2f}"
    assert loop.reader.reached(loop.position) == f"the limit of 0.1 minutes is reached at epoch {passes} of 30"
    loop.position.step = 10**9
    assert loop.reader.reached(loop.position) == "the planned length is reached"


@pytest.mark.parametrize("number", [49, 98, 100])
def test_no_validation_is_lost_by_rounding(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One after each step: none is late, and the next is due after the next step in a run that is resumed, too."""
    loop = trainer_of(tokenizer, tmp_path, steps=number, epochs=None, num_validations=number)
    scores = Scores(nats_per_token=2.0, bits_per_byte=2.0, perplexity_per_token=7.4, tokens=9, bytes=9)
    monkeypatch.setattr(loop.validator, "_scores", lambda: scores)
    monkeypatch.setattr(loop, "save_checkpoint", lambda: None)
    tensors = loop.tensors.to_arrays()
    for step in range(1, number + 1):
        loop.reader.advance(loop.position)
        loop._end_step()
        assert (loop.position.validations, len(loop.position.history)) == (step, step)
        loop.restore(Checkpoint(tensors, asdict(loop.position)))
        assert loop.position.validations == step
    assert loop.reader.reached(loop.position)


def test_a_run_that_returns_to_a_checkpoint_goes_on_without_the_updates_that_were_not_read(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, watch, unread = trainer_of(tokenizer, tmp_path, steps=2), Watch([]), list[int]()

    def train(restart_timer: object) -> str:
        unread.append(len(loop._pending))
        if len(unread) < 3:
            loop._pending.append(None)  # type: ignore[arg-type]
            loop._roll_back("the loss was high")
        return "the planned length is reached"

    monkeypatch.setattr(loop, "_train", train)
    assert loop.run([watch], RunReport("model", {})) == "the planned length is reached"
    assert unread == [0, 0, 0]
    assert len(watch.faults) == loop.position.health.rollbacks == 2


@pytest.mark.parametrize(
    ("is_ahead", "max_rollbacks"),
    [(False, 1), (True, 0), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((False, 0), (True, 1)))],
)
def test_a_run_that_goes_back_names_the_step_whose_loss_was_wrong(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ahead: bool, max_rollbacks: int
) -> None:
    """Not the one after it, which has begun already if losses are read later."""
    from textgen.training.loss_health import Health
    from textgen.training.train_step import TrainStep

    numbers = itertools.count(1)
    monkeypatch.setattr(TrainStep, "can_run_ahead", is_ahead)
    monkeypatch.setattr(Health, "record", lambda *_: "the loss was high" if next(numbers) == 3 else "")
    loop = trainer_of(tokenizer, tmp_path, steps=6, num_validations=1, max_rollbacks=max_rollbacks)
    watch = Watch([])
    if max_rollbacks:
        loop.run([watch], RunReport("model", {}))
        (told,) = watch.faults
    else:
        with pytest.raises(TrainingError) as caught:
            loop.run([watch], RunReport("model", {}))
        told = str(caught.value)
    assert told.startswith("At step 3 the loss was high")


@pytest.mark.parametrize(
    ("settings", "precision", "gpus", "expected"),
    [
        ({}, "float32", 1, True),
        ({}, "float32", 0, False),
        ({}, "float16", 1, False),
        ({"weight_averaging": "ema"}, "float32", 1, False),
        ({"optimizer": "asgd"}, "float32", 1, False),
    ],
)
def test_losses_are_read_later_only_on_a_gpu_and_where_nothing_waits_for_them(
    settings: dict[str, Any], precision: str, gpus: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textgen.model.config import ModelConfig
    from textgen.training.distributed.distribution import Distribution
    from textgen.training.train_step import TrainStep

    model = LanguageModel(ModelConfig(9, 6, 8, 1), pad_id=0, precision=precision)
    step = TrainStep(model, TrainingConfig(**settings), Distribution())
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["gpu"] * gpus)
    assert step.can_run_ahead is expected


def test_held_out_text_that_is_cut_off_meanwhile_is_an_error_of_the_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """A thread that reads ahead finds it, but not the one that reads the training text."""
    loop = trainer_of(tokenizer, tmp_path, steps=1)
    held_out = loop.validator._held_out
    path = held_out.folder / "valid.bin"
    path.write_bytes(path.read_bytes()[:4])
    with pytest.raises(CorpusError, match=r"valid\.bin"):
        loop.run([], RunReport("model", {}))


def test_a_run_without_an_end_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set minutes, epochs or steps"):
        trainer_of(tokenizer, tmp_path)


@pytest.mark.slow
def test_a_model_of_one_file_knows_how_texts_begin_and_how_rarely_they_end(tmp_path: Path) -> None:
    from textgen.evaluation.scoring import Scorer
    from textgen.model.config import ModelConfig
    from textgen.model.numpy_model import NumpyModel
    from textgen.tokenizer.kinds import ByteTokenizer
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


def test_processes_encode_the_text_of_an_epoch_before_they_ask_for_anything_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they give signs of life: at the end of each epoch, and where a run goes on in the middle of one."""
    from textgen.model.config import ModelConfig
    from textgen.training.run_start import training_data
    from textgen.training.trainer import Trainer

    tokenizer = pieces_of("bpe", ["abc cab bca acb abccab "] * 4, vocab_size=266)
    config = TrainingConfig(batch_size=4, sequence_length=16, epochs=2, subword_alpha=0.3, num_validations=1)
    model = LanguageModel(ModelConfig(tokenizer.vocab_size, 6, 8, 1), pad_id=tokenizer.pad_id)
    data = training_data(data_for(tokenizer, tmp_path), tokenizer, config)
    loop, prepared, early = Trainer(model, data, config, tmp_path / "checkpoints"), list[int](), list[int]()
    of_epoch, working = type(data.train).of_epoch, list[bool]()

    def each_does(work: Callable[[], object]) -> None:
        working.append(True)
        work()
        working.clear()
        prepared.append(loop.position.epoch)

    def checked(stream: Any, epoch: int) -> Any:
        if not (epoch in (0, *prepared) or working):
            early.append(epoch)
        return of_epoch(stream, epoch)

    monkeypatch.setattr(loop._distribution, "each_does", each_does)
    monkeypatch.setattr(type(data.train), "of_epoch", checked)
    loop.run([], RunReport("songs", {}, 0, 0))
    assert (prepared, early) == ([1, 2], [])
    loop.restore(Checkpoint(loop.tensors.to_arrays(), {"step": 9, "epoch": 5, "step_in_epoch": 1}))
    assert (prepared, early) == ([1, 2, 5], [])
