"""The inspection as a whole: the texts that it writes."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from networks import planted, quoted_text, random_weights

from textgen.cli import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import ConfigError, SavedModelError
from textgen.insight import config as config_module
from textgen.insight.config import InspectConfig
from textgen.insight.inspection import MIN_FREE_TOKENS, NUM_SHOWN, WRITTEN_TOKENS, Inspection, inspect_model
from textgen.insight.report import report
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that ends many of its texts at once."""
    folder = tmp_path_factory.mktemp("models")
    config, weights, tokenizer = planted()
    weights["head/bias"][tokenizer.eos_id] += 1.2
    save_model(folder / "brief", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    return folder


def inspection(models: Path, seed: int) -> Inspection:
    return inspect_model(load_model("brief", models), [quoted_text(600, seed=1)], InspectConfig(seed=seed))


def sampled(models: Path, seed: int, *clamp: str) -> str:
    settings = ("--seed", str(seed), "--max-tokens", str(WRITTEN_TOKENS), "--models-dir", str(models))
    return CliRunner().invoke(textgen, ("sample", "brief", *settings, *clamp), catch_exceptions=False).stdout


@pytest.mark.slow
def test_texts_with_a_held_cell_have_the_first_seed_whose_text_is_long_enough(models: Path) -> None:
    seeds = [seed for seed in range(8) if len(sampled(models, seed)) > MIN_FREE_TOKENS]
    assert seeds
    assert seeds[0] > 0  # the text of the first seed is too short
    written = inspection(models, 0).written[0]
    assert sampled(models, seeds[0]) == f"{written.free}\n"
    cell = f"L{written.layer}/{written.unit}"
    low = next(c.low.number for c in inspection(models, 0).interventions.cells if f"L{c.layer}/{c.unit}" == cell)
    assert sampled(models, seeds[0], "--clamp", f"{cell}={low!r}") == f"{written.low}\n"


def test_the_commands_of_a_page_write_its_texts_again(models: Path) -> None:
    seen = inspection(models, 0)
    (first, *_) = report(seen)["written"]
    assert first["seed"] == seen.written[0].settings.seed
    for name in ("free", "low", "high"):
        program, *arguments = shlex.split(first[f"command_{name}"])
        result = CliRunner().invoke(textgen, arguments, catch_exceptions=False)  # it finds the model, wherever it is
        assert program == "textgen"
        assert result.stdout == first[f"text_{name}"] + "\n"
    assert ("--clamp" in first["command_low"]) > ("--clamp" in first["command_free"])


def labelled(folder: Path, bias: float) -> Inspection:
    """A network with labels, which it gives this bias in its predictions: it was never to predict them."""
    tokenizer = ByteTokenizer().with_labels(["A", "B"])
    shape = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    weights = random_weights(shape)
    weights["head/bias"][tokenizer.first_label :] = bias
    corpus = CorpusConfig(documents="line", labels="folder")
    save_model(folder / "labelled", weights, shape, TokenizerConfig("byte"), corpus, tokenizer)
    documents = [f"the {word} saw a {other}" for word in ("cat", "dog", "cow") for other in ("fox", "hen")]
    return inspect_model(load_model("labelled", folder), documents, InspectConfig(cell=("L0/3",)), label="B")


def test_labels_are_read_and_not_scored(tmp_path: Path) -> None:
    """What the network thinks of labels changes nothing that is shown."""
    seen, other = labelled(tmp_path / "a", -20.0), labelled(tmp_path / "b", -40.0)
    tokenizer = seen.saved.tokenizer
    found = report(seen)
    labels = [at for at, id in enumerate(seen.text.ids) if id >= tokenizer.first_label]
    assert len(labels) == 6
    for name in ("surprisal", "rank", "entropy"):
        assert [at for at, value in enumerate(found["tokens"][name]) if value is None] == [0, *labels]
    assert all(entry["token"] not in map(tokenizer.piece, seen.text.ids[labels]) for entry in found["neighbours"])
    assert not found["text"]["is_own"]
    assert all(set(near) == {"token", "cosine"} for entry in found["neighbours"] for near in entry["inputs"])
    assert seen.bits_per_token == pytest.approx(other.bits_per_token, abs=1e-4)
    assert seen.context.full == pytest.approx(other.context.full, abs=1e-4)
    assert seen.context.dropped == pytest.approx(other.context.dropped, abs=1e-4)
    assert seen.context.shuffled == pytest.approx(other.context.shuffled, abs=1e-4)
    assert seen.lenses.model == pytest.approx(other.lenses.model, abs=1e-4)
    assert seen.interventions.random_bits == pytest.approx(other.interventions.random_bits, abs=1e-4)
    (ours, theirs) = (each.interventions.cells[-1] for each in (seen, other))
    for name in ("mean", "low", "high"):
        assert getattr(ours, name).bits == pytest.approx(getattr(theirs, name).bits, abs=1e-4)


def test_the_loss_is_that_of_the_scores(tmp_path: Path) -> None:
    seen = labelled(tmp_path, -20.0)
    document = seen.text.text[: seen.text.documents[1]]
    score = seen.saved.scorer().score(document, label="B")
    length = len(score.surprisal)
    opening = seen.text.opening
    assert seen.predictions.surprisal[opening - 1 :][:length] == pytest.approx(score.surprisal, abs=1e-4)
    assert seen.text.is_scored[opening - 1 :][:length].all()
    assert not seen.text.is_scored[: opening - 1].any()


def test_all_cells_that_are_asked_for_are_shown_and_one_is_named_whole(models: Path) -> None:
    saved, text = load_model("brief", models), [quoted_text(200, seed=1)]
    units = [f"L0/{unit}" for unit in range(saved.model_config.hidden_units)]
    assert len(units) > NUM_SHOWN
    seen = inspect_model(saved, text, InspectConfig(cell=tuple(units)))
    assert [f"L{layer}/{unit}" for layer, unit in seen.shown] == units
    for name, message in {
        "L0/3.f": "A cell is written as in L0/3; all of its values are shown. Received: 'L0/3.f'.",
        "L0/3.q": "A cell is written as in L0/3; all of its values are shown. Received: 'L0/3.q'.",
        "lstm_0/3": "A cell is written as in L1/89. Received: 'lstm_0/3'.",
        "L9/3.f": "There is no cell L9/3: this model has the cells L0/0 to L0/23.",
    }.items():
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
            inspect_model(saved, text, InspectConfig(cell=(name,)))


def test_a_model_writes_as_many_tokens_as_are_asked_for(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "OWN_TOKENS", 100)
    saved = load_model("brief", models)
    lengths = [
        len(inspect_model(saved, config=InspectConfig(max_tokens=number)).text.ids) for number in (None, 64, 200)
    ]
    assert lengths == pytest.approx([100, 64, 200], abs=8)  # empty documents are left out


def test_neighbouring_seeds_inspect_other_documents(models: Path) -> None:
    saved, documents = load_model("brief", models), list[set[str]]()
    for seed in (0, 1):
        text = inspect_model(saved, config=InspectConfig(max_tokens=250, seed=seed)).text
        edges = [*text.documents, len(text.text)]
        found = [text.text[start:end] for start, end in itertools.pairwise(edges)]
        documents.append({document for document in found if len(document) > 8})  # shorter ones are equal by chance
        assert len(documents[-1]) > 1
    assert not documents[0] & documents[1]


def test_a_text_that_a_model_writes_is_read_to_its_end(tmp_path: Path) -> None:
    config, weights, tokenizer = planted()
    weights["head/bias"][tokenizer.encode("ab")] += 30.0  # it writes nothing else, and ends no text itself
    save_model(tmp_path / "long", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    seen = inspect_model(load_model("long", tmp_path), config=InspectConfig(max_tokens=64))
    assert (len(seen.text.ids), seen.text.is_cut) == (64, False)
    assert report(seen)["text"]["is_own"]


@pytest.mark.parametrize("name", ["embedding/table", "head/bias"])
def test_weights_whose_predictions_are_not_finite_are_an_error(tmp_path: Path, name: str) -> None:
    config, weights, tokenizer = planted()
    weights[name] = np.full_like(weights[name], np.finfo(np.float32).max)  # finite, but not what is computed from it
    save_model(tmp_path / "brief", weights, config, TokenizerConfig("char"), CorpusConfig(), tokenizer)
    with pytest.raises(SavedModelError, match="predictions are not finite"):
        inspection(tmp_path, 0)
