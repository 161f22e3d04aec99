"""The terminal screen of `textgen write`: handles keys and mouse, and shows the session."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.cursor_shapes import CursorShape
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.layout import Layout, UIContent, UIControl, Window
from prompt_toolkit.mouse_events import MouseButton, MouseEvent, MouseEventType
from prompt_toolkit.output import Output

from textgen.editor.external_editor import open_editor
from textgen.editor.frame import Frame, draw
from textgen.editor.keys import EDIT, LEAVE, UNFINISHED_SECONDS, WHEEL_LINES, Keyboard
from textgen.editor.session import STILL_HERE, Cancelled, Session, SuggestionRequest
from textgen.errors import ENDING_SIGNALS, Interrupted

SAVE_SECONDS = 2.0  # without a change of the text, after which it is saved
UNSAVED_SECONDS = 60.0  # longest time that passes before changes are saved
STOP, SHOW = "stop", "show"  # how signals leave the screen: to stop the process, and to show all of it again


def run(session: Session) -> None:
    """Runs a session in the terminal until the user leaves, and always saves its text at the end.

    The text is also saved whenever the user pauses, and at least once a minute, so that a killed process loses little.

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
            while (left := screen.run()) != LEAVE:
                try:
                    if left == EDIT:
                        _edit(session)
                    elif left == STOP:
                        session.save_by_itself()  # it may never be continued
                        _stop_process()
                except BaseException:
                    unread = session.message.replace(f" {STILL_HERE}", "")
                    raise
        finally:
            screen.close()
            session.save(is_leaving=True)
            session.message = _joined(unread, session.message)


def _edit(session: Session) -> None:
    """Saves the text and opens it in the external editor. Keeps the messages of both."""
    session.save_by_itself()
    saving = session.message
    try:
        open_editor(session)
    finally:
        session.message = _joined(saving, session.message)


def _joined(*messages: str) -> str:
    lines = [line for message in messages for line in message.split("\n")]
    return "\n".join(dict.fromkeys(filter(None, lines)))


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
        self._keyboard = Keyboard(session, self)
        self._scroll = 0  # lines of text below the last visible one
        self._frame = Frame()  # as it was drawn last
        self._computing: SuggestionRequest | None = None
        self._running = self._closed = False
        self._pause = ""  # how a signal leaves the screen, `STOP` or `SHOW`
        self._saving: asyncio.TimerHandle | None = None
        self._save_by = 0.0  # when the oldest change is saved at the latest, on the clock of the event loop
        self._error: BaseException | None = None
        self._app: Application[str] = Application(
            layout=Layout(Window(_Control(self))),
            key_bindings=self._keyboard.bindings(),
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
            `LEAVE`, or how to go on before the next call: `EDIT` to open the external editor, or what was given to
            `pause`. `LEAVE` if the terminal is gone.

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
            if self._saving is not None:
                self._saving.cancel()
                self._saving = None
        error, self._error = self._error, None
        if error is not None and not isinstance(error, (OSError, EOFError)):
            raise error
        if left in (STOP, SHOW):
            left, self._pause = self._pause, ""  # the newest: what was continued before it has stopped goes on
        return left

    @property
    def is_running(self) -> bool:
        """Whether `run` shows the session, so that the settings of the terminal may be those of the screen."""
        return self._running

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
        self._leave_soon(LEAVE)

    def pause(self, how: str) -> None:
        """Leaves the screen, to be run again. Signal handlers may call this at any time, like `interrupt`.

        Args:
            how: `STOP` or `SHOW`, which `run` returns. Nothing happens if the screen is not running.
        """
        if self._running and not self._closed:
            self._pause = how
            self._leave_soon(how)

    def close(self) -> None:
        """Ignores all later calls of `interrupt` and `pause`."""
        self._closed = True

    def scroll(self, lines: int) -> None:
        """Scrolls the text up by `lines`, or down if `lines` is negative."""
        self._scroll = max(0, self._scroll + lines)

    def scroll_page(self, pages: int) -> None:
        """Scrolls the text up by `pages`, or down if `pages` is negative; a line of the page before stays visible."""
        self.scroll(pages * max(1, self._frame.text_lines - 1))

    def frame(self, width: int, height: int) -> Frame:
        """Draws a frame.

        Args:
            width: Width of the terminal in cells.
            height: Height of the terminal in lines.

        Returns:
            The frame.
        """
        before = self._frame.suggestions
        self._frame = draw(self._session, width, height, scroll=self._scroll, before=before)
        self._scroll = self._frame.scroll
        return self._frame

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
            and (number := self._frame.numbers.get(event.position.y))
        ):
            self._keyboard.press(partial(self._session.take, number), waits=True)
        else:
            return NotImplemented
        return None

    # === Keys ===

    def press(self, action: Callable[[], None], *, waits: bool = False) -> None:
        """Queues the action of a key; with `waits`, it runs only once suggestions are known."""
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
                self._save_soon()

    def _save_soon(self) -> None:
        """Saves the text once it has not changed for a while, or has changed for long."""
        loop = asyncio.get_running_loop()
        if self._saving is None:
            self._save_by = loop.time() + UNSAVED_SECONDS
        else:
            self._saving.cancel()
        self._saving = loop.call_at(min(loop.time() + SAVE_SECONDS, self._save_by), self._save)

    def _save(self) -> None:
        self._saving = None
        self._session.save_by_itself()
        self._app.invalidate()

    def leave_after_keys(self, again: bool) -> None:
        """Leaves after all earlier keys have been handled; if the key is pressed again, immediately."""
        if self._keys and again:
            self.leave(LEAVE)
        else:
            self.press(partial(self.leave, LEAVE))

    def leave(self, how: str) -> None:
        """Leaves the screen with what `run` returns: `EDIT` to open the external editor, `LEAVE`, `STOP` or `SHOW`."""
        if self._app.is_running and not self._app.is_done:
            self._app.exit(result=how)

    def _leave_soon(self, how: str) -> None:
        """Leaves the screen from a signal handler. `_begin` does it if there is no loop yet."""
        if self._app.loop is not None:
            with suppress(RuntimeError):  # the loop is closed because the user left
                self._app.loop.call_soon_threadsafe(self.leave, how)

    # === Suggestions and errors ===

    def _begin(self) -> None:
        """Prepares the running event loop, before the first frame."""
        asyncio.get_running_loop().set_exception_handler(self._fail)
        self._computing = None
        if self._error is not None:
            self.leave(LEAVE)
        elif self._pause:
            self.leave(self._pause)
        if self._session.unsaved:  # since the external editor was open
            self._save_soon()
        self._work()

    def _suggest(self) -> None:
        """Starts computing missing suggestions; runs after each frame, so that typed keys appear first."""
        if self._computing is None and self._session.known() is None and not self._app.is_done:
            self._computing = self._session.start()
            self._app.create_background_task(self._compute(self._computing))

    async def _compute(self, request: SuggestionRequest) -> None:
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
            self.leave(LEAVE)


