"""Runs that start from a model: its vocabulary, frozen layers, decay towards it, and mixes with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trained_runs
from safetensors.numpy import load_file
from trained_runs import TINY, Run, Snapshot, Watch

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_stream import TokenStream
from textgen.errors import ConfigError
from textgen.saved_model.layout import NGRAMS, WORDS
from textgen.saved_model.loading import load_model
from textgen.storage.manifests import MANIFEST
from textgen.training import run
from textgen.training.checkpoints import newest_checkpoint
from textgen.training.planning.plan import Hardware, Sources, make_plan
from textgen.training.run import resume, train
from textgen.training.run_setup import RunOptions

base_run, tensorflow, text = trained_runs.base_run, trained_runs.tensorflow, trained_runs.text  # fixtures


def test_fine_tuning_starts_from_the_model_and_leaves_it_alone(base_run: Run, text: Path, tmp_path: Path) -> None:
    base = base_run.saved
    before = (base.folder / "model.safetensors").read_bytes()
    other = tmp_path / "other.txt"
    lines = text.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(" ".join(sorted(line.split())) for line in lines), encoding="utf-8")
    corpus = Corpus([other], CorpusConfig(documents="line"))
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")} | {"steps": 3}
    plan = make_plan(corpus, settings, sources=Sources(start=base), hardware=Hardware(flops=1e11))
    watch = Snapshot(0, tmp_path / "tuned", tmp_path / "killed")
    tuned = train(plan, tmp_path / "tuned", options=RunOptions(observers=[watch]))
    assert watch.steps[0].nats_per_token < 2.3  # a fresh model starts at about 2.7
    assert tuned.tokenizer.fingerprint() == base.tokenizer.fingerprint()
    assert tuned.training["start"]["name"] == "base"
    assert (base.folder / "model.safetensors").read_bytes() == before
    for trained in (base, tuned):
        ids = TokenStream(Path(trained.training["tokens"]["folder"]), "train").read(0, 1000)
        assert tuned.ngrams().novelty_of_ids(ids, tuned.tokenizer).copied_fraction == 1.0
    share = base.ngrams().novelty_of_ids(ids, base.tokenizer).copied_fraction
    assert share is not None
    assert share < 0.5
    resumed = resume(tmp_path / "killed")
    for name in (NGRAMS, WORDS):
        assert (resumed.folder / name).read_bytes() == (tuned.folder / name).read_bytes()
    assert len((tuned.folder / WORDS).read_bytes()) > len((base.folder / WORDS).read_bytes())
    manifest = json.loads((resumed.folder / MANIFEST).read_bytes())
    for name in (NGRAMS, WORDS):
        del manifest["files"][name]
        (resumed.folder / name).unlink()
    (resumed.folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    said = list[str]()
    without = resume(resumed.folder, options=RunOptions(say=said.append))
    assert without.words() is None  # those of the text alone would keep it from words of the base
    assert not without.has_ngrams  # nor would copies of the text of the base be detected
    assert any("would lack the text of base: copies are not detected" in line for line in said)
    for name, value in (("hidden_units", 8), ("forget_bias", 0.0)):
        with pytest.raises(ConfigError, match=f"{name} cannot be set when fine-tuning"):
            make_plan(corpus, {name: value}, sources=Sources(start=base), hardware=Hardware(flops=1e11))


def test_fine_tuning_with_another_vocabulary_carries_over_what_both_know(
    base_run: Run, text: Path, tmp_path: Path
) -> None:
    base = base_run.saved
    before = {path: path.read_bytes() for path in base.folder.rglob("*") if path.is_file()}
    other = tmp_path / "other.txt"
    other.write_text(text.read_text(encoding="utf-8").replace("moon", "Möön"), encoding="utf-8")
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")} | {"steps": 3}
    corpus, said, watch = Corpus([other], CorpusConfig(documents="line")), list[str](), Watch()
    plan = make_plan(
        corpus, settings | {"tokenizer": "char"}, sources=Sources(start=base), hardware=Hardware(flops=1e11)
    )
    tuned = train(plan, tmp_path / "tuned", options=RunOptions(observers=[watch], say=said.append))
    size, known = tuned.tokenizer.vocab_size, len({*base.tokenizer.pieces()} & {*tuned.tokenizer.pieces()})
    assert {*tuned.tokenizer.pieces()} - {*base.tokenizer.pieces()} == {"M", "ö"}
    assert f"{known:,} of {size:,} tokens are known to base; 0 begin as the mean of the tokens that spell them." in said
    assert watch.steps[0].nats_per_token < 2.6  # a fresh model starts at about 2.8
    assert {path: path.read_bytes() for path in base.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_frozen_layers_stay_as_they_are(base_run: Run, text: Path, tmp_path: Path, optimizer: str) -> None:
    frozen, base = ["embedding", "lstm_0"], base_run.saved
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")}
    settings |= {"steps": 5, "freeze_layers": frozen, "optimizer": optimizer}
    tuned = train(
        make_plan(Corpus([text], CorpusConfig(documents="line")), settings, sources=Sources(start=base)),
        tmp_path / "tuned",
    )
    resumed = resume(tuned.folder, {"steps": 8})
    for name, array in base.weights().items():
        assert np.array_equal(resumed.weights()[name], array) == (name.split("/")[0] in frozen), name


@pytest.mark.slow
def test_decay_towards_the_base_is_resumed_exactly_also_without_the_base(
    base_run: Run, text: Path, tmp_path: Path
) -> None:
    base = load_model(str(shutil.copytree(base_run.saved.folder, tmp_path / "base")))
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")}
    settings |= {"steps": 6, "decay_target": "start", "weight_decay": 30.0, "layer_learning_rate_decay": 0.5}
    settings |= {"weight_averaging": "ema", "freeze_layers": ["lstm_1"]}
    plan = make_plan(Corpus([text], CorpusConfig(documents="line")), settings, sources=Sources(start=base))
    train(plan, tmp_path / "whole")
    train(plan, tmp_path / "parts", options=RunOptions(observers=[Watch(3)]))
    first = base.weights()
    shutil.rmtree(base.folder)
    with pytest.raises(ConfigError, match="decay_target was fixed when the run began, as start"):
        resume(tmp_path / "parts", {"decay_target": "zero"})
    resume(tmp_path / "parts")
    last = "checkpoints/step-000000006/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()
    kept = load_file(tmp_path / "parts" / last)
    for name, array in first.items():
        np.testing.assert_array_equal(kept[f"start/{name}"], array)


def test_the_weights_of_a_run_are_mixed_with_those_of_its_base_where_that_scores_better(
    base_run: Run, text: Path, tmp_path: Path
) -> None:
    base, corpus = base_run.saved, Corpus([text], CorpusConfig(documents="line"))
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")}
    settings |= {"steps": 3, "learning_rate": 0.05, "num_validations": 1, "schedule": "constant"}  # a step too far
    hardware = Hardware(flops=1e11)
    tuned, mix = (
        train(
            make_plan(corpus, settings | {"interpolate_start": wanted}, sources=Sources(start=base), hardware=hardware),
            tmp_path / name,
        )
        for name, wanted in (("tuned", False), ("mix", True))
    )
    fraction = mix.training["start_fraction"]
    assert fraction > 0
    assert mix.training["scores"]["nats_per_token"] < tuned.training["scores"]["nats_per_token"]
    first, best = base.weights(), tuned.weights()
    for name, array in mix.weights().items():
        np.testing.assert_allclose(array, (1 - fraction) * best[name] + fraction * first[name], atol=1e-6)


@pytest.mark.slow
def test_a_mix_with_the_base_is_replaced_only_by_better_weights(base_run: Run, text: Path, tmp_path: Path) -> None:
    base, corpus, folder = base_run.saved, Corpus([text], CorpusConfig(documents="line")), tmp_path / "mix"
    settings = {name: TINY[name] for name in ("batch_size", "sequence_length", "valid_tokens")}
    settings |= {"steps": 3, "learning_rate": 0.05, "num_validations": 1, "schedule": "constant"}
    plan = make_plan(corpus, settings | {"interpolate_start": True}, sources=Sources(start=base))
    before, (checkpoint, _) = train(plan, folder).training, newest_checkpoint(folder / "checkpoints")
    watch = Watch()
    longer = {"steps": 9, "num_validations": 3, "learning_rate": 1e-4, "patience": 1}
    after = resume(folder, longer, options=RunOptions(observers=[watch]))
    unmixed, mixed = checkpoint.position["best_nats_per_token"], before["scores"]["nats_per_token"]
    losses = [each.nats_per_token for each in watch.validations]
    assert mixed < losses[1] < losses[0] < unmixed, "patience compares only weights that are not mixed"
    assert not any(each.improved for each in watch.validations)
    assert after.training["progress"]["best_step"] == 3
    assert after.training["scores"]["nats_per_token"] <= mixed
    fraction, first, tuned = after.training["start_fraction"], base.weights(), checkpoint.tensors
    assert fraction >= before["start_fraction"] > 0
    for name, array in after.weights().items():
        np.testing.assert_allclose(array, (1 - fraction) * tuned[f"weights/{name}"] + fraction * first[name], atol=1e-6)
    resumed, _ = newest_checkpoint(folder / "checkpoints")
    for name in first:  # training went on from the unmixed weights
        np.testing.assert_allclose(resumed.tensors[f"weights/{name}"], tuned[f"weights/{name}"], atol=3e-3)


@pytest.mark.parametrize(
    ("later", "step", "weight", "fraction"),
    [(None, 3, 0.48, 0.7), (1.02, 9, 0.51, 0.5), (1.3, 3, 0.48, 0.7)],
    ids=["none", "better", "worse"],
)
def test_the_better_of_two_mixes_is_saved(
    later: float | None, step: int, weight: float, fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is the distance from 0.5, the start is 0, and the saved weight 0.8 is half of the start already."""
    from textgen.training.position import Position
    from textgen.training.validator import Validated

    class Model:
        """A network of one weight."""

        def assign_weights(self, weights: dict[str, np.ndarray]) -> None:
            self.weights = weights

        def weights_as_arrays(self) -> dict[str, np.ndarray]:
            return dict(self.weights)

    saved = list[tuple[float, float, int]]()
    finished: Any = object.__new__(run._Run)
    finished._model = Model()
    finished._model.assign_weights({"a": np.array(0.8)})
    evaluator = SimpleNamespace(nats=lambda *given: (40 * abs(finished._model.weights["a"] - 0.5), 40))
    runner_up = later and Validated(9, 2.0, {"a": np.array(later)})
    position = Position(best_nats_per_token=3.0, best_step=2, kept_nats_per_token=0.3, kept_step=3)
    finished._trainer = SimpleNamespace(
        position=position,
        validator=SimpleNamespace(evaluator=evaluator, runner_up=runner_up),
        tensors=SimpleNamespace(start_weights={"a": np.array(0.0)}),
    )
    config = SimpleNamespace(interpolate_start=True, valid_tokens=5)
    finished._setup = SimpleNamespace(training_config=config, data=SimpleNamespace(valid=None))
    finished._record = {"start_fraction": 0.5}

    def save(self: Any, scores: None, *, start_fraction: float) -> None:
        saved.append((float(self._model.weights["a"]), start_fraction, position.saved_step))

    monkeypatch.setattr(run._Run, "_save", save)
    finished._mix_with_start()
    ((mixed, of_start, of_step),) = saved
    assert mixed == pytest.approx(weight)
    assert of_start == pytest.approx(fraction)
    assert of_step == step
    if step == 9:
        assert position.kept_nats_per_token == pytest.approx(0.01)  # the loss of each token, as validations compare it
