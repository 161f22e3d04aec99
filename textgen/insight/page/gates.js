// One cell: its gates around the chosen token, and one step with real numbers.

import { COLOURS } from "./charts.js";
import { choose, now, watch } from "./choice.js";
import { draw, make, paragraph, pre, section, soft } from "./elements.js";
import { D, M, N, SHOWN, cellName, indexOf, isPart, propertyName, shownOf } from "./inspection.js";
import { count, number, tickText } from "./numbers.js";
import { shownPiece } from "./tokens.js";
import { say } from "./words.js";

// === Gates of one cell ===

function cellSelect(id) {
  const select = make("select", { id, onchange: () => choose({ colour: "cell", cell: +select.value }) });
  watch((change) => {
    if (!("cell" in change)) return;
    select.replaceChildren(...SHOWN.map((cell) => {
      const followed = cell.follows.map(propertyName).join(say("comma"));
      return make("option", { value: indexOf(cell) }, cellName(cell) + (followed ? ` · ${followed}` : ""));
    }));
    if (shownOf(now.cell)) select.value = now.cell;
    else select.prepend(make("option", { value: "", selected: true }, say("choose shown")));
  });
  return select;
}

const VALUE_ORDER = ["i", "f", "o", "z", "r", "g", "c", "h"];

export function gatesSection() {
  const place = make("div");
  watch((change) => {
    if (!("cell" in change || "token" in change)) return;
    const cell = shownOf(now.cell);
    if (!cell) return place.replaceChildren(soft("only shown"));
    const half = 40, low = Math.max(0, Math.min(now.token - half, N - 2 * half)), high = Math.min(N - 1, low + 2 * half);
    const names = VALUE_ORDER.filter((name) => cell.series[name]);
    place.replaceChildren(strip(cell, names, low, high),
      cell.half_life === null ? make("p", { class: "soft" }, say("no half-life", { cell: M.cell_name }))
        : make("p", { class: "soft" }, say("half-life line", { cell: cellName(cell), steps: number(cell.half_life, 1), gate: M.keeping_gate })));
  });
  return section("gates", "gates title", paragraph(M.values.length > 1 ? "gates help" : "gates none", { cell: M.cell_name }), letters(),
    make("div", { class: "bar" }, make("label", { for: "gates-cell" }, say("cell")), cellSelect("gates-cell")), place);
}

/** What the letters of the gates and the names of the cells mean. */
export function letters() {
  const gates = M.cell === "rnn" ? [] : [soft(M.cell === "gru" ? "legend gru" : "legend lstm")];
  return [...gates, soft("legend count")];
}

const FONT = { "font-size": 11, "font-family": "system-ui, sans-serif" }; // of the text under the lanes

/** What stands under a token: its first characters. */
function pieceUnder(t) {
  const text = D.tokens.text[t];
  return text === "\n" ? "⏎" : [...text.trim()].slice(0, 6).join("") || (text || isPart(t) ? "·" : "");
}

const isTurned = (piece) => [...piece].length > 1;

/** How wide the widest of some pieces is. */
function widthOf(pieces) {
  const ruler = make("canvas").getContext("2d");
  ruler.font = `${FONT["font-size"]}px ${FONT["font-family"]}`;
  return Math.max(0, ...pieces.map((piece) => ruler.measureText(piece).width));
}

