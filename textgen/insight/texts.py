"""The text that a network is inspected on: its tokens in reading order, and where each stands in the text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from textgen.corpus.documents import Part
from textgen.errors import CorpusError
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.wording import counted

MIN_TOKENS = 16  # minimum number of tokens of a text; a gate that was read once shows nothing
MAX_CHARS_PER_TOKEN = 64  # maximum number of characters that are read per token, on average


@dataclass(frozen=True, eq=False)
class Text:
    """Tokens in the order in which the network reads them, each document after its opening.

    Attributes:
        ids: Token ids, int32 [N].
        text: The documents one after another, as decoded.
        starts: Where each token begins in `text`, [N]; the tokens between documents are empty.
        ends: Where each token ends in `text`, [N].
        documents: Where each document begins in `text`.
        document: The number of the document of each token, from 0, [N].
        opening: The number of tokens before the text of each document.
        direction: "forward" or "backward".
        is_last_cut: Whether of the last document only a part is used: its beginning, or its end if backward.
        has_more: Whether documents follow of which nothing is used.
    """

    ids: np.ndarray
    text: str
    starts: np.ndarray
    ends: np.ndarray
    documents: tuple[int, ...]
    document: np.ndarray
    opening: int
    direction: str
    is_last_cut: bool
    has_more: bool

    @property
    def is_cut(self) -> bool:
        """Whether there was more text than is used."""
        return self.is_last_cut or self.has_more

    @property
    def read_to(self) -> np.ndarray:
        """The place in `text` up to which the network has read after each token, [N]: from the end if backward."""
        return self.ends if self.direction == "forward" else self.starts

    @property
    def is_scored(self) -> np.ndarray:
        """Whether the token after each one counts in losses, bool [N - 1]. Labels are read, and never predicted."""
        return ((self._place == 0) | self.is_of_document)[1:]

    @property
    def is_of_document(self) -> np.ndarray:
        """Whether each token stands for text of a document, or for a byte of it, bool [N]; not in its opening."""
        return self._place >= self.opening

    @property
    def _place(self) -> np.ndarray:
        """The place of each token in its document with its opening, from 0, [N]."""
        first = np.flatnonzero(np.diff(self.document, prepend=-1))
        return np.arange(len(self.ids)) - first[self.document]

    def pieces(self) -> list[str]:
        """The text of each token; empty between documents, and for all but the last byte of a character."""
        return [self.text[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


def documents_of(parts: Iterable[Part], max_tokens: int) -> Iterator[str]:
    """Joins the parts of documents. Of a document with more text than `max_tokens` hold only the beginning is read.

    Args:
        parts: The parts of documents, from a source of any length.
        max_tokens: Tokens that will be used at most.

    Yields:
        The text of each document.
    """
    held, length = list[str](), 0
    for part in parts:
        held.append(part.text)
        length += len(part.text)
        if part.ends_document or length > MAX_CHARS_PER_TOKEN * max_tokens:
            yield "".join(held)
            held, length = [], 0
        if not part.ends_document and not held:
            return


def read_documents(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    max_tokens: int,
    direction: str = "forward",
    label: str | None = None,
) -> Text:
    """Encodes documents until there are enough tokens. Of the last one the part that is read first is used.

    Args:
        documents: The documents, from a source of any length.
        tokenizer: The tokenizer of the network.
        max_tokens: Tokens to use at most.
        direction: Direction in which the network reads.
        label: Label of the documents.

    Returns:
        The tokens, in the order in which the network reads them.

    Raises:
        CorpusError: There are too few tokens.
        ConfigError: The model does not know the label.
    """
    opening = tokenizer.opening(label)
    ids, starts, ends, numbers = list[int](), list[int](), list[int](), list[int]()
    is_forward = direction == "forward"
    text, begins, is_last_cut, has_more = "", list[int](), False, False
    for document in documents:
        room = max_tokens - len(ids) - len(opening)
        if is_last_cut or room <= 0:
            has_more = True
            break
        near = document[: MAX_CHARS_PER_TOKEN * room] if is_forward else document[-MAX_CHARS_PER_TOKEN * room :]
        own = tokenizer.encode(near)
        is_last_cut = len(own) > room or len(near) < len(document)
        own = own[:room] if is_forward else own[-room:]
        decoded, edges = _decoded(tokenizer, own, len(text))
        turn, edge = slice(None, None, 1 if is_forward else -1), edges[0 if is_forward else -1]
        numbers += [len(begins)] * (len(opening) + len(own))
        begins.append(len(text))
        ids += [*opening, *own[turn]]
        starts += [edge] * len(opening) + edges[:-1][turn]
        ends += [edge] * len(opening) + edges[1:][turn]
        text += decoded
    _require_tokens(ids)
    return Text(
        np.array(ids, np.int32),
        text,
        np.array(starts),
        np.array(ends),
        tuple(begins),
        np.array(numbers),
        len(opening),
        direction,
        is_last_cut,
        has_more,
    )


def _require_tokens(ids: Sequence[int]) -> None:
    """Raises `CorpusError` for a text that has too few tokens."""
    if len(ids) < MIN_TOKENS:
        raise CorpusError(
            f"The text has {counted(len(ids), 'token')}, too few to see anything: give one of at least {MIN_TOKENS}, "
            "better a few thousand."
        )


def _decoded(tokenizer: Tokenizer, ids: Sequence[int], start: int) -> tuple[str, list[int]]:
    """The text of a document that starts at a place, and the places before and after each of its tokens, [N + 1]."""
    decoder = tokenizer.decoder()
    parts = [decoder.feed([id]) for id in ids]
    if parts:
        parts[-1] += decoder.flush()
    return "".join(parts), list(itertools.accumulate(map(len, parts), initial=start))
