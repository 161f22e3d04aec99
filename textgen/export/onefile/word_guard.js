// Keeps a text to words that exist, as textgen.generation.constraints.word_guard: those of the training text, and those
// that the text itself has. Inside a word, its letters so far must begin a known word, and it may end only where one
// ends. Once a word has an unknown beginning, the rest of it is free.
//
// The known words and their beginnings are in Bloom filters (textgen.dataset.word_filter), whose hashes are of 64 bits:
// here two halves of 32 bits.

const [SPACE, DIGIT, APOSTROPHE] = [" ", "0", "'"]; // all characters but letters, as `Letters` maps them
const FREE = DIGIT; // stands for a word of which any letters are possible
const [END, WIDE] = [0xe000, 0xe001]; // after a word: it may end; a character that is not ASCII may follow
const MAX_WORD_CHARS = 48; // characters
const MAX_SUFFIX_CHARS = 2; // characters after an apostrophe that are a word of their own kind
const BEFORE = ["", "a", FREE]; // what may be before a token: no word, letters, a word of which any are possible
const WORDS_KEPT = 512; // words so far whose possible tokens are kept, at one byte a token
const FROM_UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// === Letters and words ===

/**
 * Which characters are letters, in the version of Unicode of the Python that packed the model: browsers differ.
 */
export class Letters {
  /** @param {Uint32Array} changes Where the kind of character changes, 4 * code + kind, ascending from 0. */
  constructor(changes) {
    this.changes = changes;
    this.mapped = new Map(); // what was made of characters before
  }

  /**
   * @param {string} text
   * @returns {string} The text with nothing left but letters, all small, apostrophes, 0 for each digit, and spaces.
   */
  of(text) {
    return text.replace(/[^a-z ]/gu, (character) => {
      if (!this.mapped.has(character)) this.mapped.set(character, this.map(character));
      return this.mapped.get(character);
    });
  }

  /** @private */
  map(character) {
    if (this.kind(character) === 0) return SPACE;
    const small = character.toLowerCase().replace("\u03c2", "\u03c3"); // sigma at the end of a word is another letter
    return [...small].map((each) => [SPACE, each, DIGIT, APOSTROPHE][this.kind(each)]).join("");
  }

  /** @private 0 for what is no part of a word, 1 for letters, 2 for digits, 3 for apostrophes. */
  kind(character) {
    const code = character.codePointAt(0);
    let [low, high] = [0, this.changes.length - 1]; // the last change up to the code is between them
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.changes[middle] < 4 * (code + 1)) low = middle;
      else high = middle - 1;
    }
    return this.changes[low] & 3;
  }
}

/** The words of a stretch of letters without spaces. */
function wordsIn(stretch) {
  const found = [];
  let before = "";
  for (const part of stretch.split(DIGIT)[0].split(APOSTROPHE)) {
    if (part) found.push(before && [...part].length <= MAX_SUFFIX_CHARS ? APOSTROPHE + part : part);
    before = part;
  }
  return found;
}

