"""The keys of `textgen write`: what each does, and which bytes of a terminal are no keys."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Protocol

from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.bindings.mouse import load_mouse_bindings
from prompt_toolkit.keys import Keys

from textgen.editor.session import Session, without_controls

# Label, description, and the action of each prompt_toolkit key.
KEYS: list[tuple[str, str, dict[str, Callable[[Session], None]]]] = [
    ("1-9", "accept", {}),
    ("Tab", "accept 1", {}),
    ("^R", "new samples", {"c-r": lambda session: session.redraw()}),
    ("←→", "other suggestions", {"left": lambda session: session.turn(-1), "right": lambda session: session.turn(1)}),
    ("↑↓", "temperature", {"up": lambda session: session.warm(0.1), "down": lambda session: session.warm(-0.1)}),
    ("^Z ^Y", "undo, redo", {"c-z": lambda session: session.undo(), "c-y": lambda session: session.redo()}),
    ("^W", "delete word", {"c-w": lambda session: session.delete_word()}),
    ("^V", "type a digit", {}),
    ("PgUp PgDn", "scroll", {}),
    ("^E", "your editor", {}),
    ("^S", "save", {"c-s": lambda session: session.save()}),
    ("^C", "save and quit", {}),
]
ACTIONS: dict[str, Callable[[Session], None]] = {
    "backspace": lambda session: session.delete_character(),
    "enter": lambda session: session.type("\n"),
    "c-j": lambda session: session.type("\n"),
    **{name: action for _, _, actions in KEYS for name, action in actions.items()},
}
LEAVE, EDIT = "leave", "edit"  # how keys leave the screen
WHEEL_LINES = 3  # lines per notch of the mouse wheel
UNFINISHED_SECONDS = 0.05  # longest wait for the rest of an escape sequence, on a slow connection
BEGINS_SEQUENCE = re.compile("\x1b(?:\\[[0-9;<=>?]*[ -/]*|O)?\\Z")
MOUSE_EVENT = re.compile('\x1b\\[(?:<\\d+;\\d+;\\d+[Mm]|\\d+;\\d+;\\d+M|M[ !"#@ABC`a]..)', re.DOTALL)  # SGR, urxvt, X10


class Pressed(Protocol):
    """What keys act on besides the session: the screen."""

    def press(self, action: Callable[[], None], *, waits: bool = False) -> None:
        """Queues the action of a key; with `waits`, it runs only once suggestions are known."""

    def scroll(self, lines: int) -> None:
        """Scrolls the text up by `lines`, or down if `lines` is negative."""

    def scroll_page(self, pages: int) -> None:
        """Scrolls the text up by `pages`, or down if `pages` is negative."""

    def leave(self, how: str) -> None:
        """Leaves the screen: with `EDIT` to open the external editor, otherwise with `LEAVE`."""

    def leave_after_keys(self, again: bool) -> None:
        """Leaves after all earlier keys have been handled; if the key is pressed again, immediately."""

    def interrupt(self, error: BaseException) -> None:
        """Leaves the screen with an error."""


class Keyboard:
    """The keys of a session on a screen."""

    def __init__(self, session: Session, screen: Pressed) -> None:
        self._session = session
        self._screen = screen
        self._literal = False  # whether to insert the next key as text, even a digit
        self._sequence = ""  # beginning of an escape sequence unknown to prompt_toolkit

    def press(self, action: Callable[[], None], *, waits: bool = False) -> None:
        """Passes the action of a key, or of a click, to the screen.

        Args:
            action: The action.
            waits: Whether it runs only once suggestions are known.
        """
        self._literal = False
        self._screen.press(action, waits=waits)

    def bindings(self) -> KeyBindings:
        """Returns what prompt_toolkit calls for each key."""
        bindings, session, screen = KeyBindings(), self._session, self._screen
        for name, action in ACTIONS.items():
            bindings.add(name)(lambda _, action=action: self.press(partial(action, session)))
        bindings.add("tab")(lambda _: self.press(partial(session.take, 1), waits=True))
        bindings.add("c-v")(lambda _: self._next_is_text())
        bindings.add("pageup")(lambda _: screen.scroll_page(1))
        bindings.add("pagedown")(lambda _: screen.scroll_page(-1))
        bindings.add("c-e")(lambda _: self.press(partial(screen.leave, EDIT)))
        for name in ("c-c", "c-d"):
            bindings.add(name)(self._leave)
        bindings.add("<sigint>")(lambda _: screen.interrupt(KeyboardInterrupt()))
        bindings.add("<vt100-mouse-event>")(self._mouse_key)
        bindings.add("<scroll-up>")(lambda _: screen.scroll(WHEEL_LINES))
        bindings.add("<scroll-down>")(lambda _: screen.scroll(-WHEEL_LINES))
        bindings.add("<bracketed-paste>", eager=True)(lambda event: self.press(partial(session.paste, event.data)))
        bindings.add("<any>")(self._type)
        bindings.add("escape", eager=True)(lambda _: self._begin_sequence())
        bindings.add("<any>", eager=True, filter=Condition(lambda: bool(self._sequence)))(self._go_on_with_sequence)
        return bindings

    def _type(self, event: KeyPressEvent) -> None:
        key = event.key_sequence[0].key
        if isinstance(key, Keys):  # a key without an action
            return
        text = "\ufffd" if "\ud800" <= key <= "\udfff" else key  # a byte that is not UTF-8
        if text in "123456789" and not self._literal:
            self.press(partial(self._session.take, int(text)), waits=True)
        elif without_controls(text):
            self.press(partial(self._session.type, text))

    def _mouse_key(self, event: KeyPressEvent) -> object:
        """Passes mouse events to prompt_toolkit, except for data that it would mistake for one."""
        (binding,) = load_mouse_bindings().get_bindings_for_keys((Keys.Vt100MouseEvent,))
        return binding.handler(event) if MOUSE_EVENT.fullmatch(event.data) else NotImplemented

    def _next_is_text(self) -> None:
        def tell() -> None:
            self._session.message = "The next digit is text."

        self.press(tell)
        self._literal = True

    def _leave(self, event: KeyPressEvent) -> None:
        self._literal = False
        self._screen.leave_after_keys(event.is_repeat)

    def _begin_sequence(self) -> None:
        """Starts to collect the keys that follow Escape, and ignores them.

        They belong to Alt with another key, or to an escape sequence unknown to prompt_toolkit, and would otherwise be
        taken for text or digits.
        """
        self._sequence = sequence = "\x1b"

        def end() -> None:  # nothing followed
            if self._sequence is sequence:
                self._sequence = ""

        asyncio.get_running_loop().call_later(UNFINISHED_SECONDS, end)

    def _go_on_with_sequence(self, event: KeyPressEvent) -> None:
        self._sequence += event.data
        if isinstance(event.key_sequence[0].key, Keys) or not BEGINS_SEQUENCE.match(self._sequence):
            self._sequence = ""


def key_lines(width: int) -> list[str]:
    """Returns the help lines of the keys, at most `width` cells wide, without breaks inside an item."""
    items = "   ".join(f"{key} {does}".replace(" ", "\xa0") for key, does, _ in KEYS)
    return [line.replace("\xa0", " ") for line in textwrap.wrap(items, width, break_on_hyphens=False)]
