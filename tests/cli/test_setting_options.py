"""Each setting that a command takes as an option is what arrives behind the command."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from textgen.cli import textgen
from textgen.cli.command import INPUT_FILE
from textgen.cli.setting_options import Integer
from textgen.corpus.config import CorpusConfig
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.generation.config import RuntimeConfig, SamplingConfig, SearchConfig
from textgen.generation.generator import Generator
from textgen.generation.needed_settings import NEEDS
from textgen.model.config import ModelConfig
from textgen.saved_model import adaptation
from textgen.saved_model.adaptation import Adaptation
from textgen.saved_model.saved_model import ModelFolder
from textgen.server import serving
from textgen.server.config import ServerConfig
from textgen.settings import declared
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.config import TrainingConfig
from textgen.training.distributed import joining, workers
from textgen.training.planning import checked_inputs, plan

TEXTS = {  # legal ones, of settings that do not take any
    "samplers": "top_k;temperature",
    "delimiter": ";",
    "logit_bias": ("a=1", "b=-2"),
    "allow_origin": ("https://a.example", "https://b.example"),
    "allow_host": ("a.example", "b.example"),
}
NUMBERS = (0.5, 0.25, 2.0, 7, 0.99)
READING = ("documents", "newlines", "strict", "labels")  # settings for which `--adapt` has no options


def fields_of(*kinds: type[Any], leave_out: Collection[str] = ()) -> list[Any]:
    """Parameters for each field of settings."""
    fields = [(kind, name) for kind in kinds for name in declared(kind) if name not in leave_out]
    return [pytest.param(kind, name, id=f"{kind.__name__}.{name}") for kind, name in fields]


def another(kind: type[Any], name: str, folder: Path) -> Any:
    """A legal value of a setting that is not its default; a file is made in the folder."""
    annotation, facts = declared(kind)[name]
    default: Any = next(field.default for field in dataclasses.fields(kind) if field.name == name)
    if name in TEXTS:
        return TEXTS[name]
    if facts.choices:
        return next(choice for choice in reversed(facts.choices) if choice != default)
    if facts.metavar == "FILE":
        (folder / "file").write_text("text", encoding="utf-8")
        return str(folder / "file")
    match annotation.removesuffix(" | None"):
        case "bool":
            return not default
        case "str":
            return "other"
        case "Sequence[str]":
            return ("one", "two")
        case "int":
            return int(facts.low or 0) + 1 if default is None else default + (-1 if default == facts.high else 1)
        case _:
            low, high = facts.low or 0.0, facts.high or 1.0
            return float(next(number for number in NUMBERS if low <= number <= high and number != default))


def typed(kind: type[Any], name: str, value: Any) -> list[str]:
    """The words that give a setting a value."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        off = declared(kind)[name][1].off
        return [flag if value else f"--{off}" if off else f"--no-{flag[2:]}"]
    return [word for one in (value if isinstance(value, tuple) else (value,)) for word in (flag, str(one))]


