"""Writes event files for TensorBoard.

Cheap values are written every few steps. Expensive ones may use a small fraction of the time, and are skipped while it
is used up. A run that resumes from a checkpoint or returns to one writes a session start, so that TensorBoard discards
points of later steps.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.projector import ProjectorConfig
from tensorboard.plugins.text.summary_v2 import text_pb

from textgen.dataset.token_cache import TokenData
from textgen.model.config import TABLE
from textgen.saved_model.layout import EMBEDDING_FILE, PIECES_FILE, PROJECTOR_FILE
from textgen.storage.files import write_own_file
from textgen.storage.locks import require_held
from textgen.system.machine import gpu_bytes, resident_bytes
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.observers.diagnostics import diagnose_directions, norms, update_ratios, window
from textgen.training.observers.event_file import EventFile
from textgen.training.observers.observer import Observer, RunReport, StepReport, ValidationReport
from textgen.wording import visible

if TYPE_CHECKING:
    from textgen.model.language_model import LanguageModel

STEPS_PER_POINT = 10  # steps between points of a curve
STEPS_PER_UPDATE = 50  # steps between measured updates; each measurement copies the weights twice
UPDATES_FRACTION, LOOKS_FRACTION = 0.003, 0.006  # fractions of the time for updates; for gates and histograms
HISTOGRAM_VALUES = 10_000  # maximum per histogram; larger arrays are sampled evenly
PROJECTED_TOKENS = 10_000  # maximum number of tokens in the projector, the most frequent first
PROJECTED_NUMBERS = 4_000_000  # maximum number of values in the projector, 16 MB
LISTED = 20  # maximum number of items of a list among the settings
COMPARED = ("tokenizer", "model", "training")  # sections of settings in the HParams tab
METRICS = {  # scores in the HParams tab
    "best/bits_per_byte": "bits per byte",
    "best/nats_per_token": "nats per token",
    "best/perplexity": "perplexity",
    "speed/tokens_per_second": "tokens per second",
}


class Monitor(Observer):
    """Writes curves, gates, histograms, samples and the embedding of a run to a folder of event files.

    Args:
        folder: Folder of the event files.
        model: The model that is trained.
        tokenizer: Its tokenizer.
        data: Training and held-out tokens.
    """

    def __init__(self, folder: Path, model: LanguageModel, tokenizer: Tokenizer, data: TokenData) -> None:
        super().__init__()
        self._folder = folder
        self._model = model
        self._pieces = tokenizer.pieces()
        self._counts = data.train.counts  # [V]
        self._inputs = window(data.valid)  # [B, T]
        self._step = 0  # newest step so far
        self._before: dict[str, np.ndarray] | None = None  # weights before the next update, if it is measured
        self._faults: list[str] = []
        self._closing = ExitStack()  # closes the file, once there is one

    def on_start(self, run: RunReport) -> None:
        """Writes the settings as text and for the HParams tab, and starts the projector."""
        self._file = EventFile(self._folder)
        self._closing.callback(self._file.close)
        self._updates, self._looks = Allowance(UPDATES_FRACTION), Allowance(LOOKS_FRACTION)
        self._step = run.step
        first = run.step + 1
        self._goes_on_at(first)
        settings = visible(json.dumps(shown_settings(run.settings), indent=2, ensure_ascii=False, default=str))
        self._write(first, text_pb("settings", fenced(settings)))
        values = compared_settings(run.settings)
        metrics = [hparams.Metric(tag, display_name=name) for tag, name in METRICS.items()]
        self._write(first, hparams.hparams_config_pb([hparams.HParam(name) for name in values], metrics))
        self._write(first, hparams.hparams_pb(values, trial_id=visible(run.name)))
        self._file.flush()
        self._start_projector()
        self._remember_before(first)

    def on_step(self, report: StepReport) -> None:
        """Writes loss, learning rate, gradient norms, speed and memory, and less often norms of weights and updates."""
        if report.step <= self._step:
            self._goes_on_at(report.step)
            self._write_faults(report.step)
        self._step = report.step
        if report.step % STEPS_PER_POINT == 0:
            self._write_curves(report)
        if self._before is not None:
            with self._updates.spending():
                after = self._model.weights_as_arrays()
                self._write_scalars(report.step, "weight_norm", norms(after))
                self._write_scalars(report.step, "update_ratio", update_ratios(self._before, after))
        self._remember_before(report.step + 1)

    def on_validation(self, report: ValidationReport) -> None:
        """Writes scores on held-out text, a sample, gates and histograms."""
        scores = {"valid_nats_per_token": report.nats_per_token, "valid_bits_per_byte": report.bits_per_byte}
        self._write_scalars(report.step, "loss", scores)
        self._write_scalars(report.step, "perplexity", {"valid": report.perplexity_per_token})
        if report.improved:
            best = {"bits_per_byte": report.bits_per_byte, "nats_per_token": report.nats_per_token}
            self._write_scalars(report.step, "best", {**best, "perplexity": report.perplexity_per_token})
        self._write(report.step, text_pb("sample", fenced(report.sample)))
        if self._looks.is_left:
            with self._looks.spending():
                self._look_inside(report.step)
        self._file.flush()

    def on_fault(self, line: str) -> None:
        """Writes a fault as text."""
        self._before = None
        self._faults.append(line)
        self._write_faults(self._step)

    def on_end(self) -> None:
        """Closes the file, if it could be created."""
        self._closing.close()

    def _write_curves(self, report: StepReport) -> None:
        step, loss = report.step, report.nats_per_token
        self._write_scalars(step, "loss", {"train_nats_per_token": loss})
        self._write_scalars(step, "perplexity", {"train": math.exp(min(loss, 700.0))})  # exp overflows beyond about 709
        self._write_scalars(step, "optimizer", {"learning_rate": report.learning_rate, "epochs": report.epochs})
        self._write_scalars(step, "gradient_norm", {"all": report.gradient_norm, **report.gradient_norms})
        self._write_scalars(step, "speed", {"tokens_per_second": report.tokens_per_second})
        memory = {"resident_gb": resident_bytes(), "gpu_gb": gpu_bytes()}
        self._write_scalars(step, "memory", {name: size / 1e9 for name, size in memory.items() if size})
        self._file.flush()  # avoids gaps in the curves of a run that is killed and resumed

    def _remember_before(self, step: int) -> None:
        self._before = None
        if step % STEPS_PER_UPDATE == 0 and self._updates.is_left:
            with self._updates.spending():
                self._before = self._model.weights_as_arrays()

    def _look_inside(self, step: int) -> None:
        """Writes gates, cell states, histograms and the embedding, from the raw weights, not their average."""
        weights = self._model.weights_as_arrays()
        diagnosis = diagnose_directions(self._model.config, weights, self._inputs)
        self._write_scalars(step, "gate_below_0.1", diagnosis.closed)
        self._write_scalars(step, "gate_above_0.9", diagnosis.open)
        self._write_scalars(step, "cell_norm", diagnosis.cell_norms)
        for prefix, arrays in (("weights", weights), ("gates", diagnosis.gates)):
            for name, array in arrays.items():
                values = array.ravel()[:: -(-array.size // HISTOGRAM_VALUES)]
                self._write(step, histogram_pb(f"{prefix}/{name}", values))
        self._write_embedding(weights[TABLE])

    def _write_faults(self, step: int) -> None:
        """Writes all faults so far, since returning to a checkpoint discards the texts of later steps."""
        if self._faults:
            self._write(step, text_pb("faults", fenced("\n".join(self._faults))))

    def _start_projector(self) -> None:
        """Writes the labels and the configuration of the projector, for the most frequent tokens."""
        table = self._model.weights_as_arrays()[TABLE]  # [V, E]
        number = min(PROJECTED_TOKENS, PROJECTED_NUMBERS // table.shape[1], len(table))
        self._projected = np.sort(np.argsort(-self._counts, kind="stable")[:number])  # ids
        rows = [f"{_cell(self._pieces[id])}\t{self._counts[id]}" for id in self._projected]
        write_own_file(self._folder / PIECES_FILE, "\n".join(["piece\tcount", *rows, ""]).encode())
        self._write_embedding(table)
        config = ProjectorConfig()
        config.embeddings.add(
            tensor_name=TABLE,
            tensor_path=EMBEDDING_FILE,
            tensor_shape=[number, table.shape[1]],
            metadata_path=PIECES_FILE,
        )
        write_own_file(self._folder / PROJECTOR_FILE, str(config).encode())

    def _write_embedding(self, table: np.ndarray) -> None:
        """Writes rows of the embedding table [V, E], to the same file each time."""
        require_held(self._folder)
        write_own_file(self._folder / EMBEDDING_FILE, table[self._projected].astype("<f4").tobytes())

    def _goes_on_at(self, step: int) -> None:
        """Makes TensorBoard discard earlier points from `step` on."""
        self._file.write(step, session_log=SessionLog(status=SessionLog.START))

    def _write_scalars(self, step: int, prefix: str, values: Mapping[str, float]) -> None:
        """Writes scalars in TensorBoard's older format, which is ten times as fast."""
        points = [Summary.Value(tag=f"{prefix}/{name}", simple_value=value) for name, value in values.items()]
        self._write(step, Summary(value=points))

    def _write(self, step: int, summary: Summary) -> None:
        self._file.write(step, summary=summary)


