"""No text that is drawn or searched for has half a character; what may come next, against Python's decoder."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_fakes import Recital, TableModel, writable
from sample_text import LINES

from textgen.errors import ConfigError
from textgen.generation.config import SamplingConfig, SearchConfig
from textgen.generation.generator import Generator
from textgen.generation.infilling import Infiller
from textgen.generation.suggestions import Suggester
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.kinds import ByteTokenizer
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.utf8 import Characters
from textgen.tokenizer.vocabulary import train_tokenizer

KINDS: dict[str, Tokenizer] = {
    kind: train_tokenizer([LINES] * 5, TokenizerConfig(kind)) for kind in ("unigram", "bpe", "char", "word", "byte")
}
BYTES = ByteTokenizer()
FIRST = BYTES.first_byte or 0
WILD = SamplingConfig(temperature=1.5, min_p=0.0, max_tokens=60)


def in_bytes(tokenizer: Tokenizer) -> TableModel:
    """A model that would draw hardly anything but bytes above 7F, in any order."""
    model = TableModel(tokenizer.vocab_size, scale=1.0)
    if tokenizer.first_byte is not None:
        model.tables[:, :, tokenizer.first_byte + 0x80 : tokenizer.first_byte + 0x100] += 9.0
    return model


def test_the_states_are_those_of_python_s_decoder() -> None:
    """After every first byte, and after those at the edges of each range."""
    characters = Characters(BYTES)
    seen = set()
    edges = (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF)
    starts = range(0xC2, 0xF5)
    beginnings = [b"", *(bytes([byte]) for byte in range(0x80, 0x100)), *map(bytes, product(starts, edges))]
    beginnings += map(bytes, product((0xF0, 0xF1, 0xF4), edges, edges))
    for beginning in beginnings:
        try:
            expected = writable(BYTES, [FIRST + byte for byte in beginning])
        except UnicodeDecodeError:
            continue
        if not expected.any():  # it begins no character
            continue
        state = characters.state_after([FIRST + byte for byte in beginning])
        np.testing.assert_array_equal(characters.mask[state] == 0.0, expected)
        seen.add(state)
    assert len(seen) == len(characters.mask)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_all_characters_and_nothing_else_can_be_written(direction: str) -> None:
    """Each can be, and there are as many ways from a complete character to the next as characters."""
    characters = Characters(BYTES, direction)
    allowed = characters.mask[:, FIRST + 0x80 : FIRST + 0x100] == 0.0  # [S, 128]
    after = characters.after[:, FIRST + 0x80 : FIRST + 0x100]
    ways = np.stack([(allowed & (after == state)).sum(axis=1) for state in range(len(after))], axis=1)  # [S, S]
    within, begun = ways[1:, 1:], ways[0, 1:]
    assert ways[0, 0] == 0
    for length, codes in ((2, range(0x80, 0x800)), (3, range(0x800, 0x10000)), (4, range(0x10000, 0x110000))):
        texts = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000).encode()
        rows = np.frombuffer(texts, np.uint8).reshape(-1, length)  # [N, length]
        state = np.zeros(len(rows), np.int8)
        for column in rows.T if direction == "forward" else rows.T[::-1]:
            assert allowed[state, column - 0x80].all()
            state = after[state, column - 0x80]
        assert not state.any()
        assert begun @ ways[1:, 0] == len(rows)
        begun = begun @ within
    assert not begun.any()
    assert (characters.mask[1:, : FIRST + 0x80] == -np.inf).all()


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_of_whole_characters_come_where_none_has_begun(kind: str) -> None:
    tokenizer, characters = KINDS[kind], Characters(KINDS[kind])
    np.testing.assert_array_equal(characters.mask[0] == 0.0, writable(tokenizer, []))
    assert set(np.unique(characters.mask)) <= {0.0, -np.inf}
    if kind != "word":
        lead = tokenizer.first_byte or 0
        np.testing.assert_array_equal(characters.mask[3] == 0.0, writable(tokenizer, [lead + 0xF1]))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    prompt=st.text(max_size=4),
    changes=st.sampled_from(
        [
            {}, {"top_k": 3}, {"mirostat": 2}, {"xtc_probability": 0.5}, {"repeat_penalty": 1.5}, {"temperature": 0.0},
            {"no_repeat_ngram_size": 2}, {"min_tokens": 30}, {"ban": ("é", "€")}, {"max_tokens": 7}, {"stop": ("ü",)},
        ]
    ),
)  # fmt: skip
def test_no_text_has_half_a_character(kind: str, seed: int, prompt: str, changes: dict[str, object]) -> None:
    tokenizer = KINDS[kind]
    generator = Generator(in_bytes(tokenizer), tokenizer)
    config = replace(WILD, seed=seed, **changes)  # type: ignore[arg-type]
    (generation, *_) = generator.generate([prompt, "a"], config)
    assert "\ufffd" not in generation.text
    assert "".join(generator.stream(prompt, config)) == generation.text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 32), suffix=st.text(max_size=4), max_tokens=st.integers(1, 20))
def test_no_text_towards_an_ending_has_half_a_character(kind: str, seed: int, suffix: str, max_tokens: int) -> None:
    tokenizer = KINDS[kind]
    infiller = Infiller(in_bytes(tokenizer), tokenizer)  # type: ignore[arg-type]
    config = replace(WILD, seed=seed, max_tokens=max_tokens, min_tokens=max_tokens)
    (infill,) = infiller.infill("", suffix, config)
    assert "\ufffd" not in infill.text
    written = len(tokenizer.encode(infill.text))
    assert kind not in ("char", "byte") or max_tokens - 3 <= written <= max_tokens
    assert kind == "word" or max_tokens < 4 or not infill.text.isascii()


@pytest.mark.parametrize("max_tokens", range(1, 20))
def test_a_character_that_a_limit_cuts_is_left_out_at_the_outer_end(max_tokens: int) -> None:
    text = "x🦊床前é\ufffd"
    model = Recital([*BYTES.encode(text)[::-1], BYTES.eos_id], BYTES.vocab_size)
    infiller = Infiller(model, BYTES)  # type: ignore[arg-type]
    (infill,) = infiller.infill("", "", SamplingConfig(temperature=0.0, max_tokens=max_tokens))
    assert infill.text == text.encode()[-max_tokens:].decode(errors="ignore")
    assert infill.stop_reason == ("begin" if max_tokens > len(text.encode()) else "length")


@pytest.mark.parametrize("kind", ["bpe", "byte"])
def test_draws_are_those_of_the_model_among_what_may_follow(kind: str) -> None:
    tokenizer = KINDS[kind]
    model = in_bytes(tokenizer)
    config = replace(WILD, temperature=0.0, heal=False, max_tokens=40)
    (generation,) = Generator(model, tokenizer).generate("x", config)
    ids = [tokenizer.eos_id, *tokenizer.encode("x")]
    for at, id in enumerate(generation.ids):
        allowed = writable(tokenizer, generation.ids[:at])
        assert id == np.where(allowed, model.log_probs(ids), -np.inf).argmax()
        ids.append(id)
    assert len(generation.text.encode()) > 20


@pytest.mark.parametrize("kind", ["bpe", "byte"])
def test_a_search_finds_whole_characters(kind: str) -> None:
    generator = Generator(in_bytes(KINDS[kind]), KINDS[kind])
    found = generator.search("x", SamplingConfig(max_tokens=9), SearchConfig(6, 3))
    assert len(found) == 6
    for generation in found:
        assert "\ufffd" not in generation.text
        for at, id in enumerate(generation.ids):
            assert writable(KINDS[kind], generation.ids[:at])[id]


@pytest.mark.parametrize("kind", ["unigram", "byte"])
def test_suggestions_are_whole_characters(kind: str) -> None:
    found = Suggester(in_bytes(KINDS[kind]), KINDS[kind], num=50).suggest("x", length=9, temperature=1.5)
    assert len(found) > 10
    assert not any("\ufffd" in suggestion.text for suggestion in found)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_text_goes_on_inside_a_character(tmp_path: Path, cut: int) -> None:
    """Its first bytes are not shown before the last has come, wherever it was left."""
    generator = Generator(in_bytes(BYTES), BYTES)
    config = replace(WILD, temperature=0.0, heal=False)
    (whole,) = generator.generate("x", replace(config, max_tokens=24))
    first = generator.tokens("x", replace(config, max_tokens=cut))
    text = "".join(piece.text for piece in first)
    generator.save_state(tmp_path / "state", first.state)
    rest = generator.tokens("", replace(config, max_tokens=24 - cut), generator.load_state(tmp_path / "state"))
    assert text + "".join(piece.text for piece in rest) == whole.text


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_text_completes_no_character_of_the_document_before_it(kept: int) -> None:
    before = [*BYTES.encode("x🦊")[: 1 + kept], BYTES.eos_id]
    generator = Generator(Recital([*before, *BYTES.encode("yes"), BYTES.eos_id], BYTES.vocab_size), BYTES)
    config = replace(WILD, temperature=0.0, heal=False)
    assert "".join(token.text for token in generator.tokens("", config, generator.read(before))) == "yes"
    assert BYTES.unfinished(before[:-1]) == before[1:-1]
    assert BYTES.unfinished(before) == []


@pytest.mark.parametrize("max_tokens", range(5, 16))
def test_required_texts_come_in_time_although_characters_are_completed(max_tokens: int) -> None:
    generator = Generator(in_bytes(BYTES), BYTES)
    for seed in range(10):
        config = replace(WILD, seed=seed, max_tokens=max_tokens, require=("é", "end"))
        (generation,) = generator.generate("", config)
        assert "é" in generation.text
        assert "end" in generation.text
        assert "\ufffd" not in generation.text


def test_a_search_refuses_what_only_a_draw_knows() -> None:
    generator = Generator(in_bytes(BYTES), BYTES)
    with pytest.raises(ConfigError, match="A search makes no random draws: leave out temperature, top_k"):
        generator.search("x", SamplingConfig(temperature=0.3, top_k=5))
    assert generator.search("x", SamplingConfig(max_tokens=2, ban=("z",), no_repeat_ngram_size=2))
