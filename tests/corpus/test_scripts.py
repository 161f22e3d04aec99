"""Tests of which texts have words."""

from collections import Counter

import pytest

from textgen.corpus.scripts import has_words, letters_without_spaces, without_words

TEXTS = [
    ("The moon is bright.", True),
    ("床前明月光，疑是地上霜。\n", False),
    ("いろはにほへと", False),
    ("ฉันรักภาษาไทย", False),
    ("나는 한국어를 배운다", True),
    ("moon 月光明日", True),
    ("moon 月光明日天", False),
    ("12 34", True),
    ("", True),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
@pytest.mark.parametrize("times", [1, 5000])
def test_a_text_has_words_unless_most_letters_are_of_scripts_without_spaces(
    text: str, expected: bool, times: int
) -> None:
    assert has_words(*letters_without_spaces(Counter(text * times))) is expected
    if times == 1 or not text.startswith("moon"):  # a sample estimates a share near a half only roughly
        assert has_words(without_words(text * times), len(text * times)) is expected
