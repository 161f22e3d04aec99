from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from plain_fakes import TableModel, WordsTokenizer

from textgen.errors import ConfigError
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.generation.constraints.constraints import Constraints
from textgen.generation.generated_text import Generation
from textgen.generation.generator import Generator
from textgen.tokenizer.stream_decoder import StreamDecoder

TOKENIZER = WordsTokenizer([])
EOS, LETTERS = TOKENIZER.eos_id, TOKENIZER.encode("abcd")
CONFIG = SamplingConfig(max_tokens=4, heal=False)


def few_letters(seed: int = 0, ends: float = 0.0) -> TableModel:
    """Writes a, b, c, d and the end of a document, and hardly anything else."""
    model = TableModel(TOKENIZER.vocab_size, seed, scale=1.5)
    rare = [id for id in range(TOKENIZER.vocab_size) if id not in (*LETTERS, EOS)]
    model.tables[:, :, rare] -= 40.0
    model.tables[:, :, EOS] += ends
    return model


def log_prob(model: TableModel, prompt: str, ids: tuple[int, ...]) -> float:
    read, total = [EOS, *TOKENIZER.encode(prompt)], 0.0
    for id in ids:
        total += model.log_probs(read)[id]
        read.append(id)
    return total


def all_texts(length: int) -> list[tuple[int, ...]]:
    """Every text of the letters: of `length` pieces, or ended before."""
    whole = list(itertools.product(LETTERS, repeat=length))
    return whole + [(*text, EOS) for n in range(length) for text in itertools.product(LETTERS, repeat=n)]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("seed", range(3))
def test_with_beams_enough_it_finds_the_best_of_all_texts(seed: int, length_penalty: float) -> None:
    model = few_letters(seed)
    texts = sorted(all_texts(4), key=lambda ids: -log_prob(model, "ab", ids) / len(ids) ** length_penalty)
    found = Generator(model, TOKENIZER).search("ab", CONFIG, SearchConfig(400, length_penalty=length_penalty))
    assert [generation.ids for generation in found[:50]] == texts[:50]
    for generation in found[:50]:
        assert generation.logprobs is not None
        assert sum(generation.logprobs) == pytest.approx(log_prob(model, "ab", generation.ids), abs=1e-4)
        assert generation.stop_reason == ("end" if generation.ids[-1] == EOS else "length")
        assert generation.text == TOKENIZER.decode(generation.ids)


def plain_search(model: TableModel, size: int, groups: int, penalty: float, length: int) -> list[tuple[int, ...]]:
    """Diverse beam search of a fixed length, as its paper says it, a text at a time."""
    beams: list[list[tuple[int, ...]]] = [[()] for _ in range(groups)]
    for _ in range(length):
        taken: list[int] = []
        for number, group in enumerate(beams):
            scores = {
                (*ids, id): log_prob(model, "", (*ids, id)) - penalty * taken.count(id)
                for ids in group
                for id in LETTERS
            }
            beams[number] = sorted(scores, key=lambda ids: -scores[ids])[:size]
            taken += [ids[-1] for ids in beams[number]]
    return [ids for group in beams for ids in group]


@pytest.mark.parametrize(("size", "groups", "penalty"), [(1, 1, 0.0), (3, 1, 0.0), (1, 3, 2.0), (2, 3, 0.7), (2, 2, 0)])
def test_equals_a_plain_search(size: int, groups: int, penalty: float) -> None:
    model = few_letters(5, ends=-60.0)
    settings = SearchConfig(size * groups, groups, penalty)
    found = Generator(model, TOKENIZER).search("", replace(CONFIG, max_tokens=7), settings)
    assert sorted(g.ids for g in found) == sorted(set(plain_search(model, size, groups, penalty, 7)))
    totals = [sum(g.logprobs or ()) for g in found]
    assert totals == sorted(totals, reverse=True)


def test_one_beam_is_greedy() -> None:
    generator = Generator(few_letters(2), TOKENIZER)
    config = replace(CONFIG, max_tokens=30)
    (greedy,) = generator.generate("abc", replace(config, temperature=0.0, min_p=0.0, seed=0))
    (found,) = generator.search("abc", config, SearchConfig(1))
    assert (found.ids, found.text, found.stop_reason) == (greedy.ids, greedy.text, greedy.stop_reason)


