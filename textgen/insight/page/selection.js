// Cells by selection: those that stand out in a range of the text, and other passages like it.

import { choose, now, watch } from "./choice.js";
import { make, soft, table } from "./elements.js";
import { D, N, cellName, cellOf, statesOf, textOf } from "./inspection.js";
import { count, number, signed } from "./numbers.js";
import { say } from "./words.js";

export function rangePanel() {
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

export function cellButton(index) {
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
