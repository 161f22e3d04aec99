// Elements of the page: finding and making them, and what the browser does with a text for the user.

import { say } from "./words.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

export function button(word, action) {
  const made = element("button", { type: "button", textContent: say(word) });
  made.dataset.word = word;
  made.addEventListener("click", action);
  return made;
}

// Whether a button does nothing now. It is not `disabled`: a button that has the focus would lose it.
export const isOff = (id) => $(id).getAttribute("aria-disabled") === "true";

export const visible = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅";

// Shows a word of the page, or a message in words of its own, as those of the server are.
export function tell(word) {
  $("status").textContent = say(word);
  $("status").dataset.word = word;
}

// Returns whether the text was copied. Where the page may not write to the clipboard, as over plain HTTP, it copies as a
// person does.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

function copySelected(text) {
  const focused = document.activeElement;
  const field = element("textarea", { value: text });
  document.body.append(field);
  field.select();
  try {
    return document.execCommand("copy");
  } finally {
    field.remove();
    focused?.focus({ preventScroll: true });
  }
}

export function download(name, text, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
