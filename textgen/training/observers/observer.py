"""The interface of observers of a training run, and the reports passed to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepReport:
    """Report of one update of the weights.

    Attributes:
        step: Updates so far, including this one.
        epochs: Passes over the training text so far.
        progress: Fraction of the run that is done, 0 to 1.
        nats_per_token: Loss of the batch, in nats.
        learning_rate: Learning rate of the update, `window_fraction` times that of a full window.
        gradient_norm: Norm of the gradient, before clipping.
        gradient_norms: Norm of the gradient of each weight, by name.
        tokens_per_second: Speed, a running mean.
        seconds_left: Estimated seconds until the end of the run; infinity while no step tells them.
        is_sampled: Whether the loss is an estimate, from a sampled softmax.
        window_fraction: Length of the windows of the batch relative to full ones.
    """

    step: int
    epochs: float
    progress: float
    nats_per_token: float
    learning_rate: float
    gradient_norm: float
    gradient_norms: dict[str, float]
    tokens_per_second: float
    seconds_left: float
    is_sampled: bool = False
    window_fraction: float = 1.0


@dataclass(frozen=True)
class ValidationReport:
    """Report of a validation on held-out text.

    Attributes:
        step: Updates so far.
        epochs: Passes over the training text so far.
        train_nats_per_token: Mean training loss since the last validation, in nats.
        nats_per_token: Loss of held-out text, in nats.
        perplexity_per_token: exp of that loss.
        bits_per_byte: The same loss in bits per byte of text.
        improved: Whether the score is the best so far.
        sample: A text sampled from the current model.
    """

    step: int
    epochs: float
    train_nats_per_token: float
    nats_per_token: float
    perplexity_per_token: float
    bits_per_byte: float
    improved: bool
    sample: str


@dataclass(frozen=True)
class RunReport:
    """Report of a run that is about to start or resume.

    Attributes:
        name: Name of the model.
        settings: Settings by section, as in training.json.
        step: Updates done so far; 0 for a new run.
        validations: Validations done so far.
        learning_rate: Learning rate that an observer set earlier in the run; None if none did.
    """

    name: str
    settings: dict[str, dict[str, object]]
    step: int = 0
    validations: int = 0
    learning_rate: float | None = None


@dataclass
class Observer:
    """Base class of observers. Override the methods that you need; they do nothing by default.

    Attributes:
        stop_reason: Set it to end the run after the current step.
        learning_rate: Set it to use this learning rate instead of the schedule's. Only in a run of one process: several
            do not exchange it, so the run ends with a `TrainingError`.

    Example:
        >>> class StopEarly(Observer):
        ...     def on_validation(self, report):
        ...         if report.nats_per_token < 1.5:
        ...             self.stop_reason = "good enough"
    """

    stop_reason: str = field(default="", init=False)
    learning_rate: float | None = field(default=None, init=False)

    def on_start(self, run: RunReport) -> None:
        """Called before the first step."""

    def on_step(self, report: StepReport) -> None:
        """Called after each update of the weights."""

    def on_validation(self, report: ValidationReport) -> None:
        """Called after each validation."""

    def on_fault(self, line: str) -> None:
        """Called with a line of text after an update was skipped or the run returned to a checkpoint."""

    def on_end(self) -> None:
        """Called at the end of the run, also after an error or interruption, and if `on_start` failed."""


@contextmanager
def started(observers: Sequence[Observer], about: RunReport) -> Iterator[None]:
    """Starts observers, and ends those that were started after the block, also if a start fails."""
    with ExitStack() as stack:
        for observer in observers:
            stack.enter_context(_started(observer, about))
        yield


@contextmanager
def _started(observer: Observer, about: RunReport) -> Iterator[None]:
    """Starts an observer, and ends it after the block, also if its start fails."""
    try:
        observer.on_start(about)
        yield
    except BaseException:
        with suppress(Exception):  # the first error tells more
            observer.on_end()
        raise
    observer.on_end()


def report_fault(observers: Sequence[Observer], line: str) -> None:
    """Tells all observers of a fault; see `Observer.on_fault`."""
    for observer in observers:
        observer.on_fault(line)
