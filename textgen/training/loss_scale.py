"""Loss scaling for float16, in which small gradients would vanish (Micikevicius et al. 2018, arXiv:1710.03740)."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SCALE, MIN_SCALE = 16.0, 2.0**-10  # factors of a loss that is a sum over tokens
MAX_SCALE = 2.0**15  # the largest power of 2 that float16 holds: gradients in float16 are multiplied by it
PATIENT_STEPS = 500  # steps without overflow before the scale is doubled


@dataclass
class LossScale:
    """The factor of the loss, by which the gradient is divided again; a checkpoint keeps it.

    float16 holds no number below 6e-8 or above 65504: small gradients vanish without a factor, and large ones overflow
    if it is too large. Powers of 2 do not change the digits.

    Attributes:
        scale: The factor.
        steps: Steps without overflow since it changed.
    """

    scale: float = FIRST_SCALE
    steps: int = 0

    def record(self, is_finite: bool) -> bool:
        """Records whether a gradient was finite, and adapts the scale.

        Returns:
            Whether the gradient may only have overflowed, so that a smaller scale can fix it. It is then no fault yet.
        """
        if is_finite:
            self.steps += 1
            if self.steps == PATIENT_STEPS:
                self.scale, self.steps = min(MAX_SCALE, 2 * self.scale), 0
            return False
        if self.scale <= MIN_SCALE:
            return False
        self.scale, self.steps = self.scale / 2, 0
        return True
