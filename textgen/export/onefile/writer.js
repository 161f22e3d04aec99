// Writes text with a packed model: one token at a time, without a server. The page uses it in a Worker:
//
//   const writer = await Writer.load(bytes, { wasm: true });
//   writer.begin({ prompt: "It was a", seed: 7, settings: { temperature: 0.7 } });
//   for (let token = writer.next(); ; token = writer.next()) { show(token.text); if (token.done) break; }
//
// The same model, seed, prompt and settings give the same text as `textgen sample --exact`.

import { exp } from "./arithmetic.js";
import { Network } from "./network.js";
import { Packed } from "./packed.js";
import { Random } from "./random.js";
import { Chain } from "./samplers.js";
import { StreamDecoder, Tokenizer, endsInSpace } from "./tokenizer.js";
import { Characters } from "./utf8.js";

/**
 * A token that was written.
 * @typedef {object} Token
 * @property {number} id
 * @property {string} text That is certain now, which may be more or less than the token's own.
 * @property {number} probability Under the model alone, before any setting of the samplers.
 * @property {{id: number, text: string, probability: number}[]} top The likeliest tokens there, likeliest first.
 * @property {boolean} done Whether the text ends with it.
 * @property {""|"end"|"length"} reason Why: the end of the document, or as many tokens as it may have.
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
    writer.tokenizer = new Tokenizer(vocabulary, packed.floats("scores"));
    writer.network = await Network.load(network, packed.arrays("model.safetensors").arrays, wasm);
    writer.characters = new Characters(writer.tokenizer);
    writer.defaults = settings;
    writer.logits = new Float64Array(writer.tokenizer.size); // those of the network, changed by what may not come
    /** What the page says about the model. */
    writer.card = { ...card, labels: writer.tokenizer.labels, vocabulary: writer.tokenizer.size };
    /** Whether products are computed by WebAssembly. */
    writer.isSimd = writer.network.isSimd;
    return writer;
  }

  /**
   * Begins a text. It takes as long as reading the prompt.
   * @param {object} text
   * @param {string} [text.prompt]
   * @param {number|bigint|string} [text.seed] A whole number from 0 to 2^63 - 1.
   * @param {string|null} [text.label] Of the document.
   * @param {object} [text.settings] Of textgen's SamplingConfig; those left out are the defaults of the command line.
   * @param {number} [text.top] How many of the likeliest tokens `next` tells.
   */
  begin({ prompt = "", seed = 0, label = null, settings = {}, top = 0 } = {}) {
    const { tokenizer, network } = this;
    this.settings = { ...this.defaults, ...settings };
    this.topCount = top;
    this.chain = new Chain(this.settings, tokenizer.size);
    this.random = new Random(seed);
    const ids = [...tokenizer.opening(label), ...tokenizer.encode(prompt)];
    this.state = network.initialState();
    for (const id of ids.slice(0, -1)) network.read(id, this.state);
    this.last = ids.at(-1); // which the network has yet to read
    this.character = this.characters.stateAfter(ids.slice(1));
    this.decoder = new StreamDecoder(tokenizer, prompt ? endsInSpace(prompt) : true);
    this.written = 0;
    this.done = false;
  }

  /** @returns {Token} The next token of the text. */
  next() {
    if (this.done) throw new Error("The text has ended.");
    const { network, tokenizer, characters, logits } = this;
    network.step(this.last, this.state);
    logits.set(network.logits);
    characters.mask(logits, this.character);
    const id = this.chain.draw(logits, this.random);
    this.character = characters.after(this.character, id);
    this.last = id;
    this.written++;
    const reason = id === tokenizer.endOfDocument ? "end" : this.written >= this.settings.max_tokens ? "length" : "";
    this.done = reason !== "";
    return { id, text: this.decoder.feed(id), ...this.probabilities(id), done: this.done, reason };
  }

  /** @returns {object} A place in the text, to return to by `restore`. */
  fork() {
    const { last, character, written, done } = this;
    return {
      last, character, written, done,
      state: this.state.slice(), drawn: this.random.drawn, decoder: this.decoder.fork(),
    };
  }

  /** @param {object} place What `fork` returned; it may be used several times. */
  restore(place) {
    const { last, character, written, done } = place;
    Object.assign(this, { last, character, written, done });
    this.state.set(place.state);
    this.random.drawn = place.drawn;
    this.decoder = place.decoder.fork();
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
