"""Output of commands: results to standard output, and notes for people to standard error.

In a pipe or a file a result is written unchanged. On a terminal hidden characters are shown as escapes, so that a
text cannot move the cursor or set the clipboard. Characters that the encoding of standard output lacks are escaped,
with a note. If standard output fails, the command ends with a one-line error; if its reader has left, as `head` does,
silently; if standard error fails, notes are lost.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

import click
from click import utils
from click.exceptions import Exit

from textgen.errors import TextgenError
from textgen.wording import Say, escape, json_text, lacking, visible

if TYPE_CHECKING:
    from rich.console import Console

READER_LEFT = 141  # exit code, 128 plus the number of SIGPIPE, as of other programs in a pipe
_noted: set[str] = set()  # encodings for which the note about escapes has been written


class Failure(click.ClickException):
    """A `TextgenError` as the command line shows it: one line, with flags instead of field names."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Writes the line to standard error."""
        _note(f"Error: {self.message}")


class SettingsFileError(TextgenError):
    """An error about a file of settings. Its message spells their names as the file does, not as flags."""


@contextmanager
def errors_named_after(place: str) -> Iterator[None]:
    """Puts the name of a settings file, or of a line in it, before errors of the block; "" changes nothing."""
    try:
        yield
    except TextgenError as error:
        if not place:
            raise
        raise SettingsFileError(f"{place}: {error}") from None


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def write(text: str, *, fg: str | None = None, bold: bool = False, is_asked: bool = False) -> None:
    """Writes a result to standard output without a newline; on a terminal in a colour or bold.

    Args:
        text: The text.
        fg: Its colour, which NO_COLOR in the environment leaves out.
        bold: Whether it is bold.
        is_asked: Whether the user has asked for the colour, whatever NO_COLOR says.
    """
    stream = _standard_output()
    shown = _fitted(visible(text) if stream.isatty() else text, stream.encoding or "utf-8")
    if os.environ.get("NO_COLOR") and not is_asked:
        fg = None
    if shown and (fg or bold) and _in_colour(stream):
        shown = click.style(shown, fg=fg, bold=bold or None)
    _send(stream, shown)


def line(text: str = "", *, fg: str | None = None) -> None:
    """Writes a line of a result to standard output."""
    write(text, fg=fg)
    write("\n")


def json_line(value: Any, indent: int | None = None) -> None:
    """Writes a value as JSON. Characters that the encoding of standard output lacks are escaped."""
    stream = _standard_output()
    _send(stream, json_text(value, indent=indent, encoding=stream.encoding or "utf-8", is_shown=stream.isatty()) + "\n")


def data(content: bytes) -> None:
    """Writes bytes to standard output unchanged. On a terminal they are shown as text."""
    stream = _standard_output()
    if stream.isatty():
        write(content.decode(errors="replace"))
        return
    _send(stream, "")
    try:
        stream.buffer.write(content)
        stream.buffer.flush()
    except OSError as error:
        raise _failed(stream, error) from None


def note(text: str = "") -> None:
    """Writes a line for people to standard error, with flags instead of names of settings.

    It is lost if standard error fails.
    """
    _note(_flagged(text))


def with_flags(say: Say) -> Say:
    """Returns a function that calls `say` with a line in which names of settings are flags."""
    return lambda line: say(_flagged(line))


def _flagged(text: str) -> str:
    """The text with the flags of the command that runs, if one does."""
    context = click.get_current_context(silent=True)
    return flagged(text, context.command) if context else text


def flagged(message: str, command: click.Command) -> str:
    """A message with the flags of a command and, where it tells to train a model, with those of `textgen train`."""
    from textgen.cli import flags_of, textgen

    flags = flags_of(command)
    if _TELLS_TO_TRAIN.search(message) and (train := textgen.get_command(click.Context(textgen), "train")):
        flags = {**flags_of(train), **flags}
    return as_flags(message, flags)


_TELLS_TO_TRAIN = re.compile(r"\b[Tt]rain (?:one|a model|it) ")


