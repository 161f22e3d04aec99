"""Options of training on several devices and in several processes, and the start of such processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from textgen.cli import output
from textgen.cli.options import option_group
from textgen.training.config import STRATEGIES

if TYPE_CHECKING:
    from textgen.training.distribution import Distribution

LAUNCHER_OPTIONS = (
    "workers",
    "max_restarts",
    "strategy",
    "trust_network",
    "name",
)  # that the processes themselves do not get
OF_A_RESUMPTION = ("models_dir", "as_json", "start_timeout", "step_timeout", "threads")

distribution_options = option_group(
    click.option(
        "--strategy",
        type=click.Choice(STRATEGIES),
        default="auto",
        help="How GPUs and processes share the work [default: auto, all that are there].",
    ),
    click.option(
        "--threads", type=click.IntRange(1), metavar="N", help="Processor cores that a process uses [default: all]."
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="Processes on this machine that share it: each has a GPU, or its share of the cores.",
    ),
    click.option(
        "--trust-network",
        is_flag=True,
        help="Join processes named by TF_CONFIG or SLURM: each opens a port, without a password, to all its networks.",
    ),
    click.option(
        "--max-restarts",
        type=click.IntRange(0),
        default=3,
        metavar="N",
        help="With --workers, how often all start again when one is lost [default: 3].",
    ),
    click.option(
        "--start-timeout",
        type=click.FloatRange(1),
        default=300.0,
        metavar="SECONDS",
        help="In which several processes must find one another [default: 300].",
    ),
    click.option(
        "--step-timeout",
        type=click.FloatRange(1),
        default=900.0,
        metavar="SECONDS",
        help="After which a process that waits for the others gives up [default: 900].",
    ),
)


def join_others(strategy: str, start_timeout: float, trust_network: bool) -> Distribution:
    """Joins the devices and processes that the options name; says what that opens."""
    from textgen.training.distribution import start

    distribution = start(strategy, start_timeout, trust_network=trust_network)
    if distribution.server:
        output.note(
            f"TensorFlow listens at {distribution.server} and on all other networks of this machine, without a "
            "password: whoever reaches it reads and writes files as you."
        )
    return distribution


def train_on_workers(ctx: click.Context, models_folder: Path, name: str) -> int:
    """Runs the command of `ctx` in as many processes as it asks for; gives its exit code."""
    from textgen.training.workers import run_workers

    common = ["--strategy", "multiworker", "--name", name]
    arguments = ["train", *common, *command_line(ctx, leave_out=LAUNCHER_OPTIONS)]
    rest = [parameter for parameter in ctx.params if parameter not in OF_A_RESUMPTION]
    resumption = ["train", *common, "--resume", *command_line(ctx, leave_out=rest)]
    return run_workers(
        arguments,
        arguments if ctx.params["resume"] else resumption,
        ctx.params["workers"],
        models_folder / name,
        max_restarts=ctx.params["max_restarts"],
        say=output.note,
    )


def command_line(ctx: click.Context, leave_out: Sequence[str] = ()) -> list[str]:
    """The options and arguments with which a command was called, as words of a command line."""
    options, arguments = list[str](), list[str]()
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in leave_out or ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        if isinstance(parameter, click.Argument):
            arguments += map(str, value if parameter.nargs != 1 else [value])
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            options.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            for one in value if parameter.multiple else [value]:
                options += [parameter.opts[0], str(one)]
    return [*options, *(["--", *arguments] if arguments else [])]
