// Writes text with a packed model: one token at a time, without a server. The page uses it in a Worker:
//
//   const writer = await Writer.load(bytes, { wasm: true });
//   writer.begin({ prompt: "It was a", seed: 7, settings: { temperature: 0.7 } });
//   for (let token = writer.next(); ; token = writer.next()) { show(token.text); if (token.done) break; }
//
// The same model, seed, prompt and settings give the same text as `textgen sample --exact`.

import { exp } from "./arithmetic.js";
import { Constraints } from "./constraints.js";
import { Prefixes, chooseCut, logSoftmax } from "./healing.js";
import { Network } from "./network.js";
import { Packed } from "./packed.js";
import { Random } from "./random.js";
import { Candidates, Chain } from "./samplers.js";
import { Ending } from "./stopping.js";
import { StreamDecoder, Tokenizer, endsInSpace, wellFormed } from "./tokenizer.js";
import { Characters } from "./utf8.js";
import { Letters, WordFilter, WordTokens } from "./word_guard.js";

/**
 * A token that was written.
 * @typedef {object} Token
 * @property {number} id
 * @property {string} text That is certain now, which may be more or less than the token's own.
 * @property {number} probability Under the model alone, before any setting of the samplers.
 * @property {{id: number, text: string, probability: number}[]} top The likeliest tokens there, likeliest first.
 * @property {boolean} done Whether the text ends with it.
 * @property {""|"end"|"length"|"stop"|"until"|"blocked"} reason Why: the end of the document, as many tokens as it may
 *   have, a stop text, a sentence, line or paragraph, or constraints that left no token.
 */

/** One text at a time. */
export class Writer {
  /**
   * @param {Uint8Array} bytes A packed model.
   * @param {{wasm?: boolean}} how Whether to use WebAssembly, where it is to be had.
   * @returns {Promise<Writer>}
   */
  static async load(bytes, { wasm = true } = {}) {
    const packed = new Packed(bytes);
    const { card, network, vocabulary, settings } = packed.header;
    const writer = new Writer();
    const tokenizer = new Tokenizer(vocabulary, packed.numbers(Float32Array, "scores"));
    const words = vocabulary.kind === "word" ? null : packed.arrays("words.safetensors");
    const alphabet = words && new Letters(packed.numbers(Uint32Array, "letters"));
    writer.tokenizer = tokenizer;
    writer.network = await Network.load(network, packed.arrays("model.safetensors").arrays, wasm);
    writer.characters = new Characters(tokenizer);
    writer.prefixes = new Prefixes(tokenizer);
    writer.words = words && new WordTokens(tokenizer, new WordFilter(words), alphabet);
    writer.candidates = new Candidates(tokenizer.size);
    writer.logits = new Float64Array(tokenizer.size); // those of the network, changed by what may not come
    /** The settings of the command line where none are given. */
    writer.defaults = settings;
    /** What the page says about the model. */
    writer.card = { ...card, labels: tokenizer.labels, vocabulary: tokenizer.size };
    /** Whether products are computed by WebAssembly. */
    writer.isSimd = writer.network.isSimd;
    return writer;
  }

  /**
   * Begins a text. It takes as long as reading the prompt; `prepare` and `read` do the same in parts.
   * @param {object} text
   * @param {string} [text.prompt]
   * @param {number|bigint|string} [text.seed] A whole number from 0 to 2^63 - 1.
   * @param {string|null} [text.label] Of the document.
   * @param {object} [text.settings] Of textgen's SamplingConfig; those left out are the defaults of the command line.
   * @param {number} [text.top] How many of the likeliest tokens `next` tells.
   * @returns {{healed: string, isAltered: boolean}} The end of the prompt that the first token writes again; whether the
   *   prompt had halves of surrogate pairs, which became U+FFFD.
   */
  begin(text = {}) {
    this.prepare(text);
    this.read();
    const { prompt = "" } = text;
    return { healed: this.healedText, isAltered: wellFormed(prompt) !== prompt };
  }

  /**
   * Begins a text like `begin`, but leaves it to `read` to read the prompt.
   * @param {object} text As for `begin`.
   */
  prepare({ prompt = "", seed = 0, label = null, settings = {}, top = 0 } = {}) {
    const { tokenizer, network, characters } = this;
    this.settings = { ...this.defaults, ...settings };
    this.topCount = top;
    this.chain = new Chain(this.settings, tokenizer, this.candidates);
    this.constraints = new Constraints(this.settings, tokenizer, characters, this.words);
    this.random = new Random(seed);
    const opening = tokenizer.opening(label);
    const promptIds = tokenizer.encode(prompt);
    this.state = network.initialState();
    const covers = this.settings.heal ? this.prefixes.covers(promptIds) : [];
    const ids = [...opening, ...promptIds];
    const shared = ids.length - covers.length; // tokens that stay in any case
    this.reading = { prompt, seed, covers, ids, shared, at: 0 };
    this.written = 0;
    this.done = false;
  }

  /**
   * Reads the prompt of a text that was prepared, or goes on with it.
   * @param {() => boolean} isTime Whether it is time for something else, asked after each token.
   * @returns {boolean} Whether the whole prompt is read, so that `next` can be called.
   */
  read(isTime = () => false) {
    if (!this.reading) return true;
    const { tokenizer, network, characters, reading } = this;
    const { prompt, seed, covers, ids, shared } = reading;
    while (reading.at < shared - 1) {
      network.read(ids[reading.at++], this.state);
      if (isTime()) return false;
    }
    this.reading = null;
    const cut = covers.length ? this.heal(ids, shared, covers, new Random(seed, 1)) : 0;
    const kept = ids.slice(0, shared + cut);
    this.last = kept.at(-1); // which the network has yet to read
    const own = kept.slice(1); // of the document
    this.character = characters.stateAfter(own);
    this.constraints.read(own);
    this.chain.read(own);
    this.decoder = new StreamDecoder(tokenizer, prompt ? endsInSpace(prompt) : true);
    /** The end of the prompt that the first token writes again. */
    this.healedText = tokenizer.decode(ids.slice(kept.length));
    this.healed = [...this.healedText].length; // characters
    this.ending = new Ending(this.settings.stop, this.settings.until, prompt);
    return true;
  }

