"""What the handlers of all requests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from textgen.server.access import ANYBODY
from textgen.server.config import ServerConfig
from textgen.server.failures import closing
from textgen.server.metrics import Metrics
from textgen.server.models import MEGABYTE, ModelHost
from textgen.server.states import StateStore
from textgen.server.turns import Turns
from textgen.wording import Say, silent

Result = TypeVar("Result")


class Resources:
    """The models, states and metrics of a server, and a thread for work that is not writing.

    Attributes:
        config: Settings of the server.
        models: Its models.
        states: The states that clients keep.
        metrics: Its metrics.
        is_draining: Whether it takes no more requests, since it is about to end.
    """

    def __init__(
        self,
        config: ServerConfig,
        places: dict[str, str],
        models_dir: Path | None = None,
        say: Say = silent,
    ) -> None:
        """Begins a thread, and loads nothing yet. The arguments are those of `textgen.server.models.ModelHost`."""
        self.config = config
        self.models = ModelHost(config, places, models_dir, say)
        self.states = StateStore(config.state_memory * MEGABYTE, config.state_time)
        self.is_draining = False
        self.is_closing = False
        self._worker = ThreadPoolExecutor(1, "textgen-worker")
        self._turns = Turns(max(1, config.max_queue))
        self.metrics = Metrics(lambda: self.models.in_memory, self._turns)

    async def in_worker(
        self, work: Callable[[Callable[[], bool]], Result], owner: str = ANYBODY, model: str = ""
    ) -> Result:
        """Does work in a thread of its own, one piece after another; those who have keys take turns.

        Args:
            work: Called with a function that tells whether the result is still wanted.
            owner: Whose work it is: see `textgen.server.access`.
            model: The name of the model that does it, for the metrics.

        Returns:
            What the work returns.

        Raises:
            ApiError: Too much work is waiting, or the server is closing.
        """
        is_wanted = True
        async with self._turns.turn(owner, model):
            if self.is_closing:
                raise closing()
            try:
                result = await asyncio.get_running_loop().run_in_executor(
                    self._worker, lambda: work(lambda: is_wanted and not self.is_closing)
                )
            finally:
                is_wanted = False
        if self.is_closing:  # the work may have been given up
            raise closing()
        return result

    def end_texts(self) -> None:
        """Ends what is being written or computed, with an error for those who wait for it."""
        self.is_closing = True
        self.models.end_texts()

    def close(self) -> None:
        """Ends all threads."""
        self.is_closing = True
        self._worker.shutdown(wait=False, cancel_futures=True)
        self.models.close()
