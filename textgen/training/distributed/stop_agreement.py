"""The agreement of all processes of a run to stop at the same step."""

from __future__ import annotations

from textgen.training.distributed.distribution import Distribution
from textgen.training.interruption import STOP_SIGNALS, StopRequests


class StopAgreement:
    """Makes all processes of a run stop at the same step.

    A signal may reach one process alone, at any moment. So what all do together depends only on what was agreed, never
    on what one of them has received; that is kept until the next agreement.

    Attributes:
        requests: Signals that this process has received.
        signal: Number of the signal by which all processes have agreed to stop; 0 if there is none.
    """

    def __init__(self, distribution: Distribution) -> None:
        self.requests = StopRequests()
        self.signal = 0
        self._distribution = distribution

    def agree(self, seconds: float, wanted: str) -> tuple[float, str]:
        """Exchanges clocks and wishes to stop. All processes must call it together.

        Args:
            seconds: Seconds of training, by the clock of this process.
            wanted: Why this process wants to stop; "" if it does not.

        Returns:
            The seconds by the chief's clock, and why to stop.
        """
        received = self.requests.received
        values = [seconds if self._distribution.is_chief else 0.0, float(bool(wanted))]
        values += [float(received == number) for number in STOP_SIGNALS]
        seconds, stop, *signals = self._distribution.total(values)
        agreed = next((number for number, sent in zip(STOP_SIGNALS, signals, strict=True) if sent), 0)
        self.signal = self.signal or agreed
        return seconds, wanted or ("the chief stopped it" if stop else "")
