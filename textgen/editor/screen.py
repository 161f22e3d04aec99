"""The screen of `textgen write`: a session as the keys, the mouse and the lines of a terminal."""

from __future__ import annotations

import asyncio
import re
import signal
import textwrap
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import click
from prompt_toolkit.application import Application
from prompt_toolkit.cursor_shapes import CursorShape
from prompt_toolkit.data_structures import Point
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.key_binding.bindings.mouse import load_mouse_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import Layout, UIContent, UIControl, Window
from prompt_toolkit.mouse_events import MouseButton, MouseEvent, MouseEventType
from prompt_toolkit.output import Output
from prompt_toolkit.utils import get_cwidth

from textgen.editor.session import Cancelled, Request, Session
from textgen.errors import Interrupted
from textgen.generation.suggestions import Suggestion
from textgen.wording import counted

KEYS: list[tuple[str, str, dict[str, Callable[[Session], None]]]] = [  # as shown, what they do, what each calls
    ("1-9", "take", {}),
    ("Tab", "take 1", {}),
    ("^R", "redraw", {"c-r": lambda session: session.redraw()}),
    ("←→", "page", {"left": lambda session: session.turn(-1), "right": lambda session: session.turn(1)}),
    ("↑↓", "temperature", {"up": lambda session: session.warm(0.1), "down": lambda session: session.warm(-0.1)}),
    ("^Z ^Y", "undo, redo", {"c-z": lambda session: session.undo(), "c-y": lambda session: session.redo()}),
    ("^W", "delete word", {"c-w": lambda session: session.delete_word()}),
    ("^V", "digit", {}),
    ("PgUp PgDn", "scroll", {}),
    ("^E", "editor", {}),
    ("^S", "save", {"c-s": lambda session: session.save()}),
    ("^C", "save and leave", {}),
]
ACTIONS: dict[str, Callable[[Session], None]] = {
    "backspace": lambda session: session.delete_character(),
    "enter": lambda session: session.type("\n"),
    "c-j": lambda session: session.type("\n"),
    **{name: action for _, _, actions in KEYS for name, action in actions.items()},
}
LEAVE, EDIT = "leave", "edit"  # how the screen is left
CURSOR = "▏"
TEXT_LINES = 3  # at least
WHEEL_LINES = 3  # by which a notch of the mouse wheel scrolls
UNFINISHED_SECONDS = 0.05  # how long the rest of a key may take on a slow line
BEGINS_SEQUENCE = re.compile("\x1b(?:\\[[0-9;<=>?]*[ -/]*|O)?\\Z")
MOUSE_EVENT = re.compile('\x1b\\[(?:<\\d+;\\d+;\\d+[Mm]|\\d+;\\d+;\\d+M|M[ !"#@ABC`a]..)', re.DOTALL)  # SGR, urxvt, X10
ENDING_SIGNALS = {"SIGHUP": "The terminal was closed.", "SIGTERM": "Terminated."}  # Windows has no SIGHUP


def run(session: Session) -> None:
    """Shows a session in the terminal until the user leaves, and saves its text, whatever ends it.

    Args:
        session: The session; its `message` says in the end whether the text was saved.

    Raises:
        Interrupted: The connection was lost, or the process was terminated.
        TextgenError: Suggestions cannot be computed.
    """
    screen = Screen(session)
    with _signals(screen):
        try:
            while screen.run() == EDIT:
                open_editor(session)
        finally:
            screen.close()
            session.save()


def open_editor(session: Session) -> None:
    """Opens the text in the user's own editor ($VISUAL or $EDITOR), and takes it over from there."""
    text = session.draft.text
    try:
        edited = click.edit(text)
    except click.ClickException as error:
        session.message = f"{error.message}. Set EDITOR to one that is there."
    else:
        if edited is not None:  # editors add a newline at the end
            session.replace(edited if text.endswith("\n") else edited.removesuffix("\n"))


