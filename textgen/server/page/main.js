// The page: one text that you and the model write. The text lives in `story`; `view` shows it and reports edits.

import { commandOf } from "./command.js";
import { TextEditor, isComposing } from "./editor.js";
import { decoded } from "./encodings.js";
import { HttpEngine, ServerError, sentOf } from "./engine.js";
import { Stale, accept, aside, keep, kept, newer, readFrom, setAside, writeTo } from "./shelf.js";
import { Story, beginningOfLast, difference, lengthOf, textOf } from "./story.js";
import { LANGUAGES, percentOf, say, speak, spoken } from "./words.js";

const $ = (id) => document.getElementById(id);
const editor = $("text");
const engine = new HttpEngine();
const story = new Story(); // the only one: whoever writes into it writes into what is shown
const view = new TextEditor(editor, takeEdit, () => mark());
let writing = null; // {abort}: what the model is writing
let running = Promise.resolve(); // until it has ended
let scores = []; // surprisal of the user's own words: [{start, end, token}]
let shownToken = null; // {start, end, token}
let ghost = null; // {text, at}

// === Settings ===

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
const settings = Object.fromEntries(Object.entries(SLIDERS).map(([name, { usual }]) => [name, usual]));

function makeSliders() {
  for (const [name, { low, high, step, usual }] of Object.entries(SLIDERS)) {
    const row = element("div", { className: "slider" });
    const label = element("label", { htmlFor: `${name}-number` });
    label.dataset.word = name;
    const range = element("input", { type: "range", min: low, max: high, step, value: usual, id: `${name}-range` });
    range.dataset.label = name;
    const number = element("input", { type: "number", min: low, max: high, step, value: usual, id: `${name}-number` });
    row.append(label, range, number);
    $("sliders").append(row);
    const take = (value) => {
      if (Number.isFinite(value)) set(name, Math.min(high, Math.max(low, value)));
    };
    range.addEventListener("input", () => take(range.valueAsNumber));
    number.addEventListener("change", () => take(number.valueAsNumber));
  }
}

function set(name, value) {
  settings[name] = value;
  $(`${name}-range`).value = value;
  $(`${name}-number`).value = value;
  $(`${name}-range`).closest(".slider").classList.toggle("changed", value !== SLIDERS[name].usual);
  const fits = Object.entries(PRESETS).find(([, preset]) => Object.entries(preset).every(([key, wanted]) => settings[key] === wanted));
  $("preset").value = fits?.[0] ?? "";
  remember();
  showCommand();
}

function seed() {
  const text = $("seed").value.trim();
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : null;
}

function clamps() {
  return $("clamp").value.split(/[\s,，、]+/).filter(Boolean);
}

// What is asked of the server besides the text.
function asked() {
  return { ...settings, ...(seed() !== null && { seed: seed() }), ...(clamps().length && { clamp: clamps() }) };
}

// What is sent of the text if the model writes at a place of it.
function sentAt(at) {
  return sentOf(story.text.slice(0, at), $("fill").checked ? story.text.slice(at) : "");
}

function showCommand() {
  const [model, n] = [$("model").value, Number($("number").value)];
  const command = commandOf({ model, sent: sentAt(view.caret), n, settings: asked(), isExact: engine.isExact });
  if ($("command").textContent !== command) $("command").textContent = command;
}

// === The editor ===

// Shows the text as it is now, with the cursor at `at` if that is given. A suggestion was for the text before.
function render(at = null) {
  hideGhost();
  const follows = writing && isAtBottom();
  view.show(story.text, at);
  if (follows) scrollTo({ top: document.documentElement.scrollHeight });
  mark();
  showPlace();
}

// Shows the text of another node: what was found in the one before has no place in it.
function showOther(at) {
  scores = [];
  showToken(null);
  render(at);
  askScores();
}

const isAtBottom = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 40;

