"use strict";
// One page about one model. The data is in it; nothing is fetched. Text enters the page as text nodes only.

const D = JSON.parse(document.getElementById("data").textContent);
const WORDS = JSON.parse(document.getElementById("words").textContent);
let language = navigator.language.toLowerCase().startsWith("zh") ? 1 : 0;
const M = D.model, N = D.text.tokens;

/** The words of a key in the language shown, with {names} replaced. */
function say(key, values = {}) {
  const found = WORDS[key];
  const text = found ? found[language] : key;
  return text.replace(/\{(\w+)\}/g, (_, name) => (name in values ? values[name] : `{${name}}`));
}

// === Elements ===

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter(Boolean));
  return element;
}

const paragraph = (key, values) => make("p", {}, say(key, values));
const pre = (text) => make("pre", { tabindex: "0" }, text); // it may scroll, so keys must reach it
const soft = (key, values) => make("p", { class: "soft" }, say(key, values));
const number = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits).replace("-", "−"));
const signed = (value, digits = 3) => (value === null ? "–" : (value > 0 ? "+" : "") + number(value, digits));
const count = (value) => value.toLocaleString(language ? "zh" : "en");
const round = (value) => count(+value.toPrecision(3));
const percent = (value) => (value > 0 && value < 1e-4 ? tickText(+value.toPrecision(2)) : `${(100 * value).toFixed(value < 0.1 ? 2 : 1)}${language ? "%" : " %"}`);
// Whether an event belongs to an input method; while that composes, browsers report 229 as the code of every key.
const isComposing = (event) => event.isComposing || event.keyCode === 229;
const cellName = (cell) => `L${cell.layer}/${cell.unit}`;
const propertyName = (name) => {
  const keys = [`property ${D.text.direction}: ${name}`, `property: ${name}`].filter((key) => key in WORDS);
  return keys.length ? say(keys[0]) : name;
};

function table(heads, rows, caption = "") {
  const cells = (tag, row) => row.map((cell, column) =>
    make(tag, { class: heads[column].n ? "n" : null, scope: tag === "th" ? "col" : null }, cell));
  return make("div", { class: "wide", tabindex: "0" }, make("table", {}, caption ? make("caption", {}, caption) : null,
    make("thead", {}, make("tr", {}, cells("th", heads.map((head) => head.text)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, cells("td", row))))));
}

function section(id, title, ...children) {
  return make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, say(title)), children);
}

// === Arrays ===

function unpacked(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const STATES = unpacked(D.states.values, Int8Array); // [cells, N], 127 tanh
const ROW = new Map(D.states.cells.map((cell, row) => [cell, row]));
const TOP_IDS = unpacked(D.top.ids, Int32Array), TOP_SHARES = unpacked(D.top.probabilities, Uint16Array);
const PROPERTIES = Object.fromEntries(Object.entries(D.properties).map(([name, text]) => [name, unpacked(text, Uint16Array)]));
const SHOWN = D.shown.map((cell) => ({
  ...cell,
  series: Object.fromEntries(Object.entries(cell.values).map(([name, one]) =>
    [name, Float32Array.from(unpacked(one.values, Int16Array), (value) => value * one.scale)])),
}));
const cellOf = (index) => ({ layer: Math.floor(index / M.units), unit: index % M.units });
const indexOf = (cell) => cell.layer * M.units + cell.unit;
const statesOf = (index) => STATES.subarray(ROW.get(index) * N, (ROW.get(index) + 1) * N);
const shownOf = (index) => SHOWN.find((cell) => indexOf(cell) === index);

// === The order of the text ===

const STARTS = D.documents.starts; // the first token of each document
const DOCUMENT = new Int32Array(N); // the document of each token
STARTS.forEach((start, number) => DOCUMENT.fill(number, start, STARTS[number + 1] ?? N));

/** Tokens, which stand in the order of reading, in that of the text: read backward, a document's last token comes first. */
function inTextOrder(from, to) {
  const tokens = Array.from({ length: Math.max(0, to - from + 1) }, (_, at) => from + at);
  if (D.text.direction !== "backward") return tokens;
  const rank = (token) => (token < STARTS[DOCUMENT[token]] + D.documents.opening ? -N : -token);
  return tokens.sort((a, b) => DOCUMENT[a] - DOCUMENT[b] || rank(a) - rank(b));
}

const textOf = (from, to) => inTextOrder(from, to).map((token) => D.tokens.text[token]).join("");

// === What is chosen ===

const firstCell = D.cells.find((finding) => finding.is_found) || SHOWN[0];
const now = { token: D.lesson ? D.lesson.step : Math.min(40, N - 1), cell: indexOf(firstCell), colour: "cell", from: null, to: null };
const watchers = [];
function choose(change) {
  Object.assign(now, change);
  for (const watcher of watchers) watcher(change);
}
const watch = (watcher) => { watchers.push(watcher); watcher(now); };

// === Charts ===

const COLOURS = ["var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)", "var(--f)"];
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "4 2", "1 4"];

function legend(names) {
  return make("div", { class: "legend" }, names.map((name, place) => {
    const mark = draw("svg", { width: 26, height: 8, "aria-hidden": "true" },
      draw("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: COLOURS[place], "stroke-width": 2.5, "stroke-dasharray": DASHES[place] }));
    mark.style.display = "inline-block";
    mark.style.marginRight = ".4rem";
    return make("span", {}, mark, name);
  }));
}

function ticksOf(low, high, log) {
  if (log) {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const step = Math.max(1, Math.ceil((last - first) / 6));
    const ticks = [];
    for (let power = first; power <= last; power += step) ticks.push(10 ** power);
    return ticks;
  }
  const rough = (high - low) / 5 || 1, size = 10 ** Math.floor(Math.log10(rough));
  const step = size * ([1, 2, 5, 10].find((factor) => factor * size >= rough) || 10);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-6; tick += step) ticks.push(tick);
  return ticks;
}

const SUPERSCRIPTS = { "-": "⁻", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((sign, digit) => [digit, sign])) };

