"""Encodings by name."""

from __future__ import annotations

import pytest

from textgen.corpus.encodings import WEB_ERRORS, is_plain, text_decoder, web_encoding
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


def test_pages_in_euc_jp_have_the_characters_of_nec_and_ibm() -> None:
    """EUC-JP and Shift JIS are two ways to write the rows and cells of the same table."""
    for row, lead in ((0xF9, 0xED), (0xFA, 0xED), (0xFB, 0xEE)):
        data = b"".join(bytes([row, cell]) for cell in range(0xA1, 0xFF))
        trails = [trail for trail in range(0x40, 0xFD) if trail != 0x7F and (trail >= 0x9F) == (row == 0xFA)]
        assert data.decode("euc_jp", WEB_ERRORS) == b"".join(bytes([lead, trail]) for trail in trails).decode("cp932")
    for data, text in {b"\xf9\xa1": "纊", b"\xad\xf0": "≒", b"\xad\xfc": "∪", b"\xa1\xc1\xfc\xfeA": "〜＂A"}.items():
        decoder = text_decoder("euc_jp", WEB_ERRORS)
        assert "".join(decoder.decode(bytes([byte])) for byte in data) + decoder.decode(b"", True) == text


@pytest.mark.parametrize("number", [*range(2, 9), 10, 13, 14, 15])
def test_labels_without_marks_are_known(number: int) -> None:
    assert [web_encoding(f"{name}{number}") for name in ("iso8859", "iso8859-")] == [f"iso8859-{number}"] * 2
