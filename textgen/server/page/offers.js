// Several texts that the model writes at once, each with a button that takes it.

import { $, button, element } from "./dom.js";
import { say } from "./words.js";

// Offers some texts, which are empty at first. Calls onTake(place) for the one that is taken.
export function showOffers(number, onTake) {
  const offers = $("offers");
  offers.hidden = false;
  offers.replaceChildren(
    ...Array.from({ length: number }, (_, place) => {
      const offer = element("div", { className: "offer" });
      offer.dataset.number = place + 1;
      offer.append(element("p"), button("take", () => onTake(place)));
      return offer;
    }),
  );
  nameOffers();
}

// Names the buttons for screen readers, in the language of the page.
export function nameOffers() {
  for (const { dataset, lastChild } of $("offers").children) {
    lastChild.setAttribute("aria-label", `${say("take")} ${dataset.number}`);
  }
}

export function showOffer(place, text) {
  const paragraph = $("offers").children[place]?.firstChild;
  if (paragraph) paragraph.textContent = text;
}

export function hideOffers() {
  $("offers").hidden = true;
}

// Offers the texts at some places no longer. Those after them get other places, so no other text is shown after this.
export function withdraw(places) {
  const offers = $("offers");
  const all = [...offers.children];
  for (const place of places) all[place]?.remove();
  if (!offers.children.length) hideOffers();
}
