// Text to tokens and back, exactly as textgen.tokenizer: unigram, bpe, char, word and byte.
//
// Python says what the pieces are (textgen.export.packing); this file has the algorithms of SentencePiece. A space is
// written U+2581, so a literal U+2581 is spelled in bytes, and so is every character that has no piece.

import { stateAfterByte } from "./utf8.js";

const [PAD, UNKNOWN, END_OF_DOCUMENT, NEWLINE] = [0, 1, 2, 3];
const SPACE = "\u2581"; // SentencePiece's sign for a space
const LESS_THAN_ANY = 10; // nats that an unknown character is less likely than the least likely piece
const PYTHON_SPACES = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/; // of str.split
const MORE_THAN_SPACES = new RegExp(`(${PYTHON_SPACES.source})$`);
const UTF8 = new TextEncoder();
const FROM_UTF8 = new TextDecoder("utf-8", { ignoreBOM: true }); // "ignore" leaves U+FEFF in the text

/**
 * A vocabulary as the packed model has it.
 * @typedef {object} Vocabulary
 * @property {"unigram"|"bpe"|"char"|"word"|"byte"} kind
 * @property {string[]} pieces The learned pieces, in the order of their ids.
 * @property {string[]} labels Labels of documents, whose tokens come last, after that of documents without one.
 */

/** Text to ids and back. */
export class Tokenizer {
  /**
   * @param {Vocabulary} vocabulary
   * @param {Float32Array} scores Of the learned pieces; empty where the kind has none.
   */
  constructor(vocabulary, scores) {
    const { kind, pieces, labels } = vocabulary;
    this.kind = kind;
    this.labels = labels;
    this.endOfDocument = END_OF_DOCUMENT;
    this.firstByte = kind === "word" ? null : kind === "byte" ? NEWLINE : NEWLINE + 1;
    this.firstLearned = kind === "word" ? NEWLINE + 1 : this.firstByte + 256;
    this.firstLabel = this.firstLearned + pieces.length;
    this.size = this.firstLabel + (labels.length ? labels.length + 1 : 0);
    this.neverWritten = [PAD, UNKNOWN];
    for (let id = this.firstLabel; id < this.size; id++) this.neverWritten.push(id);
    /** The UTF-8 bytes that each id adds to a text; empty for special pieces. */
    this.pieceBytes = this.bytesOfPieces(pieces);
    /** The text of each id that is one by itself; undefined for bytes that are only part of a character. */
    this.texts = this.pieceBytes.map((bytes) =>
      bytes.length === 1 && bytes[0] > 0x7f ? undefined : FROM_UTF8.decode(bytes),
    );
    this.encodeStretch = this.encoder(pieces, scores);
    this.hasSpace = pieces.includes(SPACE); // not in Chinese, say: there a space is spelled as a byte
  }

  /**
   * @param {string} text Any text. Half of a surrogate pair becomes U+FFFD: see `wellFormed`.
   * @returns {number[]}
   */
  encode(text) {
    text = wellFormed(text);
    if (this.kind === "byte") return this.spelled(text);
    if (this.kind === "word") return this.encodeWords(text);
    const ids = [];
    for (const stretch of text.split(this.hasSpace ? /(\n|\u2581)/ : /(\n|\u2581| )/)) {
      if (stretch === "\n") ids.push(NEWLINE);
      else if (stretch === SPACE || (stretch === " " && !this.hasSpace)) ids.push(...this.spelled(stretch));
      else if (stretch) for (const id of this.encodeStretch(stretch.replaceAll(" ", SPACE))) ids.push(id);
    }
    return ids;
  }

  /**
   * @param {string|null} label
   * @returns {number[]} The ids before a document.
   */
  opening(label) {
    if (label !== null && !this.labels.includes(label)) throw new Error(`There is no label ${label}.`);
    if (!this.labels.length) return [END_OF_DOCUMENT];
    return [END_OF_DOCUMENT, this.firstLabel + (label === null ? 0 : 1 + this.labels.indexOf(label))];
  }

  /**
   * @param {number[]} ids
   * @returns {string} Their text; U+FFFD for bytes that are no character.
   */
  decode(ids) {
    const decoder = new StreamDecoder(this);
    return ids.map((id) => decoder.feed(id)).join("") + decoder.flush();
  }

  /**
   * @param {number[]} ids
   * @returns {number[]} The last of them if they are the bytes of a character that is not complete. It does not go on
   *   after a token without text, such as the end of a document.
   */
  unfinished(ids) {
    for (const number of [1, 2, 3]) {
      const last = ids.slice(-number);
      if (last.some((id) => !this.pieceBytes[id].length)) break;
      const bytes = last.flatMap((id) => Array.from(this.pieceBytes[id]));
      if (bytes.length && completeLength(bytes) === 0) return last;
    }
    return [];
  }