editor.addEventListener("beforeinput", (event) => {
  if (event.inputType === "historyUndo" || event.inputType === "historyRedo") {
    event.preventDefault();
    (event.inputType === "historyUndo" ? undo : redo)();
  }
});
editor.addEventListener("compositionstart", () => stop());

function takeEdit({ at, length, added }, caret) {
  stop();
  story.type(at, length, added);
  movePlaces({ at, length, added });
  render(caret);
  changed();
  askGhost();
  askScores();
}

// === Marks in the text: ranges of the CSS Custom Highlight API, so the page holds nothing but the text ===

const MARKS = ["model", "surprise1", "surprise2", "surprise3", "surprise4"];

function mark() {
  if (!CSS.highlights) return;
  CSS.highlights.clear();
  const ranges = Object.fromEntries([...MARKS, "here"].map((name) => [name, []]));
  for (const [name, range] of [...view.pieces(spanMarks()), ...view.pieces(scoreMarks())]) ranges[name].push(range);
  if (shownToken) for (const [, range] of view.pieces([{ ...shownToken, name: "here" }])) ranges.here.push(range);
  for (const [name, list] of Object.entries(ranges)) {
    const highlight = new Highlight();
    for (const range of list) highlight.add(range);
    CSS.highlights.set(name, highlight);
  }
}

function* spanMarks() {
  const mode = $("marks").value;
  let start = 0;
  for (const span of mode === "nothing" ? [] : story.spans) {
    const end = start + span.text.length;
    if (span.origin === "model" && mode === "origin") yield { name: "model", start, end };
    if (span.token && mode === "surprisal") yield { name: levelOf(span.token), start, end };
    start = end;
  }
}

function* scoreMarks() {
  if ($("marks").value !== "surprisal") return;
  for (const { token, start, end } of scores) if (token) yield { name: levelOf(token), start, end };
}

const bits = (token) => -token.logprob / Math.LN2;

function levelOf(token) {
  const level = [1, 4, 8].filter((limit) => bits(token) > limit).length;
  return `surprise${level + 1}`;
}

// === Probabilities ===

function tokenAt(at) {
  const place = story.spanAt(at);
  const span = place && story.spans[place.number];
  if (span?.token) return { start: place.start, end: place.end, token: span.token };
  return scores.find((score) => score.token && at >= score.start && at < score.end) ?? null;
}

function showToken(found) {
  if (found?.token === shownToken?.token && found?.start === shownToken?.start) return;
  shownToken = found;
  const list = $("alternatives");
  list.replaceChildren();
  list.removeAttribute("aria-activedescendant");
  $("no-token").hidden = Boolean(found);
  $("token").hidden = !found;
  if (found) {
    const { token } = found;
    const rank = token.top.findIndex(({ text }) => text === token.text) + 1;
    const more = rank && rank < 9 ? ` · ${say("rank")} ${rank}` : "";
    $("token").textContent = `${visible(token.text)} · ${percentOf(token.logprob)}${more} · ${bits(token).toFixed(1)} ${say("bits")}`;
    token.top.forEach(({ text, logprob }, number) => {
      const isChosen = text === token.text;
      const option = element("div", { className: "alternative", id: `alternative-${number}` });
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", String(isChosen));
      option.setAttribute("aria-disabled", String(isChosen || !isChoosable(text)));
      option.style.setProperty("--share", `${100 * Math.exp(logprob)}%`);
      option.append(
        element("span", { className: "piece", textContent: visible(text) }),
        element("span", { className: "figure", textContent: percentOf(logprob) }),
        element("span", { className: "figure", textContent: `${(-logprob / Math.LN2).toFixed(1)}` }),
      );
      option.addEventListener("click", () => choose(number));
      list.append(option);
    });
  }
  mark();
}

const isChoosable = (text) => !/^(bytes:\\x|<.*>$)/.test(text);
const visible = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅";

