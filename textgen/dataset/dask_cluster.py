"""Makes the shards of a prepared corpus on the workers of a Dask cluster (the extra `dask`).

Each worker makes one shard at a time, on all of its cores. A shard whose worker is lost is made again by another one,
which the scheduler sees to. All machines must see the corpus and the folder under the same names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from textgen.errors import ConfigError, CorpusError
from textgen.storage.files import random_hex
from textgen.versions import require
from textgen.wording import Say, counted

if TYPE_CHECKING:
    from distributed import Client, as_completed

CONNECT_SECONDS = 30
WAIT_SECONDS = 120  # maximum time until the first worker is there
POLL_SECONDS = 0.1  # interval at which a shard is waited for
LOOK_SECONDS = 10.0  # interval at which the workers are counted meanwhile
RETRIES = 2  # maximum number of retries of a shard that fails; a lost worker does not count

Task = tuple[list[str], str, int, int]
Make = Callable[[list[str], str, int, int], list[str]]


def make_shards(address: str, make: Make, tasks: Sequence[Task], say: Say) -> None:
    """Makes shards on a cluster.

    Args:
        address: Address of the scheduler, such as tcp://10.0.0.1:8786.
        make: Makes a shard on a worker: a function of a module, of the arguments in a task. It returns what there is to
            say.
        tasks: Paths of the corpus, the prepared folder, the number of a shard and the number of all shards.
        say: Called with a line of text for each shard.

    Raises:
        ConfigError: There is no cluster at the address, or Dask is not installed.
        CorpusError: A worker cannot make its shard, or the connection to the scheduler was lost.
    """
    with _connected(address) as client:
        say(f"{counted(_num_workers(client), 'Dask worker')} at {address}; dashboard: {client.dashboard_link}")
        warn = partial(say, f"There is no worker at {address} any more: waiting for one.")
        for lines in _results(client, make, tasks, warn):
            for line in lines:
                say(line)


def _num_workers(client: Client) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])


def _results(client: Client, make: Make, tasks: Sequence[Task], warn: Callable[[], None]) -> Iterator[list[str]]:
    """What the workers say of each shard, as many at a time as there are workers; `warn` is called if there is none."""
    from distributed import KilledWorker, as_completed

    waiting = list(reversed(tasks))
    running = as_completed(loop=client.loop)
    ahead = 0
    try:
        while waiting or ahead:
            while waiting and ahead < max(1, _num_workers(client)):
                task = waiting.pop()
                key = f"shard-{task[2]}-of-{task[3]}-{random_hex()}"
                running.add(client.submit(make, *task, retries=RETRIES, key=key))
                ahead += 1
            lines = _next_result(running, _Watch(client, warn))
            ahead -= 1
            yield lines
    except KilledWorker as error:
        raise CorpusError(
            f"Several workers were lost while they made {error.args[0]}: see their logs; the memory may be too small. "
            "Run the command again to make the missing shards."
        ) from None
    finally:
        if client.status == "running":  # else the connection is lost, and the shards with it
            client.cancel(list(running.futures))


class _Watch:
    """Warns once if there is no worker, for the caller that waits for one."""

    def __init__(self, client: Client, warn: Callable[[], None]) -> None:
        self._client = client
        self._warn = warn
        self._looked = time.monotonic()
        self._has_warned = False

    def look(self) -> None:
        """Counts the workers, if that was not done lately."""
        if self._has_warned or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        if not _num_workers(self._client):
            self._warn()
            self._has_warned = True


def _next_result(running: as_completed, watch: _Watch) -> list[str]:
    """Waits for a shard. What is said of it is still with its worker, and if that is lost, the shard is made again."""
    while not running.has_ready():
        time.sleep(POLL_SECONDS)
        watch.look()
    future = next(running)
    while True:
        try:
            return future.result(timeout=LOOK_SECONDS)
        except TimeoutError:
            if future.status == "error":  # that of the worker
                raise
            watch.look()


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """A client of the cluster, which goes on when the client leaves."""
    require("Using a Dask cluster", ["dask", "distributed"], "dask", ConfigError)
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, name="textgen", set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"There is no Dask scheduler at {address}: {why}. Start one with `dask scheduler`, and workers with "
            "`dask worker ADDRESS`."
        ) from None
    try:
        _wait_for_worker(client, address)
        yield client
    except (OSError, CancelledError) as error:
        why = str(error).partition("\n")[0].rstrip(".")
        raise CorpusError(
            f"The connection to the scheduler at {address} was lost, or the shards were cancelled: {why}. Run the "
            "command again to make the missing shards."
        ) from None
    finally:
        client.close()


def _wait_for_worker(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WAIT_SECONDS)
    except TimeoutError:
        raise ConfigError(
            f"The cluster at {address} has no workers. Start some with `dask worker {address}`."
        ) from None


def require_cluster(address: str) -> None:
    """Checks that there is a cluster with a worker.

    Args:
        address: Address of the scheduler.

    Raises:
        ConfigError: There is none, or Dask is not installed.
        CorpusError: The connection to its scheduler was lost.
    """
    with _connected(address):
        pass


def require_shared(paths: Sequence[str]) -> None:
    """Refuses a corpus that workers elsewhere cannot read.

    Args:
        paths: Paths of the corpus.

    Raises:
        ConfigError: One of them is standard input.
    """
    if "-" in paths:
        raise ConfigError(
            "- is standard input, which the workers of a cluster cannot read: name files, or leave dask out."
        )
