"""Settings chosen from corpus, machine and budget."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trained_runs
from trained_runs import plan_for

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.errors import ConfigError, CorpusError
from textgen.model.config import ModelConfig
from textgen.training.config import TrainingConfig
from textgen.training.distributed.distribution import Shares, require_shares
from textgen.training.planning import basis as plan_basis
from textgen.training.planning.estimates import scoring_speed, tokens_per_second, training_memory
from textgen.training.planning.plan import Hardware, Plan, make_plan
from textgen.training.presets import SIZES

text = trained_runs.text  # fixture

LAPTOP = 2e11  # operations a second
SENTENCE = "The miller told the fox about the river, and the fox said nothing at all.\n"


@pytest.fixture(autouse=True)
def on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are those for float32, also where the processor has bfloat16."""
    monkeypatch.setattr(plan_basis, "best_precision", lambda: "float32")


def plan(
    tmp_path: Path, characters: int, *, preset: str | None = None, shares: Shares | None = None, **settings: Any
) -> Plan:
    corpus = corpus_of(tmp_path, characters)
    return make_plan(corpus, settings, preset=preset, hardware=Hardware(LAPTOP, shares or Shares()))


def corpus_of(tmp_path: Path, characters: int, sentence: str = SENTENCE) -> Corpus:
    """A corpus of one document. The counts of a long one are those of a short one times its length, to save time."""
    path = tmp_path / "text.txt"
    written = min(characters, 100 * len(sentence)) if characters > 100_000 else characters
    path.write_text((sentence * (written // len(sentence) + 1))[:written], encoding="utf-8")
    corpus = Corpus([path], CorpusConfig(documents="file"))
    if written < characters:
        stats, times = corpus.stats(), characters / written
        counts = {character: round(times * count) for character, count in stats.character_counts.items()}
        names = ("characters", "bytes", "lines", "words", "longest_document", "typical_document")
        sizes = {name: type(getattr(stats, name))(times * getattr(stats, name)) for name in names}
        corpus.stats = lambda: replace(stats, character_counts=counts, **sizes)  # type: ignore[method-assign]
    return corpus


def test_longer_corpora_get_larger_networks_fewer_passes_and_less_dropout(tmp_path: Path) -> None:
    plans = [plan(tmp_path, size) for size in (20_000, 400_000, 8_000_000)]
    widths = [p.model_config.hidden_units for p in plans]
    assert widths[0] < widths[1] <= widths[2]  # the last has but one budget to spend on twenty times as much text
    assert all(p.estimates.seconds <= 15 * 60 * 1.07 for p in plans)  # passes are rounded
    epochs = [p.estimates.epochs for p in plans]
    assert round(epochs[0], 6) >= round(epochs[1], 6) > epochs[2]
    dropouts = [p.model_config.dropout for p in plans]
    assert dropouts[0] >= dropouts[1] > dropouts[2]


@pytest.mark.parametrize(
    ("characters", "settings", "preset"),
    [
        (30_000, {"tokenizer": "char"}, "tiny"),
        (80_000, {"tokenizer": "char"}, "small"),
        (200_000, {"vocab_size": 3000}, "tiny"),
        (600_000, {"vocab_size": 3000}, "small"),
    ],
)
def test_as_many_words_need_a_smaller_network_than_characters(
    tmp_path: Path, characters: int, settings: dict[str, Any], preset: str
) -> None:
    made = plan(tmp_path, characters, minutes=60.0, **settings)
    assert made.preset == preset, made.estimates.tokens


def test_a_text_of_a_few_kilobytes_gets_more_dropout(tmp_path: Path) -> None:
    rates = [plan(tmp_path, size).model_config.dropout for size in (3_000, 30_000, 60_000, 120_000, 200_000)]
    assert rates[0] == 0.75
    assert rates[0] > rates[1] > rates[2] > rates[3] == rates[4] == 0.5
    assert plan(tmp_path, 3_000, dropout=0.1).model_config.dropout == 0.1


def test_a_longer_budget_or_a_faster_machine_never_gets_a_smaller_network(tmp_path: Path) -> None:
    sizes = [plan(tmp_path, 2_000_000, minutes=m).model_config.hidden_units for m in (0.5, 2, 10, 60, 600)]
    assert all(size <= next_size for size, next_size in pairwise(sizes))
    assert len(set(sizes)) >= 3


def test_what_is_given_is_kept(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "hidden_units": 77, "embedding_dim": 33, "num_layers": 3, "dropout": 0.11, "embedding_dropout": 0.07,
        "batch_size": 5, "sequence_length": 17, "learning_rate": 0.0123, "epochs": 2.5, "num_validations": 4,
        "valid_tokens": 99, "seed": 9, "weight_decay": 0.5,
    }  # fmt: skip
    made = plan(tmp_path, 50_000, **given)
    for name, value in given.items():
        held = made.model_config if hasattr(made.model_config, name) else made.training_config
        assert getattr(held, name) == value


@pytest.mark.parametrize("characters", [1_000, 5_000, 400_000])
@pytest.mark.parametrize("replicas", [1, 2, 3, 8])
def test_the_plan_is_one_that_so_many_replicas_can_follow(tmp_path: Path, replicas: int, characters: int) -> None:
    for shares in (Shares(replicas), Shares(replicas, replicas), Shares(replicas, replicas, replicas)):
        made = plan(tmp_path, characters, shares=shares)
        training = made.training_config
        require_shares(training.batch_size, replicas)
        assert training.batch_size >= max(4, replicas)
        assert training.batch_size < plan(tmp_path, characters).training_config.batch_size + replicas
        assert training.num_streams * training.sequence_length <= made.estimates.tokens
        assert made.estimates.memory_bytes > 0
    alone, here, apart = (plan(tmp_path, characters, shares=shares) for shares in (None, Shares(8, 8), Shares(8, 8, 8)))
    memory = [each.estimates.memory_bytes for each in (here, apart, alone)]
    assert memory[0] > 4 * memory[1] > 2 * memory[2]  # each process has a TensorFlow


@pytest.mark.parametrize(("replicas", "near"), [(3, "Give 3 or 6"), (8, "Give 8")])
def test_a_batch_size_that_replicas_cannot_share_is_refused_by_name(tmp_path: Path, replicas: int, near: str) -> None:
    with pytest.raises(ConfigError, match=f"batch_size must be a multiple of {replicas}, .* Received: 5. {near},"):
        plan(tmp_path, 50_000, shares=Shares(replicas), batch_size=5)
    assert plan(tmp_path, 50_000, shares=Shares(replicas), batch_size=24).training_config.batch_size == 24


def test_a_batch_smaller_than_the_number_of_processes_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch_size must be a multiple of 4, .* Received: 2\."):
        plan(tmp_path, 50_000, shares=Shares(4, 4), batch_size=2)


def test_a_text_that_is_too_short_for_the_replicas_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"batch_size is at least 300, the number of replicas\."):
        plan(tmp_path, 1_000, shares=Shares(300))


def large(tmp_path: Path, megabytes: float, minutes: float | None, **settings: Any) -> Plan:
    """The plan for a long text."""
    long = corpus_of(tmp_path, round(1e6 * megabytes), "The miller told the fox about the river.\n")
    return make_plan(long, {"minutes": minutes, **settings}, hardware=Hardware(3e11))


def test_with_the_full_softmax_a_text_that_cannot_be_read_in_time_gets_a_smaller_vocabulary(tmp_path: Path) -> None:
    """75 MB in 20 minutes: a vocabulary of 32,000 would leave time for a sixth of the text."""
    made = large(tmp_path, 75, 20, sampled_softmax=0)
    model = made.model_config
    assert 2000 <= model.vocab_size < 9000
    assert made.tokenizer_config.vocab_size == model.vocab_size
    assert model.vocab_size * model.embedding_dim < 1.3 * 4 * model.hidden_units**2 * 2 * model.num_layers
    own, wide = (large(tmp_path, 75, 20, vocab_size=size, sampled_softmax=0) for size in (model.vocab_size, 32_000))
    read = [each.estimates.epochs * 75e6 for each in (own, wide)]
    assert read[0] > 2 * read[1]


def test_with_a_sampled_softmax_the_vocabulary_is_that_of_four_times_the_text_that_is_read(tmp_path: Path) -> None:
    assert large(tmp_path, 75, 20).model_config.vocab_size == 32_000
    made = large(tmp_path, 75, 0.5)
    assert made.training_config.sampled_softmax > 0
    read = made.estimates.epochs * made.facts.stats.characters
    assert made.model_config.vocab_size == pytest.approx(5 * math.sqrt(4 * read), rel=0.1)
    assert made.model_config.vocab_size < 32_000
    all_of_them = large(tmp_path, 75, 20, sampled_softmax=40_000)  # no more than the full softmax has
    assert all_of_them.model_config.vocab_size == large(tmp_path, 75, 20, sampled_softmax=0).model_config.vocab_size


@pytest.mark.parametrize("softmax", [{}, {"sampled_softmax": 0}], ids=["sampled", "full"])
def test_the_vocabulary_grows_with_the_time_to_read_it_up_to_what_the_text_supports(
    tmp_path: Path, softmax: dict[str, int]
) -> None:
    sizes = [large(tmp_path, 75, minutes, **softmax).model_config.vocab_size for minutes in (0.2, 1, 20, 120, 100_000)]
    assert all(size <= next_size for size, next_size in pairwise(sizes))
    assert sizes[0] < sizes[-1]
    patient = large(tmp_path, 75, 100_000, **softmax)
    assert patient.tokenizer_config.vocab_size is None
    assert patient.model_config.vocab_size == 32_000
    assert patient.estimates.epochs > 1


def test_a_vocabulary_does_not_shrink_where_passes_or_steps_end_the_run(tmp_path: Path) -> None:
    """Smaller tokens are faster, but read no more text then."""

    def size(minutes: float | None, **settings: Any) -> int:
        return large(tmp_path, 75, minutes, sampled_softmax=0, **settings).model_config.vocab_size

    assert size(None, epochs=0.9) == size(None, epochs=1.0) == size(None, steps=3000) == 32_000
    assert size(100_000, epochs=0.9) == size(100_000, steps=3000) == 32_000
    assert size(20) == size(20, steps=10**9) <= size(20, epochs=0.9) < 9000
    assert size(None) < 9000  # a run without a budget ends in time


@pytest.mark.parametrize("settings", [{"vocab_size": 20_000}, {"tokenizer": "char"}, {"tokenizer": "word"}])
def test_a_vocabulary_that_is_given_or_has_one_size_stays(tmp_path: Path, settings: dict[str, Any]) -> None:
    made = large(tmp_path, 75, 1, **settings)
    assert made.tokenizer_config.vocab_size == settings.get("vocab_size")
    assert large(tmp_path, 75, 1000, **settings).model_config.vocab_size == made.model_config.vocab_size


def test_larger_vocabularies_make_fewer_tokens(tmp_path: Path) -> None:
    tokens = [plan(tmp_path, 50_000, vocab_size=size).estimates.tokens for size in (500, 1000, 1500, 4000, 64_000)]
    assert tokens[0] == tokens[1] > tokens[2] > tokens[3] > tokens[4]
    assert 50_000 / tokens[1] == pytest.approx(2.48 / 0.9, rel=0.01)


def test_the_softmax_of_a_large_vocabulary_is_sampled_if_time_is_short(tmp_path: Path) -> None:
    def sampled(**settings: Any) -> int:
        return large(tmp_path, 10, **({"minutes": 4, "vocab_size": 12_000} | settings)).training_config.sampled_softmax

    assert sampled() == 1024
    assert sampled(minutes=None) == 1024
    assert sampled(epochs=20) == 1024
    assert sampled(minutes=300) == 0
    assert sampled(minutes=None, epochs=0.5) == 0
    assert sampled(epochs=0.5) == 0
    assert sampled(steps=100) == 0
    assert sampled(vocab_size=3999) == 0
    assert sampled(sampled_softmax=0) == 0
    assert sampled(label_smoothing=0.1) == 0
    assert sampled(vocab_size=3999, sampled_softmax=300) == 300


def test_a_sampled_softmax_makes_training_faster_so_that_a_larger_network_pays(tmp_path: Path) -> None:
    def made(**settings: Any) -> Plan:
        return plan(tmp_path, 50_000, preset="tiny", vocab_size=12_000, **settings)

    def speed(**settings: Any) -> float:
        return made(**settings).estimates.tokens_per_second

    full = speed(minutes=5, sampled_softmax=0)
    fast = speed(minutes=5, sampled_softmax=1024, full_softmax_fraction=0.0)
    assert fast > 2 * full
    of_time, of_text = (speed(sampled_softmax=1024, **length) for length in ({"minutes": 5}, {"epochs": 2}))
    assert of_time == pytest.approx(0.25 * full + 0.75 * fast)
    assert of_text == pytest.approx(1 / (0.25 / full + 0.75 / fast))
    assert speed(minutes=5, sampled_softmax=1024, full_softmax_fraction=1.0) == pytest.approx(full)
    widths = []
    for minutes in (1, 4, 15, 60, 240):
        plans = [large(tmp_path, 10, minutes, vocab_size=16_000, sampled_softmax=size) for size in (0, 1024)]
        widths.append([plan.model_config.hidden_units for plan in plans])
    assert all(width <= other for width, other in widths)
    assert any(width < other for width, other in widths)
    assert any(width == other for width, other in widths)


def test_a_network_fits_into_the_memory(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, 5_000_000)
    widths = []
    for memory in (900_000_000, 1_600_000_000, 64_000_000_000):
        made = make_plan(corpus, {"minutes": 600.0}, hardware=Hardware(LAPTOP, memory=memory))
        widths.append(made.model_config.hidden_units)
        assert made.estimates.has_room == (made.estimates.memory_bytes <= memory)
    assert widths[0] < widths[1] < widths[2]
    given = make_plan(corpus, {"hidden_units": 4096}, hardware=Hardware(LAPTOP, memory=2_000_000_000))
    assert not given.estimates.has_room
    assert given.model_config.hidden_units == 4096


def test_a_network_fits_into_the_memory_of_a_gpu(tmp_path: Path) -> None:
    """Of each GPU, which computes its rows of a batch; that of the machine does not matter then."""
    corpus, widths = corpus_of(tmp_path, 5_000_000), []
    for gpu_memory in (900_000_000, 1_600_000_000, 64_000_000_000):
        hardware = Hardware(LAPTOP, memory=900_000_000, on_gpu=True, gpu_memory=gpu_memory)
        made = make_plan(corpus, {"minutes": 600.0, "precision": "float32"}, hardware=hardware)
        widths.append(made.model_config.hidden_units)
        assert made.estimates.memory_there == gpu_memory
        assert made.estimates.has_room == (made.estimates.memory_bytes <= gpu_memory)
    assert widths[0] < widths[1] < widths[2]
    for replicas in (1, 4):
        hardware = Hardware(LAPTOP, Shares(replicas), on_gpu=True, gpu_memory=64_000_000_000)
        made = make_plan(corpus, {"batch_size": 128}, preset="small", hardware=hardware)
        alone = replace(made.training_config, batch_size=128 // replicas)
        assert made.estimates.memory_bytes == training_memory(made.model_config, alone)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_speed_of_float16_is_that_of_the_device(tmp_path: Path, on_gpu: bool) -> None:
    """float16 is what a run has by itself on a GPU without bfloat16."""
    corpus = corpus_of(tmp_path, 100_000)
    speeds = [
        make_plan(
            corpus, {"precision": precision, "batch_size": 32}, preset="tiny", hardware=Hardware(LAPTOP, on_gpu=on_gpu)
        ).estimates
        for precision in ("float16", "float32")
    ]
    assert (speeds[0].tokens_per_second > speeds[1].tokens_per_second) is on_gpu
    assert (speeds[0].scoring_speed > speeds[1].scoring_speed) is on_gpu


@pytest.mark.parametrize(
    ("minutes", "validations", "patience"),
    [(0.2, 2, 5), (0.5, 3, 5), (1.0, 6, 5), (5.0, 10, 5), (30.0, 10, 5), (100.0, 20, 10), (600.0, 120, 60)],
)
def test_validations_follow_the_time(tmp_path: Path, minutes: float, validations: int, patience: int) -> None:
    training = plan(tmp_path, 5_000_000, minutes=minutes, epochs=1e9).training_config
    assert (training.num_validations, training.patience) == (validations, patience)
    given = plan(tmp_path, 5_000_000, minutes=minutes, num_validations=7).training_config
    assert (given.num_validations, given.patience) == (7, 5)
    assert plan(tmp_path, 5_000_000, minutes=minutes, num_validations=100).training_config.patience == 50
    assert plan(tmp_path, 5_000_000, minutes=minutes, patience=3).training_config.patience == 3


@pytest.mark.parametrize(("epochs", "validations"), [(1, 2), (4.1, 3), (7, 4), (30, 10), (100, 10)])
def test_many_passes_over_a_short_text_are_looked_at_often(tmp_path: Path, epochs: float, validations: int) -> None:
    """However short the run is: its best weights come before it has learned the text by heart."""
    training = plan(tmp_path, 1_000, preset="tiny", epochs=epochs).training_config
    assert training.num_validations == validations


@pytest.mark.parametrize("settings", [{"schedule": "plateau"}, {"weight_averaging": "last-k"}, {"optimizer": "asgd"}])
def test_what_counts_validations_gets_enough_of_them(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert plan(tmp_path, 5_000_000, minutes=0.2, **settings).training_config.num_validations == 10


@pytest.mark.parametrize("minutes", [0.5, 5.0, 60.0])
@pytest.mark.parametrize("sampled", [0, 1024])
def test_validations_together_take_a_thirtieth_of_the_time(tmp_path: Path, minutes: float, sampled: int) -> None:
    """A sampled softmax makes training faster, but not validations."""
    made = plan(tmp_path, 50_000_000, minutes=minutes, preset="small", sampled_softmax=sampled)
    training, seconds = made.training_config, made.estimates.training_seconds
    scored = training.num_validations * training.valid_tokens
    speed = scoring_speed(made.model_config, LAPTOP, training.precision)
    assert scored <= max(seconds / 30 * speed, 4096 * training.num_validations)
    assert scored == 200_000 * training.num_validations or scored > 0.9 * seconds / 30 * speed


@pytest.mark.parametrize("preset", list(SIZES))
def test_presets(tmp_path: Path, preset: str) -> None:
    made = plan(tmp_path, 50_000, preset=preset)
    assert made.preset == preset
    assert all(getattr(made.model_config, name) == value for name, value in SIZES[preset].items())


def test_streams_are_long_enough_for_some_windows_each(tmp_path: Path) -> None:
    for size in (5_000, 50_000, 500_000):
        made = plan(tmp_path, size)
        assert made.estimates.tokens / made.training_config.batch_size > made.training_config.sequence_length
        assert made.training_config.batch_size >= 4


def test_the_length_of_the_run_is_settled(tmp_path: Path) -> None:
    lengths: list[dict[str, Any]] = [{}, {"steps": 10}, {"epochs": 2.0}]
    for settings in lengths:
        training = plan(tmp_path, 50_000, **settings).training_config
        assert sum(value is not None for value in (training.epochs, training.steps, training.minutes)) == 1
    assert plan(tmp_path, 5_000_000, minutes=3.0).estimates.seconds == 180


def test_minutes_on_a_short_text_end_before_it_is_learned_by_heart(tmp_path: Path) -> None:
    made = plan(tmp_path, 50_000, minutes=600.0)
    assert made.training_config.minutes == 600.0
    assert made.estimates.epochs == pytest.approx(30.0)
    assert plan(tmp_path, 50_000, minutes=600.0, epochs=90.0).estimates.epochs == pytest.approx(90.0)


@pytest.mark.parametrize("optimizer", ["sgd", "asgd", "rmsprop"])
def test_momentum_lowers_the_learning_rate(tmp_path: Path, optimizer: str) -> None:
    without, some = (plan(tmp_path, 50_000, optimizer=optimizer, momentum=m).training_config for m in (0.0, 0.9))
    assert some.learning_rate == pytest.approx(0.1 * without.learning_rate)


@pytest.mark.parametrize("optimizer", [None, "adam", "adamw", "lamb"])
def test_momentum_is_refused_for_optimizers_that_have_none(tmp_path: Path, optimizer: str | None) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer} if optimizer else {}
    with pytest.raises(
        ConfigError,
        match=f"The optimizer {optimizer or 'adamw'} has no momentum: set momentum to 0, .* sgd, asgd, rmsp",
    ):
        plan(tmp_path, 50_000, momentum=0.9, **settings)
    assert plan(tmp_path, 50_000, momentum=0.0, **settings).training_config.momentum == 0.0


def test_short_texts_get_small_batches_and_many_passes_more_weight_decay(tmp_path: Path) -> None:
    configs = [
        plan(tmp_path, size, epochs=epochs).training_config for size, epochs in ((50_000, 40.0), (5_000_000, 1.0))
    ]
    assert configs[0].batch_size < configs[1].batch_size == 32
    assert configs[0].weight_decay == pytest.approx(0.3)
    assert configs[1].weight_decay == pytest.approx(0.02)


def test_the_parameter_count_and_the_memory_follow_the_sizes() -> None:
    model = ModelConfig(vocab_size=1000, embedding_dim=10, hidden_units=20, num_layers=2)
    layers = 4 * 20 * (10 + 20 + 1) + 4 * 20 * (20 + 20 + 1)
    assert model.num_parameters == 1000 * 10 + layers + (20 * 10 + 10) + 1000
    small, large = (TrainingConfig(batch_size=size, precision="float32") for size in (8, 64))
    assert training_memory(model, small) < training_memory(model, large)
    assert training_memory(model, large) < training_memory(model, large, shards=2)
    assert training_memory(model, replace(large, precision="bfloat16")) < training_memory(model, large)
    many = replace(model, vocab_size=64_000)
    more = [training_memory(each, large) - training_memory(each, small) for each in (model, many)]
    assert more[1] < more[0] + 4 * large.sequence_length * (large.batch_size - small.batch_size) * 64_000
    looking = replace(model, attention=1000)
    assert training_memory(model, small) < training_memory(looking, small)
    assert tokens_per_second(looking, 1e11, "float32") < tokens_per_second(model, 1e11, "float32")
    wide = ModelConfig(vocab_size=8000, embedding_dim=1024, hidden_units=1024)
    doubled = tokens_per_second(wide, 2e11, "float32") / tokens_per_second(wide, 1e11, "float32")
    assert doubled == pytest.approx(2, rel=0.01)
    assert tokens_per_second(model, 1e11, "float32", 512) < tokens_per_second(model, 1e11, "float32", 4096)
    assert math.isfinite(tokens_per_second(model, 1e9, "float32"))


@pytest.mark.parametrize("best", ["float32", "bfloat16", "float16"])
def test_the_precision_is_what_the_machine_is_best_at_or_what_was_asked_for(
    best: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textgen.training.planning.basis.best_precision", lambda: best)
    assert plan(tmp_path, 50_000).training_config.precision == best
    assert plan(tmp_path, 50_000, precision="auto").training_config.precision == best
    assert plan(tmp_path, 50_000, precision="float32").training_config.precision == "float32"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence_length", 0), ("precision", "fp16"), ("valid_fraction", "0.1"), ("hidden_units", "512"),
        ("num_layers", 2.5), ("minutes", "ten"), ("momentum", "much"),
    ],
)  # fmt: skip
def test_settings_are_checked_before_they_are_counted_with(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        plan(tmp_path, 50_000, **{name: value})


def test_of_a_large_corpus_a_smaller_share_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(tmp_path, 50_000).training_config.valid_fraction == 0.1
    monkeypatch.setattr("textgen.dataset.split.VALID_BYTES", 1000)
    made = plan(tmp_path, 50_000)
    assert made.training_config.valid_fraction == pytest.approx(0.02)
    assert plan(tmp_path, 50_000, valid_fraction=0.3).training_config.valid_fraction == 0.3


def test_too_little_text_and_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="too few to learn from"):
        plan(tmp_path, 500)
    with pytest.raises(ConfigError, match="no setting 'hiden_units'"):
        plan(tmp_path, 50_000, hiden_units=3)
    with pytest.raises(ConfigError, match="no preset 'huge'"):
        plan(tmp_path, 50_000, preset="huge")


def test_settings_that_do_nothing_with_this_text_or_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learns no labels from this text, so label_dropout does nothing"):
        plan(tmp_path, 50_000, label_dropout=0.3)
    one_layer: dict[str, Any] = {"num_layers": 1, "embedding_dim": 24, "residual": True}
    with pytest.raises(ConfigError, match="turns 24 values into 32, so residual does nothing"):
        plan(tmp_path, 50_000, hidden_units=32, **one_layer)
    assert plan(tmp_path, 50_000, hidden_units=24, **one_layer).model_config.residual
    assert plan(tmp_path, 50_000, hidden_units=32, **one_layer | {"num_layers": 2}).model_config.residual


def test_vocabularies_with_one_way_to_cut_are_refused(text: Path) -> None:
    with pytest.raises(ConfigError, match=r"subword_alpha needs .*: char has one way"):
        plan_for(text, subword_alpha=0.1)


def test_a_batch_larger_than_the_corpus_is_refused(text: Path) -> None:
    with pytest.raises(CorpusError, match="less than one batch"):
        plan_for(text, batch_size=512)


@pytest.mark.parametrize("settings", [{"decay_target": "start"}, {"interpolate_start": True}])
def test_settings_that_need_a_base_are_refused_without_one(text: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}.* needs a model to start from"):
        plan_for(text, **settings)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (["lstm_2"], "There is no layer 'lstm_2' to freeze. There are: embedding, lstm_0, lstm_1, projection, head."),
        (["embedding", "lstm_0", "lstm_1", "projection", "head"], "nothing is left to train"),
    ],
)
def test_layers_that_cannot_be_frozen_are_named(text: Path, freeze: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_for(text, num_layers=2, freeze_layers=freeze)
    assert message in str(caught.value)