def _note(text: str) -> None:
    """Writes a line as it is."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(visible(text) + "\n")
        stream.flush()
    except (OSError, ValueError):
        _give_up(stream)


def progress(text: str) -> None:
    """Writes a line to standard error if that is a terminal, before a step that takes long."""
    if sys.stderr is not None and sys.stderr.isatty():
        note(text)


def confirm(question: str) -> None:
    """Asks on standard error. Any answer but yes ends the command.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, which Click takes for a no.
        TextgenError: Standard input is at its end or a standard stream is closed, so there is nobody to answer.
    """
    streams = {"input": sys.stdin, "output": sys.stdout, "error": sys.stderr}  # without one of them Python asks nothing
    for name, stream in streams.items():
        if stream is None:
            raise TextgenError(f"Not confirmed: standard {name} is closed. Use --yes.")
    try:
        click.confirm(visible(question), abort=True, err=True)
    except click.Abort as answer:
        if isinstance(answer.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        if isinstance(answer.__context__, EOFError):
            note()  # ends the line of the question
            raise TextgenError("Not confirmed: standard input is at its end. Use --yes.") from None
        raise


def console() -> Console:
    """Standard error, for a bar of progress and lines above it."""
    from rich.console import Console

    return Console(file=cast(IO[str], _Notes()), highlight=False, emoji=False, soft_wrap=True)


def as_flags(message: str, flags: Mapping[str, str]) -> str:
    """Replaces names of settings in a message by their flags.

    A name of several words is always replaced; a single word only where the message tells to set it, to leave it out,
    what it must or cannot be or follows, or calls it a setting. Quoted text stays as it is.

    Args:
        message: A message of the library.
        flags: The flag of each setting.

    >>> as_flags("seed must be a number. Received: 'seed'.", {"seed": "--seed"})
    "--seed must be a number. Received: 'seed'."
    >>> as_flags("Train one with the setting direction both.", {"direction": "--direction"})
    'Train one with --direction both.'

    Returns:
        The message with the flags.
    """

    def flag(match: re.Match[str]) -> str:
        if match["setting"]:
            return flags.get(match["setting"], match.group())
        name = match["always"] or match["set"] or match["must"] or ""
        return match.group().removesuffix(name) + flags.get(name, name)

    return _FIELDS.sub(flag, message)


_FIELDS = re.compile(
    r"""(?<!\w)'(?:[^'\\\n]|\\.)*'(?!\w)|"(?:[^"\\\n]|\\.)*"|`[^`\n]*`"""
    r"|\bthe setting (?P<setting>[a-z][a-z0-9_]*)\b"
    r"|(?<![\w/.-])(?P<always>[a-z]+(?:_[a-z0-9]+)+)(?![\w/.-]*[\w/])"
    r"|(?<![\w/.-])(?:[Ss]et|[Uu]se|[Gg]ive|[Ll]eave|[Ll]eave out) (?P<set>(?!out\b)[a-z]+)\b(?=[ .,;:])"
    r"|^(?P<must>[a-z]+)(?= must | holds | cannot | follows )"
)


def flush() -> None:
    """Flushes standard output. Raises `TextgenError` if that fails, and `Exit` if its reader has left."""
    if sys.stdout is not None:
        _send(sys.stdout, "")


def has_no_reader(error: Exception) -> bool:
    """Whether an error says that the reader of a pipe has left. On Windows it is one of an invalid argument."""
    is_invalid = isinstance(error, OSError) and error.errno == errno.EINVAL
    return isinstance(error, BrokenPipeError) or (is_invalid and os.name == "nt")


def reader_left() -> Exit:
    """Discards what standard output still holds. Returns what ends the program without a word."""
    _give_up(sys.stdout)
    return Exit(READER_LEFT)


class _Notes(io.TextIOBase):
    """Standard error as a file that a console writes to."""

    @property
    def _stream(self) -> TextIO | None:
        """Standard error itself: while a bar is shown, `sys.stderr` sends all to the console, which writes here."""
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of standard error, by which a console chooses the characters of a bar."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        if stream := self._stream:
            try:
                stream.write(text)
            except (OSError, ValueError):
                _give_up(stream)
        return len(text)

    def flush(self) -> None:
        if stream := self._stream:
            try:
                stream.flush()
            except (OSError, ValueError):
                _give_up(stream)

    def isatty(self) -> bool:
        stream = self._stream
        return stream is not None and stream.isatty()

    def fileno(self) -> int:
        if stream := self._stream:
            return stream.fileno()
        raise OSError(errno.EBADF, "standard error is closed")


def _standard_output() -> TextIO:
    if sys.stdout is None:
        raise TextgenError("Cannot write the result: standard output is closed. Open it, or send it to a file.")
    return sys.stdout


def _send(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError) as error:
        raise _failed(stream, error) from None


def _failed(stream: TextIO, error: Exception) -> Exception:
    if has_no_reader(error):
        return reader_left()
    _give_up(stream)
    why = getattr(error, "strerror", None) or error
    return TextgenError(f"Cannot write to standard output: {why}. Free some space, or send it elsewhere.")


def _give_up(stream: TextIO) -> None:
    """Discards what a failing stream still holds; otherwise it would fail again at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _fitted(text: str, encoding: str) -> str:
    """The text with escapes for characters that the encoding lacks; a note is written the first time."""
    missing = lacking(text, encoding)
    if not missing:
        return text
    if encoding not in _noted and any(not "\ud800" <= character <= "\udfff" for character in missing):
        _noted.add(encoding)
        note(
            f"Standard output is {encoding}, which lacks some characters of the text: they are written as \\uXXXX. "
            "Set PYTHONIOENCODING=utf-8 to write them unchanged."
        )
    return text.translate({ord(character): escape(character) for character in missing})


def _in_colour(stream: TextIO) -> bool:
    """Whether a stream goes to a terminal that understands colours and bold text."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return False
    context = click.get_current_context(silent=True)
    return not utils.should_strip_ansi(stream, context.color if context else None)  # type: ignore[attr-defined]
