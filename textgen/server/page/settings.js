// What is chosen beside the text: sliders, seed and cells as the server is asked for them, and what is remembered of it.

import { $, element, tell } from "./dom.js";
import { readFrom, writeTo } from "./shelf.js";
import { say, spoken } from "./words.js";

const SLIDERS = {
  temperature: { usual: 0.8, low: 0, high: 2, step: 0.05 },
  min_p: { usual: 0.05, low: 0, high: 0.5, step: 0.01 },
  top_p: { usual: 1, low: 0, high: 1, step: 0.01 },
  top_k: { usual: 0, low: 0, high: 200, step: 1 },
  repeat_penalty: { usual: 1, low: 1, high: 2, step: 0.05 },
  max_tokens: { usual: 60, low: 1, high: 500, step: 1 },
};
const PRESETS = {
  careful: { temperature: 0.5, min_p: 0.1, top_p: 1, top_k: 0, repeat_penalty: 1.05 },
  usual: { temperature: 0.8, min_p: 0.05, top_p: 1, top_k: 0, repeat_penalty: 1 },
  wild: { temperature: 1.2, min_p: 0.02, top_p: 1, top_k: 0, repeat_penalty: 1 },
};
export const CHOICES = ["marks", "font", "size", "number", "clamp"];

const settings = Object.fromEntries(Object.entries(SLIDERS).map(([name, { usual }]) => [name, usual]));
let onSet = () => {};
let model = ""; // the one that was chosen, also before the server has told which there are; empty: none was
let label = ""; // likewise, of this model; empty: none
let labels = {}; // of each model by its name

// Puts the sliders on the page. Calls `onChange` whenever one of them gets a value.
export function makeSliders(onChange) {
  onSet = onChange;
  for (const [name, { low, high, step, usual }] of Object.entries(SLIDERS)) {
    const row = element("div", { className: "slider" });
    const label = element("label", { htmlFor: `${name}-number` });
    label.dataset.word = name;
    const range = element("input", { type: "range", min: low, max: high, step, value: usual, id: `${name}-range` });
    range.dataset.label = name;
    const number = element("input", { type: "number", min: low, max: high, step, value: usual, id: `${name}-number` });
    row.append(label, range, number);
    $("sliders").append(row);
    const take = (value) => set(name, fitted(name, value));
    range.addEventListener("input", () => take(range.valueAsNumber));
    number.addEventListener("change", () => take(number.valueAsNumber));
  }
  $("preset").addEventListener("change", () => Object.entries(PRESETS[$("preset").value]).forEach(([name, value]) => set(name, value)));
}

// The value of a slider that is closest to one that was typed; the value before it for what is no number.
function fitted(name, value) {
  const { low, high, step } = SLIDERS[name];
  if (!Number.isFinite(value)) return settings[name];
  return Math.min(high, Math.max(low, step === 1 ? Math.round(value) : value));
}

function set(name, value) {
  settings[name] = value;
  $(`${name}-range`).value = value;
  $(`${name}-number`).value = value;
  $(`${name}-range`).closest(".slider").classList.toggle("changed", value !== SLIDERS[name].usual);
  const fits = Object.entries(PRESETS).find(([, preset]) => Object.entries(preset).every(([key, wanted]) => settings[key] === wanted));
  $("preset").value = fits?.[0] ?? "";
  remember();
  onSet();
}

function seed() {
  const text = $("seed").value.trim();
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : null;
}

// Marks a seed that is none, and says so.
export function checkSeed() {
  const isWrong = seed() === null && $("seed").value.trim() !== "";
  if (isWrong) tell("badSeed");
  else if ($("seed").getAttribute("aria-invalid") === "true") tell("");
  $("seed").setAttribute("aria-invalid", String(isWrong));
}

// Takes the model and the label that are selected as chosen, so that they are selected the next time, too.
export function chooseModel() {
  if (!$("model").value) return; // the server has not told yet
  model = $("model").value;
  label = $("label").value;
}

// Chooses no label, and clamps no cell: those of another model are others.
export function forgetModel() {
  $("clamp").value = label = "";
  showLabels();
}

// Shows the labels of the model that is selected, if it has any. Keeps the one that was chosen if it is among them.
function showLabels() {
  const names = labels[$("model").value] ?? [];
  if (!names.includes(label)) label = "";
  $("label").replaceChildren(
    element("option", { value: "", textContent: say("noLabel") }),
    ...names.map((name) => element("option", { value: name, textContent: name })),
  );
  $("label").firstChild.dataset.word = "noLabel";
  $("label").value = label;
  $("labels").hidden = !names.length;
}

// Shows which models there are. Keeps the one that was chosen; if it is not among them, neither is its label chosen any
// more nor are its cells clamped.
export function showModels(models) {
  const wanted = model || $("model").value;
  const names = models.map(({ name }) => name);
  labels = Object.fromEntries(models.map((each) => [each.name, each.labels]));
  $("model").replaceChildren(...names.map((name) => element("option", { textContent: name })));
  if (names.includes(wanted)) $("model").value = wanted;
  else if (model) {
    model = "";
    tell("otherModel");
    forgetModel();
    look();
  }
  if (label && !labels[$("model").value]?.includes(label)) tell("otherLabel");
  showLabels();
  remember();
}

function clamps() {
  return $("clamp").value.split(/[\s,，、]+/).filter(Boolean);
}

// What is asked of the server besides the text.
export function asked() {
  const chosen = { ...(seed() !== null && { seed: seed() }), ...(clamps().length && { clamp: clamps() }) };
  return { ...settings, ...chosen, ...(label && { label }) };
}

export function remember() {
  const chosen = Object.fromEntries(CHOICES.map((id) => [id, $(id).value]));
  const all = { settings, chosen, model, label, language: spoken(), ghost: $("ghost").checked, fill: $("fill").checked };
  writeTo(() => localStorage, "textgen", JSON.stringify(all));
}

// Returns what is remembered: an object that may lack anything.
export function recall() {
  try {
    return JSON.parse(readFrom(() => localStorage, "textgen") ?? "{}") ?? {};
  } catch {
    return {};
  }
}

// Chooses what `recall` has returned.
export function restore(before) {
  for (const id of CHOICES) if (before.chosen?.[id]) $(id).value = before.chosen[id];
  $("ghost").checked = Boolean(before.ghost);
  $("fill").checked = Boolean(before.fill);
  if (typeof before.model === "string") model = before.model;
  if (typeof before.label === "string") label = before.label;
  // after the others, which `set` remembers as they are
  for (const [name, value] of Object.entries(before.settings ?? {})) if (name in SLIDERS) set(name, fitted(name, value));
  set("temperature", settings.temperature);
}

// Shows the page as chosen.
export function look() {
  const fonts = {
    serif: "",
    sans: 'system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif',
    mono: 'ui-monospace, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace',
  };
  const style = document.documentElement.style;
  style.setProperty("--size", `${$("size").value}px`);
  fonts[$("font").value] ? style.setProperty("--font", fonts[$("font").value]) : style.removeProperty("--font");
  $("legend").hidden = $("marks").value !== "surprisal";
  $("advanced").classList.toggle("changed", clamps().length > 0);
}
