"""How near the settings that `textgen train` chooses come to the best that were chosen by hand, in the same time.

    python scripts/measure_choices.py --text tales=tales.txt --text verse=verse.txt --minutes 1 5 --json choices.jsonl

For each text and each budget, one run with nothing said, from random weights, and one for each change of what it has
chosen: another vocabulary, size, batch, learning rate, dropout. With --random, runs with several of these changes,
drawn at random, replace them; with --set, one with several settings, given as for `textgen train`, or changes and
settings: --set preset=small,vocab_size=4000, --set "learning rate x 2 + seed=1". Runs follow one another, each in a
process of its own. They end by the clock, so the machine must have no other work; or, with --processor, by the
processor time of the process, divided by the cores, as if they had worked all the time. Runs whose results are in the
file are not repeated, so that an interrupted script goes on; it must be given the same texts. Those of another machine,
or that do not say of which one they are, are repeated. The tables, one for each machine, have the results of one kind:
by the clock, or by the processor.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarking import (
    Result,
    add_result,
    by_worker,
    check_same,
    digest,
    earlier_results,
    known_results,
    machine,
    named_text,
    named_value,
    positive_int,
    positive_number,
    report,
    require_own_names,
    run_script,
)

from textgen.errors import ConfigError, CorpusError, TextgenError, TokenizerError, UnreadableCorpus

PLANNED = "as planned"
RESULT = ("text", "minutes", "change")  # what says which run on a machine it is
COLUMNS = ("text", "minutes", "run", "bits per byte", "against the plan", "epochs")
Change = Callable[[Any], dict[str, Any]]  # settings by name, from the plan


def _times(part: str, name: str, factor: float) -> Change:
    """A setting of a part of the plan times a factor."""

    def change(plan: Any) -> dict[str, Any]:
        value = getattr(getattr(plan, part), name)
        return {name: type(value)(value * factor)}

    return change


def _dropout(factor: float) -> Change:
    """Both dropout rates times a factor."""
    return lambda plan: {
        name: min(0.8, getattr(plan.model_config, name) * factor) for name in ("dropout", "embedding_dropout")
    }


CHANGES: dict[str, Change] = {
    PLANNED: lambda plan: {},
    "vocabulary x 0.25": _times("model_config", "vocab_size", 0.25),
    "vocabulary x 0.5": _times("model_config", "vocab_size", 0.5),
    "vocabulary x 2": _times("model_config", "vocab_size", 2),
    "1 x 128": lambda plan: {"preset": "tiny"},
    "2 x 256": lambda plan: {"preset": "small"},
    "2 x 512": lambda plan: {"preset": "medium"},
    "batch x 0.5": _times("training_config", "batch_size", 0.5),
    "batch x 2": _times("training_config", "batch_size", 2),
    "learning rate x 0.5": _times("training_config", "learning_rate", 0.5),
    "learning rate x 2": _times("training_config", "learning_rate", 2),
    "dropout x 0.5": _dropout(0.5),
    "dropout x 1.5": _dropout(1.5),
    "softmax of all tokens": lambda plan: {"sampled_softmax": 0},
    "softmax of 1,024 tokens": lambda plan: {"sampled_softmax": 1024},
}

# What `random_changes` draws from.
PARTS = {
    "vocabulary": ("vocabulary x 0.5", "vocabulary x 2"),
    "network": ("1 x 128", "2 x 256", "2 x 512"),
    "batch": ("batch x 0.5", "batch x 2"),
    "learning rate": ("learning rate x 0.5", "learning rate x 2"),
    "dropout": ("dropout x 0.5", "dropout x 1.5"),
}

MAX_DRAWS = 200  # of the 323 that exist: the last ones would be drawn rarely


def random_changes(count: int) -> list[str]:
    """The same `count` changes in each call, all different. Each part is changed in half of them."""
    generator, drawn = random.Random(0), dict[str, None]()
    while len(drawn) < count:
        changes = [generator.choice(choices) for choices in PARTS.values() if generator.random() < 0.5]
        if changes:
            drawn[" + ".join(changes)] = None
    return list(drawn)


def settings_of(change: str, plan: Any) -> dict[str, Any]:
    """The settings of changes and settings that are joined by " + "."""
    settings: dict[str, Any] = {}
    for part in change.split(" + "):
        settings |= CHANGES[part](plan) if part in CHANGES else dict(map(named_value, part.split(",")))
    return settings


def checked_settings(text: str) -> str:
    """Changes and settings as --set takes them; a type for argparse. Whether a text allows them, its runs tell."""
    from textgen.corpus.config import CorpusConfig
    from textgen.model.config import ModelConfig
    from textgen.settings import check_values
    from textgen.tokenizer.config import TokenizerConfig
    from textgen.training.config import TrainingConfig
    from textgen.training.presets import SIZES

    for part in text.split(" + "):
        if part in CHANGES:
            continue
        settings = [named_text(each) and named_value(each) for each in part.split(",")]
        values = dict(settings)
        preset = values.pop("preset", None)
        if preset not in (None, *SIZES):
            raise argparse.ArgumentTypeError(f"there is no preset {preset!r}; there are: {', '.join(SIZES)}")
        try:
            check_values(values, (CorpusConfig, TokenizerConfig, ModelConfig, TrainingConfig))
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return text


def number_of_draws(text: str) -> int:
    """How many draws --random makes; a type for argparse."""
    number = positive_int(text)
    if number > MAX_DRAWS:
        raise argparse.ArgumentTypeError(f"{number} is too many: give at most {MAX_DRAWS}")
    return number


def train(path: str, minutes: float, change: str, by_processor: bool = False) -> Result:
    """One run, in this process."""
    from textgen.corpus.config import CorpusConfig
    from textgen.corpus.corpus import Corpus
    from textgen.system.runtime import configure_process, load_tensorflow

    configure_process()
    load_tensorflow()
    from textgen.system.machine import num_cores
    from textgen.training import run, stopwatch
    from textgen.training.planning.plan import Hardware, Sources, make_plan
    from textgen.training.planning.start_choice import given_start

    def planned(settings: dict[str, Any]) -> Any:
        preset = settings.pop("preset", None)
        return make_plan(corpus, {"minutes": minutes, **settings}, preset=preset, sources=sources, hardware=hardware)

    if by_processor:
        clock = SimpleNamespace(perf_counter=lambda: time.process_time() / num_cores())
        setattr(stopwatch, "time", clock)  # noqa: B010 - mypy knows the module as another type
        setattr(stopwatch, "monotonic", clock.perf_counter)  # noqa: B010 - in which no stop takes time
    corpus, sources = Corpus([path], CorpusConfig()), Sources(start=given_start("none", None))
    hardware = Hardware().measured()
    plan = planned({})
    settings = settings_of(change, plan)
    try:
        changed = planned(settings)
    except (ConfigError, CorpusError, TokenizerError) as error:  # such as a batch that is too large for the text
        return refused(change, error)
    if change != PLANNED and changed == plan:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            record = run.train(changed, Path(folder) / "model").training
        except TokenizerError as error:  # such as a vocabulary that is too small for the characters of the text
            return refused(change, error)
    return {
        "bits_per_byte": record["scores"]["bits_per_byte"], "epochs": record["progress"]["epochs"],
        "best_step": record["progress"]["best_step"], "steps": record["progress"]["step"],
        "seconds": record["progress"]["seconds"], "model": record["model"], "training": record["training"],
    }  # fmt: skip


def refused(change: str, error: TextgenError) -> Result:
    """The result of a change that is refused for this text. Raises any other error: a later try may succeed.

    Args:
        change: The change. What is planned must not be refused.
        error: The error. One about the text may be due to the disk, one about tokens to other programs.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    is_of_machine = isinstance(error, UnreadableCorpus) or (
        isinstance(error, TokenizerError) and not frame.f_globals["__name__"].startswith("textgen.tokenizer.")
    )
    if change == PLANNED or is_of_machine:
        raise error
    return {"refused": str(error)}


