// The page about one model, which holds its data and fetches nothing: its header, and its sections in order.

import { cellsSection, pictureSection, saturationSection } from "./cells.js";
import { changesSection } from "./changes.js";
import { choose, now, unwatch } from "./choice.js";
import { make, paragraph, soft } from "./elements.js";
import { gatesSection, stepSection } from "./gates.js";
import { D, HAS_RESIDUAL, M, N, cellName } from "./inspection.js";
import { lensSection } from "./lenses.js";
import { lessonSection } from "./lesson.js";
import { LITTLE, gradientSection, measured, memorySection, reachOf } from "./memory.js";
import { neighboursSection } from "./neighbours.js";
import { count, number } from "./numbers.js";
import { textSection } from "./tokens.js";
import { isChinese, say, switchLanguage } from "./words.js";

function header() {
  const top = document.getElementById("top");
  const found = new Set(D.cells.filter((finding) => finding.is_found).map(cellName)).size;
  const reach = reachOf(), longest = measured().at(-1) ?? { length: 0, limit: LITTLE }, hundredth = D.gradient.hundredth_at;
  const facts = [
    [number(D.text.bits_per_token, 2), say("fact bits", { tokens: count(D.text.scored_tokens) })],
    [count(N), say("fact tokens")],
    [found, say(found === 1 ? "fact cells one" : "fact cells", { number: D.cells.length })],
    [reach === null ? `> ${longest.length}` : count(reach.length),
      say(reach?.length === 1 ? "fact reach one" : "fact reach", { bits: number((reach ?? longest).limit, 2) })],
    [hundredth === null ? `> ${D.gradient.trained.length - 1}` : hundredth, say(hundredth === 1 ? "fact gradient one" : "fact gradient")],
  ];
  const other = () => {
    switchLanguage();
    build();
    document.querySelector(".bar button").focus();
  };
  const switcher = make("button", { lang: isChinese() ? "en" : "zh-CN", onclick: other }, isChinese() ? "English" : "中文");
  top.replaceChildren(make("div", { class: "bar" }, switcher),
    make("h1", {}, say("title", { name: M.name })),
    paragraph("intro", { cell: M.cell_name, layers: M.num_layers, units: count(M.hidden_units), vocabulary: count(M.vocab_size),
      kind: M.tokenizer, parameters: count(M.parameters) }),
    make("nav", { "aria-label": say("contents") }, SECTIONS.map(([id, title]) => make("a", { href: `#${id}` }, say(title)))),
    make("div", { class: "facts" }, facts.map(([value, text]) => make("div", {}, make("b", {}, String(value)), text))),
    ...notes());
}

function notes() {
  const lines = [];
  if (D.text.is_cut) lines.push(say(cutNote(), { tokens: count(N), documents: count(D.text.num_documents) }));
  if (D.text.is_own) lines.push(say("note own"));
  const missing = M.missing.map((part) => say(`missing: ${part}`)).join(say("comma"));
  if (missing) lines.push(say("note missing", { cell: M.cell_name, missing }));
  if (M.directions.length > 1 || D.text.direction === "backward") lines.push(say(`note ${D.text.direction}`));
  if (!D.cells.length) lines.push(say("note short"));
  if (HAS_RESIDUAL) lines.push(say(M.projection ? "note residual above" : "note residual"));
  if (M.layer_norm) lines.push(say("note norm"));
  if (M.attention) lines.push(say("note attention", { attention: M.attention }));
  return lines.length ? [make("div", { class: "notes" }, lines.map((line) => make("p", {}, line)))] : [];
}

/** The note on which part of the text was read: a document that is read backward is cut at its beginning. */
function cutNote() {
  const { direction, num_documents: number, is_last_cut: isLastCut, has_more: hasMore } = D.text;
  if (direction !== "backward") return "note cut";
  if (number === 1 && !hasMore) return "note cut backward";
  return `note cut backward ${number === 1 ? "first" : "documents"}${isLastCut ? " cut" : ""}`;
}

const SECTIONS = [
  ...(D.lesson ? [["lesson", "lesson title", lessonSection]] : []),
  ["text", "text title", textSection],
  ["cells", "cells title", cellsSection],
  ["gates", "gates title", gatesSection],
  ["step", "step title", stepSection],
  ["picture", "picture title", pictureSection],
  ["saturation", "saturation title", saturationSection],
  ["memory", "memory title", memorySection],
  ["gradient", "gradient title", gradientSection],
  ["changes", "changes title", changesSection],
  ["layers", "layers title", lensSection],
  ["neighbours", "neighbours title", neighboursSection],
];

function build() {
  document.documentElement.lang = isChinese() ? "zh-CN" : "en";
  document.title = say("title", { name: M.name });
  unwatch();
  header();
  document.getElementById("main").replaceChildren(...SECTIONS.map(([, , part]) => part()));
  document.getElementById("foot").replaceChildren(soft("foot"));
  choose({ token: now.token }); // once more, now that the text has a height to scroll in
}

build();