// Another token in the place of one: a branch, which the model continues.
async function choose(number) {
  const place = shownToken;
  const taken = place?.token.top[number];
  if (!taken || taken.text === place.token.text || !isChoosable(taken.text)) return;
  const before = story.text;
  await stopped();
  if (story.text !== before) return;
  const start = place.start - lastCharacters(story.text.slice(0, place.start), place.token.healed ?? 0).length;
  const token = { ...place.token, text: taken.text, logprob: taken.logprob, healed: 0 };
  const end = story.endOfRun(place.end);
  story.change(start, end - start, [{ text: taken.text, origin: "model", token }], "choice");
  const at = start + taken.text.length;
  showOther(at);
  changed();
  write({ at });
}

// The last characters of a text; one of them may be two units long.
function lastCharacters(text, number) {
  return number ? [...text].slice(-number).join("") : "";
}

$("alternatives").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const active = [...$("alternatives").children].findIndex((option) => option.classList.contains("active"));
  if (step) {
    event.preventDefault();
    activate(active, step);
  } else if (event.key === "Enter" && active >= 0) {
    event.preventDefault();
    editor.focus();
    choose(active);
  } else if (event.key === "Escape") editor.focus();
});
$("alternatives").addEventListener("focus", () => activate(-1, 1));

// Moves on to the next alternative that can be taken.
function activate(from, step) {
  const list = $("alternatives");
  const options = [...list.children];
  const order = options.map((_, place) => (from + step * (place + 1) + 2 * options.length) % options.length);
  const number = order.find((place) => options[place].getAttribute("aria-disabled") === "false");
  if (number === undefined) return;
  options.forEach((option, place) => option.classList.toggle("active", place === number));
  list.setAttribute("aria-activedescendant", `alternative-${number}`);
}

document.addEventListener("selectionchange", () => {
  if (document.activeElement !== editor) return;
  const at = view.caret;
  showToken(tokenAt(at) ?? (at ? tokenAt(at - 1) : null));
  showCommand();
});

editor.addEventListener("pointermove", (event) => {
  if (event.pointerType !== "mouse" || writing) return;
  const at = view.offsetAt(event.clientX, event.clientY);
  const found = at === null ? null : tokenAt(at);
  if (found) showToken(found);
});

// === Writing ===

function write(options = {}) {
  if (!writing) running = stream(options);
}

async function stream({ at = view.caret, kind = "writing", parent = null }) {
  hideGhost();
  $("offers").hidden = true;
  if (parent !== null) {
    story.goTo(parent);
    showOther(at); // at once, since what is typed before the model's first word is typed into what is shown
    changed();
  }
  const number = Number($("number").value);
  const sent = sentAt(at);
  const abort = new AbortController();
  const ends = Array(number).fill("");
  const from = story.current;
  const nodes = ends.map((_, place) => (place === 0 && number === 1 ? story.change(at, 0, [], kind) : story.branch(from, at, [], kind)));
  writing = { abort };
  if (number > 1) showOffers(nodes);
  busy(true);
  try {
    const reasons = await engine.write({
      model: $("model").value, sent, n: number, settings: asked(), signal: abort.signal,
      onSpan(place, span) {
        if (abort.signal.aborted) return; // what was on its way when you went on yourself
        const node = nodes[place];
        const end = at + lengthOf(story.nodes[node].added);
        const follows = view.caret === end; // unless you went elsewhere meanwhile
        if (story.extend(node, [span])) {
          movePlaces({ at: end, length: 0, added: span.text });
          render(follows ? end + span.text.length : null);
        } else showOffer(place, node);
        changed(true);
      },
    });
    tell(reasons.every((end) => end?.reason === "stop") ? say("ended") : say("done"));
  } catch (error) {
    tell(error.name === "AbortError" ? say("stopped") : explain(error));
    if (error.status === 401) askKey();
  } finally {
    writing = null;
    busy(false);
    for (const node of nodes.reverse()) {
      if (story.nodes[node].added.length) continue;
      withdraw(node);
      forget(node);
    }
    render();
    changed();
    askScores();
  }
}

