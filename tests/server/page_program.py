"""Uses the page in Chromium, as people do. Runs in an environment with playwright and axe, not in that of the tests.

python page_program.py http://127.0.0.1:8000/ CHROMIUM [FOLDER FOR PICTURES]
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds
RANGES = (
    "[...CSS.highlights.values()].flatMap((each) => [...each]).map((each) => each.startOffset)"  # marked words begin
)


def until(condition: Callable[[], Any]) -> None:
    """Waits until something is so. (Playwright's own waiting is forbidden by the page's content security policy.)"""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Page:
    """The page in a browser."""

    def __init__(self, context: Any, url: str) -> None:
        self.page = context.new_page()
        self.faults: list[str] = []
        self.foreign: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        self.page.on("request", lambda request: self.foreign.append(request.url) if url not in request.url else None)
        self.page.goto(url)
        until(lambda: self.page.evaluate("document.documentElement.dataset.ready === 'yes'"))

    @property
    def text(self) -> str:
        text: str = self.page.evaluate("document.getElementById('text').textContent.replace(/\\n$/, '')")
        return text

    @property
    def is_writing(self) -> bool:
        return bool(self.page.evaluate("document.getElementById('write').dataset.word === 'stop'"))

    def has_scores(self) -> bool:
        """Whether the second token of the text, a word of the user, has a colour."""
        return 2 in self.page.evaluate(RANGES)

    def type(self, text: str) -> None:
        self.page.focus("#text")
        self.page.keyboard.press("Control+End")
        self.page.keyboard.type(text)

    def write(self) -> None:
        self.page.focus("#text")
        self.page.keyboard.press("Control+Enter")
        until(lambda: not self.is_writing)

    def press(self, keys: str) -> None:
        self.page.focus("#text")
        self.page.keyboard.press(keys)


def write_and_choose(page: Page) -> None:
    page.type("The cat")
    page.page.fill("#seed", "4")
    page.page.fill("#max_tokens-number", "12")
    page.page.keyboard.press("Tab")
    page.write()
    first = page.text
    assert first.startswith("The cat")
    assert len(first) > len("The cat")
    page.press("Control+End")
    page.press("ArrowLeft")
    page.press("Alt+ArrowDown")
    options = page.page.locator(".alternative")
    until(lambda: options.count() >= 8)
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("Enter")
    until(lambda: not page.is_writing)
    chosen = page.text
    assert chosen != first
    for _ in range(2):  # what was written after the choice, and the choice
        if page.text != first:
            page.press("Control+z")
    assert page.text == first, (page.text, first, chosen)


def regenerate(page: Page) -> None:
    before = page.text
    page.page.fill("#seed", "5")
    page.page.click("#again")
    until(lambda: not page.is_writing)
    assert page.page.inner_text("#version").endswith("/2"), page.page.inner_text("#version")
    other = page.text
    assert other != before
    page.press("Alt+ArrowLeft")
    assert page.text == before
    page.press("Alt+ArrowRight")
    assert page.text == other


def offer_several(page: Page) -> None:
    page.page.select_option("#number", "3")
    page.write()
    page.page.locator(".offer button").nth(1).click()
    until(lambda: not page.is_writing)
    taken = page.page.locator(".offer p").nth(1).text_content()
    assert page.text.endswith(taken.rstrip("\n"))
    page.page.select_option("#number", "1")


def show_surprisal(page: Page) -> None:
    """Every word of the model has a colour, and the user's own words get one."""
    assert 1 not in page.page.evaluate(RANGES)
    page.page.evaluate("document.getElementById('marks').closest('details').open = true")
    page.page.select_option("#marks", "surprisal")
    until(lambda: 1 in page.page.evaluate(RANGES))  # the first token of a text has no probability
    page.page.select_option("#marks", "origin")


