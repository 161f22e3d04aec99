// Logits to the next token: the chain of samplers, the random draw. They are those of the exact engine in Python,
// textgen.generation.sampling.exact_chain, to the last bit, which also says what each of them does.
//
// Sums go in the ascending order of the token ids, or in sorted order where a filter sorts: the likeliest first.

import { exp, log } from "./arithmetic.js";
import { bytesAsString } from "./utf8.js";

const LN2 = 0.6931471805599453;
const MIN_PROBABILITY = 1e-38; // probabilities below it count as this, so that they have a logarithm
const MIN_TEMPERATURE = 1e-6; // a temperature above 0 and below it counts as this
const MIN_LOG_PROBABILITY = -1e4; // of a probability, in an entropy
const MAX_PENALTY = 1e6; // nats
const ZIPF_TOKENS = 100; // likeliest tokens from which mirostat 1 estimates how steeply probabilities fall

/** The tokens that may come next, in the ascending order of their ids, in buffers that are used again and again. */
export class Candidates {
  /** @param {number} size Number of tokens in the vocabulary. */
  constructor(size) {
    this.vocabulary = size;
    this.ids = new Int32Array(size);
    this.logits = new Float64Array(size);
    this.count = 0;
    this.weights = new Float64Array(size); // of a filter
    this.keys = new Float64Array(size);
    this.order = new Uint32Array(size);
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

  /** @returns {number} log(sum of exp(logit - highest)); a log probability is logit - highest - this. */
  logTotal() {
    const highest = this.highest();
    let sum = 0;
    for (let at = 0; at < this.count; at++) sum += exp(this.logits[at] - highest);
    return log(sum);
  }

  /** @returns {number} The entropy in nats. */
  entropy() {
    const [highest, logTotal] = [this.highest(), this.logTotal()];
    let sum = 0;
    for (let at = 0; at < this.count; at++) {
      const logP = Math.max(this.logits[at] - highest - logTotal, MIN_LOG_PROBABILITY);
      sum += exp(logP) * logP;
    }
    return 0 - sum;
  }

  /** @returns {Float64Array} The logits, highest first. */
  descending() {
    const sorted = this.keys.subarray(0, this.count);
    for (let at = 0; at < this.count; at++) sorted[at] = -this.logits[at];
    sorted.sort();
    for (let at = 0; at < this.count; at++) sorted[at] = -sorted[at];
    return sorted;
  }

  /** @returns {number} The place of a token; -1 if it is not there. */
  placeOf(id) {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ids[middle] < id) low = middle + 1;
      else high = middle;
    }
    return low < this.count && this.ids[low] === id ? low : -1;
  }

  /** @param {(at: number) => boolean} isKept Tells for each place whether its token stays. */
  keep(isKept) {
    let kept = 0;
    for (let at = 0; at < this.count; at++) {
      if (!isKept(at)) continue;
      this.ids[kept] = this.ids[at];
      this.logits[kept++] = this.logits[at];
    }
    this.count = kept;
  }

  /** @param {number} floor Keeps the tokens whose logit is at least this, and always the likeliest. */
  keepAbove(floor) {
    const least = Math.min(floor, this.highest());
    const { ids, logits } = this;
    let kept = 0;
    for (let at = 0; at < this.count; at++) {
      if (logits[at] < least) continue;
      ids[kept] = ids[at];
      logits[kept++] = logits[at];
    }
    this.count = kept;
  }

  /** @param {number} at Keeps the token in this place alone. */
  keepOne(at) {
    this.ids[0] = this.ids[at];
    this.logits[0] = this.logits[at];
    this.count = 1;
  }

  /**
   * A draw by inversion of the cumulative distribution.
   * @param {number} uniform A random number in [0, 1).
   * @returns {number} The token's id.
   */
  drawn(uniform) {
    const highest = this.highest();
    for (let at = 0; at < this.count; at++) this.weights[at] = exp(this.logits[at] - highest);
    return this.ids[firstAbove(this.weights, this.count, uniform)];
  }
}

/**
 * @param {Float64Array} weights Changed into their cumulative sums.
 * @param {number} count How many of them count.
 * @param {number} fraction
 * @returns {number} The first place at which the cumulative sum exceeds a fraction of the whole; the last if none does.
 */
export function firstAbove(weights, count, fraction) {
  let sum = 0;
  for (let at = 0; at < count; at++) {
    sum += weights[at];
    weights[at] = sum;
  }
  const threshold = fraction * sum;
  for (let at = 0; at < count; at++) if (weights[at] > threshold) return at;
  return count - 1;
}

/** x^y for numbers of at least 0. */
function power(x, y) {
  if (y === 0) return 1;
  return x < 2 ** -1022 ? 0 : exp(y * log(x));
}

