"""textgen from Python: train, load, evaluate, score, and the network as a Keras model."""

from __future__ import annotations

import ast
import json
import logging
import math
import os
import pickle
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
import pytest
from base_models import FABLES, save_base
from click.testing import CliRunner
from loaded_modules import modules_after
from model_folders import TRAINING_VALUES
from networks import random_weights
from runs import TEXT

import textgen
from textgen import api
from textgen.cli import textgen as program
from textgen.evaluation.scores import Scores
from textgen.model.numpy_model import NumpyModel
from textgen.model.prediction_change import PredictionChange
from textgen.saved_model import other_texts, saved_model
from textgen.saved_model.loading import load_model
from textgen.saved_model.onnx_cache import NetworkSource
from textgen.saved_model.saving import save_model, write_training
from textgen.settings import to_dict
from textgen.wording import Say

SETTINGS: dict[str, Any] = {
    "tokenizer": "char", "hidden_units": 8, "embedding_dim": 6, "num_layers": 1, "batch_size": 4,
    "sequence_length": 16, "documents": "line", "dropout": 0.2, "num_validations": 2, "seed": 3, "precision": "float32",
}  # fmt: skip
VALID = "the fox sang a slow song of old wind\nthe moon sang a song of the river\n"
SHORT = textgen.SamplingConfig(max_tokens=20, seed=1)


