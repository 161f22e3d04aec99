// The call of `textgen sample` that writes what the page asks the server for.

const USUAL = { temperature: 0.8, min_p: 0.05, top_p: 1, top_k: 0, repeat_penalty: 1, max_tokens: 500 };
const GAP_TOKENS = 40; // the usual max_tokens between a prompt and a suffix

// Empty without a model, and for a prompt that the command would read from standard input. `sent` is what the server is
// sent: see `sentOf`.
export function commandOf({ model, sent: { prompt, suffix }, n, settings, isExact }) {
  if (!model || prompt === "-") return "";
  const { seed, clamp = [], ...samplers } = settings;
  const usual = prompt && suffix ? { ...USUAL, max_tokens: GAP_TOKENS } : USUAL;
  const words = ["textgen", "sample", quoted(model)];
  if (prompt) words.push("--prompt", quoted(prompt));
  if (suffix) words.push("--suffix", quoted(suffix));
  if (n > 1) words.push("--num", String(n));
  for (const [name, value] of Object.entries(samplers)) {
    if (value !== usual[name]) words.push(`--${name.replaceAll("_", "-")}`, String(value));
  }
  if (seed !== undefined) words.push("--seed", String(seed));
  for (const each of clamp) words.push("--clamp", quoted(each));
  if (isExact && !suffix && !clamp.length) words.push("--exact");
  return words.join(" ");
}

// A word for a POSIX shell.
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) && !word.startsWith("-") ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