class Screen:
    """A session as a prompt_toolkit application."""

    def __init__(self, session: Session, input: Input | None = None, output: Output | None = None) -> None:
        """`input` and `output` are those of the terminal, unless others are given."""
        self._session = session
        self._keys: deque[tuple[Callable[[], None], bool]] = deque()  # what they do; whether it needs suggestions
        self._literal = False  # the next key is text, even a digit
        self._sequence = ""  # what has come of an escape sequence that prompt_toolkit does not know
        self._scroll = 0  # lines between the end of the text and the last that shows
        self._shown: list[Suggestion] = []
        self._numbers: dict[int, int] = {}  # line -> the suggestion that shows there
        self._text_lines = 0  # that show
        self._computing: Request | None = None
        self._running = self._closed = False
        self._error: BaseException | None = None
        self._app: Application[str] = Application(
            layout=Layout(Window(_Frame(self))),
            key_bindings=self._bindings(),
            full_screen=True,
            mouse_support=True,
            cursor=CursorShape.BLINKING_BEAM,
            enable_page_navigation_bindings=False,
            include_default_pygments_style=False,
            after_render=lambda _: self._suggest(),
            input=input,
            output=output,
        )
        self._app.ttimeoutlen = UNFINISHED_SECONDS

    def run(self) -> str:
        """Shows the session and does what keys and mouse say.

        Returns:
            How the user left, `LEAVE` or `EDIT`. A terminal that is gone counts as `LEAVE`.

        Raises:
            BaseException: What `interrupt` was called with, or what went wrong.
        """
        self._running = True
        try:
            left = self._app.run(pre_run=self._begin, set_exception_handler=False)
        except (OSError, EOFError):
            left = LEAVE
        finally:
            self._running = False
        error, self._error = self._error, None
        if error is not None and not isinstance(error, (OSError, EOFError)):
            raise error
        return left

    def interrupt(self, error: BaseException) -> None:
        """Leaves the screen with an error. May be called at any time by a signal handler."""
        if self._closed:
            return
        if not self._running:
            raise error
        self._error = self._error or error
        if self._app.loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the screen has been left
                self._app.loop.call_soon_threadsafe(self._leave, LEAVE)

    def close(self) -> None:
        """From now on interruptions change nothing."""
        self._closed = True

    def scroll(self, lines: int) -> None:
        """Shows earlier lines of the text, or later ones where `lines` is negative."""
        self._scroll = max(0, self._scroll + lines)

    def mouse(self, event: MouseEvent) -> object:
        """Takes the suggestion that is clicked, and scrolls by the wheel. Other events are `NotImplemented`."""
        if event.event_type == MouseEventType.SCROLL_UP:
            self.scroll(WHEEL_LINES)
        elif event.event_type == MouseEventType.SCROLL_DOWN:
            self.scroll(-WHEEL_LINES)
        elif (
            event.event_type == MouseEventType.MOUSE_DOWN
            and event.button == MouseButton.LEFT
            and (number := self._numbers.get(event.position.y))
        ):
            self._press(partial(self._session.take, number), waits=True)
        else:
            return NotImplemented
        return None

    # === Keys ===

    def _bindings(self) -> KeyBindings:
        bindings, session = KeyBindings(), self._session
        for name, action in ACTIONS.items():
            bindings.add(name)(lambda _, action=action: self._press(partial(action, session)))
        bindings.add("tab")(lambda _: self._press(partial(session.take, 1), waits=True))
        bindings.add("c-v")(lambda _: self._next_is_text())
        bindings.add("pageup")(lambda _: self.scroll(max(1, self._text_lines - 1)))
        bindings.add("pagedown")(lambda _: self.scroll(-max(1, self._text_lines - 1)))
        bindings.add("c-e")(lambda _: self._press(partial(self._leave, EDIT)))
        for name in ("c-c", "c-d"):
            bindings.add(name)(self._leave_after_keys)
        bindings.add("<sigint>")(lambda _: self.interrupt(KeyboardInterrupt()))
        bindings.add("<vt100-mouse-event>")(self._mouse_key)
        bindings.add("<scroll-up>")(lambda _: self.scroll(WHEEL_LINES))
        bindings.add("<scroll-down>")(lambda _: self.scroll(-WHEEL_LINES))
        bindings.add("<bracketed-paste>", eager=True)(lambda event: self._press(partial(session.paste, event.data)))
        bindings.add("<any>")(self._type)
        bindings.add("escape", eager=True)(lambda _: self._begin_sequence())
        bindings.add("<any>", eager=True, filter=Condition(lambda: bool(self._sequence)))(self._go_on_with_sequence)
        return bindings

    def _press(self, action: Callable[[], None], *, waits: bool = False) -> None:
        """Does what a key says, after the keys before it; with `waits`, once there are suggestions."""
        self._literal = False
        self._keys.append((action, waits))
        self._work()
        if self._computing not in (None, self._session.request):
            self._session.cancel()

    def _work(self) -> None:
        """Does what the keys say, up to one that waits for suggestions."""
        session = self._session
        while self._keys and not self._app.is_done:
            action, waits = self._keys[0]
            if waits and session.known() is None:
                return
            self._keys.popleft()
            text, session.message = session.draft.text, ""
            action()
            if session.draft.text != text:
                self._scroll = 0

    def _type(self, event: KeyPressEvent) -> None:
        key = event.key_sequence[0].key
        if isinstance(key, Keys):  # one that does nothing here
            return
        text = "\ufffd" if "\ud800" <= key <= "\udfff" else key  # a byte that is not UTF-8
        if text in "123456789" and not self._literal:
            self._press(partial(self._session.take, int(text)), waits=True)
        elif text.isprintable():
            self._press(partial(self._session.type, text))

    def _mouse_key(self, event: KeyPressEvent) -> object:
        """Passes the mouse on to prompt_toolkit, but for what it takes for an event that is none."""
        (binding,) = load_mouse_bindings().get_bindings_for_keys((Keys.Vt100MouseEvent,))
        return binding.handler(event) if MOUSE_EVENT.fullmatch(event.data) else NotImplemented

    def _next_is_text(self) -> None:
        def tell() -> None:
            self._session.message = "The next digit is text."

        self._press(tell)
        self._literal = True

    def _leave_after_keys(self, event: KeyPressEvent) -> None:
        """Leaves once all keys before this have been done; pressed again, at once."""
        if self._keys and event.is_repeat:
            self._leave(LEAVE)
        else:
            self._press(partial(self._leave, LEAVE))

    def _leave(self, how: str) -> None:
        if self._app.is_running and not self._app.is_done:
            self._app.exit(result=how)

    def _begin_sequence(self) -> None:
        """After Escape: Alt and another key, or an escape sequence that prompt_toolkit does not know, follow at once.

        All of it does nothing, so that neither is taken for text or digits.
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

    # === Suggestions, and what goes wrong ===

    def _begin(self) -> None:
        """When the loop runs, before the first frame."""
        asyncio.get_running_loop().set_exception_handler(self._fail)
        self._computing = None
        if self._error is not None:
            self._leave(LEAVE)
        self._work()

    def _suggest(self) -> None:
        """After each frame, so that a key shows first: has the suggestions computed that the text needs now."""
        if self._computing is None and self._session.known() is None and not self._app.is_done:
            self._computing = self._session.start()
            self._app.create_background_task(self._compute(self._computing))

    async def _compute(self, request: Request) -> None:
        try:
            with suppress(Cancelled):
                await asyncio.to_thread(self._session.compute, request)
        except asyncio.CancelledError:  # the screen is left: its loop waits for the thread
            self._session.cancel()
            raise
        self._computing = None
        self._work()
        self._app.invalidate()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Leaves the screen with what was raised in a key, a frame or a task."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self._error = self._error or error
            self._leave(LEAVE)

    # === Frames ===

    def frame(self, width: int, height: int) -> tuple[list[StyleAndTextTuples], Point | None]:
        """What the terminal shows: a title, the end of the text, suggestions, keys.

        Where there is little room the keys give way, then suggestions; the end of the text always shows, unless
        it is scrolled away.

        Returns:
            At most `height` lines of at most `width` cells, and where the cursor is, if it shows.
        """
        session = self._session
        suggestions = self._suggestion_lines()
        message = [line for part in session.message.split("\n") for line in wrap(visible(part), width)]
        message = message if session.message else []
        keys = key_lines(width)
        room = max(0, height - 2 - TEXT_LINES - len(message))  # for all but title, text, rule and message
        if len(suggestions) + len(keys) > room:
            keys = []
        suggestions = suggestions[:room]
        self._text_lines = max(1, height - 2 - len(suggestions) - len(message) - len(keys))
        text = self._visible_text(width)
        lines: list[StyleAndTextTuples] = [
            [("dim", self._title())],
            *styled("", text),
            [("dim", self._rule(width))],
            *suggestions,
            *styled("ansiyellow", message),
            *styled("dim", keys),
        ]
        left_out = max(0, len(lines) - height)
        first = len(text) + 2 - left_out  # suggestion
        fresh = session.known() is not None
        self._numbers = {first + number: number + 1 for number in range(len(suggestions))} if fresh else {}
        cursor = Point(len(text[-1]) - 1, len(text) - left_out) if not self._scroll else None
        return [fit(line, width) for line in lines[left_out:]], cursor

    def _suggestion_lines(self) -> list[StyleAndTextTuples]:
        """The suggestions, each with its number; without, and dim, those before, while the next are computed."""
        known = self._session.known()
        if known is None:
            before = self._shown
            rows = [f"  {one.probability:4.0%}  {visible(one.text)}" for one in before]
            return styled("dim", rows or ["Computing suggestions …"])
        self._shown = known
        return [
            [("bold", f"{number} "), ("", f"{one.probability:4.0%}  "), ("ansicyan", visible(one.text))]
            for number, one in enumerate(known, 1)
        ]

    def _title(self) -> str:
        session = self._session
        return (
            f"{visible(session.path.name)}{' *' if session.unsaved else ''}   "
            f"{counted(len(session.draft.text), 'character')}   "
            f"temperature {session.temperature:.1f}   page {session.page + 1}"
        )

    def _rule(self, width: int) -> str:
        below = f"─ {counted(self._scroll, 'line')} below " if self._scroll else ""
        return below + "─" * (width - len(below))

    def _visible_text(self, width: int) -> list[str]:
        """The lines of the text that show, the last of them with the cursor, unless it is scrolled."""
        text, count = self._session.draft.text, self._text_lines + self._scroll
        size = width * count  # characters that fill so many lines, unless some have no width
        while True:
            end = text[-size:] + CURSOR
            lines = [line for paragraph in end.split("\n") for line in wrap(visible(paragraph), width)]
            if len(lines) >= count or size >= len(text):
                break
            size *= 2
        self._scroll = max(0, min(self._scroll, len(lines) - self._text_lines))
        end_at = len(lines) - self._scroll
        return lines[max(0, end_at - self._text_lines) : end_at]


class _Frame(UIControl):
    """The whole screen as one control: it knows best what gives way to what."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def is_focusable(self) -> bool:
        return True

    def create_content(self, width: int, height: int) -> UIContent:
        lines, cursor = self._screen.frame(width, height)
        lines += [[] for _ in range(height - len(lines))]  # so that a click below hits none of them
        return UIContent(lines.__getitem__, len(lines), cursor, show_cursor=cursor is not None)

    def mouse_handler(self, mouse_event: MouseEvent) -> Any:
        return self._screen.mouse(mouse_event)


