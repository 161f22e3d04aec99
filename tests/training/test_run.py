"""Runs from start to end: what they learn, save and score, and when they end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trained_runs
from safetensors.numpy import load_file
from trained_runs import TINY, Run, Snapshot, Watch, plan_for, weights

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.words import count_words
from textgen.errors import ConfigError, TrainingError
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.model.compiled_model import CompiledModel
from textgen.model.config import CELLS
from textgen.saved_model.loading import load_model
from textgen.storage.manifests import MANIFEST
from textgen.training import run
from textgen.training.checkpoints import newest_checkpoint, save_checkpoint
from textgen.training.planning.plan import Hardware, Sources, make_plan
from textgen.training.run import resume, train
from textgen.training.run_setup import RunOptions

base_run, short_run = trained_runs.base_run, trained_runs.short_run  # fixtures
tensorflow, text = trained_runs.tensorflow, trained_runs.text  # fixtures


def test_a_run_learns_and_leaves_everything_that_the_design_names(base_run: Run) -> None:
    saved, watch = base_run.saved, base_run.watch
    assert watch.steps[-1].nats_per_token < 0.8 * watch.steps[0].nats_per_token
    assert [report.step for report in watch.steps] == list(range(1, 151))
    for name in ("config.json", "tokenizer.model", "model.safetensors", "MANIFEST.json", "training.json", "README.md"):
        assert (saved.folder / name).stat().st_size
    assert list((saved.folder / "logs").glob("events*"))
    assert list((saved.folder / "checkpoints").glob("step-*"))
    assert saved.training["status"].startswith("finished")
    assert saved.training["scores"]["tokens"] == saved.training["tokens"]["valid"]
    assert watch.validations[-1].sample
    ids = TokenStream(Path(saved.training["tokens"]["folder"]), "train").read(0, saved.training["tokens"]["train"])
    assert saved.ngrams().novelty_of_ids(ids, saved.tokenizer).copied_fraction == 1.0
    documents = np.split(ids, np.flatnonzero(ids == saved.tokenizer.eos_id))
    counts = count_words([f"{saved.tokenizer.decode(document.tolist())}\n" for document in documents])
    words = saved.words()
    assert words
    assert counts
    assert words.knows(list(counts)).all()


def test_the_starting_loss_is_that_of_the_unigram_distribution(base_run: Run) -> None:
    counts = TokenStream(Path(base_run.saved.training["tokens"]["folder"]), "train").counts
    shares = counts[counts > 0] / counts.sum()
    entropy = -float((shares * np.log(shares)).sum())
    assert base_run.watch.steps[0].nats_per_token == pytest.approx(entropy, abs=0.15)


def test_another_seed_trains_other_weights(short_run: Run, tmp_path: Path) -> None:
    """That the same one trains the same weights, the runs that are stopped or killed and resumed show."""
    other = weights(train(plan_for(short_run.text, **short_run.settings, seed=1), tmp_path / "other"))
    for name, array in weights(short_run.saved).items():
        assert not np.array_equal(array, other[name]), name


@pytest.mark.slow
def test_a_run_begins_with_the_weights_that_were_asked_for(text: Path, tmp_path: Path) -> None:
    same = {"steps": 2, "learning_rate": 0.0, "num_layers": 2}
    asked = {"forget_bias": -1.0, "recurrent_initializer": "glorot", "carry_state": False}
    saved = train(plan_for(text, **same, **asked), tmp_path / "songs")
    usual = train(plan_for(text, **same), tmp_path / "usual")
    ours, theirs = saved.weights(), usual.weights()
    assert {name for name in ours if not np.array_equal(ours[name], theirs[name])} == {
        f"lstm_{layer}/{part}" for layer in (0, 1) for part in ("recurrent_kernel", "bias")
    }
    units = TINY["hidden_units"]
    np.testing.assert_array_equal(ours["lstm_1/bias"], np.repeat([0.0, -1.0, 0.0, 0.0], units))
    with pytest.raises(ConfigError, match=r"forget_bias was fixed when the run began, as -1\.0"):
        resume(saved.folder, {"steps": 4, "forget_bias": 1.0})


def test_a_model_is_never_overwritten(short_run: Run) -> None:
    before = (short_run.saved.folder / MANIFEST).read_bytes()
    with pytest.raises(TrainingError, match="already holds a model"):
        train(short_run.plan(), short_run.saved.folder)
    assert (short_run.saved.folder / MANIFEST).read_bytes() == before


def test_a_script_without_spaces_is_learned_and_its_model_loaded(tmp_path: Path) -> None:
    """It has no words, so neither the scores nor the card tell of any."""
    rng = np.random.default_rng(0)
    text = tmp_path / "prose.txt"
    text.write_text("\n".join("".join(rng.choice([*"天地玄黃宇宙洪荒"], 8000)) for _ in range(4)), encoding="utf-8")
    saved = load_model(str(train(plan_for(text, tokenizer="char"), tmp_path / "prose").folder))
    assert saved.training["scores"].keys().isdisjoint({"words", "perplexity_per_word"})
    assert "per word" not in (saved.folder / "README.md").read_text(encoding="utf-8")
    assert "Infinity" not in (saved.folder / "training.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_float16_learns_as_float32_does(text: Path, tmp_path: Path) -> None:
    scores = [
        train(plan_for(text, precision=precision), tmp_path / precision).training["scores"]["nats_per_token"]
        for precision in ("float32", "float16")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)


OF_CELL: dict[str, dict[str, Any]] = {
    "gru": {"reset_after": False},
    "rnn": {"activation": "relu"},
    "mogrifier": {"mogrifier_rank": 3},
}
COMBINATIONS: list[dict[str, Any]] = [
    {"cell": cell, **options}
    for cell in CELLS
    for options in (
        {"num_layers": 1, "embedding_dim": 24, "residual": True},
        {
            "num_layers": 2,
            "tie_embeddings": False,
            "layer_norm": True,
            "residual": True,
            "dropout": 0.0,
            "attention": 20,
        },
        {"num_layers": 2, "embedding_dropout": 0.3, **OF_CELL.get(cell, {})},
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", COMBINATIONS, ids=lambda settings: ", ".join(map(str, settings.values())))
def test_every_cell_trains_resumes_saves_and_writes(text: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    plan = plan_for(text, steps=6, num_validations=2, patience=None, **settings)
    snapshot = Snapshot(3, tmp_path / "whole", tmp_path / "parts")
    saved = train(plan, tmp_path / "whole", options=RunOptions(observers=[snapshot]))
    assert newest_checkpoint(tmp_path / "parts" / "checkpoints")[0].position["step"] == 3
    resume(tmp_path / "parts")
    last = "checkpoints/step-000000006/tensors.safetensors"
    assert (tmp_path / "whole" / last).read_bytes() == (tmp_path / "parts" / last).read_bytes()
    assert any(
        name.startswith(f"{settings['cell']}_0/") for name in load_file(tmp_path / "whole" / "model.safetensors")
    )
    sampling = SamplingConfig(max_tokens=20, seed=3)
    texts = [
        Generator(writer, saved.tokenizer).generate(["the", "a slow"], sampling)
        for writer in (saved.numpy_model(), CompiledModel(saved.network()))
    ]
    assert texts[0] == texts[1]
    assert CELLS[settings["cell"]] in (tmp_path / "whole" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("valid_tokens", "final"),
    [
        (64, 192),
        pytest.param(256, 256, marks=pytest.mark.slow),
        pytest.param(10_000, None, marks=pytest.mark.slow),
    ],
    ids=["part", "more", "all"],
)
def test_the_final_scores_are_those_of_the_best_weights_on_the_held_out_text(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid_tokens: int, final: int | None
) -> None:
    """Whether the last validation has scored all of it, or a part."""
    from textgen.dataset.token_cache import encode_and_split
    from textgen.evaluation.evaluator import Evaluator

    trained = TINY["steps"] * TINY["batch_size"] * TINY["sequence_length"]
    monkeypatch.setattr("textgen.training.run.MIN_FINAL_TOKENS", 60)
    monkeypatch.setattr("textgen.training.run.FINAL_FRACTION", 0.25)
    monkeypatch.setattr("textgen.training.run.FINAL_TOKENS", trained // 4)
    assert trained // 4 == 192
    saved = train(plan_for(text, valid_tokens=valid_tokens, precision="float32"), tmp_path / "songs")
    data = encode_and_split(Corpus([text], CorpusConfig(documents="line")), saved.tokenizer)
    own = Evaluator(saved.network(), token_bytes=saved.tokenizer.token_bytes).scores(data.valid, final)
    assert saved.training["scores"]["tokens"] == own.tokens == pytest.approx(final or len(data.valid), rel=0.03)
    assert saved.training["scores"]["nats_per_token"] == pytest.approx(own.nats_per_token, abs=1e-5)


@pytest.mark.slow
def test_a_text_begins_as_the_paragraphs_of_a_single_document_do(tmp_path: Path) -> None:
    """From zeros, a state that the text itself only has at the beginning of a window here and there."""
    rng, text = np.random.default_rng(0), tmp_path / "novel.txt"
    words = ["moon", "river", "old", "fox", "sang", "slow", "song"]
    paragraphs = [f"{rng.choice(['X', 'Y'])}{' '.join(rng.choice(words, 9))}." for _ in range(600)]
    text.write_text("\n\n".join(paragraphs), encoding="utf-8")
    settings = {**TINY, "steps": 250, "batch_size": 16, "sequence_length": 32}
    plan = make_plan(Corpus([text], CorpusConfig(documents="file")), settings, hardware=Hardware(flops=1e11))
    saved = train(plan, tmp_path / "novel")
    first = [each.text[:1] for each in saved.generator().generate("", SamplingConfig(max_tokens=2, seed=1), num=100)]
    assert sum(letter in "XY" for letter in first) > 85


def test_a_validation_file_is_used_instead_of_a_share(text: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("the old fox sang\na song of rain", encoding="utf-8")
    corpus = Corpus([text], CorpusConfig(documents="line"))
    valid = Corpus([held_out], CorpusConfig(documents="line"))
    plan = make_plan(corpus, TINY, sources=Sources(valid=valid), hardware=Hardware(flops=1e11))
    saved = train(plan, tmp_path / "songs")
    assert saved.training["scores"]["bytes"] == len("the old fox sang") + len("a song of rain")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 32, "num_validations": 8, "patience": None}, [0, 12, 24, 32]),
        pytest.param({"steps": 64, "num_validations": 1}, [0, 30, 60, 64], marks=pytest.mark.slow),
    ],
    ids=["as often as they pay", "as checkpoints"],
)
def test_saves_at_validations_take_a_small_share_of_the_time(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: list[int]
) -> None:
    """The clock is the test's: a step takes 1 s and a save 0.5 s, so one is worth it after 10 s."""
    from textgen.training import trainer

    now = 0.0

    def taking(seconds: float, function: Any) -> Any:
        def slow(*arguments: Any, **options: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments, **options)

        return slow

    saves = list[int]()

    def noted(folder: Path, step: int, *arguments: Any, **options: Any) -> None:
        saves.append(step)
        save_checkpoint(folder, step, *arguments, **options)

    monkeypatch.setattr("textgen.training.checkpoints.SAVING_FRACTION", 0.05)
    monkeypatch.setattr("textgen.training.trainer.time.perf_counter", lambda: now)
    monkeypatch.setattr("textgen.training.trainer.save_checkpoint", taking(0.5, noted))
    monkeypatch.setattr(trainer.Trainer, "_step", taking(1.0, trainer.Trainer._step))
    train(plan_for(text, checkpoint_minutes=0.5, **settings), tmp_path / "songs")
    assert saves == expected


