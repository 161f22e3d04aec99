"""What a run shows: event files for TensorBoard, lines and a bar for the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from textgen.cli.display import Display
from textgen.reports import RunReport, StepReport, ValidationReport
from textgen.runtime import load_tensorflow


def step(number: int) -> StepReport:
    return StepReport(number, 0.5, number / 100, 2.0, 1e-3, 0.7, {"head/bias": 0.7}, 12345.0, 61.0)


def validation(number: int) -> ValidationReport:
    return ValidationReport(number, 0.5, 2.0, 2.1, 8.17, 1.5, True, "Once a fox\nsaid nothing.")


def test_event_files_hold_the_curves_the_samples_and_the_settings(tmp_path: Path) -> None:
    load_tensorflow()
    from textgen.monitor import Monitor

    monitor = Monitor(tmp_path)
    monitor.on_start(RunReport("fables", {"model": {"hidden_units": 8}}))
    for number in range(1, 21):
        monitor.on_step(step(number))
    monitor.on_validation(validation(20))
    monitor.on_end()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(tmp_path))
    events.Reload()

    def series(tag: str) -> list[tuple[int, object]]:
        return [(event.step, make_ndarray(event.tensor_proto).item()) for event in events.Tensors(tag)]

    assert series("loss/train (nats per token)") == [(10, 2.0), (20, 2.0)]
    assert series("gradient norm/head/bias")[0][1] == pytest.approx(0.7)
    assert series("perplexity/valid") == [(20, pytest.approx(8.17))]
    texts = {tag: make_ndarray(events.Tensors(tag)[0].tensor_proto).item() for tag in ("sample", "settings")}
    assert b"Once a fox" in texts["sample"]
    assert b'"hidden_units": 8' in texts["settings"]


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    display = Display(Console(file=out, soft_wrap=True))
    display.on_start(RunReport("fables", {}))
    monkeypatch.setattr("textgen.cli.display.PLAIN_SECONDS", -1.0)
    display.on_step(step(50))
    display.on_validation(validation(50))
    display.on_end()
    text = out.getvalue()
    assert "\x1b" not in text
    assert " 50 %  step 50  ppl 7.4  loss 2.000  12,345 tokens/s  1:01 left" in text
    assert "held-out loss 2.1000, perplexity 8.17, 1.500 bits a byte, the best so far" in text
    assert "  | Once a fox\n  | said nothing." in text


@pytest.mark.parametrize("width", [40, 120])
def test_the_bar_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=width, color_system=None))
    display.on_start(RunReport("fables", {}))
    monkeypatch.setattr("textgen.cli.display.time.monotonic", lambda: 1e12)
    display.on_step(step(50))
    display.on_end()
    assert "12,345 tokens/s" in out.getvalue()
    assert ("ppl" in out.getvalue()) == (width == 120)