  /** @private */
  bytesOfPieces(pieces) {
    const nothing = new Uint8Array(0);
    const special = [nothing, UTF8.encode(this.kind === "word" ? " <unk>" : "\ufffd"), nothing];
    const newline = this.kind === "byte" ? [] : [UTF8.encode("\n")];
    const bytes = this.firstByte === null ? [] : Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
    const learned = pieces.map((piece) => UTF8.encode(this.kind === "word" ? " " + piece : piece.replaceAll(SPACE, " ")));
    const labels = new Array(this.size - this.firstLabel).fill(nothing);
    return [...special, ...newline, ...bytes, ...learned, ...labels];
  }

  /** @private */
  encoder(pieces, scores) {
    const spell = (text) => this.spelled(text);
    const ids = new Map(pieces.map((piece, number) => [piece, this.firstLearned + number]));
    const score = (id) => scores[id - this.firstLearned];
    this.ids = ids;
    if (this.kind === "unigram") return unigramEncoder(ids, score, spell);
    if (this.kind === "bpe") return (stretch) => mergePairs([...stretch], ids, score, spell);
    return (stretch) => [...stretch].flatMap((character) => ids.get(character) ?? spell(character));
  }

  /** @private */
  encodeWords(text) {
    const ids = [];
    for (const line of text.split("\n")) {
      const words = line.replaceAll(SPACE, " ").split(PYTHON_SPACES).filter((word) => word);
      for (const word of words) ids.push(this.ids.get(word) ?? UNKNOWN);
      ids.push(NEWLINE);
    }
    ids.pop(); // there is one newline fewer than lines
    return ids;
  }

  /** @private */
  spelled(text) {
    return Array.from(UTF8.encode(text), (byte) => this.firstByte + byte);
  }
}

/** Decodes ids as they arrive, never half a character. */
export class StreamDecoder {
  /**
   * @param {Tokenizer} tokenizer
   * @param {boolean} lineStart Whether the text begins a line.
   */
  constructor(tokenizer, lineStart = true) {
    this.tokenizer = tokenizer;
    this.spaced = tokenizer.kind === "word"; // every word begins with a space, which is dropped at the start of a line
    this.lineStart = lineStart;
    /** @type {number[]} Bytes of a character that is not complete. */
    this.pending = [];
  }

  /**
   * @param {number} id
   * @returns {string} The text that is now certain.
   */
  feed(id) {
    const { texts, pieceBytes } = this.tokenizer;
    if (!this.pending.length && texts[id] !== undefined) return this.trimmed(texts[id]);
    const bytes = [...this.pending, ...pieceBytes[id]];
    const complete = completeLength(bytes);
    this.pending = bytes.slice(complete);
    return this.trimmed(FROM_UTF8.decode(Uint8Array.from(bytes.slice(0, complete))));
  }

  /** @returns {string} The rest at the end of the text: U+FFFD for a character that was not completed. */
  flush() {
    const rest = this.pending.length ? "\ufffd" : "";
    this.pending = [];
    return this.trimmed(rest);
  }

  /** @returns {StreamDecoder} One that goes on from here with other ids. */
  fork() {
    const twin = new StreamDecoder(this.tokenizer, this.lineStart);
    twin.pending = this.pending;
    return twin;
  }

  /** @private */
  trimmed(text) {
    if (!this.spaced || !text) return text;
    const begun = this.lineStart && text.startsWith(" ") ? text.slice(1) : text;
    this.lineStart = begun.endsWith("\n");
    return begun.replaceAll("\n ", "\n");
  }
}

/**
 * @param {number[]} bytes
 * @returns {number} How many of them there are before a character that is not complete at the end.
 */
function completeLength(bytes) {
  let [state, start] = [0, 0];
  for (const [at, byte] of bytes.entries()) {
    state = stateAfterByte(state, byte);
    if (byte >= 0xc0) start = at;
  }
  return state ? start : bytes.length;
}

/**
 * @param {string} text
 * @returns {string} The same text, with U+FFFD for each half of a surrogate pair, which no character is.
 */
export function wellFormed(text) {
  return text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");
}

/** @returns {boolean} Whether a text ends in white space as Python understands it. */
export function endsInSpace(text) {
  return MORE_THAN_SPACES.test(text);
}

