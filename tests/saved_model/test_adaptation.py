"""Saved models that write otherwise than they were saved: after learning, with a cache, held cells, other models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from networks import random_weights
from sample_text import LINES

import textgen
from textgen.cli import textgen as command_line
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.ngram_index import NgramIndex
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.word_filter import WordFilter
from textgen.errors import ConfigError, CorpusError, SavedModelError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.generation.ensemble_model import EnsembleModel
from textgen.generation.fingerprint import Fingerprint
from textgen.generation.neural_cache_model import NeuralCacheModel
from textgen.model.clamping import Clamp, Place
from textgen.model.config import ModelConfig
from textgen.model.language_model import LanguageModel
from textgen.model.numpy_model import NumpyModel
from textgen.saved_model.adaptation import Adaptation, adapted_generator
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, save_ngrams, save_words
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
        ({"ensemble": (object(),)}, "ensemble"),
    ],
)
def test_only_numpy_computes_it(tiny: ModelFolder, changed: dict[str, Any], name: str) -> None:
    message = f"^Only the runtime numpy computes a model with {name}. Received: the runtime onnx. Leave it out.$"
    with pytest.raises(ConfigError, match=message):
        adapted_generator(tiny, Adaptation(**changed), runtime="onnx")
    with pytest.raises(ConfigError, match="runtime"):
        adapted_generator(tiny, Adaptation(**changed), runtime="pytorch")


# === Ensembles ===


@pytest.fixture
def other(tiny: ModelFolder, tmp_path: Path) -> ModelFolder:
    """Another model of the vocabulary of `tiny`."""
    weights = random_weights(tiny.model_config, seed=1)
    save_model(tmp_path / "other", weights, *tiny.model_configs, tiny.tokenizer)
    return load_model(tmp_path / "other")


def test_two_models_write_a_third_text(tiny: ModelFolder, other: ModelFolder) -> None:
    made = adapted_generator(tiny, Adaptation(ensemble=(other,)))
    assert made.fingerprint == f"{tiny.fingerprint} ensemble={other.fingerprint}"
    texts = {each.generate("The", SETTINGS)[0].text for each in (made, tiny.generator(), other.generator())}
    assert len(texts) == 3
    with_itself = adapted_generator(tiny, Adaptation(ensemble=(tiny, tiny)))
    assert with_itself.generate("The", SETTINGS)[0].text == tiny.generator().generate("The", SETTINGS)[0].text


def test_words_and_copies_of_all_training_texts_count(tiny: ModelFolder, other: ModelFolder, tmp_path: Path) -> None:
    save_model(tmp_path / "first", tiny.weights(), *tiny.model_configs, tiny.tokenizer)
    for folder, word in ((tmp_path / "first", "cat"), (other.folder, "mat")):
        ids = np.array(tiny.tokenizer.encode(word * 3), np.int32)
        save_words(folder, WordFilter.build([word]))
        save_ngrams(folder, NgramIndex.build([ids], 6, 100, tiny.tokenizer.eos_id))
    made = textgen.load(tmp_path / "first", ensemble=[other.folder])
    assert made.index is not None
    assert [made.index.novelty(word * 3, tiny.tokenizer).copied_fraction for word in ("cat", "mat", "sat")] == [1, 1, 0]
    words = made._read_words()
    assert words is not None
    assert words.knows(["cat", "mat", "sat"]).tolist() == [True, True, False]


def test_cells_of_the_first_are_held_and_each_has_a_cache(tiny: ModelFolder, other: ModelFolder) -> None:
    cache = NeuralCacheConfig(neural_cache_lambda=0.5)
    made = adapted_generator(tiny, Adaptation(neural_cache=cache, clamps=("L0/3=5",), ensemble=(other,)))
    clamps = (Clamp(Place(0, 3, "c"), 5.0),)
    expected = Fingerprint(tiny.fingerprint, neural_cache=cache, clamps=clamps, ensemble=(other.fingerprint,))
    assert made.fingerprint == str(expected)
    networks = tiny.numpy_model(clamps=clamps), other.numpy_model()
    by_hand = EnsembleModel([NeuralCacheModel(network, cache) for network in networks])
    with_it = tiny.generator().with_model(by_hand, "")
    assert with_it.generate("The", SETTINGS)[0].text == made.generate("The", SETTINGS)[0].text


def test_each_learns_from_the_text(
    tiny: ModelFolder, other: ModelFolder, letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamic = DynamicConfig(dynamic_learning_rate=1.0)

    class Doubling:
        """Has each weight twice as large after a text."""

        def __init__(self, network: LanguageModel, config: DynamicConfig) -> None:
            assert config == dynamic
            self.network = network

        def learn(self, stream: TokenStream) -> None:
            self.network.assign_weights({name: 2 * array for name, array in self.network.weights_as_arrays().items()})

    monkeypatch.setattr("textgen.evaluation.dynamic_evaluation.Learner", Doubling)

    text = Corpus([letters], CorpusConfig(documents="line"))
    together = adapted_generator(tiny, Adaptation(text, dynamic, ensemble=(other,)))
    found = Fingerprint.parse(together.fingerprint)
    assert (found.weights, found.dynamic, found.ensemble) == (tiny.fingerprint, dynamic, (other.fingerprint,))
    networks = [
        NumpyModel(each.model_config, {name: 2 * array for name, array in each.weights().items()})
        for each in (tiny, other)
    ]
    by_hand = together.with_model(EnsembleModel(networks), "")
    assert together.generate("The", SETTINGS)[0].text == by_hand.generate("The", SETTINGS)[0].text


def test_a_state_belongs_to_all_models(tiny: ModelFolder, other: ModelFolder, tmp_path: Path) -> None:
    together = textgen.load(tiny, ensemble=other)
    whole = together.generate("", replace(SETTINGS, temperature=0.0, min_tokens=40))[0].text
    half = replace(SETTINGS, temperature=0.0, min_tokens=20, max_tokens=20)
    first = together.tokens("", half)
    beginning = "".join(token.text for token in first)
    together.save_state(tmp_path / "a.state", first.state)
    again = textgen.load(tiny, ensemble=other)
    rest = again.tokens("", half, again.load_state(tmp_path / "a.state"))
    assert beginning + "".join(token.text for token in rest) == whole
    for stranger in (textgen.load(tiny), textgen.load(other, ensemble=tiny), textgen.load(tiny, ensemble=[tiny])):
        with pytest.raises(SavedModelError, match=r"the state of another model.* an ensemble"):
            stranger.load_state(tmp_path / "a.state")


def test_models_that_cannot_write_together_are_named(tiny: ModelFolder, tmp_path: Path) -> None:
    backward = replace(tiny.model_config, direction="backward")
    configs = tiny.tokenizer_config, tiny.corpus_config
    save_model(tmp_path / "backward", random_weights(backward), backward, *configs, tiny.tokenizer)
    labelled = tiny.tokenizer.with_labels(["verse"])
    shape = ModelConfig(labelled.vocab_size, embedding_dim=6, hidden_units=8)
    save_model(tmp_path / "labelled", random_weights(shape), shape, *configs, labelled)
    with pytest.raises(ConfigError, match=r"^backward reads text backward only"):
        textgen.load(tiny, ensemble=tmp_path / "backward")
    with pytest.raises(ConfigError, match=r"^labelled and tiny have different vocabularies"):
        textgen.load(tiny, ensemble=["labelled"], models_dir=tmp_path)
    with pytest.raises(SavedModelError, match="nobody"):
        textgen.load(tiny, ensemble=["nobody"], models_dir=tmp_path)


# === As the command does ===


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
    arguments += ["--adapt", str(letters), "--max-tokens", "40", "--prompt", "The", "--json", "--ensemble", "tiny"]
    result = CliRunner().invoke(command_line, arguments, catch_exceptions=False)
    made = textgen.load(
        "tiny",
        models_dir=tiny_models,
        adapt=letters,
        neural_cache=NeuralCacheConfig(),
        clamps=["L0/3=5"],
        ensemble="tiny",
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


@pytest.mark.parametrize(
    "changed", [{"clamps": ["L0/3=5"]}, {"neural_cache": NeuralCacheConfig()}, {"ensemble": ["tiny"]}]
)
def test_a_changed_model_has_no_network_in_keras(tiny: ModelFolder, tiny_models: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"or from a saved model with adapt, neural_cache, clamps or ensemble\. Use textgen\.load"
    ):
        textgen.load(tiny, models_dir=tiny_models, **changed).network()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exact": True, "neural_cache": NeuralCacheConfig()}, "Exact arithmetic cannot be combined with neural_cache"),
        ({"exact": True, "clamps": "L0/3=5"}, "Exact arithmetic cannot be combined with clamps:"),
        ({"exact": True, "ensemble": "tiny"}, "Exact arithmetic cannot be combined with ensemble:"),
        ({"runtime": "tensorflow", "ensemble": "tiny"}, "Only the runtime numpy computes a model with ensemble"),
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
