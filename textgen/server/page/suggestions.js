// What the model suggests at the end of the text while the user types.

import { $ } from "./dom.js";
import { sentOf } from "./engine.js";
import { asked } from "./settings.js";

export class Suggestions {
  #story;
  #view;
  #engine;
  #isWriting;
  #onTake;
  #ghost = null; // {text, at}
  #asking = null;
  #timer = 0;

  // Suggests nothing while isWriting(). Calls onTake(end) when a suggestion has become text, which ends there.
  constructor(story, view, engine, { isWriting, onTake }) {
    this.#story = story;
    this.#view = view;
    this.#engine = engine;
    this.#isWriting = isWriting;
    this.#onTake = onTake;
  }

  // The suggestion that is shown; empty without one.
  get text() {
    return this.#ghost?.text ?? "";
  }

  ask() {
    this.stop();
    if ($("ghost").checked) this.#timer = setTimeout(() => this.#find(), 500);
  }

  // Shows no suggestion, and looks for none.
  stop() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    this.hide();
  }

  async #find() {
    const prompt = this.#story.text;
    if (!prompt || !this.#view.isAtEnd || this.#isWriting()) return;
    let text = "";
    const { signal } = (this.#asking = new AbortController());
    try {
      await this.#engine.write({
        model: $("model").value, sent: sentOf(prompt, ""), n: 1, settings: { ...asked(), max_tokens: 10, until: "sentence" },
        signal, onSpan: (_, span) => { text += span.text; },
      });
    } catch {
      return;
    }
    if (signal.aborted || this.#isWriting() || this.#story.text !== prompt || !this.#view.isAtEnd) return;
    if (!text || text.includes("\n") && !text.trim()) return;
    this.#show({ text, at: prompt.length });
  }

  #show(ghost) {
    this.#ghost = ghost;
    this.#view.ghost = this.text;
  }

  hide() {
    this.#show(null);
  }

  // Makes the suggestion a part of the text, or only its beginning.
  take(text = this.text) {
    const { at } = this.#ghost;
    const rest = this.text.slice(text.length);
    if (at !== this.#story.text.length) return this.hide(); // it continues another text
    this.#story.change(at, 0, [{ text, origin: "model" }], "suggestion");
    this.#onTake(at + text.length);
    rest ? this.#show({ text: rest, at: at + text.length }) : this.ask();
  }

  takeWord() {
    this.take(firstWord(this.text));
  }
}

const UNSPACED = /\p{sc=Han}|\p{sc=Hira}|\p{sc=Kana}|\p{sc=Thai}|\p{sc=Laoo}|\p{sc=Khmr}|\p{sc=Mymr}|\p{sc=Tibt}/u;
const OPENING = /^[\p{Ps}\p{Pi}]/u;

// White space and the word after it, with the punctuation around it; undefined without a word. White space ends a word,
// and in scripts without spaces between words so do the next word and what opens a quotation or parenthesis.
export function firstWord(text) {
  const found = text.match(/^\s*\S+/)?.[0];
  if (!found || !Intl.Segmenter || !UNSPACED.test(found)) return found;
  let [end, word] = [0, null];
  for (const { segment, index, isWordLike } of new Intl.Segmenter(undefined, { granularity: "word" }).segment(found)) {
    if (word !== null && (isWordLike || OPENING.test(segment)) && UNSPACED.test(word + segment)) break;
    if (isWordLike) word = segment;
    end = index + segment.length;
  }
  return found.slice(0, end);
}