def run(*words: str) -> Result:
    result = CliRunner().invoke(textgen, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


# === serve ===


@pytest.mark.parametrize(("kind", "name"), fields_of(ServerConfig))
def test_a_setting_of_serve_arrives(
    kind: type[Any], name: str, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(serving, "serve", lambda config, *_: served.append(config))
    for limit in ("limit_threads", "use_blas_threads"):  # of this process
        monkeypatch.setattr(f"textgen.cli.serve.{limit}", lambda number: None)
    value = another(kind, name, tmp_path)
    run("serve", "tiny", "--models-dir", str(tiny_models), *typed(kind, name, value))
    assert served == [ServerConfig(**{name: value})] != [ServerConfig()]


# === sample ===


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a text would be written with, by the names of kinds of settings; nothing is computed."""
    found: dict[str, Any] = {}

    def generate(self: Generator, requests: Any, *given: Any) -> Iterator[Any]:
        (request,) = requests
        found["SamplingConfig"] = request.config
        return iter(())

    def search(self: Generator, prompt: str, config: SamplingConfig, settings: SearchConfig) -> list[Any]:
        found["SearchConfig"] = settings
        return []

    def opened(saved: ModelFolder, paths: Any, reading: dict[str, Any]) -> Any:
        found["CorpusConfig"] = CorpusConfig(**reading)
        return object()

    def adapted(saved: ModelFolder, made: Adaptation, *, runtime: str, say: Any) -> Generator:
        found.update(
            NeuralCacheConfig=made.neural_cache, DynamicConfig=made.dynamic, RuntimeConfig=RuntimeConfig(runtime)
        )
        model: Any = None
        return Generator(model, saved.tokenizer)

    monkeypatch.setattr("textgen.cli.sample.text_of", opened)
    monkeypatch.setattr(adaptation, "adapted_generator", adapted)
    monkeypatch.setattr(Generator, "generate_requests", generate)
    monkeypatch.setattr(Generator, "search", search)
    monkeypatch.setattr(ModelFolder, "ngrams", lambda self: None)
    monkeypatch.setattr(Tokenizer, "opening", lambda self, label: [])
    return found


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *fields_of(SamplingConfig, RuntimeConfig, SearchConfig, NeuralCacheConfig, DynamicConfig),
        *fields_of(CorpusConfig, leave_out=READING),
    ],
)
def test_a_setting_of_sample_arrives(
    kind: type[Any], name: str, tiny_models: Path, tmp_path: Path, writing: dict[str, Any]
) -> None:
    adapting = ["--adapt", str(tmp_path / "a.txt")]
    (tmp_path / "a.txt").touch()
    switches = {NeuralCacheConfig: ["--neural-cache"], DynamicConfig: adapting, CorpusConfig: adapting}
    values = {"seed": 3} if kind is SamplingConfig else {}  # without it a seed is drawn
    values |= {other: another(kind, other, tmp_path) for other in NEEDS.get(name, ())[:1]}
    values[name] = another(kind, name, tmp_path)
    words = [word for each, value in values.items() for word in typed(kind, each, value)]
    run("sample", "tiny", "--models-dir", str(tiny_models), "--json", *switches.get(kind, []), *words)
    assert writing[kind.__name__] == kind(**values)
    assert values[name] != getattr(kind(), name)


# === train ===


class Arrived(Exception):
    """Raised in place of the work that a command would begin."""


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[CorpusConfig]:
    """The settings with which texts would be read; there are none."""
    found: list[CorpusConfig] = []

    def opened(paths: Any, config: CorpusConfig, *, is_alone: bool) -> Any:
        found.append(config)
        return SimpleNamespace(stats=lambda: None)

    monkeypatch.setattr(checked_inputs, "open_corpus", opened)
    monkeypatch.setattr(checked_inputs, "read_and_check", lambda *given: {})
    # one setting alone may contradict a default
    monkeypatch.setattr(checked_inputs, "check_settings", lambda *given: None)
    return found


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of each plan that is asked for; the command ends there."""
    found: list[dict[str, Any]] = []

    def make_plan(text: Any, settings: dict[str, Any], **given: Any) -> Any:
        found.append(settings)
        raise Arrived

    monkeypatch.setattr(joining, "join_processes", lambda *given, **named: SimpleNamespace(server=""))
    monkeypatch.setattr(plan, "make_plan", make_plan)
    return found


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *fields_of(TrainingConfig, TokenizerConfig, CorpusConfig),
        *fields_of(ModelConfig, leave_out=["vocab_size"]),  # that of the tokenizer
    ],
)
def test_a_setting_of_train_arrives(
    kind: type[Any], name: str, tmp_path: Path, reading: list[CorpusConfig], planned: list[dict[str, Any]]
) -> None:
    value = another(kind, name, tmp_path)
    with pytest.raises(Arrived):
        run("train", "missing.txt", "--models-dir", str(tmp_path), *typed(kind, name, value))
    assert planned == [{name: value}]
    assert reading == [CorpusConfig(**{name: value}) if kind is CorpusConfig else CorpusConfig()]


