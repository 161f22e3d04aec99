// Elements of HTML and SVG. Text enters them as text nodes only.

import { say } from "./words.js";

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.flat(Infinity).filter(Boolean));
  return element;
}

export const paragraph = (key, values) => make("p", {}, say(key, values));
export const pre = (text) => make("pre", { tabindex: "0" }, text); // it may scroll, so keys must reach it
export const soft = (key, values) => make("p", { class: "soft" }, say(key, values));
// Whether an event belongs to an input method; while that composes, browsers report 229 as the code of every key.
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

export function table(heads, rows, caption = "") {
  const cells = (tag, row) => row.map((cell, column) =>
    make(tag, { class: heads[column].n ? "n" : null, scope: tag === "th" ? "col" : null }, cell));
  return make("div", { class: "wide", tabindex: "0" }, make("table", {}, caption ? make("caption", {}, caption) : null,
    make("thead", {}, make("tr", {}, cells("th", heads.map((head) => head.text)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, cells("td", row))))));
}

export function section(id, title, ...children) {
  return make("section", { id, "aria-labelledby": `${id}-title` }, make("h2", { id: `${id}-title` }, say(title)), children);
}
