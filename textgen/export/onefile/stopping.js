// Where a text ends: before one of the stop texts, or with its sentence, line or paragraph; as
// textgen.generation.stopping. Lengths are those of JavaScript's strings, which change nothing here.

const BLANK = "[\\t\\v\\f\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"; // of Python, no \n
const CLOSERS = "\"'”’»」』）)】》〉〕﹂﹄］｝〗\\]"; // may stand between the end mark and the next sentence
const WIDE = "。！？｡"; // end a sentence without a space after them
const HAN = "[\\u3005-\\u3007\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{3ffff}]"; // after ! or ?
const BLANK_LINE = `(?=\\n${BLANK}*\\n)`;
const WORD = "[\\p{L}\\p{N}_]";
const NO_ABBREVIATION = ["Mr", "Mrs", "Ms", "Dr", "St", "[A-Z]"].map((name) => `(?<!(?<!${WORD})${name})`).join("");
const UNTIL = { // units with which a text can end: it ends where the match does
  sentence:
    `(?:${NO_ABBREVIATION}\\.|[!?…])[.!?…]*[${CLOSERS}]*(?=\\n|${BLANK})` +
    `|[!?][.!?…]*[${CLOSERS}]*(?=${HAN})` +
    `|[${WIDE}][.!?…${WIDE}${CLOSERS}]*(?=[^.!?…${WIDE}${CLOSERS}])` +
    `|${BLANK_LINE}`,
  line: "(?=\\n)",
  paragraph: BLANK_LINE,
};
const UNDECIDED = new RegExp(`\\n${BLANK}*$`); // may become a blank line
const LEADING = new RegExp(`^(?:\\n|${BLANK})+`);
const CONTEXT = 64; // characters of earlier text in which a match may begin, or which it looks back on

/** Decides where a text ends while it is generated, and holds back text that may not belong to it. */
export class Ending {
  /**
   * @param {string[]} stop Texts that the text stops before.
   * @param {string} until "document", or the unit with which the text ends.
   * @param {string} before What the text continues. No unit ends there, but an abbreviation may begin there.
   */
  constructor(stop, until, before) {
    /** "stop" or "until" once the text has ended, empty before. */
    this.reason = "";
    this.stop = stop;
    this.until = UNTIL[until] ? new RegExp(UNTIL[until], "gu") : null;
    this.context = endOf(before); // and of the text returned so far
    this.own = 0; // length of its end that belongs to the text, without white space at the text's beginning
    this.held = "";
  }

  /**
   * @param {string} text
   * @returns {string} The text that is now certain; nothing once there is a reason.
   */
  feed(text) {
    if (this.reason) return "";
    this.held += text;
    const ends = this.stop.map((stop) => [this.held.indexOf(stop), "stop"]).filter(([at]) => at >= 0);
    if (this.until) ends.push(...this.endOfUnit());
    if (!ends.length) return this.release(this.held.length - this.undecided());
    const [end, reason] = ends.reduce((a, b) => (b[0] < a[0] || (b[0] === a[0] && b[1] < a[1]) ? b : a));
    this.reason = reason;
    return this.release(end);
  }

  /** @returns {string} The text held back, when no more comes. */
  flush() {
    return this.reason ? "" : this.release(this.held.length);
  }

  /** @returns {Ending} One that goes on from here with another text. */
  fork() {
    return Object.assign(Object.create(Ending.prototype), this);
  }

  /** @private */
  endOfUnit() {
    const text = this.context + this.held;
    const before = this.context.length;
    this.until.lastIndex = before - this.own + (this.own ? 0 : leadingSpace(this.held)); // blanks alone are no unit
    for (let match = this.until.exec(text); match; match = this.until.exec(text)) {
      const end = match.index + match[0].length;
      if (end >= before) return [[end - before, "until"]];
      if (!match[0]) this.until.lastIndex++;
    }
    return [];
  }

  /** @private The number of characters at the end that may turn out not to belong to the text. */
  undecided() {
    let most = 0;
    for (const stop of this.stop) {
      let length = Math.min(stop.length - 1, this.held.length);
      while (length > most && !this.held.endsWith(stop.slice(0, length))) length--;
      most = Math.max(most, length);
    }
    return this.until ? Math.max(most, UNDECIDED.exec(this.held)?.[0].length ?? 0) : most;
  }

  /** @private */
  release(end) {
    const text = this.held.slice(0, end);
    this.held = this.held.slice(end);
    if (this.until) {
      this.own += text.length - (this.own ? 0 : leadingSpace(text));
      this.context = endOf(this.context + text);
      this.own = Math.min(this.own, this.context.length);
    }
    return text;
  }
}

const endOf = (text) => [...text].slice(-CONTEXT).join("");
const leadingSpace = (text) => LEADING.exec(text)?.[0].length ?? 0;