/**
 * The likeliest segmentation (Viterbi), as SentencePiece finds it: with float32 sums, of equal ones the first found.
 * @param {Map<string, number>} ids Of the pieces.
 * @param {(id: number) => number} score
 * @param {(text: string) => number[]} spell
 * @returns {(stretch: string) => number[]}
 */
function unigramEncoder(ids, score, spell) {
  /** @type {Map<string, number>} Beginnings of pieces: the id of one that is a piece itself, otherwise -1. */
  const beginnings = new Map();
  let lowest = Infinity;
  for (const [piece, id] of ids) {
    lowest = Math.min(lowest, score(id));
    const characters = [...piece];
    for (let length = 1; length < characters.length; length++) {
      const beginning = characters.slice(0, length).join("");
      if (!beginnings.has(beginning)) beginnings.set(beginning, ids.get(beginning) ?? -1);
    }
    beginnings.set(piece, id);
  }
  const unknown = Math.fround(lowest - LESS_THAN_ANY);

  return (stretch) => {
    const characters = [...stretch];
    const length = characters.length;
    const best = new Float32Array(length + 1); // score of the best way up to each place
    const from = new Int32Array(length + 1).fill(-1); // where its last piece begins
    const last = new Int32Array(length + 1); // that piece; -1 for a character without one
    const offer = (start, end, id, gain) => {
      const total = Math.fround(gain + best[start]);
      if (from[end] < 0 || total > best[end]) [best[end], from[end], last[end]] = [total, start, id];
    };
    for (let start = 0; start < length; start++) {
      let isPiece = false; // the character by itself
      let text = "";
      for (let end = start + 1; end <= length; end++) {
        text += characters[end - 1];
        const id = beginnings.get(text);
        if (id === undefined) break;
        if (id < 0) continue;
        if (end === start + 1) isPiece = true;
        offer(start, end, id, score(id));
      }
      if (!isPiece) offer(start, start + 1, -1, unknown);
    }
    const found = [];
    for (let end = length; end > 0; end = from[end]) {
      found.push(last[end] >= 0 ? [last[end]] : spell(characters.slice(from[end], end).join("")));
    }
    return found.reverse().flat();
  };
}

/**
 * Byte pair encoding: joins the two neighbours whose joined piece has the highest score, the leftmost of equal ones,
 * until none are left.
 * @param {string[]} symbols
 * @param {Map<string, number>} ids
 * @param {(id: number) => number} score
 * @param {(text: string) => number[]} spell
 * @returns {number[]}
 */
function mergePairs(symbols, ids, score, spell) {
  const count = symbols.length;
  const next = symbols.map((_, at) => (at + 1 < count ? at + 1 : -1));
  const before = symbols.map((_, at) => at - 1);
  const heap = new Heap((a, b) => a.score > b.score || (a.score === b.score && a.left < b.left));
  const offer = (left, right) => {
    if (left < 0 || right < 0) return;
    const text = symbols[left] + symbols[right];
    const id = ids.get(text);
    if (id !== undefined) heap.push({ left, right, score: score(id), size: text.length });
  };
  for (let at = 1; at < count; at++) offer(at - 1, at);
  for (let pair = heap.pop(); pair; pair = heap.pop()) {
    const { left, right, size } = pair;
    const isStale = !symbols[left] || !symbols[right] || symbols[left].length + symbols[right].length !== size;
    if (isStale) continue; // one of the two has been joined to another since
    symbols[left] += symbols[right];
    symbols[right] = "";
    next[left] = next[right];
    if (next[right] >= 0) before[next[right]] = left;
    offer(before[left], left);
    offer(left, next[left]);
  }
  const found = [];
  for (let at = count ? 0 : -1; at >= 0; at = next[at]) found.push(ids.get(symbols[at]) ?? spell(symbols[at]));
  return found.flat();
}

/** A binary heap: `pop` returns the first of what is in it. */
class Heap {
  /** @param {(a: any, b: any) => boolean} isFirst */
  constructor(isFirst) {
    this.isFirst = isFirst;
    this.items = [];
  }

  push(item) {
    const { items, isFirst } = this;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isFirst(items[at], items[parent])) break;
      [items[at], items[parent]] = [items[parent], items[at]];
      at = parent;
    }
  }

  pop() {
    const { items, isFirst } = this;
    const first = items[0];
    const last = items.pop();
    if (!items.length) return first;
    items[0] = last;
    for (let at = 0; ; ) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < items.length && isFirst(items[child], items[least])) least = child;
      }
      if (least === at) return first;
      [items[at], items[least]] = [items[least], items[at]];
      at = least;
    }
  }
}
