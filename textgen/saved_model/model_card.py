"""The model card: a README.md that describes a saved model and the command that samples from it.

Its last line is a comment, which Markdown does not show, with a digest of what is above it. A card whose digest is
right was not edited since some version of textgen wrote it, so it may be written anew. Any other card stays.

The licence of a model and a note about it are in its card alone, each under a heading of its own. A person may write
them there, too; textgen quotes them line by line, so that any text comes back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from textgen.corpus.labels import named
from textgen.model.config import CELLS
from textgen.storage.addresses import without_secrets
from textgen.wording import counted, one_line, plain, shell_word

PRECISION_FACT = "weights stored as"  # in the table of a card
LISTED_FILES = 5  # maximum number of files of the corpus that a card names
MARK = "\n<!-- textgen writes this card anew as long as nobody edits it. SHA-256: "  # before the digest
MARK_END = " -->\n"
HEADINGS = {"licence": "Licence", "note": "Note"}  # of what a person says about a model
SECTION = re.compile(r"^## (?:(?P<licence>Licen[cs]e)|(?P<note>Note)) *$", re.IGNORECASE)


def model_card(name: str, record: Mapping[str, Any], attribution: Mapping[str, str] | None = None) -> str:
    """Builds the README.md of a saved model.

    Args:
        name: Name of the model.
        record: Content of training.json, or `ModelFolder.record`. Sections that are missing, as in an imported model,
            are left out of the card.
        attribution: Its licence and the note about it; see `attribution_in`.

    Returns:
        The card as Markdown.
    """
    model, labels = record["model"], record.get("labels", [])
    facts = {
        "network": _network(model),
        "parameters": f"{record['parameters']:,}",
        "vocabulary": f"{counted(model['vocab_size'], 'token')} ({record['tokenizer']['tokenizer']})",
    }
    if precision := record.get("precision"):
        facts[PRECISION_FACT] = _line(str(precision))
    if record["tokenizer"]["tokenizer"] == "word":
        facts["loses"] = "words that it does not know, and white space but newlines and single spaces between words"
    if labels:
        facts["labels"] = named(labels)
    if start := record.get("start"):
        facts["started from"] = _start(start)
    if progress := record.get("progress"):
        facts["trained for"] = (
            f"{counted(progress['step'], 'step')}, {progress['epochs']:.1f} epochs, "
            f"{progress['seconds'] / 60:.1f} minutes"
        )
        facts["seed"] = record["training"]["seed"]
    return f"""# {_line(name)}

A recurrent language model, {_origin(record)}.

    {sample_command(shell_word(name), model, labels, prompt=' --prompt "..."')}

{_table(facts)}
{_scores(record)}
The text it writes imitates the corpus and nothing else: expect its style, its words and its mistakes, and
now and then a passage that is copied from the corpus word for word. The copyright in the corpus remains with
its owners.
{_quoted(attribution or {})}"""


def card_line(precision: str) -> str:
    """Returns the line of a card that says how the weights of a compressed model are stored."""
    return f"| {PRECISION_FACT} | {precision} |"


def card_file(name: str, record: Mapping[str, Any], attribution: Mapping[str, str] | None = None) -> bytes:
    """Builds the file README.md of a saved model: its card and the digest of that. The arguments are `model_card`'s."""
    return _marked(model_card(name, record, attribution).encode())


def attribution_in(card: bytes) -> dict[str, str]:
    """Returns the licence and the note that a card has under headings of these names.

    Args:
        card: Content of a README.md.

    Example:
        >>> attribution_in(b"# novel\\n\\n## License\\n\\nCC0\\n\\n## Note\\n\\n> # Mine\\n> too\\n\\n## Other\\n")
        {'licence': 'CC0', 'note': '# Mine\\ntoo'}
    """
    found: dict[str, list[str]] = {}
    for line, name, is_heading in _lines(card.replace(b"\r\n", b"\n").decode(errors="replace")):
        if name and is_heading:
            found[name] = []
        elif name:
            found[name].append(line)
    texts = {name: _unquoted(lines) for name, lines in found.items()}
    return {name: texts[name] for name in HEADINGS if texts.get(name)}


def with_attribution(card: bytes, attribution: Mapping[str, str]) -> bytes:
    """Sets the licence and the note of a card that a person has changed. A section that says the same stays as it is.

    Args:
        card: Content of the README.md.
        attribution: The texts by name, as `attribution_in` returns them. An empty one removes the section.

    Returns:
        The card, with the new sections after what is left of it.
    """
    before = attribution_in(card)
    new = {name: text for name, text in attribution.items() if _with_plain_newlines(text) != before.get(name, "")}
    if not new:
        return card
    body, mark, rest = _without(card, new).partition(MARK.encode())
    return body.rstrip(b"\r\n") + b"\n" + _quoted(new).encode() + mark + rest


def is_edited(card: bytes, record: Mapping[str, Any]) -> bool:
    """Checks whether a person has changed a card since textgen wrote it.

    Args:
        card: Content of the README.md.
        record: What the card was built from, by which a card without a digest is known; see `model_card`.
    """
    card = card.replace(b"\r\n", b"\n")
    body, mark, _ = card.rpartition(MARK.encode())
    if mark:
        return card != _marked(body)
    name = card.partition(b"\n")[0].removeprefix(b"# ").decode(errors="replace")
    return card != model_card(name, record).encode()


