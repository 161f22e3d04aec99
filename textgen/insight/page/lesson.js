// The lesson: one cell, one step, gate by gate.

import { chart } from "./charts.js";
import { make, paragraph, pre } from "./elements.js";
import { letters } from "./gates.js";
import { D, IS_RELU, M, cellName, propertyName, textRead } from "./inspection.js";
import { cutOff, flows, measured, reachOf } from "./memory.js";
import { count, number, percent, round, withError } from "./numbers.js";
import { shownPiece } from "./tokens.js";
import { say } from "./words.js";

const L = D.lesson; // null in a page without the lesson
const IS_GATED = M.cell !== "rnn";
const n = (value) => number(value, 3);
const pieceRead = () => shownPiece(D.tokens.token[L.step]);

/** A part of the lesson: its title, and paragraphs by their keys or elements. */
function block(title, ...children) {
  const given = children.filter((child) => child !== null);
  return [make("h3", {}, say(title)), ...given.map((child) => (typeof child === "string" ? paragraph(child) : child))];
}

function question(ask, answer, values) {
  return make("details", {}, make("summary", {}, say(ask, values)), paragraph(answer, values));
}

export function lessonSection() {
  const parts = [surprise(), sums(), update(), L.kept ? keeping() : slopes(), lookingBack("lesson 4 attention"), gradients(), reach()];
  return make("section", { id: "lesson", class: "lesson", "aria-labelledby": "lesson-title" },
    make("h2", { id: "lesson-title" }, say("lesson title")), paragraph("lesson intro", { name: M.name }), parts);
}

/** What an attention head adds to the paths of a gradient; null in a model without one. */
const lookingBack = (key) => (M.attention ? paragraph(key, { attention: M.attention }) : null);

/** How surprising the token is. */
function surprise() {
  const read = textRead(Math.max(0, L.step - 30), L.step - 1), bits = D.tokens.surprisal[L.step];
  const p = percent(2 ** -bits), loss = number(D.text.bits_per_token, 2), nats = number(D.text.bits_per_token * Math.LN2, 2);
  const blind = number(Math.log2(M.vocab_size), 2);
  return block("lesson 1 title", "lesson 1", pre(D.text.direction === "backward" ? `${read}…` : `…${read}`),
    paragraph("lesson 1 numbers", { piece: pieceRead(), bits: number(bits, 2), p, loss, nats, blind, tokens: count(D.text.scored_tokens) }),
    question("lesson 1 ask", "lesson 1 answer",
      { p, count: round(2 ** bits), loss, perplexity: round(2 ** D.text.bits_per_token) }));
}

/** What each gate, or the cell without gates, adds up. */
function sums() {
  const squash = (gate) => (gate === "h" ? M.activation : gate === "g" ? "tanh" : "σ");
  const lines = L.parts.map(({ gate, from_x, from_h, bias, from_c }) => {
    const terms = [from_x, from_h, bias, ...(from_c === undefined ? [] : [from_c])];
    return `${gate} = ${squash(gate)}(${terms.map(n).join(" + ")}) = ${n(L.values[gate])}`;
  });
  const special = {
    peephole: "lesson 2 peephole",
    mogrifier: M.mogrifier_rounds === 1 ? "lesson 2 mogrifier one" : "lesson 2 mogrifier",
    gru: M.reset_after ? "lesson 2 reset after" : "lesson 2 reset before",
  };
  const properties = L.follows.map(propertyName).join(say("comma")) || "–";
  return block(IS_GATED ? "lesson 2 title" : "lesson 2 title rnn",
    IS_GATED ? "lesson 2" : IS_RELU ? "lesson 2 relu" : "lesson 2 rnn",
    special[M.cell] ? paragraph(special[M.cell], { rounds: M.mogrifier_rounds }) : null, ...letters(),
    paragraph("lesson 2 cell", { cell: cellName(L), properties, piece: pieceRead() }),
    pre([say(M.cell === "peephole" ? "lesson 2 columns peephole" : "lesson 2 columns"), ...lines].join("\n")));
}

/** What becomes of the memory of the cell. */
function update() {
  const v = L.values, before = L.before;
  if (!IS_GATED) {
    return block("lesson 3 title rnn", pre(`h = ${M.activation}(x·W + h′·U + b) = ${n(v.h)}`),
      paragraph("lesson 3 rnn", { activation: M.activation }));
  }
  const [f, i, lines] = M.memory === "c" ? [v.f, v.i, [
    `c = f·c′ + i·g = ${n(v.f)} · ${n(before)} + ${n(v.i)} · ${n(v.g)} = ${n(v.c)}`,
    `h = o·tanh(c)  = ${n(v.o)} · ${n(Math.tanh(v.c))} = ${n(v.h)}`,
  ]] : [v.z, 1 - v.z, [
    `h = z·h′ + (1 − z)·g = ${n(v.z)} · ${n(before)} + ${n(1 - v.z)} · ${n(v.g)} = ${n(v.h)}`,
  ]];
  return block("lesson 3 title", pre(lines.join("\n")),
    paragraph("lesson 3", { kept: n(f * before), added: n(i * v.g), f: n(f) }),
    question("lesson 3 ask", "lesson 3 answer", { f: n(f) }));
}