// === The samplers: each changes the candidates. `text` is the chain with what it remembers of the text ===

function penalties(candidates, { repeat_penalty, presence_penalty, frequency_penalty, repeat_last_n }, text) {
  const counts = new Map();
  for (const id of text.recent(repeat_last_n)) counts.set(id, (counts.get(id) ?? 0) + 1);
  for (const [id, count] of counts) {
    const at = candidates.placeOf(id);
    if (at < 0) continue;
    const value = candidates.logits[at];
    const scaled = value > 0 ? value / repeat_penalty : value * repeat_penalty;
    candidates.logits[at] = scaled - presence_penalty - frequency_penalty * count;
  }
}

function dry(candidates, { dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n }, text) {
  const tokens = text.recent(dry_penalty_last_n);
  for (const [id, length] of text.breakers.within(tokens, repetitions(tokens, text.breakers.tokens))) {
    const at = candidates.placeOf(id);
    if (at < 0 || length < Math.max(dry_allowed_length, 1)) continue;
    const exponent = log(dry_base) * (length - dry_allowed_length) + log(Math.max(dry_multiplier, MIN_PROBABILITY));
    candidates.logits[at] -= exp(Math.min(exponent, log(MAX_PENALTY)));
  }
}

/**
 * Earlier occurrences of the last tokens.
 * @param {Int32Array} tokens The newest last.
 * @param {Uint8Array} breakers 1 for the tokens that end a repetition.
 * @returns {Map<number, number>} The length of the longest one before each token that followed one.
 */
function repetitions(tokens, breakers) {
  const found = new Map();
  const backward = tokens.slice().reverse(); // a repetition is its beginning that comes again: the Z-algorithm
  const size = backward.length;
  const end = backward.findIndex((id) => breakers[id]);
  const most = end < 0 ? size : end;
  const lengths = new Int32Array(size);
  for (let at = 1, left = 0, right = 0; at < size; at++) {
    let length = at < right ? Math.min(lengths[at - left], right - at) : 0;
    while (at + length < size && backward[length] === backward[at + length]) length++;
    if (at + length > right) [left, right] = [at, at + length];
    lengths[at] = length;
    const following = backward[at - 1];
    if (!length || breakers[following]) continue;
    found.set(following, Math.max(Math.min(length, most), found.get(following) ?? 0));
  }
  return found;
}

function topNSigma(candidates, { top_n_sigma }) {
  const { logits, count } = candidates;
  const highest = candidates.highest();
  let sum = 0;
  for (let at = 0; at < count; at++) sum += logits[at] - highest;
  const mean = sum / count;
  let squares = 0;
  for (let at = 0; at < count; at++) {
    const deviation = logits[at] - highest - mean;
    squares += deviation * deviation;
  }
  candidates.keepAbove(highest - top_n_sigma * Math.sqrt(squares / count));
}

function topK(candidates, { top_k }) {
  if (top_k < candidates.count) candidates.keepAbove(candidates.descending()[top_k - 1]);
}

function typicalP(candidates, { typical_p }) {
  const { logits, count, keys, order, weights } = candidates;
  const [highest, logTotal, entropy] = [candidates.highest(), candidates.logTotal(), candidates.entropy()];
  for (let at = 0; at < count; at++) {
    order[at] = at;
    keys[at] = Math.abs(logits[at] - highest - logTotal + entropy); // distance from the entropy
  }
  const nearest = order.subarray(0, count).sort((a, b) => keys[a] - keys[b] || a - b);
  for (let rank = 0; rank < count; rank++) weights[rank] = exp(logits[nearest[rank]] - highest - logTotal);
  const farthest = keys[nearest[firstAbove(weights, count, typical_p)]];
  candidates.keep((at) => keys[at] <= farthest);
}

function topP(candidates, { top_p }) {
  const descending = candidates.descending();
  const highest = descending[0];
  for (let rank = 0; rank < descending.length; rank++) candidates.weights[rank] = exp(descending[rank] - highest);
  candidates.keepAbove(descending[firstAbove(candidates.weights, descending.length, top_p)]);
}

function minP(candidates, { min_p }) {
  candidates.keepAbove(candidates.highest() + log(Math.max(min_p, MIN_PROBABILITY)));
}

function cutOff(candidates, epsilon) {
  const least = Math.min(log(Math.max(epsilon, MIN_PROBABILITY)) + candidates.logTotal(), 0);
  candidates.keepAbove(least + candidates.highest());
}

function etaCutoff(candidates, { eta_cutoff }) {
  cutOff(candidates, Math.min(eta_cutoff, Math.sqrt(eta_cutoff) * exp(-candidates.entropy())));
}

