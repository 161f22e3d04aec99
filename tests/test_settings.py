"""Settings: their limits, and the ways there and back."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.corpus.config import DOCUMENT_MODES, NEWLINES, CorpusConfig
from textgen.dataset.config import SplitConfig
from textgen.errors import ConfigError
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.generation.config import (
    MAX_LOOK_BACK,
    SAMPLERS,
    UNITS,
    RuntimeConfig,
    SamplingConfig,
    SearchConfig,
    parse_bias,
    sampler_names,
)
from textgen.insight.config import InspectConfig
from textgen.model.config import (
    ACTIVATIONS,
    CELLS,
    DIRECTIONS,
    MAX_ATTENTION,
    MAX_LAYERS,
    MAX_ROUNDS,
    MAX_UNITS,
    ModelConfig,
)
from textgen.server.config import ServerConfig
from textgen.settings import (
    MAX_LISTED,
    UNLIMITED,
    Settings,
    check_values,
    declared,
    from_dict,
    json_schema,
    read_toml,
    refuse_unknown,
    select,
    to_dict,
)
from textgen.tokenizer.config import MAX_VOCAB_SIZE, TOKENIZERS, TokenizerConfig
from textgen.training.config import (
    AVERAGES,
    DECAY_TARGETS,
    INITIALIZERS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    TrainingConfig,
    TuningConfig,
)

NUMBERS: list[tuple[Any, type[Any]]] = [(np.int64(3), int), (np.uint8(3), int), (3, int), (Fraction(3), float)]


@pytest.mark.parametrize(("number", "kind"), [*NUMBERS, (np.float32(3), float), (np.float64(3), float)])
def test_numbers_of_other_libraries_become_those_of_python(number: Any, kind: type[Any]) -> None:
    name = "top_k" if kind is int else "temperature"
    for config in (SamplingConfig(**{name: number}), from_dict(SamplingConfig, {name: number})):
        assert type(getattr(config, name)) is kind
        assert json.loads(json.dumps(to_dict(config)))[name] == 3


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_of_numpy_becomes_that_of_python(value: bool) -> None:
    for config in (SamplingConfig(heal=np.bool_(value)), from_dict(SamplingConfig, {"heal": np.bool_(value)})):  # type: ignore[arg-type]
        assert config.heal is value


def test_a_bool_is_no_number() -> None:
    assert SamplingConfig(heal=False).heal is False
    for setting in ({"heal": np.int64(1)}, {"top_k": True}, {"top_k": np.True_}, {"top_k": np.float64(3.0)}):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            SamplingConfig(**setting)


DEFAULTS: list[Any] = [CorpusConfig(), TokenizerConfig(), ModelConfig(100), TrainingConfig(), SamplingConfig()]
DEFAULTS += [SearchConfig(num_beams=1 << 10), NeuralCacheConfig(), DynamicConfig(), TuningConfig()]
BASE: dict[type[Any], Any] = {type(config): config for config in DEFAULTS}
BASE[TrainingConfig] = TrainingConfig(optimizer="sgd")  # which has a momentum

LIMITS: list[tuple[type[Any], str, float, float]] = [  # the least and the most that are allowed
    (TokenizerConfig, "vocab_size", 4, MAX_VOCAB_SIZE),
    (TokenizerConfig, "sample_bytes", 1, 1 << 62),
    (ModelConfig, "vocab_size", 4, MAX_VOCAB_SIZE),
    (ModelConfig, "embedding_dim", 1, MAX_UNITS),
    (ModelConfig, "hidden_units", 1, MAX_UNITS),
    (ModelConfig, "num_layers", 1, MAX_LAYERS),
    (ModelConfig, "dropout", 0.0, 0.95),
    (ModelConfig, "embedding_dropout", 0.0, 0.95),
    (ModelConfig, "word_dropout", 0.0, 0.95),
    (ModelConfig, "weight_drop", 0.0, 0.95),
    (ModelConfig, "mogrifier_rounds", 1, MAX_ROUNDS),
    (ModelConfig, "mogrifier_rank", 1, MAX_UNITS),
    (ModelConfig, "attention", 0, MAX_ATTENTION),
    (TrainingConfig, "batch_size", 1, 65_536),
    (TrainingConfig, "gradient_accumulation_steps", 1, 4096),
    (TrainingConfig, "sequence_length", 1, 65_536),
    (TrainingConfig, "random_bptt", 0.0, 1.0),
    (TrainingConfig, "forget_bias", -100.0, 100.0),
    (TrainingConfig, "learning_rate", 0.0, 1000.0),
    (TrainingConfig, "warmup_fraction", 0.0, 1.0),
    (TrainingConfig, "hold_fraction", 0.0, 1.0),
    (TrainingConfig, "final_learning_rate_fraction", 0.0, 1.0),
    (TrainingConfig, "num_decays", 1, 1 << 20),
    (TrainingConfig, "decay_factor", 0.0, 1.0),
    (TrainingConfig, "plateau_patience", 0, 1 << 20),
    (TrainingConfig, "num_cycles", 1, 1 << 20),
    (TrainingConfig, "momentum", 0.0, 0.999999),
    (TrainingConfig, "beta_1", 0.0, 0.999999),
    (TrainingConfig, "beta_2", 0.0, 0.999999),
    (TrainingConfig, "epsilon", 1e-16, 1.0),
    (TrainingConfig, "ema_decay", 0.0, 0.9999999),
    (TrainingConfig, "num_averaged", 1, 1 << 10),
    (TrainingConfig, "nonmonotone_interval", 1, 1 << 10),
    (TrainingConfig, "weight_decay", 0.0, 1000.0),
    (TrainingConfig, "activation_penalty", 0.0, 1000.0),
    (TrainingConfig, "temporal_penalty", 0.0, 1000.0),
    (TrainingConfig, "subword_alpha", 0.0, 1.0),
    (TrainingConfig, "label_smoothing", 0.0, 0.95),
    (TrainingConfig, "sampled_softmax", 0, 1 << 20),
    (TrainingConfig, "full_softmax_fraction", 0.0, 1.0),
    (TrainingConfig, "layer_learning_rate_decay", 0.0, 1.0),
    (TokenizerConfig, "character_coverage", 0.98, 1.0),
    (TrainingConfig, "label_dropout", 0.0, 1.0),
    (TrainingConfig, "clip_norm", 1e-12, UNLIMITED),
    (TrainingConfig, "clip_value", 1e-12, UNLIMITED),
    (TrainingConfig, "epochs", 1e-9, 1e12),
    (TrainingConfig, "steps", 1, 10**12),
    (TrainingConfig, "minutes", 1e-9, 1e12),
    (TrainingConfig, "num_validations", 1, 1 << 20),
    (TrainingConfig, "valid_tokens", 1, 1 << 40),
    (TrainingConfig, "patience", 1, 1 << 20),
    (TrainingConfig, "valid_fraction", 1e-6, 0.5),
    (TrainingConfig, "checkpoint_minutes", 0.0, UNLIMITED),
    (TrainingConfig, "keep_checkpoints", 1, 1 << 20),
    (TrainingConfig, "max_rollbacks", 0, 1 << 20),
    (TrainingConfig, "seed", 0, (1 << 63) - 1),
    (NeuralCacheConfig, "neural_cache_window", 1, MAX_LOOK_BACK),
    (NeuralCacheConfig, "neural_cache_theta", 0.0, 100.0),
    (NeuralCacheConfig, "neural_cache_lambda", 0.0, 0.999),
    (DynamicConfig, "dynamic_learning_rate", 0.0, 1e3),
    (DynamicConfig, "dynamic_decay", 0.0, 1.0),
    (DynamicConfig, "dynamic_window", 1, 1 << 16),
    (DynamicConfig, "dynamic_clip_norm", 1e-12, UNLIMITED),
    (TuningConfig, "steps", 1, 1 << 40),
    (TuningConfig, "learning_rate", 0.0, 1e3),
    (TuningConfig, "seed", 0, (1 << 63) - 1),
    (SamplingConfig, "temperature", 0.0, 100.0),
    (SamplingConfig, "top_k", 0, MAX_VOCAB_SIZE),
    (SamplingConfig, "top_p", 0.0, 1.0),
    (SamplingConfig, "min_p", 0.0, 1.0),
    (SamplingConfig, "max_tokens", 1, 1 << 62),
    (SamplingConfig, "seed", 0, (1 << 63) - 1),
    (SamplingConfig, "dynatemp_range", 0.0, 100.0),
    (SamplingConfig, "dynatemp_exponent", 0.0, 100.0),
    (SamplingConfig, "typical_p", 0.0, 1.0),
    (SamplingConfig, "top_n_sigma", 0.0, 1e3),
    (SamplingConfig, "epsilon_cutoff", 0.0, 1.0),
    (SamplingConfig, "eta_cutoff", 0.0, 1.0),
    (SamplingConfig, "xtc_probability", 0.0, 1.0),
    (SamplingConfig, "xtc_threshold", 0.0, 1.0),
    (SamplingConfig, "mirostat", 0, 2),
    (SamplingConfig, "mirostat_tau", 0.0, 100.0),
    (SamplingConfig, "mirostat_eta", 0.0, 1.0),
    (SamplingConfig, "repeat_penalty", 0.01, 100.0),
    (SamplingConfig, "presence_penalty", -100.0, 100.0),
    (SamplingConfig, "frequency_penalty", -100.0, 100.0),
    (SamplingConfig, "repeat_last_n", 0, MAX_LOOK_BACK),
    (SamplingConfig, "dry_multiplier", 0.0, 100.0),
    (SamplingConfig, "dry_base", 1.0, 100.0),
    (SamplingConfig, "dry_allowed_length", 1, MAX_LOOK_BACK - 1),
    (SamplingConfig, "dry_penalty_last_n", 0, MAX_LOOK_BACK),
    (SamplingConfig, "no_repeat_ngram_size", 0, MAX_LOOK_BACK),
    (SamplingConfig, "min_tokens", 0, SamplingConfig.max_tokens),
    (SamplingConfig, "no_copy", 1, 1 << 62),
    (SamplingConfig, "max_seconds", 0.0, 1e9),
    (SamplingConfig, "top_logprobs", 0, MAX_VOCAB_SIZE),
    (SearchConfig, "num_beams", 1, 1 << 10),
    (SearchConfig, "num_beam_groups", 1, 1 << 10),
    (SearchConfig, "diversity_penalty", 0.0, 1e3),
    (SearchConfig, "length_penalty", -10.0, 10.0),
]
CHOICES: list[tuple[type[Any], str, tuple[str, ...]]] = [
    (CorpusConfig, "documents", DOCUMENT_MODES),
    (CorpusConfig, "newlines", NEWLINES),
    (TokenizerConfig, "tokenizer", TOKENIZERS),
    (TrainingConfig, "decay_target", DECAY_TARGETS),
    (ModelConfig, "cell", tuple(CELLS)),
    (ModelConfig, "activation", ACTIVATIONS),
    (ModelConfig, "direction", DIRECTIONS),
    (TrainingConfig, "recurrent_initializer", INITIALIZERS),
    (TrainingConfig, "schedule", SCHEDULES),
    (TrainingConfig, "precision", PRECISIONS),
    (TrainingConfig, "optimizer", OPTIMIZERS),
    (TrainingConfig, "weight_averaging", AVERAGES),
    (SamplingConfig, "until", UNITS),
]


def beyond(limit: float, direction: int) -> float:
    return limit + direction if isinstance(limit, int) else math.nextafter(limit, direction * math.inf)


@pytest.mark.parametrize(("kind", "name", "low", "high"), LIMITS, ids=lambda value: getattr(value, "__name__", value))
def test_a_number_is_within_its_limits(kind: type[Any], name: str, low: float, high: float) -> None:
    config = BASE[kind]
    allowed: list[Any] = [low, high if high < math.inf else 1 << 70]
    for value in allowed:
        assert getattr(replace(config, **{name: value}), name) == value
    wrong: list[Any] = [beyond(low, -1), -101, -math.inf, math.inf, math.nan, True, False, "1", [1], ()]
    wrong += [beyond(high, 1)] if high < math.inf else []
    for value in wrong:
        if name == "min_tokens" and value == beyond(high, 1):
            continue  # it is more than max_tokens, and that is said
        with pytest.raises(ConfigError, match=rf"^{name} must be a number .*\. Received: ") as caught:
            replace(config, **{name: value})
        assert repr(value) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "limits"), [(0, "of at least 1"), (-5, "of at least 1"), (1 << 70, "from 1 to 4,611,686,018,427,387,904")]
)
def test_the_largest_count_is_named_only_for_a_larger_one(value: int, limits: str) -> None:
    with pytest.raises(ConfigError, match=rf"^max_tokens must be a number {limits}\. Received: {value}\.$"):
        SamplingConfig(max_tokens=value)


def test_a_limit_that_is_infinite_is_refused_with_how_to_have_none() -> None:
    """JSON holds no infinity, so training.json could not, and a run would end with a folder that nothing can read."""
    with pytest.raises(ConfigError, match=r"Received: inf\. Without a limit, give a large number, such as 1e\+30\.$"):
        TrainingConfig(clip_norm=math.inf)
    with pytest.raises(ConfigError, match=r"^clip_norm .* Received: nan\.$"):
        TrainingConfig(clip_norm=math.nan)
    for kind in BASE:
        for name, (annotation, facts) in declared(kind).items():
            assert "float" not in annotation or facts.high is not None, f"{name} may be infinite"


def test_every_number_has_a_limit_and_every_choice_is_checked() -> None:
    checked = {(kind, name) for kind, name, *_ in [*LIMITS, *CHOICES]}
    free = {
        "encoding",
        "text_field",
        "text_column",
        "labels",
        "label",
        "tie_embeddings",
        "reset_after",
        "residual",
        "layer_norm",
        "carry_state",
        "dynamic_rms",
        "interpolate_start",
        "coin_words",
    }
    free |= {"delimiter", "no_header", "strict"}  # the first is checked where tables are read
    free |= {"freeze_layers", "stop", "samplers", "dry_sequence_breakers", "logit_bias", "ban", "require", "heal"}
    for kind in BASE:
        assert {field.name for field in fields(kind) if (kind, field.name) not in checked} <= free


@pytest.mark.parametrize(("kind", "name", "choices"), CHOICES, ids=lambda value: getattr(value, "__name__", None))
def test_a_choice_is_one_of_its_choices(kind: type[Any], name: str, choices: tuple[str, ...]) -> None:
    for choice in choices:
        assert getattr(replace(BASE[kind], **{name: choice}), name) == choice
    for wrong in ("", choices[0].upper(), "else", 1):
        named = ", ".join([*choices, *(["separator:TEXT"] if name == "documents" else [])])
        with pytest.raises(ConfigError, match=f"^{name} must be one of {named}. Received: {wrong!r}"):
            replace(BASE[kind], **{name: wrong})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SamplingConfig, {"stop": "END"}),
        (SamplingConfig, {"stop": (1,)}),
        (SamplingConfig, {"seed": 1.0}),
        (ModelConfig, {"vocab_size": 10.5}),
        (ModelConfig, {"vocab_size": 10, "tie_embeddings": 1}),
        (TrainingConfig, {"batch_size": 10.5}),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{list(values)[-1]} must be"):
        kind(**values)
    with pytest.raises(ConfigError, match=f"{list(values)[-1]} must be"):
        from_dict(kind, values)


@pytest.mark.parametrize("name", ["stop", "ban", "require", "dry_sequence_breakers"])
def test_an_empty_text_is_refused(name: str) -> None:
    assert getattr(SamplingConfig(**{name: ("\n", "the end")}), name) == ("\n", "the end")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"^{name} must not contain an empty text"):
        SamplingConfig(**{name: ("\n", "")})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_tokens": 20, "max_tokens": 19}, r"min_tokens \(20\) is more than max_tokens \(19\)"),
        ({"require": ("the cat",), "ban": ("dog", "cat")}, "must not contain a banned text: 'the cat' contains 'cat'"),
        (
            {"require": ("a dragon",), "stop": ("x", "rag")},
            "^require must not contain a text of stop, before which the text ends: 'a dragon' contains 'rag'",
        ),
        (
            {"require": ("b", "a\nb"), "until": "line"},
            r"^require must not go on after the end of a line, where the setting until ends the text: 'a\\nb' does",
        ),
        ({"require": ("a\n\nb",), "until": "paragraph"}, "after the end of a paragraph"),
        ({"require": ("He left. She",), "until": "sentence"}, "after the end of a sentence"),
        ({"samplers": "top_k;topp"}, "no sampler 'topp'. There are: 'penalties', 'dry', .*, 'temperature'"),
        ({"samplers": "top_k;min_p,top-k"}, "must not name 'top_k' twice"),
        ({"logit_bias": ("the",)}, "logit_bias must be TEXT=NUMBER or #ID=NUMBER"),
        ({"logit_bias": ("=1",)}, "Received: '=1'"),
        ({"logit_bias": ("the=much",)}, "Received: 'the=much'"),
        ({"logit_bias": ("the=nan",)}, "Received: 'the=nan'"),
        ({"logit_bias": ("the=-101",)}, "from -100 to 100"),
    ],
    ids=str,
)
def test_settings_that_contradict_or_cannot_be_read(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        SamplingConfig(**values)
    assert "\n" not in str(caught.value)


def test_groups_of_beams_are_of_one_size() -> None:
    assert SearchConfig(num_beams=6, num_beam_groups=3).num_beams == 6
    with pytest.raises(ConfigError, match=r"num_beams \(6\) must be a multiple of num_beam_groups \(4\)"):
        SearchConfig(num_beams=6, num_beam_groups=4)


def test_names_of_samplers() -> None:
    assert sampler_names(SamplingConfig.samplers) == SAMPLERS
    assert sampler_names(" top-k; min_p ,temperature;") == ("top_k", "min_p", "temperature")
    assert sampler_names("") == ()


def test_biases() -> None:
    assert parse_bias(" the=1.5") == (" the", 1.5)
    assert parse_bias("a=b=-2") == ("a=b", -2.0)
    assert parse_bias("#42=-100") == (42, -100.0)
    assert parse_bias("#4 2=1e1") == ("#4 2", 10.0)


# --- There and back ----------------------------------------------------------------------------------------

shares = st.floats(0, 0.95)
configs = st.one_of(
    st.builds(
        CorpusConfig,
        st.none() | st.sampled_from(DOCUMENT_MODES),
        st.text(),
        st.sampled_from(NEWLINES),
        st.text(),
        st.text(),
    ),
    st.builds(
        TokenizerConfig,
        st.sampled_from(TOKENIZERS),
        st.none() | st.integers(4, MAX_VOCAB_SIZE),
        st.integers(1, 1 << 80),
    ),
    st.builds(
        ModelConfig,
        st.integers(4, MAX_VOCAB_SIZE),
        st.integers(1, MAX_UNITS),
        st.integers(1, MAX_UNITS),
        st.integers(1, MAX_LAYERS),
        shares,
        shares,
        st.booleans(),
        st.sampled_from(list(CELLS)),
        mogrifier_rank=st.none() | st.integers(1, MAX_UNITS),
    ),
    st.builds(
        TrainingConfig,
        batch_size=st.integers(1, 1 << 16),
        learning_rate=st.floats(0, 1000) | st.integers(0, 1000),
        schedule=st.sampled_from(SCHEDULES),
        precision=st.sampled_from(PRECISIONS),
        epochs=st.none() | st.floats(1e-9, 1e12),
        patience=st.none() | st.integers(1, 1 << 20),
        seed=st.integers(0, (1 << 63) - 1),
    ),
    st.builds(
        SamplingConfig,
        temperature=st.floats(0, 100),
        stop=st.lists(st.text(min_size=1)).map(tuple),
        seed=st.none() | st.integers(0, (1 << 63) - 1),
    ),
)


@given(configs)
def test_a_config_comes_back_from_json(config: Any) -> None:
    assert from_dict(type(config), to_dict(config)) == config
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize("config", DEFAULTS, ids=lambda config: type(config).__name__)
def test_an_unknown_key_is_named_with_the_known_ones(config: Any) -> None:
    word = type(config).__name__.removesuffix("Config").lower()
    with pytest.raises(ConfigError, match=f"^There is no {word} setting 'sise'. There are: ") as caught:
        from_dict(type(config), to_dict(config) | {"sise": 1})
    assert all(repr(name) in str(caught.value) for name in list(to_dict(config))[:MAX_LISTED])


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^The model setting 'vocab_size' is missing\."):
        from_dict(ModelConfig, {"hidden_units": 8})


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"),
    [
        (ModelConfig, "hidden_units", 1.5, "an integer"),
        (ModelConfig, "hidden_units", "8", "an integer"),
        (ModelConfig, "hidden_units", True, "an integer"),
        (ModelConfig, "hidden_units", None, "an integer"),
        (ModelConfig, "hidden_units", [8], "an integer"),
        (ModelConfig, "dropout", False, "a number"),
        (ModelConfig, "dropout", "0.2", "a number"),
        (ModelConfig, "dropout", {}, "a number"),
        (ModelConfig, "tie_embeddings", 1, "true or false"),
        (ModelConfig, "tie_embeddings", None, "true or false"),
        (TrainingConfig, "steps", 1.5, "an integer or none"),
        (TrainingConfig, "epochs", "1", "a number or none"),
        (CorpusConfig, "newlines", None, "text"),
        (CorpusConfig, "encoding", 8, "text or none"),
        (CorpusConfig, "documents", ["line"], "text or none"),
        (SamplingConfig, "stop", "abc", "a list of texts"),
        (SamplingConfig, "stop", None, "a list of texts"),
    ],
)
def test_a_wrong_type_is_told(kind: type[Any], name: str, value: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(kind, to_dict(BASE[kind]) | {name: value})
    assert str(caught.value) == f"{name} must be {expected}. Received: {value!r}."


def test_whole_numbers_are_numbers() -> None:
    assert from_dict(ModelConfig, {"vocab_size": 100, "dropout": 0}).dropout == 0


LISTS: list[tuple[Callable[..., Any], str, str]] = [  # every setting that is a list, and an item of it
    *[(SamplingConfig, name, "a") for name in ("stop", "ban", "require", "dry_sequence_breakers")],
    (SamplingConfig, "logit_bias", "#5=1"),
    (TrainingConfig, "freeze_layers", "lstm_0"),
    (InspectConfig, "track", "vowel=[aeiou]"),
    (InspectConfig, "cell", "L1/2"),
    (ServerConfig, "allow_origin", "https://example.org"),
    (ServerConfig, "allow_host", "example.org"),
]


@pytest.mark.parametrize(("kind", "name", "item"), LISTS)
def test_a_list_becomes_a_tuple(kind: Callable[..., Any], name: str, item: str) -> None:
    given = [item]
    config = kind(**{name: given})
    given.append(item)
    assert getattr(config, name) == (item,), "it does not change with the list"
    assert {config} == {kind(**{name: (item,)})}
    assert replace(kind(), **{name: [item]}) == config


def test_every_setting_that_is_a_list_is_known() -> None:
    kinds = [*BASE, InspectConfig, RuntimeConfig, ServerConfig, SplitConfig]
    ours = {kind for kind in Settings.__subclasses__() if kind.__module__.endswith(".config")}
    assert ours <= {*kinds}
    lists = {(kind, name) for kind in kinds for name, (type_, _) in declared(kind).items() if "Sequence" in type_}
    assert lists == {(kind, name) for kind, name, _ in LISTS}


def test_select() -> None:
    settings = {"hidden_units": 8, "tokenizer": "char", "seed": 3, "unknown": 1}
    assert select(ModelConfig, settings) == {"hidden_units": 8}
    assert select(TokenizerConfig, settings) == {"tokenizer": "char"}
    assert select(TrainingConfig, settings) == select(SamplingConfig, settings) == {"seed": 3}


# --- TOML --------------------------------------------------------------------------------------------------


def test_toml(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('# mine\nhidden_units = 512\nstop = ["\\n", "月"]\n', encoding="utf-8")
    settings = read_toml(tmp_path / "settings.toml")
    assert settings == {"hidden_units": 512, "stop": ["\n", "月"]}
    with_mark = (tmp_path / "settings.toml").read_bytes().replace(b"\n", b"\r\n")  # as editors on Windows write it
    (tmp_path / "settings.toml").write_bytes(b"\xef\xbb\xbf" + with_mark)
    assert read_toml(tmp_path / "settings.toml") == settings
    assert from_dict(SamplingConfig, select(SamplingConfig, settings)).stop == ("\n", "月")


@pytest.mark.parametrize("data", [b"hidden_units", b"a = 1\na = 2", b"a = '\xff'", b"hidden_units: 512\n"])
def test_toml_that_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "settings.toml").write_bytes(data)
    with pytest.raises(
        ConfigError, match=f"^Cannot read the settings in {tmp_path}/settings.toml: .* Correct the file"
    ) as caught:
        read_toml(tmp_path / "settings.toml")
    assert "\n" not in str(caught.value)


def test_toml_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(ConfigError, match=f"^Cannot read the settings in {path}: "):
            read_toml(path)


# --- JSON schema ---------------------------------------------------------------------------------------------

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (type(None),),
    "array": (list,), "object": (dict,),
}  # fmt: skip


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value follows a schema, as far as the words go that `json_schema` uses."""
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kinds = tuple(kind for name in names for kind in TYPES[name])
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return False
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, list):
        return all(fits(item, schema["items"]) for item in value)
    if isinstance(value, dict):
        properties = schema["properties"]
        is_known = value.keys() <= properties.keys() or schema["additionalProperties"]
        return is_known and {*schema["required"]} <= value.keys() and all(
            fits(item, properties[name]) for name, item in value.items() if name in properties
        )  # fmt: skip
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return not is_number or schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)