def test_groups_differ_where_a_single_one_does_not() -> None:
    model = few_letters(1, ends=-60.0)
    generator, config = Generator(model, TOKENIZER), replace(CONFIG, max_tokens=6)

    def openings(settings: SearchConfig) -> set[str]:
        return {generation.text[:1] for generation in generator.search("", config, settings)}

    assert len(openings(SearchConfig(4, 4, diversity_penalty=100.0))) == 4
    assert len(openings(SearchConfig(4))) < 4


def test_constraints_hold() -> None:
    generator = Generator(few_letters(3, ends=3.0), TOKENIZER)
    config = replace(CONFIG, max_tokens=8, ban=("a", "bb"), require=("dcd",), no_repeat_ngram_size=3, min_tokens=5)
    found = generator.search("", config, SearchConfig(6))
    assert len(found) == 6
    for generation in found:
        assert "dcd" in generation.text
        assert "a" not in generation.text
        assert "bb" not in generation.text
        assert len(generation.ids) > 5


def test_dead_ends_do_not_end_a_search_before_a_beam_that_can_finish() -> None:
    """Nothing may follow "a" and "bd", as it is too early for the end; "bc" is less likely and can go on."""
    a, b, c, d = LETTERS
    model = TableModel(TOKENIZER.vocab_size)
    model.tables[:] = -np.inf
    model.tables[:, EOS, [a, b]] = 0.0, -0.1
    model.tables[:, b, [d, c]] = 0.0, -4.0
    model.tables[:, [a, d], EOS] = 0.0
    model.tables[:, c, c] = 0.0
    config = replace(CONFIG, max_tokens=6, min_tokens=4)
    (found,) = Generator(model, TOKENIZER).search("", config, SearchConfig(2))
    assert (found.text, found.stop_reason) == ("bccccc", "length")


@pytest.mark.parametrize("beams", [16, 400])
@pytest.mark.parametrize("seed", range(4))
def test_a_search_finds_the_best_of_all_texts_with_a_required_one(seed: int, beams: int) -> None:
    model = few_letters(seed, ends=-60.0)
    texts = [ids for ids in itertools.product(LETTERS, repeat=6) if "dcd" in TOKENIZER.decode(ids)]
    config = replace(CONFIG, max_tokens=6, require=("dcd",))
    found = Generator(model, TOKENIZER).search("", config, SearchConfig(beams))
    totals = [log_prob(model, "", generation.ids) for generation in found]
    assert totals == pytest.approx(sorted(totals, reverse=True))
    assert found[0].ids == max(texts, key=lambda ids: log_prob(model, "", ids))


def test_a_bias_counts_each_time() -> None:
    model = few_letters(2, ends=-60.0)
    texts = list(itertools.product(LETTERS, repeat=4))
    found = Generator(model, TOKENIZER).search("", replace(CONFIG, logit_bias=("ab=1.5", "c=-2")), SearchConfig(400))

    def total(ids: tuple[int, ...]) -> float:
        text = TOKENIZER.decode(ids)
        return log_prob(model, "", ids) + 1.5 * text.count("ab") - 2 * text.count("c")

    assert [generation.ids for generation in found[:50]] == sorted(texts, key=total, reverse=True)[:50]


@pytest.mark.parametrize(("values", "reason"), [({"stop": ("cb", "dd")}, "stop"), ({"until": "line"}, "until")])
def test_what_ends_a_text_ends_a_found_one(values: dict[str, object], reason: str) -> None:
    model = few_letters(4, ends=-60.0)
    model.tables[:, :, TOKENIZER.encode("\n")[0]] += 41.0
    generator = Generator(model, TOKENIZER)
    found = generator.search("", replace(CONFIG, max_tokens=40, **values), SearchConfig(4))  # type: ignore[arg-type]
    ended = [generation for generation in found if generation.stop_reason == reason]
    assert ended
    for generation in ended:
        whole = TOKENIZER.decode(generation.ids)
        assert whole.startswith(generation.text)
        assert len(whole) > len(generation.text)


