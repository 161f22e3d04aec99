"""The terminal screen of `textgen write`: handles keys and mouse, and draws the session."""

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

from textgen.editor.external_editor import open_editor
from textgen.editor.lines import fit, styled, visible, wrap
from textgen.editor.session import Cancelled, Request, Session, without_controls
from textgen.errors import Interrupted
from textgen.generation.suggestions import Suggestion
from textgen.wording import counted

# Label, description, and the action of each prompt_toolkit key.
KEYS: list[tuple[str, str, dict[str, Callable[[Session], None]]]] = [
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
LEAVE, EDIT = "leave", "edit"  # results of `Screen.run`
CURSOR = "▏"
TEXT_LINES = 3  # minimum number of lines of text
WRAPPED = 16_384  # characters of a paragraph that are wrapped at each key, besides the visible ones
WHEEL_LINES = 3  # lines per notch of the mouse wheel
UNFINISHED_SECONDS = 0.05  # longest wait for the rest of an escape sequence, on a slow connection
BEGINS_SEQUENCE = re.compile("\x1b(?:\\[[0-9;<=>?]*[ -/]*|O)?\\Z")
MOUSE_EVENT = re.compile('\x1b\\[(?:<\\d+;\\d+;\\d+[Mm]|\\d+;\\d+;\\d+M|M[ !"#@ABC`a]..)', re.DOTALL)  # SGR, urxvt, X10
ENDING_SIGNALS = {"SIGHUP": "The terminal was closed.", "SIGTERM": "Terminated."}  # Windows has no SIGHUP


def run(session: Session) -> None:
    """Runs a session in the terminal until the user leaves, and always saves its text at the end.

    Args:
        session: The session. Its final `message` tells whether the text was saved.

    Raises:
        Interrupted: The connection was lost, or the process was terminated.
        TextgenError: Suggestions cannot be computed.
    """
    screen = Screen(session)
    unread = ""  # message that no screen has shown
    with _signals(screen):
        try:
            while screen.run() == EDIT:
                try:
                    open_editor(session)
                except BaseException:
                    unread = session.message
                    raise
        finally:
            screen.close()
            session.save()
            session.message = f"{unread}\n{session.message}".lstrip("\n")


class Screen:
    """A session as a prompt_toolkit application."""

    def __init__(self, session: Session, input: Input | None = None, output: Output | None = None) -> None:
        """Creates the application.

        Args:
            session: The session to show.
            input: Input of prompt_toolkit. By default the terminal.
            output: Output of prompt_toolkit. By default the terminal.
        """
        self._session = session
        self._keys: deque[tuple[Callable[[], None], bool]] = deque()  # action of each key; whether it needs suggestions
        self._literal = False  # whether to insert the next key as text, even a digit
        self._sequence = ""  # beginning of an escape sequence unknown to prompt_toolkit
        self._scroll = 0  # lines of text below the last visible one
        self._shown: list[Suggestion] = []
        self._numbers: dict[int, int] = {}  # line of the screen -> number of its suggestion
        self._text_lines = 0  # number of visible lines of text
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
        """Shows the session and handles keys and mouse until the user leaves.

        Returns:
            `LEAVE`, or `EDIT` to open the external editor. `LEAVE` if the terminal is gone.

        Raises:
            BaseException: The error given to `interrupt`, or the error that ended the session.
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
        """Leaves the screen with an error. Signal handlers may call this at any time; later calls are ignored.

        Args:
            error: The error that `run` raises; raised here if the screen is not running.
        """
        if self._closed:
            return
        self.close()  # a second signal must not interrupt the saving
        if not self._running:
            raise error
        self._error = self._error or error
        if self._app.loop is not None:
            with suppress(RuntimeError):  # the loop is closed because the user left
                self._app.loop.call_soon_threadsafe(self._leave, LEAVE)

    def close(self) -> None:
        """Ignores all later calls of `interrupt`."""
        self._closed = True

    def scroll(self, lines: int) -> None:
        """Scrolls the text up by `lines`, or down if `lines` is negative."""
        self._scroll = max(0, self._scroll + lines)

    def mouse(self, event: MouseEvent) -> object:
        """Handles a mouse event: a click takes a suggestion, the wheel scrolls.

        Args:
            event: The event.

        Returns:
            None if the event was handled, otherwise `NotImplemented`.
        """
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
        """Queues the action of a key; with `waits`, it runs only once suggestions are known."""
        self._literal = False
        self._keys.append((action, waits))
        self._work()
        if self._computing not in (None, self._session.request):
            self._session.cancel()

    def _work(self) -> None:
        """Runs queued actions, up to the first one that waits for suggestions."""
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
        if isinstance(key, Keys):  # a key without an action
            return
        text = "\ufffd" if "\ud800" <= key <= "\udfff" else key  # a byte that is not UTF-8
        if text in "123456789" and not self._literal:
            self._press(partial(self._session.take, int(text)), waits=True)
        elif without_controls(text):
            self._press(partial(self._session.type, text))

    def _mouse_key(self, event: KeyPressEvent) -> object:
        """Passes mouse events to prompt_toolkit, except for data that it would mistake for one."""
        (binding,) = load_mouse_bindings().get_bindings_for_keys((Keys.Vt100MouseEvent,))
        return binding.handler(event) if MOUSE_EVENT.fullmatch(event.data) else NotImplemented

    def _next_is_text(self) -> None:
        def tell() -> None:
            self._session.message = "The next digit is text."

        self._press(tell)
        self._literal = True

    def _leave_after_keys(self, event: KeyPressEvent) -> None:
        """Leaves after all earlier keys have been handled; if pressed again, immediately."""
        if self._keys and event.is_repeat:
            self._leave(LEAVE)
        else:
            self._press(partial(self._leave, LEAVE))

    def _leave(self, how: str) -> None:
        if self._app.is_running and not self._app.is_done:
            self._app.exit(result=how)

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

    # === Suggestions and errors ===

    def _begin(self) -> None:
        """Prepares the running event loop, before the first frame."""
        asyncio.get_running_loop().set_exception_handler(self._fail)
        self._computing = None
        if self._error is not None:
            self._leave(LEAVE)
        self._work()

    def _suggest(self) -> None:
        """Starts computing missing suggestions; runs after each frame, so that typed keys appear first."""
        if self._computing is None and self._session.known() is None and not self._app.is_done:
            self._computing = self._session.start()
            self._app.create_background_task(self._compute(self._computing))

    async def _compute(self, request: Request) -> None:
        try:
            with suppress(Cancelled):
                await asyncio.to_thread(self._session.compute, request)
        except asyncio.CancelledError:  # the user left; the loop waits for the thread, so stop it
            self._session.cancel()
            raise
        self._computing = None
        self._work()
        self._app.invalidate()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Leaves the screen with the error raised by a key, a frame or a task."""
        error = context.get("exception")
        if error is None:
            loop.default_exception_handler(context)
        else:
            self._error = self._error or error
            self._leave(LEAVE)

    # === Frames ===

    def frame(self, width: int, height: int) -> tuple[list[StyleAndTextTuples], Point | None]:
        """Draws a frame: title, end of the text, suggestions and keys.

        If the frame is too small, the keys are left out first, then suggestions, then the title and the end of the
        message. The end of the text is always visible unless the user scrolled up.

        Args:
            width: Width of the terminal in cells.
            height: Height of the terminal in lines.

        Returns:
            At most `height` lines of at most `width` cells, and the position of the cursor, or None if it is hidden.
        """
        session = self._session
        suggestions = self._suggestion_lines()
        message = [line for part in session.message.split("\n") for line in wrap(visible(part), width)]
        message = message if session.message else []
        keys = key_lines(width)
        room = max(0, height - 2 - TEXT_LINES - len(message))  # lines for suggestions and keys
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
        left_out = min(max(0, len(lines) - height), len(text))  # the last line of the text stays
        first = len(text) + 2 - left_out  # line of the first suggestion
        fresh = session.known() is not None
        self._numbers = {first + number: number + 1 for number in range(len(suggestions))} if fresh else {}
        cursor = Point(len(text[-1]) - 1, len(text) - left_out) if not self._scroll else None
        return [fit(line, width) for line in lines[left_out : left_out + height]], cursor

    def _suggestion_lines(self) -> list[StyleAndTextTuples]:
        """Returns the numbered suggestions; while new ones are computed, the previous ones, dim and without numbers."""
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
        """Returns the visible lines of the text; the last one ends with the cursor unless the text is scrolled."""
        text, count = self._session.draft.text, self._text_lines + self._scroll
        size = width * count  # enough characters for `count` lines, unless some have no width
        while True:
            end = text[_wrap_start(text, len(text) - size) :] + CURSOR
            lines = [line for paragraph in end.split("\n") for line in wrap(visible(paragraph), width)]
            if len(lines) >= count or size >= len(text):
                break
            size *= 2
        self._scroll = max(0, min(self._scroll, len(lines) - self._text_lines))
        end_at = len(lines) - self._scroll
        return lines[max(0, end_at - self._text_lines) : end_at]


def _wrap_start(text: str, at: int) -> int:
    """Returns the place from which text is wrapped to find the lines after `at`.

    It must not move with `at`, or lines would break elsewhere after each key: it is the beginning of the paragraph, and
    in a paragraph of more than `WRAPPED` characters the last multiple of them.
    """
    start = text.rfind("\n", 0, max(0, at)) + 1
    return start + max(0, at - start) // WRAPPED * WRAPPED


class _Frame(UIControl):
    """The whole screen as one control, so that `Screen.frame` decides how the space is shared."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def is_focusable(self) -> bool:
        return True

    def create_content(self, width: int, height: int) -> UIContent:
        lines, cursor = self._screen.frame(width, height)
        lines += [[] for _ in range(height - len(lines))]  # so that a click below the text hits no suggestion
        return UIContent(lines.__getitem__, len(lines), cursor, show_cursor=cursor is not None)

    def mouse_handler(self, mouse_event: MouseEvent) -> Any:
        return self._screen.mouse(mouse_event)


def key_lines(width: int) -> list[str]:
    """Returns the help lines of the keys, at most `width` cells wide, without breaks inside an item."""
    items = "   ".join(f"{key} {does}".replace(" ", "\xa0") for key, does, _ in KEYS)
    return [line.replace("\xa0", " ") for line in textwrap.wrap(items, width, break_on_hyphens=False)]


@contextmanager
def _signals(screen: Screen) -> Iterator[None]:
    """Makes SIGINT, SIGHUP and SIGTERM interrupt the screen within the block, so that the text is saved.

    A closed screen ignores them: Ctrl-C pressed once too often must not interrupt the saving. Signals that this process
    ignores from the start stay ignored.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        screen.interrupt(Interrupted(ENDING_SIGNALS[name], number) if name in ENDING_SIGNALS else KeyboardInterrupt())

    numbers = [getattr(signal, name) for name in ("SIGINT", *ENDING_SIGNALS) if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
