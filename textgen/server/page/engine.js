// The server as the page uses it: models, texts as a stream of spans, scores of a text.

import { beginningOfLast, endOfFirst } from "./story.js";

const MAX_UNITS = 10_000; // units of prompt and suffix together: fewer than 32,768 tokens of any vocabulary

// The parts of a text before and after a gap that are sent: the ends that face the gap.
export function sentOf(prompt, suffix) {
  const before = prompt.slice(beginningOfLast(prompt, suffix ? MAX_UNITS >> 1 : MAX_UNITS));
  return { prompt: before, suffix: suffix.slice(0, endOfFirst(suffix, MAX_UNITS - before.length)) };
}

class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// What is told of an error: its message, or a word of the page.
export function explain(error) {
  return error instanceof ServerError ? error.message : "lost";
}

export class HttpEngine {
  key = "";
  isExact = false; // whether the server computes in exact arithmetic unless it is told otherwise

  // Returns [{name, labels}].
  async models() {
    const { data } = await this.json("v1/models");
    this.isExact = data.some((model) => model.exact);
    return data.map(({ id, labels }) => ({ name: id, labels }));
  }

  // Streams `n` continuations of what `sentOf` returns. Calls onSeed(seed) before the first piece of text, and
  // onSpan(index, span) for each. Returns whether the model has ended all of them. A text that fills a gap ends at what
  // follows it, which is no end of the whole text; no label goes with it.
  async write({ model, sent: { prompt, suffix }, n, settings, signal, onSeed = () => {}, onSpan }) {
    const { label, ...others } = settings;
    const towards = suffix ? { suffix } : { label, logprobs: 8 };
    const body = { ...others, ...towards, ...this.inexact(suffix || settings.clamp?.length), model, prompt, n, stream: true };
    const response = await this.fetch("v1/completions", { method: "POST", body: JSON.stringify(body), signal });
    const length = [...prompt].length;
    const held = new Map();
    const reasons = Array(n).fill(null);
    let isBegun = false;
    for await (const event of eventsOf(response.body)) {
      if (event.error) throw new ServerError(500, event.error.message);
      if (!isBegun) onSeed(event.seed);
      isBegun = true;
      const [choice] = event.choices;
      if (!choice) continue;
      if (choice.finish_reason) reasons[choice.index] = choice.finish_reason;
      const token = asOne([held.get(choice.index), tokenOf(choice.logprobs, length)].filter(Boolean));
      if (choice.text) {
        onSpan(choice.index, { text: choice.text, origin: "model", token });
        held.delete(choice.index);
      } else if (token) {
        held.set(choice.index, token); // part of a character
      }
    }
    return !suffix && reasons.every((reason) => reason === "stop");
  }

  // The surprisal of each token of a text, or of the tokens of a character together: [{start, end, token}], in UTF-16 units.
  async score({ model, text, clamp, label, signal }) {
    const body = { ...this.inexact(clamp?.length), model, prompt: text, clamp, label, echo: true, logprobs: 8, max_tokens: 0 };
    const response = await this.fetch("v1/completions", { method: "POST", body: JSON.stringify(body), signal });
    const { logprobs } = (await response.json()).choices[0];
    const offsets = unitsOf(text);
    const found = [];
    let parts = []; // of a character
    for (const number of logprobs.tokens.keys()) {
      const start = offsets[logprobs.text_offset[number]];
      const end = offsets[logprobs.text_offset[number + 1] ?? offsets.length - 1];
      parts.push(tokenAt(logprobs, number, 0));
      if (start === end) continue;
      found.push({ start, end, token: parts.every(Boolean) ? asOne(parts) : undefined });
      parts = [];
    }
    return found;
  }

  // Where a text occurs in the training text of the model: [{start, end}], in UTF-16 units; null if that is not known.
  async copies({ model, text, signal }) {
    const body = { model, prompt: text, echo: true, novelty: true, max_tokens: 0 };
    const response = await this.fetch("v1/completions", { method: "POST", body: JSON.stringify(body), signal });
    const { copied } = (await response.json()).choices[0];
    const offsets = unitsOf(text);
    return copied?.map(([start, end]) => ({ start: offsets[start], end: offsets[end] })) ?? null;
  }

  // Exact arithmetic fills no gaps and clamps no cells.
  inexact(isNeeded) {
    return this.isExact && isNeeded ? { exact: false } : {};
  }

  async json(path) {
    return (await this.fetch(path)).json();
  }

  async fetch(path, options = {}) {
    if (/[^\x20-\x7e]/.test(this.key)) throw new ServerError(401, "badKey"); // no header can hold it
    const headers = { "Content-Type": "application/json", ...(this.key && { Authorization: `Bearer ${this.key}` }) };
    const response = await fetch(path, { ...options, headers });
    if (!response.ok) {
      const body = await response.json().catch(() => null);
      throw new ServerError(response.status, body?.error?.message || response.statusText || `HTTP ${response.status}`);
    }
    return response;
  }
}

// Throws an error if the last event has not come, as where a proxy has closed the connection, or has sent a page of its own.
async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The stream has no last event.");
    const blocks = (waiting + value).split(/\r?\n\r?\n/);
    waiting = blocks.pop();
    for (const block of blocks) {
      if (block === "data: [DONE]") return;
      if (block.startsWith("data: ")) yield JSON.parse(block.slice(6));
    }
  }
}

function tokenOf(logprobs, promptLength) {
  if (!logprobs?.tokens.length) return undefined;
  return tokenAt(logprobs, 0, Math.max(0, promptLength - logprobs.text_offset[0]));
}

// `healed` is the number of characters before the span that the token writes again.
function tokenAt(logprobs, number, healed) {
  const logprob = logprobs.token_logprobs[number];
  if (logprob === null) return undefined;
  const top = Object.entries(logprobs.top_logprobs[number]).map(([text, value]) => ({ text, logprob: value }));
  top.sort((a, b) => b.logprob - a.logprob);
  return { text: logprobs.tokens[number], logprob, top, healed };
}

// Tokens that are one character together: as likely as all of them one after another. What could have come in its place
// is what could have come in that of the first.
function asOne(tokens) {
  if (tokens.length < 2) return tokens[0];
  return { ...tokens[0], logprob: tokens.reduce((sum, { logprob }) => sum + logprob, 0) };
}

// The UTF-16 offset of each character of a text, and of its end.
function unitsOf(text) {
  const offsets = [];
  let at = 0;
  for (const character of text) {
    offsets.push(at);
    at += character.length;
  }
  offsets.push(at);
  return offsets;
}
