// The text on the page: what you wrote, what the model wrote, and the way back.

const KEPT = 5000; // tokens of the model whose probabilities are kept: the last ones
const STEPS = 100; // that can be undone
const STALE = 2 * KEPT; // tokens after which a step that can be undone keeps its text, and no longer its probabilities

/**
 * What could have come at a place.
 * @typedef {object} Alternative
 * @property {string|null} text Its own; null if it cannot be taken, as a byte of a character.
 * @property {string} shown How it is shown.
 * @property {number} probability
 * @property {boolean} isEnd Whether it ends the text.
 * @property {boolean} isChosen Whether it is the one that was written.
 */

/**
 * A token of the model at its place in the text, in UTF-16 units.
 * @typedef {object} Place
 * @property {number} start
 * @property {number} end
 * @property {string} own The token's own text; the text at the place may lack its leading space.
 * @property {string} [healed] The end of the text before, which the token writes again; it is not in `own`.
 * @property {number} probability
 * @property {Alternative[]} top The likeliest tokens, likeliest first.
 */

/**
 * What the model writes from a prompt. The same prompt, seed, label and settings give the same text.
 * @typedef {object} Run
 * @property {string} prompt
 * @property {string} seed Decimal digits.
 * @property {string|null} label
 * @property {object} settings
 * @property {number} written Tokens so far.
 * @property {boolean} isEnded Whether the model ended the text.
 */

export class Story {
  text = "";
  /** @type {Place[]} */
  tokens = [];
  /** @type {{start: number, end: number}[]} Where the text is the model's. */
  marks = [];
  /** @type {Run|null} The run that the text is the result of; null after an edit. */
  run = null;
  past = [];
  future = [];
  received = 0; // tokens, in all runs together
  typedAt = -1; // where the next character typed in the same step would come
  deletedAt = -1; // where the next character deleted in the same step would be, before or after it
  held = null; // a token that is only part of a character
  home = null; // where the page keeps the text

  /** Takes a text that was kept, before there is another. */
  recall(text, marks) {
    const isMark = (mark) => 0 <= mark?.start && mark.start < mark.end && mark.end <= text.length;
    const sound = Array.isArray(marks) ? marks.filter(isMark) : [];
    Object.assign(this, { text, marks: sound.map(({ start, end }) => ({ start, end })) });
  }

  /** Puts another text in the place of this one, as a step. */
  replace(text, marks) {
    this.step();
    Object.assign(this, { tokens: [], run: null, held: null });
    this.recall(text, marks);
  }

  get canUndo() {
    return this.past.length > 0;
  }

  get canRedo() {
    return this.future.length > 0;
  }

  /** Begins a step, which `undo` takes back. */
  step() {
    this.past.push(this.snapshot());
    if (this.past.length > STEPS) this.past.shift();
    for (const step of this.past) if (this.received - step.received > STALE) step.tokens = [];
    this.future = [];
    this.typedAt = this.deletedAt = -1;
  }

  undo() {
    this.move(this.past, this.future);
  }

  redo() {
    this.move(this.future, this.past);
  }

  move(from, to) {
    if (!from.length) return;
    to.push(this.snapshot());
    const { received: _, ...step } = from.pop();
    Object.assign(this, step);
    this.typedAt = this.deletedAt = -1;
    this.held = null;
  }

  snapshot() {
    const { text, tokens, marks, run, received, home } = this;
    const own = { tokens: [...tokens], marks: marks.map((mark) => ({ ...mark })), run: run && { ...run } };
    return { text, ...own, received, home };
  }

  /**
   * Replaces part of the text by what a person wrote. Characters typed one after another are one step, and so are
   * characters deleted one after another: what was there before them comes back.
   */
  edit(at, removed, added) {
    const isOneLess = !added && [...this.text.slice(at, at + removed)].length === 1;
    const isTypedOn = !removed && at === this.typedAt && !added.includes("\n");
    const isDeletedOn = isOneLess && (at === this.deletedAt || at + removed === this.deletedAt);
    if (!isTypedOn && !isDeletedOn) this.step();
    this.text = this.text.slice(0, at) + added + this.text.slice(at + removed);
    this.tokens = shifted(this.tokens, at, removed, added.length);
    this.marks = shifted(this.marks, at, removed, added.length);
    this.run = null;
    this.typedAt = added ? at + added.length : -1;
    this.deletedAt = isOneLess ? at : -1;
  }

  /** Begins a run, whose prompt is the text or the beginning of it. */
  begin(run) {
    this.step();
    this.cut(this.text.startsWith(run.prompt) ? run.prompt.length : 0); // of another text nothing stays
    this.text = run.prompt;
    this.run = { ...run, written: 0, isEnded: false };
    this.held = null;
  }

  /** Takes a token of the run. */
  append({ text, own, healed, probability, top }) {
    this.run.written++;
    this.received++;
    const first = this.held ?? { own, healed, probability: 1, top };
    const found = { ...first, probability: first.probability * probability }; // of the whole character
    this.held = text ? null : found;
    if (!text) return;
    const start = this.text.length;
    this.text += text;
    this.place(start, found);
  }

  /** Puts another token in the place of one, and of the end of the prompt that it wrote again. What came after is gone. */
  choose(place, alternative) {
    this.step();
    const healed = place.healed ?? "";
    const isCut = !alternative.isEnd && this.text.endsWith(healed, place.start);
    const start = place.start - (isCut ? healed.length : 0);
    const lacksSpace = place.own.startsWith(" ") && !this.text.startsWith(" ", place.start);
    this.cut(start);
    this.run = null;
    if (alternative.isEnd) return;
    const top = place.top.map((each) => ({ ...each, isChosen: each === alternative }));
    this.text += lacksSpace ? alternative.text.replace(/^ /, "") : alternative.text;
    this.place(start, { own: alternative.text, probability: alternative.probability, top });
  }