// A stream that brought nothing leaves no version.
function forget(number) {
  if (number !== story.nodes.length - 1 || story.nodes[number].children.length) return;
  if (story.current === number) story.undo();
  const parent = story.nodes[story.nodes.pop().parent];
  parent.children = parent.children.filter((child) => child !== number);
  parent.last = parent.children.at(-1) ?? -1;
}

// And it is not offered.
function withdraw(number) {
  const offers = $("offers");
  [...offers.children].find((offer) => offer.dataset.node === String(number))?.remove();
  if (!offers.children.length) offers.hidden = true;
}

function stop() {
  writing?.abort.abort();
}

async function stopped() {
  stop();
  await running;
}

function explain(error) {
  return error instanceof ServerError ? error.message : say("lost");
}

function busy(isBusy) {
  $("write").textContent = say(isBusy ? "stop" : "write");
  $("write").dataset.word = isBusy ? "stop" : "write";
  if (isBusy) tell(say("writing"));
  showPlace();
}

function tell(text) {
  $("status").textContent = text;
}

// Writes the last text of the model anew, as another version of it.
function again() {
  if (writing) return;
  const path = story.path(story.current);
  const kinds = ["writing", "choice", "emptied", "opened"];
  const node = path.reverse().find((number) => kinds.includes(story.nodes[number].kind));
  if (node === undefined || kinds.indexOf(story.nodes[node].kind) > 1) return write(); // another text
  write({ at: story.nodes[node].at, parent: story.nodes[node].parent });
}

function showOffers(nodes) {
  const offers = $("offers");
  offers.hidden = false;
  offers.replaceChildren(
    ...nodes.map((node, place) => {
      const offer = element("div", { className: "offer" });
      offer.dataset.node = node;
      const take = element("button", { type: "button", textContent: say("take") });
      take.setAttribute("aria-label", `${say("take")} ${place + 1}`);
      take.addEventListener("click", () => {
        move(() => story.goTo(node));
        offers.hidden = true;
        editor.focus();
      });
      offer.append(element("p"), take);
      return offer;
    }),
  );
}

function showOffer(place, node) {
  const paragraph = $("offers").children[place]?.firstChild;
  if (paragraph) paragraph.textContent = textOf(story.nodes[node].added);
}

// === History ===

function move(action) {
  if (writing) stop();
  const before = story.current;
  action();
  if (story.current === before) return;
  const node = story.nodes[story.current];
  showOther(Math.min(node.at + lengthOf(node.added), story.text.length));
  changed();
}

const undo = () => move(() => story.undo());
const redo = () => move(() => story.redo());

function version(step) {
  const siblings = story.siblings();
  const place = siblings.indexOf(story.current) + step;
  if (place >= 0 && place < siblings.length) move(() => story.goTo(siblings[place]));
}

function showPlace() {
  const siblings = story.siblings();
  const place = siblings.indexOf(story.current);
  $("version").textContent = `${place + 1}/${siblings.length}`;
  const { parent, last } = story.nodes[story.current];
  const isOn = { previous: place > 0, next: place < siblings.length - 1, undo: parent >= 0, redo: last >= 0, again: !writing };
  for (const [id, is] of Object.entries(isOn)) $(id).setAttribute("aria-disabled", String(!is));
}

// Whether a button does nothing now. It is not `disabled`: a button that has the focus would lose it.
const isOff = (id) => $(id).getAttribute("aria-disabled") === "true";

