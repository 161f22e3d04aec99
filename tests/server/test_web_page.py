"""The page for writing: what it consists of, what it may do, and that it works in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from browsers import opened
from servers import Running, running

from textgen.server.config import ServerConfig
from textgen.server.web_page import INDEX, page_files

FILES = {name: data.decode() for name, data in page_files().items()}
SCRIPTS = "".join(text for name, text in FILES.items() if name.endswith(".js"))


@pytest.fixture(scope="module")
def server(tiny_models: Path) -> Iterator[Running]:
    with running(tiny_models) as there:
        yield there


def test_every_file_of_the_page_is_served_with_its_type_and_policy(server: Running) -> None:
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}
    for name, text in FILES.items():
        status, headers, body = server.request("GET", "/" if name == INDEX else f"/page/{name}")
        assert (status, body.decode()) == (200, text)
        assert headers["content-type"].startswith(types[name.rpartition(".")[2]])
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    for path in ("/page/", "/page/../config.py", "/page/..%2fconfig.py", "/page/index.html", "/page/x"):
        assert server.request("GET", path)[0] == 404


def test_without_scripts_the_page_says_what_it_needs_in_both_languages() -> None:
    (found,) = re.findall("<noscript>(.*?)</noscript>", FILES[INDEX], re.DOTALL)
    assert "It needs JavaScript" in found
    assert re.search('lang="zh-CN">[^<]*请允许运行脚本', found)


def test_what_the_page_asks_for_is_there_and_nothing_is_elsewhere() -> None:
    named = set(re.findall(r'"(?:page/|\./)([\w.]+)"', "".join(FILES.values())))
    assert named == set(FILES) - {INDEX}
    for name, text in FILES.items():
        assert not re.findall(r"https?://(?!www\.w3\.org/)", text), name
        assert not re.search(r"innerHTML|insertAdjacentHTML|outerHTML|\beval\(|document\.write\(", text), name
    assert not re.search(r"<script(?! type=\"module\" src=)|\son\w+=|\sstyle=", FILES[INDEX])


def test_every_word_is_there_in_both_languages() -> None:
    english, chinese = (
        set(re.findall(r"^    (\w+):", block, re.MULTILINE)) for block in FILES["words.js"].split("  zh: {")
    )
    assert english == chinese
    used = set(re.findall(r'data-(?:word|label)="(\w+)"', FILES[INDEX]))
    used |= set(re.findall(r'\b(?:say|button)\("(\w+)"', SCRIPTS))
    assert used <= english


def test_no_module_imports_itself_through_others() -> None:
    """In a circle, a module would run before what it imports has."""
    imports = {name: re.findall(r' from "\./([\w.]+)";', text) for name, text in FILES.items() if name.endswith(".js")}
    assert len(list(TopologicalSorter(imports).static_order())) == len(imports)


def test_every_part_that_the_scripts_use_is_on_the_page() -> None:
    ids = set(re.findall(r'\bid="([\w-]+)"', FILES[INDEX]))
    used = set(re.findall(r'\$\("([\w-]+)"\)', SCRIPTS))
    assert used <= ids


def test_a_server_may_have_no_page(tiny_models: Path) -> None:
    with running(tiny_models, ServerConfig(port=0, page=False)) as there:
        assert there.request("GET", "/")[0] == 404


def test_a_text_is_written_in_a_browser(server: Running) -> None:
    """The quickest check of all; `make test-browsers` uses the page as people do."""
    with opened("chromium") as browser:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.until("document.documentElement.dataset.ready === 'yes'")
        browser.evaluate("document.getElementById('text').focus()")
        browser.type("The\ncat")
        browser.evaluate("document.getElementById('seed').value = '4'")  # a text of another seed may end at once
        browser.press("Control+Enter")
        browser.until("document.getElementById('write').dataset.word === 'write'")
        lines = browser.evaluate("[...document.querySelectorAll('#text .line')].map((line) => line.textContent)")
        assert lines[0] == "The"
        assert lines[1].startswith("cat")
        assert len("".join(lines)) > len("Thecat")
        browser.check_faults()
