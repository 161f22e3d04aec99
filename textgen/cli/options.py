"""Options that several commands share: config fields with hyphens, None when not given."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from textgen.corpus.config import DOCUMENT_MODES, NEWLINES, CorpusConfig
from textgen.corpus.documents import RECORDS
from textgen.errors import SavedModelError, TextgenError
from textgen.generation.config import UNITS, SamplingConfig, SearchConfig
from textgen.settings import from_dict, select
from textgen.storage import check_writable
from textgen.tokenizer.config import TOKENIZERS
from textgen.wording import counted

if TYPE_CHECKING:
    from textgen.dataset.ngram_index import Novelty
    from textgen.tokenizer.tokenizer import Tokenizer

Decorator = Callable[[Any], Any]


def option_group(*options: Decorator) -> Decorator:
    """One decorator out of several; `--help` lists them in the order given."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}


def unescaped(text: str | None) -> str | None:
    """What was typed, with newlines, tabs and backslashes in the place of \\n, \\t, \\r and \\\\."""
    return text and re.sub(r"\\[ntr\\]", lambda match: ESCAPES[match.group()], text)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's options that were given."""
    return {name: value for name, value in options.items() if value is not None}


corpus_options = option_group(
    click.option(
        "--documents",
        type=click.Choice(DOCUMENT_MODES),
        help="What one document is: a file, a block between blank lines, or a line. Guessed when not given.",
    ),
    click.option("--encoding", help="Encoding of the files: utf-8 (the default), latin-1, gb18030, ..."),
    click.option(
        "--newlines",
        type=click.Choice(NEWLINES),
        help="Whether \\r\\n and \\r become \\n (normalize, the default) or are kept.",
    ),
    click.option("--text-field", metavar="NAME", help="Field of .jsonl files that holds the text [default: text]."),
    click.option("--text-column", metavar="NAME", help="Column of .csv and .tsv files with the text [default: text]."),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        callback=lambda context, parameter, value: unescaped(value),
        help="Between the fields of .csv and .tsv files; \\t is a tab. Detected when not given.",
    ),
    click.option(
        "--no-header/--header",
        default=None,
        help="Whether .csv and .tsv files begin with data; their columns are numbers from 1 on [default: --header].",
    ),
    click.option(
        "--strict/--lenient",
        default=None,
        help="Whether a record without text ends the reading; else it is skipped and counted [default: --lenient].",
    ),
    click.option(
        "--labels",
        metavar="NAME",
        help="Column or field with the label of each document, or `folder`: that of its file is the label.",
    ),
)

tokenizer_options = option_group(
    click.option(
        "--tokenizer",
        type=click.Choice(TOKENIZERS),
        help="Kind of pieces; word loses unknown words and most white space, the others nothing [default: unigram].",
    ),
    click.option("--vocab-size", type=int, metavar="N", help="Pieces, special ones included. Chosen when not given."),
    click.option(
        "--sample-bytes",
        type=int,
        metavar="N",
        help="Learn pieces from at most so much text [default: 20000000].",
    ),
)