function showBranches() {
  const list = $("branches");
  if (!list.closest("details").open) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.of : null; // it is made anew
  const leaves = story.leaves().sort((a, b) => story.nodes[b].pinned - story.nodes[a].pinned || b - a).slice(0, 100);
  list.replaceChildren(
    ...leaves.map((leaf) => {
      const item = element("li", { className: leaf === story.current ? "current" : "" });
      const ending = element("span", { className: "ending", textContent: `… ${story.ending(leaf, 80) || say("start")}` });
      const pin = button("pin", () => {
        story.nodes[leaf].pinned = !story.nodes[leaf].pinned;
        changed();
        showBranches();
      });
      pin.setAttribute("aria-pressed", String(story.nodes[leaf].pinned));
      const buttons = [button("open", () => move(() => story.goTo(leaf))), pin, button("compare", () => compare(leaf))];
      buttons.forEach((each, place) => { each.dataset.of = `${leaf} ${place}`; });
      item.append(ending, ...buttons);
      return item;
    }),
  );
  if (focused) list.querySelector(`[data-of="${focused}"]`)?.focus();
}

function compare(leaf) {
  const texts = [story.text, story.textAt(leaf)];
  const { at } = difference(...texts, texts[1].length);
  const parts = texts.map((text) => {
    const part = element("div", { textContent: text.slice(Math.max(0, at - 60), at) });
    part.tabIndex = 0;
    part.append(element("span", { className: "differs", textContent: text.slice(at, at + 2000) }));
    return part;
  });
  $("comparison").replaceChildren(...parts);
  $("comparison").hidden = false;
}

// === Scores of your own words, and suggestions ===

let asking = null;
let timer = 0;

function askScores() {
  clearTimeout(timer);
  if ($("marks").value !== "surprisal") return;
  timer = setTimeout(async () => {
    asking?.abort();
    asking = new AbortController();
    const all = story.text;
    const from = beginningOfLast(all, 2000);
    try {
      const found = await engine.score({ model: $("model").value, text: all.slice(from), clamp: clamps(), signal: asking.signal });
      if (story.text !== all) return;
      scores = found.map(({ start, end, token }) => ({ start: start + from, end: end + from, token }));
      scores = scores.filter(({ start }) => !story.spans[story.spanAt(start)?.number]?.token);
      mark();
    } catch (error) {
      if (error.name !== "AbortError") tell(explain(error));
    }
  }, 700);
}

// Moves what was found in the text as a change moves the text.
function movePlaces(change) {
  scores = scores.flatMap((place) => moved(place, change));
  if (!shownToken) return;
  const [place] = moved(shownToken, change);
  place ? shownToken = place : showToken(null);
}

// The place after a change, in a list that is empty if the change has touched it.
function moved(place, { at, length, added }) {
  if (place.end <= at) return [place];
  const shift = added.length - length;
  return place.start >= at + length ? [{ ...place, start: place.start + shift, end: place.end + shift }] : [];
}

let ghostTimer = 0;
let ghostAsking = null;

function askGhost() {
  hideGhost();
  clearTimeout(ghostTimer);
  if (!$("ghost").checked) return;
  ghostTimer = setTimeout(async () => {
    const at = view.caret;
    if (at !== story.text.length || !at || writing) return;
    const prompt = story.text;
    let text = "";
    ghostAsking?.abort();
    ghostAsking = new AbortController();
    try {
      await engine.write({
        model: $("model").value, sent: sentOf(prompt, ""), n: 1, settings: { ...asked(), max_tokens: 10, until: "sentence" }, signal: ghostAsking.signal,
        onSpan: (_, span) => { text += span.text; },
      });
    } catch {
      return;
    }
    if (writing || story.text !== prompt || !text || text.includes("\n") && !text.trim()) return;
    ghost = { text, at };
    view.ghost = text;
  }, 500);
}

function hideGhost() {
  ghost = null;
  view.ghost = "";
}

function takeGhost(text) {
  const { at } = ghost;
  const rest = ghost.text.slice(text.length);
  if (at !== story.text.length) return hideGhost(); // it continues another text
  story.change(at, 0, [{ text, origin: "model" }], "suggestion");
  render(at + text.length);
  changed();
  if (rest) {
    ghost = { text: rest, at: at + text.length };
    view.ghost = rest;
  } else askGhost();
}

// === Keys ===

