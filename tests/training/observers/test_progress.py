"""Lines and a bar for the terminal."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from textgen.training.observers.observer import RunReport, StepReport, ValidationReport
from textgen.training.observers.progress import Display

STEP = StepReport(50, 0.5, 0.5, 2.0, 1e-3, 0.7, {"head/bias": 0.7}, 12345.0, 61.0)
VALIDATION = ValidationReport(50, 0.5, 2.0, 2.1, 8.17, 1.5, True, "Once a fox\nsaid nothing.")


def plain_lines(report: StepReport, monkeypatch: pytest.MonkeyPatch) -> str:
    out = io.StringIO()
    display = Display(Console(file=out, soft_wrap=True))
    display.on_start(RunReport("fables", {}))
    monkeypatch.setattr("textgen.training.observers.progress.PLAIN_SECONDS", -1.0)
    display.on_step(report)
    display.on_validation(VALIDATION)
    display.on_end()
    return out.getvalue()


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_lines(STEP, monkeypatch)
    assert "\x1b" not in text
    assert " 50 %  step 50  ppl 7.4  loss 2.000  12,345 tokens/s  1:01 left" in text
    assert "held-out loss 2.1000, perplexity 8.17, 1.500 bits per byte, the best so far" in text
    assert "  | Once a fox\n  | said nothing." in text


def test_a_time_left_that_is_not_known_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_lines(replace(STEP, seconds_left=math.inf), monkeypatch)
    assert "  12,345 tokens/s\n" in text
    assert "left" not in text


def test_a_sample_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Display().on_validation(replace(VALIDATION, sample="I :heart: [b]you[/b]"))
    assert "  | I :heart: [b]you[/b]" in capsys.readouterr().err


def test_a_huge_perplexity_leaves_room_for_the_rest_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_lines(replace(STEP, nats_per_token=1e6), monkeypatch)
    assert " 50 %  step 50  ppl 9.889e+42  loss 1000000.000  12,345 tokens/s  1:01 left" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_bar_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=width, color_system=None))
    display.on_start(RunReport("fables", {}))
    monkeypatch.setattr("textgen.training.observers.progress.time.monotonic", lambda: 1e12)
    display.on_step(STEP)
    display.on_end()
    shown = out.getvalue()
    assert ("12,345 tokens/s" in shown, "━" in shown, "ppl" in shown) == (width >= 60, width >= 60, width == 120)
    assert " 50 % " in shown
    assert "loss 2.000" in shown
    assert "1:01 left" in shown


@pytest.mark.parametrize("width", [40, 120])
def test_the_bar_ends_where_the_run_has_ended(width: int) -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=width, color_system=None))
    display.on_start(RunReport("fables", {}))
    for progress in (0.5, 1.0):  # within the time in which the bar is not drawn anew
        display.on_step(replace(STEP, progress=progress, seconds_left=0.0))
    display.on_end()
    last = out.getvalue().splitlines()[-2]  # before the cursor is shown again
    assert "100 %" in last
    assert "0:00 left" in last


def test_the_cursor_is_not_hidden_under_the_bar() -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=80, color_system=None))
    display.on_start(RunReport("fables", {}))
    display.on_step(STEP)
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
    display.on_end()