class Ends(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.val_losses: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.val_losses.append((logs or {})["val_loss"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a text, held-out text, and a cache that the whole module uses."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "songs.txt").write_text(TEXT, encoding="utf-8")
    (folder / "valid.txt").write_text(VALID, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEXTGEN_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def ends() -> Ends:
    return Ends()


@pytest.fixture(scope="module")
def result(home: Path, ends: Ends) -> textgen.TrainingResult:
    """A run of 4 steps. Its model is shared: copy it to change it."""
    return textgen.train(
        home / "songs.txt", models_dir=home / "models", steps=4, valid_file=home / "valid.txt", callbacks=[ends],
        **SETTINGS,
    )  # fmt: skip


def test_training_gives_a_model_its_history_and_its_scores(result: textgen.TrainingResult, ends: Ends) -> None:
    assert result.model.name == "songs"
    assert result.model.training["progress"]["step"] == 4
    assert [report.step for report in result.history] == [2, 4]
    assert ends.val_losses == [report.nats_per_token for report in result.history]
    best = min(report.nats_per_token for report in result.history)
    assert result.scores.nats_per_token == pytest.approx(best, rel=1e-5)
    assert result.scores.to_dict() == result.model.training["scores"]


def test_the_generator_of_a_run_is_that_of_its_model(result: textgen.TrainingResult, home: Path) -> None:
    loaded = textgen.load("songs", models_dir=home / "models")
    assert isinstance(loaded, textgen.Generator)
    assert result.generator.generate("the", SHORT) == loaded.generate("the", SHORT)
    with pytest.raises(textgen.ConfigError, match="reads text forward only"):
        _ = result.infiller


def test_a_generator_takes_lists(result: textgen.TrainingResult) -> None:
    lists: dict[str, Any] = {"stop": ["q"], "ban": ["z"], "require": ["o"], "logit_bias": ["#5=1"]}
    lists |= {"dry_multiplier": 1.0, "dry_sequence_breakers": ["."]}
    config = textgen.SamplingConfig(max_tokens=20, seed=1, **lists)
    tuples: dict[str, Any] = {name: tuple(value) for name, value in lists.items() if isinstance(value, list)}
    assert result.generator.generate("the", config) == result.generator.generate("the", replace(config, **tuples))
    assert result.generator.search("the", textgen.SamplingConfig(max_tokens=4, ban=["z"]))  # which type checkers take
    assert textgen.SamplingConfig(stop=["q"]).stop == ("q",)
    prompts = (prompt for prompt in ("the", "a"))
    assert len(result.generator.generate(prompts, SHORT)) == 2


def test_a_run_goes_on_with_progress_on_stderr(
    result: textgen.TrainingResult, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()  # of the fixture
    arguments: dict[str, Any] = {"models_dir": home / "models", **SETTINGS}
    textgen.train(home / "songs.txt", name="resumed", steps=2, **arguments)
    assert capsys.readouterr() == ("", "")
    longer = textgen.train(resume="resumed", models_dir=home / "models", steps=4, progress=True)
    assert longer.model.training["progress"]["step"] == 4
    assert [report.step for report in longer.history if report.step <= 2] == []
    out, err = capsys.readouterr()
    assert not out
    assert "step 4, epoch " in err
    assert "was finished before" not in err
    textgen.train(resume="resumed", models_dir=home / "models", progress=True)
    hint = "The run was finished before: more steps, minutes or epochs continue it.\n"
    assert capsys.readouterr().err.endswith(f"Resuming {home / 'models' / 'resumed'}.\n{hint}")
    assert result.model.model_config == longer.model.model_config
    with pytest.raises(textgen.ConfigError, match="seed was fixed"):
        textgen.train(resume="resumed", models_dir=home / "models", seed=4)


def test_a_run_stays_in_its_folder_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Moves(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            os.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("TEXTGEN_CACHE", "cache")
    settings = {**SETTINGS, "num_validations": 3} | {"models_dir": "models"}
    for name, more in ((None, {"steps": 3}), ("named", {"steps": 3}), ("named", {"steps": 6})):
        monkeypatch.chdir(tmp_path)
        Path("songs.txt").write_text(TEXT, encoding="utf-8")
        given = {"resume": name} if more["steps"] == 6 else {"paths": "songs.txt", "name": name}
        result = textgen.train(callbacks=[Moves()], **given, **settings, **more)  # type: ignore[arg-type]
        assert result.model.folder == tmp_path / "models" / (name or "songs")
        assert result.model.training["progress"]["step"] == more["steps"]
        assert result.generator.generate("the", SHORT)[0].ids
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_is_resumed_by_its_model(result: textgen.TrainingResult, home: Path, tmp_path: Path) -> None:
    model = textgen.load_model(shutil.copytree(result.model.folder, tmp_path / "songs"))
    settings = {**SETTINGS, "tokenizer_from": result.model, "start": "none"}
    longer = textgen.train(
        home / "songs.txt",
        valid_file=home / "valid.txt",
        resume=model,
        models_dir=tmp_path / "none",
        steps=6,
        **settings,
    )
    assert longer.model.folder == tmp_path / "songs"
    assert longer.model.training["progress"]["step"] == 6


def test_a_model_uses_the_vocabulary_of_another(result: textgen.TrainingResult, home: Path) -> None:
    settings = {**SETTINGS, "seed": 4, "steps": 1} | {"models_dir": home / "models"}
    del settings["tokenizer"]
    (home / "other.txt").write_text("no letter here is new\n" * 80, encoding="utf-8")
    vocabularies: list[str | textgen.ModelFolder] = ["songs", result.model]
    for vocabulary in vocabularies:
        other = textgen.train(home / "other.txt", tokenizer_from=vocabulary, **settings).model
        assert other.tokenizer.fingerprint() == result.model.tokenizer.fingerprint()
    with pytest.raises(textgen.SavedModelError, match="There is no model 'song'"):
        textgen.train(home / "other.txt", tokenizer_from="song", **settings)


@pytest.mark.slow
def test_a_model_is_fine_tuned(result: textgen.TrainingResult, home: Path) -> None:
    starts: list[str | textgen.ModelFolder] = ["songs", result.model]
    for number, start in enumerate(starts):
        tuned = textgen.train(
            home / "songs.txt", name=f"tuned-{number}", models_dir=home / "models", start=start, steps=1, batch_size=4,
            sequence_length=16,
        )  # fmt: skip
        assert tuned.model.training["start"]["name"] == "songs"
        assert tuned.model.model_config == result.model.model_config


@pytest.mark.slow
def test_a_run_starts_from_a_base_where_one_suits_the_text_unless_it_is_told_not_to(tmp_path: Path) -> None:
    base = load_model(str(save_base(tmp_path / "bases")))
    (tmp_path / "fables.txt").write_text(FABLES[:20_000], encoding="utf-8")
    settings: dict[str, Any] = {"steps": 1, "batch_size": 4, "sequence_length": 16, "num_validations": 1}
    tuned = textgen.train(tmp_path / "fables.txt", **settings).model
    assert tuned.training["start"]["name"] == "english"
    assert tuned.tokenizer.fingerprint() == base.tokenizer.fingerprint()
    alone = textgen.train(tmp_path / "fables.txt", start="none", **settings).model
    assert (alone.training["start"]["name"], alone.training["start"]["decided_by"]) == (None, "given")
    assert alone.tokenizer.vocab_size != base.tokenizer.vocab_size


def test_a_model_that_reads_backward_writes_towards_an_ending(home: Path) -> None:
    backward = textgen.train(
        home / "songs.txt", name="backward", models_dir=home / "models", steps=1, direction="backward", **SETTINGS
    )
    assert isinstance(backward.infiller, textgen.Infiller)
    assert backward.infiller.infill(suffix="of rain", config=SHORT)[0].whole.endswith("of rain")
    with pytest.raises(textgen.ConfigError, match="reads text backward only"):
        _ = backward.generator
    with pytest.raises(textgen.ConfigError, match="reads text backward only"):
        textgen.load("backward", models_dir=home / "models")
    (score,) = textgen.score(backward.model, "the moon")
    assert len(score.ids) == len("the moon") + 1


@pytest.mark.parametrize("runtime", ["onnx", "tensorflow"])
def test_a_runtime_that_is_not_exact_is_refused(result: textgen.TrainingResult, runtime: str) -> None:
    with pytest.raises(
        textgen.ConfigError, match=f"^Exact arithmetic is computed by numpy only.*: the runtime {runtime}"
    ):
        textgen.load(result.model, exact=True, runtime=runtime)
    assert textgen.load(result.model, exact=True, runtime="numpy").model.exact


@pytest.mark.parametrize("exact", [False, True])
def test_a_runtime_that_does_not_exist_is_refused(result: textgen.TrainingResult, exact: bool) -> None:
    for write in (result.model.generator, lambda **options: textgen.load(result.model, **options)):
        with pytest.raises(textgen.ConfigError, match=r"^runtime must be one of auto, numpy, onnx, tensorflow\."):
            write(exact=exact, runtime="onxn")


# === Errors, before anything slow ===


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, textgen.ConfigError, "paths is empty"),
        ({"paths": "songs.txt", "name": "../songs"}, textgen.SavedModelError, "cannot be called"),
        ({"paths": "songs.txt", "preset": "huge"}, textgen.ConfigError, "There is no preset 'huge'"),
        ({"resume": "songs", "name": "songs"}, textgen.ConfigError, "leave name out"),
        ({"resume": "missing"}, textgen.SavedModelError, "There is no model 'missing'"),
    ],
)
def test_what_cannot_be_is_refused_before_tensorflow_starts(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    monkeypatch.delattr(api, "load_tensorflow")
    with pytest.raises(error, match=message):
        textgen.train(**arguments)


@pytest.mark.parametrize("setting", [{"hidden_unit": 8}, {"steps": 0}, {"documents": "page"}])
def test_settings_are_checked(home: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(textgen.ConfigError, match=next(iter(setting))):
        textgen.train(home / "songs.txt", models_dir=home / "models", **setting)


def test_an_encoding_that_two_texts_share_is_not_advised_for_one(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9\n" * 9)
    for paths in ((tmp_path / "a.txt", home / "valid.txt"), (home / "songs.txt", tmp_path / "a.txt")):
        with pytest.raises(textgen.CorpusError, match=r"a\.txt is not .*; or convert it with iconv -f cp1252"):
            textgen.train(paths[0], valid_file=paths[1], models_dir=tmp_path)


@pytest.mark.parametrize(("path", "name"), [(".", "texts"), ([".notes", "-"], "notes"), (Path("*.txt"), "texts")])
def test_a_model_without_a_name_is_called_after_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, name: str
) -> None:
    (tmp_path / "texts").mkdir()
    monkeypatch.chdir(tmp_path / "texts")
    places = [path] if isinstance(path, (str, Path)) else path
    job = api._Job(places, tmp_path / "models", None, {}, None, None, None)
    assert job.target(None) == tmp_path / "models" / name


@pytest.mark.parametrize(
    ("path", "is_text"),
    [("The moon rises over the town", True), ("x\ny", True), ("moon" * 1500, True), ("my novl.txt", False)],
)
@pytest.mark.usefixtures("no_tensorflow")
def test_texts_in_place_of_paths_are_told_where_they_belong(tiny_models: Path, path: str, is_text: bool) -> None:
    for call in (
        lambda: textgen.train([path, path], models_dir=tiny_models),
        lambda: textgen.evaluate("tiny", path, models_dir=tiny_models),
    ):
        with pytest.raises(textgen.CorpusError) as caught:
            call()
        assert str(caught.value).endswith("Texts themselves belong in a file, for example one on each line.") == is_text


def test_a_failed_run_is_repeated_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    write_training(tmp_path / "page", TRAINING_VALUES | {"status": "failed"})
    assert api._Job(["page.txt"], tmp_path, None, {}, None, None, None).target(None) == tmp_path / "page"


@pytest.mark.parametrize("name", [None, "songs"])
def test_a_name_that_another_run_takes_meanwhile_is_not_that_of_a_model_without_a_name(
    tmp_path: Path, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "songs.txt").write_text(TEXT, encoding="utf-8")

    names: list[str | None] = []

    def train(plan: Any, folder: Path, options: Any) -> Any:
        folder.mkdir(parents=True)
        names.extend([folder.name, options.free_folder().name if options.free_folder else None])
        raise textgen.TextgenError("begun")

    monkeypatch.setattr("textgen.training.run.train", train)
    with pytest.raises(textgen.TextgenError, match="begun"):
        textgen.train(tmp_path / "songs.txt", name=name, models_dir=tmp_path / "models", **SETTINGS)
    assert names == ["songs", "songs-2" if name is None else None]


# === Names and folders of models ===


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize(
    "use",
    [
        lambda model, **more: textgen.load_model(model, **more).scorer(),
        lambda model, **more: textgen.load(model, **more),
        lambda model, **more: textgen.evaluate(model, "songs.txt", **more),
        lambda model, **more: textgen.score(model, "The cat", **more),
        lambda model, **more: textgen.embed(model, "The cat", **more),
    ],
)
def test_a_model_is_named_in_one_way(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[..., object], kind: type
) -> None:
    opened: list[Path] = []

    def weights(model: textgen.ModelFolder, *arguments: Any) -> Any:
        opened.append(model.folder)
        return fails()

    monkeypatch.setattr(textgen.ModelFolder, "weights", weights)
    monkeypatch.chdir(tmp_path)
    Path("songs.txt").write_text("The cat", encoding="utf-8")
    for model, more in ((tiny_models / "tiny", {}), ("tiny", {"models_dir": kind(tiny_models)})):
        with pytest.raises(textgen.TextgenError, match="begun"):
            use(kind(model), **more)
    assert opened == [tiny_models / "tiny"] * 2


def test_a_loaded_model_is_read_after_the_working_directory_has_changed(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_models)
    by_path, by_name = textgen.load_model("tiny"), textgen.load_model("tiny", "")
    monkeypatch.chdir(tiny_models.parent)
    below = textgen.load_model("tiny", tiny_models.name)
    monkeypatch.chdir(tmp_path)
    expected = textgen.load_model("tiny", tiny_models)
    for saved in (by_path, by_name, below):
        assert saved == expected
        assert saved.weights().keys() == expected.weights().keys()
        assert saved.is_current


def test_what_holds_arrays_is_compared_as_a_whole(tiny_models: Path) -> None:
    saved = textgen.load_model("tiny", tiny_models)
    generator, embedder = textgen.Generator(saved.numpy_model(), saved.tokenizer), saved.embedder()
    for make in (
        lambda: generator.read("The"),
        lambda: textgen.score(saved, "The")[0],
        lambda: next(embedder.read(["The"])),
        lambda: saved.exact_weights(),
    ):
        first, second = make(), make()
        assert [first, second].index(second) == 1
        assert len({first, second}) == 2


def test_models_are_equal_if_their_files_are(tiny_models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    first, second, other = (textgen.load_model(path) for path in (folder, folder, tiny_models / "tiny"))
    assert first == second
    assert {first, second, other} == {second, other}
    doubled = {name: 2 * array for name, array in first.weights().items()}
    save_model(folder, doubled, first.model_config, first.tokenizer_config, first.corpus_config, first.tokenizer)
    assert textgen.load_model(folder) not in (first, other)


def test_models_and_results_are_pickled(tiny_models: Path) -> None:
    result = textgen.TrainingResult(textgen.load_model("tiny", tiny_models), [])
    written = result.generator.generate("The", SHORT)
    copy = pickle.loads(pickle.dumps(result))
    assert copy == result
    assert {copy, result} == {result}
    assert copy.generator is not result.generator
    assert copy.generator.generate("The", SHORT) == written
    assert pickle.loads(pickle.dumps(written)) == written


# === Notes ===


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A file with one record without text."""
    lines = [f'{{"text": "The cat sat on mat {number}."}}\n' for number in range(100)]
    path = tmp_path / "songs.jsonl"
    path.write_text("".join([*lines, '{"title": "No text"}\n']), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "use",
    [
        lambda model, text: textgen.train(text, start="none", **SETTINGS),
        lambda model, text: textgen.evaluate(model, text),
        lambda model, text: textgen.load(model, adapt=text),
    ],
)
def test_what_is_skipped_is_logged(
    records: Path,
    tiny_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    use: Callable[[Path, Path], object],
) -> None:
    (records.parent / "scan.bin").write_bytes(b"\0" * 99)
    monkeypatch.setattr(textgen.ModelFolder, "network", lambda *arguments: None)
    for slow in ("training.run.train", "evaluation.evaluator.Evaluator", "evaluation.dynamic_evaluation.Learner"):
        monkeypatch.setattr(f"textgen.{slow}", fails)
    with pytest.raises(textgen.TextgenError, match="begun"):
        use(tiny_models / "tiny", records.parent)
    notes = [record.getMessage() for record in caplog.records if record.name == "textgen"]
    assert len(notes) == 2, notes
    assert notes[0].startswith(f"Skipped {records.parent / 'scan.bin'}: ")
    assert notes[1].startswith("Skipped 1 record")


def fails(*arguments: Any) -> Any:
    raise textgen.TextgenError("begun")


def test_the_stages_and_faults_of_a_training_are_logged(
    records: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def train(plan: Any, folder: Path, options: Any) -> Any:
        options.say("a stage")
        for observer in options.observers:
            observer.on_fault("a fault")
        return fails()

    monkeypatch.setattr("textgen.training.run.train", train)
    caplog.set_level(logging.INFO, "textgen")
    with pytest.raises(textgen.TextgenError, match="begun"):
        textgen.train(records, start="none", **SETTINGS)
    assert [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "textgen"][1:] == [
        ("INFO", "a stage"),
        ("WARNING", "a fault"),
    ]


def test_a_change_to_another_runtime_is_logged(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    change = PredictionChange(0.1, 0.1, 0.5, 9)
    monkeypatch.setattr(saved_model, "require_onnx", lambda: None)
    monkeypatch.setattr(saved_model, "cached_int8_network", lambda source, say, note: (None, change))
    assert isinstance(textgen.load(tiny_models / "tiny", runtime="onnx").model, NumpyModel)
    assert "NumPy writes in float32" in caplog.text


@pytest.mark.parametrize(
    "use",
    [
        lambda model: textgen.load(model, runtime="onnx"),
        lambda model: textgen.TrainingResult(textgen.load_model(model), []).generator,
    ],
    ids=["load", "train"],
)
def test_what_takes_long_before_writing_is_no_warning(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, use: Callable[[Path], object]
) -> None:
    def measured(source: NetworkSource, say: Say, note: Say) -> tuple[None, PredictionChange]:
        say("a stage")
        note("a note")
        return None, PredictionChange(0.1, 0.1, 0.5, 9)

    monkeypatch.setattr(saved_model, "require_onnx", lambda: None)
    monkeypatch.setattr(textgen.ModelFolder, "_gains_by_onnx", True)
    monkeypatch.setattr(saved_model, "cached_int8_network", measured)
    caplog.set_level(logging.INFO, "textgen")
    use(tiny_models / "tiny")
    found = [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "textgen"]
    assert found[:2] == [("INFO", "a stage"), ("WARNING", "a note")]


def test_a_model_and_the_result_of_a_training_fit_a_terminal(tiny_models: Path) -> None:
    model = replace(textgen.load_model(tiny_models / "tiny"), training={"text": "long " * 1000})
    assert len(repr(model)) < 1500
    assert len(repr(textgen.TrainingResult(model, []))) < 1500


def test_numbers_of_numpy_are_settings(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Any] = []

    def train(plan: Any, *arguments: Any) -> Any:
        plans.append(plan)
        return fails()

    monkeypatch.setattr("textgen.training.run.train", train)
    numbers = {"hidden_units": np.int64(8), "batch_size": np.int64(4), "seed": np.int32(3)}
    with pytest.raises(textgen.TextgenError, match="begun"):
        textgen.train(records, start="none", **SETTINGS | numbers, learning_rate=np.float32(0.25))
    (plan,) = plans
    text = json.dumps([to_dict(plan.model_config), to_dict(plan.training_config)])
    assert '"hidden_units": 8,' in text
    assert '"learning_rate": 0.25,' in text


# === Scores ===


def test_evaluate_gives_the_scores_of_the_run(result: textgen.TrainingResult, home: Path) -> None:
    for model in (result.model, "songs", home / "models" / "songs"):
        scores = textgen.evaluate(model, home / "valid.txt", models_dir=home / "models")
        assert isinstance(scores, Scores)
        assert scores.nats_per_token == pytest.approx(result.scores.nats_per_token, rel=1e-5)
        assert scores.tokens == result.scores.tokens == len(VALID)
    whole = textgen.evaluate(result.model, [home / "valid.txt"], documents="file")
    assert whole.tokens == len(VALID) + 1, "the newlines, and one end"
    with pytest.raises(textgen.ConfigError, match="no corpus setting 'document'"):
        textgen.evaluate(result.model, home / "valid.txt", document="line")
    with pytest.raises(textgen.CorpusError, match="No document has a label 'author'"):
        textgen.evaluate(result.model, home / "valid.txt", labels="author")


def test_evaluate_adapts(result: textgen.TrainingResult, home: Path) -> None:
    plain = textgen.evaluate(result.model, home / "songs.txt")
    adapted = textgen.evaluate(result.model, home / "songs.txt", neural_cache=textgen.NeuralCacheConfig())
    assert adapted.nats_per_token < plain.nats_per_token


def test_evaluate_averages_the_probabilities_of_models(
    result: textgen.TrainingResult, home: Path, tiny_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved, text = result.model, home / "valid.txt"
    of_files = replace(saved.corpus_config, documents="file")
    configs = saved.model_config, saved.tokenizer_config, of_files, saved.tokenizer
    save_model(tmp_path / "other", random_weights(saved.model_config), *configs)
    alone, other = (textgen.evaluate(model, text, documents="line") for model in (saved, tmp_path / "other"))
    both = textgen.evaluate(saved, text, ensemble=[tmp_path / "other"])
    assert both.nats_per_token < (alone.nats_per_token + other.nats_per_token) / 2
    assert both.nats_per_token != alone.nats_per_token
    assert "other was trained with documents by file, but this text is cut by line" in caplog.text
    with pytest.raises(textgen.ConfigError, match="tiny and songs have different vocabularies"):
        textgen.evaluate(saved, text, ensemble=tiny_models / "tiny")


def test_score_gives_the_surprisal_of_each_token(result: textgen.TrainingResult) -> None:
    first, second = textgen.score(result.model, ["the moon", "rain"])
    assert [first.text, second.text] == ["the moon", "rain"]
    assert textgen.score(result.model, "rain")[0].ids == second.ids
    network, tokenizer = result.model.network(), result.model.tokenizer
    logits, _ = network(np.array([[tokenizer.eos_id, *second.ids[:-1]]], np.int32))
    log_p = np.asarray(keras.ops.log_softmax(logits))[0]  # [T, V]
    np.testing.assert_allclose(second.surprisal, -log_p[range(5), second.ids] / math.log(2), rtol=1e-4)
    (open_ended,) = textgen.score(result.model, "rain", ends=False)
    assert open_ended.ids == second.ids[:-1]


@pytest.mark.parametrize("use", [textgen.score, textgen.embed])
def test_what_is_no_text_is_refused(tiny_models: Path, use: Callable[..., object]) -> None:
    advice = "not a text: leave out missing values, and convert others to str."
    for texts, said in (
        (["a", None], f"texts[1] is None, {advice}"),
        (iter([math.nan]), f"texts[0] is nan, {advice}"),
        ([{"text": "a"}], f"texts[0] is {{'text': 'a'}}, {advice}"),
        ({"text": "a"}, "texts must be a text or a list of texts. Received: {'text': 'a'}."),
        (None, "texts must be a text or a list of texts. Received: None."),
    ):
        with pytest.raises(textgen.ConfigError) as caught:
            use("tiny", texts, models_dir=tiny_models)
        assert str(caught.value) == said


NO_MODEL = "not a model: give its name, its folder or a ModelFolder."
NO_TEXT = "not a text: leave out missing values, and convert others to str."


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda own: own.generate([b"abc"]), f"prompts[0] is b'abc', {NO_TEXT}"),
        (lambda own: own.generate(["a", math.nan]), f"prompts[1] is nan, {NO_TEXT}"),
        (lambda own: own.generate([5, 6]), f"prompts[0] is 5, {NO_TEXT}"),
        (lambda own: own.generate([[0.5]]), "prompts[0] must be a text or a list of tokens. Received: [0.5]."),
        (lambda own: own.generate(None), "prompts must be a text or a list of texts. Received: None."),
        (lambda own: own.generate(b"a"), "prompts must be a text or a list of texts. Received: b'a'."),
        (lambda own: own.generate("a", num="3"), "num must be an integer. Received: '3'."),
        (lambda own: own.generate("a", best_of=2.5), "best_of must be an integer. Received: 2.5."),
        (
            lambda own: own.generate("a", {"temperature": 0.5}),
            "config must be a SamplingConfig (see textgen.SamplingConfig). Received: {'temperature': 0.5}.",
        ),
        (lambda own: own.search(None), f"prompt is None, {NO_TEXT}"),
        (
            lambda own: own.search("a", settings={"num_beams": 2}),
            "settings must be a SearchConfig (see textgen.SearchConfig). Received: {'num_beams': 2}.",
        ),
        (
            lambda own: own.search("a", {}),
            "config must be a SamplingConfig (see textgen.SamplingConfig). Received: {}.",
        ),
        (lambda own: own.tokens(b"abc"), f"prompt is b'abc', {NO_TEXT}"),
        (lambda own: own.stream(None), f"prompt is None, {NO_TEXT}"),
        (lambda own: own.stream("a", 5), "config must be a SamplingConfig (see textgen.SamplingConfig). Received: 5."),
        (lambda own: own.read(b"abc"), f"text is b'abc', {NO_TEXT}"),
        (lambda own: own.start(5), "label must be text or none. Received: 5."),
        (lambda own: own.load_state(None), "path is None, not a path: give a str or a pathlib.Path."),
        (
            lambda own: next(own.generate_requests(["a"])),
            "requests must be a list of textgen.Request. Received one that is 'a'.",
        ),
        (lambda own: textgen.Request(b"a", SHORT), f"prompt is b'a', {NO_TEXT}"),  # type: ignore[arg-type]
    ],
)
def test_a_generator_names_a_wrong_argument(
    tiny_models: Path, use: Callable[[textgen.Generator], object], message: str
) -> None:
    with pytest.raises(textgen.ConfigError) as caught:
        use(textgen.load("tiny", runtime="numpy", models_dir=tiny_models))
    assert str(caught.value) == message


def test_a_program_that_raises_errors_of_arithmetic_writes_and_scores(tiny_models: Path, tmp_path: Path) -> None:
    """Probabilities that are too small for a number are 0 whatever a program has set for its own numbers."""
    tiny = textgen.load_model("tiny", tiny_models)
    large = {name: 40 * array for name, array in tiny.weights().items()}
    save_model(tmp_path / "sure", large, *tiny.model_configs, tiny.tokenizer)
    saved = textgen.load_model(tmp_path / "sure")
    cache = textgen.NeuralCacheConfig(neural_cache_theta=9.0)
    configs = [
        SHORT,
        replace(SHORT, temperature=0.01, top_logprobs=2),
        replace(SHORT, typical_p=0.5, eta_cutoff=0.01, dynatemp_range=0.5),
        replace(SHORT, mirostat=2, dry_multiplier=0.5),
    ]
    with np.errstate(all="raise"):
        for changes in ({}, {"exact": True}, {"neural_cache": cache}, {"ensemble": [tiny]}):
            generator = textgen.load(saved, **changes)
            for config in configs:
                assert len(generator.generate("The c", config, num=2)) == 2
        assert textgen.load(saved).search("The", textgen.SamplingConfig(max_tokens=5))
        assert len(textgen.score(saved, ["The cat", "x" * 50])) == 2
        assert len(textgen.embed(saved, ["The cat", "x" * 50, ""])) == 3


def test_tokens_are_a_prompt_in_any_sequence(tiny_models: Path) -> None:
    own = textgen.load("tiny", runtime="numpy", models_dir=tiny_models)
    ids = own.tokenizer.encode("The cat")
    texts = ["".join(own.stream(prompt, SHORT)) for prompt in (ids, tuple(ids), np.array(ids))]  # type: ignore[arg-type]
    assert texts == texts[:1] * 3


def test_a_position_after_tokens_of_numpy_is_like_any_other(tiny_models: Path, tmp_path: Path) -> None:
    own = textgen.load("tiny", runtime="numpy", models_dir=tiny_models)
    ids = own.tokenizer.encode("The cat")
    read = own.read(np.array(ids))
    stream = own.tokens(np.array(ids), SHORT)  # type: ignore[arg-type]
    assert stream.state.ids == read.ids == own.read(ids).ids
    expected = [token.id for token in own.tokens("", SHORT, own.read(ids))]
    for state in (read, stream.state):
        own.save_state(tmp_path / "state", state)
        for start in (state, own.load_state(tmp_path / "state")):
            assert [token.id for token in own.tokens("", SHORT, start)] == expected


def test_numbers_of_texts_may_be_those_of_numpy(tiny_models: Path) -> None:
    own = textgen.load("tiny", runtime="numpy", models_dir=tiny_models)
    two, three = np.int64(2), np.int64(3)
    for seed in (1, (1 << 63) - 1):
        config = textgen.SamplingConfig(max_tokens=5, seed=seed)
        expected = own.generate(["The", "a"], config, num=2, best_of=3)
        assert own.generate(["The", "a"], config, num=two, best_of=three) == expected  # type: ignore[arg-type]
        requests = [textgen.Request("The", config)]
        first = own.generate_requests(requests, num=two, best_of=three, batch_size=two)  # type: ignore[arg-type]
        assert [text.text for text in first] == [text.text for text in expected[:2]]
        assert [text.seed for text in own.generate(["The", "a"], config, num=two)] == [  # type: ignore[arg-type]
            (seed + number) % (1 << 63) for number in range(4)
        ]


def test_a_request_without_settings_has_the_default_ones(tiny_models: Path) -> None:
    request = textgen.Request("The", None)  # type: ignore[arg-type]
    assert request.config == textgen.SamplingConfig()
    own = textgen.load("tiny", runtime="numpy", models_dir=tiny_models)
    (written,) = own.generate_requests([textgen.Request("The", None)])  # type: ignore[arg-type]
    assert written.config == textgen.SamplingConfig(seed=written.seed)


@pytest.mark.parametrize(
    ("use", "arguments", "message"),
    [
        (textgen.train, {"paths": None}, "paths must be a path or a list of paths. Received: None."),
        (textgen.train, {"paths": [5]}, "paths[0] is 5, not a path: give a str or a pathlib.Path."),
        (textgen.train, {"paths": "a.txt", "name": 5}, "A model cannot be called 5: a name is a text. Choose"),
        (textgen.train, {"paths": "a.txt", "callbacks": 5}, "callbacks must be a list of Keras callbacks. R"),
        (textgen.evaluate, {"paths": None}, "paths must be a path or a list of paths. Received: None."),
        (textgen.evaluate, {"paths": "a.txt", "dynamic": True}, "dynamic must be a DynamicConfig (see textgen."),
        (textgen.evaluate, {"paths": "a.txt", "ensemble": 5}, "ensemble must be a model or a list of models. Received"),
        (textgen.evaluate, {"paths": "a.txt", "label": 5}, "label must be text or none. Received: 5."),
        (textgen.load, {"adapt": 5}, "adapt must be a path or a list of paths. Received: 5."),
        (textgen.load, {"neural_cache": True}, "neural_cache must be a NeuralCacheConfig (see textgen.Neural"),
        (textgen.load, {"clamps": 5}, "clamps must be a text or a list of texts. Received: 5."),
        (textgen.load, {"ensemble": 5}, "ensemble must be a model or a list of models. Received: 5."),
        (textgen.load, {"clamps": [5]}, f"clamp is 5, {NO_TEXT}"),
        (textgen.load, {"ensemble": [None]}, f"ensemble[0] is None, {NO_MODEL}"),
        (textgen.load, {"ensemble": ["tiny", b"tiny"]}, f"ensemble[1] is b'tiny', {NO_MODEL}"),
        (textgen.load, {"model": b"tiny"}, f"model is b'tiny', {NO_MODEL}"),
        (textgen.load, {"model": 5}, f"model is 5, {NO_MODEL}"),
        (textgen.score, {"model": None, "texts": "a"}, f"model is None, {NO_MODEL}"),
        (textgen.embed, {"model": None, "texts": "a"}, f"model is None, {NO_MODEL}"),
        (textgen.evaluate, {"model": None, "paths": "a.txt"}, f"model is None, {NO_MODEL}"),
        (textgen.load_model, {"name": b"tiny"}, "A model is named by a str or a pathlib.Path. Received: b'tiny'."),
        (textgen.load_model, {"name": "x\0"}, "There is no model 'x\\x00' in"),
        (textgen.load, {"model": "\ud800"}, "There is no model '\\ud800' in"),
        (textgen.train, {"resume": b"tiny"}, f"resume is b'tiny', {NO_MODEL}"),
        (textgen.train, {"paths": "a.txt", "start": 5}, f"start is 5, {NO_MODEL}"),
        (textgen.train, {"paths": "a.txt", "tokenizer_from": b"tiny"}, f"tokenizer_from is b'tiny', {NO_MODEL}"),
        (textgen.train, {"paths": "a.txt", "tokenizer_from": ""}, "There is no model '' in"),
        (textgen.train, {"paths": "a.txt", "valid_file": ["a"]}, "valid_file is ['a'], not a path: give a str or a"),
        (textgen.train, {"paths": "a.txt", "valid_file": b"x"}, "valid_file is b'x', not a path: give a str or a"),
        (textgen.score, {"texts": "a", "label": 5}, "label must be text or none. Received: 5."),
        (textgen.score, {"texts": b"a"}, "texts must be a text or a list of texts. Received: b'a'."),
    ],
)
def test_a_wrong_argument_is_named(
    tiny_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[..., object],
    arguments: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.delattr(api, "load_tensorflow")
    monkeypatch.delattr(other_texts, "load_tensorflow")
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(TEXT, encoding="utf-8")
    textgen.load_model("tiny", tiny_models).tokenizer.save("tokenizer.model")  # which no empty path names
    model = {} if use in (textgen.train, textgen.load_model) else {"model": "tiny"}
    with pytest.raises(textgen.TextgenError) as caught:
        use(**{**model, **arguments}, models_dir=tiny_models)
    assert str(caught.value).startswith(message)


def test_a_base_is_named_where_there_is_no_model(tmp_path: Path, tiny_models: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(textgen.SavedModelError, match=r" yet\. Train a model first\.$"):
        textgen.load(models_dir=tmp_path / "empty")
    shutil.copytree(tiny_models / "tiny", tmp_path / "bases" / "english")
    with pytest.raises(textgen.SavedModelError) as caught:
        textgen.load(models_dir=tmp_path / "empty")
    assert str(caught.value).endswith(' Train a model first. Bases: english. For example: textgen.load("english").')


@pytest.mark.parametrize("folder", ["x\0", "\ud800"])
def test_a_path_that_no_file_can_have_is_refused(tiny_models: Path, folder: str) -> None:
    generator = textgen.load("tiny", runtime="numpy", models_dir=tiny_models)
    for use in (
        lambda: textgen.load("tiny", models_dir=folder),
        lambda: textgen.train("songs.txt", models_dir=folder),
        lambda: textgen.train("songs.txt", valid_file=folder),
        lambda: textgen.evaluate("tiny", folder, models_dir=tiny_models),
        lambda: generator.save_state(folder, generator.start()),
        lambda: generator.tokenizer.save(folder),
    ):
        with pytest.raises(textgen.ConfigError, match="which cannot be a file name: correct it"):
            use()


def test_the_folder_of_models_is_a_path() -> None:
    with pytest.raises(textgen.ConfigError, match=r"^models_dir is 5, not a path"):
        textgen.load_model("tiny", 5)  # type: ignore[arg-type]


def test_a_callback_that_is_none_of_keras_is_named_before_anything_is_written(home: Path, tmp_path: Path) -> None:
    with pytest.raises(
        textgen.ConfigError, match=r"^callbacks\[1\] must be an object of keras\.callbacks\.Callback\. Rec"
    ):
        textgen.train(home / "songs.txt", models_dir=tmp_path, callbacks=[Ends(), "x"], steps=1, **SETTINGS)
    assert not [*tmp_path.iterdir()]


# === Vectors ===


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_embed_gives_the_vectors_of_the_command(tmp_path: Path, tokenizer: textgen.Tokenizer, direction: str) -> None:
    config = textgen.ModelConfig(tokenizer.vocab_size, embedding_dim=6, hidden_units=8, direction=direction)
    kinds = textgen.TokenizerConfig("char"), textgen.CorpusConfig(documents="line")
    save_model(tmp_path / "tiny", random_weights(config), config, *kinds, tokenizer)
    texts = ["The cat sat on the mat.", "床前明月光"]
    command = ["embed", "tiny", *chain(*(["--text", text] for text in texts)), "--models-dir", str(tmp_path)]
    printed = CliRunner().invoke(program, [*command, "--format", "npy", "--out", str(tmp_path / "vectors.npy")])
    assert printed.exit_code == 0, printed.output
    vectors = textgen.embed("tiny", texts, models_dir=tmp_path)
    np.testing.assert_array_equal(np.stack(vectors), np.load(tmp_path / "vectors.npy"))
    saved = textgen.load_model("tiny", tmp_path)
    (alone,) = textgen.embed(saved, texts[1])
    np.testing.assert_allclose(alone, vectors[1], atol=1e-6)
    assert not textgen.embed(saved, "")[0].any()
    assert saved.embedder().nearest(texts[1], enumerate(texts), 1)[0][1] == (1, texts[1])


# === The network ===


def test_the_network_is_a_keras_model(result: textgen.TrainingResult) -> None:
    network = result.generator.network()
    assert isinstance(network, keras.Model)
    for name, array in result.model.weights().items():
        np.testing.assert_array_equal(network.weights_as_arrays()[name], array)
    alone = textgen.Generator(result.model.numpy_model(), result.model.tokenizer)
    with pytest.raises(textgen.ConfigError, match="has no network in Keras"):
        alone.network()


# === Names ===


def test_every_public_name_can_be_imported() -> None:
    for name in textgen.__all__:
        assert getattr(textgen, name) is not None
    assert set(textgen.__all__) <= {*dir(textgen)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = textgen.nothing  # type: ignore[attr-defined]


def test_type_checkers_see_the_names_that_are_there() -> None:
    tree = ast.parse(Path(textgen.__file__).read_text(encoding="utf-8"))
    seen = {
        (str(node.module).removeprefix("textgen."), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("textgen.")
        for alias in node.names
    }
    assert seen == {(module, name) for module, names in textgen._MODULES.items() for name in names}
    assert sorted(name for _, name in seen) == sorted(textgen.__all__)
    for_checkers = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "__getattr__" not in for_checkers, "every name would be valid"


def test_results_and_errors_of_the_functions_are_public(result: textgen.TrainingResult, tmp_path: Path) -> None:
    assert isinstance(result.history[0], textgen.ValidationReport)
    assert isinstance(result.scores, textgen.Scores)
    assert isinstance(result.generator.generate("the", SHORT)[0], textgen.Generation)
    stream = result.generator.tokens("the", SHORT)
    assert isinstance(stream, textgen.Stream)
    assert isinstance(next(stream), textgen.Token)
    assert isinstance(stream.state, textgen.TextState)
    assert isinstance(result.model.tokenizer, textgen.Tokenizer)
    assert isinstance(result.model.scorer(), textgen.Scorer)
    (score,) = textgen.score(result.model, "rain")
    assert isinstance(score, textgen.TextScore)
    assert isinstance(score.total, textgen.Score)
    embedder = result.model.embedder()
    assert isinstance(embedder, textgen.Embedder)
    assert isinstance(next(embedder.read(["rain"])), textgen.TextVectors)
    with pytest.raises(textgen.RemoteError):
        textgen.load("memory://nowhere")
    for error in (textgen.CannotWrite, textgen.InUse, textgen.ModelChanged, textgen.RemoteError, textgen.WorkerLost):
        assert issubclass(error, textgen.TextgenError)


def test_no_public_name_loads_tensorflow() -> None:
    assert not {"tensorflow", "keras"} & modules_after("from textgen import *")


def test_type_checkers_use_the_types_of_an_installed_package() -> None:
    package = Path(textgen.__file__).parent
    assert (package / "py.typed").read_bytes() == b""
    settings = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in settings["tool"]["setuptools"]["package-data"]["textgen"]


@pytest.mark.parametrize(
    "name", ["TextgenError", "SamplingConfig", "ModelConfig", "NeuralCacheConfig", "TrainingConfig"]
)
def test_settings_and_errors_are_light(name: str) -> None:
    heavy = {"tensorflow", "keras", "numpy", "sentencepiece", "rich", "safetensors"}
    assert not heavy & modules_after(f"from textgen import {name}")


def test_evaluate_takes_what_the_command_line_takes() -> None:
    """But for what the page says: see `textgen/evaluation/README.md`."""
    command = program.get_command(click.Context(program), "evaluate")
    assert command
    flags = {parameter.name for parameter in command.params}
    own = set(signature(textgen.evaluate).parameters) - {"settings"}
    configs = textgen.CorpusConfig, textgen.NeuralCacheConfig, textgen.DynamicConfig
    settings = {field.name for config in configs for field in fields(config)}
    assert own <= flags
    assert flags - own - settings == {"exact", "novelty", "as_json", "help_all"}


def test_train_takes_what_the_command_line_takes() -> None:
    """A setting is a field of a config; the other arguments have the names of flags, or none would say the same."""
    command = program.get_command(click.Context(program), "train")
    assert command
    flags = {parameter.name for parameter in command.params}
    own = {"resume", "name", "models_dir", "preset", "start", "tokenizer_from", "valid_file"}
    assert own <= flags
    assert not own & {field.name for field in fields(textgen.TrainingConfig)}
