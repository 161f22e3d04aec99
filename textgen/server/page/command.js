// The call of `textgen sample` that writes what the page asks the server for.

const USUAL = { temperature: 0.8, min_p: 0.05, top_p: 1, top_k: 0, repeat_penalty: 1, max_tokens: 500 };
const GAP_TOKENS = 40; // the usual max_tokens between a prompt and a suffix
// As in textgen.wording, but without lone surrogates.
const HIDDEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

// Empty without a model, for a prompt that the command would read from standard input, and for texts with U+0000, which
// no command can have. `sent` is what the server is sent: see `sentOf`.
export function commandOf({ model, sent: { prompt, suffix }, n, settings, isExact }) {
  if (!model || prompt === "-" || `${prompt}${suffix}`.includes("\0")) return "";
  const { seed, clamp = [], label, ...samplers } = settings;
  const usual = prompt && suffix ? { ...USUAL, max_tokens: GAP_TOKENS } : USUAL;
  const words = ["textgen", "sample", quoted(model)];
  if (prompt) words.push("--prompt", quoted(prompt));
  if (suffix) words.push("--suffix", quoted(suffix));
  else if (label !== undefined) words.push("--label", quoted(label));
  if (n > 1) words.push("--num", String(n));
  for (const [name, value] of Object.entries(samplers)) {
    if (value !== usual[name]) words.push(`--${name.replaceAll("_", "-")}`, String(value));
  }
  if (seed !== undefined) words.push("--seed", String(seed));
  for (const each of clamp) words.push("--clamp", quoted(each));
  if (isExact && !suffix && !clamp.length) words.push("--exact");
  return words.join(" ");
}

// A word for a shell: one for POSIX unless it has hidden characters, which would control a terminal when pasted.
function quoted(word) {
  if (/^[\p{L}\p{N}\p{M}_@%+=:,./-]+$/u.test(word)) return word;
  if (word.search(HIDDEN) < 0) return `'${word.replaceAll("'", "'\\''")}'`;
  const escaped = word.replace(/[\\']/g, "\\$&").replaceAll("\n", "\\n").replaceAll("\t", "\\t");
  return `$'${escaped.replace(HIDDEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)}'`;
}