function tickText(value) {
  if (value !== 0 && (Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3)) {
    const [digits, power] = value.toExponential(1).split("e"), raised = [...String(+power)].map((sign) => SUPERSCRIPTS[sign]).join("");
    return (digits === "1.0" ? "10" : `${digits}·10`) + raised;
  }
  return String(+value.toPrecision(4)).replace("-", "−");
}

/** The width that a picture may take, so that its letters stay as large on a phone. */
const roomFor = (width) => Math.max(300, Math.min(width, document.documentElement.clientWidth - 36));

/** Lines over x: series of {name, x, y}. */
function chart({ title, series, xTitle, yTitle, logX = false, logY = false, width = roomFor(640), height = 280, low = null, high = null }) {
  const all = series.flatMap((one) => one.y).filter((y) => Number.isFinite(y) && (!logY || y > 0));
  const xs = series.flatMap((one) => one.x);
  const bounds = { x: [Math.min(...xs), Math.max(...xs)], y: [low ?? Math.min(...all), high ?? Math.max(...all)] };
  if (bounds.y[0] === bounds.y[1]) bounds.y[1] = bounds.y[0] + 1;
  const box = { left: 64, right: width - 12, top: 10, bottom: height - 42 };
  const place = (value, [from, to], a, b, log) =>
    a + (b - a) * (log ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from || 1));
  const px = (x) => place(x, bounds.x, box.left, box.right, logX), py = (y) => place(y, bounds.y, box.bottom, box.top, logY);
  const parts = [];
  for (const tick of ticksOf(...bounds.y, logY)) {
    parts.push(draw("line", { class: "axis", x1: box.left, x2: box.right, y1: py(tick), y2: py(tick) }),
      draw("text", { class: "soft", x: box.left - 6, y: py(tick) + 4, "text-anchor": "end" }, tickText(tick)));
  }
  for (const tick of ticksOf(...bounds.x, logX)) {
    parts.push(draw("text", { class: "soft", x: px(tick), y: box.bottom + 16, "text-anchor": "middle" }, tickText(tick)));
  }
  parts.push(draw("text", { class: "soft", x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, xTitle),
    draw("text", { class: "soft", x: 14, y: (box.top + box.bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 14 ${(box.top + box.bottom) / 2})` }, yTitle));
  series.forEach((one, which) => {
    const points = one.x.map((x, at) => [x, one.y[at]]).filter(([, y]) => Number.isFinite(y) && (!logY || y > 0));
    parts.push(draw("polyline", { class: "line", stroke: COLOURS[which], "stroke-dasharray": DASHES[which],
      points: points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ") }));
  });
  const rows = series[0].x.map((x, at) => [tickText(x), ...series.map((one) => (Number.isFinite(one.y[at]) ? tickText(+one.y[at].toPrecision(3)) : "–"))]);
  const numbers = make("details", {}, make("summary", { class: "soft" }, say("numbers")),
    table([{ text: xTitle, n: true }, ...series.map((one) => ({ text: one.name, n: true }))], rows));
  return make("figure", {}, series.length > 1 ? legend(series.map((one) => one.name)) : null,
    draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title }, parts),
    make("figcaption", {}, title), rows.length > 1 ? numbers : null);
}

// === Header ===

function header() {
  const top = document.getElementById("top");
  const found = new Set(D.cells.filter((finding) => finding.is_found).map(cellName)).size;
  const reach = reachOf(), longest = measured().at(-1) ?? [0], hundredth = D.gradient.hundredth_at;
  const facts = [
    [number(D.text.bits_per_token, 2), say("fact bits")],
    [count(N), say("fact tokens")],
    [found, say(found === 1 ? "fact cells one" : "fact cells", { number: D.cells.length })],
    [reach === null ? `> ${longest[0]}` : count(reach), say(reach === 1 ? "fact reach one" : "fact reach", { bits: NOISE })],
    [hundredth === null ? `> ${D.gradient.model.length - 1}` : hundredth, say(hundredth === 1 ? "fact gradient one" : "fact gradient")],
  ];
  const switcher = make("button", { lang: language ? "en" : "zh-CN", onclick: () => { language = 1 - language; build(); document.querySelector(".bar button").focus(); } }, language ? "English" : "中文");
  top.replaceChildren(make("div", { class: "bar" }, switcher),
    make("h1", {}, say("title", { name: M.name })),
    paragraph("intro", { cell: M.cell_name, layers: M.layers, units: M.units, vocabulary: count(M.vocabulary), kind: M.tokenizer, parameters: count(M.parameters) }),
    make("nav", { "aria-label": say("contents") }, SECTIONS.map(([id, title]) => make("a", { href: `#${id}` }, say(title)))),
    make("div", { class: "facts" }, facts.map(([value, text]) => make("div", {}, make("b", {}, String(value)), text))),
    notes());
}

const NOISE = 0.05; // bits a token: smaller differences of the loss say nothing, since few places are measured

/** The lengths of context at which something was measured, each with the bits lost there. */
const measured = () => D.context.lengths.map((length, at) => [length, D.context.dropped[at]]).filter(([, bits]) => bits !== null);

/** The first length of context from which less than that is missing; null if more is missing at the longest one. */
function reachOf() {
  const found = measured().find((_, at, all) => all.slice(at).every(([, bits]) => bits < NOISE));
  return found ? found[0] : null;
}

function notes() {
  const lines = [];
  if (D.text.is_cut) lines.push(say("note cut", { tokens: count(N) }));
  if (D.text.is_own) lines.push(say("note own"));
  if (M.missing.length) lines.push(say("note missing", { cell: M.cell_name, missing: M.missing.map((part) => say(`missing: ${part}`)).join(say("comma")) }));
  if (M.directions.length > 1 || D.text.direction === "backward") lines.push(say(`note ${D.text.direction}`));
  if (!D.cells.length) lines.push(say("note short"));
  if (M.residual) lines.push(say("note residual"));
  if (M.layer_norm) lines.push(say("note norm"));
  if (M.attention) lines.push(say("note attention", { attention: M.attention }));
  return lines.length ? make("div", { class: "notes" }, lines.map((line) => make("p", {}, line))) : null;
}

// === The text ===

const shownPiece = (piece) => (piece === "" ? "∅" : piece);
const blend = (share, sign) => `color-mix(in srgb, ${sign < 0 ? "var(--a)" : "var(--b)"} ${Math.round(60 * share)}%, transparent)`;

function colourOf(token) {
  if (now.colour === "surprisal") {
    const bits = D.tokens.surprisal[token];
    return bits === null ? "" : blend(Math.min(1, Math.log2(1 + bits) / 4), 1);
  }
  const value = statesOf(now.cell)[token] / 127;
  return blend(Math.abs(value), value);
}

function textSection() {
  const order = inTextOrder(0, N - 1);
  const spans = new Map();
  const box = make("div", { class: "text", tabindex: "0", role: "group", "aria-label": say("text label"), "aria-describedby": "text-help" });
  for (const token of order) {
    const piece = D.tokens.text[token];
    const between = token > 0 && token === STARTS[DOCUMENT[token]];
    const shown = piece === "\n" ? "⏎\n" : piece || (between ? "¶\n" : "");
    if (!shown && !between) continue;
    const span = make("span", { class: between ? "end" : null }, shown);
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
    if ("from" in change) for (const [token, span] of spans) span.classList.toggle("in", now.from !== null && token >= now.from && token <= now.to);
  });
  const panel = make("div", { class: "panel", "aria-live": "polite" });
  watch(() => panel.replaceChildren(...details()));
  return section("text", "text title", paragraph("text help"), colourBar(),
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
    const valid = found && +found[2] < M.units && ROW.has(index);
    other.setAttribute("aria-invalid", String(!valid));
    if (valid) choose({ colour: "cell", cell: index });
    else other.title = say("no such cell");
  };
  other.addEventListener("keydown", (event) => { if (event.key === "Enter" && !isComposing(event)) go(); });
  return make("div", { class: "bar" }, make("label", { for: "colour" }, say("colour by")), select, other, make("button", { onclick: go }, say("show cell")), scale);
}

function details() {
  const t = now.token, parts = [];
  const title = make("p", {}, make("b", { class: "mono" }, shownPiece(D.tokens.token[t])), ` · ${say("token")} ${count(t + 1)}/${count(N)}`);
  parts.push(title);
  if (D.tokens.surprisal[t] !== null) {
    parts.push(make("p", {}, say("surprise line", { bits: number(D.tokens.surprisal[t], 2), rank: count(D.tokens.rank[t]), entropy: number(D.tokens.entropy[t], 2) })));
    const K = D.top.number, from = (t - 1) * K;
    const rows = [...Array(K).keys()].map((place) => [D.top.tokens[TOP_IDS[from + place]], TOP_SHARES[from + place] / 10000]);
    parts.push(make("div", { class: "top", role: "img", "aria-label": say("expected") + ": " + rows.map(([piece, share]) => `${piece} ${percent(share)}`).join(", ") },
      rows.flatMap(([piece, share]) => {
        const bar = make("i");
        bar.style.width = `${100 * share}%`;
        return [make("span", { class: "mono" }, piece === D.tokens.token[t] ? make("b", {}, piece) : piece), bar, make("span", { class: "soft" }, percent(share))];
      })));
  }
  parts.push(make("p", {}, make("b", {}, cellName(cellOf(now.cell))), " · ", memoryLine(t)));
  const followed = D.cells.filter((finding) => PROPERTIES[finding.follows]).map((finding) => [finding, PROPERTIES[finding.follows][t]]);
  const there = followed.filter(([finding, value]) => finding.is_count || value).map(([finding, value]) => propertyName(finding.follows) + (finding.is_count ? ` ${count(value)}` : ""));
  if (there.length) parts.push(make("p", { class: "soft" }, there.join(" · ")));
  return parts;
}

function memoryLine(t) {
  const squashed = statesOf(now.cell)[t] / 127, known = shownOf(now.cell);
  if (M.memory === "h") return M.activation === "relu" && !known && squashed >= 1 ? "h ≥ 1" : `h = ${number(known ? known.series.h[t] : squashed, 3)}`;
  const raw = known ? `= ${number(known.series.c[t], 3)}` : Math.abs(squashed) > 0.99 ? say("beyond") : `≈ ${number(Math.atanh(squashed), 2)}`;
  return `c ${raw}, tanh(c) = ${number(squashed, 2)}`;
}

// === Cells by selection ===

function rangePanel() {
  const panel = make("div", { id: "range" });
  watch((change) => {
    if (!("from" in change)) return;
    if (now.from === null) return panel.replaceChildren(soft("range help"));
    const { from, to } = now, found = cellsOfRange(from, to);
    panel.replaceChildren(make("h3", {}, say("range title", { from: count(from + 1), to: count(to + 1) })),
      table([{ text: say("cell") }, { text: say("mean there"), n: true }, { text: say("mean around"), n: true }, { text: say("deviations"), n: true }],
        found.slice(0, 8).map((one) => [cellButton(one.index), number(one.inside, 2), number(one.around, 2), signed(one.z, 1)])),
      make("h3", {}, say("like title")), soft("like help"),
      make("ul", {}, passagesLike(from, to, found.slice(0, 3)).map((start) => make("li", {},
        make("button", { onclick: () => choose({ token: start, from: start, to: start + to - from }) }, `${count(start + 1)}`), " ",
        make("span", { class: "mono" }, textOf(start, start + Math.min(59, to - from)).replace(/\n/g, "⏎"))))));
  });
  return panel;
}

function cellButton(index) {
  return make("button", { onclick: () => choose({ colour: "cell", cell: index }) }, cellName(cellOf(index)));
}

function cellsOfRange(from, to) {
  const margin = Math.max(30, 2 * (to - from + 1)), low = Math.max(0, from - margin), high = Math.min(N - 1, to + margin);
  return D.states.cells.map((index) => {
    const values = statesOf(index);
    let inside = 0, around = 0, square = 0;
    for (let t = low; t <= high; t++) {
      if (t >= from && t <= to) inside += values[t];
      else { around += values[t]; square += values[t] ** 2; }
    }
    const outside = high - low - (to - from) || 1;
    inside /= 127 * (to - from + 1);
    around /= 127 * outside;
    const deviation = Math.sqrt(Math.max(square / (127 ** 2 * outside) - around ** 2, 1e-4));
    return { index, inside, around, z: (inside - around) / deviation };
  }).sort((a, b) => Math.abs(b.z) - Math.abs(a.z));
}

/** Starts of the stretches of the same length in which these cells are most like in the range. */
function passagesLike(from, to, cells) {
  const length = to - from + 1, distance = new Float64Array(Math.max(0, N - length + 1));
  for (const { index, inside } of cells) {
    const values = statesOf(index);
    let sum = 0;
    for (let t = 0; t < N; t++) {
      sum += values[t] - (t >= length ? values[t - length] : 0);
      if (t >= length - 1) distance[t - length + 1] += Math.abs(sum / (127 * length) - inside);
    }
  }
  const order = [...distance.keys()].sort((a, b) => distance[a] - distance[b]), chosen = [];
  for (const start of order) {
    if (chosen.length === 5) break;
    if (Math.abs(start - from) >= length && chosen.every((other) => Math.abs(other - start) >= length)) chosen.push(start);
  }
  return chosen;
}

// === Cells found ===

function score(finding, value) {
  return `${finding.is_count ? "r " : "AUC "}${number(value, 3)}`;
}

function cellsSection() {
  const changes = new Map(D.changes.cells.map((cell) => [indexOf(cell), cell]));
  const rows = (found) => D.cells.filter((finding) => finding.is_found === found).map((finding) => {
    const change = changes.get(indexOf(finding));
    const chance = finding.is_count ? 0 : 0.5;
    return [propertyName(finding.follows), ROW.has(indexOf(finding)) ? cellButton(indexOf(finding)) : cellName(finding), score(finding, finding.first), score(finding, finding.second),
      `${number(chance, 1)} ± ${number(finding.threshold, 3)}`, score(finding, finding.token_alone), change && found ? signed(change.mean.bits, 4) : "–"];
  });
  const heads = ["property", "cell", "first half", "second half", "threshold", "token alone", "ablated"].map((key, column) => ({ text: say(key), n: column > 1 }));
  const found = rows(true), others = rows(false);
  const random = D.changes.random_bits;
  return section("cells", "cells title", paragraph("cells help"),
    found.length ? table(heads, found) : paragraph("none found"),
    found.length && random.length ? soft("ablated help", { steps: D.changes.steps, low: signed(Math.min(...random), 4), high: signed(Math.max(...random), 4), random: random.length }) : null,
    others.length ? make("details", {}, make("summary", {}, say("not found", { number: others.length })), table(heads, others)) : null);
}

// === Gates of one cell ===

function cellSelect(id) {
  const select = make("select", { id, onchange: () => choose({ colour: "cell", cell: +select.value }) });
  watch((change) => {
    if (!("cell" in change)) return;
    select.replaceChildren(...SHOWN.map((cell) => make("option", { value: indexOf(cell) }, cellName(cell) + (cell.follows.length ? ` · ${cell.follows.map(propertyName).join(say("comma"))}` : ""))));
    if (shownOf(now.cell)) select.value = now.cell;
    else select.prepend(make("option", { value: "", selected: true }, say("choose shown")));
  });
  return select;
}

const VALUE_ORDER = ["i", "f", "o", "z", "r", "g", "c", "h"];

function gatesSection() {
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
function letters() {
  const gates = M.cell === "rnn" ? [] : [soft(M.cell === "gru" ? "legend gru" : "legend lstm")];
  return [...gates, soft("legend count")];
}

/** The values of a cell around the chosen token: a lane for each, with the text below. */
function strip(cell, names, low, high) {
  const step = 11, lane = 44, left = 74, width = left + step * (high - low + 1) + 8, height = names.length * lane + 34;
  const parts = names.flatMap((name, row) => {
    const series = cell.series[name].subarray(low, high + 1), isGate = "ifozr".includes(name);
    const limit = isGate ? [0, 1] : [Math.min(-1, ...series), Math.max(1, ...series)];
    const y = (value) => row * lane + lane - 6 - (lane - 12) * (value - limit[0]) / (limit[1] - limit[0]);
    const points = [...series].map((value, at) => `${left + step * at + step / 2},${y(value).toFixed(1)}`).join(" ");
    return [draw("line", { class: "axis", x1: left, x2: width, y1: y(0), y2: y(0) }),
      draw("text", { class: "val", x: 4, y: row * lane + lane / 2 - 2 }, name),
      draw("polyline", { class: "line", stroke: COLOURS[row % COLOURS.length], points }),
      draw("text", { class: "soft", x: 4, y: row * lane + lane / 2 + 13 }, `${tickText(+limit[0].toFixed(1))} … ${tickText(+limit[1].toFixed(1))}`)];
  });
  for (let t = low; t <= high; t++) {
    const x = left + step * (t - low) + step / 2;
    if (t === now.token) parts.unshift(draw("rect", { x: x - step / 2, y: 0, width: step, height, fill: "var(--focus)", opacity: 0.22 }));
    const piece = D.tokens.text[t] === "\n" ? "⏎" : D.tokens.text[t].trim() || (D.tokens.text[t] ? "·" : "");
    parts.push(draw("text", { x, y: names.length * lane + 14, "text-anchor": [...piece].length > 1 ? "end" : "middle",
      transform: [...piece].length > 1 ? `rotate(-60 ${x} ${names.length * lane + 14})` : "", "font-size": 11 }, piece.slice(0, 6)));
  }
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": say("gates picture", { cell: cellName(cell) }) + " " + names.map((name) => `${name} ${number(cell.series[name][now.token], 3)}`).join(", ") }, parts);
  svg.style.maxWidth = "none";
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const t = low + Math.floor(((event.clientX - box.left) * width / box.width - left) / step);
    if (t >= low && t <= high) choose({ token: t });
  });
  return make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": say("gates title") }, svg);
}

