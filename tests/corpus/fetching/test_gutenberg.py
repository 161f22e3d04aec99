"""Books of Project Gutenberg: what is removed, and what is refused."""

from __future__ import annotations

import pytest

from textgen.corpus.fetching.gutenberg import read_book
from textgen.errors import CorpusError

HEAD = (
    "\ufeffThe Project Gutenberg eBook of The War of the Worlds\r\n\r\nThis eBook is for the use of anyone.\r\n\r\n"
    "Title: The War\r\n       of the Worlds\r\n\r\nAuthor: H. G. Wells\r\n\r\n"
    "Release date: July 1, 1992 [eBook #36]\r\n"
    "\r\nLanguage: English\r\n\r\n*** START OF THE PROJECT GUTENBERG EBOOK THE WAR\r\nOF THE WORLDS ***\r\n"
)
FOOT = "\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK THE WAR OF THE WORLDS ***\r\n\r\nSection 1. The licence.\r\n"
PURE = "The War of the Worlds\n\nby H. G. Wells\n\n\n  “But who shall dwell?”\n\n* * *\n\nThe end.\n"
TEXT = "\r\n\r\n\r\n" + PURE.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("\r\nProduced by A. Reader\r\nand others\r\n", ""),
        ("\r\nE-text prepared by A. Reader\r\n\r\nTranscribed from the edition of 1898\r\n\r\n", "\r\n"),
        ("", "\r\nEnd of the Project Gutenberg EBook of The War of the Worlds, by H. G. Wells\r\n"),
        ("", "\r\nEnd of Project Gutenberg's The War of the\r\nWorlds, by H. G. Wells\r\n"),
    ],
)
def test_a_book_is_its_text_alone(before: str, after: str) -> None:
    book = read_book((HEAD + before + TEXT + after + FOOT).encode(), 36)
    assert book.text == PURE
    assert (book.title, book.author) == ("The War of the Worlds", "H. G. Wells")


def test_older_marks_are_known_and_fields_may_be_missing() -> None:
    text = "*** START OF THIS PROJECT GUTENBERG EBOOK X ***\nText.\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n"
    assert read_book(text.encode(), 1) == read_book(text.replace("*** ", "***").encode(), 1)
    assert (read_book(text.encode(), 1).text, read_book(text.encode(), 1).title) == ("Text.\n", "")


def test_a_text_that_speaks_of_the_project_is_kept() -> None:
    text = "He read to the end of Project Gutenberg.\r\n\r\nProduced by nobody.\r\n"
    assert read_book((HEAD + "\r\n\r\nFirst.\r\n\r\n" + text + "\r\nMore.\r\n" + FOOT).encode(), 36).text == (
        "First.\n\nHe read to the end of Project Gutenberg.\n\nProduced by nobody.\n\nMore.\n"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEAD + TEXT, r"incomplete: it has no end\. Try again later"),
        ("<html>Too many requests</html>", "does not begin as its books do"),
        ("a" * 30_000 + HEAD + TEXT + FOOT, "does not begin as its books do"),
        (HEAD.replace("#36", "#37") + TEXT + FOOT, r"of book 36 from .* holds book 37 instead\."),
        (HEAD + "\r\n \r\n" + FOOT, "holds no text"),
    ],
)
def test_what_is_no_book_is_refused(data: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_book(data.encode(), 36)


def test_another_encoding_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"is not in UTF-8: invalid .* at 40\."):
        read_book(b"a" * 40 + b"\xe9" + (HEAD + TEXT + FOOT).encode(), 36)