SAMPLING_HELP = {  # settings of SamplingConfig, by the section of the help that they stand in
    "Options": {
        "temperature": "Below 1 is safer, above 1 wilder, 0 always the likeliest.",
        "top_k": "Draw from the N likeliest pieces; 0 is off.",
        "top_p": "Draw from the likeliest pieces that hold this probability; 1 is off.",
        "min_p": "Leave out pieces less likely than this share of the likeliest; 0 is off.",
        "max_tokens": "Pieces at most.",
        "max_seconds": "Seconds at most, for each text.",
        "label": "Write as the texts with this label; see --labels of textgen train.",
        "stop": "End before this text, in which \\n is a newline and \\t a tab; may be given several times.",
        "until": "End with the document, or with the sentence, line or paragraph if that is earlier.",
        "seed": "The same seed gives the same text [default: random].",
        "heal": "Whether a prompt may end inside a piece, and goes on with the rest of it [default: --heal].",
        "top_logprobs": "With --json: log probabilities, also of the N likeliest pieces in each place.",
    },
    "Repetition": {
        "repeat_penalty": "Divides the logits of pieces that came lately; 1 is off.",
        "presence_penalty": "Subtracted from their logits.",
        "frequency_penalty": "Subtracted as often as they came.",
        "repeat_last_n": "How many pieces back these three look.",
        "dry_multiplier": "Penalty on a piece that would prolong a repetition; 0 is off.",
        "dry_base": "It grows by this factor with each piece of a longer repetition.",
        "dry_allowed_length": "Repetitions of fewer than N pieces are free.",
        "dry_penalty_last_n": "How many pieces back it looks.",
        "dry_sequence_breakers": "No repetition goes beyond pieces with this text; may be given several times "
        "[default: newline, colon, quotation mark and asterisk].",
        "no_repeat_ngram_size": "No sequence of N pieces comes twice; 0 is off.",
    },
    "Words and length": {
        "ban": "This text may not come about; may be given several times.",
        "require": "This text must come before the text may end; may be given several times.",
        "logit_bias": "Make the piece TEXT likelier by NUMBER nats; of several pieces, the last after the others. "
        "#ID names a piece by its number. May be given several times.",
        "min_tokens": "The document does not end before N pieces.",
        "no_copy": "Take no run of more than N pieces from the training text; a prompt does not count.",
    },
    "Rarer samplers": {
        "samplers": "Which are applied, in this order; those left out are off.",
        "dynatemp_range": "The temperature moves by up to this, lower where the model is sure; 0 is off.",
        "dynatemp_exponent": "Above 1, it rises only where the model is very unsure.",
        "typical_p": "Draw from the pieces of most typical surprise that hold this probability; 1 is off.",
        "top_n_sigma": "Leave out logits so many standard deviations below the highest; 0 is off.",
        "epsilon_cutoff": "Leave out pieces less likely than this; 0 is off.",
        "eta_cutoff": "The same, but lower where much is possible; 0 is off.",
        "xtc_probability": "How often the likeliest pieces are left out, but for the last of them; 0 is off.",
        "xtc_threshold": "Those above this probability.",
        "mirostat": "1 or 2 steers to a steady surprise instead of leaving pieces out by a rule; 0 is off.",
        "mirostat_tau": "The surprise to steer to, in bits a piece.",
        "mirostat_eta": "How fast.",
    },
}


class SectionOption(click.Option):
    """An option that `SectionCommand` shows under a title."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionCommand(click.Command):
    """A command whose help has the rarer options after the common ones, under titles of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes each section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class OutputFile(click.Path):
    """A file that a command writes when its work is done. One that cannot be written is refused before the work."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Raises `TextgenError` where no file can be written."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_writable(path)
        return path


def setting_option(kind: type, name: str, text: str, section: str) -> Decorator:
    """The flag of a setting: type and default are those of the field."""
    default, annotation = getattr(kind, name), kind.__annotations__[name]
    flag = "--" + name.replace("_", "-")
    shapes: dict[str, dict[str, Any]] = {
        "float": {"type": float},
        "int": {"type": int, "metavar": "N"},
        "str": {"type": click.Choice(UNITS)} if name == "until" else {"metavar": "NAMES" if default else "NAME"},
        "bool": {"default": None},
        "tuple[str, ...]": {
            "multiple": True,
            "metavar": "TEXT=NUMBER" if name == "logit_bias" else "TEXT",
            "callback": lambda context, parameter, value: tuple(map(unescaped, value)) or None,
        },
    }
    if annotation == "bool":
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    elif isinstance(default, (float, int, str)):
        text = f"{text.removesuffix('.')} [default: {str(default).replace(';', '; ')}]."
    shape = shapes[annotation.removesuffix(" | None")]
    return click.option(flag, cls=SectionOption, section=section, help=text, **shape)


sampling_options = option_group(
    *[
        setting_option(SamplingConfig, name, text, section)
        for section, texts in SAMPLING_HELP.items()
        for name, text in texts.items()
    ]
)

SEARCH_HELP = {
    "num_beams": "Follow N texts side by side and print the likeliest, instead of drawing one.",
    "num_beam_groups": "Groups of beams that avoid one another; each has as many.",
    "diversity_penalty": "Nats off a piece for each beam of the groups before that takes it.",
    "length_penalty": "Log probability is divided by length to the power of this: higher favours longer texts.",
}
search_options = option_group(
    click.option(
        "--best-of",
        type=click.IntRange(1),
        metavar="N",
        cls=SectionOption,
        section="Search",
        help="Draw N texts for each prompt and keep the likeliest by mean log probability.",
    ),
    *[setting_option(SearchConfig, name, text, "Search") for name, text in SEARCH_HELP.items()],
)

label_option = click.option("--label", metavar="NAME", help="Take all for text with this label.")
models_dir_option = click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where models are kept [default: $TEXTGEN_MODELS, else saved_models].",
)
novelty_option = click.option(
    "--novelty", is_flag=True, help="Say how much of the text stands word for word in the training text."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def corpus_config(options: dict[str, Any]) -> CorpusConfig:
    """The config that a command's options ask for; other options may be among them."""
    return from_dict(CorpusConfig, select(CorpusConfig, given(options)))


