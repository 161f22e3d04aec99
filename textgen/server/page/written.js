// What the server was asked for the texts that the model wrote last.

import { lengthOf } from "./story.js";

export class Written {
  #request = null; // as `commandOf` takes it, with the seed that the server has drawn
  #asked = "";
  #places = new Map(); // node of the story, and the place of the cursor in its text, where the texts have been written

  // Notes that the texts of a request have been written: each at a node of the story. Several of them stand beside the
  // node from which they go on, where they are offered.
  note({ story, request, seed, from, at, nodes }) {
    this.#asked = keyOf(request);
    this.#request = { ...request, settings: { ...request.settings, seed } };
    const ends = nodes.map((node) => [node, at + lengthOf(story.nodes[node].added)]);
    this.#places = new Map(request.n > 1 ? [[from, at], ...ends] : ends);
  }

  forget() {
    this.#request = null;
  }

  // The request that writes the text at the cursor again; null if another one was written there, or if what is chosen
  // has changed: `request` is what the page would ask for next.
  requestAt(story, caret, request) {
    const isHere = this.#request && this.#places.get(story.current) === caret && this.#asked === keyOf(request);
    return isHere ? this.#request : null;
  }
}

// All that is chosen for a text, without the text before it.
const keyOf = ({ model, n, settings, isExact, isGap }) => JSON.stringify([model, n, settings, isExact, isGap]);