@pytest.mark.parametrize("kind", BASE, ids=lambda kind: kind.__name__)
def test_the_schema_says_what_the_settings_say(kind: type[Any]) -> None:
    schema = json.loads(json.dumps(json_schema(kind)))
    assert list(schema["properties"]) == [field.name for field in fields(kind)]
    for field in fields(kind):
        annotation, facts = declared(kind)[field.name]
        found = schema["properties"][field.name]
        assert found["description"] == " ".join(filter(None, (facts.help, facts.unset)))
        assert (found.get("minimum"), found.get("maximum")) == (facts.low, facts.high)
        choices = () if facts.open_choice else facts.choices
        assert tuple(found.get("enum", ())) == (*choices, *[None] * ("None" in annotation and choices != ()))
        assert ("pattern" in found) == (facts.open_choice is not None)
        if field.name not in schema["required"]:
            default = field.default
            assert found["default"] == (list(default) if isinstance(default, tuple) else default)
    for checked, name, low, high in LIMITS:
        if checked is kind and name != "min_tokens":  # bounded by max_tokens
            assert schema["properties"][name]["minimum"] == low
            assert schema["properties"][name].get("maximum", math.inf) == high


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.integers(-3, 130), st.floats(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x != int(x)), st.text(max_size=3),
    st.sampled_from([choice for _, _, choices in CHOICES for choice in choices]),
    st.lists(st.text(max_size=3) | st.integers(), max_size=3),
)  # fmt: skip


