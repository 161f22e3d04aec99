"""Settings that do nothing are found, and no others."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from plain_fakes import TableModel

from textgen.errors import ConfigError
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.generation.generator import Generator
from textgen.generation.needed_settings import KEEP_LIKELIEST, NEEDS, unused
from textgen.generation.request import Request
from textgen.generation.sampling.sampler_settings import OFF
from textgen.settings import to_dict
from textgen.tokenizer.kinds import ByteTokenizer

GIVEN: dict[str, Any] = {
    "dynatemp_exponent": 4.0, "xtc_threshold": 0.01, "mirostat_tau": 0.5, "mirostat_eta": 0.9, "repeat_last_n": 3,
    "dry_base": 3.0, "dry_allowed_length": 1, "dry_penalty_last_n": 3, "dry_sequence_breakers": ("a",),
}  # fmt: skip
LENGTHS = {"dry_allowed_length": 2, "dry_penalty_last_n": 1024}  # the defaults
SWITCHES: dict[str, Any] = {
    "dynatemp_range": 1.5, "xtc_probability": 1.0, "mirostat": 2, "dry_multiplier": 30.0, "repeat_penalty": 100.0,
    "presence_penalty": 60.0, "frequency_penalty": 60.0, "num_beam_groups": 2,
}  # fmt: skip


def text(**settings: Any) -> tuple[int, ...]:
    generator = Generator(TableModel(ByteTokenizer().vocab_size), ByteTokenizer())
    config = SamplingConfig(seed=1, max_tokens=200, **{"heal": False, "min_tokens": 200, "temperature": 1.0} | settings)
    (generation,) = generator.generate_requests([Request("aa ab ab", config)])
    return generation.ids


@pytest.mark.parametrize("name", GIVEN)
def test_a_setting_does_nothing_without_another(name: str) -> None:
    given = {name: GIVEN[name]}
    assert list(unused(given)) == [name]
    assert text(**given) == text()
    for other in NEEDS[name]:
        assert unused(given | {other: SWITCHES[other]}) == {}
        assert unused(given | {other: OFF.get(other, 0)}) == {}, "it is switched off explicitly"


def test_the_sentence_names_each_setting_that_would_do() -> None:
    assert unused({"xtc_threshold": 0.01}) == {"xtc_threshold": "xtc_threshold needs xtc_probability."}
    assert unused({"repeat_last_n": 3}, "--{}".format) == {
        "repeat_last_n": "--repeat_last_n needs --repeat_penalty, --presence_penalty or --frequency_penalty."
    }


def test_defaults_and_what_is_off_ask_for_nothing() -> None:
    config = SamplingConfig(seed=3, dry_multiplier=0.0)
    assert unused(to_dict(config) | {"samplers": "", "mirostat": 2}) == {}
    assert unused(to_dict(SearchConfig())) == {}
    assert unused(OFF | {"samplers": "", "mirostat": 1}) == {}
    assert unused({"repeat_last_n": 0, "dry_penalty_last_n": 0, "diversity_penalty": 0.0}) == {}
    assert unused({"dry_sequence_breakers": list(config.dry_sequence_breakers)}) == {}, "as JSON has it"


@pytest.mark.parametrize(
    ("name", "value", "sampler"),
    [
        ("temperature", 0.3, "temperature"), ("dynatemp_range", 1.0, "temperature"), ("top_k", 3, "top_k"),
        ("min_p", 0.5, "min_p"), ("xtc_probability", 1.0, "xtc"), ("presence_penalty", 5.0, "penalties"),
        ("dry_multiplier", 9.0, "dry"),
    ],
)  # fmt: skip
def test_a_setting_needs_its_sampler(name: str, value: float, sampler: str) -> None:
    others = "typical_p" if sampler != "typical_p" else "top_p"
    assert unused({name: value, "samplers": others}) == {name: f"{name} needs {sampler} in samplers."}
    assert text(**{name: value}, samplers=others) == text(samplers=others)
    assert unused({name: value, "samplers": f"{others};{sampler}"}) == {}


@pytest.mark.parametrize(
    "name", ["top_k", "top_p", "min_p", "typical_p", "top_n_sigma", "epsilon_cutoff", "eta_cutoff"]
)
def test_mirostat_takes_the_place_of_filters(name: str) -> None:
    value = 2 if name == "top_k" else 0.3
    reason = f"--mirostat cannot be combined with --{name}: leave out one of them."
    assert unused({"mirostat": 2, name: value}, "--{}".format) == {name: reason}
    assert text(mirostat=2, **{name: value}) == text(mirostat=2)
    assert unused({"mirostat": 0, name: value}) == {}
    assert unused({"mirostat": 2, "repeat_penalty": 1.2, "temperature": 0.5}) == {}


@pytest.mark.parametrize("order", ["temperature;{}", "{};temperature"])
@pytest.mark.parametrize("name", KEEP_LIKELIEST)
def test_what_keeps_the_likeliest_token_does_nothing_where_that_is_taken(name: str, order: str) -> None:
    value = 2 if name in ("top_k", "mirostat") else 0.3
    given: dict[str, Any] = {name: value, "temperature": 0.0}
    if name != "mirostat":
        given["samplers"] = order.format(name)
    reason = f"--{name} does nothing with --temperature 0, which takes the likeliest token: leave out one of them."
    assert unused(given, "--{}".format) == {name: reason}
    assert text(**given) == text(temperature=0.0)
    assert unused(given | {"temperature": 0.1}) == {}
    assert unused(given | {"dynatemp_range": 1.0}) == {}
    assert unused({name: OFF.get(name, 0), "temperature": 0.0}) == {}


def test_what_may_drop_the_likeliest_token_does_something_where_that_is_taken() -> None:
    for given in ({"typical_p": 0.3}, {"xtc_probability": 1.0, "xtc_threshold": 0.0}):
        assert unused(given | {"temperature": 0.0}) == {}
        assert text(**given, temperature=0.0) != text(temperature=0.0)


@pytest.mark.parametrize(("name", "value"), [("top_k", 1), ("top_k", 2), ("min_p", 0.5), ("top_p", 0.3)])
def test_a_filter_decides_which_token_takes_the_place_of_the_likeliest_one(name: str, value: float) -> None:
    given = {"xtc_probability": 1.0, "xtc_threshold": 0.01, "temperature": 0.0}
    assert text(**given) != text(**given, **{name: value})
    assert unused(given | {name: value}) == {}
    assert set(unused(given | {name: value, "samplers": f"{name};temperature"})) == {
        name, "xtc_probability", "xtc_threshold",
    }  # fmt: skip


def test_a_threshold_that_one_token_alone_can_pass_is_found() -> None:
    given = {"xtc_probability": 1.0, "xtc_threshold": 0.51}
    (reason,) = unused(given).values()
    assert reason.startswith("xtc_threshold must be at most 0.5, since no two tokens are likelier than that, ")
    assert reason.endswith("Received: 0.51.")
    assert text(**given) == text(xtc_probability=1.0, xtc_threshold=1.0), "though with other random numbers than alone"
    assert unused(given | {"xtc_threshold": 0.5}) == {}
    assert unused(given | {"xtc_probability": 0.0}) == {}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"dry_allowed_length": 1024}, ["dry_allowed_length"]),
        ({"dry_penalty_last_n": 2}, ["dry_penalty_last_n"]),
        ({"dry_allowed_length": 9, "dry_penalty_last_n": 9}, ["dry_allowed_length", "dry_penalty_last_n"]),
        ({"dry_allowed_length": 8, "dry_penalty_last_n": 9}, []),
        ({"dry_allowed_length": 1023}, []),
        ({"dry_allowed_length": 9, "dry_penalty_last_n": 0}, []),
    ],
)
def test_a_window_without_room_for_a_repetition_is_found(given: dict[str, Any], names: list[str]) -> None:
    switched = given | {"dry_multiplier": 30.0}
    assert list(unused(switched)) == names
    if names:
        assert text(**switched) == text()
        allowed, window = (f"{given.get(name, default):,}" for name, default in LENGTHS.items())
        assert unused(switched)[names[0]] == (
            f"dry_allowed_length ({allowed}) must be below dry_penalty_last_n ({window}): no repetition in that many "
            "tokens is long enough for a penalty."
        )
    assert unused(given | {"dry_multiplier": 0.0}) == {}


def test_groups_of_beams_are_needed_for_their_penalty() -> None:
    assert unused({"diversity_penalty": 2.0}, "--{}".format) == {
        "diversity_penalty": "--diversity_penalty needs --num_beam_groups."
    }
    assert unused({"diversity_penalty": 2.0, "num_beam_groups": 2}) == {}


def test_a_sampler_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="There is no sampler 'heat'"):
        unused({"samplers": "heat"})


def test_every_name_is_a_setting() -> None:
    names = {each.name for kind in (SamplingConfig, SearchConfig) for each in fields(kind)}
    assert {name for entry in NEEDS.items() for name in (entry[0], *entry[1])} <= names
