"""Settings of another cell, optimizer, schedule or average are refused where they are given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError
from textgen.model.config import ACTIVATIONS, CELLS, ModelConfig
from textgen.settings import declared, to_dict
from textgen.training.config import AVERAGES, DECAY_TARGETS, OPTIMIZERS, SCHEDULES, TrainingConfig
from textgen.training.planning.plan import make_plan
from textgen.training.presets import TEXT_PRESETS, with_preset
from textgen.training.unused_settings import USES, overridden, refuse_unused, unused

VALUES: dict[str, Any] = {  # a value that is not the default
    "reset_after": False, "activation": ACTIVATIONS[1], "decay_target": DECAY_TARGETS[1],
    "forget_bias": 5.0, "momentum": 0.9, "beta_1": 0.5, "beta_2": 0.5, "epsilon": 1e-3, "hold_fraction": 0.1,
    "final_learning_rate_fraction": 0.1, "decay_factor": 0.1, "ema_decay": 0.9, "full_softmax_fraction": 0.5,
    "clip_norm": 2.0,
}  # fmt: skip
DECIDING: dict[str, tuple[Any, ...]] = {
    "cell": tuple(CELLS), "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "weight_averaging": AVERAGES,
    "sampled_softmax": (0, 64), "weight_decay": (0.0, 0.1), "clip_value": (None, 1.0),
}  # fmt: skip
CASES = [(name, value) for name, use in USES.items() for value in DECIDING[use.other]]


@pytest.mark.parametrize(("name", "decisive"), CASES)
def test_a_setting_is_refused_exactly_where_it_does_nothing(name: str, decisive: Any, tmp_path: Path) -> None:
    use, text = USES[name], tmp_path / "too short.txt"
    given = {name: VALUES.get(name, 2), use.other: decisive}
    text.write_text("text", encoding="utf-8")
    if use.holds(decisive):
        assert unused(given) == {}
        refuse_unused(given)
    else:
        message = rf"With {use.other} {decisive}, {name} does nothing: leave it out, or "
        if name == "momentum":  # which TrainingConfig refuses itself
            message = f"The optimizer {decisive} has no momentum: set momentum to 0, or choose one of "
        with pytest.raises(ConfigError, match=f"^{message}"):
            make_plan(Corpus([text], CorpusConfig()), given)  # before the text is found too short


def test_what_is_not_chosen_counts_as_the_default() -> None:
    for given in ({"mogrifier_rounds": 3}, {"reset_after": False}, {"num_cycles": 3}, {"ema_decay": 0.9}):
        with pytest.raises(ConfigError, match="does nothing"):
            refuse_unused(given)
    for given in ({"beta_1": 0.5}, {"forget_bias": 5.0}, {"clip_norm": 2.0}, {"full_softmax_fraction": 0.5}):
        refuse_unused(given)  # of adamw, of an lstm, without clip_value, and of a softmax that the plan may choose


def test_a_remedy_names_the_choices() -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_unused({"cell": "gru", "forget_bias": 5.0})
    assert str(refused.value) == (
        "With cell gru, forget_bias does nothing: leave it out, or set cell to lstm, peephole or mogrifier."
    )


def test_a_setting_whose_help_names_a_choice_has_a_condition() -> None:
    choices = {*CELLS, *OPTIMIZERS, *SCHEDULES, "last-k", "ema"} - {"constant", "step", "linear"}
    for kind in (TrainingConfig, ModelConfig):
        for name, (_, facts) in declared(kind).items():
            named = choices & set(re.findall(r"[\w-]+", facts.help))
            if named and name not in DECIDING:
                assert name in USES, f"{name} mentions {named}"


def test_a_complete_record_with_defaults_is_accepted() -> None:
    for cell in CELLS:
        assert unused(to_dict(ModelConfig(vocab_size=9, cell=cell)) | to_dict(TrainingConfig(optimizer="sgd"))) == {}


def test_a_resumed_run_repeats_what_it_has_and_no_more() -> None:
    begun = to_dict(ModelConfig(vocab_size=9)) | to_dict(TrainingConfig(decay_factor=0.3))  # of an older version
    refuse_unused({"decay_factor": 0.3, "steps": 9}, begun)
    refuse_unused({"decay_factor": 0.2, "schedule": "step"}, begun)
    with pytest.raises(ConfigError, match="With schedule cosine, decay_factor does nothing"):
        refuse_unused({"decay_factor": 0.2}, begun)


def test_an_option_that_makes_a_setting_of_the_file_useless_removes_it() -> None:
    of_file = {"weight_averaging": "ema", "ema_decay": 0.99, "num_cycles": 9}
    assert overridden(of_file, {"weight_averaging": "none"}) == {"weight_averaging": "none", "num_cycles": 9}
    given = {"weight_averaging": "none", "ema_decay": 0.5}
    assert overridden(of_file, given) == {**given, "num_cycles": 9}  # what is given is refused later
    assert overridden({"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam"}) == {"optimizer": "adam"}


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_any_choice_goes_with_the_preset_of_a_text(name: str) -> None:
    for other, values in DECIDING.items():
        for value in values:
            assert unused(with_preset(name, {other: value})[1]) == {}