def outcome(result: Result) -> str:
    """What a run came to, in words."""
    if "bits_per_byte" in result:
        return f"{result['bits_per_byte']:.4f} bits per byte"
    return f"refused: {result['refused']}" if result else "the same as planned"


def table(results: list[Result]) -> list[list[str]]:
    """A row for each run, the best of a text and a budget first, with its distance from the run as planned."""
    rows = []
    for place in dict.fromkeys((result["text"], result["minutes"]) for result in results):
        here = [result for result in results if (result["text"], result["minutes"]) == place]
        done = sorted(
            (result for result in here if "bits_per_byte" in result), key=lambda result: result["bits_per_byte"]
        )
        planned = next((result["bits_per_byte"] for result in done if result["change"] == PLANNED), None)
        for result in done:
            bits = result["bits_per_byte"]
            apart = "" if planned is None or result["change"] == PLANNED else f"{100 * (bits / planned - 1):+.1f} %"
            rows.append([place[0], f"{place[1]:g}", result["change"], f"{bits:.4f}", apart, f"{result['epochs']:.1f}"])
    return rows


def known(path: Path, digests: Mapping[str, str], by_processor: bool) -> list[Result]:
    """The results of one kind that the file holds. Raises `ConfigError` if they are of other texts."""
    results = earlier_results(path, RESULT)
    for name, sha256 in digests.items():
        own = [result for result in results if result["text"] == name]
        check_same(path, own, f"another text called {name!r}", sha256=sha256)
    return [result for result in results if result.get("by_processor", False) == by_processor]


