// Token healing: a prompt that ends inside a token is continued as if that token had been encoded whole, as
// textgen.generation.token_healing. Its last tokens are taken back, and the first token drawn begins with their text.

import { exp, log } from "./arithmetic.js";
import { firstAbove } from "./samplers.js";
import { bytesAsString } from "./utf8.js";

const MIN_TEMPERATURE = 1e-6; // a temperature above 0 and below it counts as this

/** Finds the tokens that begin with given bytes. */
export class Prefixes {
  /** @param {import("./tokenizer.js").Tokenizer} tokenizer */
  constructor(tokenizer) {
    /** The bytes of each token as a string of characters from 0 to 255. */
    this.texts = tokenizer.pieceBytes.map(bytesAsString);
    const special = new Set([...tokenizer.neverWritten, tokenizer.endOfDocument]);
    const ids = tokenizer.kind === "word" ? [] : [...this.texts.keys()].filter((id) => !special.has(id));
    const { texts } = this;
    this.ids = ids.sort((a, b) => (texts[a] < texts[b] ? -1 : texts[a] > texts[b] ? 1 : a - b));
    this.longest = this.ids.reduce((longest, id) => Math.max(longest, texts[id].length), 0);
  }

  /**
   * @param {number[]} ids Of a prompt.
   * @returns {number[][]} For its last k tokens those that cover all of them, all but the first, and so on; k is as
   *   large as possible.
   */
  covers(ids) {
    const covers = [];
    let text = "";
    for (let at = ids.length - 1; at >= 0; at--) {
      const own = this.texts[ids[at]];
      text = own + text;
      if (!own || text.length >= this.longest || text.includes("\n")) break;
      covers.push(this.longer(text));
    }
    while (covers.length && !covers.at(-1).length) covers.pop();
    return covers.reverse();
  }

  /** @returns {number[]} The tokens that begin with a text and go on. */
  longer(prefix) {
    let at = this.firstFrom(prefix + "\0");
    const found = [];
    while (at < this.ids.length && this.texts[this.ids[at]].startsWith(prefix)) found.push(this.ids[at++]);
    return found;
  }

  /** @private The first place of a text that is not before another. */
  firstFrom(text) {
    let [low, high] = [0, this.ids.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.texts[this.ids[middle]] < text) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * Log probabilities in nats.
 * @param {Float64Array} logits
 * @returns {Float64Array}
 */
export function logSoftmax(logits) {
  let highest = -Infinity;
  for (const logit of logits) if (logit > highest) highest = logit;
  let sum = 0;
  for (const logit of logits) sum += exp(logit - highest);
  const logSum = log(sum);
  return logits.map((logit) => logit - highest - logSum);
}

/**
 * Chooses how many of the last tokens of a prompt to keep.
 * @param {Float64Array[]} logProbs At the places of `ids`, with the biases.
 * @param {number[]} ids The last k tokens of the prompt.
 * @param {number[][]} covers The tokens that cover all of them, all but the first, and so on.
 * @param {number} temperature That of `Chain.cutTemperature`.
 * @param {number} uniform A random number in [0, 1).
 * @returns {number} From 0 to k, which keeps all.
 */
export function chooseCut(logProbs, ids, covers, temperature, uniform) {
  const masses = [];
  let kept = 0; // log probability of the tokens that are kept
  for (const [number, cover] of covers.entries()) {
    const inside = [...cover].sort((a, b) => a - b).map((id) => logProbs[number][id]);
    masses.push(cover.length ? kept + logSum(inside) : -Infinity);
    kept += logProbs[number][ids[number]];
  }
  masses.push(kept);
  const highest = highestOf(masses);
  if (temperature === 0) return masses.indexOf(highest);
  const divisor = Math.max(temperature, MIN_TEMPERATURE);
  const weights = Float64Array.from(masses, (mass) => (mass > -Infinity ? exp((mass - highest) / divisor) : 0));
  return firstAbove(weights, weights.length, uniform);
}

/** The highest number of an array of any length: a function takes only so many arguments. */
function highestOf(numbers) {
  return numbers.reduce((highest, number) => Math.max(highest, number), -Infinity);
}

/** The log of the sum of probabilities, which are added in the ascending order of the tokens. */
function logSum(logProbs) {
  const highest = highestOf(logProbs);
  return highest + log(logProbs.reduce((sum, logProb) => sum + exp(logProb - highest), 0));
}
