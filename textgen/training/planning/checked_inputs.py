"""Opens and checks what a run is planned from, before TensorFlow is loaded and a vocabulary is learned."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textgen.corpus.config import CorpusConfig
from textgen.corpus.corpus import Corpus
from textgen.dataset.prepared_corpus import PreparedCorpus, open_corpus
from textgen.saved_model.registry import find_tokenizer
from textgen.saved_model.saved_model import ModelFolder
from textgen.settings import from_dict, select
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.training.planning.checks import check_settings
from textgen.training.planning.inputs import Sources, held_out_text
from textgen.training.planning.plan import read_and_check
from textgen.training.planning.start_choice import given_start
from textgen.wording import Say


def open_inputs(
    paths: Sequence[str | Path],
    settings: Mapping[str, Any],
    *,
    preset: str | None = None,
    start: str | Path | ModelFolder | None = None,
    tokenizer_from: str | Path | ModelFolder | None = None,
    valid_file: str | Path | None = None,
    models_dir: str | Path | None = None,
    note: Say,
) -> tuple[Corpus | PreparedCorpus, Sources]:
    """Opens and checks the inputs of a run. What is quick to check comes first, and standard input is read last.

    Args:
        paths: The text to train on.
        settings: Flat settings by name, those that are given.
        preset: A size of `SIZES`, or None.
        start: Model to start from, "none" for random weights, or None if the plan may choose a base.
        tokenizer_from: Model or file whose vocabulary is used; None to train one, or to keep that of `start`.
        valid_file: File with the held-out text; None to hold out a fraction of the text.
        models_dir: Folder of the saved models.
        note: Called with a line for each file and each kind of record that is skipped.

    Returns:
        The text, and what else the run uses.

    Raises:
        SavedModelError: There is no such model, or it is damaged.
        ConfigError: A setting is wrong, or contradicts the text, the start or the held-out text.
        TokenizerError: The file of the vocabulary cannot be read, is damaged, or another program made it.
        CorpusError: A text cannot be read or is too short, or held-out text is also text to train on.
    """
    model = given_start(start, models_dir)
    tokenizer = named_tokenizer(tokenizer_from, models_dir)
    check_settings(settings, preset, model)
    config = from_dict(CorpusConfig, select(CorpusConfig, settings))
    text = open_corpus(paths, config, is_alone=valid_file is None)
    held_out = None if valid_file is None else held_out_text(valid_file, text)
    sources = Sources(held_out, model, tokenizer, may_choose_base=start is None)
    read_and_check(text, settings, sources, note)
    return text, sources


def named_tokenizer(name: str | Path | ModelFolder | None, models_dir: str | Path | None) -> Tokenizer | None:
    """Returns the vocabulary to use, if one is named.

    Args:
        name: A model, its name, or what else `find_tokenizer` takes; None for none.
        models_dir: Folder of the saved models.

    Raises:
        SavedModelError: There is no such model, or it is damaged.
        TokenizerError: The file cannot be read, is damaged, or another program made it.
    """
    if isinstance(name, ModelFolder):
        return name.tokenizer
    return None if name is None else find_tokenizer(os.fspath(name), models_dir)
