// Constraints on one text, which change its logits before any sampler does, as
// textgen.generation.constraints.constraints: banned and required texts, biases, n-grams that must not recur, a minimum
// length, words that exist. Only `no_copy` is missing, since the page has no index of the training text.

import { bytesAsString } from "./utf8.js";
import { WordGuard } from "./word_guard.js";

const PULL = 20; // nats: the bias towards a token that would write all of a required text, after ...
const PULL_TOKENS = 400; // ... this number of tokens, or max_tokens if that is less; it goes on growing
const MAX_CHARACTER_BYTES = 4; // bytes
const HASH_BASE = 0x1b873593; // of the n-grams, modulo 2^32

/** The constraints on one text. */
export class Constraints {
  /**
   * @param {object} settings Those of textgen's SamplingConfig.
   * @param {import("./tokenizer.js").Tokenizer} tokenizer
   * @param {import("./utf8.js").Characters} characters
   * @param {import("./word_guard.js").WordTokens|null} words
   */
  constructor(settings, tokenizer, characters, words) {
    this.settings = settings;
    this.tokenizer = tokenizer;
    this.starts = characters.starts;
    /** If not empty, the only tokens that may come next. */
    this.allowed = [];
    this.drawn = 0;
    this.bans = settings.ban.map((text) => [new Phrase(text, tokenizer), 0]); // and its state
    this.missing = settings.require.map((text) => [new Phrase(text, tokenizer), 0]);
    this.spelled = []; // required tokens that must come next
    this.biases = settings.logit_bias.map((entry) => biasOf(entry, tokenizer));
    this.last = []; // tokens, as many as a bias looks back
    this.lookBack = this.biases.reduce((most, [ids]) => Math.max(most, ids.length - 1), 0);
    this.ngrams = settings.no_repeat_ngram_size ? new NGrams(settings.no_repeat_ngram_size) : null;
    const own = [...settings.require, ...this.biases.map(([ids]) => tokenizer.decode(ids))];
    this.guard = settings.coin_words || !words ? null : new WordGuard(words, own);
    this.check();
  }

  /** @returns {boolean} Whether there is anything to constrain. */
  get active() {
    const some = this.bans.length || this.missing.length || this.biases.length || this.allowed.length;
    return Boolean(some || this.ngrams || this.guard || this.settings.min_tokens);
  }

  /** @param {number[]} ids The tokens of the prompt. */
  read(ids) {
    this.bans = this.bans.map(([phrase, state]) => [phrase, phrase.follow(state, ids)]);
    this.remember(ids);
    this.guard?.read(ids);
  }

  /** @param {number} id A token that was generated. */
  accept(id) {
    this.drawn++;
    this.allowed = [];
    this.guard?.accept(id);
    this.bans = this.bans.map(([phrase, state]) => [phrase, phrase.follow(state, [id])]);
    const after = this.missing.map(([phrase, state]) => [phrase, phrase.after(state)[id]]);
    this.missing = after.filter(([phrase, state]) => state < phrase.length);
    this.remember([id]);
  }

  /** @returns {Constraints} A copy that can be continued with other tokens. */
  fork() {
    const twin = Object.assign(Object.create(Constraints.prototype), this); // other attributes are replaced, not changed
    twin.ngrams = this.ngrams?.fork() ?? null;
    twin.guard = this.guard?.fork() ?? null;
    return twin;
  }

  /** @param {Float64Array} logits Of the next token, changed in place. */
  apply(logits) {
    this.addBiases(logits, this.last);
    const pull = Math.fround((PULL * this.drawn) / Math.min(this.settings.max_tokens, PULL_TOKENS));
    for (const [phrase, state] of this.missing) {
      phrase.after(state).forEach((after, id) => {
        if (after) logits[id] += Math.fround(pull * Math.fround(after / phrase.length));
      });
    }
    if (this.missing.length || this.drawn < this.settings.min_tokens) logits[this.tokenizer.endOfDocument] = -Infinity;
    for (const [phrase, state] of this.bans) {
      phrase.after(state).forEach((after, id) => {
        if (after === phrase.length) logits[id] = -Infinity;
      });
    }
    for (const id of this.ngrams?.forbidden() ?? []) logits[id] = -Infinity;
    if (this.allowed.length) {
      const kept = this.allowed.map((id) => logits[id]);
      logits.fill(-Infinity);
      this.allowed.forEach((id, at) => { logits[id] = kept[at]; });
    }
    if (this.missing.length || this.spelled.length) this.spell(logits);
    this.guard?.apply(logits);
  }