  /** The model's token at a place in the text, if there is one and its probabilities are kept. */
  tokenAt(at) {
    let [low, high] = [0, this.tokens.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tokens[middle].end <= at) low = middle + 1;
      else high = middle;
    }
    const found = this.tokens[low];
    return found && found.start <= at ? found : null;
  }

  cut(end) {
    this.text = this.text.slice(0, end);
    this.tokens = this.tokens.filter((token) => token.end <= end);
    this.marks = this.marks.filter((mark) => mark.start < end);
    for (const mark of this.marks) mark.end = Math.min(mark.end, end);
  }

  place(start, found) {
    const end = this.text.length;
    if (end === start) return;
    this.tokens.push({ ...found, start, end });
    if (this.tokens.length > 2 * KEPT) this.tokens = this.tokens.slice(-KEPT);
    const last = this.marks.at(-1);
    if (last?.end === start) last.end = end;
    else this.marks.push({ start, end });
  }
}

/** Spans after an edit: those that it touches are gone, or for a long span cut in two. */
function shifted(spans, at, removed, added) {
  const found = [];
  for (const span of spans) {
    if (span.end <= at) found.push(span);
    else if (span.start >= at + removed) found.push({ ...span, start: span.start + added - removed, end: span.end + added - removed });
    else if (!("own" in span)) {
      if (span.start < at) found.push({ start: span.start, end: at });
      if (span.end > at + removed) found.push({ start: at + added, end: span.end + added - removed });
    }
  }
  return found;
}

/**
 * Where two texts differ.
 * @param {string} before
 * @param {string} after
 * @param {number} [caret] Where the cursor is in `after`: of equal characters around it, those before it were typed.
 * @returns {{at: number, removed: number, added: string}|null}
 */
export function difference(before, after, caret = after.length) {
  if (before === after) return null;
  const tail = Math.min(before.length, after.length, after.length - caret);
  let end = 0;
  while (end < tail && before.at(-1 - end) === after.at(-1 - end)) end++;
  let at = 0;
  const most = Math.min(before.length, after.length) - end;
  while (at < most && before[at] === after[at]) at++;
  while (end < Math.min(before.length, after.length) - at && before.at(-1 - end) === after.at(-1 - end)) end++;
  return { at, removed: before.length - end - at, added: after.slice(at, after.length - end) };
}

/**
 * What a link says after its #: the prompt, the seed and what else differs from the usual.
 * @param {{prompt: string, seed: string, label: string|null, settings: object}} asked
 * @param {object} usual The usual settings, which a link leaves out.
 * @returns {string}
 */
export function linkOf({ prompt, seed, label, settings }, usual) {
  const words = new URLSearchParams({ prompt, seed });
  if (label !== null) words.set("label", label);
  for (const [name, value] of Object.entries(settings)) if (value !== usual[name]) words.set(name, value);
  return `#${words}`;
}

/**
 * @param {string} hash Of an address.
 * @param {Object<string, {low: number, high: number, step: number, usual: number}>} known The settings.
 * @returns {{prompt: string, seed: string, label: string|null, settings: object}|null} Null if it has no valid seed.
 */
export function readLink(hash, known) {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const seed = seedOf(words.get("seed") ?? "");
  if (seed === null) return null;
  const settings = {};
  for (const [name, { low, high, step, usual }] of Object.entries(known)) {
    const value = words.has(name) ? Number(words.get(name)) : NaN;
    const isValid = words.get(name)?.trim() && value >= low && value <= high && (step < 1 || Number.isInteger(value));
    settings[name] = isValid ? value : usual;
  }
  return { prompt: words.get("prompt") ?? "", seed, label: words.get("label"), settings };
}

// As in textgen.wording, but without lone surrogates.
const HIDDEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;
const MAX_SEED = 2n ** 63n - 1n;

/**
 * @param {string} text
 * @returns {string|null} The seed in plain digits; null unless it is a whole number from 0 to 2^63 - 1.
 */
export function seedOf(text) {
  if (!/^\s*[0-9]{1,19}\s*$/.test(text)) return null;
  const seed = BigInt(text.trim());
  return seed <= MAX_SEED ? String(seed) : null;
}

/**
 * The command that writes the same text.
 * @param {string} name Of the model.
 * @param {Run} run
 * @param {object} usual What the command line does by itself.
 * @returns {string} Empty for the prompt "-", which would be read from standard input, and for one with U+0000.
 */
export function commandOf(name, run, usual) {
  if (run.prompt === "-" || run.prompt.includes("\0")) return "";
  const words = ["textgen", "sample", quoted(name), "--exact"];
  if (run.prompt) words.push("--prompt", quoted(run.prompt));
  if (run.label !== null) words.push("--label", quoted(run.label));
  for (const [setting, value] of Object.entries(run.settings)) {
    if (value !== usual[setting]) words.push(`--${setting.replaceAll("_", "-")}`, String(value));
  }
  return [...words, "--seed", run.seed].join(" ");
}

/** A word for a shell: one for POSIX unless it has hidden characters, which would control a terminal when pasted. */
function quoted(word) {
  if (/^[\p{L}\p{N}\p{M}_@%+=:,./-]+$/u.test(word)) return word;
  if (word.search(HIDDEN) < 0) return `'${word.replaceAll("'", "'\\''")}'`;
  const escaped = word.replace(/[\\']/g, "\\$&").replaceAll("\n", "\\n").replaceAll("\t", "\\t");
  return `$'${escaped.replace(HIDDEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)}'`;
}
