"""Saved models that write otherwise than they were saved: adapted to a text, with a neural cache, with cells held."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from networks import random_weights
from sample_text import LINES

import textgen
from textgen.cli import textgen as command_line
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError, CorpusError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.generation.fingerprint import Fingerprint
from textgen.model.clamping import Clamp, Place
from textgen.model.config import ModelConfig
from textgen.saved_model.adaptation import Adaptation, adapted_generator
from textgen.saved_model.saved_model import ModelFolder, load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

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
    cached = adapted_generator(tiny, Adaptation(neural_cache=NeuralCacheConfig(neural_cache_lambda=0.9)))
    assert held.fingerprint == str(Fingerprint(tiny.fingerprint, clamps=(Clamp(Place(0, 3, "c"), 5.0),)))
    assert cached.fingerprint == f"{tiny.fingerprint} neural_cache=true neural_cache_lambda=0.9"
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
    [
        ({"neural_cache": NeuralCacheConfig()}, "neural_cache"),
        ({"clamps": ("L0/3=5",)}, "clamps"),
        ({"text": object()}, "adapt"),
    ],
)
def test_only_numpy_computes_it(tiny: ModelFolder, changed: dict[str, Any], name: str) -> None:
    message = f"^Only the runtime numpy computes a model with {name}. Received: the runtime onnx. Leave it out.$"
    with pytest.raises(ConfigError, match=message):
        adapted_generator(tiny, Adaptation(**changed), runtime="onnx")
    with pytest.raises(ConfigError, match="runtime"):
        adapted_generator(tiny, Adaptation(**changed), runtime="pytorch")


def test_from_python_it_writes_as_the_command_does(tiny_models: Path, letters: Path) -> None:
    arguments = [
        "sample",
        "tiny",
        "--models-dir",
        str(tiny_models),
        "--clamp",
        "L0/3=5",
        "--neural-cache",
        "--seed",
        "3",
    ]
    arguments += ["--adapt", str(letters), "--max-tokens", "40", "--prompt", "The", "--json"]
    result = CliRunner().invoke(command_line, arguments, catch_exceptions=False)
    made = textgen.load(
        "tiny", models_dir=tiny_models, adapt=letters, neural_cache=NeuralCacheConfig(), clamps=["L0/3=5"]
    )
    assert made.generate("The", SETTINGS)[0].text == json.loads(result.stdout)["text"]


def test_from_python_it_learns_from_a_text_of_a_label_as_the_command_does(
    tmp_path: Path, letters: Path, tokenizer: Tokenizer
) -> None:
    labelled, reading = tokenizer.with_labels(["prose", "verse"]), CorpusConfig(documents="line")
    shape = ModelConfig(labelled.vocab_size, embedding_dim=6, hidden_units=8)
    save_model(tmp_path / "both", random_weights(shape), shape, TokenizerConfig("char"), reading, labelled)
    letters.write_text(LINES * 4, encoding="utf-16")
    arguments = ["sample", "both", "--models-dir", str(tmp_path), "--adapt", str(letters), "--encoding", "utf-16"]
    arguments += ["--label", "verse", "--seed", "3", "--max-tokens", "40", "--json"]
    result = CliRunner().invoke(command_line, arguments, catch_exceptions=False)
    made = textgen.load("both", models_dir=tmp_path, adapt=letters, label="verse", encoding="utf-16")
    assert made.generate("", replace(SETTINGS, label="verse"))[0].text == json.loads(result.stdout)["text"]
    others: list[dict[str, Any]] = [{"label": "prose"}, {"label": "verse", "documents": "file"}]
    read = [textgen.load("both", models_dir=tmp_path, adapt=letters, encoding="utf-16", **other) for other in others]
    assert len({made.fingerprint, *(each.fingerprint for each in read)}) == 3


@pytest.mark.usefixtures("no_tensorflow")
def test_what_cannot_be_learned_does_not_wait_for_tensorflow(tiny: ModelFolder, letters: Path) -> None:
    with pytest.raises(ConfigError, match="verse"):
        textgen.load(tiny, adapt=letters, label="verse")
    with pytest.raises(CorpusError, match="label"):
        textgen.load(tiny, adapt=letters, labels="author")
    letters.write_text("")
    with pytest.raises(CorpusError, match=r"No text in .*letters\.txt"):
        textgen.load(tiny, adapt=letters)


@pytest.mark.parametrize("changed", [{"clamps": ["L0/3=5"]}, {"neural_cache": NeuralCacheConfig()}])
def test_a_changed_model_has_no_network_in_keras(tiny: ModelFolder, changed: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"or from a saved model with adapt, neural_cache or clamps\. Use textgen\.load"
    ):
        textgen.load(tiny, **changed).network()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exact": True, "neural_cache": NeuralCacheConfig()}, "Exact arithmetic cannot be combined with neural_cache"),
        ({"exact": True, "clamps": "L0/3=5"}, "Exact arithmetic cannot be combined with clamps:"),
        ({"dynamic": DynamicConfig()}, "dynamic does nothing: pass a text as adapt, or leave dynamic out"),
        ({"label": "verse"}, "label does nothing: pass a text as adapt"),
        ({"encoding": "utf-16"}, "encoding does nothing: pass a text as adapt"),
        ({"runtme": "numpy"}, "runtme"),
        ({"adapt": "letters.txt", "documents": "word"}, "documents"),
        ({"clamps": "L9/3=5"}, "There is no cell L9/3"),
        ({"clamps": "foo"}, "^A clamp must be CELL=NUMBER"),
    ],
)
def test_what_cannot_be_loaded(tiny_models: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        textgen.load("tiny", models_dir=tiny_models, **settings)
