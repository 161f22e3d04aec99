"""Which part of the held-out text validations score, and when scores of it can be compared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_cache import TokenData, encode_and_split
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.training.position import Position

if TYPE_CHECKING:
    from textgen.training.validator import Validator

HELD_OUT = 160  # characters: no whole number of windows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TokenData:
    """A text of one document, of which a tenth is held out."""
    folder = tmp_path_factory.mktemp("validator")
    (folder / "text.txt").write_text("abc cab bca acb " * HELD_OUT, encoding="utf-8")
    corpus = Corpus([folder / "text.txt"], CorpusConfig(documents="file"))
    return encode_and_split(corpus, ByteTokenizer(), cache=folder / "cache")


def validator_of(
    data: TokenData,
    folder: Path,
    valid_tokens: int,
    *,
    by_bytes: bool = False,
    direction: str = "forward",
    interpolate_start: bool = False,
) -> Validator:
    """That of a trainer of a small network."""
    from textgen.model.config import ModelConfig
    from textgen.model.language_model import LanguageModel
    from textgen.training.config import TrainingConfig
    from textgen.training.trainer import Trainer

    model = LanguageModel(ModelConfig(ByteTokenizer().vocab_size, 6, 8, 1, direction=direction), pad_id=0)
    config = TrainingConfig(
        batch_size=4, sequence_length=5, steps=1, valid_tokens=valid_tokens, interpolate_start=interpolate_start
    )
    sizes = ByteTokenizer().token_bytes if by_bytes else None
    return Trainer(model, data, config, folder / "checkpoints", token_bytes=sizes).validator


def scored(valid_tokens: int | None, **given: Any) -> Position:
    """A position of a checkpoint, by default of a version that did not record how the text was chosen."""
    return Position.from_dict({"valid_tokens": valid_tokens, "best_nats_per_token": 2.0, **given})


def test_scores_can_be_compared_if_they_are_of_the_same_part_of_the_text(data: TokenData, tmp_path: Path) -> None:
    length = len(data.valid)
    some, whole = validator_of(data, tmp_path, 64), validator_of(data, tmp_path, 10 * length)
    assert [some.is_same_text(scored(before)) for before in (None, 64, 65, length)] == [False, True, False, False]
    assert [whole.is_same_text(scored(before)) for before in (None, 64, length - 1)] == [False] * 3
    assert [whole.is_same_text(scored(before)) for before in (length, length + 1, 20 * length)] == [True] * 3
    assert [some.is_other_text(scored(before)) for before in (None, 64, 65)] == [False, False, True]


def test_a_part_chosen_by_bytes_is_another_text_than_one_chosen_by_tokens(data: TokenData, tmp_path: Path) -> None:
    by_bytes = validator_of(data, tmp_path, 64, by_bytes=True)
    whole = validator_of(data, tmp_path, len(data.valid), by_bytes=True)
    backward = validator_of(data, tmp_path, 64, by_bytes=True, direction="backward")
    assert by_bytes.is_other_text(scored(64))
    assert by_bytes.is_same_text(scored(64, valid_by_bytes=True))
    assert not by_bytes.is_other_text(Position())
    assert whole.is_same_text(scored(len(data.valid)))  # all of the text, however it is counted
    assert backward.is_same_text(scored(64))  # its parts are always chosen by tokens


def test_positions_record_how_the_text_of_their_scores_was_chosen(data: TokenData, tmp_path: Path) -> None:
    validator = validator_of(data, tmp_path, 64, by_bytes=True)
    weights = validator._model.weights_as_arrays()
    validated, rescored, kept, skipped = Position(), scored(64), scored(64), scored(64)
    validator.validate(validated, with_sample=False)
    validator.rescore_best(rescored, weights, 3)
    validator.keep_saved(kept, weights, 3)
    skipped.skip_to(validated, seconds=1.0)
    assert all(validator.is_same_text(position) for position in (validated, rescored, kept, skipped))
    assert rescored.best_nats_per_token == validated.best_nats_per_token


def test_as_many_tokens_as_the_text_has_are_all_of_it(data: TokenData, tmp_path: Path) -> None:
    """Not only the whole windows in it."""
    validator = validator_of(data, tmp_path, len(data.valid))
    position = Position()
    report = validator.validate(position, with_sample=False)
    assert report
    assert validator.best_scores == validator.evaluator.scores(data.valid)
    assert position.best_nats_per_token == report.nats_per_token


def give_scores(validator: Validator, monkeypatch: pytest.MonkeyPatch, *nats: float) -> None:
    """The next scores, one after the other."""
    scores = (SimpleNamespace(nats_per_token=each, bits_per_byte=each) for each in nats)
    monkeypatch.setattr(validator.evaluator, "scores", lambda *given: next(scores))


@pytest.mark.parametrize("interpolates", [True, False])
def test_validations_are_compared_with_unmixed_weights_while_the_saved_ones_are_a_better_mix(
    data: TokenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpolates: bool
) -> None:
    validator = validator_of(data, tmp_path, 64, interpolate_start=interpolates)
    weights, position, reports = validator._model.weights_as_arrays(), scored(64, best_nats_per_token=3.0), []
    give_scores(validator, monkeypatch, 1.0, 2.9, 2.5, 2.7, 0.9)
    validator.keep_saved(position, weights, 3)
    for step in (4, 5, 6, 7):
        position.step = step
        report = validator.validate(position, with_sample=False)
        assert report
        later = validator.runner_up
        reports.append((report.improved, position.without_improvement, position.saved_step, later and later.step))
    second, third = (5, 5) if interpolates else (None, None)
    first = 4 if interpolates else None
    assert reports == [(False, 0, 3, first), (False, 0, 3, second), (False, 1, 3, third), (True, 0, 7, None)]


def test_a_score_of_another_text_whose_weights_are_gone_is_forgotten(
    data: TokenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = validator_of(data, tmp_path, 64, interpolate_start=True)
    position = scored(63)
    give_scores(validator, monkeypatch, 1.0, 2.9)
    validator.keep_saved(position, validator._model.weights_as_arrays(), 3)
    assert (position.best_nats_per_token, position.kept_nats_per_token) == (None, 1.0)
    validator.validate(position, with_sample=False)
    assert (position.best_nats_per_token, position.kept_nats_per_token, position.saved_step) == (2.9, 1.0, 3)


@pytest.mark.parametrize("kind", ["a validation", "saved weights"])
def test_scoring_a_long_text_is_no_step_that_hangs(
    data: TokenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Each window restarts the time limit, and after some of them the processes wait for the slowest one."""
    monkeypatch.setattr("textgen.training.validator.COMMON_WINDOWS", 2)
    validator, told = validator_of(data, tmp_path, len(data.valid)), list[str]()
    position, weights = Position(), validator._model.weights_as_arrays()
    monkeypatch.setattr(validator._distribution, "restart_timer", lambda: told.append("restart"))
    monkeypatch.setattr(
        validator._distribution, "total", lambda values: list(values) if values else told.append("wait")
    )
    if kind == "a validation":
        validator.validate(position, with_sample=False)
    else:
        validator.rescore_best(position, weights, 3)
    windows = -(-len(data.valid) // 64)
    assert windows > 3
    assert told == [*(["restart", "wait", "restart"] * (windows // 2)), *(["restart"] * (windows % 2))]


def test_all_processes_score_saved_weights_that_the_chief_reads(
    data: TokenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that only waited for the chief would give up on it."""
    validator, scored_weights = validator_of(data, tmp_path, 64), list[dict[str, Any]]()
    own = validator._model.weights_as_arrays()
    saved = {name: array + 1 for name, array in own.items()}
    orders = list[list[str]]()

    def from_chief(arrays: dict[str, Any]) -> dict[str, Any]:
        orders.append([*arrays])
        return saved

    def scores(*given: Any) -> SimpleNamespace:
        scored_weights.append(validator._model.weights_as_arrays())
        return SimpleNamespace(nats_per_token=2.5)

    monkeypatch.setattr(validator._distribution, "from_chief", from_chief)
    monkeypatch.setattr(validator.evaluator, "scores", scores)
    for weights, is_chief in ((dict(reversed(saved.items())), True), (None, False)):
        monkeypatch.setattr(validator._distribution, "is_chief", is_chief)
        monkeypatch.setattr(validator._distribution, "total", lambda values, chief=is_chief: values if chief else [2.5])
        position = Position()
        validator.rescore_best(position, weights, 3)
        assert position.best_nats_per_token == 2.5
    assert orders == [[*own], [*own]]  # the processes send them one after the other
    assert len(scored_weights) == 2
    for scored_once in scored_weights:
        np.testing.assert_array_equal(scored_once["head/bias"], saved["head/bias"])
    np.testing.assert_array_equal(validator._model.weights_as_arrays()["head/bias"], own["head/bias"])
