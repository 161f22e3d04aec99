"""Settings that do nothing are found, and no others."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from plain_fakes import TableModel

from textgen.errors import ConfigError
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.generation.generator import Generator
from textgen.generation.needed_settings import NEEDS, unused
from textgen.generation.request import Request
from textgen.generation.sampling.sampler_settings import OFF
from textgen.settings import to_dict
from textgen.tokenizer.kinds import ByteTokenizer

GIVEN: dict[str, Any] = {
    "dynatemp_exponent": 4.0, "xtc_threshold": 0.01, "mirostat_tau": 0.5, "mirostat_eta": 0.9, "repeat_last_n": 3,
    "dry_base": 3.0, "dry_allowed_length": 1, "dry_penalty_last_n": 2, "dry_sequence_breakers": ("a",),
}  # fmt: skip
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
