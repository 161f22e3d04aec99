// All cells: what was found, their values over time, and how often their gates are saturated.

import { choose } from "./choice.js";
import { draw, make, paragraph, section, soft, table } from "./elements.js";
import { D, M, N, ROW, cellName, cellOf, indexOf, propertyName, roughMemory, statesOf } from "./inspection.js";
import { count, number, percent, signed, signedWithError } from "./numbers.js";
import { cellButton } from "./selection.js";
import { say } from "./words.js";

// === Cells found ===

function score(finding, value) {
  return `${finding.is_count ? "r " : "AUC "}${number(value, 3)}`;
}

export function cellsSection() {
  const changes = new Map(D.changes.cells.map((cell) => [indexOf(cell), cell]));
  const rows = (found) => D.cells.filter((finding) => finding.is_found === found).map((finding) => {
    const change = changes.get(indexOf(finding));
    const chance = finding.is_count ? 0 : 0.5;
    return [
      propertyName(finding.follows),
      ROW.has(indexOf(finding)) ? cellButton(indexOf(finding)) : cellName(finding),
      score(finding, finding.first),
      score(finding, finding.second),
      `${number(chance, 1)} ± ${number(finding.threshold, 3)}`,
      score(finding, finding.token_alone),
      change && found ? signedWithError(change.mean.bits, change.mean.bits_error, 4) : "–",
    ];
  });
  const heads = ["property", "cell", "first half", "second half", "threshold", "token alone", "ablated"]
    .map((key, column) => ({ text: say(key), n: column > 1 }));
  const found = rows(true), others = rows(false);
  const random = D.changes.random_bits;
  return section("cells", "cells title", paragraph("cells help"),
    found.length ? table(heads, found) : paragraph("none found"),
    found.length && random.length ? soft("ablated help", { steps: D.changes.steps, random: random.length,
      low: signed(Math.min(...random), 4), high: signed(Math.max(...random), 4) }) : null,
    others.length ? make("details", {}, make("summary", {}, say("not found", { number: others.length })), table(heads, others)) : null);
}

// === All cells over time ===

export function pictureSection() {
  const layers = [...Array(M.num_layers).keys()];
  const select = make("select", { id: "layer" }, layers.map((layer) => make("option", { value: layer }, `L${layer}`)));
  const canvas = make("canvas", { role: "img", "aria-label": say("picture label") });
  const line = make("p", { class: "soft" });
  let rows = [];
  const paint = () => {
    rows = D.states.cells.filter((index) => Math.floor(index / M.hidden_units) === +select.value);
    const spread = new Map(rows.map((index) => [index, lifeOf(index)]));
    rows.sort((a, b) => spread.get(b) - spread.get(a));
    const width = Math.min(N, 1000), context = canvas.getContext("2d");
    canvas.width = width;
    canvas.height = rows.length;
    canvas.style.height = `${Math.max(160, Math.min(420, 2 * rows.length))}px`;
    const image = context.createImageData(width, rows.length);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches, ground = dark ? 21 : 252;
    rows.forEach((index, row) => {
      const values = statesOf(index);
      for (let x = 0; x < width; x++) {
        const low = Math.floor(x * N / width), high = Math.max(low + 1, Math.floor((x + 1) * N / width));
        let sum = 0;
        for (let t = low; t < high; t++) sum += values[t];
        const value = sum / (127 * (high - low)), colour = value < 0 ? [0, 105, 168] : [184, 74, 0], at = 4 * (row * width + x);
        for (let k = 0; k < 3; k++) image.data[at + k] = ground + (colour[k] - ground) * Math.min(1, Math.abs(value));
        image.data[at + 3] = 255;
      }
    });
    context.putImageData(image, 0, 0);
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = (fraction, size) => Math.min(size - 1, Math.floor(fraction * size));
    return {
      token: place((event.clientX - box.left) / box.width, N),
      cell: rows[place((event.clientY - box.top) / box.height, rows.length)],
    };
  };
  canvas.addEventListener("pointermove", (event) => {
    const { token, cell } = at(event);
    line.textContent = `${cellName(cellOf(cell))} · ${say("token")} ${count(token + 1)} · ${roughMemory(cell, token)}`;
  });
  canvas.addEventListener("click", (event) => choose({ ...at(event), colour: "cell" }));
  select.addEventListener("change", paint);
  line.textContent = say("picture point");
  matchMedia("(prefers-color-scheme: dark)").onchange = paint;
  paint();
  return section("picture", "picture title", paragraph(D.half_lives ? "picture help life" : "picture help spread"),
    D.states.cells.length < D.states.total ? soft("picture part", { kept: count(D.states.cells.length), total: count(D.states.total) }) : null,
    make("div", { class: "bar" }, make("label", { for: "layer" }, say("layer")), select), canvas, line);
}

function lifeOf(index) {
  const cell = cellOf(index);
  if (D.half_lives) return D.half_lives[cell.layer][cell.unit];
  return statesOf(index).reduce((sum, value) => sum + value ** 2, 0);
}

// === Saturation ===

export function saturationSection() {
  const gates = Object.entries(D.saturation);
  if (!gates.length) return section("saturation", "saturation title", paragraph("saturation none", { cell: M.cell_name }));
  const size = 190;
  const plots = {};  // of each layer, which are a row where there is room
  for (const [gate, { closed, open }] of gates) {
    const [layer, name] = gate.split("/"), L = layer.split("_").pop();
    const dots = closed.map((fraction, unit) => draw("circle", {
      cx: 28 + (size - 40) * fraction, cy: size - 28 - (size - 40) * open[unit], r: 2.2, fill: "var(--a)", opacity: 0.55,
    }));
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    (plots[L] ??= []).push(make("figure", {}, draw("svg", { viewBox: `0 0 ${size} ${size}`, width: size, height: size, role: "img",
      "aria-label": say("saturation dot", { gate: `L${L}.${name}`, closed: percent(mean(closed)), open: percent(mean(open)) }) },
      draw("path", { class: "wire", d: `M28 12 V${size - 28} H${size - 12} L28 12` }), dots,
      draw("text", { class: "soft", x: size / 2, y: size - 10, "text-anchor": "middle" }, say("fraction closed")),
      draw("text", { class: "soft", x: 14, y: size / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${size / 2})` }, say("fraction open")),
      draw("text", { class: "val", x: size - 14, y: 24, "text-anchor": "end" }, `L${L}.${name}`))));
  }
  const rows = Object.values(plots).map((ofLayer) => make("div", { class: "bar" }, ofLayer));
  return section("saturation", "saturation title", paragraph("saturation help"), rows);
}
