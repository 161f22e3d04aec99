"""Plans the vocabulary, and estimates what a corpus comes to in its tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from textgen.corpus.corpus import Corpus
from textgen.corpus.statistics import CorpusStats
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.split import fraction_to_hold_out
from textgen.dataset.token_files import SplitSummary
from textgen.errors import CorpusError
from textgen.settings import from_dict, select
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import choose_vocab_size, refuse_vocabulary_settings, require_coverage
from textgen.training.config import TrainingConfig
from textgen.training.planning.inputs import Sources
from textgen.wording import counted

MIN_CORPUS_CHARS = 1000  # minimum number of characters of a corpus, of which a part is held out
CHARACTERS_PER_TOKEN = (  # of unigram vocabularies by their size, on held-out text of the bases: English, Chinese
    {1000: 2.48, 2000: 2.94, 4000: 3.33, 8000: 3.65, 16_000: 3.9, 32_000: 4.12},
    {10_000: 1.07, 16_000: 1.15, 24_000: 1.19},
)


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of the corpus before a vocabulary is chosen.

    Attributes:
        stats: Counts of characters, words, documents and bytes.
        labels: Labels of documents that the model learns.
        valid_fraction: Fraction of the corpus to hold out, if there is no held-out text of its own.
    """

    stats: CorpusStats | SplitSummary
    labels: tuple[str, ...]
    valid_fraction: float


@dataclass(frozen=True)
class Vocabulary:
    """The vocabulary, and what the corpus comes to in its tokens.

    Attributes:
        tokenizer: Tokenizer to use; None if one is trained.
        config: Settings of the tokenizer.
        size: Tokens in the vocabulary (V); an estimate until it is trained.
        tokens: Tokens of training text, estimated: from a sample of it if there is a tokenizer.
    """

    tokenizer: Tokenizer | None
    config: TokenizerConfig
    size: int
    tokens: int


def corpus_facts(corpus: Corpus | PreparedCorpus, given: Mapping[str, Any], sources: Sources) -> CorpusFacts:
    """Counts the corpus. Raises `CorpusError` if it is too short, or has none of the labels that it should."""
    stats = corpus.stats()
    if stats.characters < MIN_CORPUS_CHARS:
        raise CorpusError(
            f"The corpus has {counted(stats.characters, 'character')}, too few to learn from: give at least "
            f"{MIN_CORPUS_CHARS:,}, better 50,000 or more."
        )
    if isinstance(corpus, PreparedCorpus):
        return CorpusFacts(stats, corpus.tokenizer.labels, corpus.settings.valid_fraction)
    default = TrainingConfig.valid_fraction if sources.valid else fraction_to_hold_out(stats.bytes)
    tokenizer = given_tokenizer(given, sources)
    labels = corpus.labels_to_learn(tokenizer.labels if tokenizer else ())
    return CorpusFacts(stats, tuple(labels), given.get("valid_fraction", default))


def plan_vocabulary(
    corpus: Corpus | PreparedCorpus,
    facts: CorpusFacts,
    given: Mapping[str, Any],
    sources: Sources,
    size: int | None = None,
) -> Vocabulary:
    """Plans the vocabulary.

    Args:
        corpus: Text to train on.
        facts: Facts about it.
        given: Flat settings that are given.
        sources: Held-out text, vocabulary and model to start from, where there are any.
        size: Number of tokens of a vocabulary that is trained; None to choose it by the text.

    Returns:
        The vocabulary, or how it is trained, and the tokens that it makes of the corpus.

    Raises:
        ConfigError: A setting of the vocabulary is wrong, or is given although the vocabulary is taken from elsewhere.
        TokenizerError: character_coverage does not suit the kind of the vocabulary.
    """
    if isinstance(corpus, PreparedCorpus):
        own = corpus.tokenizer
        config = from_dict(TokenizerConfig, corpus.settings.tokenizer)
        return Vocabulary(own, config, own.vocab_size, len(corpus.data().train))
    tokenizer = given_tokenizer(given, sources)
    config, stats = _plan_tokenizer(given, tokenizer), corpus.stats()
    config = replace(config, vocab_size=size) if size else config
    size = tokenizer.vocab_size if tokenizer else vocabulary_size(config, stats)
    held_out = 0.0 if sources.valid else facts.valid_fraction
    of_text = _tokens(config.tokenizer, stats, size) if tokenizer is None else _sampled_tokens(corpus, tokenizer)
    tokens = max(1, int(of_text * (1 - held_out)))
    return Vocabulary(tokenizer, config, size + _num_new_labels(facts.labels, tokenizer), tokens)


def given_tokenizer(given: Mapping[str, Any], sources: Sources) -> Tokenizer | None:
    """The vocabulary that a run takes, or that of the model that it starts from; None if it trains one.

    Args:
        given: Settings that were given. Those of a vocabulary replace that of a model.
        sources: The vocabulary and the model, where there are any.
    """
    if sources.tokenizer is None and sources.start and not select(TokenizerConfig, given):
        return sources.start.tokenizer
    return sources.tokenizer


def _plan_tokenizer(settings: Mapping[str, Any], tokenizer: Tokenizer | None) -> TokenizerConfig:
    if tokenizer is None:
        config = from_dict(TokenizerConfig, select(TokenizerConfig, settings))
        require_coverage(config)
        return config
    refuse_vocabulary_settings(settings)
    return TokenizerConfig(tokenizer=tokenizer.kind)


def vocabulary_size(config: TokenizerConfig, stats: CorpusStats) -> int:
    """Tokens of a vocabulary, without labels: those that were given, or as many as the corpus supports."""
    if config.vocab_size is not None:
        return config.vocab_size
    chosen = choose_vocab_size(config.tokenizer, stats.characters, stats.character_counts, config.character_coverage)
    return min(chosen, max(300, stats.words // 4)) if config.tokenizer == "word" else chosen


def _num_new_labels(labels: Sequence[str], tokenizer: Tokenizer | None) -> int:
    """Tokens that the labels add to those that a tokenizer has."""
    known = tokenizer.labels if tokenizer else ()
    new = len(set(labels).difference(known))
    return new if known or not new else new + 1  # the first label adds the one for no label


def _tokens(tokenizer: str, stats: CorpusStats, vocab_size: int) -> int:
    """Estimated tokens of the whole corpus."""
    if tokenizer == "byte":
        return stats.bytes + stats.documents
    if tokenizer == "char":
        return stats.characters + stats.documents
    if tokenizer == "word":
        return stats.words + stats.lines
    wide = min(1.0, (stats.bytes / stats.characters - 1) / 2)  # 0 for English, 1 for Chinese
    english, chinese = (_interpolated(table, vocab_size) for table in CHARACTERS_PER_TOKEN)
    return round(stats.characters / (english * (1 - wide) + chinese * wide)) + stats.documents


def _sampled_tokens(corpus: Corpus, tokenizer: Tokenizer) -> int:
    """Estimates the tokens of the whole corpus in a given vocabulary."""
    sampled = sum(map(len, tokenizer.encode_batch(corpus.sample)))
    stats, characters = corpus.stats(), sum(map(len, corpus.sample))
    return round(stats.characters * sampled / max(1, characters)) + stats.documents


def _interpolated(table: Mapping[int, float], vocab_size: int) -> float:
    """The value of a table by the logarithm of the size of a vocabulary; that of its ends beyond them."""
    sizes = [math.log(size) for size in table]
    return float(np.interp(math.log(vocab_size), sizes, list(table.values())))
