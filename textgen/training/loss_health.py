"""Decides which updates to leave out, and when to return to the last checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LEFT_OUT = 5  # updates left out in a row before the run returns to a checkpoint
HIGH_STEPS = 10  # losses in a row above the first one that count as divergence ...
LEARNT = 0.8  # ... once the mean loss has been below this fraction of the first one
DECAY = 0.98  # decay rate of the running mean of the losses


@dataclass
class Health:
    """The history of losses by which faults are recognized; a checkpoint keeps it.

    Attributes:
        first_nats: Loss of the first window, in nats per token.
        mean_nats: Running mean of the losses, in nats per token.
        learnt: Whether that mean has been clearly below the first loss.
        left_out: Updates left out because loss or gradient was not finite.
        left_out_in_a_row: The same, since the last finite one.
        high_in_a_row: Consecutive losses above the first one.
        rollbacks: Returns to a checkpoint.
    """

    first_nats: float | None = None
    mean_nats: float = 0.0
    learnt: bool = False
    left_out: int = 0
    left_out_in_a_row: int = 0
    high_in_a_row: int = 0
    rollbacks: int = 0

    def record(self, nats: float, is_finite: bool) -> str:
        """Records a loss.

        Single updates that are not finite are left out. The run should return to its last checkpoint after several of
        them in a row, or if the loss, once the network has learnt something, stays above that of the first step.

        Args:
            nats: Loss of a window, in nats per token.
            is_finite: Whether loss and gradient are finite.

        Returns:
            Why to return to the last checkpoint; "" to continue.

        Example:
            >>> health = Health()
            >>> [health.record(float("nan"), False) for _ in range(5)][-1]
            'the loss or its gradient was not finite 5 times in a row'
        """
        if not is_finite:
            self.left_out += 1
            self.left_out_in_a_row += 1
            if self.left_out_in_a_row < MAX_LEFT_OUT:
                return ""
            return f"the loss or its gradient was not finite {self.left_out_in_a_row} times in a row"
        self.left_out_in_a_row = 0
        if not self.first_nats:  # 0 is that of a window without targets
            self.first_nats = self.mean_nats = nats
        self.mean_nats = DECAY * self.mean_nats + (1 - DECAY) * nats
        self.learnt = self.learnt or self.mean_nats < LEARNT * self.first_nats
        self.high_in_a_row = self.high_in_a_row + 1 if self.learnt and nats > self.first_nats else 0
        if self.high_in_a_row < HIGH_STEPS:
            return ""
        return f"the loss was above that of the first step ({self.first_nats:.2f}) {HIGH_STEPS} times in a row"
