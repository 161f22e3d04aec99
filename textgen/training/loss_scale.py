"""The scale of the loss in float16, where small gradients would vanish."""

from __future__ import annotations

from dataclasses import dataclass

from textgen.training.loss_health import FIRST_SCALE, LEAST_SCALE, MOST_SCALE, PATIENT_STEPS


@dataclass
class LossScale:
    """By what a float16 run multiplies its loss, and divides its gradient again; a checkpoint keeps it.

    float16 holds nothing below 6e-8 and nothing above 65504, so small gradients vanish without it and large ones
    overflow with too much of it (Micikevicius et al. 2018, arXiv:1710.03740). Powers of 2 leave the digits alone.
    """

    scale: float = FIRST_SCALE
    steps: int = 0  # without overflow, since the scale changed

    def note(self, is_finite: bool) -> bool:
        """Takes down whether a gradient was finite. Says whether a smaller scale may mend it: then it is none yet."""
        if is_finite:
            self.steps += 1
            if self.steps == PATIENT_STEPS:
                self.scale, self.steps = min(MOST_SCALE, 2 * self.scale), 0
            return False
        if self.scale <= LEAST_SCALE:
            return False
        self.scale, self.steps = self.scale / 2, 0
        return True
