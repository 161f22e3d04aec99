"""How hard a text is for a model before it is fine-tuned."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from textgen.corpus.corpus import Corpus
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.evaluation.scoring import Score
from textgen.saved_model.saved_model import ModelFolder

EXCERPTS = 16
EXCERPT_BYTES = 500  # bytes of an excerpt: all of them are scored within a second
_WIDE_INDENT = re.compile(r"^[^\S\n \t]+", re.MULTILINE)  # hard for a model without a token for it, but soon learned


def sample_of(corpus: Corpus | PreparedCorpus) -> list[str]:
    """Excerpts of a text for `relative_loss`, of a prepared corpus documents and parts of documents to train on.

    Raises:
        CorpusError: Shards of a prepared corpus are missing or damaged, or the text cannot be read.
    """
    if isinstance(corpus, Corpus):
        return corpus.sample
    stream, tokenizer = corpus.data().train, corpus.tokenizer
    excerpts = stream.excerpts(EXCERPTS, EXCERPT_BYTES)
    documents = [part for ids in excerpts for part in np.split(ids, np.flatnonzero(ids == tokenizer.eos_id))]
    return [tokenizer.decode(ids.tolist()) for ids in documents]


def relative_loss(model: ModelFolder, texts: Iterable[str]) -> float | None:
    """The loss of a model on a text that it has not been trained on, relative to that on text of its own kind.

    Text like that of its training comes to about 1. Text that differs from it in subject, style or spelling comes to
    more: 1.5 for the base `english` and Shakespeare's plays, and 2.1 for news.

    Args:
        model: The model.
        texts: The text, or samples of it. Excerpts spread over it are scored, each from an empty context, without the
            ideographic spaces and other wide ones at the start of lines.

    Returns:
        Bits per byte on the excerpts, divided by those on the held-out text of the model's own training. None if that
        score is not known or 0, as of held-out text with only one token, or if there is no text.
    """
    scores = (model.training or {}).get("scores")
    text = _WIDE_INDENT.sub("", "\n".join(texts))
    if not scores or not scores["bits_per_byte"] or not text.strip():
        return None
    length = max(1, len(text) * EXCERPT_BYTES // len(text.encode()))
    count = max(1, min(EXCERPTS, len(text) // length))
    excerpts = [text[number * len(text) // count :][:length] for number in range(count)]
    total = sum((score.total for score in model.scorer().scores(excerpts, ends=False)), Score())
    return total.bits_per_byte / scores["bits_per_byte"]