/** The values of a cell around the chosen token: a lane for each, with the text below. */
function strip(cell, names, low, high) {
  const step = 11, lane = 44, left = 74, width = left + step * (high - low + 1) + 8, base = names.length * lane + 14;
  const pieces = Array.from({ length: high - low + 1 }, (_, at) => pieceUnder(low + at));
  const height = base + 8 + Math.ceil(widthOf(pieces.filter(isTurned)) * Math.sin(Math.PI / 3));
  const parts = names.flatMap((name, row) => {
    const series = cell.series[name].subarray(low, high + 1), isGate = "ifozr".includes(name);
    const limit = isGate ? [0, 1] : [Math.min(-1, ...series), Math.max(1, ...series)];
    const y = (value) => row * lane + lane - 6 - (lane - 12) * (value - limit[0]) / (limit[1] - limit[0]);
    const points = [...series].map((value, at) => `${left + step * at + step / 2},${y(value).toFixed(1)}`).join(" ");
    return [draw("line", { class: "axis", x1: left, x2: width, y1: y(0), y2: y(0) }),
      draw("text", { class: "val", x: 4, y: row * lane + lane / 2 - 2 }, name),
      draw("polyline", { class: "line", stroke: COLOURS[row % COLOURS.length], points }),
      draw("text", { class: "soft", x: 4, y: row * lane + lane / 2 + 13 },
        limit.map((value) => tickText(+value.toFixed(1))).join(" … "))];
  });
  for (let t = low; t <= high; t++) {
    const x = left + step * (t - low) + step / 2;
    if (t === now.token) parts.unshift(draw("rect", { x: x - step / 2, y: 0, width: step, height, fill: "var(--focus)", opacity: 0.22 }));
    const piece = pieces[t - low];
    parts.push(draw("text", { x, y: base, "text-anchor": isTurned(piece) ? "end" : "middle",
      transform: isTurned(piece) ? `rotate(-60 ${x} ${base})` : "", ...FONT }, piece));
  }
  const values = names.map((name) => `${name} ${number(cell.series[name][now.token], 3)}`).join(", ");
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": say("gates picture", { cell: cellName(cell) }) + values }, parts);
  svg.style.maxWidth = "none";
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const t = low + Math.floor(((event.clientX - box.left) * width / box.width - left) / step);
    if (t >= low && t <= high) choose({ token: t });
  });
  return make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": say("gates title") }, svg);
}

// === One step with real numbers ===

export function stepSection() {
  const place = make("div");
  watch((change) => {
    if (!("cell" in change || "token" in change)) return;
    const cell = shownOf(now.cell);
    const parts = () => [diagram(cell, now.token), ...notDrawn(), equations(cell, now.token)];
    place.replaceChildren(...(cell && now.token > 0 ? parts() : [soft("only shown")]));
  });
  const help = paragraph(M.cell === "rnn" ? "step help rnn" : "step help", { cell: M.cell_name, activation: M.activation });
  return section("step", "step title", help, place);
}

const DIAGRAMS = { // nodes [x, y, text, value], wires [x1, y1, x2, y2]
  lstm: {
    wires: [[90, 60, 170, 60], [210, 60, 310, 60], [350, 60, 560, 60], [190, 150, 190, 80], [330, 150, 330, 80],
      [280, 195, 310, 172], [380, 195, 350, 172], [450, 60, 450, 95], [450, 135, 450, 160], [466, 175, 560, 175],
      [500, 232, 462, 186]],
    nodes: (v, b) => [[50, 60, "c′", b.c], [190, 60, "×", null], [330, 60, "+", null], [600, 60, "c", v.c],
      [190, 165, "f", v.f], [330, 160, "×", null], [260, 210, "i", v.i], [400, 210, "g", v.g],
      [450, 115, "tanh", Math.tanh(v.c)], [450, 175, "×", null], [520, 250, "o", v.o], [600, 175, "h", v.h]],
  },
  gru: {
    wires: [[90, 60, 170, 60], [210, 60, 310, 60], [350, 60, 560, 60], [190, 150, 190, 80], [330, 150, 330, 80],
      [280, 200, 312, 172], [400, 200, 350, 172], [480, 215, 452, 215]],
    nodes: (v, b) => [[50, 60, "h′", b.h], [190, 60, "×", null], [330, 60, "+", null], [600, 60, "h", v.h],
      [190, 165, "z", v.z], [330, 160, "×", null], [260, 215, "1−z", 1 - v.z], [410, 215, "g", v.g],
      [520, 215, "r", v.r]],
  },
  rnn: {
    wires: [[90, 60, 140, 60], [185, 60, 280, 60], [318, 60, 400, 60], [446, 60, 558, 60], [300, 150, 300, 80]],
    nodes: (v, b) => [[50, 60, "h′", b.h], [163, 60, "h′·U", null], [300, 60, "+", null],
      [424, 60, M.activation, null], [600, 60, "h", v.h], [300, 165, "x·W + b", null]],
  },
};

