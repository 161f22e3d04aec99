// How far back the model looks: the loss against the context, and the gradient.

import { chart } from "./charts.js";
import { make, paragraph, section, soft, table } from "./elements.js";
import { D, IS_RELU, M, cellName } from "./inspection.js";
import { count, number, withError } from "./numbers.js";
import { isChinese, say } from "./words.js";

export const LITTLE = 0.05; // bits per token: a smaller loss does not count as useful context, however exactly it was measured

/** The lengths of context at which something was measured, each with the bits lost there and what counts as nothing. */
export const measured = () => D.context.lengths
  .map((length, at) => ({ length, bits: D.context.dropped[at], error: D.context.dropped_error[at] }))
  .filter(({ bits }) => bits !== null)
  .map((one) => ({ ...one, limit: Math.max(LITTLE, 2 * one.error) })); // an error of null, which is unknown, counts as 0

/** The first length from which less than the limit is missing, and the largest limit; null if more is missing to the end. */
export function reachOf() {
  const all = measured(), at = all.findIndex((_, from) => all.slice(from).every(({ bits, limit }) => bits < limit));
  return at < 0 ? null : { length: all[at].length, limit: Math.max(...all.slice(at).map(({ limit }) => limit)) };
}

export function memorySection() {
  const { lengths, dropped, dropped_error, num_shuffled, shuffled, difference_error, places, full } = D.context;
  const errors = dropped_error.filter((error) => error !== null), difference = (at) =>
    (dropped[at] === null || shuffled[at] === null ? null : shuffled[at] - dropped[at]);
  const series = [{ name: say("dropped"), x: lengths, y: dropped }, { name: say("shuffled", { number: num_shuffled }), x: lengths, y: shuffled }];
  const columns = [
    { name: series[0].name, texts: dropped.map((bits, at) => withError(bits, dropped_error[at])) },
    { name: series[1].name, texts: shuffled.map((bits) => number(bits)) },
    { name: say("difference"), texts: lengths.map((_, at) => withError(difference(at), difference_error[at])) },
    { name: say("tokens measured"), texts: places.map(count) },
  ];
  const measurement = { places: count(places.reduce((sum, here) => sum + here, 0)), number: num_shuffled, full: number(full, 3) };
  const parts = [paragraph("memory help", measurement),
    errors.length ? paragraph("memory error", { low: number(Math.min(...errors)), high: number(Math.max(...errors)) }) : null,
    chart({ title: say("memory chart"), xTitle: say("context tokens"), yTitle: say("bits lost"), logX: true, series, columns })];
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
    .map(([name, flow]) => line(say("untrained", { cell: say(IS_RELU && name === "rnn" ? "untrained rnn relu" : `untrained ${name}`) }), flow.norms))];
}

/** Where the last training cut the gradient, which the curves do not show; null if that is not known. */
export function cutOff() {
  const { window, started_from: start } = D.gradient;
  if (window === null) return null;
  return paragraph(start === null ? "gradient window" : "gradient window last", { window: count(window), start });
}

export function gradientSection() {
  const series = flows(`${M.name} (${M.cell_name})`);
  return section("gradient", "gradient title", paragraph("gradient help"),
    chart({ title: say("gradient chart"), xTitle: say("lag"), yTitle: say("gradient norm"), logY: true, series }),
    cutOff(), M.attention ? paragraph("gradient attention", { attention: M.attention }) : null, soft("gradient note"));
}
