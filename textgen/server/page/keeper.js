// Keeps the story soon after it has changed, and takes over what is kept.

import { tell } from "./dom.js";
import { Stale, accept, keep, kept, newer, setAside } from "./shelf.js";
import { Story } from "./story.js";

const REST = 20; // times as long as the last text took to be saved, the next one waits: a long one takes a while

// What is told of a text that cannot be kept or taken up: a word of the page, since browsers tell it in English, or not.
export const whyNotKept = (error) => (error instanceof Stale ? "otherTab" : "notKept");

export class Keeper {
  #story;
  #isWriting;
  #onOther;
  #saving = 0;
  #rested = 0; // when the next text may be saved, on the clock of the page
  #changes = 0; // of the story so far
  #handed = 0; // those of them that are kept or about to be
  #safe = 0; // those of them that are kept
  #hasFailed = false; // whether the last text could not be kept

  // Takes over nothing from another tab while isWriting(). Calls onOther() when it has.
  constructor(story, { isWriting, onOther }) {
    this.#story = story;
    this.#isWriting = isWriting;
    this.#onOther = onOther;
    addEventListener("pagehide", () => this.#save());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#save() : this.#refresh()));
  }

  // Takes up the story that is kept. What cannot be read is set aside before anything is written over it.
  async takeUp() {
    const { revision, story: found } = await kept();
    let before = null;
    try {
      before = found === null ? null : Story.fromJSON(found);
    } catch {
      await setAside(revision);
      return tell("unreadable");
    }
    accept(revision);
    if (before) this.#story.adopt(before);
  }

  // Notes that the story has changed.
  note(isStreaming) {
    this.#changes++;
    if (isStreaming && this.#saving) return; // it is saved soon, however long the model writes
    clearTimeout(this.#saving);
    this.#saving = setTimeout(() => {
      this.#saving = 0;
      this.#save();
    }, Math.max(isStreaming ? 700 : 150, this.#rested - performance.now()));
  }

  #save() {
    if (this.#handed === this.#changes) return;
    const upTo = (this.#handed = this.#changes);
    const began = performance.now();
    const keeping = keep(this.#story); // the page stands still until the text is handed over
    this.#rested = performance.now() + REST * (performance.now() - began);
    keeping.then(() => {
      this.#safe = upTo;
      if (this.#hasFailed) tell("saved"); // in the place of what was told
      this.#hasFailed = false;
    }, (error) => {
      this.#handed = this.#safe;
      this.#hasFailed = true;
      tell(whyNotKept(error));
    });
  }

  // Shows what another tab has kept, unless this one has something that is not kept.
  async #refresh() {
    if (this.#safe !== this.#changes || this.#isWriting()) return;
    const before = this.#changes;
    const found = await newer().then((record) => record?.story && { ...record, story: Story.fromJSON(record.story) }).catch(() => null);
    if (!found || this.#changes !== before || this.#isWriting()) return;
    this.#story.become(found.story);
    accept(found.revision);
    this.#onOther();
  }
}
