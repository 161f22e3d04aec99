"""The text in files of word processors, books, web pages and subtitles, in bounded memory.

.docx, .odt, .epub and .html are parsed by lxml, .pdf by pypdf, .rtf by striprtf (the extra `documents`); .srt and .vtt
need no library. What is decompressed from a file has limits: a small file may become very large.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from textgen.corpus.config import UTF8
from textgen.corpus.encoding_guess import marked_encoding
from textgen.corpus.encodings import REPLACEMENT, WEB_ERRORS, is_utf8_name
from textgen.corpus.formats.epub import book_text
from textgen.corpus.formats.findings import Findings
from textgen.corpus.formats.office import document_text
from textgen.corpus.formats.page_markup import page_text
from textgen.corpus.formats.pdf import pdf_text
from textgen.corpus.formats.rtf import rtf_text
from textgen.corpus.formats.subtitles import subtitle_lines
from textgen.corpus.formats.web_pages import as_html, declared_encoding, name_of
from textgen.corpus.formats.zipped import unzipping
from textgen.errors import CorpusError
from textgen.wording import counted

PAGES = (".html", ".htm", ".xhtml")
SUBTITLES = (".srt", ".vtt")
ZIPPED = (".docx", ".odt", ".epub")
RICH = (*PAGES, *SUBTITLES, *ZIPPED, ".pdf", ".rtf")
WHOLE = (*ZIPPED, ".pdf")  # formats whose files are read at any offset, so they cannot be compressed

MAX_TEXT_CHARS = 1 << 30  # maximum number of characters in the text of a file

SOFT_HYPHEN = "\u00ad"


@dataclass(frozen=True)
class RichFile:
    """A file whose text is not simply its bytes.

    Attributes:
        path: Path of the file.
        name: Name of the file in messages.
        suffix: One of `RICH`.
        encoding: Encoding to read the file in, unless it has a byte-order mark. None for the one that a page names,
            or UTF-8.
        decoded: Returns the decoded text of the file. Arguments are the encoding, what to do with errors as in
            `text_decoder`, and the name of the encoding in messages; only the first is required.
        beginning: The first bytes of the file, once it is decompressed.
        is_utf8: Whether the bytes of the file can hardly be anything but UTF-8.
    """

    path: Path
    name: str
    suffix: str
    encoding: str | None
    decoded: Callable[..., Iterator[str]]
    beginning: Callable[[], bytes]
    is_utf8: Callable[[], bool]

    def texts(self, findings: Findings | None = None) -> Iterator[str]:
        """Iterates over the text of the file.

        Args:
            findings: Gets messages about parts of the file without text.

        Yields:
            Consecutive strings that make up the text.

        Raises:
            CorpusError: The file is damaged, protected or too large, or the library that reads it is missing.
        """
        findings, size, damaged = findings or Findings(), 0, 0
        for text in self._texts(findings):
            text = text.replace(SOFT_HYPHEN, self._shown_hyphen)
            size += len(text)
            damaged += text.count(REPLACEMENT) if self.suffix in WHOLE else 0
            if size > MAX_TEXT_CHARS:
                raise CorpusError(
                    f"{self.name} has more than {MAX_TEXT_CHARS:,} characters of text, the limit. Split it."
                )
            yield text
        if damaged:
            findings.doubtful.append(
                f"Found {counted(damaged, 'character')} in {self.name} that another program could not decode: U+FFFD "
                "stands for each. Save it again from its source, or correct it."
            )

    @property
    def _shown_hyphen(self) -> str:
        """What a reader sees of a soft hyphen: nothing, except in a .pdf file, whose text is what is shown."""
        return "-" if self.suffix == ".pdf" else ""

    def _texts(self, findings: Findings) -> Iterator[str]:
        if self.suffix in PAGES:
            marked = marked_encoding(self.beginning())
            declared = marked or (declared_encoding(self.beginning()) if self.encoding is None else None)
            if declared and (marked or is_utf8_name(declared) or not self.is_utf8()):
                texts = self.decoded(declared, WEB_ERRORS, name_of(declared, self.beginning()))
            else:
                texts = self.decoded(self.encoding or UTF8)
            return page_text(as_html(texts) if self.suffix == ".xhtml" else texts, self.name)
        if self.suffix in SUBTITLES:
            encoding = marked_encoding(self.beginning()) or self.encoding or UTF8
            return subtitle_lines(self.decoded(encoding), self.suffix, self.name)
        if self.suffix == ".rtf":
            return rtf_text(self.name, self.beginning(), self.encoding, self.decoded, findings)
        return pdf_text(self.path, self.name, findings) if self.suffix == ".pdf" else self._zipped(findings)

    def _zipped(self, findings: Findings) -> Iterator[str]:
        with unzipping(self.name), zipfile.ZipFile(self.path) as archive:
            if self.suffix == ".epub":
                yield from book_text(archive, self.name, findings)
            else:
                yield from document_text(archive, self.suffix, self.name)
