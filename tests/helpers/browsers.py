"""Real browsers, driven without libraries: Chromium, Firefox and WebKit, each over the protocol that it has built in.

Chromium is driven over its DevTools protocol, Firefox over WebDriver BiDi, WebKit (MiniBrowser of WebKitGTK, in a
virtual display) over WebDriver. A test asks for a browser by the fixture `browser`, or calls `opened`, and is skipped
where the Debian package is not installed.
"""

from __future__ import annotations

import base64
import functools
import http.client
import io
import json
import math
import os
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from processes import child_process
from websocket import WebSocket

PATIENCE = 240.0  # seconds for what takes a second on an idle machine
BLANK = "data:text/html,<title>blank</title>"
MINI_BROWSERS = "/usr/lib/*/webkit2gtk-4.*/MiniBrowser"
KEYS = {  # name -> (code of WebDriver, code of Windows)
    "Backspace": ("\ue003", 8), "Tab": ("\ue004", 9), "Enter": ("\ue007", 13), "Shift": ("\ue008", 16),
    "Control": ("\ue009", 17), "Alt": ("\ue00a", 18), "Escape": ("\ue00c", 27), "End": ("\ue010", 35),
    "Home": ("\ue011", 36), "ArrowLeft": ("\ue012", 37), "ArrowUp": ("\ue013", 38), "ArrowRight": ("\ue014", 39),
    "ArrowDown": ("\ue015", 40), "Delete": ("\ue017", 46), "PageUp": ("\ue00e", 33), "PageDown": ("\ue00f", 34),
}  # fmt: skip
MODIFIERS = {"Alt": 1, "Control": 2, "Shift": 8}  # of Chromium
LISTEN = """
    window.faults ??= [];
    addEventListener("error", (event) => faults.push(event.message));
    addEventListener("unhandledrejection", (event) => faults.push(String(event.reason)));
    addEventListener("securitypolicyviolation", (event) => faults.push(`policy: ${event.violatedDirective}`));
    console.error = (...words) => faults.push(words.join(" "));
"""
REQUESTED = (
    "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].map((e) => e.name)"
)


class Browser(ABC):
    """A browser with one page.

    Attributes:
        name: "chromium", "firefox" or "webkit".
        faults: Errors that the page has reported: exceptions, messages of the console, violations of its policy.
        requests: Addresses that it has asked for.
    """

    name = ""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []

    @abstractmethod
    def open(self, url: str) -> None:
        """Loads a page."""

    def evaluate(self, expression: str) -> Any:
        """Returns the value of an expression in JavaScript, or what a promise brings, as JSON."""
        wrapped = f"(async () => JSON.stringify(await ({expression})) ?? 'null')()"
        return json.loads(self._evaluate(wrapped))

    def until(self, expression: str, patience: float = PATIENCE) -> None:
        """Waits until an expression is true."""
        deadline = time.monotonic() + patience
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.03)

    def type(self, text: str) -> None:
        """Types characters; a newline is the key Enter."""
        for character in text:
            self.press("Enter" if character == "\n" else character)

    @abstractmethod
    def press(self, keys: str) -> None:
        """Presses a key, with modifiers before it, such as Control+Enter."""

    @abstractmethod
    def click(self, x: float, y: float) -> None:
        """Presses the mouse at a point of the window."""

    @abstractmethod
    def resize(self, width: int, height: int) -> None:
        """Makes the page so large, in pixels."""

    @abstractmethod
    def picture(self) -> bytes:
        """A PNG of what can be seen."""

    def check_faults(self) -> None:
        """Asserts that the page has reported no error."""
        self.faults += self.evaluate("(window.faults ?? []).splice(0)")
        assert not self.faults, self.faults

    @abstractmethod
    def _evaluate(self, expression: str) -> str:
        """The value of an expression, as JSON."""


