"""Chooses all settings of a run from the corpus, the machine and the time available.

The rules are rough on purpose. Any setting that is given replaces the planned value:

- vocabulary: as large as the corpus supports (see `textgen.tokenizer.vocabulary.choose_vocab_size`). With a sampled
  softmax it is smaller if the time does not suffice for a quarter of the text: as large as a text four times as long as
  the part that is read supports. With the full softmax it is smaller if the time does not suffice for all of the text,
  but not below the size at which the output layer has as many weights as the recurrent layers; above it, a larger
  vocabulary costs more time per token than it saves in tokens;
- length: passes over the text, fewer for a longer text, because a recurrent network learns most in the first passes,
  and never enough to memorize the text;
- batch: small for a short text, so that each pass makes enough updates; a multiple of the number of replicas;
- softmax: sampled for a large vocabulary if the time does not suffice for all useful passes with the full one, unless
  the run starts from a trained model;
- size: the largest preset that the corpus supports, that fits into the memory, and that sees, within the budget, twice
  as many tokens as it has weights besides the embedding, or three times as many with a sampled softmax (a larger
  network learns more from a token, but reads fewer of them);
- dropout: by how often each token is seen, and more for a short text; weight decay: by how often each token is seen;
  learning rate: by the width of the layers;
- validations: by time, so that a short run does not spend much of it on them;
- start: from a base, where one suits the text (see `textgen.training.planning.start_choice`), otherwise from random
  weights. A model that has read much more than there is to train on needs few passes, a lower learning rate that rises
  slowly, and more dropout.

`make_plan` computes a chain of results, each from those before it: facts about the corpus, the vocabulary, the
network, the training, and the estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.token_files import SplitSummary
from textgen.model.config import ModelConfig
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.vocabulary import choose_vocab_size
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Shares, require_shares
from textgen.training.planning.basis import Basis, find_basis
from textgen.training.planning.checks import (
    check_settings,
    refuse_contradictions,
    refuse_fraction,
    refuse_shared,
    without_prepared,
)
from textgen.training.planning.estimates import Estimates, run_seconds, training_seconds
from textgen.training.planning.inputs import Hardware, Sources
from textgen.training.planning.network import plan_dropout, plan_model, recurrent_weights, same_model
from textgen.training.planning.start_choice import GIVEN, NONE, StartChoice, choose_start, given_fit
from textgen.training.planning.training import plan_sampling, plan_training
from textgen.training.planning.validations import plan_patience
from textgen.training.planning.vocabulary import (
    CorpusFacts,
    Vocabulary,
    corpus_facts,
    given_tokenizer,
    plan_vocabulary,
    vocabulary_size,
)
from textgen.wording import Say, plain, silent

__all__ = ["Hardware", "Plan", "Sources", "make_plan"]

RACE_VALIDATIONS = 10  # minimum number of validations in a race, so that one comes after a tenth of the run
RACE_MINUTES = 5.0  # minimum budget in minutes; a tenth must exceed TensorFlow's start-up
LONG_TEXT = 2_000_000  # bytes from which on random weights may learn more than a base
HARD_FOR_BASE = 1.7  # minimum relative loss of such a text
PASSES_ALONE = 10.0  # minimum passes from random weights in the time that there is
NEED_START = ("decay_target", "interpolate_start", "freeze_layers")  # settings that need a model to start from
MIN_PASSES = 1.0  # passes over a text below which the vocabulary shrinks
TIMES_READ = 4  # with a sampled softmax, the vocabulary is that of a text this many times as long as what the run reads
VOCABULARY_STEP = 0.8  # factor by which the vocabulary shrinks at a time
MIN_VOCAB_SIZE = 2000  # minimum number of tokens of a vocabulary that has shrunk
SUBWORD_KINDS = ("unigram", "bpe")  # vocabularies whose size can be chosen


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All settings of a run, known before it starts.

    Attributes:
        corpus: Text to train on.
        sources: Held-out text, model to start from and vocabulary, where there are any.
        facts: Counts and labels of the corpus.
        corpus_config: How the corpus is read; the document mode is settled.
        tokenizer_config: How the vocabulary is trained.
        model_config: Shape of the network; its vocab_size is an estimate until the vocabulary is trained.
        training_config: How the network is trained.
        preset: Name of the chosen size; None if the size was given by single settings or by the model that the run
            starts from.
        estimates: Expected duration, speed and memory.
        choice: What the run starts from, and why.
        rival: The plan to try beside this one, where `choice` is open.
        scored_fraction: Length of the text that a validation scores, relative to the text to train on, so that both of
            two plans score the same text: how many tokens that is with either vocabulary is known once it is encoded.
            None to keep valid_tokens.
        is_patience_planned: Whether patience was chosen for the number of validations, and not given.
        are_validations_planned: Whether the number of validations was chosen, and not given.
        are_epochs_planned: Whether the number of epochs was chosen, and neither it nor a number of steps was given.
        is_learning_rate_planned: Whether the learning rate was chosen, and not given.
    """

    corpus: Corpus | PreparedCorpus
    sources: Sources
    facts: CorpusFacts
    corpus_config: CorpusConfig
    tokenizer_config: TokenizerConfig
    model_config: ModelConfig
    training_config: TrainingConfig
    preset: str | None
    estimates: Estimates
    choice: StartChoice
    rival: Plan | None = None
    scored_fraction: float | None = None
    is_patience_planned: bool = True
    are_validations_planned: bool = True
    are_epochs_planned: bool = True
    is_learning_rate_planned: bool = True

    @property
    def start_name(self) -> str:
        """Name of the model that the run starts from, or "none"."""
        return self.sources.start.name if self.sources.start else NONE

    def for_text(self, train: SplitSummary, valid: SplitSummary) -> Plan:
        """The plan once the text is encoded.

        With every vocabulary, validations then score the same number of bytes. Which bytes, the evaluator chooses by
        their places in the text: see `textgen.evaluation.excerpt`.
        """
        if self.scored_fraction is None:
            return self
        return self.scoring(self.scored_fraction * train.bytes * valid.tokens / max(1, valid.bytes))

    def scoring(self, tokens: float) -> Plan:
        """The plan with validations that score this number of tokens."""
        return replace(self, training_config=replace(self.training_config, valid_tokens=max(1, math.ceil(tokens))))


