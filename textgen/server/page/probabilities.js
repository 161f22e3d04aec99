// The probabilities of one token of the text, and of those that could have come in its place.

import { $, element, visible } from "./dom.js";
import { bits } from "./marks.js";
import { moved } from "./scores.js";
import { percentOf, say } from "./words.js";

const isChoosable = (text) => !/^(bytes:\\x|<.*>$)/.test(text);

export class Probabilities {
  shown = null; // {start, end, token}
  #story;
  #scores;
  #onShow;
  #onChoose;
  #onLeave;

  // Calls onShow() when another token is shown, onChoose(place, taken) when another is to take its place, and onLeave()
  // when the focus is to go back to the text.
  constructor(story, scores, { onShow, onChoose, onLeave }) {
    this.#story = story;
    this.#scores = scores;
    this.#onShow = onShow;
    this.#onChoose = onChoose;
    this.#onLeave = onLeave;
    $("alternatives").addEventListener("keydown", (event) => this.#keyDown(event));
    $("alternatives").addEventListener("focus", () => this.#activate(-1, 1));
  }

  // The token at a place of the text: {start, end, token}, or null.
  at(at) {
    const place = this.#story.spanAt(at);
    const span = place && this.#story.spans[place.number];
    if (span?.token) return { start: place.start, end: place.end, token: span.token };
    return this.#scores.at(at);
  }

  // Shows what `at` has returned.
  show(found) {
    if (found?.token === this.shown?.token && found?.start === this.shown?.start) return;
    this.shown = found;
    this.render();
    this.#onShow();
  }

  // Shows it in the language of the page.
  render() {
    const list = $("alternatives");
    list.replaceChildren();
    list.removeAttribute("aria-activedescendant");
    $("no-token").hidden = Boolean(this.shown);
    $("token").hidden = !this.shown;
    if (this.shown) {
      const { token, start, end } = this.shown;
      const own = this.#story.text.slice(start, end);
      const isWhole = token.text.endsWith(own); // otherwise it is the first part of a character
      const rank = isWhole ? token.top.findIndex(({ text }) => text === token.text) + 1 : 0;
      const more = rank && rank < 9 ? ` · ${say("rank")} ${rank}` : "";
      $("token").textContent = `${visible(isWhole ? token.text : own)} · ${percentOf(token.logprob)}${more} · ${bits(token).toFixed(1)} ${say("bits")}`;
      list.append(...token.top.map((_, number) => this.#optionOf(token, number)));
    }
  }

  #optionOf(token, number) {
    const { text, logprob } = token.top[number];
    const isChosen = text === token.text;
    const option = element("div", { className: "alternative", id: `alternative-${number}` });
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", String(isChosen));
    option.setAttribute("aria-disabled", String(isChosen || !isChoosable(text)));
    option.style.setProperty("--share", `${100 * Math.exp(logprob)}%`);
    option.append(
      element("span", { className: "piece", textContent: visible(text) }),
      element("span", { className: "figure", textContent: percentOf(logprob) }),
      element("span", { className: "figure", textContent: `${(-logprob / Math.LN2).toFixed(1)}` }),
    );
    option.addEventListener("click", () => this.#choose(number));
    return option;
  }

  // Moves what is shown as a change moves the text.
  move(change) {
    if (!this.shown) return;
    const [place] = moved(this.shown, change);
    place ? this.shown = place : this.show(null);
  }

  #choose(number) {
    const place = this.shown;
    const taken = place?.token.top[number];
    if (taken && taken.text !== place.token.text && isChoosable(taken.text)) this.#onChoose(place, taken);
  }

  #keyDown(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const active = [...$("alternatives").children].findIndex((option) => option.classList.contains("active"));
    if (step) {
      event.preventDefault();
      this.#activate(active, step);
    } else if (event.key === "Enter" && active >= 0) {
      event.preventDefault();
      this.#onLeave();
      this.#choose(active);
    } else if (event.key === "Escape") this.#onLeave();
  }

  // Moves on to the next alternative that can be taken.
  #activate(from, step) {
    const list = $("alternatives");
    const options = [...list.children];
    const order = options.map((_, place) => (from + step * (place + 1) + 2 * options.length) % options.length);
    const number = order.find((place) => options[place].getAttribute("aria-disabled") === "false");
    if (number === undefined) return;
    options.forEach((option, place) => option.classList.toggle("active", place === number));
    list.setAttribute("aria-activedescendant", `alternative-${number}`);
  }
}
