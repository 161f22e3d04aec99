"""Options of training on several devices and in several processes, and the launch of these processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from textgen.cli import output
from textgen.cli.options import sectioned
from textgen.cli.setting_options import IntegerRange, NumberRange, option_group, typed
from textgen.settings import MAX_COUNT
from textgen.storage.locks import locked
from textgen.training.config import STRATEGIES

if TYPE_CHECKING:
    from textgen.training.distributed.distribution import Distribution

LAUNCHER_OPTIONS = ("workers", "max_restarts", "strategy", "trust_network", "name")  # not passed on to the processes
RESUMPTION_OPTIONS = ("models_dir", "as_json", "start_timeout", "step_timeout", "threads")  # passed on after a restart
DEVICES = "Devices and processes"
MAX_THREADS = 1 << 12  # as of textgen serve: more than any machine has cores
MAX_WORKERS = 1 << 10  # more than any machine has GPUs or cores that are worth a process
MAX_TIMEOUT_SECONDS = 1_000_000  # seconds (eleven days); some timers overflow at a few times this

distribution_options = option_group(
    sectioned(
        DEVICES,
        "--strategy",
        type=click.Choice(STRATEGIES),
        default="auto",
        help="How the work is distributed over GPUs and processes [default: auto, over all of them].",
    ),
    sectioned(
        DEVICES,
        "--threads",
        type=IntegerRange(1, MAX_THREADS),
        metavar="N",
        help="Number of processor cores that each process uses [default: all].",
    ),
    sectioned(
        DEVICES,
        "--workers",
        type=IntegerRange(1, MAX_WORKERS),
        metavar="N",
        help="Train in N processes on this machine. Each has a GPU, or its share of the cores.",
    ),
    sectioned(
        DEVICES,
        "--trust-network",
        is_flag=True,
        help="Join the processes of TF_CONFIG or SLURM. Each opens a port, without a password, on all its networks.",
    ),
    sectioned(
        DEVICES,
        "--max-restarts",
        type=IntegerRange(0, MAX_COUNT),
        default=3,
        metavar="N",
        help="With --workers, maximum number of restarts after a process is lost [default: 3].",
    ),
    sectioned(
        DEVICES,
        "--start-timeout",
        type=NumberRange(1, MAX_TIMEOUT_SECONDS),
        default=300.0,
        metavar="SECONDS",
        help="Maximum number of seconds in which several processes must find each other [default: 300].",
    ),
    sectioned(
        DEVICES,
        "--step-timeout",
        type=NumberRange(1, MAX_TIMEOUT_SECONDS),
        default=900.0,
        metavar="SECONDS",
        help="Number of seconds after which a process that waits for the others gives up [default: 900].",
    ),
)


def join_others(strategy: str, start_timeout: float, trust_network: bool) -> Distribution:
    """Joins the devices and processes that the options name, and warns if that opens a port."""
    from textgen.training.distributed.joining import join_processes

    distribution = join_processes(strategy, start_timeout, trust_network=trust_network)
    if distribution.server:
        output.note(
            f"TensorFlow listens at {distribution.server} and on all other networks of this machine, without a "
            "password: anyone who can connect can read and write files as you."
        )
    return distribution


def train_on_workers(ctx: click.Context, models_folder: Path, name: str) -> int:
    """Runs the command of `ctx` in several processes. Returns the exit code."""
    from textgen.training.distributed.workers import run_workers

    common = ["--strategy", "multiworker", "--name", name]
    arguments = ["train", *common, *command_line(ctx, leave_out=LAUNCHER_OPTIONS)]

    def resumption() -> list[str]:
        if ctx.params["resume"]:
            return arguments
        texts = _texts_to_name(ctx, models_folder / name)
        rest = [parameter for parameter in ctx.params if parameter not in (*RESUMPTION_OPTIONS, *texts)]
        return ["train", *common, "--resume", *command_line(ctx, leave_out=rest)]

    folder = models_folder / name
    if os.path.lexists(folder):
        with locked(folder):  # ends here if somebody else uses it; the processes would wait, as for a killed one
            pass
    return run_workers(
        arguments,
        resumption,
        ctx.params["workers"],
        folder,
        max_restarts=ctx.params["max_restarts"],
        say=output.note,
    )


def _texts_to_name(ctx: click.Context, folder: Path) -> list[str]:
    """The parameters with the texts of a run that must be named again, except standard input, which is read already.

    Where no cache folder can be written, the key that signs recorded paths ends with each process.
    """
    from textgen.training.resumption import must_name_corpus

    if not must_name_corpus(folder):
        return []
    texts = {"paths": ctx.params["paths"], "valid_file": [ctx.params["valid_file"]]}
    return [name for name, places in texts.items() if "-" not in places]


def command_line(ctx: click.Context, leave_out: Sequence[str] = ()) -> list[str]:
    """The options and arguments of a command as it was called, as words of a command line."""
    options, arguments = list[str](), list[str]()
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in leave_out or ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        if isinstance(parameter, click.Argument):
            arguments += [typed(parameter, one) for one in (value if parameter.nargs != 1 else [value])]
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            options.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            for one in value if parameter.multiple else [value]:
                options += [parameter.opts[0], typed(parameter, one)]
    return [*options, *(["--", *arguments] if arguments else [])]