def make_plan(
    corpus: Corpus | PreparedCorpus,
    settings: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
    sources: Sources = Sources(),  # noqa: B008 - immutable
    hardware: Hardware = Hardware(),  # noqa: B008 - immutable
) -> Plan:
    """Chooses all settings that are not given.

    Args:
        corpus: Text to train on.
        settings: Flat settings by name, of `CorpusConfig`, `TokenizerConfig`, `ModelConfig` and `TrainingConfig`.
        preset: Size of the network, one of `textgen.training.presets.SIZES`; chosen if None.
        sources: Held-out text, model to start from and vocabulary.
        hardware: Speed, and how many devices share the work.

    Returns:
        The plan, for `textgen.training.run.train`.

    Raises:
        CorpusError: The text is too short, or held-out text is also text to train on.
        ConfigError: A setting is unknown or out of range, or contradicts another one or the model to start from.
        TokenizerError: No vocabulary can be learned from the text, or character_coverage does not suit its kind.
    """
    check_settings(settings or {}, preset, sources.start)
    given = read_and_check(corpus, settings or {}, sources)
    if "batch_size" in given:
        require_shares(given["batch_size"], hardware.shares.replicas)
    hardware = hardware.measured()
    if sources.start or not sources.may_choose_base:
        name = sources.start.name if sources.start else None
        taken = None if isinstance(corpus, PreparedCorpus) else given_fit(corpus, given_tokenizer(given, sources))
        choice = StartChoice(name, "given", decided_by=GIVEN, fit=taken)
        return _plan(corpus, given, preset, sources, hardware, choice)
    return _plan_by_rule(corpus, given, preset, sources, hardware)


def read_and_check(
    corpus: Corpus | PreparedCorpus,
    settings: Mapping[str, Any],
    sources: Sources = Sources(),  # noqa: B008 - immutable
    say: Say = silent,
) -> dict[str, Any]:
    """Checks what `make_plan` gets, before TensorFlow is loaded and a vocabulary is learned; reads the text once.

    Args:
        corpus: Text to train on.
        settings: Flat settings by name, which `check_settings` has checked.
        sources: Held-out text, model to start from and vocabulary.
        say: Called with a line for each file and each kind of record that is skipped.

    Returns:
        The settings without those that a prepared corpus has fixed.

    Raises:
        CorpusError: The text is too short, or held-out text is also text to train on.
        ConfigError: A setting contradicts the corpus or the held-out text.
    """
    given = dict(settings)
    if isinstance(corpus, PreparedCorpus):
        given = without_prepared(corpus, given, sources)
    else:
        refuse_fraction(given, sources.valid)
        for text in filter(None, (sources.valid, corpus)):
            _read(text, say)
        refuse_shared(corpus, sources.valid)
    corpus_facts(corpus, given, sources)  # raises for too little text
    return given


def _read(text: Corpus, say: Say) -> None:
    """Reads a text once, and says what is skipped."""
    text.say_findings(say)
    text.stats()
    text.say_left_out(say)


