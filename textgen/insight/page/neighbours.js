// Tokens with similar embeddings.

import { make, paragraph, section, table } from "./elements.js";
import { D, M } from "./inspection.js";
import { number } from "./numbers.js";
import { say } from "./words.js";

export function neighboursSection() {
  const list = (found) => make("span", { class: "mono" }, found.map(({ token, cosine }) => `${token} ${number(cosine, 2)}`).join("   "));
  const heads = [{ text: say("token") }, { text: say(M.tie_embeddings ? "both embeddings" : "input embedding") }];
  if (!M.tie_embeddings) heads.push({ text: say("output embedding") });
  const rows = D.neighbours.map((one) =>
    [make("span", { class: "mono" }, one.token), list(one.inputs), one.outputs ? list(one.outputs) : null].slice(0, heads.length));
  return section("neighbours", "neighbours title", paragraph(M.tie_embeddings ? "neighbours tied" : "neighbours help"),
    make("details", { open: true }, make("summary", {}, say("show")), table(heads, rows)));
}
