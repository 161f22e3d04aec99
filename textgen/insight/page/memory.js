// How far back the model looks: the loss against the context, and the gradient.

import { chart } from "./charts.js";
import { make, paragraph, section, soft, table } from "./elements.js";
import { D, M, cellName } from "./inspection.js";
import { number } from "./numbers.js";
import { isChinese, say } from "./words.js";

export const NOISE = 0.05; // bits a token: smaller differences of the loss say nothing, since few places are measured

/** The lengths of context at which something was measured, each with the bits lost there. */
export const measured = () => D.context.lengths.map((length, at) => [length, D.context.dropped[at]]).filter(([, bits]) => bits !== null);

/** The first length of context from which less than that is missing; null if more is missing at the longest one. */
export function reachOf() {
  const found = measured().find((_, at, all) => all.slice(at).every(([, bits]) => bits < NOISE));
  return found ? found[0] : null;
}

export function memorySection() {
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
      table([{ text: say("layer") }, ...[10, 50, 90, 99].map((share) => ({ text: `${share}${isChinese() ? "%" : " %"}`, n: true })), { text: say("longest") }], rows));
  } else parts.push(soft("half-life none", { cell: M.cell_name }));
  return section("memory", "memory title", parts);
}

/** Norms as shares of the largest; those too small to matter are left out. */
export const relative = (norms) => norms.map((norm) => norm / Math.max(...norms)).map((share) => (share < 1e-12 ? NaN : share));

export function gradientSection() {
  const lags = (values) => values.map((_, lag) => lag);
  const series = [{ name: `${M.name} (${M.cell_name})`, x: lags(D.gradient.model), y: relative(D.gradient.model) },
    ...Object.entries(D.gradient.untrained).map(([cell, flow]) => ({ name: say("untrained", { cell: cell.toUpperCase() }), x: lags(flow.norms), y: relative(flow.norms) }))];
  return section("gradient", "gradient title", paragraph("gradient help"),
    chart({ title: say("gradient chart"), xTitle: say("lag"), yTitle: say("gradient norm"), logY: true, series }), soft("gradient note"));
}