def _plan_by_rule(
    corpus: Corpus | PreparedCorpus, given: Mapping[str, Any], preset: str | None, sources: Sources, hardware: Hardware
) -> Plan:
    """The plan from random weights or from a base, by the rule; with the other one as a rival where that is open."""
    if isinstance(corpus, PreparedCorpus):
        choice, base = StartChoice(None, "a prepared corpus has a vocabulary of its own"), None
    else:
        choice, base = choose_start(corpus, given, preset=preset, tokenizer=sources.tokenizer)
    if base is None or not (choice.name or choice.is_open):
        return _plan(corpus, given, preset, sources, hardware, choice)
    of_start = [name for name in NEED_START if given.get(name) and given[name] != getattr(TrainingConfig, name)]
    own = {name: value for name, value in given.items() if name not in of_start}
    alone = _plan(corpus, own, preset, sources, hardware, choice)
    if _width(alone.model_config) > _width(base.model_config):
        choice = StartChoice(None, f"the text supports a larger network than that of {base.name}", fit=choice.fit)
    elif choice.is_open and of_start:
        choice = replace(choice, name=base.name, is_open=False, given_setting=of_start[0])
    elif choice.is_open and (why := _why_no_race(given, alone.training_config, hardware.shares)):
        choice = replace(choice, is_open=False, grounds=f"{choice.grounds}; {why}, so the likelier is taken")
    if choice.name is None and not choice.is_open:
        return _plan(corpus, given, preset, sources, hardware, choice)
    tuned = _plan(corpus, given, None, replace(sources, start=base), hardware, choice)
    if not choice.is_open:
        return _because_long(alone, tuned) if not of_start and _learns_more_alone(alone, tuned) else tuned
    first, second = _for_race([tuned, alone] if choice.name else [alone, tuned], given)
    return replace(first, rival=second)


def _learns_more_alone(alone: Plan, tuned: Plan) -> bool:
    """Whether random weights learn more: the text is long and unlike what the base has read, and there is time for it.

    A network from random weights is smaller than a base, so it reads the text more often in the same time.
    """
    is_hard = (tuned.choice.relative_loss or 0.0) >= HARD_FOR_BASE
    return is_hard and alone.facts.stats.bytes >= LONG_TEXT and alone.estimates.epochs >= PASSES_ALONE


def _because_long(alone: Plan, tuned: Plan) -> Plan:
    """The plan from random weights for a long text, with the reason why it is taken."""
    choice = tuned.choice
    times = f"{choice.relative_loss:.2f} times that on its own text"
    grounds = f"the text is long, and the loss of {choice.name} on it is {times}"
    return replace(alone, choice=replace(choice, name=None, grounds=grounds, relative_loss=None))


def _for_race(plans: Sequence[Plan], given: Mapping[str, Any]) -> list[Plan]:
    """The plans with a first validation after a tenth of the run, on the same part of the held-out text.

    Whichever goes on, the run also takes the time in which the other one is tried.
    """
    changed: dict[str, Any] = {}
    if "num_validations" not in given:
        changed["num_validations"] = RACE_VALIDATIONS
        if "patience" not in given:
            changed["patience"] = plan_patience(RACE_VALIDATIONS)
    plans = [replace(plan, training_config=replace(plan.training_config, **changed)) for plan in plans]
    if "valid_tokens" not in given:
        fraction = max(plan.training_config.valid_tokens / plan.estimates.tokens for plan in plans)
        plans = [replace(plan, scored_fraction=fraction).scoring(fraction * plan.estimates.tokens) for plan in plans]
    estimates = [_with_validations(plan) for plan in plans]
    trials = [each.seconds / RACE_VALIDATIONS for each in reversed(estimates)]
    return [
        replace(plan, estimates=replace(own, seconds=own.seconds + trial))
        for plan, own, trial in zip(plans, estimates, trials, strict=True)
    ]


def _with_validations(plan: Plan) -> Estimates:
    """The estimates of a plan whose validations have changed."""
    rough = plan.estimates
    speeds = rough.tokens_per_second, rough.scoring_speed
    return replace(rough, seconds=run_seconds(plan.model_config, plan.training_config, rough.tokens, *speeds))


def _width(model: ModelConfig) -> int:
    return model.num_layers * model.hidden_units


def _why_no_race(given: Mapping[str, Any], training: TrainingConfig, shares: Shares) -> str:
    """Why two ways cannot be tried for a part of the run; "" if they can."""
    if shares.processes > 1:
        return "several processes do not try both"
    if given.get("num_validations", RACE_VALIDATIONS) < RACE_VALIDATIONS:
        return f"with fewer than {RACE_VALIDATIONS} validations there is none to compare by"
    if training.minutes is not None and training.minutes < RACE_MINUTES:
        return f"{plain(training.minutes)} minutes are too short to try both"
    return ""