@pytest.mark.parametrize("kind", BASE, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_the_schema_accepts_what_the_class_accepts(kind: type[Any], data: st.DataObject) -> None:
    """All but what fields say together, and what a text or a list must hold: that `check` looks at."""
    schema, known = json_schema(kind), [field.name for field in fields(kind)]
    keys = data.draw(st.lists(st.sampled_from([*known, "unknown"]), max_size=4, unique=True))
    settings = {**dict.fromkeys(keys), **{key: data.draw(near(schema, key)) for key in keys}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "check", lambda self: None)
        assert fits(settings, schema) == accepts(kind, settings)


def near(schema: dict[str, Any], key: str) -> st.SearchStrategy[Any]:
    """Values for a setting, among them its bounds and what is just beyond them."""
    found = schema["properties"].get(key, {})
    bounds = [found[name] + step for name in ("minimum", "maximum") if name in found for step in (-1, 0, 1)]
    bounds += [choice for choice in found.get("enum", []) if choice is not None]
    bounds += ["line", "separator:", "separator:\n", "a separator:x", "lines"] if "pattern" in found else []
    return values | st.sampled_from(bounds) if bounds else values


def accepts(kind: type[Any], settings: dict[str, Any]) -> bool:
    try:
        from_dict(kind, settings)
    except ConfigError:
        return False
    return True


# --- Sizes -------------------------------------------------------------------------------------------------


def test_parameters() -> None:
    config = ModelConfig(100, embedding_dim=8, hidden_units=8, num_layers=2)
    lstm = 2 * (8 * 32 + 8 * 32 + 32)
    assert config.num_parameters == 100 * 8 + lstm + 100
    assert replace(config, tie_embeddings=False).num_parameters == 100 * 8 + lstm + 100 + 8 * 100
    shapes = replace(config, embedding_dim=5).weight_shapes()
    assert shapes["lstm_0/kernel"] == (5, 32)
    assert shapes["lstm_1/kernel"] == (8, 32)
    assert (shapes["projection/kernel"], shapes["projection/bias"]) == ((8, 5), (5,))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({"cell": "gru"}, 3 * (5 * 8 + 8 * 8 + 2 * 8)),
        ({"cell": "gru", "reset_after": False}, 3 * (5 * 8 + 8 * 8 + 8)),
        ({"cell": "rnn"}, 5 * 8 + 8 * 8 + 8),
        ({"cell": "peephole"}, 4 * (5 * 8 + 8 * 8 + 8) + 3 * 8),
        ({"cell": "mogrifier", "mogrifier_rounds": 3}, 4 * (5 * 8 + 8 * 8 + 8) + 3 * 5 * 8),
        ({"cell": "mogrifier", "mogrifier_rounds": 3, "mogrifier_rank": 2}, 4 * (13 * 8 + 8) + 3 * 2 * (5 + 8)),
        ({"layer_norm": True}, 4 * (5 * 8 + 8 * 8 + 8) + 2 * 5),
        ({"residual": True}, 4 * (5 * 8 + 8 * 8 + 8)),
        ({"attention": 100}, 4 * (5 * 8 + 8 * 8 + 8) + 2 * 8 + 2 * 8 * 8),
    ],
    ids=str,
)
def test_parameters_of_every_cell(kind: dict[str, Any], expected: int) -> None:
    config = ModelConfig(100, embedding_dim=5, hidden_units=8, num_layers=1, **kind)
    assert config.num_parameters - (100 * 5 + 8 * 5 + 5 + 100) == expected