def styled(style: str, lines: list[str]) -> list[StyleAndTextTuples]:
    """Lines of one style."""
    return [[(style, line)] for line in lines]


def wrap(text: str, width: int) -> list[str]:
    """Breaks a paragraph into lines of at most `width` cells: after spaces and around wide characters, if it can."""
    lines: list[str] = []
    start = cells = 0
    cut = 0  # where the line may break, if that is after its start
    for at, character in enumerate(text):
        size = get_cwidth(character)
        if size > 1:
            cut = at
        if cells + size > width and at > start:
            at_space = character == " "
            end = at if at_space or cut <= start else cut
            lines.append(text[start:end].rstrip(" "))
            start = end + at_space
            cells = get_cwidth(text[start:at])
            if at_space:
                continue
        cells += size
        if character == " " or size > 1:
            cut = at + 1
    return [*lines, text[start:]]


def fit(line: StyleAndTextTuples, width: int) -> StyleAndTextTuples:
    """Cuts a line to so many cells, with an ellipsis where something is missing."""
    if sum(get_cwidth(text) for _, text, *_ in line) <= width:
        return line
    fitted: StyleAndTextTuples = []
    room = width - 1
    for style, text, *_ in line:
        kept = len(text)
        while get_cwidth(text[:kept]) > room:
            kept -= 1
        fitted.append((style, text[:kept] + ("" if kept == len(text) else "…")))
        if kept < len(text):
            break
        room -= get_cwidth(text)
    return fitted


def key_lines(width: int) -> list[str]:
    """The keys and what they do, in lines that break between two of them."""
    items = "   ".join(f"{key} {does}".replace(" ", "\xa0") for key, does, _ in KEYS)
    return [line.replace("\xa0", " ") for line in textwrap.wrap(items, width, break_on_hyphens=False)]


def visible(text: str) -> str:
    """The text with visible signs for everything that would move the cursor."""
    return "".join(c if c.isprintable() else {"\n": "⏎", "\t": "    "}.get(c, "·") for c in text)


@contextmanager
def _signals(screen: Screen) -> Iterator[None]:
    """Within, a lost connection or SIGTERM interrupts the screen, so that the text is saved on the way out."""

    def interrupt(number: int, _: FrameType | None) -> None:
        screen.interrupt(Interrupted(ENDING_SIGNALS[signal.Signals(number).name], number))

    numbers = [getattr(signal, name) for name in ENDING_SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