editor.addEventListener("keydown", (event) => {
  if (isComposing(event)) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  let handled = true;
  if (control && key === "enter") writing ? stop() : write();
  else if (control && key === "z") event.shiftKey ? redo() : undo();
  else if (control && key === "y") redo();
  else if (key === "escape" && writing) stop();
  else if (key === "escape" && ghost) askGhost();
  else if (key === "tab" && ghost && !event.shiftKey) takeGhost(ghost.text);
  else if (control && key === "arrowright" && ghost) takeGhost(ghost.text.match(/^\s*\S+/)?.[0] ?? ghost.text);
  else if (event.altKey && key === "arrowdown" && shownToken) {
    $("alternatives").focus();
  } else if (event.altKey && key === "arrowleft") version(-1);
  else if (event.altKey && key === "arrowright") version(1);
  else handled = false;
  if (handled) event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !isComposing(event)) stop();
});

// === Keeping ===

let saving = 0;
let listing = 0;
let changes = 0; // of the story so far
let handed = 0; // those of them that are kept or about to be
let safe = 0; // those of them that are kept

function changed(isStreaming = false) {
  changes++;
  showPlace();
  if (!isStreaming) {
    showCommand();
    clearTimeout(listing);
    listing = setTimeout(showBranches, 200);
  }
  if (isStreaming && saving) return; // within a second at most
  clearTimeout(saving);
  saving = setTimeout(() => {
    saving = 0;
    save();
  }, isStreaming ? 700 : 150);
}

function save() {
  if (handed === changes) return;
  const upTo = (handed = changes);
  keep(story).then(() => { safe = upTo; }, (error) => {
    handed = safe;
    tell(error instanceof Stale ? say("otherTab") : error.message);
  });
}

// Shows what another tab has kept, unless this one has something that is not kept.
async function refresh() {
  if (safe !== changes || writing) return;
  const before = changes;
  const found = await newer().then((record) => record?.story && { ...record, story: Story.fromJSON(record.story) }).catch(() => null);
  if (!found || changes !== before || writing) return;
  story.become(found.story);
  accept(found.revision);
  showAnew();
  showPlace();
}

addEventListener("pagehide", save);
document.addEventListener("visibilitychange", () => (document.hidden ? save() : refresh()));

const CHOICES = ["marks", "font", "size", "number", "clamp"];

function remember() {
  const chosen = Object.fromEntries(CHOICES.map((id) => [id, $(id).value]));
  const all = { settings, chosen, language: spoken(), ghost: $("ghost").checked, fill: $("fill").checked };
  writeTo(() => localStorage, "textgen", JSON.stringify(all));
}

function recall() {
  try {
    return JSON.parse(readFrom(() => localStorage, "textgen") ?? "{}") ?? {};
  } catch {
    return {};
  }
}

// Returns whether the text was copied. Where the page may not write to the clipboard, as over plain HTTP, it copies as a
// person does.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

function copySelected(text) {
  const focused = document.activeElement;
  const field = element("textarea", { value: text });
  document.body.append(field);
  field.select();
  try {
    return document.execCommand("copy");
  } finally {
    field.remove();
    focused?.focus({ preventScroll: true });
  }
}

