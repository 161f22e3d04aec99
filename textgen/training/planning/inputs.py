"""The inputs of a plan besides corpus and settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from textgen.corpus.corpus import Corpus
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.errors import ConfigError
from textgen.saved_model.saved_model import ModelFolder
from textgen.system.machine import has_gpu, measure_flops, smallest_gpu_memory, usable_memory
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.distributed.distribution import Shares


@dataclass(frozen=True)
class Sources:
    """What a run uses besides its corpus.

    Attributes:
        valid: Held-out text; None to hold out a fraction of the corpus.
        start: Model to fine-tune; None to start from random weights.
        tokenizer: Vocabulary to use; None to train one, or to keep that of `start`.
        may_choose_base: Whether a run without `start` may start from a base, where one suits the text.
    """

    valid: Corpus | None = None
    start: ModelFolder | None = None
    tokenizer: Tokenizer | None = None
    may_choose_base: bool = False


@dataclass(frozen=True)
class Hardware:
    """What a run is planned for.

    Attributes:
        flops: Float32 matrix product operations per second of all devices together; measured if None.
        shares: Replicas, processes and machines among which each batch is divided.
        memory: Memory of each machine in bytes; None if it is unknown.
        on_gpu: Whether the devices are GPUs; looked up on this machine if None.
        gpu_memory: Memory of the smallest GPU in bytes; looked up if None, and None if it is unknown.
    """

    flops: float | None = None
    shares: Shares = field(default_factory=Shares)
    memory: int | None = None
    on_gpu: bool | None = None
    gpu_memory: int | None = None

    def measured(self) -> Hardware:
        """The same with a known speed, memory and kind of device."""
        flops = self.flops or measure_flops(self.shares.replicas, self.shares.core_sets)
        on_gpu = has_gpu() if self.on_gpu is None else self.on_gpu
        gpu_memory = self.gpu_memory or (smallest_gpu_memory() if on_gpu else None)
        return replace(self, flops=flops, memory=self.memory or usable_memory(), on_gpu=on_gpu, gpu_memory=gpu_memory)


def has_held_out(corpus: PreparedCorpus) -> ConfigError:
    """The error for a file of held-out text beside a prepared corpus, to be raised."""
    return ConfigError(f"{corpus.folder} has held-out text of its own: leave out valid_file.")


def held_out_text(path: str | Path, corpus: Corpus | PreparedCorpus) -> Corpus:
    """Opens a text to validate on; reads it and cuts it into documents like the text to train on.

    Args:
        path: File with the held-out text.
        corpus: Text to train on.

    Returns:
        The held-out text.

    Raises:
        ConfigError: The text to train on is prepared.
        CorpusError: The file cannot be read.
    """
    if isinstance(corpus, PreparedCorpus):
        raise has_held_out(corpus)
    return Corpus([path], replace(corpus.config, documents=corpus.documents_mode), is_alone=False)