def main() -> None:
    """The runs that are missing, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--text", action="append", type=named_text, default=[], metavar="NAME=FILE", help="a text, and what to call it"
    )
    parser.add_argument(
        "--minutes", type=positive_number, nargs="+", default=[1.0], metavar="N", help="budgets of a run"
    )
    parser.add_argument("--only", action="append", choices=list(CHANGES), metavar="CHANGE", help="run only this one")
    parser.add_argument(
        "--random",
        type=number_of_draws,
        default=0,
        metavar="N",
        help=f"run N draws of several changes (at most {MAX_DRAWS}), and as planned",
    )
    parser.add_argument(
        "--set",
        action="append",
        type=checked_settings,
        default=[],
        metavar="NAME=VALUE,...",
        help="run these settings, and as planned or what --only names",
    )
    parser.add_argument("--processor", action="store_true", help="let runs end by processor time, not by the clock")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where each result is added")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(train(**json.loads(options.worker))))
        return
    if not options.json:
        parser.error("--json is missing: name the file of the results.")
    require_own_names(parser, [name for name, _ in options.text])
    if not (options.text or known_results(options.json)):
        parser.error(f"--text is missing, and {options.json} has no results to show: name a text.")
    digests = {name: digest(Path(path).read_bytes()) for name, path in options.text}
    results, here = known(options.json, digests, options.processor), machine()
    done = {tuple(result[name] for name in RESULT) for result in results if result.get("machine") == here}
    changes = options.only or ([PLANNED] if options.set or options.random else list(CHANGES))
    for minutes in options.minutes:
        for name, path in options.text:
            for change in [*changes, *random_changes(options.random), *options.set]:
                if (name, minutes, change) in done:
                    continue
                job = {"path": path, "minutes": minutes, "change": change, "by_processor": options.processor}
                result = by_worker(__file__, job, f"{path}, {minutes:g} minutes, {change}")
                what = {"text": name, "minutes": minutes, "change": change, "by_processor": options.processor}
                results.append(what | result | {"machine": here, "sha256": digests[name]})
                done.add((name, minutes, change))
                add_result(options.json, results[-1])
                print(f"{name}, {minutes:g} minutes, {change}: {outcome(result)}", file=sys.stderr)
    for place in dict.fromkeys(result.get("machine") for result in results) or (here,):
        own = [result for result in results if result.get("machine") == place]
        report("Choices", COLUMNS, table(own), place or "a machine that the file does not name")


if __name__ == "__main__":
    run_script(main)
