// The Worker of the page, after the engine. It holds the model and writes; the page never waits for it.
//
// From the page:
//   {kind: "load", model, wasm}     the packed model in base64
//   {kind: "write", number, prompt, seed, label, settings, skip, tokens}
//                                   `tokens` tokens, after the first `skip` of that text, which the page has already
//   {kind: "stop"}
// To the page:
//   {kind: "ready", card, defaults, isSimd}
//   {kind: "tokens", number, tokens, isLast, isEnded}   at most 20 times a second, and one token at once
//   {kind: "failure", message}

const PAUSE = 50; // milliseconds between two messages with tokens
const SHOWN = 8; // alternatives of a token
const NO_LIMIT = 2 ** 31 - 1; // tokens of a text: the page counts them

let writer = null;
let asked = null; // the message of kind "write" that is being done
let begun = ""; // the text that the writer is in
const again = new MessageChannel(); // a turn of the loop without the delay of setTimeout

const HANDLERS = {
  async load({ model, wasm }) {
    const bytes = fromBase64(model.trim());
    writer = await Writer.load(bytes, { wasm }).catch((error) => {
      if (!wasm || !(error instanceof WebAssembly.CompileError)) throw error;
      return Writer.load(bytes, { wasm: false }); // forbidden where the page is, perhaps
    });
    postMessage({ kind: "ready", card: writer.card, defaults: writer.defaults, isSimd: writer.isSimd });
  },

  write(message) {
    const { prompt, seed, label, settings, skip } = message;
    const wanted = JSON.stringify([prompt, seed, label, settings]);
    if (wanted !== begun || writer.written !== skip) {
      const limits = { ...settings, max_tokens: NO_LIMIT };
      writer.prepare({ prompt, seed, label, settings: limits, top: SHOWN });
      begun = wanted;
    }
    const isIdle = asked === null;
    asked = message;
    if (isIdle) again.port2.postMessage(0);
  },

  stop() {
    asked = null;
  },
};

self.onmessage = async ({ data }) => {
  try {
    await HANDLERS[data.kind](data);
  } catch (error) {
    fail(error);
  }
};

again.port1.onmessage = () => {
  try {
    if (asked) writeOn();
  } catch (error) {
    fail(error);
  }
};

/** Reads the prompt and writes until it is time to tell the page, or to hear what it says: it may have stopped. */
function writeOn() {
  const { number, skip, tokens } = asked;
  const started = performance.now();
  const isTime = () => performance.now() - started >= PAUSE;
  if (!writer.read(isTime)) return again.port2.postMessage(0);
  const isFirst = writer.written <= skip;
  const found = [];
  let isLast = false;
  let isEnded = false;
  do {
    const token = writer.next();
    if (writer.written > skip) found.push(told(token));
    isEnded = token.done;
    isLast = isEnded || writer.written >= skip + tokens;
  } while (!isLast && !(isFirst && found.length) && !isTime());
  if (isLast) asked = null;
  else again.port2.postMessage(0);
  if (found.length) postMessage({ kind: "tokens", number, tokens: found, isLast, isEnded });
}

/** A token as the page knows it. */
function told({ id, text, probability, top }) {
  const { endOfDocument, texts } = writer.tokenizer;
  const before = writer.written === 1 ? writer.healedText : ""; // what the prompt has of the token
  const alternatives = top.map((each) => ({
    text: each.id === endOfDocument ? "" : texts[each.id] || null,
    shown: each.text,
    probability: each.probability,
    isEnd: each.id === endOfDocument,
    isChosen: each.id === id,
  }));
  return { text, own: (texts[id] ?? "").slice(before.length), healed: before, probability, top: alternatives };
}

function fail(error) {
  asked = null;
  begun = "";
  postMessage({ kind: "failure", message: String(error?.message ?? error) });
}

/**
 * @param {string} text Base64 without white space.
 * @returns {Uint8Array}
 */
function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const values = new Uint8Array(128);
  for (const [value, sign] of [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].entries()) {
    values[sign.charCodeAt(0)] = value;
  }
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((text.length >> 2) * 3);
  for (let from = 0, to = 0; from + 3 < text.length; from += 4) {
    const four =
      (values[text.charCodeAt(from)] << 18) | (values[text.charCodeAt(from + 1)] << 12) |
      (values[text.charCodeAt(from + 2)] << 6) | values[text.charCodeAt(from + 3)];
    bytes[to++] = four >> 16;
    bytes[to++] = (four >> 8) & 255;
    bytes[to++] = four & 255;
  }
  return bytes.subarray(0, bytes.length - padding);
}