class _Control(UIControl):
    """The whole screen as one control, so that `frame.draw` decides how the space is shared."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def is_focusable(self) -> bool:
        return True

    def create_content(self, width: int, height: int) -> UIContent:
        frame = self._screen.frame(width, height)
        empty = height - len(frame.lines)  # so that a click below the text hits no suggestion
        lines: list[StyleAndTextTuples] = [*frame.lines, *[[] for _ in range(empty)]]
        return UIContent(lines.__getitem__, len(lines), frame.cursor, show_cursor=frame.cursor is not None)

    def mouse_handler(self, mouse_event: MouseEvent) -> Any:
        return self._screen.mouse(mouse_event)


@contextmanager
def _signals(screen: Screen) -> Iterator[None]:
    """Handles signals within the block: the text is saved, and the terminal is not left as the screen needs it.

    SIGINT, SIGHUP and SIGTERM interrupt the screen. SIGTSTP stops the process once the screen is left; after SIGCONT
    the screen is shown again, since a shell has used the terminal meanwhile. While there is no screen, as during the
    external editor, both do what they do by default.

    A closed screen ignores them: Ctrl-C pressed once too often must not interrupt the saving. Signals that this process
    ignores from the start stay ignored.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        screen.interrupt(Interrupted(ENDING_SIGNALS[name], number) if name in ENDING_SIGNALS else KeyboardInterrupt())

    def stop(*_: object) -> None:
        if screen.is_running:
            screen.pause(STOP)
        else:
            _stop_process()

    def show_again(*_: object) -> None:
        if screen.is_running and _is_in_background():
            signal.raise_signal(signal.SIGTTOU)  # stops it until it is in the foreground, as the terminal would
        else:
            screen.pause(SHOW)

    handlers: dict[str, Callable[[int, FrameType | None], None]] = {
        **dict.fromkeys(("SIGINT", *ENDING_SIGNALS), interrupt),
        "SIGTSTP": stop,
        "SIGCONT": show_again,
    }
    known = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    known = {number: new for number, new in known.items() if signal.getsignal(number) is not signal.SIG_IGN}
    before = {number: signal.signal(number, new) for number, new in known.items()}
    if hasattr(signal, "SIGCONT"):
        # A job that the terminal stops in a call, as it does in the background, goes on with this call.
        signal.siginterrupt(signal.SIGCONT, False)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_process() -> None:
    """Stops this process, as SIGTSTP does by default, until it is continued.

    The system does not stop a process that no shell could continue; it goes on at once.
    """
    before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    try:
        signal.raise_signal(signal.SIGTSTP)
    finally:
        signal.signal(signal.SIGTSTP, before)


def _is_in_background() -> bool:
    """Whether another job has the terminal."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp()
    except OSError:  # it has no jobs
        return False