def renamed_card(
    card: bytes, name: str, record: Mapping[str, Any], attribution: Mapping[str, str] | None = None
) -> bytes:
    """Builds the card of a model again under another name, unless a person has changed it.

    Args:
        card: The README.md so far.
        name: The new name.
        record: What the card is built from; see `model_card`.
        attribution: Licence and note, where they are not those in the card.

    Returns:
        The README.md under the new name; `card` if a person has changed it, with the texts of `attribution`.
    """
    texts = {name: text for name, text in (attribution or {}).items() if text}
    if is_edited(card, record):
        return with_attribution(card, texts)
    return card_file(name, record, attribution_in(card) | texts)


def sample_command(name: str, model: Mapping[str, Any], labels: Sequence[str], prompt: str = "") -> str:
    """Builds a `textgen sample` command for a model.

    Args:
        name: Name of the model, quoted for the shell.
        model: Its `ModelConfig` as a dictionary.
        labels: Labels of the model; the command uses the first one.
        prompt: Prompt option to append. A backward model gets `--suffix` instead, since it needs an ending.

    Returns:
        The command line.
    """
    label = f" --label {shell_word(labels[0])}" if labels else ""
    return f"textgen sample {name}{label}" + (' --suffix "..."' if model.get("direction") == "backward" else prompt)


def _marked(body: bytes) -> bytes:
    return body + f"{MARK}{hashlib.sha256(body).hexdigest()}{MARK_END}".encode()


def _quoted(attribution: Mapping[str, str]) -> str:
    """The sections of a card with a licence and a note, as far as they are known."""
    given = {heading: attribution[name] for name, heading in HEADINGS.items() if attribution.get(name)}
    return "".join(
        f"\n## {heading}\n\n"
        + "".join(f"> {line}\n" if line else ">\n" for line in _with_plain_newlines(text).split("\n"))
        for heading, text in given.items()
    )


def _with_plain_newlines(text: str) -> str:
    """A text with the newlines of a card, whose digest is that of a card without carriage returns."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(card: str) -> Iterator[tuple[str, str | None, bool]]:
    """The lines of a card, the name of the section that each is in, as in `HEADINGS`, and whether it is a heading."""
    name = None
    for line in card.split("\n"):
        is_heading = line.startswith(("# ", "## "))
        if is_heading:
            heading = SECTION.match(line.removesuffix("\r"))
            name = heading.lastgroup if heading else None
        elif line.startswith(MARK.strip("\n")):
            name = None
        yield line, name, is_heading


def _without(card: bytes, names: Collection[str]) -> bytes:
    """A card without the sections of these names; all other bytes stay."""
    lines = _lines(card.decode(errors="surrogateescape"))
    return "\n".join(line for line, name, _ in lines if name not in names).encode(errors="surrogateescape")


def _unquoted(lines: Sequence[str]) -> str:
    """The text of a section of a card, from its lines; without the marks of a quotation if all of it is one."""
    text = "\n".join(lines).strip("\n")
    if all(line.startswith(">") for line in text.split("\n")):
        return "\n".join(line.removeprefix(">").removeprefix(" ") for line in text.split("\n"))
    return text.strip()


def _network(model: Mapping[str, Any]) -> str:
    layers = counted(model["num_layers"], f"{CELLS[model.get('cell', 'lstm')]} layer")
    layers += f" of {counted(model['hidden_units'], 'unit')}"
    layers += {"backward": ", backward", "both": " in each direction"}.get(model.get("direction", ""), "")
    layers += f", attention over {counted(model['attention'], 'output')}" if model.get("attention") else ""
    return f"{layers}, embedding of {model['embedding_dim']:,}"


def _start(start: Mapping[str, Any]) -> str:
    why = "" if start["decided_by"] == "given" else f" ({_line(start['reason'])})"
    return _line(start["name"] or "random weights") + why


def _origin(record: Mapping[str, Any]) -> str:
    if "corpus" not in record:
        return "of whose training nothing is known here"
    corpus = record["corpus"]
    return (
        f"trained with textgen {_line(record['versions']['textgen'])} on {_files(corpus['paths'])}\n"
        f"({counted(corpus['characters'], 'character')} in {counted(corpus['num_documents'], 'document')})"
    )


def _files(paths: Sequence[str]) -> str:
    """The names of the first files, and how many there are besides them."""
    if not paths:  # they are too many to be recorded
        return "many files"
    files = ", ".join(f"`{_line(Path(without_secrets(path)).name)}`" for path in paths[:LISTED_FILES])
    more = len(paths) - LISTED_FILES
    return f"{files} and {counted(more, 'more file')}" if more > 0 else files


def _scores(record: Mapping[str, Any]) -> str:
    if not record.get("scores"):  # it may also have been stopped before its first validation
        return ""
    scores = {_line(key).replace("_", " "): plain(value, 4) for key, value in record["scores"].items()}
    return f"\nScores on held-out text, by which these weights were chosen:\n\n{_table(scores)}\n"


def _line(text: str) -> str:
    """A text of a record, which somebody else may have written, without what would begin another line or section."""
    return one_line(text, len(text))


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items())])


def _cell(value: object) -> str:
    """A value as text in which a | does not end the cell of a table; backslashes before it would escape each other."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", str(value))