// === One step with real numbers ===

function stepSection() {
  const place = make("div");
  watch((change) => {
    if (!("cell" in change || "token" in change)) return;
    const cell = shownOf(now.cell);
    place.replaceChildren(...(cell && now.token > 0 ? [diagram(cell, now.token), equations(cell, now.token)] : [soft("only shown")]));
  });
  return section("step", "step title", paragraph(M.cell === "rnn" ? "step help rnn" : "step help", { cell: M.cell_name, activation: M.activation }), place);
}

const DIAGRAMS = { // nodes [x, y, text, value], wires [x1, y1, x2, y2]
  lstm: {
    wires: [[90, 60, 170, 60], [210, 60, 310, 60], [350, 60, 560, 60], [190, 150, 190, 80], [330, 150, 330, 80], [280, 195, 310, 172], [380, 195, 350, 172],
      [450, 60, 450, 95], [450, 135, 450, 160], [466, 175, 560, 175], [500, 232, 462, 186]],
    nodes: (v, b) => [[50, 60, "c′", b.c], [190, 60, "×", null], [330, 60, "+", null], [600, 60, "c", v.c], [190, 165, "f", v.f], [330, 160, "×", null],
      [260, 210, "i", v.i], [400, 210, "g", v.g], [450, 115, "tanh", Math.tanh(v.c)], [450, 175, "×", null], [520, 250, "o", v.o], [600, 175, "h", v.h]],
  },
  gru: {
    wires: [[90, 60, 170, 60], [210, 60, 310, 60], [350, 60, 560, 60], [190, 150, 190, 80], [330, 150, 330, 80], [280, 200, 312, 172], [400, 200, 350, 172],
      [480, 215, 452, 215]],
    nodes: (v, b) => [[50, 60, "h′", b.h], [190, 60, "×", null], [330, 60, "+", null], [600, 60, "h", v.h], [190, 165, "z", v.z], [330, 160, "×", null],
      [260, 215, "1−z", 1 - v.z], [410, 215, "g", v.g], [520, 215, "r", v.r]],
  },
  rnn: {
    wires: [[90, 60, 140, 60], [185, 60, 280, 60], [318, 60, 400, 60], [446, 60, 558, 60], [300, 150, 300, 80]],
    nodes: (v, b) => [[50, 60, "h′", b.h], [163, 60, "h′·U", null], [300, 60, "+", null], [424, 60, M.activation, null], [600, 60, "h", v.h],
      [300, 165, "x·W + b", null]],
  },
};

