// The token, the cell and the range that are chosen, and who shows them.

import { D, N, SHOWN, indexOf } from "./inspection.js";

const firstCell = D.cells.find((finding) => finding.is_found) || SHOWN[0];
export const now = { token: D.lesson ? D.lesson.step : Math.min(40, N - 1), cell: indexOf(firstCell), colour: "cell", from: null, to: null };
const watchers = [];
export function choose(change) {
  Object.assign(now, change);
  for (const watcher of watchers) watcher(change);
}
export const watch = (watcher) => { watchers.push(watcher); watcher(now); };

/** Forgets who watches, before the page is drawn anew. */
export function unwatch() {
  watchers.length = 0;
}
