"""Writing towards an ending and into a gap: against a forward generator on reversed text, and against brute force."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import random_weights
from plain_fakes import WordsTokenizer

from textgen.errors import ConfigError, TokenizerError
from textgen.evaluation.scoring import Scorer
from textgen.generation.config import SamplingConfig
from textgen.generation.generator import Generator
from textgen.generation.infilling import CANDIDATES, FIT_TOKENS, GAP_TOKENS, LEFT_TO_RIGHT, Infill, Infiller
from textgen.generation.sampling.vocabulary_tables import Breakers, breakers_of
from textgen.generation.stepping import Stepper
from textgen.model.config import ModelConfig
from textgen.model.numpy_model import NumpyModel
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import train_tokenizer

SETTINGS = SamplingConfig(max_tokens=12, temperature=1.0, min_p=0.0, heal=False, seed=5, top_k=20)


@pytest.fixture(scope="module")
def models(tokenizer: Tokenizer) -> dict[str, NumpyModel]:
    """By direction; what each learned has nothing to do with the other."""
    config = ModelConfig(tokenizer.vocab_size, 6, 8, 1)
    weights = random_weights(config)
    other = {name: array[..., ::-1].copy() for name, array in weights.items()}
    other["embedding/table"] = weights["embedding/table"][::-1].copy()
    for each in (weights, other):
        each["head/bias"][3:260] -= 5.0  # newlines and single bytes are rare
        each["head/bias"][tokenizer.eos_id] += 1.0
    return {"forward": NumpyModel(config, weights), "backward": NumpyModel(config, other)}


@pytest.fixture
def filler(models: dict[str, NumpyModel], tokenizer: Tokenizer) -> Infiller:
    return Infiller(models["backward"], tokenizer, models["forward"])


def drawn(model: NumpyModel, tokenizer: Tokenizer, start: str, config: SamplingConfig) -> tuple[list[int], str]:
    """What a generator draws, without the end of the document, and why it ended."""
    (result,) = Generator(model, tokenizer).generate(start, config)
    return [id for id in result.ids if id != tokenizer.eos_id], result.stop_reason


@pytest.mark.parametrize("suffix", ["", " the mat.", "cat"])
def test_a_backward_network_draws_what_a_forward_one_draws_after_the_reversed_ending(
    models: dict[str, NumpyModel], tokenizer: Tokenizer, suffix: str
) -> None:
    found = Infiller(models["backward"], tokenizer).infill("", suffix, SETTINGS, 6)
    for number, filling in enumerate(found):
        config = replace(SETTINGS, seed=5 + number)
        ids, reason = drawn(models["backward"], tokenizer, suffix[::-1], config)
        expected = tokenizer.decode(ids[::-1]).strip("\ufffd")
        assert (filling.prompt, filling.text, filling.suffix, filling.seed) == ("", expected, suffix, 5 + number)
        assert filling.stop_reason == {"end": "begin", "length": "length"}[reason]
        assert (filling.direction, filling.score, filling.forward_logprob) == ("backward", None, None)
    assert len({filling.text for filling in found}) > 1
    assert {filling.stop_reason for filling in found} == {"begin", "length"}


def test_tables_of_settings_are_made_once(filler: Infiller, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each direction, however many times texts are asked for."""
    found = list[str]()

    def noted(texts: Sequence[str], tokenizer: Tokenizer, direction: str) -> Breakers:
        found.append(direction)
        return breakers_of(texts, tokenizer, direction)

    monkeypatch.setattr("textgen.generation.sampling.vocabulary_tables.breakers_of", noted)
    for _ in range(3):
        filler.infill("The", " mat.", replace(SETTINGS, dry_multiplier=0.8), 2)
    assert sorted(found) == ["backward", "forward"]


@pytest.mark.parametrize("prompt", ["", "The"])
def test_drafts_end_with_their_time_or_when_nobody_wants_them(filler: Infiller, prompt: str) -> None:
    endless = replace(SETTINGS, max_tokens=100_000, min_tokens=100_000)
    found = filler.infill(prompt, " mat.", endless, 2, seconds=0.05)
    assert 1 <= len(found) <= 2
    assert {filling.stop_reason for filling in found} == {"cut" if prompt else "length"}
    asked: list[None] = []

    def wanted() -> bool:
        asked.append(None)
        return len(asked) < 5

    assert filler.infill(prompt, " mat.", endless, 2, wanted=wanted) == []
    assert len(asked) < 12


