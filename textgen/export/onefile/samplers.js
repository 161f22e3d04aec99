// Logits to the next token: the chain of samplers, the random draw; as the exact engine in Python, to the last bit.
//
// All sums are taken in the ascending order of token ids, or in sorted order where a filter sorts: likeliest first, of
// equally likely tokens the lowest id first.

import { exp, log } from "./arithmetic.js";

/** The tokens that may come next, in the ascending order of their ids, in buffers that are used again and again. */
export class Candidates {
  /** @param {number} size Number of tokens in the vocabulary. */
  constructor(size) {
    this.ids = new Int32Array(size);
    this.logits = new Float64Array(size);
    this.sums = new Float64Array(size);
    this.order = new Uint32Array(size);
    this.count = 0;
  }

  /** @param {Float64Array} logits Of all tokens; -Infinity where one is impossible. */
  load(logits) {
    this.count = 0;
    for (let id = 0; id < logits.length; id++) {
      if (logits[id] === -Infinity) continue;
      this.ids[this.count] = id;
      this.logits[this.count++] = logits[id];
    }
  }

  /** @returns {number} The highest logit. */
  highest() {
    let highest = -Infinity;
    for (let at = 0; at < this.count; at++) if (this.logits[at] > highest) highest = this.logits[at];
    return highest;
  }

  /** @param {number} floor Keeps the tokens whose logit is at least this. */
  keepFrom(floor) {
    let kept = 0;
    for (let at = 0; at < this.count; at++) {
      if (!(this.logits[at] >= floor)) continue;
      this.ids[kept] = this.ids[at];
      this.logits[kept++] = this.logits[at];
    }
    this.count = kept;
  }

  /** @returns {Uint32Array} Places of the candidates, likeliest first. */
  sorted() {
    const { logits } = this;
    const order = this.order.subarray(0, this.count);
    for (let at = 0; at < this.count; at++) order[at] = at;
    return order.sort((a, b) => logits[b] - logits[a] || a - b);
  }
}

/**
 * The samplers by name. Each changes the candidates; its settings are those of textgen's SamplingConfig.
 * @type {Object<string, (candidates: Candidates, settings: object) => void>}
 */
const FILTERS = {
  top_k(candidates, { top_k }) {
    if (top_k <= 0 || top_k >= candidates.count) return;
    candidates.keepFrom(candidates.logits[candidates.sorted()[top_k - 1]]);
  },

  top_p(candidates, { top_p }) {
    if (top_p >= 1) return;
    const order = candidates.sorted();
    const highest = candidates.logits[order[0]];
    let sum = 0;
    for (const [rank, at] of order.entries()) {
      sum += exp(candidates.logits[at] - highest);
      candidates.sums[rank] = sum;
    }
    let last = 0;
    while (last < order.length - 1 && !(candidates.sums[last] > top_p * sum)) last++;
    candidates.keepFrom(candidates.logits[order[last]]);
  },

  min_p(candidates, { min_p }) {
    if (min_p > 0) candidates.keepFrom(candidates.highest() + log(min_p));
  },

  temperature(candidates, { temperature }) {
    if (temperature === 0) {
      const highest = candidates.highest();
      candidates.keepFrom(highest);
      candidates.count = 1;
      return;
    }
    for (let at = 0; at < candidates.count; at++) candidates.logits[at] /= temperature;
  },
};

/** Draws the tokens of one text. */
export class Chain {
  /**
   * @param {object} settings Those of textgen's SamplingConfig.
   * @param {number} size Number of tokens in the vocabulary.
   */
  constructor(settings, size) {
    this.settings = settings;
    this.names = settings.samplers.split(/[;,]/).map((name) => name.trim().replaceAll("-", "_")).filter((name) => name);
    const unknown = this.names.find((name) => !SAMPLERS.includes(name));
    if (unknown) throw new Error(`There is no sampler ${unknown}.`);
    this.candidates = new Candidates(size);
  }

  /**
   * @param {Float64Array} logits
   * @param {import("./random.js").Random} random
   * @returns {number} A token.
   */
  draw(logits, random) {
    const { candidates, settings } = this;
    candidates.load(logits);
    for (const name of this.names) FILTERS[name]?.(candidates, settings);
    return drawn(candidates, random.next());
  }
}

const SAMPLERS = [
  "penalties", "dry", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "epsilon_cutoff", "eta_cutoff", "xtc",
  "temperature",
];

/**
 * A draw by inversion of the cumulative distribution.
 * @param {Candidates} candidates
 * @param {number} uniform A random number in [0, 1).
 * @returns {number} A token.
 */
function drawn({ ids, logits, sums, count }, uniform) {
  let highest = -Infinity;
  for (let at = 0; at < count; at++) if (logits[at] > highest) highest = logits[at];
  let sum = 0;
  for (let at = 0; at < count; at++) {
    sum += exp(logits[at] - highest);
    sums[at] = sum;
  }
  const threshold = uniform * sum;
  let at = 0;
  while (at < count - 1 && !(sums[at] > threshold)) at++;
  return ids[at];
}
