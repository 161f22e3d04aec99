// Keeps texts in the browser, so that closing the page loses none.
//
// A text has a place of its own in `localStorage`, with the time and a revision. A tab remembers in `sessionStorage` which
// text is its own, and writes over the revision that it has read or written, and over no other: where another tab has
// changed the text meanwhile, it takes a new place. So nothing is written over what somebody has not seen, also where a
// browser has copied a tab with its `sessionStorage`.
//
// Where `localStorage` is refused or full, `sessionStorage` keeps the text until the tab is closed.

/**
 * A text that is kept.
 * @typedef {object} Kept
 * @property {string} text
 * @property {{start: number, end: number}[]} marks Where it is the model's.
 * @property {string} hash Of the address.
 * @property {boolean} isLinked Whether the address says how to write it again.
 */

const MAX_DATE_MILLISECONDS = 8.64e15; // a Date holds no later time, and none as long before 1970

const fresh = () => Date.now().toString(36) + Math.random().toString(36).slice(2);

export class Shelf {
  #place;
  #storages;
  /**
   * Where the text of this tab is kept: its id, the revision that it was read or written with, what this tab has read or
   * written there, as JSON, and whether that stays when the tab is closed.
   */
  home = { id: fresh(), revision: null, content: "", isSafe: false };

  /**
   * @param {string} place The beginning of the names of all texts of a page.
   * @param {(() => Storage)[]} storages Return what keeps a text for good, and until the tab is closed. Already to name
   *   them fails where site data are refused.
   */
  constructor(place, storages) {
    this.#place = place;
    this.#storages = storages;
  }

  /**
   * Finds the text of this tab.
   * @param {boolean} takesLast Whether a new tab begins with the text that was kept last.
   * @param {string} hash Of the address. Otherwise it begins with the text that this address writes, if that is kept.
   * @returns {Kept|null}
   */
  begin(takesLast, hash) {
    const own = this.#get(1, this.#place);
    const found = () => this.#all().find((kept) => takesLast || (kept.isLinked && kept.hash === hash));
    return this.#become(own ?? found()?.id ?? fresh());
  }

  /**
   * Keeps the text of this tab.
   * @param {Kept|null} kept Null where there is no text.
   * @returns {boolean} Whether it stays when the tab is closed.
   */
  keep(kept) {
    const { home } = this;
    const content = JSON.stringify(kept);
    if (content === home.content && home.isSafe) return true;
    const found = this.#readIn(0, home.id);
    if (found && found.revision !== home.revision) {
      this.#set(1, this.#nameOf(home.id), null); // what this tab has kept there is in `kept`
      this.part();
    }
    const valueOf = (revision) => JSON.stringify({ ...kept, revision, at: Date.now() });
    const [name, revision] = [this.#nameOf(home.id), fresh()];
    home.content = content;
    home.isSafe = this.#set(0, name, kept && valueOf(revision));
    if (home.isSafe) home.revision = revision;
    this.#set(1, name, home.isSafe ? null : valueOf(home.revision)); // the revision in the first that it would go over
    return home.isSafe;
  }

  /** Whether the browser lets the page keep texts for good. */
  get isAllowed() {
    return this.#set(0, this.#place, null);
  }

  /** Begins another text: what was kept so far stays. */
  leave() {
    this.#become(fresh());
  }

  /** Gives the text of this tab another place: what is kept in the one so far stays as it is. */
  part() {
    this.goTo(Object.assign(this.home, { id: fresh(), revision: null, content: "", isSafe: false }));
  }

  /** Goes back to a text that was that of this tab before. */
  goTo(home) {
    this.home = home;
    this.#set(1, this.#place, home.id);
  }

  /** Makes an earlier text that of this tab. Returns null, and changes nothing, if it is kept no longer. */
  take(id) {
    return this.#read(id) && this.#become(id);
  }

  /** @returns {{id: string, text: string, at: number}[]} The other texts that are kept, the last one first. */
  earlier() {
    const seen = new Set([this.#read(this.home.id)?.text]);
    return this.#all().filter(({ text }) => !seen.has(text) && seen.add(text));
  }

  #become(id) {
    const found = this.#read(id);
    const kept = found && { text: found.text, marks: found.marks, hash: found.hash, isLinked: found.isLinked };
    const isSafe = this.#get(1, this.#nameOf(id)) === null; // where the first was full, it has none or an older one
    this.goTo({ id, revision: found?.revision ?? null, content: JSON.stringify(kept), isSafe });
    return kept;
  }

  #nameOf(id) {
    return `${this.#place} ${id}`;
  }

  /** All texts that are kept for good, the last one first. */
  #all() {
    try {
      const storage = this.#storages[0]();
      const names = Array.from({ length: storage.length }, (_, number) => storage.key(number));
      const ids = names.filter((name) => name.startsWith(`${this.#place} `)).map((name) => name.slice(this.#place.length + 1));
      const found = ids.map((id) => [id, this.#read(id)]).filter(([, kept]) => kept);
      const timeOf = (at) => (Math.abs(at) <= MAX_DATE_MILLISECONDS ? Number(at) : 0);
      const texts = found.map(([id, { text, hash, isLinked, at }]) => ({ id, text, hash, isLinked, at: timeOf(at) }));
      return texts.sort((one, other) => other.at - one.at);
    } catch {
      return [];
    }
  }

  /** The text at a place, with its revision; null for none, and for what is none. */
  #read(id) {
    return this.#readIn(1, id) ?? this.#readIn(0, id); // the newer one is in the second where the first was full
  }

  #readIn(number, id) {
    try {
      const found = JSON.parse(this.#get(number, this.#nameOf(id)));
      return typeof found?.text === "string" ? found : null;
    } catch {
      return null; // damaged
    }
  }

  #get(number, name) {
    try {
      return this.#storages[number]().getItem(name);
    } catch {
      return null;
    }
  }

  /** Returns whether a value was written, or removed for null. */
  #set(number, name, value) {
    try {
      const storage = this.#storages[number]();
      value === null ? storage.removeItem(name) : storage.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  }
}
