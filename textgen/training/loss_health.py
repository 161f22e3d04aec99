"""When a training goes wrong: which updates to leave out, and when to go back to the last checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

MOST_LEFT_OUT = 5  # updates in a row that may be left out before the run goes back
HIGH_STEPS = 10  # losses in a row above the first one that count as a spike ...
LEARNT = 0.8  # ... once the mean loss has been below this share of the first one
MEMORY = 0.98  # of the running mean
FIRST_SCALE, LEAST_SCALE, MOST_SCALE = 16.0, 2.0**-10, 2.0**16  # of losses that are sums over tokens
PATIENT_STEPS = 500  # without overflow, before the scale is doubled


@dataclass
class Health:
    """How the losses of a run have been; a checkpoint keeps it."""

    first_nats: float | None = None  # loss of the first window
    mean_nats: float = 0.0  # running mean
    learnt: bool = False  # whether that mean was clearly below the first loss
    left_out: int = 0  # updates, because loss or gradient was not finite
    left_out_in_a_row: int = 0
    high_in_a_row: int = 0  # losses above the first one
    rollbacks: int = 0

    def note(self, nats: float, is_finite: bool) -> str:
        """Takes down a loss; says why the run should go back to its last checkpoint, if it should.

        Single updates that would not be finite are left out without ado. A spike is a loss that, after the
        network had learnt something, stays higher than before the first update.
        """
        if not is_finite:
            self.left_out += 1
            self.left_out_in_a_row += 1
            if self.left_out_in_a_row < MOST_LEFT_OUT:
                return ""
            return f"the loss or its gradient was not finite {self.left_out_in_a_row} times in a row"
        self.left_out_in_a_row = 0
        if self.first_nats is None:
            self.first_nats = self.mean_nats = nats
        self.mean_nats = MEMORY * self.mean_nats + (1 - MEMORY) * nats
        self.learnt = self.learnt or self.mean_nats < LEARNT * self.first_nats
        self.high_in_a_row = self.high_in_a_row + 1 if self.learnt and nats > self.first_nats else 0
        if self.high_in_a_row < HIGH_STEPS:
            return ""
        return f"the loss was above that of the first step ({self.first_nats:.2f}) {HIGH_STEPS} times in a row"
