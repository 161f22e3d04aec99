// UTF-8, token by token: which tokens may come next so that no character is broken, as textgen.tokenizer.utf8.
//
// A text is in one of these states, which its last bytes determine (Table 3-7 of the Unicode Standard):
//   0    the last character is complete; a token of whole characters may follow, or a first byte, C2 to F4
//   1-3  that many bytes are missing, each from 80 to BF
//   4-7  the first byte was E0, ED, F0 or F4, after which not all of these are possible

const MAX_CHARACTER_BYTES = 4; // bytes
const FIRST_BYTES = [ // ranges of first bytes, and the state after them
  [0xc2, 0xdf, 1], [0xe1, 0xec, 2], [0xee, 0xef, 2], [0xf1, 0xf3, 3],
  [0xe0, 0xe0, 4], [0xed, 0xed, 5], [0xf0, 0xf0, 6], [0xf4, 0xf4, 7],
];
const NEXT_BYTES = [ // by state: the range of the next byte, and the state after it
  null, [0x80, 0xbf, 0], [0x80, 0xbf, 1], [0x80, 0xbf, 2],
  [0xa0, 0xbf, 1], [0x80, 0x9f, 1], [0x90, 0xbf, 2], [0x80, 0x8f, 2],
];

/**
 * @param {number} state
 * @param {number} byte
 * @returns {number} The state after the byte; one that breaks a character begins anew.
 */
export function stateAfterByte(state, byte) {
  if (state) {
    const [low, high, after] = NEXT_BYTES[state];
    if (byte >= low && byte <= high) return after;
  }
  for (const [low, high, after] of FIRST_BYTES) if (byte >= low && byte <= high) return after;
  return 0;
}

/** The UTF-8 states of texts in a vocabulary, and which tokens may follow in each. */
export class Characters {
  /** @param {import("./tokenizer.js").Tokenizer} tokenizer */
  constructor(tokenizer) {
    this.firstByte = tokenizer.firstByte;
    this.neverFirst = [...tokenizer.neverWritten]; // tokens that may not come in state 0
    /** Ids of the first bytes of characters. */
    this.starts = [];
    if (this.firstByte === null) return;
    for (let byte = 0x80; byte < 0x100; byte++) {
      (stateAfterByte(0, byte) ? this.starts : this.neverFirst).push(this.firstByte + byte);
    }
  }

  /**
   * Makes the tokens impossible that may not come in a state, or must never be generated.
   * @param {Float64Array} logits
   * @param {number} state
   */
  mask(logits, state) {
    if (state === 0) {
      for (const id of this.neverFirst) logits[id] = -Infinity;
      return;
    }
    const [low, high] = NEXT_BYTES[state];
    logits.fill(-Infinity, 0, this.firstByte + low);
    logits.fill(-Infinity, this.firstByte + high + 1);
  }

  /**
   * @param {number} state
   * @param {number} id
   * @returns {number} The state after a token.
   */
  after(state, id) {
    const byte = this.firstByte === null ? -1 : id - this.firstByte;
    return byte >= 0 && byte < 256 ? stateAfterByte(state, byte) : 0;
  }

  /**
   * @param {number[]} ids
   * @returns {number} The state of a text that ends in these tokens.
   */
  stateAfter(ids) {
    return ids.slice(-MAX_CHARACTER_BYTES).reduce((state, id) => this.after(state, id), 0);
  }
}

/** @returns {string} A character from 0 to 255 for each byte. */
export function bytesAsString(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
