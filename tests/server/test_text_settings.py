"""The settings of texts: named as in the command line, and bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from textgen.errors import ConfigError
from textgen.generation.config import MAX_LOOK_BACK, SamplingConfig
from textgen.generation.request import without_healing
from textgen.server.config import ServerConfig
from textgen.server.failures import ApiError, as_api_error
from textgen.server.requests import TEXT_LENGTH, CompletionRequest, parse
from textgen.server.text_settings import (
    MAX_TOTAL_LOOK_BACK,
    check_look_back,
    checked_best_of,
    checked_count,
    clamps_of,
    copies,
    sampling_config,
    with_logprobs,
)
from textgen.settings import declared

LIMITS = ServerConfig(max_length=1000, max_choices=10, max_time=50.0)


def config(longest: int = LIMITS.max_length, **fields: Any) -> SamplingConfig:
    """The settings of a request with these fields."""
    limits = replace(LIMITS, max_length=longest)
    return sampling_config(*parse(msgspec.json.encode(fields), CompletionRequest), limits)


def test_absent_settings_are_those_of_the_command_line() -> None:
    found, default = config(), SamplingConfig()
    assert found.seed is not None
    assert (found.temperature, found.min_p, found.max_tokens, found.heal) == (
        default.temperature, default.min_p, default.max_tokens, default.heal,
    )  # fmt: skip
    assert config(temperature=None, seed=None, stop=None, max_tokens=None).temperature == default.temperature


def test_settings_have_their_names() -> None:
    found = config(temperature=0, top_k=5, until="line", ban=["x"], samplers="top_k", max_seconds=3, repeat_penalty=1.5)
    assert (found.temperature, found.top_k, found.until, found.ban) == (0, 5, "line", ("x",))
    assert (found.samplers, found.max_seconds, found.repeat_penalty) == ("top_k", 3.0, 1.5)


def test_signs_of_other_servers_for_absent_settings() -> None:
    found = config(seed=-1, top_k=-1, ignore_eos=True, stop="", stream_options={"include_usage": True})
    assert found.top_k == 0
    assert found.seed is not None
    assert found.stop == ()


def test_what_llama_cpp_writes_in_another_way() -> None:
    assert config(repeat_last_n=-1, repeat_penalty=1.2).repeat_last_n == MAX_LOOK_BACK
    assert config(dry_penalty_last_n=-1, dry_multiplier=0.8).dry_penalty_last_n == MAX_LOOK_BACK
    assert config(top_n_sigma=-1).top_n_sigma == 0.0
    assert config(samplers=["dry", "top_k", "typ_p", "min_p", "temperature"]).samplers == (
        "dry;top_k;typical_p;min_p;temperature"
    )
    check_look_back(config(repeat_last_n=-1, repeat_penalty=1.2, dry_penalty_last_n=-1, dry_multiplier=0.8), [900])


def test_the_time_of_a_text_is_bounded() -> None:
    assert config().max_seconds == 50.0
    assert config(max_seconds=1e6).max_seconds == 50.0
    with pytest.raises(ConfigError):
        config(max_seconds="long")


def test_biases_come_by_id_or_by_text() -> None:
    assert config(logit_bias={"5": 1, "7": -2.5}).logit_bias == ("#5=1.0", "#7=-2.5")
    assert config(logit_bias=["the=2"]).logit_bias == ("the=2",)


def test_long_texts_are_allowed_up_to_a_limit() -> None:
    assert config(max_tokens=1000, min_tokens=800).min_tokens == 800
    assert config(min_tokens=600).max_tokens == 600
    assert config(max_completion_tokens=7, max_tokens=9).max_tokens == 7
    with pytest.raises(ApiError, match="from 0 to 1,000 on"):
        config(max_tokens=1001)


@pytest.mark.parametrize(
    ("fields", "longest", "expected"),
    [
        ({}, 1000, 500),
        ({}, 50, 50),
        ({"min_tokens": 30}, 50, 50),
        ({"min_tokens": 600}, 1000, 600),
        ({"max_tokens": 50}, 50, 50),
        ({"max_tokens": 0}, 50, 1),
    ],
)
def test_the_longest_text_bounds_the_default(fields: dict[str, Any], longest: int, expected: int) -> None:
    assert config(longest, **fields).max_tokens == expected


def test_a_text_for_a_gap_has_a_length_of_its_own() -> None:
    request = CompletionRequest()
    for longest, expected in ((1000, 40), (30, 30)):
        assert sampling_config(request, {}, replace(LIMITS, max_length=longest), 40).max_tokens == expected
    assert sampling_config(request, {"min_tokens": 60}, LIMITS, 40).max_tokens == 60


@pytest.mark.parametrize("name", ["max_tokens", "min_tokens"])
def test_a_text_longer_than_the_server_writes_is_refused(name: str) -> None:
    with pytest.raises(ApiError, match=f"{name} must be from 0 to 50 on this server. Received: 51") as caught:
        config(50, **{name: 51})
    assert (caught.value.status, caught.value.param) == (400, name)


def test_a_negative_length_is_refused_with_the_limit_of_the_server() -> None:
    with pytest.raises(ApiError, match="max_tokens must be from 0 to 50 on this server"):
        config(50, max_tokens=-1)


def test_seeds_follow_one_another() -> None:
    rows = copies(SamplingConfig(seed=(1 << 63) - 2), 2, 2)
    assert [[each.seed for each in row] for row in rows] == [[(1 << 63) - 2, (1 << 63) - 1], [0, 1]]


def test_numbers_of_texts_and_alternatives_are_bounded() -> None:
    assert checked_count("n", None, 3, LIMITS) == 1
    for number, prompts in ((0, 1), (-1, 1), (11, 1), (4, 3), (10**500, 1)):
        with pytest.raises(ApiError):
            checked_count("n", number, prompts, LIMITS)
    with pytest.raises(ApiError, match="must ask for at most 10 texts on this server, and this one asks for 12"):
        checked_count("n", 4, 3, LIMITS)
    assert with_logprobs(SamplingConfig(), 20).top_logprobs == 20
    assert with_logprobs(SamplingConfig(), None).top_logprobs is None
    with pytest.raises(ApiError):
        with_logprobs(SamplingConfig(), 21)


def test_the_best_are_chosen_from_no_fewer() -> None:
    assert checked_best_of(None, 3, 1, LIMITS) is None
    assert checked_best_of(3, 3, 1, LIMITS) == 3
    with pytest.raises(ApiError, match=r"best_of \(2\) is less than n \(3\)") as caught:
        checked_best_of(2, 3, 1, LIMITS)
    assert caught.value.param == "best_of"


# === Lengths of texts ===


def refused_as(fields: dict[str, Any]) -> tuple[int, str | None]:
    """The status and the field that the error for a request names."""
    with pytest.raises((ApiError, ConfigError)) as refused:
        config(**fields)
    error = as_api_error(refused.value)
    assert len(error.message) < 1500
    return error.status, error.param


@pytest.mark.parametrize("name", [name for name, (kind, _) in declared(SamplingConfig).items() if "str" in kind])
def test_every_text_of_the_settings_has_a_longest_length(name: str) -> None:
    long = "x" * 10_000
    given = [[long], ["x=1"] * 2000] if "Sequence" in declared(SamplingConfig)[name][0] else [long]
    for value in given:
        assert refused_as({name: value}) == (400, name)


def test_the_names_of_cells_have_a_longest_length() -> None:
    with pytest.raises(ApiError, match="clamp must have at most 1,024 characters"):
        clamps_of(CompletionRequest(clamp=["L" + "1" * TEXT_LENGTH]))


@pytest.mark.parametrize("samplers", [";" * 10_000, ";" * 1000, "; " * 300, "top_k;" * 50])
def test_a_list_of_many_samplers_is_refused(samplers: str) -> None:
    assert refused_as({"samplers": samplers}) == (400, "samplers")


@pytest.mark.parametrize("samplers", [["magic"], [5], ["top_k", None], ["top_k"] * 2, ["top_k"] * 10_000])
def test_a_list_of_other_things_than_samplers_is_refused(samplers: list[Any]) -> None:
    assert refused_as({"samplers": samplers}) == (400, "samplers")


def test_settings_are_checked_once_for_all_texts_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    first = SamplingConfig(seed=5, logit_bias=("the=2",))
    expected = replace(first, seed=6)

    def check(self: SamplingConfig) -> None:
        raise AssertionError("checked again")

    monkeypatch.setattr(SamplingConfig, "check", check)
    assert [row[0].seed for row in copies(first, 60, 1)] == list(range(5, 65))
    assert copies(first, 1, 2)[0][1] == expected
    assert not without_healing(first).heal
    assert (first.seed, first.heal) == (5, True)


# === What penalties look at ===


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("dry_penalty_last_n", {"dry_multiplier": 1.0}),
        ("repeat_last_n", {"repeat_penalty": 1.1}),
        ("repeat_last_n", {"presence_penalty": 0.1}),
        ("repeat_last_n", {"frequency_penalty": -0.1}),
    ],
)
def test_penalties_look_at_a_limited_number_of_tokens(name: str, on: dict[str, Any]) -> None:
    far: dict[str, Any] = {name: 1 << 16}
    most = MAX_TOTAL_LOOK_BACK >> 15
    check_look_back(SamplingConfig(**far, **on), [1 << 15] * most)
    check_look_back(SamplingConfig(**far, **on), [100] * 1000)
    check_look_back(SamplingConfig(**far), [1 << 15] * 64)
    check_look_back(SamplingConfig(**on), [1 << 15] * 64)
    with pytest.raises(ApiError, match=r"too much at once: .* at most 131,072 .* Received: 163,840") as refused:
        check_look_back(SamplingConfig(**far, **on), [1 << 15] * (most + 1))
    assert refused.value.param == name
