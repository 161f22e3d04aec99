// Lines over x, with a legend and their numbers as a table.

import { draw, make, table } from "./elements.js";
import { tickText } from "./numbers.js";
import { say } from "./words.js";

export const COLOURS = ["var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)", "var(--f)"];
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

const valuesOf = ({ name, y }) => ({ name, texts: y.map((value) => (Number.isFinite(value) ? tickText(+value.toPrecision(3)) : "–")) });

/** The width that a picture may take, so that its letters stay as large on a phone. */
const roomFor = (width) => Math.max(300, Math.min(width, document.documentElement.clientWidth - 36));

/**
 * Lines over x: series of {name, x, y}. What is below `low` is drawn there, and written as it is in the table, whose
 * columns {name, texts} are by default the values of the series.
 */
export function chart({
  title, series, columns = series.map(valuesOf), xTitle, yTitle, logX = false, logY = false, width = roomFor(640), height = 280,
  low = null, high = null,
}) {
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
    const points = one.x.map((x, at) => [x, one.y[at]]).filter(([, y]) => Number.isFinite(y))
      .map(([x, y]) => [x, low === null ? y : Math.max(y, low)]).filter(([, y]) => !logY || y > 0);
    parts.push(draw("polyline", { class: "line", stroke: COLOURS[which], "stroke-dasharray": DASHES[which],
      points: points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ") }));
  });
  const rows = series[0].x.map((x, at) => [tickText(x), ...columns.map((one) => one.texts[at])]);
  const numbers = make("details", {}, make("summary", { class: "soft" }, say("numbers")),
    table([{ text: xTitle, n: true }, ...columns.map((one) => ({ text: one.name, n: true }))], rows));
  return make("figure", {}, series.length > 1 ? legend(series.map((one) => one.name)) : null,
    draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title }, parts),
    make("figcaption", {}, title), rows.length > 1 ? numbers : null);
}
