"""A small model with hostile labels, as a page that writes: for the tests of the page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from networks import random_weights

from textgen.corpus.config import CorpusConfig
from textgen.model.config import ModelConfig
from textgen.saved_model.loading import load_model
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_model
from textgen.tokenizer.config import TokenizerConfig
from textgen.tokenizer.tokenizer import Tokenizer

HOSTILE = (
    "</script><script>document.title='x'</script>",
    "<img src=x onerror=\"document.title='x'\">",
    "\u2028document.title='x'//",
    '"]}};document.title="x"//',
    "{{model}}",
    "<!--<script>",
)


def hostile_model(folder: Path, tokenizer: Tokenizer, labels: tuple[str, ...] = HOSTILE) -> ModelFolder:
    """Saves a model of random weights whose labels try to get out of their place."""
    labelled = tokenizer.with_labels(labels)
    config = ModelConfig(labelled.vocab_size, embedding_dim=8, hidden_units=8)
    settings = TokenizerConfig("char")
    save_model(folder, random_weights(config), config, settings, CorpusConfig(documents="line"), labelled)
    return load_model(str(folder))


class Elements(HTMLParser):
    """The elements of a page: tags, attributes, and the text of scripts and styles.

    Attributes:
        tags: Each start tag with its attributes.
        texts: Text of each script and style.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag in ("script", "style")
        if self.inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data