function download(name, text, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function load(file) {
  let text;
  try {
    text = decoded(new Uint8Array(await file.arrayBuffer()));
  } catch {
    return tell(say("badEncoding"));
  }
  try {
    if (file.name.endsWith(".json")) {
      const other = Story.fromJSON(JSON.parse(text));
      replace(() => story.adopt(other));
    } else {
      const added = [{ text: text.replaceAll("\r\n", "\n"), origin: "user" }];
      replace(() => story.change(0, story.text.length, added, "opened"));
    }
  } catch {
    tell(say("badFile"));
  }
}

function empty() {
  if (story.text) replace(() => story.change(0, story.text.length, [], "emptied"));
}

// Puts another text in the place of this one, by a change that undo takes back.
function replace(action) {
  stop();
  action();
  showAnew();
  changed();
}

function showAnew() {
  $("offers").hidden = true; // they are versions of another text
  showOther(story.text.length);
}

// === The page ===

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

function button(word, action) {
  const made = element("button", { type: "button", textContent: say(word) });
  made.addEventListener("click", action);
  return made;
}

function look() {
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
  mark();
}

function speakOut(language) {
  speak(language);
  $("seed").placeholder = say("random");
  editor.dataset.hint = say("hint");
}

function askKey() {
  $("key-form").hidden = false;
  $("key").focus();
}

async function findModels() {
  try {
    const names = await engine.models();
    $("model").replaceChildren(...names.map((name) => element("option", { textContent: name })));
    if ($("key-form").contains(document.activeElement)) editor.focus();
    $("key-form").hidden = true;
    showCommand();
  } catch (error) {
    tell(explain(error));
    if (error.status === 401) askKey();
  }
}

function listen() {
  $("write").addEventListener("click", () => (writing ? stop() : write()));
  const clicks = { again, undo, redo, previous: () => version(-1), next: () => version(1) };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => isOff(id) || action());
  $("preset").addEventListener("change", () => Object.entries(PRESETS[$("preset").value]).forEach(([name, value]) => set(name, value)));
  $("seed").addEventListener("input", showCommand);
  $("model").addEventListener("change", showCommand);
  $("branches").closest("details").addEventListener("toggle", showBranches);
  for (const id of [...CHOICES, "ghost", "fill"]) $(id).addEventListener("input", () => { remember(); look(); showCommand(); askScores(); });
  $("copy").addEventListener("click", async () => tell(say((await copy($("command").textContent)) ? "copied" : "notCopied")));
  $("language").addEventListener("click", () => {
    speakOut(LANGUAGES[(LANGUAGES.indexOf(spoken()) + 1) % LANGUAGES.length]);
    remember();
    showBranches();
  });
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    engine.key = $("key").value;
    writeTo(() => sessionStorage, "textgen-key", engine.key);
    findModels();
  });
  $("empty").addEventListener("click", empty);
  $("save-text").addEventListener("click", () => download("text.txt", story.text, "text/plain"));
  $("save-story").addEventListener("click", () => download("story.json", JSON.stringify(story), "application/json"));
  $("save-aside").addEventListener("click", async () => download("not-read.txt", (await aside()).join("\n"), "text/plain"));
  $("load").addEventListener("click", () => $("load-file").click());
  $("load-file").addEventListener("change", () => {
    const [file] = $("load-file").files;
    $("load-file").value = ""; // so that the same file can be opened again
    if (file) load(file);
  });
}

// Takes up the story that is kept. What cannot be read is set aside before anything is written over it.
async function takeUp() {
  const { revision, story: found } = await kept();
  let before = null;
  try {
    before = found === null ? null : Story.fromJSON(found);
  } catch {
    await setAside(revision);
    return tell(say("unreadable"));
  }
  accept(revision);
  if (before) story.adopt(before);
}

async function begin() {
  const before = recall();
  makeSliders();
  listen();
  speakOut(before.language ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
  for (const [name, value] of Object.entries(before.settings ?? {})) if (name in SLIDERS && Number.isFinite(value)) set(name, value);
  set("temperature", settings.temperature);
  for (const id of CHOICES) if (before.chosen?.[id]) $(id).value = before.chosen[id];
  $("ghost").checked = Boolean(before.ghost);
  $("fill").checked = Boolean(before.fill);
  look();
  engine.key = readFrom(() => sessionStorage, "textgen-key") ?? "";
  try {
    await takeUp();
    $("save-aside").hidden = !(await aside()).length;
  } catch (error) {
    tell(error.message);
  }
  render(story.text.length);
  showPlace();
  await findModels();
  document.documentElement.dataset.ready = "yes";
}

begin();

export { story, view }; // for the console of the browser, and for tests
