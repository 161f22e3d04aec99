// What the server finds in the text when the user pauses: the surprisal of their own words, or what occurs in the training
// text of the model.

import { $, tell } from "./dom.js";
import { explain } from "./engine.js";
import { asked } from "./settings.js";
import { beginningOfLast } from "./story.js";

export class Scores {
  found = []; // [{start, end, token}]
  copies = []; // [{start, end}]
  #story;
  #engine;
  #onFound;
  #asking = null;
  #timer = 0;

  constructor(story, engine, onFound) {
    this.#story = story;
    this.#engine = engine;
    this.#onFound = onFound;
  }

  at(at) {
    return this.found.find((score) => score.token && at >= score.start && at < score.end) ?? null;
  }

  forget() {
    this.#asking?.abort();
    this.found = [];
    this.copies = [];
  }

  // Moves what was found as a change moves the text.
  move(change) {
    this.found = this.found.flatMap((place) => moved(place, change));
    this.copies = this.copies.flatMap((place) => moved(place, change));
  }

  ask() {
    clearTimeout(this.#timer);
    this.#asking?.abort(); // what comes would be shown as if it was asked for now
    $("no-index").hidden = true;
    const find = { surprisal: (signal) => this.#find(signal), copied: (signal) => this.#findCopies(signal) }[$("marks").value];
    if (!find) return;
    this.#timer = setTimeout(async () => {
      this.#asking = new AbortController();
      try {
        await find(this.#asking.signal);
      } catch (error) {
        if (error.name !== "AbortError") tell(explain(error));
      }
    }, 700);
  }

  async #find(signal) {
    const all = this.#story.text;
    const from = beginningOfLast(all, 2000);
    const { clamp, label } = asked();
    const found = await this.#engine.score({ model: $("model").value, text: all.slice(from), clamp, label, signal });
    if (this.#story.text !== all) return;
    const scores = found.map(({ start, end, token }) => ({ start: start + from, end: end + from, token }));
    this.found = scores.filter(({ start }) => !this.#story.spans[this.#story.spanAt(start)?.number]?.token);
    this.#onFound();
  }

  async #findCopies(signal) {
    const all = this.#story.text;
    const from = beginningOfLast(all, 10_000);
    const found = await this.#engine.copies({ model: $("model").value, text: all.slice(from), signal });
    if (this.#story.text !== all) return;
    $("no-index").hidden = found !== null;
    this.copies = (found ?? []).map(({ start, end }) => ({ start: start + from, end: end + from }));
    this.#onFound();
  }
}

// The place after a change, in a list that is empty if the change has touched it.
export function moved(place, { at, length, added }) {
  if (place.end <= at) return [place];
  const shift = added.length - length;
  return place.start >= at + length ? [{ ...place, start: place.start + shift, end: place.end + shift }] : [];
}
