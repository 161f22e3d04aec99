// The text, token by token, with what is known of the chosen one.

import { choose, now, watch } from "./choice.js";
import { isComposing, make, paragraph, section } from "./elements.js";
import {
  D, DOCUMENT, M, N, PROPERTIES, ROW, SHOWN, STARTS, TOP_IDS, TOP_PROBABILITIES, cellName, cellOf, inTextOrder, indexOf, isPart,
  propertyName, roughMemory, shownOf, statesOf,
} from "./inspection.js";
import { count, number, percent } from "./numbers.js";
import { rangePanel } from "./selection.js";
import { say } from "./words.js";

export const shownPiece = (piece) => (piece === "" ? "∅" : piece);
const blend = (fraction, sign) => `color-mix(in srgb, ${sign < 0 ? "var(--a)" : "var(--b)"} ${Math.round(60 * fraction)}%, transparent)`;

function colourOf(token) {
  if (now.colour === "surprisal") {
    const bits = D.tokens.surprisal[token];
    return bits === null ? "" : blend(Math.min(1, Math.log2(1 + bits) / 4), 1);
  }
  const value = statesOf(now.cell)[token] / 127;
  return blend(Math.abs(value), value);
}

export function textSection() {
  const order = inTextOrder(0, N - 1);
  const spans = new Map();
  const box = make("div", { class: "text", tabindex: "0", role: "group", "aria-label": say("text label"), "aria-describedby": "text-help" });
  for (const token of order) {
    const piece = D.tokens.text[token];
    const between = token > 0 && token === STARTS[DOCUMENT[token]];
    const part = isPart(token);
    const shown = piece === "\n" ? "⏎\n" : piece || (between ? "¶\n" : part ? "·" : "");
    if (!shown) continue;
    const span = make("span", { class: between ? "end" : part ? "part" : null }, shown);
    span.dataset.token = token;
    spans.set(token, span);
    box.append(span);
  }
  const places = order.filter((token) => spans.has(token));
  let anchor = null; // where a range begun by keyboard started
  const move = (step, extend) => {
    const at = places.indexOf(now.token), next = places[Math.max(0, Math.min(places.length - 1, at + step))];
    anchor = extend ? anchor ?? now.token : null;
    if (extend) markRange(anchor, next);
    choose({ token: next });
  };
  box.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 40, ArrowUp: -40, PageDown: 200, PageUp: -200 };
    if (event.key in steps && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      move(steps[event.key], event.shiftKey);
    } else if (event.key === "Escape") choose({ from: null, to: null });
  });
  box.addEventListener("click", (event) => {
    const span = event.target.closest("[data-token]");
    if (span && document.getSelection().isCollapsed) choose({ token: +span.dataset.token });
  });
  box.addEventListener("pointerup", () => setTimeout(() => {
    const selection = document.getSelection();
    if (selection.isCollapsed || !box.contains(selection.anchorNode)) return;
    const ends = [selection.anchorNode, selection.focusNode].map((node) => node.parentElement.closest("[data-token]"));
    if (ends[0] && ends[1]) markRange(+ends[0].dataset.token, +ends[1].dataset.token);
  }));
  watch((change) => {
    if ("cell" in change || "colour" in change) for (const [token, span] of spans) span.style.backgroundColor = colourOf(token);
    if ("token" in change) {
      box.querySelector(".now")?.classList.remove("now");
      const span = spans.get(now.token);
      span?.classList.add("now");
      if (span && (span.offsetTop < box.scrollTop + box.offsetTop || span.offsetTop > box.scrollTop + box.offsetTop + box.clientHeight - 40))
        box.scrollTop = span.offsetTop - box.offsetTop - box.clientHeight / 2;
    }
    if ("from" in change) {
      const isIn = (token) => now.from !== null && token >= now.from && token <= now.to;
      for (const [token, span] of spans) span.classList.toggle("in", isIn(token));
    }
  });
  const panel = make("div", { class: "panel", "aria-live": "polite" });
  watch(() => panel.replaceChildren(...details()));
  const help = [paragraph("text help"), order.some(isPart) ? paragraph("text parts") : null];
  return section("text", "text title", ...help, colourBar(),
    make("div", { class: "explorer" }, make("div", {}, box, make("p", { id: "text-help", class: "soft" }, say("text keys"))), panel), rangePanel());
}

function markRange(a, b) {
  choose({ from: Math.min(a, b), to: Math.max(a, b) });
}

