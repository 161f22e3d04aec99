"""Displays the progress of a training run on stderr: a bar in a terminal, otherwise a line every 20 seconds."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from textgen.training.observers.observer import Observer, RunReport, StepReport, ValidationReport
from textgen.wording import short, visible

PLAIN_SECONDS = 20.0  # seconds between lines outside a terminal
NARROW = 60  # columns; a narrower terminal shows no bar and no speed
SAMPLE_CHARACTERS = 300  # maximum number of characters shown of a sample


class Display(Observer):
    """Shows loss, perplexity, speed and time left, and a sample of the text at each validation.

    Args:
        console: Console to write to. By default standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._last_line = time.monotonic()
        self._nats: float | None = None  # smoothed
        self._report: StepReport | None = None  # the last one

    def say(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._print(line)

    def on_start(self, run: RunReport) -> None:
        """Shows the bar if the console is a terminal."""
        if self.console.is_terminal:
            percentage = TextColumn("{task.percentage:3.0f} %", table_column=Column(no_wrap=True, min_width=5))
            bars = () if self.console.width < NARROW else (BarColumn(bar_width=None),)
            self._bar = Progress(
                percentage,
                *bars,
                TextColumn("{task.fields[now]}"),
                console=self.console,
                expand=True,
                auto_refresh=False,
            )
            self._task = self._bar.add_task("", total=1.0, now="starting ...")
            self._bar.start()
            self.console.show_cursor(True)  # hidden, it would stay so for the shell after Ctrl-Z or SIGKILL

    def on_step(self, report: StepReport) -> None:
        """Updates the bar, or prints a line every `PLAIN_SECONDS`."""
        nats, self._report = report.nats_per_token, report
        self._nats = nats if self._nats is None else 0.95 * self._nats + 0.05 * nats
        if self._bar:
            if time.monotonic() - self._last_line > 0.2:
                self._last_line = time.monotonic()
                self._show(self._bar, report)
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{100 * report.progress:3.0f} %  step {report.step:,}  {self._now(report)}")

    def on_validation(self, report: ValidationReport) -> None:
        """Prints the scores on held-out text and the beginning of the sample."""
        self.say(
            f"step {report.step:,}, epoch {report.epochs:.2f}: held-out loss {report.nats_per_token:.4f}, "
            f"perplexity {short(report.perplexity_per_token, 2)}, {report.bits_per_byte:.3f} bits per byte"
            + (", the best so far" if report.improved else "")
        )
        if report.sample.strip():
            sample = report.sample.strip()[:SAMPLE_CHARACTERS]
            self._print("\n".join(f"  | {line}" for line in sample.split("\n")), style="dim")

    def on_fault(self, line: str) -> None:
        """Prints the line."""
        self.say(line)

    def on_end(self) -> None:
        """Shows the last step, and closes the bar."""
        if self._bar:
            if self._report:
                self._show(self._bar, self._report)
            self._bar.stop()
            self._bar = None

    def _show(self, bar: Progress, report: StepReport) -> None:
        bar.update(self._task, completed=report.progress, now=self._now(report))
        bar.refresh()

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(visible(text), markup=False, emoji=False, style=style)

    def _now(self, report: StepReport) -> str:
        nats = self._nats or 0.0
        about = "about " if report.is_sampled else ""
        width = self.console.width if self._bar else math.inf
        parts = [
            f"ppl {about}{short(math.exp(min(nats, 99.0)), 1)}" if width >= 90 else "",
            f"loss {about}{nats:.3f}",
            f"{report.tokens_per_second:,.0f} tokens/s" if width >= NARROW else "",
            f"{_clock(report.seconds_left)} left" if math.isfinite(report.seconds_left) else "",
        ]
        return "  ".join(filter(None, parts))


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
