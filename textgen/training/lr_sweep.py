"""A sweep of learning rates on a planned run: the loss at rising rates, in a short run that saves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textgen.errors import ConfigError
from textgen.training.lr_finder import Point
from textgen.training.planning.plan import Plan
from textgen.training.run_start import encode, initial_model, training_data
from textgen.wording import Say, silent

if TYPE_CHECKING:
    from textgen.training.distributed.distribution import Distribution


def sweep_planned_run(plan: Plan, *, say: Say = silent, distribution: Distribution | None = None) -> list[Point]:
    """Sweeps learning rates around the planned one, in a short run that saves nothing.

    Everything but the learning rate is as in the planned run.

    Args:
        plan: Corpus and settings.
        say: Called with a line of text for each stage.
        distribution: Devices to train on; one if None.

    Returns:
        The smoothed loss at each learning rate; see `textgen.training.lr_finder.suggestion`.

    Raises:
        ConfigError: The planned rate is 0, or several processes would train together.
    """
    from textgen.training.distributed.distribution import Distribution
    from textgen.training.trainer import Trainer

    config, distribution = plan.training_config, distribution or Distribution()
    if not config.learning_rate:
        raise ConfigError("learning_rate is 0: give one above 0, since the rates to try are chosen around it.")
    if distribution.num_workers > 1:
        raise ConfigError("Learning rates are tried in one process: start only one.")
    distribution.local_rows(config)  # checks the batch size before the slow part
    tokenizer, data = encode(plan, say)
    model_config = replace(plan.model_config, vocab_size=tokenizer.vocab_size)
    with distribution.strategy.scope():
        model = initial_model(model_config, config, tokenizer, data, plan.sources.start)
    data = training_data(data, tokenizer, config)
    trainer = Trainer(model, data, config, Path(), distribution=distribution)
    say("Trying learning rates ...")
    return trainer.sweep_learning_rates()