const isLetters = (letters) => letters !== "" && !/[ 0']/.test(letters);
const isWord = (word) => word !== "" && word !== APOSTROPHE && word !== FREE; // begun, and not free
const lead = (letters) => /^[^ 0']*/.exec(letters)[0]; // the letters at the beginning
const isShort = (word) => [...word].length <= MAX_WORD_CHARS;
const place = (word) => (isWord(word) ? 1 : word === FREE ? 2 : 0); // in BEFORE
/** How a word may be known: after an apostrophe as one of its own kind, or as an ordinary one. */
const asKnown = (word) => (word.startsWith(APOSTROPHE) ? [word, word.slice(1)] : [word]);

/** The words that end within some letters, the first of them `word` with its end, and last the word so far after. */
function continued(word, letters) {
  const words = [];
  for (const part of letters.match(/[^ 0']+|[ 0']/g) ?? []) {
    if (part === SPACE) {
      words.push(word);
      word = "";
    } else if (part === DIGIT) {
      words.push(word);
      word = FREE;
    } else if (word === FREE) {
      continue;
    } else if (part === APOSTROPHE) {
      words.push(word);
      word = isWord(word) ? APOSTROPHE : "";
    } else {
      word += part;
    }
  }
  return [...words, word];
}

/** The words that end within the letters of a token, those at its beginning left out, and the word so far after them. */
function afterLead(before, letters) {
  if (letters[0] === SPACE && isLetters(letters.slice(1))) return [[], letters.slice(1)]; // most tokens
  const start = lead(letters);
  const words = continued(before || (start ? "a" : ""), letters.slice(start.length));
  return [words.slice(1, -1).filter(isWord), words.at(-1)];
}

// === Numbers of 64 bits, as two halves; a function leaves its result in `hi` and `lo` ===

let hi = 0;
let lo = 0;

function multiply(aHi, aLo, bHi, bLo) {
  const low = aLo * (bLo & 0xffff); // below 2^48, as are all of these products
  const high = aLo * (bLo >>> 16);
  const carried = Math.floor((high + Math.floor(low / 0x10000)) / 0x10000);
  hi = (carried + Math.imul(aLo, bHi) + Math.imul(aHi, bLo)) >>> 0;
  lo = Math.imul(aLo, bLo) >>> 0;
}

/** x ^ (x >> bits) */
function fold(bits) {
  lo = (lo ^ ((lo >>> bits) | (hi << (32 - bits)))) >>> 0;
  hi = (hi ^ (hi >>> bits)) >>> 0;
}

/** The finalizer of SplitMix64 (Steele, Lea & Flood 2014). */
function mix(aHi, aLo) {
  [hi, lo] = [aHi, aLo];
  fold(30);
  multiply(hi, lo, 0xbf58476d, 0x1ce4e5b9);
  fold(27);
  multiply(hi, lo, 0x94d049bb, 0x133111eb);
  fold(31);
}

const [MULTIPLIER_HI, MULTIPLIER_LO] = [0x9e3779b9, 0x7f4a7c15];

/** The hash of a text that is one character longer (Karp & Rabin 1987). */
function extend(aHi, aLo, code) {
  multiply(aHi, aLo, MULTIPLIER_HI, MULTIPLIER_LO);
  const sum = lo + code + 1;
  if (sum >= 2 ** 32) hi = (hi + 1) >>> 0;
  lo = sum >>> 0;
}

function hash(text) {
  hi = lo = 0;
  for (const character of text) extend(hi, lo, character.codePointAt(0));
}

/** Sets of 64-bit numbers that may report one that they do not hold, but never miss one (Bloom 1970). */
export class WordFilter {
  /** @param {{arrays: object, about: object}} file words.safetensors, as `Packed.arrays` reads it. */
  constructor({ arrays, about }) {
    const { hashes } = JSON.parse(about["textgen.words"]);
    this.filters = hashes.map((count, number) => {
      const bits = arrays[`bits_${number}`].values;
      return { bits, count, size: 8 * bits.length, inverse: 1 / (8 * bits.length) };
    });
  }

  /** @returns {boolean} Whether a hash is that of a known word or beginning. */
  contains(aHi, aLo) {
    mix(aHi, aLo);
    const [oneHi, oneLo] = [hi, lo];
    mix((aHi ^ MULTIPLIER_HI) >>> 0, (aLo ^ MULTIPLIER_LO) >>> 0);
    const [twoHi, twoLo] = [hi, (lo | 1) >>> 0];
    return this.filters.some((filter) => isSet(filter, oneHi, oneLo, twoHi, twoLo));
  }

  /** @returns {boolean} Whether a text begins a known word or is one. */
  begins(text) {
    hash(text);
    return this.contains(hi, lo);
  }

  /** @returns {boolean} Whether a text is a known word. */
  knows(text) {
    hash(text);
    extend(hi, lo, END);
    return this.contains(hi, lo);
  }
}

/** Whether all bits are set that a number would set: one, one + two, one + 2 two ... of 64 bits, modulo the size. */
function isSet({ bits, count, size, inverse }, aHi, aLo, bHi, bLo) {
  for (let number = 0; number < count; number++) {
    let position = modulo(aHi, size, inverse);
    position = modulo(position * 0x10000 + (aLo >>> 16), size, inverse);
    position = modulo(position * 0x10000 + (aLo & 0xffff), size, inverse);
    if (!(bits[Math.floor(position / 8)] & (1 << (position & 7)))) return false;
    const sum = aLo + bLo;
    aHi = (aHi + bHi + (sum >= 2 ** 32 ? 1 : 0)) >>> 0;
    aLo = sum >>> 0;
  }
  return true;
}

/** x modulo a size, for x below 2^53. */
function modulo(x, size, inverse) {
  const rest = x - Math.floor(x * inverse) * size;
  return rest < 0 ? rest + size : rest >= size ? rest - size : rest;
}

// === What tokens do to words ===

/** What each token of a vocabulary does to a word that is being written; for all texts. */
export class WordTokens {
  /**
   * @param {import("./tokenizer.js").Tokenizer} tokenizer
   * @param {WordFilter} words
   * @param {Letters} alphabet
   */
  constructor(tokenizer, words, alphabet) {
    this.tokenizer = tokenizer;
    this.words = words;
    this.alphabet = alphabet;
    /** What each token adds; null if it is a part of a character. */
    this.letters = tokenizer.pieceBytes.map((bytes) => this.lettersIn(bytes));
    this.size = this.letters.length;
    this.partial = [];
    this.withoutLead = [];
    /** Tokens that are nothing but these letters, and those that begin with these letters and go on. */
    this.leadOnly = new Map();
    this.leadAndMore = new Map();
    /** The letters at the beginnings of tokens, as a tree: the tokens at a node, and the nodes one letter further. */
    this.root = { only: [], more: [], next: new Map() };
    this.letters.forEach((letters, id) => this.sort(id, letters));
    this.checkInside();
    this.kept = new Map();
  }

  /** @returns {boolean} Whether letters begin a known word or are one. */
  begins(word) {
    return !isWord(word) || asKnown(word).some((text) => this.words.begins(text));
  }

  /** @returns {boolean} Whether letters are a known word. */
  isWhole(word) {
    return !isWord(word) || asKnown(word).some((text) => this.words.knows(text));
  }

  /** @returns {Uint8Array} 1 for the tokens that may follow the letters of a word. */
  allowed(word, pending) {
    return kept(this.kept, `${word} ${pending}`, () => and(this.fits(word, pending), this.sound[place(word)]));
  }

  /** @returns {Uint8Array} 1 for the tokens that go on with a word, or end it, so that it is a known one. */
  fits(word, pending) {
    const fits = new Uint8Array(this.size).fill(1);
    if (word === FREE) return fits;
    if (pending.length) {
      for (const [id, letters] of this.completing(pending)) {
        fits[id] = (isLetters(letters) ? this.begins(word + letters) : this.isWhole(word)) ? 1 : 0;
      }
      return fits;
    }
    for (const ids of [...this.leadOnly.values(), ...this.leadAndMore.values()]) for (const id of ids) fits[id] = 0;
    for (const text of asKnown(word)) {
      hash(text);
      this.follow(this.root, hi, lo, fits);
    }
    if (isWord(word)) {
      const ends = this.isWhole(word);
      for (const id of this.withoutLead) fits[id] = ends ? 1 : 0;
      for (const id of this.partial) fits[id] = ends || this.goesWide(word) ? 1 : 0;
    }
    return fits;
  }

  /** @returns {Uint8Array} `fits`, where other words are possible too. */
  fitsWith(own, word, pending) {
    const begun = word === FREE ? [] : asKnown(word);
    const rests = new Set();
    for (const start of begun) for (const other of own) if (other.startsWith(start)) rests.add(other.slice(start.length));
    const fits = this.fits(word, pending);
    if (!rests.size) return fits;
    const allow = (ids) => { for (const id of ids ?? []) fits[id] = 1; };
    if (pending.length) {
      const goesOn = (letters) => (rest) => (isLetters(letters) ? rest.startsWith(letters) : rest === "");
      for (const [id, letters] of this.completing(pending)) if ([...rests].some(goesOn(letters))) fits[id] = 1;
      return fits;
    }
    for (const rest of rests) {
      for (const beginning of beginnings(rest)) allow(this.leadOnly.get(beginning));
      allow(rest ? this.leadAndMore.get(rest) : this.withoutLead);
      if (!rest || rest.charCodeAt(0) > 0x7f) allow(this.partial);
    }
    return fits;
  }

  /** @returns {Uint8Array[]} `sound`, where tokens may also begin other words. */
  soundWith(own) {
    const sound = this.sound.map((row) => row.slice());
    for (const word of own) {
      for (const beginning of beginnings(word)) {
        for (const [id, places] of this.unsound.get(beginning) ?? []) for (const at of places) sound[at][id] = 1;
      }
    }
    return sound;
  }

  /** @returns {string|null} The letters of bytes; null if they are a part of a character. */
  lettersIn(bytes) {
    try {
      return this.alphabet.of(FROM_UTF8.decode(bytes));
    } catch {
      return null;
    }
  }

  /** @returns {Set<string>} The words in some letters that are not known; longer runs of letters are no words. */
  unknownIn(letters) {
    const words = new Set([...new Set(letters.split(SPACE))].flatMap(wordsIn).filter(isShort));
    const isKnown = (word) => this.words.knows(word) || (word[0] === APOSTROPHE && this.words.knows(word.slice(1)));
    return new Set([...words].filter((word) => !isKnown(word)));
  }

  /** @private Sorts a token by what it does to a word. */
  sort(id, letters) {
    if (letters === null) {
      this.partial.push(id);
      return;
    }
    const start = lead(letters);
    if (!start) {
      this.withoutLead.push(id);
      return;
    }
    const isAll = start === letters;
    const table = isAll ? this.leadOnly : this.leadAndMore;
    if (!table.has(start)) table.set(start, []);
    table.get(start).push(id);
    let node = this.root;
    for (const character of start) {
      const code = character.codePointAt(0);
      if (!node.next.has(code)) node.next.set(code, { only: [], more: [], next: new Map() });
      node = node.next.get(code);
    }
    (isAll ? node.only : node.more).push(id);
  }

  /** @private Allows the tokens below a node that lead to known beginnings; only known ones lead to known ones. */
  follow(node, aHi, aLo, fits) {
    for (const [code, child] of node.next) {
      extend(aHi, aLo, code);
      const [bHi, bLo] = [hi, lo];
      if (!this.words.contains(bHi, bLo)) continue;
      for (const id of child.only) fits[id] = 1;
      if (child.more.length) {
        extend(bHi, bLo, END);
        if (this.words.contains(hi, lo)) for (const id of child.more) fits[id] = 1;
      }
      this.follow(child, bHi, bLo, fits);
    }
  }

  /** @private Whether a character that is not ASCII may follow. */
  goesWide(word) {
    return asKnown(word).some((text) => {
      hash(text);
      extend(hi, lo, WIDE);
      return this.words.contains(hi, lo);
    });
  }

  /** @private The tokens that complete a character of which some bytes are there, and the letters that it is. */
  completing(pending) {
    const found = [];
    for (let byte = 0x80; byte < 0xc0; byte++) {
      const letters = this.lettersIn(Uint8Array.from([...pending, byte]));
      if (letters !== null) found.push([this.tokenizer.firstByte + byte, letters]);
    }
    return found;
  }

  /**
   * @private Makes `sound`: whether the words inside each token are known and the last one begins a known word, after
   * each of BEFORE; and `unsound`: the places in it that only an unknown beginning at the end of a token makes so.
   */
  checkInside() {
    this.sound = BEFORE.map(() => new Uint8Array(this.size).fill(1));
    this.unsound = new Map();
    const known = new Map();
    const isKnown = (text, isWhole) => {
      const tests = isWhole ? (each) => this.words.knows(each) : (each) => this.words.begins(each);
      return kept(known, `${text}${isWhole ? SPACE : ""}`, () => asKnown(text).some(tests), Infinity);
    };
    this.letters.forEach((letters, id) => {
      if (!letters || isLetters(letters)) return;
      const isSame = letters[0] === SPACE; // whatever is before it
      for (const [number, before] of (isSame ? BEFORE.slice(0, 1) : BEFORE).entries()) {
        const places = isSame ? [0, 1, 2] : [number];
        const [words, tail] = afterLead(before, letters);
        const isSound = words.every((word) => isKnown(word, true));
        const mayEnd = !isWord(tail) || isKnown(tail, false);
        if (isSound && !mayEnd) {
          if (!this.unsound.has(tail)) this.unsound.set(tail, []);
          this.unsound.get(tail).push([id, places]);
        }
        if (!isSound || !mayEnd) for (const at of places) this.sound[at][id] = 0;
      }
    });
  }
}

/** Forbids tokens that would write an unknown word in one text. Where no token is left, it forbids none. */
export class WordGuard {
  /**
   * @param {WordTokens} tokens
   * @param {string[]} texts Whose words are possible too.
   */
  constructor(tokens, texts = []) {
    this.tokens = tokens;
    this.word = ""; // so far
    this.isFree = false; // it has an unknown beginning
    this.pending = []; // bytes of an unfinished character
    this.now = null; // what `allowed` has returned, until a token is taken
    this.setOwn(new Set(texts.flatMap((text) => [...tokens.unknownIn(tokens.alphabet.of(text))])));
  }

  /** @returns {WordGuard} A copy that can be continued with other tokens. */
  fork() {
    return Object.assign(Object.create(WordGuard.prototype), this); // what it refers to is replaced, never changed
  }

  /** @param {number[]} ids The tokens before the first one that is generated: their words become possible. */
  read(ids) {
    const { tokenizer, alphabet } = this.tokens;
    const unfinished = tokenizer.unfinished(ids);
    const text = tokenizer.decode(ids.slice(0, ids.length - unfinished.length));
    const lineAt = text.lastIndexOf("\n") + 1;
    const letters = alphabet.of(text.slice(lineAt));
    this.word = continued("", letters).at(-1);
    const ended = this.word === FREE ? letters : letters.slice(0, letters.length - this.word.length);
    const before = alphabet.of(text.slice(0, Math.max(0, lineAt - 1)));
    this.addOwn([...this.tokens.unknownIn(before), ...this.tokens.unknownIn(ended)]);
    this.isFree = !isShort(this.word) || !this.begins(this.word);
    this.pending = unfinished.flatMap((id) => Array.from(tokenizer.pieceBytes[id]));
    this.now = null;
  }

  /** @returns {Uint8Array} 1 for the tokens that may come next. */
  allowed() {
    if (this.now) return this.now;
    const [word, pending] = [this.isFree ? FREE : this.word, this.pending];
    if (!this.own.size) {
      this.now = this.tokens.allowed(word, pending);
    } else {
      this.now = kept(this.kept, `${word} ${pending}`, () => {
        this.sound ??= this.tokens.soundWith(this.own);
        return and(this.tokens.fitsWith(this.own, word, pending), this.sound[place(word)]);
      });
    }
    return this.now;
  }

  /** @param {Float64Array} logits Those of tokens that may not come become -Infinity, unless nothing would be left. */
  apply(logits) {
    const allowed = this.allowed();
    if (!logits.some((logit, id) => allowed[id] && logit > -Infinity)) return;
    for (let id = 0; id < logits.length; id++) if (!allowed[id]) logits[id] = -Infinity;
  }

  /** @param {number} id A token that was generated. */
  accept(id) {
    const wasAllowed = this.allowed()[id] === 1;
    let letters = this.tokens.letters[id];
    this.now = null;
    if (letters === null) {
      this.pending = [...this.pending, ...this.tokens.tokenizer.pieceBytes[id]];
      letters = this.tokens.lettersIn(Uint8Array.from(this.pending));
      if (letters === null && this.pending.length < 4) return;
    }
    this.pending = [];
    this.write(letters || SPACE, wasAllowed);
  }

  /** @private Appends the letters of a token, which `allowed` has allowed or not. */
  write(letters, wasAllowed) {
    const words = continued(this.word, letters);
    const isNew = words.length > 1 && this.isFree && isWord(words[0]);
    if (isNew && isShort(words[0])) this.addOwn([words[0]]);
    const goesOn = words.length === 1 && isWord(this.word);
    this.word = words.at(-1);
    if (goesOn && this.isFree) return;
    const isUnknown = (this.isFree || !wasAllowed) && !this.begins(this.word);
    this.isFree = this.word === FREE || isUnknown || !isShort(this.word);
  }

  /** @private */
  begins(word) {
    return word !== FREE && ([...this.own].some((other) => other.startsWith(word)) || this.tokens.begins(word));
  }

  /** @private */
  addOwn(words) {
    if (words.some((word) => !this.own.has(word))) this.setOwn(new Set([...this.own, ...words]));
  }

  /** @private Sets the words of the text that are not known, and drops the tables for those before. */
  setOwn(own) {
    this.own = own;
    this.kept = new Map();
    this.sound = null;
  }
}

/** The beginnings of a word, from one character on. */
function beginnings(word) {
  const characters = [...word];
  return characters.map((_, at) => characters.slice(0, at + 1).join(""));
}

/** 1 where both are 1. */
function and(a, b) {
  return a.map((value, at) => value & b[at]);
}

/** A value that was made before for a key, or is made now; at most `most` of them are kept, the newest. */
function kept(values, key, make, most = WORDS_KEPT) {
  if (values.has(key)) return values.get(key);
  const made = make();
  if (values.size >= most) values.delete(values.keys().next().value);
  values.set(key, made);
  return made;
}