def walk_in_history(page: Page, steps: int) -> None:
    """Steps of typing, writing, undoing and redoing: undo comes back to each text, redo too."""
    rng = random.Random(1)
    page.page.fill("#max_tokens-number", "2")
    stack, undone = [page.text], list[str]()
    for number in range(steps):
        kind = rng.choice(["type", "write", "undo", "redo"])
        if kind == "undo" and len(stack) > 1:
            undone.append(stack.pop())
            page.press("Control+z")
        elif kind == "redo" and undone:
            stack.append(undone.pop())
            page.press("Control+Shift+z")
        elif kind in ("type", "write"):
            undone.clear()
            if kind == "type":
                page.type(f"\nx{number}")
                stack.append(stack[-1] + f"\nx{number}")  # a line is one step
            else:
                page.write()
                if page.text != stack[-1]:
                    stack.append(page.text)
        assert page.text == stack[-1], (number, kind)


def compose(page: Page) -> None:
    """Pinyin: Enter belongs to the input method."""
    before = page.text
    page.press("Control+End")
    session = page.page.context.new_cdp_session(page.page)
    session.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    assert not page.is_writing
    session.send("Input.insertText", {"text": "你好"})
    assert page.text == before + "你好"
    page.press("Control+z")
    assert page.text == before


def come_back(page: Page, context: Any, url: str) -> None:
    page.page.fill("#max_tokens-number", "400")
    page.page.keyboard.press("Tab")
    page.press("Control+Enter")
    until(lambda: len(page.text) > 50)
    time.sleep(1.5)
    text = page.text
    page.page.close()
    again = Page(context, url)
    assert again.text[:50] == text[:50]
    assert len(again.text) > 50
    again.page.close()


def check_accessibility(browser: Any, url: str) -> None:
    """No violation of WCAG 2.2 AA that axe finds, in both themes, wide and narrow, with everything open."""
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-not-found,unused-ignore]

    for width, scheme in ((1440, "light"), (1440, "dark"), (360, "light"), (360, "dark")):
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme, locale="en", bypass_csp=True)
        page = Page(context, url)
        page.type("The cat")
        page.page.fill("#max_tokens-number", "8")
        page.page.keyboard.press("Tab")
        page.write()
        page.press("ArrowLeft")
        page.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.page.select_option("#number", "3")
        page.write()
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
        found = Axe().run(page.page, options={"runOnly": tags})
        assert found.violations_count == 0, found.generate_report()
        context.close()


def take_pictures(browser: Any, url: str, folder: Path) -> None:
    """Wide and narrow, light and dark, English and Chinese."""
    for name, width, scheme, locale in (
        ("wide-light", 1440, "light", "en"), ("wide-dark", 1440, "dark", "zh-CN"),
        ("phone-light", 360, "light", "zh-CN"), ("phone-dark", 360, "dark", "en"),
    ):  # fmt: skip
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, locale=locale)
        page = Page(context, url)
        page.type("It was a dark and stormy night")
        page.page.fill("#max_tokens-number", "60")
        page.page.fill("#seed", "7")
        page.page.keyboard.press("Tab")
        page.write()
        page.press("Control+End")
        for _ in range(30):
            page.page.keyboard.press("ArrowLeft")
        if scheme == "dark":
            page.page.evaluate("document.getElementById('marks').closest('details').open = true")
            page.page.select_option("#marks", "surprisal")
            until(page.has_scores)
        assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        page.page.screenshot(path=str(folder / f"{name}.png"), full_page=width < 500)
        assert not page.faults, page.faults
        context.close()


def main(url: str, chromium: str, folder: str = "") -> None:
    from playwright.sync_api import sync_playwright  # type: ignore[import-not-found,unused-ignore]

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if folder:
            take_pictures(browser, url, Path(folder))
            return
        context = browser.new_context(locale="en-GB")
        page = Page(context, url)
        for use in (write_and_choose, show_surprisal, regenerate, offer_several, compose):
            use(page)
        walk_in_history(page, 60)
        assert (page.faults, page.foreign) == ([], [])
        come_back(page, context, url)
        check_accessibility(browser, url)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
