"""Saved models that write otherwise than they were saved: adapted to a text, with a neural cache, with cells held."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import LINES

import textgen
from textgen.cli import textgen as command_line
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError
from textgen.evaluation.config import CacheConfig, DynamicConfig
from textgen.generation.fingerprint import Fingerprint
from textgen.model.clamping import Clamp, Place
from textgen.saved_model.adaptation import Adaptation, adapted_generator
from textgen.saved_model.saved_model import ModelFolder, load_model

SETTINGS = textgen.SamplingConfig(seed=3, max_tokens=40)


@pytest.fixture
def tiny(tiny_models: Path) -> ModelFolder:
    return load_model("tiny", tiny_models)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    (tmp_path / "letters.txt").write_text(LINES * 4, encoding="utf-8")
    return tmp_path / "letters.txt"


def test_nothing_is_changed_by_default(tiny: ModelFolder) -> None:
    made = adapted_generator(tiny, Adaptation())
    assert made.fingerprint == tiny.fingerprint
    assert made.generate("The", SETTINGS)[0].text == tiny.generator().generate("The", SETTINGS)[0].text


def test_cells_are_held_and_a_cache_is_used(tiny: ModelFolder) -> None:
    plain = tiny.generator().generate("The", SETTINGS)[0].text
    held = adapted_generator(tiny, Adaptation(clamps=("L0/3=5",)))
    cached = adapted_generator(tiny, Adaptation(cache=CacheConfig(cache_lambda=0.9)))
    assert held.fingerprint == str(Fingerprint(tiny.fingerprint, clamps=(Clamp(Place(0, 3, "c"), 5.0),)))
    assert cached.fingerprint == f"{tiny.fingerprint} cache=true cache_lambda=0.9"
    texts = {made.generate("The", SETTINGS)[0].text for made in (held, cached)}
    assert len(texts - {plain}) == 2


def test_it_learns_from_a_text_and_leaves_the_folder_alone(tiny: ModelFolder, letters: Path) -> None:
    before = {path.name: path.read_bytes() for path in tiny.folder.iterdir()}
    text = Corpus([letters], CorpusConfig(documents="line"))
    made = adapted_generator(tiny, Adaptation(text, DynamicConfig(dynamic_learning_rate=1.0)))
    found = Fingerprint.parse(made.fingerprint)
    assert (found.weights, found.dynamic) == (tiny.fingerprint, DynamicConfig(dynamic_learning_rate=1.0))
    assert len(found.adapted_to or "") == 64
    assert made.generate("The", SETTINGS)[0].text != tiny.generator().generate("The", SETTINGS)[0].text
    assert {path.name: path.read_bytes() for path in tiny.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("changed", "name"),
    [({"cache": CacheConfig()}, "cache"), ({"clamps": ("L0/3=5",)}, "clamp"), ({"text": object()}, "adapt")],
)
def test_only_numpy_computes_it(tiny: ModelFolder, changed: dict[str, Any], name: str) -> None:
    message = f"^Only the runtime numpy computes a model with {name}. Received: the runtime onnx. Leave it out.$"
    with pytest.raises(ConfigError, match=message):
        adapted_generator(tiny, Adaptation(**changed), runtime="onnx")
    with pytest.raises(ConfigError, match="runtime"):
        adapted_generator(tiny, Adaptation(**changed), runtime="pytorch")


def test_from_python_it_writes_as_the_command_does(tiny_models: Path, letters: Path) -> None:
    arguments = ["sample", "tiny", "--models-dir", str(tiny_models), "--clamp", "L0/3=5", "--cache", "--seed", "3"]
    arguments += ["--adapt", str(letters), "--max-tokens", "40", "--prompt", "The", "--json"]
    result = CliRunner().invoke(command_line, arguments, catch_exceptions=False)
    made = textgen.load("tiny", tiny_models, adapt=letters, cache=CacheConfig(), clamps=["L0/3=5"])
    assert made.generate("The", SETTINGS)[0].text == json.loads(result.stdout)["text"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exact": True, "cache": CacheConfig()}, "Exact arithmetic cannot be combined with cache"),
        ({"exact": True, "clamps": "L0/3=5"}, "Exact arithmetic cannot be combined with clamp"),
        ({"dynamic": DynamicConfig()}, "pass a text as adapt"),
        ({"clamps": "L9/3=5"}, "There is no cell L9/3"),
    ],
)
def test_what_cannot_be_loaded(tiny_models: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        textgen.load("tiny", tiny_models, **settings)