@pytest.mark.parametrize("seconds", [math.inf, np.float64(math.inf), 1e6])
def test_the_time_for_drafts_may_be_without_limit(filler: Infiller, seconds: float) -> None:
    assert filler.infill("", " mat.", SETTINGS, seconds=seconds) == filler.infill("", " mat.", SETTINGS)


def test_nothing_is_cut_or_ranked_once_nobody_wants_it(filler: Infiller, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def noted(what: str, does: Any) -> Any:
        def both(*given: Any, **more: Any) -> Any:
            calls.append(what)
            return does(*given, **more)

        return both

    monkeypatch.setattr(NumpyModel, "token_losses", noted("cut", NumpyModel.token_losses))
    monkeypatch.setattr(Scorer, "scores", noted("score", Scorer.scores))
    for what in ("cut", "score"):
        calls.clear()

        def wanted(what: str = what) -> bool:
            return what not in calls

        found = filler.infill("The", " mat.", SETTINGS, 40, 40, wanted=wanted)
        assert found == []
        assert calls.count(what) == 1


def test_a_text_does_not_depend_on_those_beside_it(filler: Infiller) -> None:
    several = filler.infill("", " mat.", SETTINGS, 5)
    alone = [filler.infill("", " mat.", replace(SETTINGS, seed=5 + number))[0] for number in range(5)]
    assert several == alone


def by_hand(model: NumpyModel, tokenizer: Tokenizer, start: list[int], ids: list[int], target: list[int]) -> list[int]:
    """The pieces up to where `target` fits best: each cut is tried, and all is read from the beginning."""
    target = [*target, tokenizer.eos_id][:FIT_TOKENS]
    nats = []
    for cut in range(1, len(ids) + 1):
        row = np.array([[tokenizer.eos_id, *start, *ids[:cut], *target]], np.int32)
        losses, _ = model.token_losses(row[:, :-1], row[:, 1:], model.initial_state(1))
        nats.append(losses[0, -len(target) :].sum())
    return ids[: 1 + int(np.argmin(nats))]


def test_candidates_of_both_directions_are_cut_where_the_other_end_fits(
    filler: Infiller, models: dict[str, NumpyModel], tokenizer: Tokenizer
) -> None:
    prompt, suffix = "The dog", " sat on the mat."
    found = filler.infill(prompt, suffix, SETTINGS, 8, 8)
    expected = set()
    for number in range(8):
        config = replace(SETTINGS, seed=5 + number)
        if number < 4:
            start, target = suffix[::-1], tokenizer.encode(prompt[::-1])
            ids, _ = drawn(models["backward"], tokenizer, start, config)
            ids = by_hand(models["backward"], tokenizer, tokenizer.encode(start), ids, target)[::-1]
        else:
            ids, _ = drawn(models["forward"], tokenizer, prompt, config)
            ids = by_hand(models["forward"], tokenizer, tokenizer.encode(prompt), ids, tokenizer.encode(suffix))
        expected.add(tokenizer.decode(ids).strip("\ufffd"))
    assert {filling.text for filling in found} == expected
    assert {filling.direction for filling in found} == {"forward", "backward"}
    assert {filling.stop_reason for filling in found} == {"cut"}


@pytest.mark.parametrize("heal", [True, False])
@pytest.mark.parametrize("prompt", ["The ca", "The", "x cam"])
def test_the_forward_network_completes_the_token_in_which_a_prompt_ends(prompt: str, heal: bool) -> None:
    tokenizer = WordsTokenizer([" c", " ca", " cat", " came", "at", "The", " mat"])
    config, suffix = ModelConfig(tokenizer.vocab_size, 6, 8, 1), " mat"
    weights = random_weights(config)
    weights["head/bias"][:259] -= 5.0  # single bytes are rare
    model = NumpyModel(config, weights)
    settings, texts, healed = replace(SETTINGS, heal=heal), set(), set()
    for number in range(12, 24):
        (result,) = Generator(model, tokenizer).generate(prompt, replace(settings, seed=5 + number))
        kept = tokenizer.encode(prompt)
        while len(tokenizer.decode(kept)) > len(prompt) - result.healed:
            kept.pop()
        ids = [id for id in result.ids if id != tokenizer.eos_id]
        ids = by_hand(model, tokenizer, kept, ids, tokenizer.encode(suffix))
        texts.add(tokenizer.decode(ids)[result.healed :])
        healed.add(result.healed)
    found = Infiller(model, tokenizer, model).infill(prompt, suffix, settings, 24, 24)
    assert {filling.text for filling in found if filling.direction == "forward"} <= texts
    assert texts <= {filling.text for filling in found}
    assert all(filling.whole == prompt + filling.text + suffix for filling in found)
    assert (max(healed) > 0) == (heal and prompt != "The")


def test_few_states_of_long_drafts_are_kept(filler: Infiller, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = most = 0
    state_of = Stepper.state_of

    def left() -> None:
        nonlocal alive
        alive -= 1

    def noted(self: Stepper, row: int) -> Any:
        nonlocal alive, most
        state = array = state_of(self, row)
        while isinstance(array, tuple):
            array = array[0]
        weakref.finalize(array, left)
        alive += 1
        most = max(most, alive)
        return state

    monkeypatch.setattr(Stepper, "state_of", noted)
    long = replace(SETTINGS, max_tokens=200, min_tokens=150)
    found = filler.infill("The dog", " mat.", long, 4, 4)
    assert 0 < most < 2 * 70
    most = 0
    monkeypatch.setattr("textgen.generation.infilling.STATES_BYTES", 1)
    assert [one.text for one in filler.infill("The dog", " mat.", long, 4, 4)] == [one.text for one in found]
    assert 0 < most < 10


@pytest.mark.parametrize("prompt", ["", "The dog"])
def test_the_best_by_the_mean_of_both_directions_come_first(
    filler: Infiller, models: dict[str, NumpyModel], tokenizer: Tokenizer, prompt: str
) -> None:
    found = filler.infill(prompt, " the mat.", SETTINGS, 6, 6)
    for filling in found:
        totals = [Scorer(models[way], tokenizer, way).score(filling.whole).total for way in ("forward", "backward")]
        assert filling.whole == prompt + filling.text + " the mat."
        assert filling.forward_logprob == pytest.approx(-totals[0].nats, rel=1e-5)
        assert filling.backward_logprob == pytest.approx(-totals[1].nats, rel=1e-5)
        assert filling.score == pytest.approx(-(totals[0].nats + totals[1].nats) / (2 * totals[0].tokens), rel=1e-5)
    scores = [filling.score or 0.0 for filling in found]
    assert scores == sorted(scores, reverse=True)
    assert filler.infill(prompt, " the mat.", SETTINGS, 2, 6) == found[:2]


def test_with_one_network_there_is_something_to_choose_from_too(
    models: dict[str, NumpyModel], tokenizer: Tokenizer
) -> None:
    best, *others = Infiller(models["backward"], tokenizer).infill("", "cat", SETTINGS, 4, 4)
    assert best.forward_logprob is None
    assert best.score is not None
    assert all(best.score >= (other.score or 0.0) for other in others)


def test_gaps_are_short_and_the_best_of_several_unless_something_else_is_said(filler: Infiller) -> None:
    (gap,), (text,) = filler.infill("The", " mat."), filler.infill("", " mat.")
    assert (gap.config.max_tokens, text.config.max_tokens) == (GAP_TOKENS, SamplingConfig.max_tokens)
    (given,) = filler.infill("The", " mat.", SamplingConfig(temperature=0.5), 1, 1)
    assert given.config.max_tokens == SamplingConfig.max_tokens, "settings apply as they are"
    settings = replace(SETTINGS, max_tokens=GAP_TOKENS)
    assert filler.infill("The", " mat.", settings, 2) == filler.infill("The", " mat.", settings, 2, CANDIDATES)


@pytest.mark.parametrize("prompt", ["", "The dog"])
def test_a_text_may_not_be_shorter_than_is_wanted(filler: Infiller, tokenizer: Tokenizer, prompt: str) -> None:
    found = filler.infill(prompt, " mat.", replace(SETTINGS, min_tokens=7), 40, 40)
    assert all(len(tokenizer.encode(filling.text)) >= 7 for filling in found if "\ufffd" not in filling.text)
    shorter = filler.infill(prompt, " mat.", SETTINGS, 40, 40)
    assert min(len(filling.text) for filling in shorter) < 7


def test_the_same_text_comes_once(filler: Infiller) -> None:
    found = filler.infill("The", " mat.", replace(SETTINGS, temperature=0.0), 8, 8)
    assert 1 <= len(found) <= 2, "the likeliest of each direction"


def test_words_are_joined_by_spaces() -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat\n"] * 5, TokenizerConfig("word"))
    config = ModelConfig(tokenizer.vocab_size, 4, 4, 1)
    model = NumpyModel(config, random_weights(config))
    settings = replace(SETTINGS, max_tokens=3, logit_bias=())
    (alone,) = Infiller(model, tokenizer).infill("", "mat", settings)
    (middle,) = Infiller(model, tokenizer, model).infill("the", "mat", settings)
    for filling in (alone, middle):
        pieces = [tokenizer.piece(id) for id in tokenizer.encode(filling.whole)]
        assert "".join(pieces).replace("▁", " ").replace("\\n", "\n").split() == filling.whole.split()
        assert tokenizer.decode(tokenizer.encode(filling.whole)) == filling.whole


@pytest.mark.parametrize("prompt", ["", "光"])
@pytest.mark.parametrize("max_tokens", [7, 8, 9])
def test_characters_beyond_ascii_are_written_in_bytes(prompt: str, max_tokens: int) -> None:
    tokenizer = ByteTokenizer()
    config = ModelConfig(tokenizer.vocab_size, 6, 8, 1)
    weights = random_weights(config)
    weights["head/bias"][tokenizer.encode("床前é")] += 30.0
    model = NumpyModel(config, weights)
    found = Infiller(model, tokenizer, model if prompt else None).infill(
        prompt, "月。", replace(SETTINGS, max_tokens=max_tokens, min_tokens=max_tokens), 4, 8
    )
    assert len(found) == 4
    for filling in found:
        assert "\ufffd" not in filling.text
        assert max_tokens - 3 <= len(filling.text.encode()) <= max_tokens
        assert min(filling.text) > "\x7f"


@pytest.mark.parametrize(
    ("prompt", "settings", "best_of", "message"),
    [
        ("The", {}, None, "reads text backward only, so it cannot continue a prompt"),
        ("", {}, 1, "best_of \\(1\\) is less than num \\(2\\)"),
        *[
            ("", {name: value}, None, f"{name} follows the text from left to right")
            for name, value in {
                "stop": ("a",), "until": "line", "ban": ("a",), "require": ("a",), "logit_bias": ("a=1",),
                "no_copy": 3, "max_seconds": 1.0, "top_logprobs": 2,
            }.items()
        ],
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    models: dict[str, NumpyModel],
    tokenizer: Tokenizer,
    prompt: str,
    settings: dict[str, Any],
    best_of: int | None,
    message: str,
) -> None:
    assert not settings or settings.keys() <= set(LEFT_TO_RIGHT)
    with pytest.raises(ConfigError, match=message):
        Infiller(models["backward"], tokenizer).infill(prompt, "a", replace(SETTINGS, **settings), 2, best_of)


@pytest.mark.parametrize("number", [0, -1, (1 << 20) + 1, 1 << 80])
def test_fewer_texts_than_one_and_more_than_memory_holds_are_refused(filler: Infiller, number: int) -> None:
    with pytest.raises(ConfigError, match=f"^num must be a number from 1 to 1,048,576. Received: {number}."):
        filler.infill("", "a", SETTINGS, number)
    with pytest.raises(ConfigError, match=f"^best_of must be a number from 1 to 1,048,576. Received: {number}."):
        filler.infill("", "a", SETTINGS, 1, number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": b"The"}, "prompt is b'The', not a text"),
        ({"suffix": None}, "suffix is None, not a text"),
        ({"config": {"top_k": 2}}, "config must be a SamplingConfig"),
        ({"num": "3"}, "num must be an integer. Received: '3'."),
        ({"best_of": "3"}, "best_of must be an integer. Received: '3'."),
        ({"seconds": "3"}, "seconds must be a number or none. Received: '3'."),
        ({"seconds": -1}, "seconds must be a number of at least 0. Received: -1."),
        ({"seconds": math.nan}, "seconds must be a number of at least 0. Received: nan."),
        ({"seconds": -math.inf}, "seconds must be a number of at least 0. Received: -inf."),
        ({"wanted": None}, "wanted must be a function without arguments. Received: None."),
    ],
)
def test_a_wrong_argument_is_named(filler: Infiller, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        filler.infill(**arguments)
    assert str(caught.value).startswith(message)


def test_a_label_is_refused(filler: Infiller, models: dict[str, NumpyModel], tokenizer: Tokenizer) -> None:
    labelled = replace(SETTINGS, label="tale")
    with pytest.raises(ConfigError, match="labels"):
        filler.infill("", "a", labelled)
    with pytest.raises(ConfigError, match="Texts towards an ending have no label"):
        Infiller(models["backward"], tokenizer.with_labels(["tale"])).infill("", "a", labelled)


def test_half_a_surrogate_is_no_text(filler: Infiller) -> None:
    with pytest.raises(TokenizerError, match="lone surrogate"):
        filler.infill("", "\ud800")


def test_the_whole_of_a_filling() -> None:
    assert Infill("a", "b", "c", "forward", "cut", 0, SETTINGS).whole == "abc"
