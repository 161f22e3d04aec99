"""The texts of the page end where those of `textgen sample` do."""

from __future__ import annotations

from pathlib import Path

from javascript import in_node, needs_node

from textgen.generation.stopping import UNTIL, Ending

pytestmark = needs_node

TEXTS = [
    "你好!我很好.", "“真的?!”𠀀", "你好! 我", "A!b?！。C", "（真的。〕）他", "﹁走吧！﹂他", "走吧！〉〗｝］﹄他",
    "Mr. Fox! He", "他說：「走吧！」她", "3.14?He", "床前明月光。\n\n\u3000\u3000舉頭", "\n\none.\n\ntwo",
]  # fmt: skip


def test_texts_end_at_the_same_places(tmp_path: Path) -> None:
    cases = [(text, until) for text in TEXTS for until in UNTIL]
    script = """
    return given.map(([text, until]) => {
      const ending = new Ending([], until, "");
      const shown = [...text].map((character) => ending.feed(character)).join("") + ending.flush();
      return [shown, ending.reason];
    });
    """
    for (text, until), found in zip(cases, in_node(script, cases, tmp_path), strict=True):
        ending = Ending([], until)
        shown = "".join(map(ending.feed, text)) + ending.flush()
        assert [shown, ending.reason] == found, (text, until)
