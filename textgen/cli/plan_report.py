"""The plan and the result of a training run, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.cli.options import guessed
from textgen.cli.setting_options import flag_of
from textgen.model.config import CELLS
from textgen.settings import to_dict
from textgen.wording import counted, plain, shell_word, short, with_escapes

if TYPE_CHECKING:
    from textgen.saved_model.saved_model import ModelFolder
    from textgen.training.planning.plan import Plan
    from textgen.training.planning.start_choice import StartChoice

LABELS_SHOWN = 8
FEW_TOKENS = 1000  # number of held-out tokens below which a score says little
MIN_SUGGESTED_MINUTES = 10  # of a longer run that is suggested


def describe(plan: Plan, folder: Path) -> str:
    """The plan, for people: a line for each topic."""
    from textgen.system.machine import machine

    stats, training = plan.facts.stats, plan.training_config
    reason = guessed(plan.corpus.guess_reason)
    rows = {
        "corpus": f"{counted(stats.characters, 'character')} in {counted(stats.documents, 'document')} "
        f"by {with_escapes(str(plan.corpus_config.documents))}{reason}",
        **({"labels": _labels(plan)} if plan.corpus_config.labels else {}),
        "held out": ", ".join(map(str, plan.sources.valid.files))
        if plan.sources.valid
        else f"{plain(training.valid_fraction, 2)} of the corpus",
        "vocabulary": _vocabulary(plan),
        "start": _start(plan),
        **({"warning": misfit} if (misfit := _misfit(plan)) else {}),
        "network": _network(plan),
        "parameters": f"{plan.model_config.num_parameters:,}; {_memory(plan)}",
        "dropout": _dropout(plan),
        "training": _training(plan),
        "machine": f"{machine()}; matrix products in {training.precision}",
        "expected": f"about {_duration(plan.estimates.seconds)}, {plain(plan.estimates.epochs, 2)} epochs at "
        f"{plan.estimates.tokens_per_second:,.0f} tokens per second",
        "saved in": str(folder),
    }
    return "\n".join(f"{name:<11} {value}" for name, value in rows.items())


def _vocabulary(plan: Plan) -> str:
    """Its size, which is exact if the vocabulary is there already, and the text in its tokens."""
    about = "" if plan.sources.tokenizer else "about "
    size, tokens = counted(plan.model_config.vocab_size, "token"), counted(plan.estimates.tokens, "token")
    return f"{plan.tokenizer_config.tokenizer}, {about}{size}; about {tokens} to train on"


def _start(plan: Plan) -> str:
    """What the run starts from, and why."""
    from textgen.training.planning.start_choice import GIVEN
    from textgen.training.planning.training import HARD_TEXT

    choice = plan.choice
    hard = ""
    if choice.relative_loss is not None and choice.relative_loss > HARD_TEXT:
        effects = ["a higher learning rate"] * plan.is_learning_rate_planned + ["more epochs"] * plan.are_epochs_planned
        hard = f"; loss {choice.relative_loss:.1f} times that on its own text"
        hard += f", so {' and '.join(effects)}" if effects else ""
    if plan.rival:
        other = plan.rival.start_name
        return f"{plan.start_name} or {other}, whichever does better in a tenth of the run: {_reason(choice)}{hard}"
    return f"{plan.start_name}{hard}" if choice.decided_by == GIVEN else f"{plan.start_name}: {_reason(choice)}{hard}"


def _reason(choice: StartChoice) -> str:
    """Why, with the flag of a setting that is given."""
    return choice.reason_with(flag_of)


def _misfit(plan: Plan) -> str:
    """A warning if the given vocabulary suits the text badly; "" otherwise."""
    from textgen.dataset.prepared_corpus import PreparedCorpus

    fit, start, tokenizer = plan.choice.fit, plan.sources.start, plan.sources.tokenizer
    is_of_start = start is not None and tokenizer is start.tokenizer
    advice = "Leave out --from, or use --from none" if is_of_start else "Leave out --tokenizer-from"
    if plan.tokenizer_config.tokenizer == "word" and not plan.facts.stats.has_words:
        if tokenizer is None:
            advice = "Leave out --tokenizer, or use --tokenizer char"
        elif isinstance(plan.corpus, PreparedCorpus):
            advice = "Prepare it again without --tokenizer, or with --tokenizer char"
        return f"the text has no spaces between words, so a token is a whole line. {advice}"
    if fit is None or tokenizer is None or fit.suits is not False:
        return ""
    whose = f"the vocabulary of {start.name}" if is_of_start and start else "this vocabulary"
    return f"{whose} does not suit the text: it {fit}. {advice}"


def _network(plan: Plan) -> str:
    model = plan.model_config
    kind = CELLS[model.cell] + ", residual" * model.residual + ", layer norm" * model.layer_norm
    parts = [
        f"{model.num_layers} x {kind} of {counted(model.hidden_units, 'unit')}",
        f"embedding {model.embedding_dim:,}",
        "tied" if model.tie_embeddings else "untied",
        {"backward": "backward", "both": "in each direction"}.get(model.direction, ""),
        f"attention over {counted(model.attention, 'output')}" * (model.attention > 0),
        f"from {plan.sources.start.name}" if plan.sources.start else "",
    ]
    return ", ".join(filter(None, parts)) + (f" ({plan.preset})" if plan.preset else "")


def _dropout(plan: Plan) -> str:
    model, training = plan.model_config, plan.training_config
    return (
        f"{plain(model.dropout)} between layers, {plain(model.embedding_dropout)} on the embedding"
        + f", {plain(model.word_dropout)} of words" * (model.word_dropout > 0)
        + f", {plain(model.weight_drop)} of recurrent weights" * (model.weight_drop > 0)
        + f"; segmentation sampled, alpha {plain(training.subword_alpha)}" * (training.subword_alpha > 0)
    )


def _memory(plan: Plan) -> str:
    of_each = " of each GPU" if plan.estimates.is_gpu_memory else ""
    needed = f"memory{of_each} about {plan.estimates.memory_bytes / 1e9:.1f} GB"
    if plan.estimates.has_room:
        return needed
    place = "a GPU" if plan.estimates.is_gpu_memory else "this machine"
    there = f"{place} has {(plan.estimates.memory_there or 0) / 1e9:.1f} GB"
    return f"{needed}, but {there}: choose a smaller --batch-size, --vocab-size or --hidden-units"


def _training(plan: Plan) -> str:
    training, start = plan.training_config, plan.sources.start
    is_sampled = 0 < training.sampled_softmax < plan.model_config.vocab_size
    lengths = {"epochs": training.epochs, "steps": training.steps, "minutes": training.minutes}
    length = " or ".join(
        f"{plain(value)} {name.removesuffix('s') if value == 1 else name}"
        for name, value in lengths.items()
        if value is not None
    )
    return (
        f"{length}, batches of {training.batch_size:,} x {counted(training.sequence_length, 'token')}, "
        + f"{training.gradient_accumulation_steps} to an update, " * (training.gradient_accumulation_steps > 1)
        + f"learning rate {training.learning_rate:g} {training.schedule}, {training.optimizer}"
        + (f", softmax of {counted(training.sampled_softmax, 'token')}" if is_sampled else "")
        + (f", weights averaged by {training.weight_averaging}" if training.weight_averaging != "none" else "")
        + (f", weights mixed with those of {start.name} at the end" if start and training.interpolate_start else "")
    )


def plan_values(plan: Plan, folder: Path) -> dict[str, Any]:
    """The plan, for programs. Estimates have the names that they have in `textgen.training.planning.estimates`."""
    stats = plan.facts.stats
    return {
        **_names_of(folder),
        "corpus": {
            "config": to_dict(plan.corpus_config),
            "characters": stats.characters,
            "num_documents": stats.documents,
            "bytes": stats.bytes,
        },
        "tokenizer": to_dict(plan.tokenizer_config),
        "model": to_dict(plan.model_config),
        "training": to_dict(plan.training_config),
        "labels": list(plan.facts.labels),
        "start": plan.choice.to_dict() | {"tries_both": plan.rival is not None},
        "preset": plan.preset,
        "parameters": plan.model_config.num_parameters,
        "tokens": plan.estimates.tokens,
        "tokens_per_second": round(plan.estimates.tokens_per_second),
        "seconds": round(plan.estimates.seconds, 1),
        "memory_bytes": plan.estimates.memory_bytes,
    }


def result_values(saved: ModelFolder) -> dict[str, Any]:
    """The result of a run, for programs: where the model is, and the content of its training.json."""
    from textgen.saved_model.layout import shown_record

    return _names_of(saved.folder) | shown_record(saved.training)


def _names_of(folder: Path) -> dict[str, str]:
    """The name and the folder of a model."""
    return {"name": folder.name, "folder": str(folder.absolute())}


def _labels(plan: Plan) -> str:
    """The number of labels, where they come from, and the most frequent of them."""
    from textgen.corpus.labels import named
    from textgen.corpus.statistics import CorpusStats

    there = plan.facts.stats.labels if isinstance(plan.facts.stats, CorpusStats) else plan.facts.labels
    rare = len(there) - len(plan.facts.labels)
    line = f"{len(plan.facts.labels):,} by {plan.corpus_config.labels}: {named(plan.facts.labels, LABELS_SHOWN)}"
    return line + (f"; {rare:,} in too few documents are left out" if rare else "")


def _from_here(folder: Path) -> Path:
    """A folder as it was most likely given: without the current folder before it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def summary(saved: ModelFolder) -> str:
    """The result of a run, for people, and what to do next."""
    from textgen.saved_model.model_card import sample_command

    scores, progress = saved.training["scores"], saved.training["progress"]
    tokens = scores["tokens"]
    caution = f" These are only {counted(tokens, 'token')}: the score is rough." if tokens < FEW_TOKENS else ""
    return (
        f"{_from_here(saved.folder)}: {saved.training['status']} after {counted(progress['step'], 'step')} "
        f"({_duration(progress['seconds'])}).\n"
        f"Held-out text: {scores['nats_per_token']:.3f} nats per token, "
        f"perplexity {short(scores['perplexity_per_token'], 2)}, "
        f"{scores['bits_per_byte']:.3f} bits per byte.{caution}\n"
        f"{_longer(saved)}"
        f"Write with it:  {sample_command(saved.shell_name, saved.training['model'], saved.tokenizer.labels)}\n"
        f"See the curves: textgen tensorboard {saved.shell_name}"
    )


def _longer(saved: ModelFolder) -> str:
    """A line with the command that continues a run which only its limit of minutes has ended; "" for other runs."""
    from textgen.saved_model.run_status import is_ended_by_minutes

    if not is_ended_by_minutes(saved.training):
        return ""
    training = saved.training["training"]
    longer = max(MIN_SUGGESTED_MINUTES, 2 * training["minutes"])
    kept = "".join(f" --{name} {_typed(training[name])}" for name in ("epochs", "steps") if training.get(name))
    return f"Train longer:   {resume_command(saved.folder)} --minutes {_typed(longer)}{kept}\n"


def _typed(number: float) -> str:
    """A number as a word of a command: no digit is lost, and an integer is written as one."""
    return str(int(number)) if number == int(number) else repr(number)


def resume_command(folder: Path) -> str:
    """The command that continues the run in a folder, wherever that is."""
    from textgen.saved_model.registry import models_folder

    name = shell_word(folder.name)
    is_found = (models_folder() / folder.name).absolute() == folder.absolute()
    where = "" if is_found else f" --models-dir {shell_word(str(folder.parent))}"
    return f"textgen train --resume --name {name}{where}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