def _plan(
    corpus: Corpus | PreparedCorpus,
    given: Mapping[str, Any],
    preset: str | None,
    sources: Sources,
    hardware: Hardware,
    choice: StartChoice,
) -> Plan:
    facts = corpus_facts(corpus, given, sources)
    vocabulary = plan_vocabulary(corpus, facts, given, sources)
    basis = find_basis(corpus, facts, vocabulary, given, sources, hardware)
    if sources.start is None:
        while smaller := _smaller_size(corpus, vocabulary, given, basis, preset):
            vocabulary = plan_vocabulary(corpus, facts, given, sources, smaller)
            basis = replace(basis, vocab_size=vocabulary.size, tokens=vocabulary.tokens)
        basis, model, size = _sized(basis, preset)
    else:
        model, size = same_model(basis, sources.start), None
        basis = replace(basis, sampled_softmax=plan_sampling(basis, model))
    training = plan_training(basis, model)
    refuse_contradictions(basis, facts, vocabulary, model, training)
    estimates = _estimate(basis, model, training)
    model = plan_dropout(basis, model, estimates.epochs)
    return Plan(
        corpus=corpus,
        sources=replace(sources, tokenizer=vocabulary.tokenizer),
        facts=facts,
        corpus_config=replace(corpus.config, documents=corpus.documents_mode),
        tokenizer_config=vocabulary.config,
        model_config=model,
        training_config=training,
        preset=size,
        estimates=estimates,
        choice=replace(choice, relative_loss=basis.relative_loss),
        is_patience_planned="patience" not in given,
        are_validations_planned="num_validations" not in given,
        are_epochs_planned=given.get("epochs") is None and given.get("steps") is None,
        is_learning_rate_planned="learning_rate" not in given,
    )


def _sized(basis: Basis, preset: str | None) -> tuple[Basis, ModelConfig, str | None]:
    """The basis with the softmax that the size of its network asks for, the network, and its preset."""
    model, size = plan_model(basis, preset)
    if sampled := plan_sampling(basis, model):
        basis = replace(basis, sampled_softmax=sampled)
        model, size = plan_model(basis, preset)
    return basis, model, size


def _smaller_size(
    corpus: Corpus | PreparedCorpus,
    vocabulary: Vocabulary,
    given: Mapping[str, Any],
    basis: Basis,
    preset: str | None,
) -> int | None:
    """A smaller size to try for a vocabulary that is too large for the time; None if it is not, or is given."""
    kind, is_given = vocabulary.config.tokenizer, vocabulary.tokenizer or given.get("vocab_size")
    if is_given or kind not in SUBWORD_KINDS or isinstance(corpus, PreparedCorpus):
        return None
    basis, model, _ = _sized(basis, preset)
    training = plan_training(basis, model)
    estimates = _estimate(basis, model, training)
    if estimates.epochs >= MIN_PASSES or not _is_short_of_time(given, training, estimates):
        return None
    config, stats = vocabulary.config, corpus.stats()
    size = config.vocab_size or vocabulary_size(config, stats)
    if 0 < basis.sampled_softmax < model.vocab_size:
        read = round(TIMES_READ * estimates.epochs * stats.characters)
        least = choose_vocab_size(kind, read, stats.character_counts, config.character_coverage)
    elif model.vocab_size * model.embedding_dim > recurrent_weights(model):
        least = choose_vocab_size(kind, 0, stats.character_counts, config.character_coverage)
    else:
        return None
    smaller = max(least, MIN_VOCAB_SIZE, 8 * int(VOCABULARY_STEP * size / 8))
    return smaller if smaller < size else None


def _is_short_of_time(given: Mapping[str, Any], training: TrainingConfig, estimates: Estimates) -> bool:
    """Whether the time limit ends the run first.

    With fixed passes or steps a smaller vocabulary would not help.
    """
    if training.minutes is None:
        return given.get("epochs") is None and given.get("steps") is None
    without = replace(training, minutes=None)
    return estimates.training_seconds < training_seconds(without, estimates.tokens, estimates.tokens_per_second)


def _estimate(basis: Basis, model: ModelConfig, training: TrainingConfig) -> Estimates:
    speed = basis.speed(model, training.num_streams * training.sequence_length)
    scoring_speed = basis.scoring_speed(model)
    return Estimates(
        tokens=basis.tokens,
        tokens_per_second=speed,
        scoring_speed=scoring_speed,
        training_seconds=training_seconds(training, basis.tokens, speed),
        seconds=run_seconds(model, training, basis.tokens, speed, scoring_speed),
        memory_bytes=basis.memory_needed(model, training),
        memory_there=basis.memory_there,
        is_gpu_memory=basis.gpu_memory is not None,
    )