PIECES = WordsTokenizer(["ca", "cb", "cc", "cd"])
CUT = replace(CONFIG, stop=("c",))


def several_cuts(seed: int) -> TableModel:
    """Writes a, b and d, and pieces before which a text ends."""
    model = TableModel(PIECES.vocab_size, seed)
    rare = [id for id in range(PIECES.vocab_size) if id not in (*PIECES.encode("abd"), *range(259, 263))]
    model.tables[:, :, rare] -= 40.0
    return model


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("seed", range(3))
def test_each_text_is_found_once_by_the_best_of_its_beams(seed: int, length_penalty: float) -> None:
    model, best = several_cuts(seed), dict[str, float]()
    for count in range(1, 4):
        for ids in itertools.product([*PIECES.encode("abd"), *range(259, 263)], repeat=count):
            text, cut, _ = PIECES.decode(ids).partition("c")
            if max(ids[:-1], default=0) < 259 and (cut or count == 3):
                score = log_prob(model, "", ids) / count**length_penalty
                best[text] = max(score, best.get(text, -math.inf))
    found = Generator(model, PIECES).search(
        "", replace(CUT, max_tokens=3), SearchConfig(100, length_penalty=length_penalty)
    )
    assert [generation.text for generation in found[:30]] == sorted(best, key=lambda text: -best[text])[:30]


@pytest.mark.parametrize("beams", [2, 4, 9])
def test_beams_that_end_in_one_text_leave_their_places_to_others(beams: int) -> None:
    model = several_cuts(1)
    model.tables[:, :, 259:263] += 6.0  # nearly every beam ends at once, in each of four ways
    found = Generator(model, PIECES).search("", CUT, SearchConfig(beams))
    assert len({generation.text for generation in found}) == len(found) == beams


def test_groups_that_find_the_same_return_it_once() -> None:
    generator = Generator(few_letters(1), TOKENIZER)
    (found,) = generator.search("", CONFIG, SearchConfig(4, 4, diversity_penalty=0.0))
    assert found == generator.search("", CONFIG, SearchConfig(1))[0]


def test_dead_ends_of_one_text_are_one_text() -> None:
    """Nothing may follow "ca", whether it is one piece or two."""
    a, c, ca = PIECES.encode("a")[0], ord("c") + 3, 259
    model = TableModel(PIECES.vocab_size)
    model.tables[:] = -np.inf
    model.tables[:, EOS, [c, ca]] = 0.0, -1.0
    model.tables[:, c, a] = 0.0
    model.tables[:, [a, ca], EOS] = 0.0
    (found,) = Generator(model, PIECES).search("", replace(CONFIG, max_tokens=6, min_tokens=4), SearchConfig(2))
    assert (found.text, found.stop_reason) == ("ca", "blocked")


def test_a_search_stops_when_time_is_over() -> None:
    generator = Generator(few_letters(4, ends=-60.0), TOKENIZER)
    found = generator.search("", replace(CONFIG, max_tokens=1000, max_seconds=0.0), SearchConfig(3))
    assert {(len(generation.ids), generation.stop_reason) for generation in found} == {(1, "time")}


@pytest.mark.parametrize(
    ("values", "seconds", "expected"),
    [
        ({"stop": ("bcb",)}, 4, ("c", "stop")),
        ({"stop": ("bcb",)}, 3, ("cbc", "time")),
        ({"stop": ("bcb", "cbcbx")}, 3, ("cbc", "time")),
    ],
)
def test_the_time_ends_no_text_before_its_last_token(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], seconds: float, expected: tuple[str, str]
) -> None:
    model, now = few_letters(5), 0.0
    step = model.step

    def slow_step(*given: Any) -> Any:
        nonlocal now
        now += 1
        return step(*given)

    monkeypatch.setattr(model, "step", slow_step)
    monkeypatch.setattr("textgen.generation.row.time.monotonic", lambda: now)
    config = replace(CONFIG, max_tokens=6, max_seconds=seconds, **values)
    (found,) = Generator(model, TOKENIZER).search("", config, SearchConfig(1))
    assert (found.text, found.stop_reason) == expected