  /**
   * @param {Float64Array} logits Of the token after others, changed in place.
   * @param {number[]} last These other tokens.
   */
  addBiases(logits, last) {
    for (const [ids, value] of this.biases) {
      if (ids.slice(0, -1).every((id, at) => last.at(at + 1 - ids.length) === id)) logits[ids.at(-1)] += value;
    }
  }

  /** @private Allows only the next token of the missing texts once there is room for nothing else. */
  spell(logits) {
    const needed = this.missing.reduce((sum, [phrase]) => sum + phrase.rest(0).length, 0);
    const spare = this.settings.max_tokens - this.drawn - needed;
    if (!this.missing.length || (spare > 0 && this.mayWait(logits, spare))) {
      this.spelled = [];
    } else if (!this.spelled.length) {
      const missing = [...this.missing].sort((a, b) => b[1] - a[1]); // first the one that is furthest advanced
      const wholes = missing.map(([phrase]) => phrase.rest(0));
      const rest = missing[0][0].rest(missing[0][1]);
      if (rest.length <= wholes[0].length) wholes[0] = rest;
      this.spelled = wholes.flat();
    }
    if (!this.spelled.length) return;
    const [id, ...others] = this.spelled;
    if (logits[id] === -Infinity) {
      this.spelled = [];
      return;
    }
    this.spelled = others;
    logits.fill(-Infinity);
    logits[id] = 0;
  }

  /** @private Whether another token may come before the missing texts; near the end one that begins no character. */
  mayWait(logits, spare) {
    if (spare >= MAX_CHARACTER_BYTES) return true;
    const kept = this.starts.map((id) => logits[id]);
    for (const id of this.starts) logits[id] = -Infinity;
    if (logits.some((logit) => logit > -Infinity)) return true;
    this.starts.forEach((id, at) => { logits[id] = kept[at]; });
    return false;
  }

  /** @private */
  remember(ids) {
    if (this.lookBack) this.last = [...this.last, ...ids].slice(-this.lookBack);
    if (this.ngrams) for (const id of ids) this.ngrams.append(id);
  }

  /** @private */
  check() {
    const { tokenizer, settings } = this;
    const texts = this.missing.map(([phrase]) => phrase);
    if (texts.some((phrase) => !phrase.rest(0).length || phrase.rest(0).includes(1))) {
      throw new Error("The model has no tokens that spell a required text.");
    }
    const needed = texts.reduce((sum, phrase) => sum + phrase.rest(0).length, 0);
    if (needed > settings.max_tokens) throw new Error(`The required texts take ${needed} tokens, more than max_tokens.`);
    const isVisible = (bytes, id) => bytes.length && !tokenizer.neverWritten.includes(id);
    const isFree = (id) => this.bans.every(([phrase]) => phrase.after(0)[id] < phrase.length);
    if (this.bans.length && !tokenizer.pieceBytes.some((bytes, id) => isVisible(bytes, id) && isFree(id))) {
      throw new Error("The banned texts leave no token to generate.");
    }
  }
}

/** A text, and how far each token advances what is written towards it: a state is a number of its bytes. */
class Phrase {
  /**
   * @param {string} text
   * @param {import("./tokenizer.js").Tokenizer} tokenizer
   */
  constructor(text, tokenizer) {
    if (!text) throw new Error("A banned or required text is empty.");
    this.text = text;
    this.tokenizer = tokenizer;
    this.bytes = bytesAsString(new TextEncoder().encode(text));
    this.length = this.bytes.length;
    this.afters = new Map();
  }

  /** @returns {Int32Array} The state after each token. */
  after(state) {
    if (!this.afters.has(state)) {
      const written = (piece) => this.written(state, piece);
      this.afters.set(state, Int32Array.from(this.tokenizer.pieceBytes, (piece) => this.advanced(written(piece))));
    }
    return this.afters.get(state);
  }

  /** @returns {number} The state after several tokens; a text that is complete is matched from its beginning again. */
  follow(state, ids) {
    for (const id of ids) {
      const after = this.after(state)[id];
      state = after < this.length ? after : this.longest(this.written(state, this.tokenizer.pieceBytes[id]));
    }
    return state;
  }