function colourBar() {
  const select = make("select", { id: "colour", onchange: () => {
    if (select.value === "surprisal") choose({ colour: "surprisal" });
    else choose({ colour: "cell", cell: +select.value });
  } });
  const scale = make("span", { class: "scale" });
  watch((change) => {
    if (!("cell" in change || "colour" in change)) return;
    const known = [...new Set([...SHOWN.map(indexOf), now.cell])];
    select.replaceChildren(make("option", { value: "surprisal" }, say("surprisal")), ...known.map((index) => {
      const followed = shownOf(index)?.follows.map(propertyName).join(say("comma")) || "";
      return make("option", { value: index }, cellName(cellOf(index)) + (followed ? ` · ${followed}` : ""));
    }));
    select.value = now.colour === "surprisal" ? "surprisal" : now.cell;
    const bar = make("i");
    bar.style.background = now.colour === "surprisal" ? `linear-gradient(90deg, transparent, ${blend(1, 1)})`
      : `linear-gradient(90deg, ${blend(1, -1)}, transparent, ${blend(1, 1)})`;
    const ends = now.colour === "surprisal" ? [say("0 bits"), say("15 bits")] : ["−1", `1 · ${M.memory === "c" ? "tanh(c)" : "h"}`];
    scale.replaceChildren(ends[0], bar, ends[1]);
  });
  const other = make("input", { type: "text", size: 8, placeholder: "L0/0", "aria-label": say("other cell"), class: "mono" });
  const go = () => {
    const found = /^L?(\d+)\/(\d+)$/.exec(other.value.trim());
    const index = found ? indexOf({ layer: +found[1], unit: +found[2] }) : -1;
    const valid = found && +found[2] < M.hidden_units && ROW.has(index);
    other.setAttribute("aria-invalid", String(!valid));
    if (valid) choose({ colour: "cell", cell: index });
    else other.title = say("no such cell");
  };
  other.addEventListener("keydown", (event) => { if (event.key === "Enter" && !isComposing(event)) go(); });
  return make("div", { class: "bar" }, make("label", { for: "colour" }, say("colour by")), select, other,
    make("button", { onclick: go }, say("show cell")), scale);
}

function details() {
  const t = now.token, parts = [];
  parts.push(make("p", {}, make("b", { class: "mono" }, shownPiece(D.tokens.token[t])), ` · ${say("token")} ${count(t + 1)}/${count(N)}`));
  if (D.tokens.surprisal[t] !== null) {
    const bits = number(D.tokens.surprisal[t], 2), rank = count(D.tokens.rank[t]), entropy = number(D.tokens.entropy[t], 2);
    parts.push(make("p", {}, say("surprise line", { bits, rank, entropy })));
    const K = D.top.number, from = (t - 1) * K;
    const rows = [...Array(K).keys()].map((place) => [D.top.tokens[TOP_IDS[from + place]], TOP_PROBABILITIES[from + place] / 10000]);
    const label = say("expected") + ": " + rows.map(([piece, probability]) => `${piece} ${percent(probability)}`).join(", ");
    parts.push(make("div", { class: "top", role: "img", "aria-label": label }, rows.flatMap(([piece, probability]) => {
      const bar = make("i");
      bar.style.width = `${100 * probability}%`;
      const shown = piece === D.tokens.token[t] ? make("b", {}, piece) : piece;
      return [make("span", { class: "mono" }, shown), bar, make("span", { class: "soft" }, percent(probability))];
    })));
  }
  parts.push(make("p", {}, make("b", {}, cellName(cellOf(now.cell))), " · ", memoryLine(t)));
  const followed = D.cells.filter((finding) => PROPERTIES[finding.follows]).map((finding) => [finding, PROPERTIES[finding.follows][t]]);
  const there = followed.filter(([finding, value]) => finding.is_count || value)
    .map(([finding, value]) => propertyName(finding.follows) + (finding.is_count ? ` ${count(value)}` : ""));
  if (there.length) parts.push(make("p", { class: "soft" }, there.join(" · ")));
  return parts;
}

/** The memory of the chosen cell: exact if the page has all of its values, or else from the byte that it has of each. */
function memoryLine(t) {
  const known = shownOf(now.cell), rough = roughMemory(now.cell, t);
  if (M.memory === "h") return known ? `h = ${number(known.series.h[t], 3)}` : rough;
  if (known) return `c = ${number(known.series.c[t], 3)}, tanh(c) = ${number(Math.tanh(known.series.c[t]), 2)}`;
  const squashed = statesOf(now.cell)[t] / 127, size = Math.abs(squashed);
  const c = size > 0.99 ? say("beyond") : `≈ ${number(Math.atanh(squashed), size < 0.7 ? 2 : 1)}`; // steep near 1
  return `c ${c}, ${rough}`;
}
