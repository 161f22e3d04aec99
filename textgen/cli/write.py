"""textgen write: a text that you and a model write together, in the terminal."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textgen.cli import output
from textgen.cli.options import models_dir_option
from textgen.errors import Interrupted, SavedModelError, TextgenError
from textgen.wording import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from textgen.cli.keyboard import Key, Keyboard
    from textgen.saved_model import SavedModel
    from textgen.states import StartedModel
    from textgen.writing import Session

KEYS: list[tuple[str, str, dict[str, Callable[[Session], None]]]] = [  # as shown, what they do, what each calls
    ("1-9", "take", {}),
    ("Tab", "take 1", {"tab": lambda session: session.take(1)}),
    ("^R", "redraw", {"ctrl-r": lambda session: session.redraw()}),
    ("←→", "page", {"left": lambda session: session.turn(-1), "right": lambda session: session.turn(1)}),
    ("↑↓", "temperature", {"up": lambda session: session.warm(0.1), "down": lambda session: session.warm(-0.1)}),
    ("^Z ^Y", "undo, redo", {"ctrl-z": lambda session: session.undo(), "ctrl-y": lambda session: session.redo()}),
    ("^W", "delete word", {"ctrl-w": lambda session: session.delete_word()}),
    ("^V", "digit", {}),
    ("^E", "editor", {}),
    ("^S", "save", {"ctrl-s": lambda session: session.save()}),
    ("^C", "save and leave", {}),
]
ACTIONS: dict[str, Callable[[Session], None]] = {
    "backspace": lambda session: session.delete_character(),
    "enter": lambda session: session.type("\n"),
    **{name: action for _, _, actions in KEYS for name, action in actions.items()},
}
LEAVING = ("ctrl-c", "ctrl-d", "ctrl-e")
CURSOR = "▏"
TEXT_LINES = 3  # at least
RESIZE_SECONDS = 0.5  # after so long a change of the terminal's size is seen


@click.command()
@click.argument("model")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--num", type=click.IntRange(1, 9), default=5, show_default=True, help="Suggestions at a time.")
@click.option("--length", type=click.IntRange(1, 64), metavar="N", help="Pieces of a suggestion [default: by kind].")
@click.option(
    "--temperature",
    type=click.FloatRange(0.0, 2.0),
    default=0.8,
    show_default=True,
    help="How freely suggestions go on after their first piece.",
)
@click.option("--label", metavar="NAME", help="Write as the texts with this label.")
@click.option("--load-state", metavar="FILE", help="Begin in a state that textgen tune-state made.")
@models_dir_option
def write(
    model: str,
    file: Path | None,
    num: int,
    length: int | None,
    temperature: float,
    label: str | None,
    load_state: str | None,
    models_dir: Path | None,
) -> None:
    """Write a text together with a model.

    You type; the model offers the likeliest ways to go on, each with the probability of its first piece, and a
    number key takes one. The keys are shown below the text. FILE is read if it is there, and the text is saved
    in it, also when you leave or the connection breaks; without FILE it is named after the model.

    \b
    Example:
      textgen write novel
      textgen write novel chapter.txt --num 3 --temperature 1.0
    """
    closed = sys.stdin is None or sys.stdout is None
    if closed or not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") in ("dumb", "unknown"):
        raise TextgenError("textgen write needs a terminal for keyboard and screen; textgen sample writes into files.")
    try:
        from textgen.cli.keyboard import Keyboard
    except ImportError:
        raise TextgenError("textgen write needs a Unix terminal, on Windows that of WSL.") from None
    from textgen.saved_model import load_model
    from textgen.suggestions import Suggester
    from textgen.writing import Session

    saved = load_model(model, models_dir)
    length = length or (30 if saved.tokenizer.tokenizer in ("char", "byte") else 6)
    writer = saved.writer() if load_state is None else _started(saved, load_state)
    suggester = Suggester(writer, saved.tokenizer, num, label)
    session = Session(suggester, file or _free_name(saved.name), length=length, temperature=temperature)
    screen, keyboard = Screen(session, output.screen()), Keyboard(sys.stdin.fileno())
    try:
        with _signals_raise():
            while screen.run(keyboard) == "ctrl-e":
                _edit(session)
    finally:
        session.save()
        with suppress(OSError, TextgenError):  # the terminal may be gone
            if session.unsaved:
                output.line(session.draft.text)  # nothing is lost, wherever it could not be written
            output.note(session.message)


def _started(saved: SavedModel, path: str) -> StartedModel:
    """The model, beginning in the state of a file. Raises `SavedModelError` for that of a text that has begun."""
    from textgen.states import StartedModel, load_state

    writer, vocabulary = saved.writer(), saved.tokenizer
    state = load_state(Path(path), writer.initial_state(1), saved.fingerprint, vocabulary.vocab_size)
    if state.ids != (vocabulary.eos_id,):
        raise SavedModelError(f"{path} is the state of a text that has begun: give one that textgen tune-state made.")
    return StartedModel(writer, state.memory)


class Screen:
    """A session as the keys and the lines of a terminal."""

    def __init__(self, session: Session, console: Console) -> None:
        self._session = session
        self._console = console
        self._literal = False  # the next key is text, even a digit

    def run(self, keyboard: Keyboard) -> str:
        """Shows the session and does what the keys say. Returns which key left the screen, or that it is gone."""
        with suppress(OSError, EOFError), keyboard.raw(), self._console.screen() as screen:
            while True:
                size = self._console.size
                screen.update(self.frame())
                while not keyboard.waiting(RESIZE_SECONDS) and self._console.size == size:
                    pass
                for key in keyboard.keys() if keyboard.waiting(0) else ():
                    if key.name in LEAVING:
                        return key.name
                    self.press(key)
        return "gone"

    def press(self, key: Key) -> None:
        """Does what a key says."""
        session, literal = self._session, self._literal
        session.message, self._literal = "", key.name == "ctrl-v"
        if key.name == "ctrl-v":
            session.message = "The next digit is text."
        elif key.name == "paste":
            session.paste(key.text)
        elif key.name != "text":
            if action := ACTIONS.get(key.name):
                action(session)
        elif key.text in "123456789" and not literal:
            session.take(int(key.text))
        else:
            session.type(key.text)

    def frame(self) -> Text:
        """What the terminal shows: a title, the end of the text, suggestions, keys.

        Where there is little room the keys give way, then suggestions; the end of the text always shows.
        """
        from rich.text import Text

        session, (width, height) = self._session, self._console.size
        suggestions = [
            Text.assemble((f"{number} ", "bold"), f"{one.probability:4.0%}  ", (_visible(one.text), "cyan"))
            for number, one in enumerate(session.suggestions(), 1)
        ]
        name = _visible(session.path.name)
        title = Text(
            f"{name}{' *' if session.unsaved else ''}   {counted(len(session.draft.text), 'character')}   "
            f"temperature {session.temperature:.1f}   page {session.page + 1}",
            "dim",
        )
        message = list(Text(_visible(session.message), "yellow").wrap(self._console, width)) if session.message else []
        keys = [Text(line, "dim") for line in _key_lines(width)]
        room = max(0, height - 2 - TEXT_LINES - len(message))  # for all but title, text, rule and message
        if len(suggestions) + len(keys) > room:
            keys = []
        below = [Text("─" * width, "dim"), *suggestions[:room], *message, *keys]
        end = "\n".join(map(_visible, session.draft.text[-width * height :].split("\n")))
        text = Text.assemble(end, (CURSOR, "blink")).wrap(self._console, width)
        lines = [title, *text[-max(1, height - 1 - len(below)) :], *below]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n").join(lines[-height:])


def _edit(session: Session) -> None:
    """Hands the text to the editor that the user likes best."""
    text = session.draft.text
    try:
        edited = click.edit(text)
    except click.ClickException as error:
        session.message = f"{error.message}. Set EDITOR to one that is there."
    else:
        if edited is not None:  # editors add a newline at the end
            session.replace(edited if text.endswith("\n") else edited.removesuffix("\n"))


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Within, a lost connection or SIGTERM raises `Interrupted`, so that the text is saved on the way out."""

    def leave(number: int, _: object) -> None:
        raise Interrupted("The terminal was closed." if number == signal.SIGHUP else "Terminated.", number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _key_lines(width: int) -> list[str]:
    """The keys and what they do, in lines that break between two of them."""
    items = "   ".join(f"{key} {does}".replace(" ", "\xa0") for key, does, _ in KEYS)
    return [line.replace("\xa0", " ") for line in textwrap.wrap(items, width, break_on_hyphens=False)]


def _visible(text: str) -> str:
    """The text without anything that would move the cursor."""
    return "".join(c if c.isprintable() else {"\n": "⏎", "\t": "    "}.get(c, "·") for c in text)


def _free_name(name: str) -> Path:
    """A file in the current folder that is not there yet."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := Path(f"{name}.txt")).exists())
