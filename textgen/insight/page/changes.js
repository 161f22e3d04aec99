// What a change of a cell does.

import { make, paragraph, pre, section, table } from "./elements.js";
import { D, M, cellName, indexOf, propertyName } from "./inspection.js";
import { number, percent, signedWithError } from "./numbers.js";
import { say } from "./words.js";

export function changesSection() {
  if (!D.changes.cells.length) return section("changes", "changes title", paragraph("changes none"));
  const writes = D.text.direction === "forward"; // textgen sample clamps cells of the forward network alone
  const line = (arrow, { token, before, after }) =>
    make("span", { class: "mono line" }, `${arrow} ${token} ${percent(before)} → ${percent(after)}`);
  const moved = (change) => [["↑", change.rising], ["↓", change.falling]].map(([arrow, tokens]) =>
    make("div", { class: "moved" }, tokens.slice(0, 3).flatMap((one) => [line(arrow, one), " "])));
  const heads = [
    { text: say("held") },
    { text: M.memory, n: true },
    { text: say("bits per token"), n: true },
    { text: say("with it"), n: true },
    { text: say("without it"), n: true },
    { text: say("tokens moved") },
    ...(writes ? [{ text: say("to write so") }] : []),
  ];
  const blocks = D.changes.cells.map((cell) => {
    const followed = D.cells.filter((finding) => finding.is_found && indexOf(finding) === indexOf(cell))
      .map((finding) => propertyName(finding.follows)).join(say("comma"));
    const rows = ["mean", "low", "high"].map((name) => {
      const change = cell[name], text = `${cellName(cell)}=${change.number}`;
      return [
        say(`held ${name}`),
        number(change.number, 2),
        ...["bits", "bits_with", "bits_without"].map((bits) => signedWithError(change[bits], change[`${bits}_error`], 4)),
        moved(change),
        ...(writes ? [name === "mean" ? "" : make("code", {}, `--clamp ${text}`)] : []),
      ];
    });
    const written = D.written.find((one) => indexOf(one) === indexOf(cell));
    return [make("h3", {}, `${cellName(cell)}${followed ? ` · ${followed}` : ""}`),
      table(heads, rows),
      written ? make("div", { class: "three" }, ["low", "free", "high"].map((name) =>
        make("figure", {}, make("figcaption", {}, say(`written ${name}`)), make("blockquote", {}, written[`text_${name}`]),
          pre(written[`command_${name}`])))) : null];
  });
  return section("changes", "changes title", paragraph(writes ? "changes help" : "changes help backward", { steps: D.changes.steps }), ...blocks.flat());
}
