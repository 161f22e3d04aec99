// What each layer already knows of the next token.

import { make, paragraph, section, soft, table } from "./elements.js";
import { D, HAS_RESIDUAL, M } from "./inspection.js";
import { count, number, withError } from "./numbers.js";
import { say } from "./words.js";

export function lensSection() {
  const { levels, model_bits: bits, start, tokens } = D.lenses;
  const lens = (level, name) => withError(level[name], level[`${name}_error`], 2);
  const rows = levels.map((level) => [level.name, lens(level, "logit_lens"), lens(level, "fitted_lens")]);
  const places = [...Array(Math.min(30, levels[0].guesses.length)).keys()];
  const guesses = places.map((place) => [D.tokens.token[start + place], ...levels.map((level) => {
    const right = level.guesses[place] === D.tokens.token[start + place + 1];
    return make(right ? "b" : "span", { class: "mono" }, level.guesses[place] + (right ? " ✓" : ""));
  })]);
  return section("layers", "layers title", paragraph("layers help", { model: number(bits, 2), tokens: count(tokens) }),
    table([{ text: say("level") }, { text: say("logit lens"), n: true }, { text: say("fitted lens"), n: true }], rows),
    soft(!HAS_RESIDUAL ? "lens plain" : M.projection ? "lens residual above" : "lens residual"),
    M.projection ? soft("lens projection") : null,
    M.attention ? soft("lens attention") : null,
    make("details", {}, make("summary", {}, say("guesses")),
      table([{ text: say("token read") }, ...levels.map((level) => ({ text: level.name }))], guesses)));
}
