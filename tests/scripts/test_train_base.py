"""The script that makes a base: trained, gone on with, scored by source, put in its place."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from base_scripts import PARTS, base_mix, benchmarking, train_base, write_data
from networks import random_weights

import textgen
from textgen.corpus.config import CorpusConfig
from textgen.errors import SavedModelError, TrainingError
from textgen.model.config import ModelConfig
from textgen.saved_model.layout import WORDS
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model, write_training
from textgen.settings import to_dict
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.vocabulary import train_tokenizer

SETTINGS: dict[str, Any] = {
    "tokenizer": "char", "hidden_units": 8, "embedding_dim": 6, "num_layers": 1, "batch_size": 4,
    "sequence_length": 8, "steps": 4, "num_validations": 1,
}  # fmt: skip
RECIPE = train_base.Recipe("small", PARTS, SETTINGS, "It is bad at everything.")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("texts") / "data")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A model of random weights, with the record of a training on a mix."""
    work = tmp_path_factory.mktemp("work")
    train_file, valid_file = base_mix.write_mix(RECIPE.name, PARTS, data, work)
    texts = [document.text for document in base_mix.read_mix(train_file, PARTS)]
    tokenizer = train_tokenizer(texts, TokenizerConfig("char"))
    config = ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8)
    folder = work / RECIPE.name
    corpus_config = CorpusConfig(documents="file")
    save_model(folder, random_weights(config), config, TokenizerConfig("char"), corpus_config, tokenizer)
    corpus = {"paths": [str(train_file)], "valid": [str(valid_file)], "characters": 1, "num_documents": len(texts)}
    record = {
        "status": "finished: the planned length is reached", "corpus": corpus, "model": to_dict(config),
        "tokenizer": to_dict(TokenizerConfig("char")), "training": {"seed": 0}, "versions": {"textgen": "0.1.0"},
        "parameters": config.num_parameters, "progress": {"step": 4, "epochs": 1.0, "seconds": 1.0},
        "scores": {"bits_per_byte": 5.0}, "tokens": {"folder": str(work), "train": 1, "valid": 1}, "signature": "x",
    }  # fmt: skip
    write_training(folder, record)
    return load_model(str(folder))


