// The list of the branches of a story, and how one of them compares with the text.

import { $, button, element } from "./dom.js";
import { difference } from "./story.js";
import { say } from "./words.js";

// Lists the branches, while the list is open. Calls onOpen(leaf) for one to go to, and onPin() when one was pinned or no
// longer is.
export function showBranches(story, { onOpen, onPin }) {
  const list = $("branches");
  if (!list.closest("details").open) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.of : null; // it is made anew
  const leaves = story.leaves().sort((a, b) => story.nodes[b].pinned - story.nodes[a].pinned || b - a).slice(0, 100);
  list.replaceChildren(
    ...leaves.map((leaf) => {
      const item = element("li", { className: leaf === story.current ? "current" : "" });
      const ending = element("span", { className: "ending", textContent: `… ${story.ending(leaf, 80) || say("start")}` });
      const pin = button("pin", () => {
        story.nodes[leaf].pinned = !story.nodes[leaf].pinned;
        onPin();
        showBranches(story, { onOpen, onPin });
      });
      pin.setAttribute("aria-pressed", String(story.nodes[leaf].pinned));
      const buttons = [button("open", () => onOpen(leaf)), pin, button("compare", () => compare(story, leaf))];
      buttons.forEach((each, place) => { each.dataset.of = `${leaf} ${place}`; });
      item.append(ending, ...buttons);
      return item;
    }),
  );
  if (focused) list.querySelector(`[data-of="${focused}"]`)?.focus();
}

function compare(story, leaf) {
  const texts = [story.text, story.textAt(leaf)];
  const { at } = difference(...texts, texts[1].length);
  const parts = texts.map((text) => {
    const part = element("div", { textContent: text.slice(Math.max(0, at - 60), at) });
    part.tabIndex = 0;
    part.append(element("span", { className: "differs", textContent: text.slice(at, at + 2000) }));
    return part;
  });
  $("comparison").replaceChildren(...parts);
  $("comparison").hidden = false;
}
