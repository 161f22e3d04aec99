"""What the network and its training are planned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from textgen.corpus.corpus import Corpus
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.model.config import ModelConfig
from textgen.saved_model.bases import is_base
from textgen.saved_model.saved_model import ModelFolder
from textgen.system.machine import best_precision
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Shares
from textgen.training.planning.estimates import machine_memory, scoring_speed, tokens_per_second, training_memory
from textgen.training.planning.inputs import Hardware, Sources
from textgen.training.planning.relative_loss import relative_loss, sample_of
from textgen.training.planning.vocabulary import CorpusFacts, Vocabulary

SMALL_TEXT = 30_000  # tokens, about 110 KB of English, of the text for which the plan of pretrained models was chosen
MUCH_MORE = 10  # minimum length of the text that such a model has read, relative to the text to train on


@dataclass(frozen=True)
class Basis:
    """What the sizes of a run are computed from.

    Attributes:
        settings: Settings that were given, with precision and valid_fraction settled.
        vocab_size: Tokens in the vocabulary (V).
        tokens: Tokens of training text.
        flops: Float32 matrix product operations per second.
        shares: Replicas, processes and machines.
        fine_tuning: Whether the run starts from a trained model.
        read_much_more: Whether that model was trained on much more text than there is now, as a base was.
        keeps_vocabulary: Whether the run has the vocabulary of that model. It does not if it learns one from the text.
        relative_loss: How hard the text is for such a model: see `planning.relative_loss`; None if unknown.
        memory: Memory of each machine in bytes; None if it is unknown.
        on_gpu: Whether the replicas are GPUs.
        gpu_memory: Memory of the smallest of them in bytes; None if it is unknown.
        sampled_softmax: Sampled tokens that approximate the full softmax; 0 for the full one, and until vocabulary and
            network are chosen.
    """

    settings: Mapping[str, Any]
    vocab_size: int
    tokens: int
    flops: float
    shares: Shares
    fine_tuning: bool
    read_much_more: bool
    keeps_vocabulary: bool
    memory: int | None
    on_gpu: bool = False
    gpu_memory: int | None = None
    relative_loss: float | None = None
    sampled_softmax: int = 0

    @property
    def memory_there(self) -> int | None:
        """Memory in bytes of each GPU, or of each machine if that is unknown; None if both are."""
        return self.gpu_memory or self.memory

    def memory_needed(self, model: ModelConfig, training: TrainingConfig) -> int:
        """Estimated peak of the memory that `memory_there` is compared with."""
        if self.gpu_memory:
            return training_memory(model, replace(training, batch_size=training.batch_size // self.shares.replicas))
        return machine_memory(model, training, self.shares)

    def scoring_speed(self, model: ModelConfig) -> float:
        """Estimated tokens per second of a validation, always with the full softmax."""
        return scoring_speed(model, self.flops, self.settings["precision"], on_gpu=self.on_gpu)

    def speed(self, model: ModelConfig, step_tokens: int = 2048) -> float:
        """Estimated tokens per second of a network, on average over the run."""
        precision = self.settings["precision"]
        speed = partial(tokens_per_second, model, self.flops, precision, step_tokens, on_gpu=self.on_gpu)
        full = speed()
        if not 0 < self.sampled_softmax < model.vocab_size:
            return full
        fast = speed(logits=self.sampled_softmax)
        fraction = self.settings.get("full_softmax_fraction", TrainingConfig.full_softmax_fraction)
        if self.settings.get("minutes") is None:  # a fraction of the tokens
            return 1 / (fraction / full + (1 - fraction) / fast)
        return fraction * full + (1 - fraction) * fast


def find_basis(
    corpus: Corpus | PreparedCorpus,
    facts: CorpusFacts,
    vocabulary: Vocabulary,
    given: Mapping[str, Any],
    sources: Sources,
    hardware: Hardware,
) -> Basis:
    """What is known before the network is chosen.

    Args:
        corpus: The text to train on.
        facts: What is known of the corpus.
        vocabulary: The vocabulary, planned.
        given: Settings that were given.
        sources: The model to start from, where there is one.
        hardware: Speed, memory, and how many devices share the work, as `Hardware.measured` returns them.

    Returns:
        What network and training are planned from.

    Raises:
        CorpusError: The text cannot be read again, or shards of a prepared corpus are missing or damaged.
    """
    precision = given.get("precision", "auto")
    settled = {
        "valid_fraction": facts.valid_fraction,
        "precision": best_precision() if precision == "auto" else precision,
    }
    start, tokens = sources.start, vocabulary.tokens
    read_much_more = start is not None and _read_much_more(start, facts.stats.characters)
    loss = relative_loss(start, sample_of(corpus)) if start and read_much_more else None
    return Basis(
        settings={**given, **settled},
        vocab_size=vocabulary.size,
        tokens=tokens,
        flops=cast(float, hardware.flops),
        shares=hardware.shares,
        fine_tuning=start is not None,
        read_much_more=read_much_more,
        keeps_vocabulary=start is not None and _keeps_vocabulary(start, vocabulary),
        memory=hardware.memory,
        on_gpu=bool(hardware.on_gpu),
        gpu_memory=hardware.gpu_memory,
        relative_loss=loss,
    )


def _keeps_vocabulary(start: ModelFolder, vocabulary: Vocabulary) -> bool:
    """Whether a vocabulary is that of a model; one of bytes needs no text to be known."""
    known = vocabulary.tokenizer or (ByteTokenizer() if vocabulary.config.tokenizer == "byte" else None)
    return known is not None and start.tokenizer.is_part_of(known)


def _read_much_more(start: ModelFolder, characters: int) -> bool:
    """Whether a model is a base, or has read much more than a text of this length.

    Characters are compared, not tokens: vocabularies differ, and copies of a model do not keep a count of its tokens.
    """
    if is_base(start.folder):
        return True
    if not start.training:
        return False
    passes = min(1.0, start.training["progress"]["epochs"])
    return bool(passes * start.training["corpus"]["characters"] >= MUCH_MORE * characters)