  /** @returns {number[]} Tokens that complete the text; all of its tokens if the state is inside a character. */
  rest(state) {
    const rest = Uint8Array.from(this.bytes.slice(state), (character) => character.charCodeAt(0));
    const isWhole = !rest.length || (rest[0] & 0xc0) !== 0x80;
    return this.tokenizer.encode(isWhole ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(rest) : this.text);
  }

  /** @private */
  advanced(written) {
    return written.includes(this.bytes) ? this.length : this.longest(written);
  }

  /** @private The end of the text after a token, as far as it matters. */
  written(state, piece) {
    const written = this.bytes.slice(0, state) + bytesAsString(piece);
    return this.tokenizer.kind === "word" ? written.replaceAll("\n ", "\n") : written; // as it decodes
  }

  /** @private The number of bytes at the end of `written` that begin the text, without being all of it. */
  longest(written) {
    for (let size = Math.min(written.length, this.length - 1); size > 0; size--) {
      if (this.bytes.startsWith(written.slice(-size))) return size;
    }
    return 0;
  }
}

/**
 * The n-grams of a text. The n - 1 tokens before the next one are looked up by their rolling hash (Karp & Rabin 1987),
 * and compared where a hash has come before.
 */
export class NGrams {
  /** @param {number} size */
  constructor(size) {
    this.width = size - 1;
    this.weight = 1; // of the token that leaves the run, in the hash
    for (let count = 0; count < this.width; count++) this.weight = Math.imul(this.weight, HASH_BASE);
    this.ids = [];
    this.hash = 0; // of the last run of n - 1 tokens, as are the next two
    this.key = 0; // the hash, or that plus a multiple of 2^32 where other runs have the same one
    this.end = -1; // where it ended when it came first; -1 while the text is too short
    /** @type {Map<number, number>} Where each run ended when it came first, by key. */
    this.ends = new Map();
    /** @type {Map<number, Set<number>>} The tokens that followed a run, but for the first time, by key. */
    this.others = new Map();
    if (!this.width) this.find();
  }

  append(id) {
    const { ids, width, end } = this;
    if (end >= 0 && end < ids.length && ids[end] !== id) {
      if (!this.others.has(this.key)) this.others.set(this.key, new Set());
      this.others.get(this.key).add(id);
    }
    ids.push(id);
    const leaving = ids.length > width ? ids.at(-1 - width) + 1 : 0;
    this.hash = (Math.imul(this.hash, HASH_BASE) + id + 1 - Math.imul(leaving, this.weight)) | 0;
    if (ids.length >= width) this.find();
  }

  /** @returns {number[]} The tokens that would complete an n-gram of the text for the second time. */
  forbidden() {
    const { ids, end } = this;
    return end < 0 || end === ids.length ? [] : [ids[end], ...(this.others.get(this.key) ?? [])];
  }

  fork() {
    const twin = Object.assign(Object.create(NGrams.prototype), this);
    twin.ids = [...this.ids];
    twin.ends = new Map(this.ends);
    twin.others = new Map(Array.from(this.others, ([key, ids]) => [key, new Set(ids)]));
    return twin;
  }

  /** @private Finds the key of the last run, and where it came first, which may be here. */
  find() {
    this.key = this.hash >>> 0;
    while (this.ends.has(this.key) && !this.isRun(this.ends.get(this.key))) this.key += 2 ** 32;
    if (!this.ends.has(this.key)) this.ends.set(this.key, this.ids.length);
    this.end = this.ends.get(this.key);
  }

  /** @private Whether the tokens that end at a place are those of the last run. */
  isRun(end) {
    const { ids, width } = this;
    for (let back = 1; back <= width; back++) if (ids[end - back] !== ids[ids.length - back]) return false;
    return true;
  }
}

/** A `logit_bias` entry, TEXT=NUMBER or #ID=NUMBER, as its tokens and its number. */
function biasOf(entry, tokenizer) {
  const at = entry.lastIndexOf("=");
  const [text, number] = [entry.slice(0, Math.max(at, 0)), Number(entry.slice(at + 1))];
  const ids = /^#[0-9]+$/.test(text) ? [Number(text.slice(1))] : tokenizer.encode(text);
  const isGood = text && Number.isFinite(number) && ids.length && ids.every((id) => id < tokenizer.size && id !== 1);
  if (!isGood) throw new Error(`A bias must be TEXT=NUMBER or #ID=NUMBER, with a text that the model can write.`);
  return [ids, number];
}
