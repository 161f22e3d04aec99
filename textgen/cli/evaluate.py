"""textgen evaluate: how well a saved model predicts a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from textgen.cli import output
from textgen.cli.adaptation_options import cache_options, dynamic_options, ensemble_option, switched
from textgen.cli.command import SectionCommand
from textgen.cli.default_model import (
    beginning_of,
    hint_for_file,
    load_model_or_base,
    load_model_to_read,
    model_and_paths,
    refuse_file_as_model,
)
from textgen.cli.options import (
    corpus_options_of_model,
    given,
    json_option,
    label_option,
    model_argument,
    models_dir_option,
    novelty_line,
    novelty_option,
    paths_argument,
)
from textgen.corpus.config import CorpusConfig
from textgen.evaluation.config import DynamicConfig, NeuralCacheConfig
from textgen.settings import select
from textgen.wording import short, with_escapes

if TYPE_CHECKING:
    from textgen.corpus.corpus import Corpus
    from textgen.dataset.ngram_index import Novelty
    from textgen.dataset.token_stream import TokenStream
    from textgen.model.language_model import LanguageModel
    from textgen.saved_model.saved_model import ModelFolder

AS_SAVED = "nats_per_token_as_saved"  # score of the model without adaptation
TITLES = {"documents_mode": "documents by"}  # of values whose name is not their title


@click.command(cls=SectionCommand)
@model_argument()
@paths_argument(metavar="PATHS...")  # needed, but where MODEL is left out the first of them is parsed as MODEL
@ensemble_option
@click.option(
    "--exact",
    is_flag=True,
    help="Compare the exact arithmetic of textgen sample --exact with float32, on at most 32,768 tokens: perplexity, "
    "divergence in nats per token, same likeliest token. It is an error if the perplexity rises by more than 0.3 % or "
    "the divergence exceeds 0.002.",
)
@label_option
@novelty_option
@json_option
@models_dir_option
@corpus_options_of_model
@cache_options
@dynamic_options
def evaluate(
    model: str,
    paths: tuple[str, ...],
    ensemble: tuple[str, ...],
    label: str | None,
    neural_cache: bool,
    dynamic: bool,
    exact: bool,
    novelty: bool,
    as_json: bool,
    models_dir: Path | None,
    **options: Any,
) -> None:
    """Measure how well a model predicts a text.

    PATHS are files, folders, globs, or - for standard input. Documents are cut as in training, unless options say
    otherwise; their labels are read, but not scored; with --label they are not read. Before any training MODEL may be
    left out: the default is a base, chinese if the text is mostly Chinese characters, english if it is mostly Latin
    letters.

    Nats and perplexity per token depend on the vocabulary; bits per byte compare any two models on the same text, cut
    into documents in the same way (--documents): newlines or blank lines between documents do not count as bytes.
    Perplexity per word counts the end of each document as a word; texts without spaces between words, such
    as Chinese, have none. With a vocabulary of words, bits per byte and perplexity per word include the cost of
    spelling unknown words, with a trigram model of bytes fitted to the known words; nats and perplexity per token do
    not. White space that such a vocabulary loses does not count as bytes.

    With --neural-cache or --dynamic the text is read as one stream, in order. This takes longer; the score without
    adaptation is shown too, and the saved model stays as it is. A model with an attention head is also scored with
    the head switched off. A model of both directions is scored forward; its backward score is printed as well.
    Both are left out with --neural-cache, --dynamic and --ensemble.

    \b
    Example:
      textgen evaluate novel other-novel.txt
      textgen evaluate news test.txt --documents line --json
      textgen evaluate novel other-novel.txt --neural-cache --dynamic
      textgen evaluate novel other-novel.txt --ensemble novel-2
      textgen evaluate novel other-novel.txt --exact
    """
    from textgen.saved_model.other_texts import scoring, text_to_score

    cache_config = switched(NeuralCacheConfig, neural_cache, "--neural-cache", options)
    dynamic_config = switched(DynamicConfig, dynamic, "--dynamic", options)
    name, paths = model_and_paths(model, paths, models_dir)
    if not paths:
        refuse_file_as_model(name, models_dir)
        raise click.UsageError("Missing argument 'PATHS...'.")
    other = {"--ensemble": ensemble, "--neural-cache": neural_cache, "--dynamic": dynamic, "--novelty": novelty}
    if exact and (flags := [flag for flag, value in other.items() if value]):
        raise click.UsageError(f"--exact compares one model with itself: leave out {flags[0]}.")
    saved = load_model_or_base(name, models_dir, lambda: beginning_of(paths, options), hint_for_file(name))
    others = [load_model_to_read(name, models_dir) for name in ensemble]
    ngrams = saved.ngrams() if novelty else None  # raises before the text is read
    text = text_to_score(saved, others, paths, select(CorpusConfig, given(options)), label, output.note)
    if exact:
        _compare(saved, text, label, as_json)
        return
    adapts = bool(cache_config or dynamic_config)
    with scoring(saved, others, text, label, adapts=adapts, note=output.note) as (networks, stream):
        scores = {
            **_scores(networks, stream, cache_config, dynamic_config),
            "documents_mode": text.documents_mode,
        }
        copied = ngrams.novelty_of_ids(stream.read(0, len(stream)), saved.tokenizer) if ngrams else None
    _print_scores(scores, copied, as_json)


def _compare(saved: ModelFolder, text: Corpus, label: str | None, as_json: bool) -> None:
    """Prints the loss of accuracy from exact arithmetic. Raises `ConfigError` if it is too large."""
    from textgen.dataset.token_cache import encoded
    from textgen.evaluation.exactness import exactness

    ordinary, exact = saved.numpy_model(), saved.exact_model()
    with encoded(text, saved.tokenizer, label) as stream:
        text.say_left_out(output.note)
        found = exactness(ordinary, exact, stream, saved.tokenizer.pad_id)
    _print_scores(found.to_dict(), None, as_json)
    found.check()


def _scores(
    networks: Sequence[LanguageModel],
    stream: TokenStream,
    cache: NeuralCacheConfig | None,
    dynamic: DynamicConfig | None,
) -> dict[str, float]:
    """All scores by name, with those that show the effect of adaptation and attention."""
    from textgen.evaluation.evaluator import Evaluator, nats_without_attention

    network, *ensemble = networks
    scores = Evaluator(network, cache, dynamic, ensemble).scores(stream).to_dict()
    if cache or dynamic:
        scores[AS_SAVED] = Evaluator(network, ensemble=ensemble, in_one_row=True).scores(stream).nats_per_token
    elif network.config.attention and not ensemble:
        scores["nats_per_token_without_attention"] = nats_without_attention(network, stream)
    return scores


def _print_scores(scores: Mapping[str, Any], copied: Novelty | None, as_json: bool) -> None:
    if AS_SAVED in scores and not scores["nats_per_token"] <= scores[AS_SAVED]:  # true for NaN as well
        output.note("Adapting made it worse: try a smaller --dynamic-learning-rate, or --neural-cache-lambda.")
    if as_json:
        values: dict[str, Any] = {**scores}
        if copied:
            values["novelty"] = asdict(copied)
        output.json_line(values, indent=2)
        return
    names = {name: TITLES.get(name, name.replace("_", " ")) for name in scores}
    width = max(map(len, names.values()))
    for name, value in scores.items():
        output.line(f"{names[name]:{width}} {_shown(value):>14}")
    if copied:
        output.line(novelty_line(copied))


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return with_escapes(value)
    return f"{value:,}" if isinstance(value, int) else short(value, 4)