def test_an_option_drops_what_it_makes_useless_in_a_file(
    tmp_path: Path, reading: list[CorpusConfig], planned: list[dict[str, Any]]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text('weight_averaging = "ema"\nema_decay = 0.99\nseed = 3\n', encoding="utf-8")
    words = ["--config", str(file), "--weight-averaging", "none"]
    with pytest.raises(Arrived):
        run("train", "missing.txt", "--models-dir", str(tmp_path), *words)
    assert planned == [{"weight_averaging": "none", "seed": 3}]
    assert len(reading) == 1


def test_how_several_processes_train_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Any] = []

    def run_workers(arguments: Any, resume_arguments: Any, number: int, folder: Path, **given: Any) -> int:
        launched.append((number, folder, given["max_restarts"]))
        return 7

    monkeypatch.setattr(workers, "run_workers", run_workers)
    words = ["train", "missing.txt", "--name", "new", "--models-dir", str(tmp_path), "--workers", "5"]
    assert CliRunner().invoke(textgen, [*words, "--max-restarts", "6"]).exit_code == 7
    assert CliRunner().invoke(textgen, words).exit_code == 7
    assert launched == [(5, tmp_path / "new", 6), (5, tmp_path / "new", 3)]


@pytest.mark.parametrize(
    ("is_signed", "texts", "passed_on"),
    [
        (True, ["a.txt", "--valid-file", "held-out.txt"], []),
        (False, ["a.txt", "b.txt"], ["--", "a.txt", "b.txt"]),
        (False, ["a.txt", "--valid-file", "held-out.txt"], ["--valid-file", "held-out.txt", "--", "a.txt"]),
        (False, ["-", "--valid-file", "held-out.txt"], ["--valid-file", "held-out.txt"]),
        (False, ["a.txt", "--valid-file", "-"], ["--", "a.txt"]),
    ],
)
def test_workers_that_start_again_are_told_of_texts_whose_paths_are_not_signed(
    is_signed: bool, texts: list[str], passed_on: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key for signatures is lost with the processes where no cache folder can be written."""
    resumptions: list[Any] = []

    def run_workers(arguments: Any, resume_arguments: Callable[[], Any], *others: Any, **given: Any) -> int:
        resumptions.append(resume_arguments())
        return 0

    monkeypatch.setattr(workers, "run_workers", run_workers)
    monkeypatch.setattr("textgen.training.resumption.must_name_corpus", lambda folder: not is_signed)
    words = ["train", *texts, "--name", "new", "--workers", "2", "--threads", "1", "--seed", "3"]
    run(*words, "--models-dir", str(tmp_path))
    common = ["train", "--strategy", "multiworker", "--name", "new", "--resume"]
    assert resumptions[0][: len(common)] == common
    rest = resumptions[0][len(common) :]
    for option in ("--models-dir", str(tmp_path), "--threads", "1"):
        rest.remove(option)
    assert rest == passed_on
    monkeypatch.chdir(tmp_path)
    again = ["train", "--resume", "a.txt", "--seed", "3", "--name", "new", "--workers", "2", "--models-dir", "models"]
    Path("models", "new").mkdir(parents=True)
    run(*again)
    assert {"--resume", "--seed", "a.txt"} <= set(resumptions[1])


def test_how_processes_are_joined_arrives(
    tmp_path: Path, reading: list[CorpusConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[Any] = []

    def start(strategy: str, start_timeout: float, *, trust_network: bool) -> Any:
        joined.append((strategy, start_timeout, trust_network))
        raise Arrived

    monkeypatch.setattr(joining, "join_processes", start)
    for words in ([], ["--strategy", "single", "--start-timeout", "77", "--trust-network"]):
        with pytest.raises(Arrived):
            run("train", "missing.txt", "--models-dir", str(tmp_path), *words)
    assert joined == [("auto", 300.0, False), ("single", 77.0, True)]
    assert reading == [CorpusConfig()] * 2


@pytest.mark.parametrize(("kind", "value"), [(Integer(), "x"), (INPUT_FILE, "-")])
def test_every_message_calls_an_argument_by_the_same_name(kind: click.ParamType, value: str) -> None:
    argument = click.Argument(["files"], nargs=-1, metavar="[FILE]...", type=kind)
    with pytest.raises(click.UsageError, match=r"^\[FILE\] (must|cannot) be "):
        kind.convert(value, argument, None)