  /** @returns {Token} The next token of the text. */
  next() {
    if (this.done) throw new Error("The text has ended.");
    const { network, tokenizer, characters, constraints, logits } = this;
    network.step(this.last, this.state);
    logits.set(network.logits);
    characters.mask(logits, this.character);
    const isActive = constraints.active;
    if (isActive) constraints.apply(logits);
    const isBlocked = isActive && !logits.some((logit) => logit > -Infinity);
    if (isBlocked) logits[tokenizer.endOfDocument] = 0;
    const id = this.chain.draw(logits, this.random);
    if (isActive) constraints.accept(id);
    this.character = characters.after(this.character, id);
    this.last = id;
    return { id, ...this.told(id, isBlocked), ...this.probabilities(id) };
  }

  /** @returns {object} A place in the text, to return to by `restore`. */
  fork() {
    const { last, character, written, healed, done } = this;
    return {
      last, character, written, healed, done,
      state: this.state.slice(), drawn: this.random.drawn, decoder: this.decoder.fork(), ending: this.ending.fork(),
      constraints: this.constraints.fork(), chain: this.chain.fork(),
    };
  }

  /** @param {object} place What `fork` returned for the present text; it may be used several times. */
  restore(place) {
    const { last, character, written, healed, done } = place;
    Object.assign(this, { last, character, written, healed, done });
    this.state.set(place.state);
    this.random.drawn = place.drawn;
    this.decoder = place.decoder.fork();
    this.ending = place.ending.fork();
    this.constraints = place.constraints.fork();
    this.chain.restore(place.chain);
  }

  /**
   * @private Decides where the prompt is cut: see `healing.js`.
   * @param {number[]} ids The whole prompt, of which the network has read all but the last of the shared tokens.
   * @param {number} shared
   * @param {number[][]} covers
   * @param {Random} random
   * @returns {number} How many tokens are kept besides those that are shared; the network has read all but the last.
   */
  heal(ids, shared, covers, random) {
    const { network } = this;
    const possible = covers.map((cover, kept) => this.possible(ids.slice(1, shared + kept), cover));
    const [states, logProbs] = [[this.state.slice()], []];
    for (let end = shared; end < ids.length; end++) {
      network.step(ids[end - 1], this.state);
      const logits = network.logits.slice();
      this.constraints.addBiases(logits, ids.slice(1, end));
      logProbs.push(logSoftmax(logits));
      states.push(this.state.slice());
    }
    const cut = chooseCut(logProbs, ids.slice(shared), possible, this.chain.cutTemperature, random.next());
    if (cut < covers.length) this.constraints.allowed = possible[cut];
    this.state.set(states[cut]);
    return cut;
  }

  /** @private The candidates that constraints allow as the first token after a prompt. */
  possible(ids, candidates) {
    const constraints = this.constraints.fork();
    if (!constraints.active) return candidates;
    constraints.read(ids);
    const logits = this.logits.fill(0);
    this.characters.mask(logits, this.characters.stateAfter(ids));
    constraints.apply(logits);
    return candidates.filter((id) => logits[id] > -Infinity);
  }

  /** @private The text of a token, and whether the whole text ends with it. */
  told(id, isBlocked) {
    const decoded = this.decoder.feed(id);
    let text = this.ending.feed(this.written ? decoded : [...decoded].slice(this.healed).join(""));
    this.written++;
    let reason = this.ending.reason || (isBlocked ? "blocked" : this.limit(id));
    if (reason) {
      text += this.ending.flush(); // without a character that a limit has cut in two
      reason = this.ending.reason || reason;
    }
    this.done = reason !== "";
    return { text, done: this.done, reason };
  }

  /** @private Why the text ends with a token, by itself; empty if it does not. */
  limit(id) {
    if (id === this.tokenizer.endOfDocument) return "end";
    return this.written >= this.settings.max_tokens ? "length" : "";
  }

  /** @private The probability of a token, and the likeliest ones, under the network alone. */
  probabilities(id) {
    const { logits } = this.network;
    let highest = -Infinity;
    for (let v = 0; v < logits.length; v++) if (logits[v] > highest) highest = logits[v];
    let total = 0;
    for (let v = 0; v < logits.length; v++) total += exp(logits[v] - highest);
    const probability = (v) => exp(logits[v] - highest) / total;
    const top = likeliest(logits, this.topCount).map((v) => ({ id: v, text: this.shown(v), probability: probability(v) }));
    return { probability: probability(id), top };
  }

  /** @private How a token is shown to people. */
  shown(id) {
    const { tokenizer } = this;
    if (id === tokenizer.endOfDocument) return "<eos>";
    return tokenizer.texts[id] ?? `<0x${(id - tokenizer.firstByte).toString(16).toUpperCase()}>`;
  }
}

/** The ids of the highest logits, highest first. */
function likeliest(logits, count) {
  const best = [];
  for (let id = 0; id < logits.length; id++) {
    if (best.length === count && !(logits[id] > logits[best.at(-1)])) continue;
    let at = best.length;
    while (at > 0 && logits[id] > logits[best[at - 1]]) at--;
    best.splice(at, 0, id);
    if (best.length > count) best.pop();
  }
  return best;
}