function xtc(candidates, { xtc_probability, xtc_threshold }, { uniform }) {
  if (uniform >= xtc_probability) return;
  const { logits, count } = candidates;
  const [highest, logTotal] = [candidates.highest(), candidates.logTotal()];
  const least = log(Math.max(xtc_threshold, MIN_PROBABILITY));
  let lowest = Infinity; // of the likely ones
  for (let at = 0; at < count; at++) {
    if (logits[at] - highest - logTotal >= least) lowest = Math.min(lowest, logits[at]);
  }
  candidates.keep((at) => logits[at] <= lowest);
}

function temperature(candidates, { temperature: given, dynatemp_range, dynatemp_exponent }) {
  let t = given;
  if (dynatemp_range > 0) {
    const fraction = Math.min(Math.max(candidates.entropy() / log(Math.max(candidates.count, 2)), 0), 1);
    const [low, high] = [Math.max(t - dynatemp_range, 0), t + dynatemp_range];
    t = low + (high - low) * power(fraction, dynatemp_exponent);
  }
  if (t <= 0) {
    candidates.keepOne(candidates.logits.indexOf(candidates.highest()));
    return;
  }
  const divisor = Math.max(t, MIN_TEMPERATURE);
  for (let at = 0; at < candidates.count; at++) candidates.logits[at] /= divisor;
}

/** The samplers by name: their function, the values of settings that switch them off, whether mirostat replaces them. */
const SAMPLERS = {
  penalties: [penalties, { repeat_penalty: 1, presence_penalty: 0, frequency_penalty: 0 }, false],
  dry: [dry, { dry_multiplier: 0 }, false],
  top_n_sigma: [topNSigma, { top_n_sigma: 0 }, true],
  top_k: [topK, { top_k: 0 }, true],
  typical_p: [typicalP, { typical_p: 1 }, true],
  top_p: [topP, { top_p: 1 }, true],
  min_p: [minP, { min_p: 0 }, true],
  epsilon_cutoff: [(candidates, { epsilon_cutoff }) => cutOff(candidates, epsilon_cutoff), { epsilon_cutoff: 0 }, true],
  eta_cutoff: [etaCutoff, { eta_cutoff: 0 }, true],
  xtc: [xtc, { xtc_probability: 0 }, true],
  temperature: [temperature, { temperature: 1, dynatemp_range: 0 }, false],
};

/** Values of samplers with which only the likeliest token is left. */
const LIKELIEST = { top_k: 1, top_p: 0, min_p: 1, epsilon_cutoff: 1 };

// === Mirostat: it replaces all filters, and remembers a number mu of bits ===

function mirostat(candidates, version, mu) {
  if (version === 2) {
    candidates.keepAbove(candidates.highest() + Math.min(candidates.logTotal() - mu * LN2, 0));
    return;
  }
  const descending = candidates.descending();
  const k = zipfK(descending.subarray(0, ZIPF_TOKENS), mu, candidates.vocabulary);
  if (k < candidates.count) candidates.keepAbove(descending[k - 1]);
}

/** k of mirostat 1, from the highest logits. */
function zipfK(descending, mu, size) {
  let [products, squares] = [0, 0];
  for (let rank = 1; rank < descending.length; rank++) {
    const t = log((rank + 1) / rank);
    products += t * (descending[rank - 1] - descending[rank]);
    squares += t * t;
  }
  const s = Math.max(descending.length > 1 ? products / squares : 0, 1e-6);
  const e = Math.abs(s - 1) < 1e-6 ? 1e-6 : s - 1;
  const logK = (log(e / (1 - exp(-e * log(size)))) + mu * LN2) / s;
  return Math.min(Math.max(Math.floor(exp(Math.min(logK, log(2 * size)))), 1), size);
}

// === The chain ===

/** Draws the tokens of one text, and remembers what the samplers look back on. */
export class Chain {
  /**
   * @param {object} settings Those of textgen's SamplingConfig.
   * @param {import("./tokenizer.js").Tokenizer} tokenizer
   * @param {Candidates} candidates The buffers.
   */
  constructor(settings, tokenizer, candidates) {
    this.settings = settings;
    this.candidates = candidates;
    const names = settings.samplers.split(/[;,]/).map((name) => name.trim().replaceAll("-", "_")).filter(Boolean);
    const unknown = names.find((name) => !Object.hasOwn(SAMPLERS, name));
    if (unknown) throw new Error(`There is no sampler ${unknown}.`);
    this.names = names.filter((name) => isOn(name, settings));
    const looksBack = { penalties: settings.repeat_last_n, dry: settings.dry_penalty_last_n };
    this.width = Math.max(0, ...this.names.map((name) => looksBack[name] ?? 0));
    /** The last tokens, in a table of twice that width along which they move, so that few are copied. */
    this.history = new Int32Array(2 * this.width);
    this.end = this.length = 0; // of the history
    this.mu = 2 * settings.mirostat_tau; // bits
    this.uniform = 0; // for XTC
    this.breakers = this.names.includes("dry") ? new Breakers(settings.dry_sequence_breakers, tokenizer) : null;
  }

