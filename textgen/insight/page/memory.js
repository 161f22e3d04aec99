// How far back the model looks: the loss against the context, and the gradient.

import { chart } from "./charts.js";
import { make, paragraph, section, soft, table } from "./elements.js";
import { D, M, cellName } from "./inspection.js";
import { number } from "./numbers.js";
import { isChinese, say } from "./words.js";

export const NOISE = 0.05; // bits per token: smaller differences of the loss say nothing, since few places are measured

/** The lengths of context at which something was measured, each with the bits lost there. */
export const measured = () =>
  D.context.lengths.map((length, at) => [length, D.context.dropped[at]]).filter(([, bits]) => bits !== null);

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
      const sorted = [...lives].sort((a, b) => a - b), at = (fraction) => sorted[Math.round(fraction * (sorted.length - 1))];
      const longest = Math.max(...lives);
      return [`L${layer}`, ...[0.1, 0.5, 0.9, 0.99].map((fraction) => number(at(fraction), 1)),
        make("span", {}, cellName({ layer, unit: lives.indexOf(longest) }), ` ${number(longest, 1)}`)];
    });
    const percentiles = [10, 50, 90, 99].map((percentile) => ({ text: `${percentile}${isChinese() ? "%" : " %"}`, n: true }));
    parts.push(make("h3", {}, say("half-life title")), paragraph("half-life help", { gate: M.keeping_gate }),
      table([{ text: say("layer") }, ...percentiles, { text: say("longest") }], rows));
  } else parts.push(soft("half-life none", { cell: M.cell_name }));
  return section("memory", "memory title", parts);
}

/** Norms as fractions of the largest; those too small to matter are left out. */
const relative = (norms) => norms.map((norm) => norm / Math.max(...norms)).map((fraction) => (fraction < 1e-12 ? NaN : fraction));

/** The gradients of the model and of untrained networks over the lag, as lines of a chart. */
export function flows(model) {
  const line = (name, norms) => ({ name, x: norms.map((_, lag) => lag), y: relative(norms) });
  return [line(model, D.gradient.trained), ...Object.entries(D.gradient.untrained)
    .map(([name, flow]) => line(say("untrained", { cell: say(`untrained ${name}`) }), flow.norms))];
}

export function gradientSection() {
  const series = flows(`${M.name} (${M.cell_name})`);
  return section("gradient", "gradient title", paragraph("gradient help"),
    chart({ title: say("gradient chart"), xTitle: say("lag"), yTitle: say("gradient norm"), logY: true, series }), soft("gradient note"));
}