/** What the diagram leaves out of kinds of the LSTM that have more parts. */
function notDrawn() {
  if (M.cell === "peephole") return [soft("step omits peephole")];
  if (M.cell !== "mogrifier") return [];
  return [soft(M.mogrifier_rounds === 1 ? "step omits mogrifier one" : "step omits mogrifier")];
}

function valuesAt(cell, t) {
  return Object.fromEntries(Object.entries(cell.series).map(([name, series]) => [name, series[t]]));
}

function diagram(cell, t) {
  const kind = M.cell === "gru" || M.cell === "rnn" ? M.cell : "lstm";
  const { wires, nodes } = DIAGRAMS[kind];
  const head = { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" };
  const arrow = draw("defs", {}, draw("marker", head, draw("path", { d: "M0 0 L8 4 L0 8 z", fill: "var(--soft)" })));
  const lines = wires.map(([x1, y1, x2, y2]) => draw("line", { class: "wire", x1, y1, x2, y2, "marker-end": "url(#arrow)" }));
  const boxes = nodes(valuesAt(cell, t), valuesAt(cell, t - 1)).map(([x, y, text, value]) => draw("g", {},
    value === null && text.length < 6 ? draw("circle", { class: "node", cx: x, cy: y, r: text.length > 2 ? 22 : 15 })
      : draw("rect", { class: "node", x: x - 40, y: y - 20, width: 80, height: 40, rx: 6 }),
    draw("text", { x, y: value === null ? y + 4 : y - 4, "text-anchor": "middle", class: value === null ? "val" : "soft" }, text),
    value === null ? null : draw("text", { x, y: y + 13, "text-anchor": "middle", class: "val" }, number(value, 3))));
  const svg = draw("svg", { viewBox: "0 0 650 285", width: 650, height: 285, role: "img", "aria-label": say("step picture") }, arrow, lines, boxes);
  svg.style.maxWidth = "none";
  const piece = shownPiece(D.tokens.token[t]);
  return make("figure", {},
    make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": say("step title") }, svg),
    make("figcaption", {}, say("step caption", { cell: cellName(cell), token: count(t + 1), piece })));
}

function equations(cell, t) {
  const v = valuesAt(cell, t), b = valuesAt(cell, t - 1), n = (x) => number(x, 3);
  if (M.cell === "rnn") return pre(`h = ${M.activation}(x·W + h′·U + b) = ${n(v.h)}        h′ = ${n(b.h)}`);
  const sum = (kept, added) => `${say("kept")} ${n(kept)}   ${say("added")} ${n(added)}`;
  const lines = M.cell === "gru" ? [
    "h = z·h′ + (1 − z)·g",
    `  = ${n(v.z)} · ${n(b.h)} + ${n(1 - v.z)} · ${n(v.g)} = ${n(v.h)}`,
    sum(v.z * b.h, (1 - v.z) * v.g),
    `g = tanh(x·W + b + ${M.reset_after ? "r·(h′·U + b′)" : "(r·h′)·U"}) = ${n(v.g)}        r = ${n(v.r)}`,
  ] : [
    "c = f·c′ + i·g",
    `  = ${n(v.f)} · ${n(b.c)} + ${n(v.i)} · ${n(v.g)} = ${n(v.c)}`,
    sum(v.f * b.c, v.i * v.g),
    `h = o·tanh(c) = ${n(v.o)} · ${n(Math.tanh(v.c))} = ${n(v.h)}`,
  ];
  return pre(lines.join("\n"));
}
