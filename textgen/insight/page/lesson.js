// The lesson: one cell, one step, gate by gate.

import { chart } from "./charts.js";
import { make, paragraph, pre } from "./elements.js";
import { letters } from "./gates.js";
import { D, M, cellName, propertyName, textOf } from "./inspection.js";
import { NOISE, measured, reachOf, relative } from "./memory.js";
import { count, number, percent, round } from "./numbers.js";
import { shownPiece } from "./tokens.js";
import { say } from "./words.js";

export function lessonSection() {
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