def guessed(reason: str | None) -> str:
    """What follows the mode of documents that was guessed, in brackets; nothing where it was chosen."""
    if not reason:
        return ""
    return f" ({reason})" if reason == RECORDS else f" ({reason}; --documents chooses another)"


def find_tokenizer(name: str, models_dir: Path | None = None) -> Tokenizer:
    """The tokenizer of a saved model, in a .model file or in a folder; or the byte tokenizer.

    A corpus may lie beside the model that was named after it, so models go before paths.
    """
    from textgen.saved_model.registry import find_model
    from textgen.tokenizer.tokenizer import load_tokenizer, read_tokenizer

    if name == "byte":
        return load_tokenizer(b"")
    try:
        path = find_model(name, models_dir)
    except SavedModelError:
        path = Path(name)
        if not path.exists():
            raise
    return read_tokenizer(path)


def standard_bytes() -> BinaryIO:
    """Standard input as bytes. Raises `TextgenError` for a program that was started with it closed."""
    if sys.stdin is None:
        raise TextgenError("Standard input is closed: pipe a text into it, or name a file.")
    return sys.stdin.buffer


def standard_input() -> str:
    """All of standard input, which must be UTF-8."""
    try:
        return standard_bytes().read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextgenError(f"Standard input is not UTF-8 text: {error}. Convert it first.") from None


def read_text(path: str) -> str:
    """A whole text: a file, or - for standard input, read alike: newlines become \\n, a byte-order mark goes.

    Raises `TextgenError` for what is not UTF-8.
    """
    name = "Standard input" if path == "-" else path
    try:
        text = (standard_bytes().read() if path == "-" else Path(path).read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextgenError(f"{name} is not UTF-8 text: {error}. Convert it first.") from None
    except OSError as error:
        raise TextgenError(f"Cannot read {name}: {error.strerror or error}. Name a UTF-8 text.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def novelty_line(novelty: Novelty) -> str:
    """What is known of copying, in a line for people."""
    if novelty.copied_share is None:
        return f"novelty: too short to tell, shorter than {counted(novelty.ngram, 'piece')}."
    runs = f"the runs of {counted(novelty.ngram, 'piece')}"
    line = f"novelty: {novelty.copied_share:.1%} of {runs} stand in the training text"
    if novelty.false_positive_rate > 0.01:
        line += f" (up to {novelty.false_positive_rate:.0%} by mistake)"
    if not novelty.longest_copy:
        return f"{line}."
    return (
        f"{line}; the longest copy has at most {counted(novelty.longest_copy, 'piece')}: {novelty.longest_copy_text!r}"
    )
