"""The plan of a run, as people read it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from textgen.cli.plan_report import describe, plan_values, result_values, summary
from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.saved_model.layout import read_training
from textgen.training.planning.plan import Hardware, Sources, make_plan

BASE = Path(__file__).resolve().parents[2] / "saved_models" / "bases" / "english"


@pytest.mark.parametrize(
    ("sampled", "shown"),
    [(0, ""), (1, ", softmax of 1 token"), (4095, ", softmax of 4,095 tokens"), (4096, ""), (9000, "")],
)
def test_a_sampled_softmax_is_told_where_it_is_smaller_than_the_vocabulary(
    tmp_path: Path, sampled: int, shown: str
) -> None:
    text = tmp_path / "songs.txt"
    text.write_text("The miller told the fox about the river.\n" * 300, encoding="utf-8")
    settings = {"vocab_size": 4096, "sampled_softmax": sampled}
    plan = make_plan(Corpus([text], CorpusConfig(documents="line")), settings, hardware=Hardware(2e11))
    (line,) = [line for line in describe(plan, tmp_path).splitlines() if line.startswith("training")]
    assert line.endswith(f", adamw{shown}")


@pytest.mark.parametrize(
    ("gpu_memory", "shown"),
    [
        (64_000_000_000, "memory of each GPU about "),
        (900_000_000, " GB, but a GPU has 0.9 GB: choose a smaller --batch-size, --vocab-size or --hidden-units"),
        (None, "; memory about "),
    ],
)
def test_the_memory_is_that_of_each_gpu_if_it_is_known(tmp_path: Path, gpu_memory: int | None, shown: str) -> None:
    text = tmp_path / "songs.txt"
    text.write_text("The miller told the fox about the river.\n" * 300, encoding="utf-8")
    hardware = Hardware(2e11, on_gpu=gpu_memory is not None, gpu_memory=gpu_memory)
    plan = make_plan(Corpus([text], CorpusConfig(documents="line")), preset="medium", hardware=hardware)
    (line,) = [line for line in describe(plan, tmp_path).splitlines() if line.startswith("parameters")]
    assert shown in line


def test_the_plan_speaks_of_flags_and_groups_the_digits_of_sizes(tmp_path: Path) -> None:
    text = tmp_path / "songs.txt"
    text.write_text("The miller told the fox about the river.\n" * 300, encoding="utf-8")
    settings = {"hidden_units": 4096, "embedding_dim": 1024, "batch_size": 1024, "sequence_length": 2}
    corpus, sources = Corpus([text], CorpusConfig(documents="line")), Sources(may_choose_base=True)
    made = make_plan(corpus, settings, sources=sources, hardware=Hardware(2e11, memory=900_000_000))
    plan = describe(made, tmp_path)
    assert "\nstart       none: --hidden-units is given\n" in plan
    assert " of 4,096 units, embedding 1,024, " in plan
    assert ", batches of 1,024 x " in plan
    assert " GB, but this machine has 0.9 GB: choose a smaller --batch-size, --vocab-size or --hidden-units\n" in plan


@pytest.mark.parametrize(
    ("line", "tokenizer", "is_told"),
    [
        ("床前明月光，疑是地上霜。", "word", True),
        ("床前明月光，疑是地上霜。", "char", False),
        ("The miller told the fox about the river.", "word", False),
    ],
)
def test_words_of_a_text_without_spaces_are_warned_of(tmp_path: Path, line: str, tokenizer: str, is_told: bool) -> None:
    text = tmp_path / "songs.txt"
    text.write_text(f"{line}\n" * 300, encoding="utf-8")
    corpus = Corpus([text], CorpusConfig(documents="line"))
    plan = make_plan(corpus, {"tokenizer": tokenizer}, hardware=Hardware(2e11))
    warning = "\nwarning     the text has no spaces between words, so a token is a whole line. "
    warning += "Leave out --tokenizer, or use --tokenizer char\n"
    shown = describe(plan, tmp_path)
    assert (warning in shown, "\nwarning " in shown) == (is_told, is_told)


def result(folder: Path, perplexity: float = 7.4) -> Any:
    """A model that a run has saved, as far as its summary shows it."""
    scores = {"tokens": 5, "nats_per_token": 2.0, "perplexity_per_token": perplexity, "bits_per_byte": 1.5}
    training = {"scores": scores, "progress": {"step": 3, "seconds": 1.0}, "status": "finished", "model": {}}
    return SimpleNamespace(folder=folder, training=training, shell_name="novel", tokenizer=SimpleNamespace(labels=()))


@pytest.mark.parametrize(("perplexity", "shown"), [(7.4, "7.40"), (sys.float_info.max, "1.798e+308")])
def test_the_result_tells_the_perplexity_in_a_line(tmp_path: Path, perplexity: float, shown: str) -> None:
    assert f", perplexity {shown}, 1.500 bits per byte." in summary(result(tmp_path / "novel", perplexity))


def test_the_result_names_the_folder_as_the_plan_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = result(tmp_path / "saved_models" / "novel")
    monkeypatch.setattr("textgen.saved_model.model_card.sample_command", lambda *_: "textgen sample novel")
    monkeypatch.chdir(tmp_path)
    assert summary(saved).startswith("saved_models/novel: finished after 3 steps")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert summary(saved).startswith(f"{tmp_path / 'saved_models' / 'novel'}: finished")


@pytest.mark.parametrize(("minutes", "longer"), [(0.1, "10"), (60.0, "120")])
def test_a_run_that_its_minutes_have_ended_tells_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, longer: str
) -> None:
    monkeypatch.setattr("textgen.saved_model.model_card.sample_command", lambda *_: "textgen sample novel")
    saved = result(tmp_path / "my models" / "novel")
    monkeypatch.setenv("TEXTGEN_MODELS", str(saved.folder.parent))
    assert "Train longer" not in summary(saved)
    saved.training["status"] = f"finished: the limit of {minutes:g} minutes is reached at epoch 0.04 of 30"
    saved.training["training"] = {"minutes": minutes, "epochs": 30.0, "steps": None}
    command, limits = "\nTrain longer:   textgen train --resume --name novel", f" --minutes {longer} --epochs 30\n"
    assert "is reached at epoch 0.04 of 30 after 3 steps (1 s).\n" in summary(saved)
    assert f"{command}{limits}" in summary(saved)
    monkeypatch.setenv("TEXTGEN_MODELS", str(tmp_path))
    assert f"{command} --models-dir '{tmp_path}/my models'{limits}" in summary(saved)


@pytest.mark.parametrize("steps", [1_000_000, 123_456_789])
def test_the_command_that_trains_longer_keeps_every_digit_of_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("textgen.saved_model.model_card.sample_command", lambda *_: "textgen sample novel")
    saved = result(tmp_path / "novel")
    saved.training["status"] = "finished: the limit of 1,000,000 minutes is reached at epoch 0.04"
    saved.training["training"] = {"minutes": 1_000_000.0, "epochs": 0.12345678, "steps": steps}
    assert f" --minutes 2000000 --epochs 0.12345678 --steps {steps}\n" in summary(saved)


def test_the_plan_has_no_exponents_but_in_learning_rates(tmp_path: Path) -> None:
    text = tmp_path / "songs.txt"
    text.write_text("The miller told the fox about the river.\n" * 300, encoding="utf-8")
    settings = {"steps": 1_000_000, "minutes": 2e6, "dropout": 1e-5, "learning_rate": 1e-6}
    plan = make_plan(Corpus([text], CorpusConfig(documents="line")), settings, hardware=Hardware(2e11))
    plan = replace(
        plan,
        training_config=replace(plan.training_config, valid_fraction=1e-6),
        estimates=replace(plan.estimates, tokens=100, tokens_per_second=100.0, training_seconds=151.2),
    )
    lines = describe(plan, tmp_path)
    assert "1,000,000 steps or 2,000,000 minutes, batches of" in lines
    for shown in (" 0.000001 of the corpus\n", ", 150 epochs at ", " 0.00001 between layers", "rate 1e-06 "):
        assert shown in lines


def test_the_plan_and_the_result_say_where_the_model_is_and_have_the_same_sections(tmp_path: Path) -> None:
    (tmp_path / "songs.txt").write_text("The miller told the fox about the river.\n" * 300, encoding="utf-8")
    folder, recorded = tmp_path / "models" / "songs", read_training(BASE)
    plan = make_plan(Corpus([tmp_path / "songs.txt"]), {}, hardware=Hardware(2e11))
    saved: Any = SimpleNamespace(folder=folder, training=recorded)
    planned, done = plan_values(plan, folder), result_values(saved)
    for values in planned, done:
        assert (values["name"], values["folder"]) == ("songs", str(folder))
    assert planned["corpus"].keys() <= done["corpus"].keys()
    assert planned["corpus"]["config"].keys() == done["corpus"]["config"].keys()
