"""Encodings by name."""

from __future__ import annotations

import pytest

from textgen.corpus.encodings import is_plain, text_decoder
from textgen.errors import CorpusError


def test_encodings_by_name() -> None:
    assert text_decoder("gb18030").decode("月".encode("gb18030")) == "月"
    assert [is_plain(name) for name in ("utf-8", "cp1252", "gbk", "utf-16", "utf-7")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(CorpusError, match=r"There is no encoding 'lateen'\. Set encoding to one such as utf-8"):
        text_decoder("lateen")
