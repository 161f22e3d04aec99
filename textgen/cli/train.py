"""textgen train: from a text to a saved model."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.distribution import distribution_options, join_others, train_on_workers
from textgen.cli.options import (
    corpus_config,
    corpus_options,
    find_tokenizer,
    given,
    guessed,
    json_option,
    models_dir_option,
    option_group,
    tokenizer_options,
)
from textgen.errors import TrainingError
from textgen.model.config import ACTIVATIONS, CELLS, DIRECTIONS
from textgen.settings import read_toml, to_dict
from textgen.training.config import AVERAGES, INITIALIZERS, OPTIMIZERS, PRECISIONS, SCHEDULES
from textgen.training.presets import RECIPES, SIZES, with_preset
from textgen.wording import counted

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder
    from textgen.training.distribution import Distribution, Shares
    from textgen.training.observers.observer import Observer
    from textgen.training.plan import Plan
    from textgen.training.resumption import ResumeSources

LABELS_SHOWN = 8  # in the plan

model_options = option_group(
    click.option("--embedding-dim", type=int, metavar="N", help="Numbers that stand for a piece."),
    click.option("--hidden-units", type=int, metavar="N", help="Units of each recurrent layer."),
    click.option("--num-layers", type=int, metavar="N", help="Recurrent layers."),
    click.option("--dropout", type=float, help="Share of units silenced between layers while training."),
    click.option("--embedding-dropout", type=float, help="The same, of the embedding."),
    click.option("--word-dropout", type=float, help="Share of pieces whose embedding is silenced [default: 0]."),
    click.option("--weight-drop", type=float, help="Share of recurrent weights that are silenced [default: 0]."),
    click.option(
        "--tie-embeddings/--no-tie-embeddings",
        default=None,
        help="Whether the output layer reads the embedding table [default: it does].",
    ),
    click.option("--cell", type=click.Choice(list(CELLS)), help="Kind of the recurrent layers [default: lstm]."),
    click.option(
        "--reset-after/--reset-before",
        default=None,
        help="Of a gru: where its reset gate stands, seen from the recurrent product [default: after].",
    ),
    click.option("--activation", type=click.Choice(ACTIVATIONS), help="Of an rnn [default: tanh]."),
    click.option("--mogrifier-rounds", type=int, metavar="N", help="Of a mogrifier [default: 5]."),
    click.option("--mogrifier-rank", type=int, metavar="N", help="Of the matrices in these rounds [default: full]."),
    click.option(
        "--direction",
        type=click.Choice(DIRECTIONS),
        help="In which text is read. One that reads backward writes towards an ending; both fill gaps "
        "[default: forward].",
    ),
    click.option(
        "--residual/--no-residual",
        default=None,
        help="Whether a layer adds to what it reads instead of replacing it [default: it does not].",
    ),
    click.option(
        "--layer-norm/--no-layer-norm",
        default=None,
        help="Whether layers read their input normalised [default: they do not].",
    ),
    click.option(
        "--attention", type=int, metavar="N", help="Outputs that a head of attention looks back on [default: 0]."
    ),
)

training_options = option_group(
    click.option("--epochs", type=float, help="Length of the run, in passes over the text."),
    click.option("--steps", type=int, metavar="N", help="Length of the run, in updates of the weights."),
    click.option(
        "--minutes", type=float, help="Length of the run, in minutes; of several lengths, the shortest counts."
    ),
    click.option("--batch-size", type=int, metavar="N", help="Streams of text read side by side."),
    click.option(
        "--gradient-accumulation-steps",
        type=int,
        metavar="N",
        help="Batches that make one update together [default: 1].",
    ),
    click.option("--sequence-length", type=int, metavar="N", help="Tokens that a gradient reaches back."),
    click.option("--random-bptt", type=float, help="Share of windows that are shorter, by lot [default: 0]."),
    click.option(
        "--carry-state/--no-carry-state",
        default=None,
        help="Whether a window begins with the state after the one before it [default: it does].",
    ),
    click.option(
        "--recurrent-initializer",
        type=click.Choice(INITIALIZERS),
        help="How recurrent weights begin [default: orthogonal].",
    ),
    click.option("--forget-bias", type=float, help="Where the bias of forget gates begins [default: 1]."),
    click.option("--learning-rate", type=float, help="Peak of the schedule."),
    click.option("--schedule", type=click.Choice(SCHEDULES), help="After the warm-up [default: cosine]."),
    click.option("--warmup-fraction", type=float, help="Share of the run in which the learning rate rises."),
    click.option("--hold-fraction", type=float, help="Share of the run in which it then stays [default: 0]."),
    click.option("--final-learning-rate-fraction", type=float, help="Where it ends, as a share of the peak."),
    click.option("--num-decays", type=int, metavar="N", help="Times that the step schedule lowers it [default: 3]."),
    click.option("--decay-factor", type=float, help="By which step and plateau multiply it [default: 0.5]."),
    click.option(
        "--plateau-patience", type=int, metavar="N", help="Validations without a better one that plateau lets pass."
    ),
    click.option("--num-cycles", type=int, metavar="N", help="Of the triangular schedule [default: 4]."),
    click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="What takes the steps [default: adamw]."),
    click.option("--momentum", type=float, help="Of sgd, asgd and rmsprop [default: 0]."),
    click.option("--beta-1", type=float, help="Memory of adam, adamw and lamb for gradients [default: 0.9]."),
    click.option("--beta-2", type=float, help="The same, and rmsprop's, for their squares [default: 0.99]."),
    click.option("--epsilon", type=float, help="Least divisor of the same [default: 1e-8]."),
    click.option(
        "--nonmonotone-interval",
        type=int,
        metavar="N",
        help="asgd averages once a score is worse than the best N before it.",
    ),
    click.option(
        "--weight-averaging", type=click.Choice(AVERAGES), help="Of the weights, to score and to save [default: none]."
    ),
    click.option("--ema-decay", type=float, help="How slowly ema forgets earlier steps [default: 0.999]."),
    click.option("--num-averaged", type=int, metavar="N", help="Validations that last-k averages [default: 5]."),
    click.option("--weight-decay", type=float, help="On matrices; biases and norms do not decay."),
    click.option("--activation-penalty", type=float, help="On large outputs of the last layer [default: 0]."),
    click.option("--temporal-penalty", type=float, help="On large steps between these outputs [default: 0]."),
    click.option(
        "--subword-alpha",
        type=float,
        help="Cut training text into pieces by lot: 0.1 to 0.5 for unigram, 0.1 for bpe [default: 0, not at all].",
    ),
    click.option("--label-smoothing", type=float, help="Share of a target spread over all pieces [default: 0]."),
    click.option(
        "--freeze-layers",
        metavar="LAYER",
        multiple=True,
        callback=lambda context, parameter, value: value or None,
        help="Leave the weights of embedding, lstm_0, ... alone.",
    ),
    click.option("--clip-norm", type=float, help="Longer gradients are shortened to this."),
    click.option("--clip-value", type=float, help="Instead, each number of them is brought within this of 0."),
    click.option("--label-dropout", type=float, help="Share of labels that are withheld in training [default: 0.1]."),
    click.option("--num-validations", type=int, metavar="N", help="How often held-out text is scored."),
    click.option("--valid-tokens", type=int, metavar="N", help="Held-out tokens that are scored each time."),
    click.option("--patience", type=int, metavar="N", help="Stop after so many validations without a better one."),
    click.option("--checkpoint-minutes", type=float, help="Between checkpoints, at most [default: 10]."),
    click.option("--keep-checkpoints", type=int, metavar="N", help="The newest ones to keep [default: 2]."),
    click.option("--max-rollbacks", type=int, metavar="N", help="Times to go back after a fault [default: 3]."),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="Of matrix products; auto asks the processor [default: auto].",
    ),
    click.option("--seed", type=int, metavar="N", help="Of weights, order of documents, dropout [default: 0]."),
)


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--name", help="Name of the saved model [default: made from the first path].")
@models_dir_option
@click.option(
    "--preset",
    type=click.Choice([*SIZES, *RECIPES]),
    metavar="NAME",
    help=f"Size of the network: {', '.join(SIZES)}; chosen when not given. Or the recipe for a well-known text: "
    f"{', '.join(RECIPES)}.",
)
@click.option("--config", "config_file", type=click.Path(), help="TOML file with settings; flags override it.")
@click.option(
    "--valid", metavar="FILE|SHARE", help="Held-out text, or the share to hold out [default: 0.1, 4 MB at most]."
)
@click.option("--from", "start", metavar="MODEL", help="Fine-tune this model instead of starting afresh.")
@click.option("--tokenizer-from", metavar="MODEL", help="Take over the vocabulary of a model or .model file.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an interrupted run: --name NAME, or the newest. PATHS, if given, say where its corpus is now.",
)
@click.option(
    "--profile-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Record N steps for TensorBoard's profiler; looking at it needs `pip install tensorboard-plugin-profile`.",
)
@click.option("--find-learning-rate", is_flag=True, help="Try learning rates in a short run, suggest one, and stop.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@json_option
@distribution_options
@training_options
@model_options
@tokenizer_options
@corpus_options
def train(
    paths: tuple[str, ...],
    name: str | None,
    models_dir: Path | None,
    preset: str | None,
    config_file: str | None,
    valid: str | None,
    start: str | None,
    tokenizer_from: str | None,
    resume: bool,
    profile: int | None,
    find_lr: bool,
    dry_run: bool,
    as_json: bool,
    strategy: str,
    threads: int | None,
    workers: int | None,
    trust_network: bool,
    max_restarts: int,
    start_timeout: float,
    step_timeout: float,
    **options: Any,
) -> None:
    """Train a model on a text.

    PATHS are files, folders, globs, or - for standard input: plain text, .jsonl, .csv or .tsv, also compressed;
    or a folder that textgen prepare has made.

    With nothing else said, the sizes, the vocabulary and the length of the run are chosen from the text and
    the machine; the plan is printed first. Ctrl-C saves and stops; --resume goes on.

    \b
    Example:
      textgen train novel.txt
      textgen train poems/ --documents blank-line --minutes 10 --name poems
      textgen train headlines.csv --text-column title --preset small
      textgen train poems.csv --labels author
      textgen train --resume --name poems
      textgen train novel.txt --find-learning-rate
    """
    from textgen.child_processes import end_with
    from textgen.cli.progress import Display
    from textgen.machine import limit_cores
    from textgen.saved_model.registry import check_name, models_folder
    from textgen.training import worker_group
    from textgen.training.distribution import is_follower, num_processes, planned_shares
    from textgen.training.resumption import ResumeSources
    from textgen.training.run import join
    from textgen.training.run import resume as resume_run
    from textgen.training.run import train as train_run
    from textgen.training.run_setup import RunOptions

    if (leash := worker_group.leash()) is not None:
        end_with(leash)
    _refuse_contradictions(paths, resume, find_lr, max(workers or 1, num_processes(strategy)), dry_run)
    if threads:
        limit_cores(threads)
    preset, settings = with_preset(preset, {**(read_toml(config_file) if config_file else {}), **given(options)})
    folder = models_folder(models_dir)
    chosen = check_name(_chosen(folder, paths, resume) if name is None else name)
    target = folder / chosen
    if workers and workers > 1 and not dry_run:
        ctx = click.get_current_context()
        ctx.exit(train_on_workers(ctx, folder, chosen))
    join_all = partial(join_others, strategy, start_timeout, trust_network)
    if is_follower(strategy):
        if dry_run:
            return  # the chief shows the plan
        if not name:
            raise click.UsageError("Missing option '--name': several processes must train the same model.")
        given_again = ResumeSources(
            () if "-" in paths else paths, None if valid is None or _share(valid) is not None else valid
        )
        join(target, RunOptions(distribution=join_all(), step_timeout=step_timeout), given_again)
        return
    display = Display()
    observers = [display, *_profilers(target, profile, display.say)]
    distribution: Distribution | None
    if resume:
        distribution = join_all()
        display.say(f"Resuming {target}.")
        again = _named_again(paths, settings, valid, start, tokenizer_from, models_dir)
        saved = resume_run(
            target,
            {**SIZES.get(preset or "", {}), **settings},
            sources=again,
            options=RunOptions(observers, (), display.say, distribution, step_timeout),
        )
    else:
        plan, distribution = _plan(
            paths,
            settings,
            preset,
            valid,
            start,
            tokenizer_from,
            models_dir,
            (lambda: planned_shares(strategy, workers or 1)) if dry_run else join_all,
        )
        if dry_run and as_json:
            output.json_line(_values(plan, target), indent=2)
            return
        if dry_run:
            output.line(describe(plan, target))
            return
        output.note(describe(plan, target))
        if find_lr:
            _find_lr(plan, display.say, as_json, distribution)
            return
        saved = train_run(plan, target, RunOptions(observers, (), display.say, distribution, step_timeout))
    if as_json:
        output.json_line(saved.training, indent=2)
    else:
        output.line(_summary(saved))


def _refuse_contradictions(paths: tuple[str, ...], resume: bool, find_lr: bool, processes: int, dry_run: bool) -> None:
    if resume and dry_run:
        raise click.UsageError("--resume goes on with a run as it was planned: leave out --dry-run.")
    if find_lr and (resume or processes > 1):
        raise click.UsageError(
            "--find-learning-rate is a run of its own: start it as one process; leave out --resume, --workers and "
            "TF_CONFIG."
        )
    if not resume and not paths:
        raise click.UsageError("Missing argument 'PATHS...': what text is the model to learn from?")


def _chosen(folder: Path, paths: tuple[str, ...], resume: bool) -> str:
    """The name of a model for which no name was given."""
    from textgen.saved_model.registry import free_name

    return _newest_run(folder, paths) if resume else free_name(folder, paths[0])


def _named_again(
    paths: tuple[str, ...],
    settings: dict[str, Any],
    valid: str | None,
    start: str | None,
    tokenizer_from: str | None,
    models_dir: Path | None,
) -> ResumeSources:
    """What the command line says of a run that it resumes, besides settings; a share to hold out is one of these."""
    from textgen.training.resumption import ResumeSources

    if valid is not None and (share := _share(valid)) is not None:
        settings["valid_fraction"], valid = share, None
    tokenizer = find_tokenizer(tokenizer_from, models_dir) if tokenizer_from else None
    return ResumeSources(paths, valid, start, tokenizer)


def _plan(
    paths: tuple[str, ...],
    settings: dict[str, Any],
    preset: str | None,
    valid: str | None,
    start: str | None,
    tokenizer_from: str | None,
    models_dir: Path | None,
    join: Callable[[], Distribution | Shares],
) -> tuple[Plan, Distribution | None]:
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.prepared_corpus import open_corpus
    from textgen.saved_model.saved_model import load_model
    from textgen.training.distribution import Distribution
    from textgen.training.plan import Hardware, Sources, make_plan

    config = corpus_config(settings)
    text, held_out = open_corpus(paths, config), None
    if valid is not None and (share := _share(valid)) is not None:
        settings["valid_fraction"] = share
    elif valid is not None:
        mode = text.documents_mode if isinstance(text, Corpus) else config.documents
        held_out = Corpus([valid], replace(config, documents=mode))  # cut as the text to train on
        held_out.stats()
        held_out.say_skipped(output.note)
        held_out.say_left_out(output.note)
    if isinstance(text, Corpus):
        text.say_skipped(output.note)
    text.stats()  # complains before the slow part
    if isinstance(text, Corpus):
        text.say_left_out(output.note)
    joined = join()
    distribution = joined if isinstance(joined, Distribution) else None
    plan = make_plan(
        text,
        settings,
        preset=preset,
        sources=Sources(
            valid=held_out,
            start=load_model(start, models_dir) if start else None,
            tokenizer=find_tokenizer(tokenizer_from, models_dir) if tokenizer_from else None,
        ),
        hardware=Hardware(shares=joined.shares if isinstance(joined, Distribution) else joined),
    )
    return plan, distribution


def _share(valid: str) -> float | None:
    """The number that `valid` is; None for the path of a file."""
    with suppress(ValueError, OSError):
        return None if Path(valid).exists() else float(valid)
    return None


def _profilers(target: Path, steps: int | None, say: Callable[[str], None]) -> list[Observer]:
    from textgen.saved_model.layout import LOGS

    if not steps:
        return []
    from textgen.training.observers.profiler import Profiler

    return [Profiler(target / LOGS, steps, say)]


def _find_lr(plan: Plan, say: Callable[[str], None], as_json: bool, distribution: Distribution | None) -> None:
    from textgen.training import lr_finder
    from textgen.training.run import find_learning_rate

    points = find_learning_rate(plan, say=say, distribution=distribution)
    suggested = lr_finder.suggestion(points)
    if as_json:
        output.json_line({"suggestion": suggested, "points": [asdict(point) for point in points]}, indent=2)
    else:
        output.line(lr_finder.describe(points, suggested))


def _newest_run(folder: Path, paths: tuple[str, ...]) -> str:
    """The name of the run whose last checkpoint is the newest, of those named after the corpus where one is named."""
    from textgen.saved_model.layout import CHECKPOINTS
    from textgen.saved_model.registry import list_runs, name_from
    from textgen.training.checkpoints import has_checkpoint

    runs = [run for run in list_runs(folder) if has_checkpoint(run / CHECKPOINTS)]
    stem = name_from(paths[0]) if paths else ""
    if stem:
        runs = [run for run in runs if re.fullmatch(f"{re.escape(stem)}(-[0-9]+)?", run.name)]
    if not runs:
        called = f" called {stem}" if stem else ""
        raise TrainingError(
            f"There is no run{called} to resume in {folder} that has a checkpoint. Name one, or begin one."
        )
    return max(runs, key=lambda run: (run / CHECKPOINTS).stat().st_mtime).name


def describe(plan: Plan, folder: Path) -> str:
    """The plan, for people."""
    from textgen.machine import machine

    stats, model, training = plan.facts.stats, plan.model_config, plan.training_config
    reason = guessed(plan.corpus.guess_reason)
    lengths = {"epochs": training.epochs, "steps": training.steps, "minutes": training.minutes}
    length = " or ".join(f"{value:,g} {name}" for name, value in lengths.items() if value is not None)
    valid, start = plan.sources.valid, plan.sources.start
    held_out = ", ".join(map(str, valid.files)) if valid else f"{training.valid_fraction:.2g} of the corpus"
    tied = "tied" if model.tie_embeddings else "untied"
    kind = CELLS[model.cell] + ", residual" * model.residual + ", layer norm" * model.layer_norm
    way = {"backward": ", backward", "both": ", in each direction"}.get(model.direction, "")
    way += f", attention over {counted(model.attention, 'output')}" * (model.attention > 0)
    size = f"{model.num_layers} x {kind} of {counted(model.hidden_units, 'unit')}, embedding {model.embedding_dim}, "
    size += f"{tied}{way}"
    if start:
        size += f", from {start.name}"
    rows = {
        "corpus": f"{counted(stats.characters, 'character')} in {counted(stats.documents, 'document')} "
        f"by {plan.corpus_config.documents}{reason}",
        **({"labels": _labels(plan)} if plan.corpus_config.labels else {}),
        "held out": held_out,
        "vocabulary": f"{plan.tokenizer_config.tokenizer}, about {counted(model.vocab_size, 'piece')}, "
        f"{counted(plan.estimates.tokens, 'token')} to train on",
        "network": size + (f" ({plan.preset})" if plan.preset else ""),
        "parameters": f"{model.num_parameters:,}; memory about {plan.estimates.memory_bytes / 1e9:.1f} GB",
        "dropout": f"{model.dropout:g} between layers, {model.embedding_dropout:g} on the embedding"
        + f", {model.word_dropout:g} of words" * (model.word_dropout > 0)
        + f", {model.weight_drop:g} of recurrent weights" * (model.weight_drop > 0)
        + f"; pieces by lot, alpha {training.subword_alpha:g}" * (training.subword_alpha > 0),
        "training": f"{length}, batches of {training.batch_size} x {counted(training.sequence_length, 'token')}, "
        + f"{training.gradient_accumulation_steps} to an update, " * (training.gradient_accumulation_steps > 1)
        + f"learning rate {training.learning_rate:g} {training.schedule}, {training.optimizer}"
        + (f", weights averaged by {training.weight_averaging}" if training.weight_averaging != "none" else ""),
        "machine": f"{machine()}; matrix products in {training.precision}",
        "expected": f"about {_duration(plan.estimates.seconds)}, {plan.estimates.epochs:.2g} epochs at "
        f"{plan.estimates.tokens_per_second:,.0f} tokens a second",
        "saved in": str(folder),
    }
    return "\n".join(f"{name:<11} {value}" for name, value in rows.items())


def _values(plan: Plan, folder: Path) -> dict[str, Any]:
    """The plan for programs; what is estimated has the names of `textgen.training.plan.Estimates`."""
    return {
        "folder": str(folder),
        "corpus": to_dict(plan.corpus_config),
        "tokenizer": to_dict(plan.tokenizer_config),
        "model": to_dict(plan.model_config),
        "training": to_dict(plan.training_config),
        "labels": list(plan.facts.labels),
        "preset": plan.preset,
        "parameters": plan.model_config.num_parameters,
        "tokens": plan.estimates.tokens,
        "tokens_per_second": round(plan.estimates.tokens_per_second),
        "seconds": round(plan.estimates.seconds, 1),
        "memory_bytes": plan.estimates.memory_bytes,
    }


def _labels(plan: Plan) -> str:
    """How many labels there are, by what, and the commonest of them."""
    from textgen.corpus.labels import named
    from textgen.corpus.statistics import CorpusStats

    there = plan.facts.stats.labels if isinstance(plan.facts.stats, CorpusStats) else plan.facts.labels
    rare = len(there) - len(plan.facts.labels)
    line = f"{len(plan.facts.labels):,} by {plan.corpus_config.labels}: {named(plan.facts.labels, LABELS_SHOWN)}"
    return line + (f"; {rare:,} in too few documents are left out" if rare else "")


def _summary(saved: ModelFolder) -> str:
    from textgen.saved_model.model_card import sample_command

    scores, progress = saved.training["scores"], saved.training["progress"]
    return (
        f"{saved.folder}: {saved.training['state']} after {counted(progress['step'], 'step')} "
        f"({_duration(progress['seconds'])}).\n"
        f"Held-out text: {scores['nats_per_token']:.3f} nats a token, perplexity {scores['perplexity_per_token']:.2f}, "
        f"{scores['bits_per_byte']:.3f} bits a byte.\n"
        f"Write with it:  {sample_command(saved.shell_name, saved.training['model'], saved.tokenizer.labels)}\n"
        f"See the curves: textgen tensorboard {saved.shell_name}"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
