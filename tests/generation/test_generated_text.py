"""Texts that are shorter than what was generated, and the positions at their ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from plain_fakes import Recital, TableModel, WordsTokenizer

from textgen.errors import TextgenError
from textgen.generation import decoding, generated_text
from textgen.generation.config import SamplingConfig
from textgen.generation.generated_text import missing_texts, written_ids
from textgen.generation.generator import Generator
from textgen.generation.row import TextRow
from textgen.generation.text_state import TextState
from textgen.tokenizer.kinds import ByteTokenizer

BYTES = ByteTokenizer()
WORDS = WordsTokenizer(["The", " cat", " c", "at"])
TEXT = "é床前🦊. The cat!"
CONFIG = SamplingConfig(temperature=0.0, heal=False, max_tokens=60)


@pytest.mark.parametrize("changes", [{"stop": ("he",)}, {"until": "sentence"}, {"stop": ("床",)}, {"stop": ("🦊",)}])
def test_the_position_at_the_end_of_a_cut_text_repeats_no_byte(changes: dict[str, Any]) -> None:
    """Wherever the text began: at a whole character or inside one, after a state or a prompt of tokens."""
    ids = BYTES.encode(TEXT)
    generator = Generator(Recital([*ids, BYTES.eos_id], BYTES.vocab_size), BYTES)
    reasons = []
    for begin in range(1, len(ids)):
        beginning = generator.tokens("", replace(CONFIG, max_tokens=begin))
        list(beginning)
        start = beginning.state
        writing = generator.tokens("", replace(CONFIG, **changes), start)
        result = writing.result(list(writing))
        reasons.append(result.stop_reason)
        done = BYTES.decode(ids[: begin - len(BYTES.unfinished(ids[:begin]))]) + result.text
        expected = BYTES.encode(done) if result.text else ids[:begin]
        state = generator.read(written_ids(BYTES, start.ids, "", result.text), start)
        assert state.ids == (BYTES.eos_id, *expected)
        assert done + "".join(token.text for token in generator.tokens("", CONFIG, state)) == TEXT
        assert written_ids(BYTES, (), ids[:begin], result.text) == expected
    assert {"stop", "until"} & set(reasons)


def test_a_prompt_that_is_text_and_what_follows_are_read_together() -> None:
    assert written_ids(WORDS, BYTES.encode("é")[:1], "The c", "at") == WORDS.encode("The cat")
    assert written_ids(WORDS, (), WORDS.encode("The c"), "at") == [*WORDS.encode("The c"), *WORDS.encode("at")]
    half = BYTES.encode("é")[:1]
    assert written_ids(BYTES, half, "", "") == []
    assert written_ids(BYTES, (), half, "") == half
    assert written_ids(BYTES, half, "", "床") == BYTES.encode("床"), "not the character that was begun"


@pytest.mark.parametrize(("healed", "missing"), [(2, ()), (0, (" cat",))])
def test_a_required_text_may_begin_in_the_part_of_the_prompt_that_was_written_again(
    healed: int, missing: tuple[str, ...]
) -> None:
    row = TextRow("The c", SamplingConfig(require=(" cat",)), WORDS, TextState(None, (WORDS.eos_id,)))
    row.healed = healed
    assert missing_texts(row, "at") == missing


@pytest.mark.parametrize("part", ["Stepper.step", "Sampler.draw", "Stepper.advance", "Decoder._keep", "Decoder.step"])
def test_an_interrupted_text_goes_on_from_its_position_only(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading on would let the model read a token twice, or lose one."""
    generator = Generator(TableModel(WORDS.vocab_size), WORDS)
    config = replace(CONFIG, temperature=1.0, seed=1, max_tokens=8)
    expected = generator.generate("The", config)[0].ids
    stream = generator.tokens("The", config)
    begun = [next(stream).id for _ in range(3)]
    name, method = part.split(".")
    owner = getattr(decoding, name)
    original = getattr(owner, method)

    def interrupted(*arguments: Any, **more: Any) -> Any:
        original(*arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    for _ in range(2):
        with pytest.raises(TextgenError, match=r"interrupted inside a step.* tokens\(start=STATE\)"):
            next(stream)
    assert tuple(begun) == expected[:3]
    assert stream.state.ids[-3:] == tuple(begun)
    plain = replace(config, temperature=0.0)
    again = generator.tokens("", replace(plain, max_tokens=3), stream.state)
    read = generator.read([*WORDS.encode("The"), *begun])
    assert [token.id for token in again] == [
        token.id for token in generator.tokens("", replace(plain, max_tokens=3), read)
    ]


def test_a_stream_keeps_only_the_last_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated_text, "RECENT", 4)
    generator = Generator(TableModel(WORDS.vocab_size), WORDS)
    stream = generator.tokens("The", replace(CONFIG, temperature=1.0, seed=1, max_tokens=30))
    ids = [WORDS.eos_id, *WORDS.encode("The")]
    for token in stream:
        ids.append(token.id)
        assert stream.state.ids == tuple(ids[-4:])
        assert len(stream._position[0]) <= 8
    assert len(ids) > 20