def test_the_speed_of_a_step_counts_neither_validations_nor_checkpoints(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the test's: a step takes 1 s, a validation 100 s, and writing a checkpoint 1,000 s."""
    from textgen.training import trainer, validator

    now = 0.0

    def taking(seconds: float, function: Any) -> Any:
        def slow(*arguments: Any, **options: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments, **options)

        return slow

    monkeypatch.setattr("textgen.training.trainer.time.perf_counter", lambda: now)
    monkeypatch.setattr(trainer.Trainer, "_step", taking(1.0, trainer.Trainer._step))
    monkeypatch.setattr(validator.Validator, "_score", taking(100.0, validator.Validator._score))
    monkeypatch.setattr(trainer.Trainer, "save_checkpoint", taking(1000.0, trainer.Trainer.save_checkpoint))
    watch = Watch()
    saved = train(
        plan_for(text, num_validations=3, checkpoint_minutes=0.0),
        tmp_path / "songs",
        options=RunOptions(observers=[watch]),
    )
    assert [report.tokens_per_second for report in watch.steps] == pytest.approx([4 * 16.0] * 12)
    assert saved.training["progress"]["seconds"] > 300  # which is all the time that the run took


def test_a_budget_in_minutes_is_kept_and_the_schedule_ends_with_it(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the test's: it goes on by 20 ms whenever somebody looks at it."""
    ticks = itertools.count()
    monkeypatch.setattr("textgen.training.trainer.time.perf_counter", lambda: 0.02 * next(ticks))
    watch = Watch()
    plan = plan_for(text, steps=None, minutes=0.05, num_validations=2)
    saved = train(plan, tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert 3.0 <= saved.training["progress"]["seconds"] < 6.0
    assert saved.training["status"].startswith("finished: the limit of 0.05 minutes is reached at epoch ")
    assert watch.steps[-1].learning_rate < 0.2 * plan.training_config.learning_rate


def test_early_stopping(text: Path, tmp_path: Path) -> None:
    watch = Watch()
    short = {"steps": 400, "num_validations": 100, "patience": 3}
    plan = plan_for(text, **short, learning_rate=1.0, warmup_fraction=0.0)
    saved = train(plan, tmp_path / "songs", options=RunOptions(observers=[watch]))
    assert "no better score in 3 validations" in saved.training["status"]
    assert watch.steps[-1].step < 400
    best = min(report.nats_per_token for report in watch.validations)
    assert saved.training["progress"]["best_step"] in [r.step for r in watch.validations if r.nats_per_token == best]


@pytest.mark.parametrize(("num_workers", "limit"), [(1, None), (2, 7.0)])
def test_only_several_processes_have_a_limit_of_waiting(
    num_workers: int, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = list[float | None]()
    trainer = SimpleNamespace(position=SimpleNamespace(step=0, validations=0, learning_rate=None))
    trainer.run = lambda observers, about, step_timeout: limits.append(step_timeout)
    monkeypatch.setattr("textgen.training.trainer.Trainer", lambda *parts, **others: trainer)
    monkeypatch.setattr(run, "training_data", lambda *parts: None)
    monkeypatch.setattr(run._Run, "_build", lambda self: None)
    monkeypatch.setattr(run._Run, "_make_observers", lambda self, options: [])
    distribution = SimpleNamespace(num_workers=num_workers, is_chief=True, together=nullcontext, total=list)
    record: dict[str, Any] = {"corpus": {"paths": [], "valid": None}, "tokenizer": {}, "model": {}, "training": {}}
    setup: Any = SimpleNamespace(record=record, data=None)
    setup.folder, setup.tokenizer, setup.training_config = Path("songs"), SimpleNamespace(token_bytes=None), None
    options: Any = SimpleNamespace(distribution=distribution, step_timeout=7.0)
    run._Run(setup, None, options).steps()
    assert limits == [limit]


@pytest.mark.parametrize("worker", [0, 1])
def test_no_process_waits_for_ever_for_the_others_at_the_end(worker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limits, evaluator = list[float | None](), SimpleNamespace(on_window=None)

    @contextmanager
    def noted(seconds: float | None) -> Iterator[Callable[[], None]]:
        limits.append(seconds)
        yield lambda: None

    monkeypatch.setattr(run, "load_model", lambda name: SimpleNamespace(weights=dict))
    for name in ("_mix_with_start", "_final_scores"):
        monkeypatch.setattr(run._Run, name, lambda self: None)
    monkeypatch.setattr(run, "require_held", lambda folder: None)
    monkeypatch.setattr(run._Run, "_write", lambda self, state, scores: None)
    ended: Any = object.__new__(run._Run)
    ended._setup, ended._step_timeout = SimpleNamespace(folder=Path("songs")), 7.0
    ended._model = SimpleNamespace(assign_weights=lambda weights: None)
    ended._trainer = SimpleNamespace(validator=SimpleNamespace(evaluator=evaluator))
    ended._distribution = SimpleNamespace(
        is_chief=worker == 0, num_workers=2, together=noted, total=lambda values: [1.0]
    )
    ended._finish("the planned length is reached")
    assert limits == [7.0]
    assert (evaluator.on_window is not None) == (worker == 0)