@pytest.fixture(scope="module")
def base(trained: ModelFolder, data: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return finished(trained, data, tmp_path_factory.mktemp("finished") / "bases" / "small")


def finished(model: ModelFolder, data: Path, out: Path) -> ModelFolder:
    return train_base.finish(RECIPE, [model], train_base._mix_of(model, RECIPE, data), out, "python it.py small")


def test_a_base_stands_in_its_place_with_its_card(base: ModelFolder, trained: ModelFolder) -> None:
    assert sorted(path.name for path in base.folder.iterdir() if path.name != WORDS) == [
        "MANIFEST.json", "README.md", "config.json", "model.safetensors", "tokenizer.model", "training.json",
    ]  # fmt: skip
    assert (base.folder / WORDS).exists(), "it knows the words of its text"
    assert [path.name for path in base.folder.parent.iterdir()] == ["small"]
    sources = base.training["mix"]["sources"]
    assert list(sources) == ["tales", "shi", "ci", "books"]
    assert (sources["tales"]["num_documents"], sources["tales"]["held_out"]) == (357, 1)
    assert [sources[name]["traditional"] for name in sources] == [0, 1, 0, 0]
    assert [sources[name]["simplified"] for name in sources] == [0, 0, 1, 0]
    card = (base.folder / "README.md").read_text(encoding="utf-8")
    for name, facts in sources.items():
        script = {"shi": "100.0 % traditional", "ci": "100.0 % simplified"}.get(name, "")
        counts = f"{facts['num_documents']} | {facts['characters']:,} | {facts['held_out']}"
        assert f"| {name} | {counts} | {facts['bits_per_byte']:.3f} | {script} |" in card
    assert base.precision == "int8"
    for line in (
        "- shi, ci: a collection of poems (MIT)",
        "the tales occur 3 times;",
        RECIPE.bad_at,
        "    python it.py small\n",
    ):
        assert line in card.replace("\n", " ") + card


def test_scores_are_those_of_textgen_evaluate(
    base: ModelFolder, trained: ModelFolder, data: Path, tmp_path: Path
) -> None:
    _, valid = train_base._mix_of(trained, RECIPE, data)
    path = tmp_path / "held-out.jsonl"
    texts = [document.text for document in valid if document.source == "shi"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    sources = base.training["mix"]["sources"]
    scores = [facts["bits_per_byte"] for facts in sources.values()]
    assert sources["shi"]["bits_per_byte"] == pytest.approx(textgen.evaluate(base, path).bits_per_byte, rel=1e-5)
    assert min(scores) < base.training["mix"]["bits_per_byte"] < max(scores)


def test_the_record_of_a_base_names_no_place(base: ModelFolder, trained: ModelFolder) -> None:
    record = json.dumps(base.training)
    assert str(trained.folder.parent) not in record
    assert base.training["corpus"]["paths"] == ["small-train.jsonl"]
    assert not base.training.keys() & {"signature", "tokens", "files"}
    with pytest.raises(SavedModelError, match="contains a model without a checkpoint"):
        textgen.train(resume=base.folder)


def test_a_base_takes_the_place_of_the_one_before(
    trained: ModelFolder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bases" / "small"
    out.mkdir(parents=True)
    (out / "old").write_text("of the one before")
    before = finished(trained, data, out).fingerprint
    assert load_model(str(out)).weights().keys() == trained.weights().keys()
    assert not (out / "old").exists()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    (out / "old").write_text("of the one before")
    monkeypatch.setattr(train_base, "scores_by_source", interrupt)
    with pytest.raises(KeyboardInterrupt):
        finished(trained, data, out)
    assert (out / "old").exists()
    assert [path.name for path in out.parent.iterdir()] == ["small"]
    assert load_model(str(out)).fingerprint == before


@pytest.mark.slow
def test_a_training_goes_on_where_it_was_interrupted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = textgen.train
    callbacks: list[Any] = []
    given: list[dict[str, Any]] = []

    def train(*arguments: Any, **options: Any) -> textgen.TrainingResult:
        given.append(options)
        return real(*arguments, callbacks=callbacks, **options)

    monkeypatch.setattr(textgen, "train", train)
    from keras.callbacks import Callback

    class Stop(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                raise RuntimeError("the machine fails")

    callbacks.append(Stop())
    with pytest.raises(RuntimeError):
        train_base.train(RECIPE, data, tmp_path)
    assert given[0]["start"] == "none", "a base is not made of the one that is installed"
    callbacks.clear()
    (model,) = train_base.train(RECIPE, data, tmp_path)
    assert model.training["progress"]["step"] == 4
    assert given[1]["resume"] == (tmp_path / "small").absolute()
    monkeypatch.setattr(textgen, "train", None)
    assert train_base.train(RECIPE, data, tmp_path)[-1].fingerprint == model.fingerprint, "it is finished already"


@pytest.mark.slow
def test_a_round_starts_from_the_weights_of_the_one_before(data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, settings=SETTINGS | {"learning_rate": 1e-9}, minutes=(None, None))
    first, second = train_base.train(recipe, data, tmp_path)
    assert (first.folder.name, second.folder.name) == ("small", "small-2")
    assert second.training["training"]["learning_rate"] == train_base.LATER_LEARNING_RATE
    assert [model.training["training"]["seed"] for model in (first, second)] == [0, 1]
    assert second.training["start"]["name"] == "small"
    assert first.tokenizer.fingerprint() == second.tokenizer.fingerprint()
    mix = train_base._mix_of(second, recipe, data)
    base = train_base.finish(recipe, [first, second], mix, tmp_path / "bases" / "small", "python it.py small")
    assert "start" not in base.training, "a base is not shown as tuned from itself"
    assert [one["step"] for one in base.training["mix"]["rounds"]] == [4, 4]
    assert "in 2 rounds of" in (base.folder / "README.md").read_text(encoding="utf-8")


def put_rounds(trained: ModelFolder, work: Path, minutes: dict[str, float], status: str = "finished: time") -> None:
    """Rounds of some minutes each, by the names of their folders."""
    for number, (name, length) in enumerate(minutes.items()):
        shutil.copytree(trained.folder, work / name)
        (work / name / "checkpoints" / "step-2").mkdir(parents=True)
        settings = {"seed": number, "minutes": length}
        write_training(work / name, trained.training | {"training": settings, "status": status})


@pytest.mark.parametrize("status", ["finished: the time is over", "interrupted"])
def test_a_round_that_was_trained_for_another_time_is_refused(
    status: str, trained: ModelFolder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textgen, "train", lambda *_, **options: pytest.fail("it is trained"))
    put_rounds(trained, tmp_path, {"small": 2.0}, status)
    with pytest.raises(
        TrainingError, match=r"small was trained with minutes 2\.0, not 3\.0: ask for what .* remove it"
    ):
        train_base.train(replace(RECIPE, minutes=(3.0,)), data, tmp_path)


def test_rounds_that_were_trained_for_the_same_time_are_taken(
    trained: ModelFolder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(textgen, "train", None)
    put_rounds(trained, tmp_path, {"small": 2.0, "small-2": 3.0})
    rounds = train_base.train(replace(RECIPE, minutes=(2, 3)), data, tmp_path)
    assert [model.folder.name for model in rounds] == ["small", "small-2"]
    with pytest.raises(TrainingError, match=r"small-2 was trained with minutes 3\.0, not 4: "):
        train_base.train(replace(RECIPE, minutes=(2, 4)), data, tmp_path)


def test_a_round_whose_first_weights_are_gone_is_refused(trained: ModelFolder, data: Path, tmp_path: Path) -> None:
    put_rounds(trained, tmp_path, {"small": 2.0, "small-2": 3.0})
    shutil.rmtree(tmp_path / "small")
    with pytest.raises(TrainingError, match=r"small-2 was not trained from .*small, which is not finished: remove"):
        train_base.train(replace(RECIPE, minutes=(2, 3)), data, tmp_path)


def test_the_card_of_a_model_that_was_there_names_the_minutes_of_its_rounds(
    trained: ModelFolder, tmp_path: Path
) -> None:
    put_rounds(trained, tmp_path, {"small": 2.0, "small-2": 3.0, "usual": 45.0, "usual-2": 60.0, "usual-3": 90.0})
    rounds = {path.name: load_model(str(path)) for path in tmp_path.iterdir()}
    short = [rounds["small"], rounds["small-2"]]
    usual = [rounds["usual"], rounds["usual-2"], rounds["usual-3"]]
    assert train_base._minutes_of(short, None) == [2.0, 3.0]
    assert train_base._minutes_of(short, [2.0, 3.0]) == [2.0, 3.0]
    assert train_base._minutes_of(usual, None) is None
    assert train_base._minutes_of([trained], [2.0]) == [2.0], "it was trained by steps"
    with pytest.raises(TrainingError, match="trained with minutes 2 3, not 45 60: leave the minutes out"):
        train_base._minutes_of(short, [45.0, 60.0])


def test_the_third_round_computes_a_sampled_softmax(tmp_path: Path) -> None:
    rounds = train_base._planned_rounds(replace(RECIPE, minutes=(1.0, 2.0, 3.0)), tmp_path, seed=5)
    assert [settings.get("sampled_softmax", 0) for settings in rounds.values()] == [0, 0, train_base.SAMPLED_SOFTMAX]
    assert [settings["seed"] for settings in rounds.values()] == [5, 6, 7]


def test_a_base_stands_for_its_rounds(trained: ModelFolder, tmp_path: Path) -> None:
    put_rounds(trained, tmp_path, {"base": 62.0, "base-2": 90.0})
    rounds = [{"step": 2, "epochs": 0.5, "seconds": 2700.3}, {"step": 3, "epochs": 0.7, "seconds": 3720.4}]
    mix = {"rounds": rounds, "command": "python it.py"}
    write_training(tmp_path / "base", load_model(str(tmp_path / "base")).training | {"mix": mix})
    models = [load_model(str(tmp_path / name)) for name in ("base", "base-2")]
    assert train_base._minutes_of(models, None) == [45.0, 62.0, 90.0]
    assert [one["step"] for one in train_base._progress(models)] == [2, 3, 4]


@pytest.mark.parametrize("is_other", [False, True])
def test_the_card_says_which_rounds_had_another_text(is_other: bool, trained: ModelFolder, base: ModelFolder) -> None:
    one = {"epochs": 1.0, "seconds": 60.0, "text": "a"}
    rounds = [one | {"text": "b"} if is_other else one, one]
    card = train_base.base_card(RECIPE, base.record | {"mix": base.training["mix"] | {"rounds": rounds}})
    words = " ".join(card.split())
    earlier = "1 earlier round trained on another selection of the same collections, which may contain some of them."
    assert (earlier in words) == is_other
    assert ("held out from the last round" in words) == is_other
    assert ("held out from training" in words) != is_other


@pytest.mark.slow
def test_a_model_trained_without_sources_can_be_finished(
    trained: ModelFolder,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = []
    folder = tmp_path / "mine"
    shutil.copytree(trained.folder, folder)
    for name in ("train", "valid"):
        documents = base_mix.read_mix(trained.folder.parent / f"small-{name}.jsonl", PARTS)
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text("".join(json.dumps({"text": one.text}) + "\n" for one in documents), encoding="utf-8")
    corpus = trained.training["corpus"] | {"paths": [str(files[0])], "valid": [str(files[1])]}
    settings = trained.training["training"] | {"minutes": 7.0}
    write_training(folder, trained.training | {"corpus": corpus, "training": settings})
    monkeypatch.setattr(train_base, "recipe_of", lambda name: RECIPE)
    monkeypatch.setattr(train_base, "RECIPES", {"small": PARTS})
    out = tmp_path / "bases"
    train_base.main(["small", "--data", str(data), "--finish", str(folder), "--out", str(out)])
    base = load_model(str(out / "small"))
    assert list(base.training["mix"]["sources"]) == ["tales", "shi", "ci", "books"]
    printed = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert list(printed) == ["tales", "shi", "ci", "books", "all"]
    assert float(printed["all"]) == pytest.approx(base.training["mix"]["bits_per_byte"], abs=1e-4)
    assert "python scripts/train_base.py small --data FOLDER --minutes 7\n" in (base.folder / "README.md").read_text(
        "utf-8"
    )


def test_a_model_that_does_not_name_its_text_is_refused(tiny_models: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match="does not say which files it was trained and scored on"):
        train_base._mix_of(load_model(str(tiny_models / "tiny")), RECIPE, data)


def test_errors_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmarking.run_script(
            lambda: train_base.main(["english", "--data", str(tmp_path), "--work", str(tmp_path / "work")])
        )
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith(f"Error: There is no {tmp_path / 'en-tales.jsonl.zst'}")


@pytest.mark.parametrize("name", base_mix.RECIPES)
def test_the_recipes_are_of_settings_that_train_takes(name: str, data: Path) -> None:
    from textgen.corpus.corpus import Corpus
    from textgen.training.planning.plan import make_plan

    recipe = train_base.recipe_of(name)
    plan = make_plan(Corpus([data / "poems.jsonl.zst"], CorpusConfig()), dict(recipe.settings))
    training = to_dict(plan.training_config)
    kept = {setting: value for setting, value in recipe.settings.items() if setting in training}
    assert kept == {setting: training[setting] for setting in kept}, "a round is known again by what it records"
    assert 7_500_000 < plan.model_config.num_parameters < 8_500_000 or plan.model_config.vocab_size < 1000