/** What the gates leave of the memory, step by step backward. */
function keeping() {
  const { cell: fractions, median, upper, gate } = L.kept, keep = M.keeping_gate, cell = cellName(L);
  const at = Math.min(5, fractions.length - 1), far = Math.min(20, fractions.length - 1);
  const line = (name, values) => ({ name, x: values.map((_, step) => step), y: values });
  const special = { peephole: "lesson 4 peephole", mogrifier: "lesson 4 mogrifier" };
  const left = { left: percent(fractions[far]), median: percent(median[far]), upper: percent(upper[far]) };
  return block("lesson 4 title",
    paragraph(special[M.cell] ?? "lesson 4", { gate: keep, memory: M.memory, cell }),
    pre([Array(at).fill(keep).join("·"), gate.slice(1, 6).map(n).join(" · "), +fractions[at].toPrecision(3)].join(" = ")),
    chart({
      title: say("lesson 4 chart", { gate: keep, piece: pieceRead(), token: count(L.step + 1) }),
      xTitle: say("steps back"), yTitle: say("fraction left"), logY: true, low: 1e-6, high: 1,
      series: [line(cell, fractions), line(say("median of the layer"), median), line(say("upper tenth"), upper)],
    }),
    paragraph("lesson 4 numbers", { cell, far, ...left }),
    question("lesson 4 ask", M.cell === "gru" ? "lesson 4 answer gru" : "lesson 4 answer"));
}

/** The same without gates. */
function slopes() {
  return block("lesson 4 title rnn",
    paragraph(IS_RELU ? "lesson 4 relu" : "lesson 4 rnn", { slope: L.slope.map(n).join(say("comma")) }));
}

/** How gradients fade, in the model and in untrained networks. */
function gradients() {
  const decays = Object.fromEntries(Object.entries(L.decay).map(([name, factor]) => [name, n(factor)]));
  const first = (at, last) => (at === null ? say("later than", { last }) : count(at));
  const when = Object.fromEntries(Object.entries(D.gradient.untrained)
    .map(([name, flow]) => [`${name}At`, first(flow.hundredth_at, flow.norms.length - 1)]));
  const at = first(D.gradient.hundredth_at, D.gradient.trained.length - 1);
  const { gru, lstm_bias_0, rnn } = L.decay;
  const fadeAsFast = [gru, lstm_bias_0, rnn].every(Number.isFinite) && Math.max(gru, lstm_bias_0) <= rnn;
  const derivatives = [
    `RNN:   dh(t)/dh(t−1) = U · ${IS_RELU ? "[h > 0]" : "(1 − h²)"}`,
    "LSTM:  dc(t)/dc(t−1) = f   (+ …·U)",
    "GRU:   dh(t)/dh(t−1) = z   (+ …·U)",
  ];
  return block("lesson 5 title", "lesson 5", pre(derivatives.join("\n")),
    chart({ title: say("lesson 5 chart"), xTitle: say("lag"), yTitle: say("gradient norm"), logY: true, series: flows(M.name) }),
    cutOff(), lookingBack("gradient attention"),
    paragraph("lesson 5 numbers", { ...decays, ...when, at }),
    fadeAsFast ? question("lesson 5 why", "lesson 5 because") : null,
    question("lesson 5 ask", IS_GATED ? "lesson 5 answer" : "lesson 5 answer rnn"));
}

/** How much context the model uses. */
function reach() {
  const { dropped, dropped_error, full_at } = D.context, found = reachOf(), last = measured().at(-1) ?? { length: 0, bits: null, error: null };
  const one = withError(dropped[0], dropped_error[0], 2);
  return block("lesson 6 title", paragraph("lesson 6", { one, full: number(full_at[0], 2) }),
    found === null ? paragraph("lesson 6 beyond", { last: count(last.length), left: withError(last.bits, last.error, 2) })
      : paragraph(found.length === 1 ? "lesson 6 reach one" : "lesson 6 reach", { reach: count(found.length), bits: number(found.limit, 2) }),
    make("p", {}, say("lesson 6 link"), make("a", { href: "#memory" }, say("memory title"))));
}
