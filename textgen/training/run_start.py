"""How a run begins: its vocabulary and encoded text, the index of what it copies, its record, its first weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textgen.corpus.labels import named
from textgen.dataset.batches import WINDOWS_FORMAT
from textgen.dataset.ngram_index import MAX_NGRAMS, NgramIndex, index_stream
from textgen.dataset.prepared_corpus import PreparedCorpus
from textgen.dataset.split import MAX_TIMES_OFF
from textgen.dataset.subword_sampling import SampledStream
from textgen.dataset.token_cache import TokenData, encode_and_split
from textgen.dataset.token_stream import TokenStream
from textgen.dataset.word_filter import MAX_TOKENS, WordFilter, stream_words, word_filter
from textgen.errors import ModelChanged
from textgen.model.config import ModelConfig
from textgen.model.vocabulary_transfer import carried_over, shared_tokens, spelled_tokens
from textgen.saved_model.loading import load_model
from textgen.saved_model.run_status import RUNNING
from textgen.saved_model.saved_model import ModelFolder
from textgen.saved_model.saving import save_ngrams, save_words, write_training
from textgen.settings import to_dict
from textgen.storage.files import write_own_file
from textgen.storage.locks import require_held
from textgen.tokenizer.model_file import MODEL_FILE
from textgen.tokenizer.tokenizer import Tokenizer
from textgen.tokenizer.vocabulary import add_labels, learn_vocabulary
from textgen.training.config import TrainingConfig
from textgen.training.planning.plan import Plan
from textgen.training.resumption import CORPUS_FORMAT, with_origin
from textgen.training.run_setup import RunSetup
from textgen.versions import module_version
from textgen.wording import Say, counted, percent, silent

if TYPE_CHECKING:
    from textgen.model.language_model import LanguageModel

KNOWN_TOKENS = 50_000  # held-out tokens that are looked for in the training text of the model that the run starts from
KNOWN_STRETCHES = 10  # places of the held-out text from which they are taken
MUCH_KNOWN = 0.2  # minimum fraction of them found there that is reported
TRANSFER_TOKENS = 4_096  # maximum number of tokens used to choose how the output bias is transferred


def begin(plan: Plan, folder: Path, say: Say = silent) -> RunSetup:
    """Encodes the text of a new run and records the run in its folder.

    Args:
        plan: Corpus and settings.
        folder: Folder of the new model, locked by the caller.
        say: Called with a line of text for each stage.

    Returns:
        The run, recorded in its folder.
    """
    tokenizer, data = encode(plan, say)
    plan = plan.for_text(data.train.summary, data.valid.summary)
    say(f"{counted(len(data.train), 'token')} to train on, {len(data.valid):,} held out.")
    _report_little_held_out(plan, data, say)
    start = plan.sources.start
    knows_vocabulary = start is not None and start.tokenizer.is_part_of(tokenizer)
    _report_vocabulary(start, tokenizer, say)
    of_start = start.ngrams() if start and start.has_ngrams and knows_vocabulary else None
    index = save_ngram_index(folder, tokenizer, data, say, of_start)
    if start and of_start and index:
        _report_known_text(start, index, tokenizer, data.valid, say)
    words_of_start = start.words() if start else None
    if start is None or words_of_start:
        save_known_words(folder, tokenizer, data, say, words_of_start)
    else:  # a filter of the text alone would forbid the words of that model
        say(f"{start.name} has no list of its words and may invent some, so the new model may, too.")
    model_config = replace(plan.model_config, vocab_size=tokenizer.vocab_size)
    record = with_origin(_first_record(plan, model_config, tokenizer, data), folder, tokenizer.serialized)
    write_training(folder, record)
    if tokenizer.serialized:  # after the record, beside which `claimed` knows that a run has written it
        require_held(folder)
        write_own_file(folder / MODEL_FILE, tokenizer.serialized)
    return RunSetup(
        folder=folder,
        record=record,
        model_config=model_config,
        tokenizer_config=plan.tokenizer_config,
        corpus_config=plan.corpus_config,
        training_config=plan.training_config,
        tokenizer=tokenizer,
        data=data,
        start=start,
    )


def encode(plan: Plan, say: Say) -> tuple[Tokenizer, TokenData]:
    """The vocabulary, trained if need be, and the encoded text."""
    if isinstance(plan.corpus, PreparedCorpus):
        data = plan.corpus.data()
        plan.corpus.say_repeated(say)
        return plan.corpus.tokenizer, data
    tokenizer = plan.sources.tokenizer
    if tokenizer is None:
        if plan.tokenizer_config.tokenizer != "byte":
            say(f"Learning a vocabulary ({plan.tokenizer_config.tokenizer}) ...")
        tokenizer = learn_vocabulary(plan.corpus, plan.tokenizer_config)
    else:
        tokenizer = add_labels(tokenizer, plan.corpus)
    say(f"Vocabulary: {counted(tokenizer.vocab_size, 'token')}. Encoding the corpus ...")
    return tokenizer, encode_and_split(plan.corpus, tokenizer, plan.sources.valid or plan.training_config, say=say)


def _report_vocabulary(start: ModelFolder | None, tokenizer: Tokenizer, say: Say) -> None:
    """Reports which tokens or labels are new to the model that the run starts from."""
    if start is None:
        return
    if start.tokenizer.is_part_of(tokenizer):
        if new := [label for label in tokenizer.labels if label not in start.tokenizer.labels]:
            say(f"Labels that {start.name} does not know: {named(new)}.")
        return
    shared = len(shared_tokens(start.tokenizer, tokenizer)[0])
    spelled = len(spelled_tokens(start.tokenizer, tokenizer))
    say(
        f"{shared:,} of {counted(tokenizer.vocab_size, 'token')} are known to {start.name}; {spelled:,} begin as the "
        "mean of the tokens that spell them."
    )


def save_ngram_index(
    folder: Path, tokenizer: Tokenizer, data: TokenData, say: Say, of_start: NgramIndex | None = None
) -> NgramIndex | None:
    """Saves the n-grams of the text, by which copies are detected, and those of the model that the run starts from.

    Args:
        folder: Folder of the model.
        tokenizer: Its vocabulary.
        data: The text.
        say: Called with a line if the text is too long for it.
        of_start: N-grams of the model that the run starts from.

    Returns:
        What was saved; None if the text is too long for it.
    """
    if len(data.train) > MAX_NGRAMS:
        say("The corpus is too large for an index of its n-grams, so copies of it cannot be detected.")
        return None
    index = index_stream(data.train, tokenizer, of_start)
    save_ngrams(folder, index)
    return index


def _report_little_held_out(plan: Plan, data: TokenData, say: Say) -> None:
    """Warns if the documents that were drawn are so short that far less is held out than was meant to be."""
    fraction, held = plan.training_config.valid_fraction, data.valid.summary.characters
    total = held + data.train.summary.characters
    if plan.sources.valid or held * MAX_TIMES_OFF >= fraction * total:
        return
    again = "prepare the corpus again with" if isinstance(plan.corpus, PreparedCorpus) else "choose"
    say(
        f"Only {counted(held, 'character')} of {total:,} are held out, {percent(held / total)} and not "
        f"{percent(fraction)}: the documents drawn are short ones. The scores are rough: {again} "
        "another seed or a larger fraction (valid_fraction)."
    )


def _report_known_text(
    start: ModelFolder, index: NgramIndex, tokenizer: Tokenizer, held_out: TokenStream, say: Say
) -> None:
    """Warns if the model that the run starts from was trained on much of the held-out text.

    Held-out text that the text to train on also contains does not count: texts made of set phrases, such as logs, have
    much in common, and so will new texts of that kind.

    Args:
        start: The model.
        index: The n-grams of the text to train on and of the training text of `start`.
        tokenizer: The vocabulary.
        held_out: The held-out text.
        say: Called with a line if it is much.
    """
    length = -(-min(KNOWN_TOKENS, len(held_out)) // KNOWN_STRETCHES)
    ids = np.concatenate(held_out.excerpts(KNOWN_STRETCHES, length))
    found, own = (each.novelty_of_ids(ids, tokenizer).copied_fraction or 0.0 for each in (index, index.own))
    if found - own >= MUCH_KNOWN:
        say(
            f"{100 * (found - own):.0f} % of the held-out text occurs in the training text of {start.name}, and not in "
            f"that of this run, so the scores are too good: hold out text that {start.name} has not read (valid_file)."
        )


def save_known_words(
    folder: Path, tokenizer: Tokenizer, data: TokenData, say: Say, of_start: WordFilter | None = None
) -> None:
    """Saves the words of the text and those of the model that the run starts from: the new model writes no others.

    Not for a run that starts from a model without a list of its words, which the new model would then not write.

    Args:
        folder: Folder of the model.
        tokenizer: Its vocabulary.
        data: The text.
        say: Called with a line if too many words occur only once.
        of_start: Words of the model that the run starts from.
    """
    if tokenizer.kind == "word" or len(data.train) > MAX_TOKENS:
        return
    counts = stream_words(data.train, tokenizer)
    if words := word_filter(counts, of_start):
        save_words(folder, words)
    elif counts:
        say("Many of the words in the text occur only once, so the model may invent words.")


def _first_record(plan: Plan, model_config: ModelConfig, tokenizer: Tokenizer, data: TokenData) -> dict[str, Any]:
    """The contents of training.json before the first step."""
    return {
        "status": RUNNING,
        "corpus": {
            "corpus_format": CORPUS_FORMAT,
            "paths": plan.corpus.places,
            "valid": plan.sources.valid.places if plan.sources.valid else None,
            "valid_fingerprint": plan.sources.valid.fingerprint() if plan.sources.valid else None,
            "config": to_dict(plan.corpus_config),
            "fingerprint": plan.corpus.fingerprint(),
            "characters": plan.facts.stats.characters,
            "num_documents": plan.facts.stats.documents,
            "bytes": plan.facts.stats.bytes,
        },
        "tokens": {"folder": str(data.train.folder), "train": len(data.train), "valid": len(data.valid)},
        "windows_format": WINDOWS_FORMAT,
        "tokenizer": to_dict(plan.tokenizer_config),
        "labels": list(tokenizer.labels),
        "model": to_dict(model_config),
        "training": to_dict(plan.training_config),
        "is_patience_planned": plan.is_patience_planned,
        "are_validations_planned": plan.are_validations_planned,
        "start": plan.choice.to_dict(),
        "parameters": model_config.num_parameters,
        "versions": {name: module_version(name) for name in ("textgen", "tensorflow", "keras", "sentencepiece")},
        "progress": {"step": 0, "epochs": 0.0, "seconds": 0.0},
        "scores": {},
    }


def initial_model(
    config: ModelConfig, training: TrainingConfig, tokenizer: Tokenizer, data: TokenData, start: ModelFolder | None
) -> LanguageModel:
    """Returns the network before the first step: with random weights, or with those of the model to start from.

    Args:
        config: Shape of the network.
        training: Settings of training, with the seed of random weights.
        tokenizer: The vocabulary.
        data: The text, whose token frequencies are the first bias of the output layer.
        start: The model to start from; None for random weights.

    Returns:
        The network.
    """
    from textgen.model.language_model import LanguageModel
    from textgen.training.initializers import initialize

    model = LanguageModel(config, pad_id=tokenizer.pad_id, seed=training.seed, precision=training.precision)
    initialize(model, training)
    model.start_bias(data.train.counts)
    if start:
        fresh, ids = model.weights_as_arrays(), data.train.read(0, min(len(data.train), TRANSFER_TOKENS))
        model.assign_weights(carried_over(config, _weights_of(start), start.tokenizer, tokenizer, fresh, ids))
    return model


def _weights_of(start: ModelFolder) -> dict[str, np.ndarray]:
    """The weights of a model: the newest ones if its training has saved better ones since it was loaded."""
    try:
        return start.weights()
    except ModelChanged:
        newest = load_model(str(start.folder.absolute()))
        if newest.model_config != start.model_config or newest.tokenizer.serialized != start.tokenizer.serialized:
            raise
        return newest.weights()


def training_data(data: TokenData, tokenizer: Tokenizer, config: TrainingConfig) -> TokenData:
    """The data, with another segmentation of the training text in each epoch if `subword_alpha` asks for it."""
    if not config.subword_alpha:
        return data
    return replace(data, train=SampledStream(data.train, tokenizer, config.subword_alpha, config.seed))