class Allowance:
    """Limits an activity to a fraction of the elapsed time.

    Args:
        fraction: The fraction, 0 to 1.
    """

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._started = time.monotonic()
        self._spent = 0.0  # seconds

    @property
    def is_left(self) -> bool:
        """Whether time is left; True at the beginning."""
        return self._spent <= self._fraction * (time.monotonic() - self._started)

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Adds the duration of the block to the time spent."""
        before = time.monotonic()
        yield
        self._spent += time.monotonic() - before


def fenced(text: str) -> str:
    """Returns Markdown that shows a text as it is, also one with lines of backticks.

    Example:
        >>> fenced("a")
        '```\\na\\n```'
    """
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def shown_settings(settings: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """Shortens long lists in settings, such as the paths of a corpus.

    Args:
        settings: Settings by section and name.

    Returns:
        The same, with the first `LISTED` items of each list and the number of the others.

    Example:
        >>> shown_settings({"corpus": {"paths": ["a.txt"] * 30}})["corpus"]["paths"][-2:]
        ['a.txt', 'and 10 more']
    """

    def shown(value: object) -> object:
        if not isinstance(value, list) or len(value) <= LISTED:
            return value
        return [*value[:LISTED], f"and {len(value) - LISTED:,} more"]

    return {section: {name: shown(value) for name, value in values.items()} for section, values in settings.items()}


def compared_settings(settings: Mapping[str, Mapping[str, object]]) -> dict[str, bool | float | str]:
    """Flattens settings for the HParams tab.

    Args:
        settings: Settings by section and name.

    Returns:
        The settings by names such as `model/hidden_units`. Values of other types, such as None, become JSON text.

    Example:
        >>> compared_settings({"model": {"hidden_units": 8, "mogrifier_rank": None}, "corpus": {"encoding": "utf-8"}})
        {'model/hidden_units': 8, 'model/mogrifier_rank': 'null'}
    """
    return {
        f"{section}/{name}": value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for section in COMPARED
        for name, value in settings.get(section, {}).items()
    }


def _cell(text: str) -> str:
    """Escapes a text for a cell of a TSV file."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r") or "(empty)"
