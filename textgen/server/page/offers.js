// Several texts that the model writes at once, each with a button that takes it.

import { $, button, element } from "./dom.js";
import { say } from "./words.js";

// Offers the texts of some nodes, which are empty at first. Calls onTake(node) for the one that is taken.
export function showOffers(nodes, onTake) {
  const offers = $("offers");
  offers.hidden = false;
  offers.replaceChildren(
    ...nodes.map((node, place) => {
      const offer = element("div", { className: "offer" });
      offer.dataset.node = node;
      const take = button("take", () => onTake(node));
      take.setAttribute("aria-label", `${say("take")} ${place + 1}`);
      offer.append(element("p"), take);
      return offer;
    }),
  );
}

export function showOffer(place, text) {
  const paragraph = $("offers").children[place]?.firstChild;
  if (paragraph) paragraph.textContent = text;
}

export function hideOffers() {
  $("offers").hidden = true;
}

// Offers the text of a node no longer.
export function withdraw(node) {
  const offers = $("offers");
  [...offers.children].find((offer) => offer.dataset.node === String(node))?.remove();
  if (!offers.children.length) hideOffers();
}