def test_a_name_that_is_no_setting_is_refused_with_those_that_are() -> None:
    refuse_unknown(["a", "b"], ["b", "a"])
    with pytest.raises(ConfigError) as caught:
        refuse_unknown(["a", "c", "d"], ["b", "a", "b"])
    assert str(caught.value) == "There is no setting 'c'. There are: 'b', 'a'."
    with pytest.raises(ConfigError, match=r"^There is no setting 'hiden_unit' \(did you mean 'hidden_units'\?\)\.$"):
        refuse_unknown(["hiden_unit"], ["cell", "hidden_units"])
    with pytest.raises(ConfigError, match=r"^There is no setting 'x'\. There are: '10', .* '29' and 70 more\.$"):
        refuse_unknown(["x"], map(str, range(10, 100)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"hiden_units": 8}, "There is no setting 'hiden_units' (did you mean 'hidden_units'?)."),
        ({"hidden_units": "8"}, "hidden_units must be an integer"),
        ({"minutes": 0}, "minutes must be a number greater than 0 and at most"),
        ({"vocab_size": 0}, "vocab_size must be a number from"),
        ({"cell": "elman"}, "cell must be one of"),
        (
            tomllib.loads("[training]\nepochs = 3"),
            "A file of settings has no tables: remove [training], and write each",
        ),
        (tomllib.loads("epochs = 3\n[tokenizer]\n"), "A file of settings has no tables: remove [tokenizer]"),
        (tomllib.loads("[[runs]]\nepochs = 3"), "A file of settings has no tables: remove [runs]"),
        (tomllib.loads("training.epochs = 3"), "A file of settings has no tables: remove [training]"),
    ],
)
def test_flat_settings_are_checked_each_by_itself(values: dict[str, Any], expected: str) -> None:
    kinds = (TokenizerConfig, ModelConfig, TrainingConfig)
    check_values({"hidden_units": 8, "minutes": 1, "steps": 5}, kinds)  # which do not go together
    with pytest.raises(ConfigError) as caught:
        check_values(values, kinds)
    assert str(caught.value).startswith(expected)


def test_attention_is_for_one_direction() -> None:
    with pytest.raises(ConfigError, match="attention must have one direction"):
        ModelConfig(100, attention=8, direction="both")
