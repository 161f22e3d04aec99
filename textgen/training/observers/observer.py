"""What a training run tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepReport:
    """One update of the weights."""

    step: int  # updates so far, this one included
    epochs: float  # passes over the training text so far
    progress: float  # share of the run that is done, 0 to 1
    nats_per_token: float  # loss of this batch
    learning_rate: float
    gradient_norm: float  # before clipping
    gradient_norms: dict[str, float]  # the same by weight
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class ValidationReport:
    """A look at the held-out text."""

    step: int
    epochs: float
    train_nats_per_token: float  # mean since the last validation
    nats_per_token: float
    perplexity_per_token: float
    bits_per_byte: float
    improved: bool  # the best so far
    sample: str  # a text written by the model as it is now


@dataclass(frozen=True)
class RunReport:
    """What is about to start, or was resumed."""

    name: str
    settings: dict[str, dict[str, object]]  # by section, as in training.json
    step: int = 0  # where a resumed run goes on
    validations: int = 0  # that there were before
    learning_rate: float | None = None  # that an observer had set before


@dataclass
class Observer:
    """Watches a run; each method does nothing until it is overridden."""

    stop_reason: str = field(default="", init=False)  # set it to end the run after the current step
    learning_rate: float | None = field(default=None, init=False)  # set it to train with it, whatever the schedule says

    def on_start(self, run: RunReport) -> None:
        """Before the first step."""

    def on_step(self, report: StepReport) -> None:
        """After each update of the weights."""

    def on_validation(self, report: ValidationReport) -> None:
        """After the held-out text was scored."""

    def on_fault(self, line: str) -> None:
        """After an update was left out, or the run went back to a checkpoint."""

    def on_end(self) -> None:
        """Whatever ended the run."""