function valuesAt(cell, t) {
  return Object.fromEntries(Object.entries(cell.series).map(([name, series]) => [name, series[t]]));
}

function diagram(cell, t) {
  const kind = M.cell === "gru" || M.cell === "rnn" ? M.cell : "lstm";
  const { wires, nodes } = DIAGRAMS[kind];
  const arrow = draw("defs", {}, draw("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    draw("path", { d: "M0 0 L8 4 L0 8 z", fill: "var(--soft)" })));
  const lines = wires.map(([x1, y1, x2, y2]) => draw("line", { class: "wire", x1, y1, x2, y2, "marker-end": "url(#arrow)" }));
  const boxes = nodes(valuesAt(cell, t), valuesAt(cell, t - 1)).map(([x, y, text, value]) => draw("g", {},
    value === null && text.length < 6 ? draw("circle", { class: "node", cx: x, cy: y, r: text.length > 2 ? 22 : 15 }) : draw("rect", { class: "node", x: x - 40, y: y - 20, width: 80, height: 40, rx: 6 }),
    draw("text", { x, y: value === null ? y + 4 : y - 4, "text-anchor": "middle", class: value === null ? "val" : "soft" }, text),
    value === null ? null : draw("text", { x, y: y + 13, "text-anchor": "middle", class: "val" }, number(value, 3))));
  const svg = draw("svg", { viewBox: "0 0 650 285", width: 650, height: 285, role: "img", "aria-label": say("step picture") }, arrow, lines, boxes);
  svg.style.maxWidth = "none";
  return make("figure", {}, make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": say("step title") }, svg), make("figcaption", {}, say("step caption", { cell: cellName(cell), token: count(t + 1), piece: shownPiece(D.tokens.token[t]) })));
}

function equations(cell, t) {
  const v = valuesAt(cell, t), b = valuesAt(cell, t - 1), n = (x) => number(x, 3);
  const lines = M.cell === "rnn" ? [`h = ${M.activation}(x·W + h′·U + b) = ${n(v.h)}        h′ = ${n(b.h)}`]
    : M.cell === "gru" ? [`h = z·h′ + (1 − z)·g`, `  = ${n(v.z)} · ${n(b.h)} + ${n(1 - v.z)} · ${n(v.g)} = ${n(v.h)}`, `${say("kept")} ${n(v.z * b.h)}   ${say("added")} ${n((1 - v.z) * v.g)}`,
        `g = tanh(x·W + b + ${M.reset_after ? "r·(h′·U + b′)" : "(r·h′)·U"}) = ${n(v.g)}        r = ${n(v.r)}`]
      : [`c = f·c′ + i·g`, `  = ${n(v.f)} · ${n(b.c)} + ${n(v.i)} · ${n(v.g)} = ${n(v.c)}`, `${say("kept")} ${n(v.f * b.c)}   ${say("added")} ${n(v.i * v.g)}`,
        `h = o·tanh(c) = ${n(v.o)} · ${n(Math.tanh(v.c))} = ${n(v.h)}`];
  return pre(lines.join("\n"));
}

// === All cells over time ===

function pictureSection() {
  const layers = [...Array(M.layers).keys()];
  const select = make("select", { id: "layer" }, layers.map((layer) => make("option", { value: layer }, `L${layer}`)));
  const canvas = make("canvas", { role: "img", "aria-label": say("picture label") });
  const line = make("p", { class: "soft" });
  let rows = [];
  const paint = () => {
    rows = D.states.cells.filter((index) => Math.floor(index / M.units) === +select.value);
    const spread = new Map(rows.map((index) => [index, lifeOf(index)]));
    rows.sort((a, b) => spread.get(b) - spread.get(a));
    const width = Math.min(N, 1000), context = canvas.getContext("2d");
    canvas.width = width;
    canvas.height = rows.length;
    canvas.style.height = `${Math.max(160, Math.min(420, 2 * rows.length))}px`;
    const image = context.createImageData(width, rows.length);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches, ground = dark ? 21 : 252;
    rows.forEach((index, row) => {
      const values = statesOf(index);
      for (let x = 0; x < width; x++) {
        const low = Math.floor(x * N / width), high = Math.max(low + 1, Math.floor((x + 1) * N / width));
        let sum = 0;
        for (let t = low; t < high; t++) sum += values[t];
        const value = sum / (127 * (high - low)), colour = value < 0 ? [0, 105, 168] : [184, 74, 0], at = 4 * (row * width + x);
        for (let k = 0; k < 3; k++) image.data[at + k] = ground + (colour[k] - ground) * Math.min(1, Math.abs(value));
        image.data[at + 3] = 255;
      }
    });
    context.putImageData(image, 0, 0);
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { token: Math.min(N - 1, Math.floor((event.clientX - box.left) / box.width * N)), cell: rows[Math.min(rows.length - 1, Math.floor((event.clientY - box.top) / box.height * rows.length))] };
  };
  canvas.addEventListener("pointermove", (event) => { const found = at(event); line.textContent = `${cellName(cellOf(found.cell))} · ${say("token")} ${count(found.token + 1)} · ${number(statesOf(found.cell)[found.token] / 127, 2)}`; });
  canvas.addEventListener("click", (event) => choose({ ...at(event), colour: "cell" }));
  select.addEventListener("change", paint);
  line.textContent = say("picture point");
  matchMedia("(prefers-color-scheme: dark)").onchange = paint;
  paint();
  return section("picture", "picture title", paragraph(D.half_lives ? "picture help life" : "picture help spread"),
    D.states.cells.length < D.states.total ? soft("picture part", { kept: count(D.states.cells.length), total: count(D.states.total) }) : null,
    make("div", { class: "bar" }, make("label", { for: "layer" }, say("layer")), select), canvas, line);
}

function lifeOf(index) {
  const cell = cellOf(index);
  if (D.half_lives) return D.half_lives[cell.layer][cell.unit];
  return statesOf(index).reduce((sum, value) => sum + value ** 2, 0);
}

// === Saturation ===

function saturationSection() {
  const gates = Object.entries(D.saturation);
  if (!gates.length) return section("saturation", "saturation title", paragraph("saturation none", { cell: M.cell_name }));
  const size = 190;
  const plots = {};  // of each layer, which are a row where there is room
  for (const [gate, { closed, open }] of gates) {
    const [layer, name] = gate.split("/"), L = layer.split("_").pop();
    const dots = closed.map((share, unit) => draw("circle", { cx: 28 + (size - 40) * share, cy: size - 28 - (size - 40) * open[unit], r: 2.2, fill: "var(--a)", opacity: 0.55 }));
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    (plots[L] ??= []).push(make("figure", {}, draw("svg", { viewBox: `0 0 ${size} ${size}`, width: size, height: size, role: "img",
      "aria-label": say("saturation dot", { gate: `L${L}.${name}`, closed: percent(mean(closed)), open: percent(mean(open)) }) },
      draw("path", { class: "wire", d: `M28 12 V${size - 28} H${size - 12} L28 12` }), dots,
      draw("text", { class: "soft", x: size / 2, y: size - 10, "text-anchor": "middle" }, say("share closed")),
      draw("text", { class: "soft", x: 14, y: size / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${size / 2})` }, say("share open")),
      draw("text", { class: "val", x: size - 14, y: 24, "text-anchor": "end" }, `L${L}.${name}`))));
  }
  const rows = Object.values(plots).map((ofLayer) => make("div", { class: "bar" }, ofLayer));
  return section("saturation", "saturation title", paragraph("saturation help"), rows);
}

// === Memory, gradients ===

function memorySection() {
  const { lengths, dropped, shuffled, full } = D.context;
  const parts = [paragraph("memory help", { full: number(full, 3) }), chart({
    title: say("memory chart"), xTitle: say("context tokens"), yTitle: say("bits lost"), logX: true,
    series: [{ name: say("dropped"), x: lengths, y: dropped }, { name: say("shuffled"), x: lengths, y: shuffled }],
  })];
  if (D.half_lives) {
    const rows = D.half_lives.map((lives, layer) => {
      const sorted = [...lives].sort((a, b) => a - b), at = (share) => sorted[Math.round(share * (sorted.length - 1))];
      return [`L${layer}`, ...[0.1, 0.5, 0.9, 0.99].map((share) => number(at(share), 1)), make("span", {}, cellName({ layer, unit: lives.indexOf(Math.max(...lives)) }), ` ${number(Math.max(...lives), 1)}`)];
    });
    parts.push(make("h3", {}, say("half-life title")), paragraph("half-life help", { gate: M.keeping_gate }),
      table([{ text: say("layer") }, ...[10, 50, 90, 99].map((share) => ({ text: `${share}${language ? "%" : " %"}`, n: true })), { text: say("longest") }], rows));
  } else parts.push(soft("half-life none", { cell: M.cell_name }));
  return section("memory", "memory title", parts);
}

/** Norms as shares of the largest; those too small to matter are left out. */
const relative = (norms) => norms.map((norm) => norm / Math.max(...norms)).map((share) => (share < 1e-12 ? NaN : share));

function gradientSection() {
  const lags = (values) => values.map((_, lag) => lag);
  const series = [{ name: `${M.name} (${M.cell_name})`, x: lags(D.gradient.model), y: relative(D.gradient.model) },
    ...Object.entries(D.gradient.untrained).map(([cell, flow]) => ({ name: say("untrained", { cell: cell.toUpperCase() }), x: lags(flow.norms), y: relative(flow.norms) }))];
  return section("gradient", "gradient title", paragraph("gradient help"),
    chart({ title: say("gradient chart"), xTitle: say("lag"), yTitle: say("gradient norm"), logY: true, series }), soft("gradient note"));
}

// === Changes ===

function changesSection() {
  if (!D.changes.cells.length) return section("changes", "changes title", paragraph("changes none"));
  const moved = (change) => [["↑", change.rising], ["↓", change.falling]].map(([arrow, tokens]) => make("div", { class: "moved" },
    tokens.slice(0, 3).flatMap(({ token, before, after }) => [make("span", { class: "mono line" }, `${arrow} ${token} ${percent(before)} → ${percent(after)}`), " "])));
  const blocks = D.changes.cells.map((cell) => {
    const followed = D.cells.filter((finding) => finding.is_found && indexOf(finding) === indexOf(cell)).map((finding) => propertyName(finding.follows)).join(say("comma"));
    const rows = ["mean", "low", "high"].map((name) => {
      const change = cell[name], text = `${cellName(cell)}=${change.number}`;
      return [say(`held ${name}`), number(change.number, 2), signed(change.bits, 4), signed(change.bits_with, 4), signed(change.bits_without, 4), moved(change),
        name === "mean" ? "" : make("code", {}, `--clamp ${text}`)];
    });
    const written = D.written.find((one) => indexOf(one) === indexOf(cell));
    return [make("h3", {}, `${cellName(cell)}${followed ? ` · ${followed}` : ""}`),
      table([{ text: say("held") }, { text: M.memory, n: true }, { text: say("bits a token"), n: true }, { text: say("with it"), n: true }, { text: say("without it"), n: true }, { text: say("tokens moved") }, { text: say("to write so") }], rows),
      written ? make("div", { class: "three" }, ["low", "free", "high"].map((name) => make("figure", {}, make("figcaption", {}, say(`written ${name}`)), make("blockquote", {}, written[name])))) : null];
  });
  return section("changes", "changes title", paragraph("changes help", { steps: D.changes.steps }), ...blocks.flat(), pre(`textgen sample ${M.name} --clamp ${cellName(D.changes.cells[0])}=${D.changes.cells[0].high.number}`));
}

// === Lenses, neighbours ===

function lensSection() {
  const { levels, model, start } = D.lenses;
  const rows = levels.map((level) => [level.name, level.logit_lens === null ? "–" : number(level.logit_lens, 2), number(level.fitted_lens, 2)]);
  const places = [...Array(Math.min(30, levels[0].guesses.length)).keys()];
  const guesses = places.map((place) => [D.tokens.token[start + place], ...levels.map((level) => {
    const right = level.guesses[place] === D.tokens.token[start + place + 1];
    return make(right ? "b" : "span", { class: "mono" }, level.guesses[place] + (right ? " ✓" : ""));
  })]);
  return section("layers", "layers title", paragraph("layers help", { model: number(model, 2) }),
    table([{ text: say("level") }, { text: say("logit lens"), n: true }, { text: say("fitted lens"), n: true }], rows), soft(M.residual ? "lens residual" : "lens plain"),
    M.projection ? soft("lens projection") : null,
    make("details", {}, make("summary", {}, say("guesses")), table([{ text: say("token read") }, ...levels.map((level) => ({ text: level.name }))], guesses)));
}

function neighboursSection() {
  const list = (found) => make("span", { class: "mono" }, found.map(([piece, cosine]) => `${piece} ${number(cosine, 2)}`).join("   "));
  const heads = [{ text: say("token") }, { text: say(M.tied ? "both embeddings" : "input embedding") }];
  if (!M.tied) heads.push({ text: say("output embedding") });
  return section("neighbours", "neighbours title", paragraph(M.tied ? "neighbours tied" : "neighbours help"),
    make("details", { open: true }, make("summary", {}, say("show")), table(heads, D.neighbours.map((one) => [make("span", { class: "mono" }, one.token), list(one.inputs), one.outputs ? list(one.outputs) : null].slice(0, heads.length)))));
}

// === The lesson ===

function lessonSection() {
  const L = D.lesson, t = L.step, v = L.values, n = (x) => number(x, 3), cell = cellName(L);
  const gated = M.cell !== "rnn", keep = M.keeping_gate, isLstm = M.memory === "c";
  const piece = shownPiece(D.tokens.token[t]);
  const parts = [paragraph("lesson intro", { name: M.name })];
  const block = (title, values, ...children) => parts.push(make("h3", {}, say(title)), ...children.filter((child) => child !== null).map((child) => (typeof child === "string" ? make("p", {}, say(child, values)) : child)));
  const question = (ask, answer, values) => make("details", {}, make("summary", {}, say(ask, values)), make("p", {}, say(answer, values)));

  const read = textOf(Math.max(0, t - 30), t - 1);
  block("lesson 1 title", {}, "lesson 1", pre(D.text.direction === "backward" ? `${read}…` : `…${read}`),
    make("p", {}, say("lesson 1 numbers", { piece, bits: number(D.tokens.surprisal[t], 2), p: percent(2 ** -D.tokens.surprisal[t]), loss: number(D.text.bits_per_token, 2), blind: number(Math.log2(M.vocabulary), 2) })),
    question("lesson 1 ask", "lesson 1 answer", { p: percent(2 ** -D.tokens.surprisal[t]), count: round(2 ** D.tokens.surprisal[t]), loss: number(D.text.bits_per_token, 2), perplexity: round(2 ** D.text.bits_per_token) }));

  const squash = (gate) => (gate === "h" ? M.activation : gate === "g" ? "tanh" : "σ");
  const lines = L.parts.map((part) => `${part.gate} = ${squash(part.gate)}(${n(part.from_x)} + ${n(part.from_h)} + ${n(part.bias)}${"from_c" in part ? ` + ${n(part.from_c)}` : ""}) = ${n(v[part.gate])}`);
  const special = { peephole: "lesson 2 peephole", mogrifier: "lesson 2 mogrifier", gru: M.reset_after ? "lesson 2 reset after" : "lesson 2 reset before" };
  block(gated ? "lesson 2 title" : "lesson 2 title rnn", {}, gated ? "lesson 2" : M.activation === "relu" ? "lesson 2 relu" : "lesson 2 rnn", special[M.cell] ?? null, ...letters(), make("p", {}, say("lesson 2 cell", { cell, properties: L.follows.map(propertyName).join(say("comma")) || "–", piece })),
    pre([say(M.cell === "peephole" ? "lesson 2 columns peephole" : "lesson 2 columns"), ...lines].join("\n")));
  if (isLstm) block("lesson 3 title", {}, pre(`c = f·c′ + i·g = ${n(v.f)} · ${n(L.before)} + ${n(v.i)} · ${n(v.g)} = ${n(v.c)}\nh = o·tanh(c)  = ${n(v.o)} · ${n(Math.tanh(v.c))} = ${n(v.h)}`),
    make("p", {}, say("lesson 3", { kept: n(v.f * L.before), added: n(v.i * v.g), f: n(v.f) })), question("lesson 3 ask", "lesson 3 answer", { f: n(v.f) }));
  else if (gated) block("lesson 3 title", {}, pre(`h = z·h′ + (1 − z)·g = ${n(v.z)} · ${n(L.before)} + ${n(1 - v.z)} · ${n(v.g)} = ${n(v.h)}`),
    make("p", {}, say("lesson 3", { kept: n(v.z * L.before), added: n((1 - v.z) * v.g), f: n(v.z) })), question("lesson 3 ask", "lesson 3 answer", { f: n(v.z) }));
  else block("lesson 3 title rnn", {}, pre(`h = ${M.activation}(x·W + h′·U + b) = ${n(v.h)}`), make("p", {}, say("lesson 3 rnn", { activation: M.activation })));

  if (L.kept) {
    const steps = L.kept.cell.map((_, step) => step), product = L.kept.gate.slice(1, 6).map(n).join(" · ");
    const at = Math.min(5, L.kept.cell.length - 1), far = Math.min(20, L.kept.cell.length - 1);
    block("lesson 4 title", {}, make("p", {}, say(M.cell === "peephole" ? "lesson 4 peephole" : "lesson 4", { gate: keep, memory: M.memory, cell })), pre(`${Array(at).fill(keep).join("·")} = ${product} = ${(+L.kept.cell[at].toPrecision(3))}`),
      chart({ title: say("lesson 4 chart", { gate: keep, piece, token: count(t + 1) }), xTitle: say("steps back"), yTitle: say("share left"), logY: true, low: 1e-6, high: 1,
        series: [{ name: cell, x: steps, y: L.kept.cell.map((y) => Math.max(y, 1e-6)) }, { name: say("median of the layer"), x: steps, y: L.kept.median.map((y) => Math.max(y, 1e-6)) }, { name: say("upper tenth"), x: steps, y: L.kept.upper.map((y) => Math.max(y, 1e-6)) }] }),
      make("p", {}, say("lesson 4 numbers", { cell, far, left: percent(L.kept.cell[far]), median: percent(L.kept.median[far]), upper: percent(L.kept.upper[far]) })),
      question("lesson 4 ask", "lesson 4 answer"));
  } else block("lesson 4 title rnn", {}, make("p", {}, say(M.activation === "relu" ? "lesson 4 relu" : "lesson 4 rnn", { slope: L.slope.map(n).join(say("comma")) })));

  const decays = Object.fromEntries(Object.entries(L.decay).map(([name, factor]) => [name, factor === null ? "–" : n(factor)]));
  const first = (at, last) => (at === null ? say("later than", { last }) : count(at));
  const when = Object.fromEntries(Object.entries(D.gradient.untrained).map(([name, flow]) => [`${name}At`, first(flow.hundredth_at, flow.norms.length - 1)]));
  block("lesson 5 title", {}, make("p", {}, say("lesson 5")), pre("RNN:   dh(t)/dh(t−1) = U · (1 − h²)\nLSTM:  dc(t)/dc(t−1) = f   (+ …·U)\nGRU:   dh(t)/dh(t−1) = z   (+ …·U)"),
    chart({ title: say("lesson 5 chart"), xTitle: say("lag"), yTitle: say("gradient norm"), logY: true,
      series: [["model", D.gradient.model], ...Object.entries(D.gradient.untrained).map(([name, flow]) => [name, flow.norms])].map(([name, norms]) => ({ name: name === "model" ? M.name : say("untrained", { cell: name.toUpperCase() }), x: norms.map((_, lag) => lag), y: relative(norms) })) }),
    make("p", {}, say("lesson 5 numbers", { ...decays, ...when, at: first(D.gradient.hundredth_at, D.gradient.model.length - 1) })), question("lesson 5 ask", gated ? "lesson 5 answer" : "lesson 5 answer rnn"));

  const { dropped, full } = D.context, reach = reachOf(), [last, left] = measured().at(-1) ?? [0, null];
  const rest = reach === null ? say("lesson 6 beyond", { last: count(last), left: number(left, 2) }) : say(reach === 1 ? "lesson 6 reach one" : "lesson 6 reach", { reach: count(reach), bits: NOISE });
  block("lesson 6 title", {}, make("p", {}, say("lesson 6", { one: number(dropped[0], 2), full: number(full, 2) })), make("p", {}, rest),
    make("p", {}, say("lesson 6 link"), " ", make("a", { href: "#memory" }, say("memory title"))));
  return make("section", { id: "lesson", class: "lesson", "aria-labelledby": "lesson-title" }, make("h2", { id: "lesson-title" }, say("lesson title")), parts);
}

// === The page ===

const SECTIONS = [
  ...(D.lesson ? [["lesson", "lesson title", lessonSection]] : []),
  ["text", "text title", textSection], ["cells", "cells title", cellsSection], ["gates", "gates title", gatesSection], ["step", "step title", stepSection],
  ["picture", "picture title", pictureSection], ["saturation", "saturation title", saturationSection], ["memory", "memory title", memorySection],
  ["gradient", "gradient title", gradientSection], ["changes", "changes title", changesSection], ["layers", "layers title", lensSection], ["neighbours", "neighbours title", neighboursSection],
];

function build() {
  document.documentElement.lang = language ? "zh-CN" : "en";
  document.title = say("title", { name: M.name });
  watchers.length = 0;
  header();
  document.getElementById("main").replaceChildren(...SECTIONS.map(([, , part]) => part()));
  document.getElementById("foot").replaceChildren(soft("foot"));
  choose({ token: now.token }); // once more, now that the text has a height to scroll in
}

build();