  /** @param {number[]} ids The tokens before the first draw. */
  read(ids) {
    for (const id of ids.slice(ids.length - Math.min(ids.length, this.width))) this.remember(id);
  }

  /**
   * @param {Float64Array} logits
   * @param {import("./random.js").Random} random
   * @returns {number} A token.
   */
  draw(logits, random) {
    const { candidates, settings } = this;
    if (this.names.includes("xtc")) this.uniform = random.next();
    candidates.load(logits);
    for (const name of this.names) SAMPLERS[name][0](candidates, settings, this);
    const id = settings.mirostat ? this.steered(random.next()) : candidates.drawn(random.next());
    this.remember(id);
    return id;
  }

  /** @returns {number} The temperature at which token healing chooses where a prompt is cut. */
  get cutTemperature() {
    const { names, settings } = this;
    if (names.some((name) => Object.hasOwn(LIKELIEST, name) && settings[name] === LIKELIEST[name])) return 0;
    return names.includes("temperature") ? settings.temperature : 1;
  }

  /** @returns {Int32Array} The last tokens, at most `number`, the newest last. */
  recent(number) {
    return this.history.subarray(this.end - Math.min(number, this.length), this.end);
  }

  /** @returns {object} What it remembers, for `restore`. */
  fork() {
    return { recent: this.recent(this.width).slice(), mu: this.mu };
  }

  /** @param {object} place What `fork` returned. */
  restore({ recent, mu }) {
    this.end = this.length = 0;
    this.read(Array.from(recent));
    this.mu = mu;
  }

  /** @private */
  remember(id) {
    if (!this.width) return;
    if (this.end === this.history.length) {
      this.history.copyWithin(0, this.end - this.width);
      this.end = this.width;
    }
    this.history[this.end++] = id;
    this.length = Math.min(this.length + 1, this.width);
  }

  /** @private A draw with mirostat. */
  steered(uniform) {
    const { candidates, settings } = this;
    const [highest, logTotal] = [candidates.highest(), candidates.logTotal()];
    mirostat(candidates, settings.mirostat, this.mu);
    const id = candidates.drawn(uniform);
    const bits = (logTotal - (candidates.logits[candidates.placeOf(id)] - highest)) / LN2;
    this.mu -= settings.mirostat_eta * (bits - settings.mirostat_tau);
    return id;
  }
}

/** Whether settings switch a sampler on. */
function isOn(name, settings) {
  const [, off, isReplaced] = SAMPLERS[name];
  return !(settings.mirostat && isReplaced) && Object.entries(off).some(([field, value]) => settings[field] !== value);
}

/** Texts that end a repetition. */
class Breakers {
  /**
   * @param {string[]} texts
   * @param {import("./tokenizer.js").Tokenizer} tokenizer
   */
  constructor(texts, tokenizer) {
    const parts = texts.map((text) => bytesAsString(new TextEncoder().encode(text)));
    /** The bytes of each token as a string of characters from 0 to 255. */
    this.pieces = tokenizer.pieceBytes.map(bytesAsString);
    /** 1 for the tokens that contain one of the texts. */
    this.tokens = Uint8Array.from(this.pieces, (piece) => (parts.some((part) => piece.includes(part)) ? 1 : 0));
    this.split = parts.filter((part) => part.length > 1); // which several tokens may spell
  }

  /**
   * @param {Int32Array} tokens
   * @param {Map<number, number>} found What `repetitions` found there.
   * @returns {Iterable<[number, number]>} What is left of it where texts that several tokens spell end a repetition.
   */
  within(tokens, found) {
    if (!this.split.length || !found.size) return found;
    const pieces = Array.from(tokens, (id) => this.pieces[id]);
    const written = pieces.join("");
    const since = this.tokensSince(pieces, written);
    const ends = this.split.map((text) => [text, written.slice(Math.max(written.length - text.length + 1, 0))]);
    const completes = (id) => ends.some(([text, end]) => (end + this.pieces[id]).includes(text));
    const left = Array.from(found, ([id, length]) => [id, Math.min(length, since)]);
    return left.filter(([id]) => !completes(id));
  }

  /** @private How many tokens come after the one with which the last of the texts ends; all if there is none. */
  tokensSince(pieces, written) {
    const end = this.split.reduce((last, text) => {
      const at = written.lastIndexOf(text);
      return at < 0 ? last : Math.max(last, at + text.length);
    }, 0);
    if (!end) return pieces.length;
    let [at, length] = [0, pieces[0].length];
    while (length < end) length += pieces[++at].length;
    return pieces.length - 1 - at;
  }
}
