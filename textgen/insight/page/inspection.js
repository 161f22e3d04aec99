// What was seen: the data of the page, the names in it, its arrays, and the order of its text.

import { number } from "./numbers.js";
import { WORDS, say } from "./words.js";

export const D = JSON.parse(document.getElementById("data").textContent);
export const M = D.model;
export const N = D.text.tokens;
export const IS_RELU = M.cell === "rnn" && M.activation === "relu"; // the activation of other cells is tanh
export const HAS_RESIDUAL = M.residual && (!M.projection || M.num_layers > 1); // L0 adds only embeddings of its width

export const cellName = (cell) => `L${cell.layer}/${cell.unit}`;
export const propertyName = (name) => {
  const keys = [`property ${D.text.direction}: ${name}`, `property: ${name}`].filter((key) => key in WORDS);
  return keys.length ? say(keys[0]) : name;
};

// === Arrays ===

function unpacked(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const STATES = unpacked(D.states.values, Int8Array); // [cells, N], 127 tanh
export const ROW = new Map(D.states.cells.map((cell, row) => [cell, row]));
export const TOP_IDS = unpacked(D.top.ids, Int32Array);
export const TOP_PROBABILITIES = unpacked(D.top.probabilities, Uint16Array);
export const PROPERTIES = Object.fromEntries(Object.entries(D.properties).map(([name, text]) => [name, unpacked(text, Uint16Array)]));
export const SHOWN = D.shown.map((cell) => ({
  ...cell,
  series: Object.fromEntries(Object.entries(cell.values).map(([name, one]) =>
    [name, Float32Array.from(unpacked(one.values, Int16Array), (value) => value * one.scale)])),
}));
export const cellOf = (index) => ({ layer: Math.floor(index / M.hidden_units), unit: index % M.hidden_units });
export const indexOf = (cell) => cell.layer * M.hidden_units + cell.unit;
export const statesOf = (index) => STATES.subarray(ROW.get(index) * N, (ROW.get(index) + 1) * N);
/** The memory of any cell of the page after a token, from the one byte that the page has of it. */
export function roughMemory(index, token) {
  const squashed = statesOf(index)[token] / 127;
  if (IS_RELU && squashed === 1) return "h ≥ 1"; // larger ones have the same byte
  return `${M.memory === "c" ? "tanh(c)" : "h"} ≈ ${number(squashed, 2)}`;
}
export const shownOf = (index) => SHOWN.find((cell) => indexOf(cell) === index);

// === The order of the text ===

export const STARTS = D.documents.starts; // the first token of each document
export const DOCUMENT = new Int32Array(N); // the document of each token
STARTS.forEach((start, number) => DOCUMENT.fill(number, start, STARTS[number + 1] ?? N));

/** Tokens, which stand in the order of reading, in that of the text: read backward, a document's last token comes first. */
export function inTextOrder(from, to) {
  const tokens = Array.from({ length: Math.max(0, to - from + 1) }, (_, at) => from + at);
  if (D.text.direction !== "backward") return tokens;
  const rank = (token) => (token < STARTS[DOCUMENT[token]] + D.documents.opening ? -N : -token);
  return tokens.sort((a, b) => DOCUMENT[a] - DOCUMENT[b] || rank(a) - rank(b));
}

/** Whether a token is a byte of a character without being its last one: of these the last one has the text. */
export const isPart = (token) => D.tokens.text[token] === "" && token >= STARTS[DOCUMENT[token]] + D.documents.opening;

/** The text of tokens up to the newest one read: of a character that is not complete, the bytes that were read. */
export function textRead(from, to) {
  const bytes = new Set();
  let token = to;
  if (D.text.direction !== "backward") while (token >= from && isPart(token)) bytes.add(token--);
  else if (to + 1 < N && isPart(to + 1)) { // the last byte, which has the text, was read first
    while (token >= from && isPart(token)) bytes.add(token--);
    bytes.add(token);
  }
  return inTextOrder(from, to).map((each) => D.tokens[bytes.has(each) ? "token" : "text"][each]).join("");
}

export const textOf = (from, to) => inTextOrder(from, to).map((token) => D.tokens.text[token]).join("");