class Messages:
    """Commands with numbers over a WebSocket, and the events that arrive meanwhile."""

    def __init__(self, url: str, on_event: Callable[[str, dict[str, Any]], None]) -> None:
        self._socket = WebSocket(url, PATIENCE)
        self._on_event = on_event
        self._number = 0

    def send(self, method: str, params: dict[str, Any] | None = None, **more: Any) -> Any:
        """Sends a command and returns its result."""
        self.post(method, params, **more)
        while True:
            message = json.loads(self._socket.receive())
            if "id" not in message:
                self._on_event(message["method"], message.get("params", {}))
            elif message["id"] == self._number:
                assert "error" not in message, message
                return message["result"]

    def post(self, method: str, params: dict[str, Any] | None = None, **more: Any) -> None:
        """Sends a command without waiting for its result, which `send` then passes over."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params or {}, **more}))

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


class Chromium(Browser):
    """Chromium, over the DevTools protocol."""

    name = "chromium"

    def __init__(self, url: str) -> None:
        super().__init__()
        self._messages = Messages(url, self._on_event)
        self._workers: list[str] = []  # their sessions
        self._dragged: dict[str, Any] | None = None  # what the mouse carries
        self._target = self._session = ""
        self.renew()

    def renew(self) -> None:
        """Closes the page and opens an empty one in its place, as somebody who closes a tab does."""
        if self._target:
            self._messages.send("Target.closeTarget", {"targetId": self._target})
        self._target = self._messages.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._messages.send("Target.attachToTarget", {"targetId": self._target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setFocusEmulationEnabled", {"enabled": True})

    def send(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Sends a command of the DevTools protocol about the page."""
        return self._messages.send(method, params, sessionId=self._session)

    def open(self, url: str) -> None:
        self.send("Page.navigate", {"url": url})
        self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def press(self, keys: str) -> None:
        for event in self._strokes(keys):
            self.send("Input.dispatchKeyEvent", event)

    def press_at_once(self, *keys: str) -> None:
        """Presses keys without waiting until the page has taken those before, as a key does that is held down."""
        for event in [stroke for each in keys for stroke in self._strokes(each)]:
            self._messages.post("Input.dispatchKeyEvent", event, sessionId=self._session)

    def _strokes(self, keys: str) -> list[dict[str, Any]]:
        """The events of a key that is pressed with modifiers."""
        *held, key = keys.split("+") if len(keys) > 1 else [keys]
        modifiers = sum(MODIFIERS[name] for name in held)
        code = KEYS[key][1] if key in KEYS else ord(key.upper()) if key.isascii() and key.isalnum() else 0
        text = "\r" if key == "Enter" else key if key not in KEYS and not modifiers else ""
        how = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": code}
        if key in KEYS or (key.isascii() and key.isalpha()):
            how["code"] = key if key in KEYS else f"Key{key.upper()}"
        return [{"type": "keyDown" if text else "rawKeyDown", **how, "text": text}, {"type": "keyUp", **how}]

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags what is selected at a point of the window to another one."""
        self.send("Input.setInterceptDrags", {"enabled": True})
        for kind, (x, y), shift in (("mousePressed", start, 0), ("mouseMoved", start, 9), ("mouseMoved", end, 0)):
            how = {"button": "left", "buttons": 1, "clickCount": 1}
            self.send("Input.dispatchMouseEvent", {"type": kind, "x": x + shift, "y": y, **how})
        self.evaluate("new Promise((done) => setTimeout(done, 50))")
        assert self._dragged, "nothing is dragged"
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", {"type": kind, "x": end[0], "y": end[1], "data": self._dragged})
        how = {"type": "mouseReleased", "x": end[0], "y": end[1], "button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", how)
        self.send("Input.setInterceptDrags", {"enabled": False})
        self._dragged = None

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Makes the system's colours light or dark."""
        self.send("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def force_colours(self, scheme: str) -> None:
        """Makes the system force its colours on the page, light or dark ones, until `prefer` is called."""
        features = [{"name": "forced-colors", "value": "active"}, {"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", {"features": features})

    def colours(self, element: str) -> set[str]:
        """The colours in the picture of an element, as rgb(red, green, blue)."""
        left, top, right, bottom = self.evaluate(
            f"(({{ left, top, right, bottom }}) => [left, top, right, bottom])({element}.getBoundingClientRect())"
        )
        picture = Image.open(io.BytesIO(self.picture())).convert("RGB")
        inside = np.asarray(picture)[math.ceil(top) : int(bottom), math.ceil(left) : int(right)]
        return {f"rgb({red}, {green}, {blue})" for red, green, blue in np.unique(inside.reshape(-1, 3), axis=0)}

    def colour(self, name: str) -> str:
        """How a colour of the system or of the page, such as Highlight or var(--ink), looks over Canvas."""
        self.evaluate(
            "(() => { window.probe = document.body.appendChild(document.createElement('i')); probe.style ="
            "'position: fixed; inset: 0 auto auto 0; width: 9px; height: 9px; z-index: 9; forced-color-adjust: none;"
            f"background: Canvas; box-shadow: inset 0 0 0 9px {name}'; }})()"
        )
        (found,) = self.colours("probe")
        self.evaluate("probe.remove()")
        return found

    def picture(self) -> bytes:
        return base64.b64decode(self.send("Page.captureScreenshot", {"format": "png"})["data"])

    def heaps(self) -> list[int]:
        """Bytes in use after a collection, with those of array buffers: the page's, then its Workers'."""
        if not self._workers:
            watched = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
            self.send("Target.setAutoAttach", watched)
        return [self._heap(session) for session in (self._session, *self._workers)]

    def _heap(self, session: str) -> int:
        self._messages.send("HeapProfiler.collectGarbage", sessionId=session)
        used = self._messages.send("Runtime.getHeapUsage", sessionId=session)
        return int(used["usedSize"] + used["backingStorageSize"])

    def close(self) -> None:
        """Ends the connection."""
        self._messages.close()

    def _evaluate(self, expression: str) -> str:
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.send("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer
        return str(answer["result"]["value"])

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.faults.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.faults.append(json.dumps(params["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Input.dragIntercepted":
            self._dragged = params["data"]
        elif method == "Target.attachedToTarget" and params["targetInfo"]["type"] == "worker":
            self._workers.append(params["sessionId"])


def pressed(keys: str) -> list[dict[str, Any]]:
    """The actions of WebDriver that press a key with modifiers."""
    names = keys.split("+") if len(keys) > 1 else [keys]
    codes = [KEYS[name][0] if name in KEYS else name for name in names]
    down = [{"type": "keyDown", "value": code} for code in codes]
    up = [{"type": "keyUp", "value": code} for code in reversed(codes)]
    return [{"type": "key", "id": "keys", "actions": [*down, *up]}]


def clicked(x: float, y: float) -> list[dict[str, Any]]:
    """The actions of WebDriver that press the mouse at a point."""
    actions = [
        {"type": "pointerMove", "x": int(x), "y": int(y), "duration": 0},
        {"type": "pointerDown", "button": 0},
        {"type": "pointerUp", "button": 0},
    ]
    return [{"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}]


class Firefox(Browser):
    """Firefox, over WebDriver BiDi."""

    name = "firefox"

    def __init__(self, url: str) -> None:
        super().__init__()
        self._messages = Messages(f"{url}/session", self._on_event)
        self.send("session.new", {"capabilities": {}})
        self.send("session.subscribe", {"events": ["log.entryAdded", "network.beforeRequestSent"]})
        self._context: str = self.send("browsingContext.getTree", {})["contexts"][0]["context"]
        self.send("browsingContext.activate", {"context": self._context})

    def send(self, method: str, params: dict[str, Any]) -> Any:
        """Sends a command of WebDriver BiDi."""
        return self._messages.send(method, params)

    def open(self, url: str) -> None:
        self.send("browsingContext.navigate", {"context": self._context, "url": url, "wait": "complete"})

    def press(self, keys: str) -> None:
        self.send("input.performActions", {"context": self._context, "actions": pressed(keys)})

    def click(self, x: float, y: float) -> None:
        self.send("input.performActions", {"context": self._context, "actions": clicked(x, y)})

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height}
        self.send("browsingContext.setViewport", {"context": self._context, "viewport": size})

    def picture(self) -> bytes:
        return base64.b64decode(self.send("browsingContext.captureScreenshot", {"context": self._context})["data"])

    def close(self) -> None:
        """Ends the connection."""
        self._messages.close()

    def _evaluate(self, expression: str) -> str:
        place = {"target": {"context": self._context}, "awaitPromise": True, "userActivation": True}
        answer = self.send("script.evaluate", {"expression": expression, **place})
        assert answer["type"] == "success", answer
        return str(answer["result"]["value"])

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "log.entryAdded" and params["level"] == "error":
            self.faults.append(str(params["text"]))
        elif method == "network.beforeRequestSent":
            self.requests.append(params["request"]["url"])


class WebKit(Browser):
    """WebKit, over WebDriver."""

    name = "webkit"

    def __init__(self, port: int, program: str) -> None:
        super().__init__()
        self._port = port
        options = {"webkitgtk:browserOptions": {"binary": program, "args": ["--automation"]}}
        self._path = ""
        answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self._path = f"/session/{answer['sessionId']}"
        self._call("POST", "/timeouts", {"script": int(PATIENCE * 1000)})

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})
        self.evaluate(f"(() => {{ {LISTEN} }})()")
        self.requests += self.evaluate(REQUESTED)

    def press(self, keys: str) -> None:
        self._call("POST", "/actions", {"actions": pressed(keys)})

    def click(self, x: float, y: float) -> None:
        self._call("POST", "/actions", {"actions": clicked(x, y)})

    def resize(self, width: int, height: int) -> None:
        self._call("POST", "/window/rect", {"width": width, "height": height})

    def picture(self) -> bytes:
        return base64.b64decode(self._call("GET", "/screenshot"))

    def check_faults(self) -> None:
        self.requests += self.evaluate(REQUESTED)
        super().check_faults()

    def close(self) -> None:
        """Ends the browser."""
        self._call("DELETE", "")

    def _evaluate(self, expression: str) -> str:
        script = f"const done = arguments[0]; {expression}.then(done, (error) => done('\"' + error + '\"'))"
        return str(self._call("POST", "/execute/async", {"script": script, "args": []}))

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, self._path + path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())["value"]
            assert response.status == 200, answer
            return answer
        finally:
            connection.close()


# === Start and end ===


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, and whose messages go to a file."""
    with log.open("wb") as file:
        program = child_process(
            command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env={**os.environ, **environment}
        )
        with program as started:
            try:
                yield started
            finally:
                started.terminate()
                with suppress(subprocess.TimeoutExpired):
                    started.wait(30)


def said(log: Path, words: str, started: subprocess.Popen[bytes]) -> str:
    """What a process prints on a line after some words, once it does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        for line in log.read_text(errors="replace").splitlines():
            if words in line:
                return line.partition(words)[2].strip()
        assert started.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


PACKAGES = {
    "chromium": ("Chromium", "chromium"),
    "firefox": ("Firefox", "firefox-esr"),
    "webkit": ("WebKit", "webkit2gtk-driver xvfb"),
}  # name -> (the same for people, the Debian packages)


def programs(name: str) -> list[str | None]:
    """What a browser needs: the paths of its programs, None for those that are not installed."""
    if name == "webkit":
        return [shutil.which("WebKitWebDriver"), max(glob(MINI_BROWSERS), default=None), shutil.which("Xvfb")]
    names = {"chromium": ("chromium", "google-chrome"), "firefox": ("firefox-esr", "firefox")}[name]
    return [next(filter(None, map(shutil.which, names)), None)]


def installed(name: str) -> list[str]:
    """The programs of a browser. The test is skipped if one is not installed."""
    found = programs(name)
    if not all(found):
        title, packages = PACKAGES[name]
        pytest.skip(f"{title} is not installed: apt-get install {packages}")
    return [program for program in found if program]


def require_browser() -> None:
    """Raises `pytest.UsageError` if no browser is installed: all tests in browsers would be skipped."""
    if not any(all(programs(name)) for name in PACKAGES):
        packages = ", or ".join(packages for _, packages in PACKAGES.values())
        raise pytest.UsageError(f"No browser is installed, so there is nothing to test: apt-get install {packages}")


CHROMIUM_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-default-browser-check",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-dev-shm-usage", "--remote-debugging-port=0", "--lang=en-GB",
    "--force-color-profile=srgb", "--hide-scrollbars",
)  # fmt: skip
FIREFOX_SETTINGS: dict[str, Any] = {
    "app.update.enabled": False, "browser.shell.checkDefaultBrowser": False, "browser.startup.page": 0,
    "browser.safebrowsing.update.enabled": False, "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False, "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False, "services.settings.server": "data:,", "intl.accept_languages": "en",
    "toolkit.telemetry.server": "", "dom.disable_open_during_load": False, "browser.topsites.contile.enabled": False,
}  # fmt: skip


@contextmanager
def chromium(folder: Path) -> Iterator[Chromium]:
    """Chromium, with a profile in a folder."""
    (program,) = installed("chromium")
    command = [program, *CHROMIUM_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with process(command, folder / "log") as started:
        page = Chromium(said(folder / "log", "DevTools listening on ", started))
        try:
            yield page
        finally:
            page.close()


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """Firefox, with a profile in a folder."""
    (program,) = installed("firefox")
    profile = folder / "profile"
    profile.mkdir()
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in FIREFOX_SETTINGS.items()]
    (profile / "user.js").write_text("\n".join(lines))
    port = free_port()
    flags = ["--headless", "--no-remote", f"--remote-debugging-port={port}", "--profile", str(profile)]
    command = [program, *flags, BLANK]  # with a page: on an empty one the field for addresses has the focus
    with process(command, folder / "log", HOME=str(folder), MOZ_CRASHREPORTER_DISABLE="1") as started:
        page = Firefox(said(folder / "log", "WebDriver BiDi listening on ", started))
        try:
            yield page
        finally:
            page.close()


@contextmanager
def webkit(folder: Path) -> Iterator[WebKit]:
    """WebKit, in a virtual display."""
    driver, browser, display = installed("webkit")
    with ExitStack() as stack:
        read, write = os.pipe()
        command = [display, "-displayfd", str(write), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
        program = child_process(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        screen = stack.enter_context(program)
        stack.callback(screen.wait, 30)
        stack.callback(screen.terminate)
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb has not started"
        port = free_port()
        environment = {
            "DISPLAY": f":{number}",
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "NO_AT_BRIDGE": "1",
        }
        stack.enter_context(process([driver, f"--port={port}"], folder / "log", **environment))
        wait_for_port(port)
        page = WebKit(port, browser)
        stack.callback(page.close)
        yield page


def wait_for_port(port: int) -> None:
    """Waits until something listens on a port."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


ENGINES = {"chromium": chromium, "firefox": firefox, "webkit": webkit}


@contextmanager
def opened(name: str) -> Iterator[Any]:
    """A browser by its name; the test is skipped if it is not installed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ENGINES[name](Path(folder)) as page:
        yield page


@functools.cache
def axe_source(folder: Path) -> str:
    """The script that finds violations of accessibility rules, from a folder with axe's package."""
    (path,) = folder.glob("lib/python*/site-packages/axe_playwright_python/axe.min.js")
    return path.read_text(encoding="utf-8")