def test_a_token_costs_the_same_wherever_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text is decoded from its beginning again, and only the beams that are kept have constraints of their own."""
    decoded, taken = list[int](), list[int]()
    feed, accept = StreamDecoder.feed, Constraints.accept

    def counted_feed(self: StreamDecoder, ids: Iterable[int]) -> str:
        decoded.append(len(ids := list(ids)))
        return feed(self, ids)

    def counted_accept(self: Constraints, id: int) -> None:
        taken.append(1)
        accept(self, id)

    monkeypatch.setattr(StreamDecoder, "feed", counted_feed)
    monkeypatch.setattr(Constraints, "accept", counted_accept)
    config = replace(CONFIG, max_tokens=60, stop=("zzz",), until="paragraph", no_repeat_ngram_size=4)
    found = Generator(few_letters(ends=-60.0), TOKENIZER).search("ab", config, SearchConfig(4))
    assert [len(generation.ids) for generation in found] == [60] * 4
    assert sum(decoded) <= 60 * 9
    assert sum(taken) <= 60 * 4


def test_a_long_text_is_found() -> None:
    """Beams that begin alike share their tokens."""
    model = few_letters(3, ends=-60.0)
    (found, other) = Generator(model, TOKENIZER).search("", replace(CONFIG, max_tokens=1500), SearchConfig(2))
    for generation in (found, other):
        assert (len(generation.ids), generation.text) == (1500, TOKENIZER.decode(generation.ids))
        assert sum(generation.logprobs or ()) == pytest.approx(log_prob(model, "", generation.ids), rel=1e-5)
    assert found.ids != other.ids


def test_best_of_keeps_the_likeliest() -> None:
    generator = Generator(few_letters(6), TOKENIZER)
    config = SamplingConfig(temperature=1.0, min_p=0.0, max_tokens=5, seed=7)
    drawn = generator.generate(["a", "b"], replace(config, top_logprobs=0), num=8)

    def mean(generation: Generation) -> float:
        return log_prob(few_letters(6), generation.prompt, generation.ids) / len(generation.ids)

    best = generator.generate(["a", "b"], config, num=2, best_of=8)
    assert best == sorted(drawn[:8], key=mean, reverse=True)[:2] + sorted(drawn[8:], key=mean, reverse=True)[:2]
    assert math.isclose(best[0].mean_logprob, mean(best[0]), abs_tol=1e-5)
    with pytest.raises(ConfigError, match=r"best_of \(2\) is less"):
        generator.generate("a", config, num=3, best_of=2)


def test_a_search_has_no_seed() -> None:
    generator = Generator(few_letters(), TOKENIZER)
    with pytest.raises(ConfigError, match="makes no random draws: leave out seed"):
        generator.search("a", replace(CONFIG, seed=5))
    (best, *_) = generator.search("a", CONFIG)
    assert best.seed == 0


def test_a_search_has_no_log_probabilities_of_pieces_that_it_did_not_take() -> None:
    generator = Generator(few_letters(), TOKENIZER)
    assert generator.search("a", replace(CONFIG, top_logprobs=0))[0].logprobs
    with pytest.raises(ConfigError, match="leave out top_logprobs"):
        generator.search("a", replace(CONFIG, top_logprobs=2))


def test_an_unlikely_prompt_is_healed_in_a_search() -> None:
    words = WordsTokenizer(["The", " c", " cat"])
    model = TableModel(words.vocab_size)
    the, c, cat = (words.encode(word)[0] for word in ("The", " c", " cat"))
    model.tables[:, the] = -10.0
    model.tables[:, the, cat] = 10.0
    (best, *_) = Generator(model, words).search("The c", replace(CONFIG, heal=True, max_tokens=1), SearchConfig(2))
    assert (best.ids, best.text, best.healed) == ((cat,), "at", 2)
    assert np.isclose((best.logprobs or (0,))[0], 0.0, atol=1e-3)
    assert c not in best.ids
