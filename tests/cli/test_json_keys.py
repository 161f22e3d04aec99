"""Keys of `--json`: each has one JSON type in all commands, so that a program reads it everywhere in the same way."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner
from command_tree import commands_with
from sample_text import LINES

from textgen.cli import textgen, tune
from textgen.cli.plan_report import plan_values
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.evaluation.scores import Scores
from textgen.saved_model.layout import read_training
from textgen.saved_model.saving import write_training
from textgen.training.planning.plan import Hardware, make_plan
from textgen.training.planning.start_choice import Fit, StartChoice
from textgen.wording import json_text

BASE = Path(__file__).resolve().parents[2] / "saved_models" / "bases" / "english"
SEVERAL_TYPES = {  # keys that have more than one
    "labels": {"list", "str"},  # of the texts; the setting is the column that holds them
    "start": {"dict", "number"},  # what a run starts from; the first token that the lenses of an inspection measured
    "model": {"dict", "str"},  # the section of settings; the name beside a text
    "text": {"str", "dict", "list"},  # of a result; in an inspection its facts, and the text of each token
    "token": {"str", "list"},  # of each place of the text that was inspected
    "tokenizer": {"dict", "str"},  # the section of settings; the setting in it
    "tokens": {"number", "dict"},  # a count; the section of training.json and of an inspection
    "top_logprobs": {"number", "list"},  # the setting; what it asks for
    "train": {"number", "dict"},  # tokens in training.json; the facts of a split of a prepared corpus
    "valid": {"number", "dict", "list"},  # the same, and the files of the held-out text
}


def types_of(value: Any) -> Iterator[tuple[str, str]]:
    """The key and the JSON type of each entry of each object within a value; null has none."""
    for item in value if isinstance(value, list) else []:
        yield from types_of(item)
    for key, item in value.items() if isinstance(value, dict) else ():
        if item is not None:
            yield key, "number" if type(item) in (int, float) else type(item).__name__
        yield from types_of(item)


def printed(*arguments: str) -> list[Any]:
    """The values that a command prints: one, or one in each line."""
    result = CliRunner().invoke(textgen, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    try:
        return [json.loads(result.stdout)]
    except ValueError:
        return [json.loads(line) for line in result.stdout.splitlines()]


def of_all_commands(models: Path, folder: Path) -> dict[str, list[Any]]:
    """What each command prints; where a network would be trained, what its values are made from."""
    text, model = str(folder / "text.txt"), str(models / "tiny")
    Path(text).write_text(LINES * 20, encoding="utf-8")
    of_run = {
        "start": StartChoice("english", "", fit=Fit(0.01, 1.1)).to_dict(),
        "tokens": {"folder": "", "train": 9, "valid": 3},
    }
    record = read_training(BASE) | of_run
    record["corpus"]["config"]["labels"] = "folder"
    plan = make_plan(Corpus([text], CorpusConfig()), {"tokenizer": "byte"}, hardware=Hardware(1e11))
    shutil.copytree(model, folder / "models" / "tiny")
    write_training(folder / "models" / "tiny", record)
    tuned: Any = SimpleNamespace(nats_per_token_before=2.0, nats_per_token_after=1.5, best_step=3)
    scores = Scores(nats_per_token=1.5, bits_per_byte=1.5, perplexity_per_token=4.5, tokens=5, bytes=9)
    reading = ("--models-dir", str(folder / "models"))
    return {
        "train": [record, plan_values(plan, folder)],
        "sample": printed("sample", model, "--num", "2", "--max-tokens", "5", "--top-logprobs", "2"),
        "score": [*printed("score", model, text), *printed("score", model, text, "--tokens")],
        "evaluate": [scores.to_dict() | {"documents_mode": "line"}],
        "embed": [{"cosine": 0.5, "place": "text.txt: 1", "text": "The cat"}],
        "inspect": printed("inspect", str(folder / "models" / "tiny"), text, "--documents", "file"),
        "tune-state": [tune._values(tuned, 99)],
        "models list": printed("models", "list", *reading),
        "models show": printed("models", "show", "tiny", *reading),
        "models compress": printed("models", "compress", "tiny", "--out", "small", "--accept-loss", *reading),
        "corpus stats": printed("corpus", "stats", text),
        "corpus list": printed("corpus", "list"),
        "corpus fetch": [{"path": text}],
        "corpus prepare": printed(
            "corpus", "prepare", text, "--out", str(folder / "out"), "--tokenizer", "byte", "--documents", "line"
        ),
        "tokenizer info": printed("tokenizer", "info", model),
        "tokenizer encode": printed("tokenizer", "encode", model, "The"),
        "cache list": printed("cache", "list"),
        "cache clear": printed("cache", "clear"),
    }


def test_a_key_has_one_type_in_all_commands(tiny_models: Path, tmp_path: Path) -> None:
    made = of_all_commands(tiny_models, tmp_path)
    assert set(made) == commands_with("as_json", textgen)
    found: dict[str, dict[str, str]] = defaultdict(dict)  # the type, and a command with it
    for command, values in made.items():
        for key, kind in types_of(json.loads(json_text(values))):
            found[key][kind] = command
    wrong = {key: kinds for key, kinds in found.items() if not kinds.keys() <= SEVERAL_TYPES.get(key, {*[*kinds][:1]})}
    assert wrong == {}
    assert {key: set(found[key]) for key in SEVERAL_TYPES} == SEVERAL_TYPES, "some have fewer types by now"
