// Marks in the text: ranges of the CSS Custom Highlight API, so the page holds nothing but the text.

import { $ } from "./dom.js";

const MARKS = ["model", "copied", "surprise1", "surprise2", "surprise3", "surprise4"];

// Marks spans of the story, words that have scores [{start, end, token}], copies [{start, end}], and the token that is
// shown, if any.
export function showMarks(view, story, { found, copies }, shown) {
  if (!CSS.highlights) return;
  CSS.highlights.clear();
  const ranges = Object.fromEntries([...MARKS, "here"].map((name) => [name, []]));
  for (const marks of [spanMarks(story), scoreMarks(found), copyMarks(copies)]) {
    for (const [name, range] of view.pieces(marks)) ranges[name].push(range);
  }
  if (shown) for (const [, range] of view.pieces([{ ...shown, name: "here" }])) ranges.here.push(range);
  for (const [name, list] of Object.entries(ranges)) {
    const highlight = new Highlight();
    for (const range of list) highlight.add(range);
    CSS.highlights.set(name, highlight);
  }
}

function* spanMarks(story) {
  const mode = $("marks").value;
  let start = 0;
  for (const span of mode === "nothing" ? [] : story.spans) {
    const end = start + span.text.length;
    if (span.origin === "model" && mode === "origin") yield { name: "model", start, end };
    if (span.token && mode === "surprisal") yield { name: levelOf(span.token), start, end };
    start = end;
  }
}

function* scoreMarks(scores) {
  if ($("marks").value !== "surprisal") return;
  for (const { token, start, end } of scores) if (token) yield { name: levelOf(token), start, end };
}

function* copyMarks(copies) {
  if ($("marks").value !== "copied") return;
  for (const place of copies) yield { ...place, name: "copied" };
}

export const bits = (token) => -token.logprob / Math.LN2;

function levelOf(token) {
  const level = [1, 4, 8].filter((limit) => bits(token) > limit).length;
  return `surprise${level + 1}`;
}
