"""textgen train: from a text to a saved model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.command import INPUT, INPUT_FILE, SectionCommand
from textgen.cli.default_model import note_if_training
from textgen.cli.distribution import DEVICES, distribution_options, join_others, train_on_workers
from textgen.cli.options import (
    completing_models,
    corpus_options,
    given,
    json_option,
    models_dir_option,
    paths_argument,
    sectioned,
    tokenizer_from_option,
    tokenizer_options,
)
from textgen.cli.plan_report import describe, plan_values, result_values, summary
from textgen.cli.run_folder import (
    RunFolder,
    folder_of_run,
    named_after,
    refuse_missing,
    refuse_place,
    telling_what_is_saved,
)
from textgen.cli.setting_options import IntegerRange, setting_options
from textgen.corpus.config import CorpusConfig
from textgen.errors import TrainingError
from textgen.model.config import ModelConfig
from textgen.settings import MAX_COUNT, check_values, read_toml
from textgen.system.runtime import limit_threads
from textgen.tokenizer.config import TokenizerConfig
from textgen.training.config import TrainingConfig
from textgen.training.presets import SIZES, TEXT_PRESETS, with_preset, with_sizes
from textgen.training.unused_settings import overridden
from textgen.wording import Say, counted

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder
    from textgen.tokenizer.tokenizer import Tokenizer
    from textgen.training.distributed.distribution import Distribution, Shares
    from textgen.training.observers.observer import Observer
    from textgen.training.observers.progress import Display
    from textgen.training.planning.plan import Plan


SIZES_HELP = ", ".join(
    f"{name} ({size['num_layers']} x {counted(size['hidden_units'], 'unit')})" for name, size in SIZES.items()
)


@dataclass(frozen=True)
class Arguments:
    """The command line of `textgen train`, without the settings."""

    paths: tuple[str, ...]
    name: str | None
    models_dir: Path | None
    preset: str | None
    config_file: str | None
    valid_file: str | None
    start: str | None
    tokenizer_from: str | None
    resume: bool
    find_learning_rate: bool
    dry_run: bool
    as_json: bool
    profile_steps: int | None
    strategy: str
    threads: int | None
    workers: int | None
    trust_network: bool
    max_restarts: int
    start_timeout: float
    step_timeout: float

    def tokenizer(self) -> Tokenizer | None:
        """Loads the vocabulary that --tokenizer-from names."""
        from textgen.saved_model.registry import find_tokenizer

        return find_tokenizer(self.tokenizer_from, self.models_dir) if self.tokenizer_from else None

    def join(self) -> Distribution:
        """Joins the devices and processes of the run."""
        return join_others(self.strategy, self.start_timeout, self.trust_network)


@click.command(cls=SectionCommand)
@paths_argument()
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the saved model [default: made from the path, or from the folder of several paths].",
)
@models_dir_option
@click.option(
    "--preset",
    type=click.Choice([*SIZES, *TEXT_PRESETS]),
    metavar="NAME",
    help=f"Size of the network: {SIZES_HELP}; chosen from the text if not given. Or all settings for a "
    f"well-known text: {', '.join(TEXT_PRESETS)}.",
)
@click.option(
    "--config", "config_file", type=INPUT_FILE, metavar="FILE", help="TOML file with settings; options override it."
)
@click.option(
    "--from",
    "start",
    metavar="none|english|chinese|MODEL",
    shell_complete=completing_models("none"),
    help="Start from random weights, from this base, or from a model of yours [default: a base where one suits the "
    "text].",
)
@tokenizer_from_option
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run named by --name, or the newest run; with PATHS, which say where its corpus is now, the "
    "newest run named after them.",
)
@click.option("--find-learning-rate", is_flag=True, help="Try learning rates in a short run, suggest one, and stop.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@json_option
@click.option(
    "--valid-file",
    type=INPUT,
    metavar="FILE",
    help="Validate on this text instead of holding out a part of the corpus.",
)
@setting_options(TrainingConfig)
@setting_options(ModelConfig, leave_out=["vocab_size"])
@tokenizer_options
@corpus_options
@sectioned(
    DEVICES,
    "--profile-steps",
    type=IntegerRange(1, MAX_COUNT),
    metavar="N",
    help="Record N steps for TensorBoard's profiler, which needs `pip install tensorboard-plugin-profile`.",
)
@distribution_options
def train(**options: Any) -> None:
    """Train a model on a text.

    PATHS are files, folders, globs, addresses such as s3://, or - for standard input: plain text, .jsonl, .json,
    .csv, .tsv, .parquet, .docx, .odt, .epub, .html, .pdf, .rtf, .srt and .vtt; most of them also compressed. Or
    a folder made by textgen corpus prepare.

    Sizes, vocabulary and length of the run are chosen from the text and the machine unless you set them. The plan
    is printed first. Ctrl-C saves and stops; --resume continues.

    \b
    Example:
      textgen train novel.txt
      textgen train poems/ --documents blank-line --minutes 10 --name poems
      textgen train headlines.csv --text-column title --preset small
      textgen train poems.csv --labels author
      textgen train --resume --name poems
      textgen train novel.txt --find-learning-rate
    """
    if options["threads"]:
        limit_threads(options["threads"])  # before NumPy is imported
    from textgen.system.child_processes import end_with
    from textgen.training.distributed import worker_group
    from textgen.training.distributed.joining import is_follower

    arguments = Arguments(**{field.name: options.pop(field.name) for field in fields(Arguments)})
    if (parent_pipe := worker_group.parent_pipe()) is not None:
        end_with(parent_pipe)
    _refuse_contradictions(arguments, given(options))
    of_file = _settings_in(arguments.config_file) if arguments.config_file else {}
    preset, settings = with_preset(arguments.preset, overridden(of_file, given(options)))
    target = folder_of_run(arguments.name, arguments.models_dir, arguments.paths, is_resumed=arguments.resume)
    if arguments.resume:
        refuse_missing(target)
    elif not (arguments.find_learning_rate or is_follower(arguments.strategy)):
        refuse_place(target, arguments.dry_run)
    if arguments.workers and arguments.workers > 1 and not arguments.dry_run:
        ctx = click.get_current_context()
        ctx.exit(train_on_workers(ctx, target.parent, target.name))
    if is_follower(arguments.strategy):
        _follow(arguments, target)
    elif arguments.resume:
        with telling_what_is_saved(RunFolder(target)):
            _print_result(arguments, _resume(arguments, target, with_sizes(preset, settings)))
    else:
        makes_a_model = not (arguments.dry_run or arguments.find_learning_rate)
        with telling_what_is_saved(RunFolder()) if makes_a_model else nullcontext(RunFolder()) as folder:
            _start(arguments, target, preset, settings, folder)


def _settings_in(file: str) -> dict[str, Any]:
    """Reads and checks the settings in a TOML file."""
    values = read_toml(file)
    with output.errors_named_after(file):
        check_values(values, (CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig))
    return values


def _refuse_contradictions(arguments: Arguments, settings: dict[str, Any]) -> None:
    """Raises `click.UsageError` for flags that do not go together."""
    from textgen.training.distributed.joining import num_processes

    processes = max(arguments.workers or 1, num_processes(arguments.strategy))
    if arguments.resume and arguments.dry_run:
        raise click.UsageError("--resume continues a run as it was planned: leave out --dry-run.")
    if arguments.find_learning_rate and (arguments.resume or processes > 1):
        raise click.UsageError(
            "--find-learning-rate starts a separate run in one process: leave out --resume, --workers and TF_CONFIG."
        )
    if arguments.valid_file is not None and "valid_fraction" in settings:
        raise click.UsageError("--valid-file names the held-out text: leave out --valid-fraction.")
    if not arguments.resume and not arguments.paths:
        raise click.UsageError("Missing argument 'PATHS...': name the text to train on.")


def _follow(arguments: Arguments, target: Path) -> None:
    """Trains as one of several processes that another one leads."""
    from textgen.training.resumption import ResumeSources
    from textgen.training.run import join
    from textgen.training.run_setup import RunOptions

    if arguments.dry_run:
        return  # the chief shows the plan
    if not arguments.name:
        raise click.UsageError("Missing option '--name': several processes must train the same model.")
    sources = ResumeSources(() if "-" in arguments.paths else arguments.paths, arguments.valid_file)
    join(target, RunOptions(distribution=arguments.join(), step_timeout=arguments.step_timeout), sources)


def _resume(arguments: Arguments, target: Path, settings: dict[str, Any]) -> ModelFolder:
    """Continues the run in `target`."""
    from textgen.training.resumption import ResumeSources
    from textgen.training.run import resume
    from textgen.training.run_setup import RunOptions

    display = _display()
    distribution = arguments.join()
    observers = _observers(arguments, target, display)
    return resume(
        target,
        settings,
        sources=ResumeSources(arguments.paths, arguments.valid_file, arguments.start, arguments.tokenizer()),
        options=RunOptions(observers, (), output.with_flags(display.say), distribution, arguments.step_timeout),
    )


def _start(arguments: Arguments, target: Path, preset: str | None, settings: dict[str, Any], folder: RunFolder) -> None:
    """Plans a run; prints the plan, tries learning rates, or trains. `folder` learns which one is claimed."""
    from textgen.training.distributed.joining import planned_shares
    from textgen.training.run import train as train_run
    from textgen.training.run_setup import RunOptions

    display = _display()
    if arguments.dry_run:
        plan, _ = planned(
            arguments, preset, settings, partial(planned_shares, arguments.strategy, arguments.workers or 1)
        )
        if arguments.as_json:
            output.json_line(plan_values(plan, target), indent=2)
        else:
            output.line(describe(plan, target))
        return
    plan, distribution = planned(arguments, preset, settings, arguments.join)
    output.note(describe(plan, target))
    if arguments.find_learning_rate:
        _find_learning_rate(arguments, plan, output.with_flags(display.say), distribution)
        return
    observers = _observers(arguments, target, display)
    # a profile belongs to the folder that was chosen, and several processes have agreed on theirs before this
    is_named = arguments.name is not None or arguments.profile_steps
    free_folder = None if is_named else partial(named_after, arguments.models_dir, arguments.paths)
    options = RunOptions(
        observers,
        (),
        output.with_flags(display.say),
        distribution,
        arguments.step_timeout,
        free_folder,
        on_claimed=folder.claim,
    )
    _print_result(arguments, train_run(plan, target, options))


def planned(
    arguments: Arguments,
    preset: str | None,
    settings: dict[str, Any],
    join: Callable[[], Distribution | Shares],
) -> tuple[Plan, Distribution | None]:
    """Reads the corpus and plans a run on it.

    Args:
        arguments: The command line.
        preset: A size of `SIZES`, or None.
        settings: The settings that are given.
        join: Joins the other processes, or tells how they would share the work. Called once the corpus is read.

    Returns:
        The plan, and the devices and processes that were joined, if any.
    """
    from textgen.training.distributed.distribution import Distribution
    from textgen.training.planning import plan
    from textgen.training.planning.checked_inputs import open_inputs

    output.progress("Reading the text ...")
    text, sources = open_inputs(
        arguments.paths,
        settings,
        preset=preset,
        start=arguments.start,
        tokenizer_from=arguments.tokenizer_from or None,
        valid_file=arguments.valid_file,
        models_dir=arguments.models_dir,
        note=output.note,
    )
    output.progress("Planning ...")
    joined = join()
    if sources.start:
        note_if_training(sources.start)
    made = plan.make_plan(
        text,
        settings,
        preset=preset,
        sources=sources,
        hardware=plan.Hardware(shares=joined.shares if isinstance(joined, Distribution) else joined),
    )
    return made, joined if isinstance(joined, Distribution) else None


def _display() -> Display:
    from textgen.training.observers.progress import Display

    return Display(output.console())


def _observers(arguments: Arguments, target: Path, display: Display) -> list[Observer]:
    """The display, and the profiler if it is asked for."""
    from textgen.saved_model.layout import LOGS

    if not arguments.profile_steps:
        return [display]
    from textgen.training.observers.profiler import Profiler

    return [display, Profiler(target / LOGS, arguments.profile_steps, display.say)]


def _find_learning_rate(arguments: Arguments, plan: Plan, say: Say, distribution: Distribution | None) -> None:
    from textgen.training import lr_finder
    from textgen.training.lr_sweep import sweep_planned_run

    points = sweep_planned_run(plan, say=say, distribution=distribution)
    start, suggested, failure = arguments.start or plan.start_name, None, None  # as it was named, perhaps by a folder
    try:
        suggested = lr_finder.suggestion(points)
    except TrainingError as error:  # the losses show why
        failure = error
    if arguments.as_json:
        found = {"start": start, "suggestion": suggested, "points": [asdict(point) for point in points]}
        output.json_line(found, indent=2)
    else:
        output.line(lr_finder.describe(points, suggested, start))
    if failure:
        raise failure


def _print_result(arguments: Arguments, saved: ModelFolder) -> None:
    if arguments.as_json:
        output.json_line(result_values(saved), indent=2)
    else:
        output.line(summary(saved))
