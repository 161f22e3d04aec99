// The page: one text that you and the model write. The model works in a Worker (worker.js), the text lives in a `Story`.
// Whatever comes from the model, its author or a link is shown as text, never as HTML.

import { Shelf } from "./shelf.js";
import { Story, commandOf, difference, linkOf, readLink, seedOf } from "./story.js";
import { isMac, keepLanguage, keptLanguage, say, speak, spoken } from "./words.js";

const SETTINGS = {
  max_tokens: { usual: 100, low: 1, high: 2000, step: 1 },
  temperature: { usual: 0.8, low: 0, high: 2, step: 0.05 },
  min_p: { usual: 0.05, low: 0, high: 0.5, step: 0.01 },
  top_p: { usual: 1, low: 0.01, high: 1, step: 0.01 },
  top_k: { usual: 0, low: 0, high: 200, step: 1 },
};
const USUAL = Object.fromEntries(Object.entries(SETTINGS).map(([name, { usual }]) => [name, usual]));
const NEW_SEEDS = 1_000_000; // a new seed is below: easy to read out
const MAX_ADDRESS_CHARS = 2000; // characters of a text that the address shows
const LISTED = 50; // earlier texts
const MAX_LINK_TOKENS = 100_000; // tokens of a text that a link asks for: whoever opens it waits for them
const SPACE = 12; // pixels between what is written and the bar
const NEAR = 40; // pixels: the bar grows by a line with what it tells, and nobody scrolls by less

const $ = (id) => document.getElementById(id);
const editor = $("text");
const story = new Story();
const fingerprint = document.querySelector("meta[name=fingerprint]").content;
const shelf = new Shelf(`textgen text of ${location.pathname} ${fingerprint}`, [() => localStorage, () => sessionStorage]);
const settings = { ...USUAL };
let worker = null;
let card = null; // of the model, when it is ready
let defaults = {}; // settings of the command line
let number = 0; // of what the Worker was asked last
let writing = false;
let shownPlace = null; // the token whose alternatives are shown
let told = { word: "", message: "" }; // what the status shows: a word of the page, and a message
let isRecalled = false; // whether the text is one that was kept, which no link may replace
let awaited = null; // the address that writes the text that was kept again, until the whole text is there
let isLeft = false; // whether another text has replaced one that could not be kept
let ownHash = ""; // of the address that the page had with this text; a link that is followed has another one
let keeping = 0;
let linked = null; // the run that the address began

// === The editor: one text node, so that selection, input methods and screen readers work as everywhere ===

const shown = () => (story.text.endsWith("\n") ? `${story.text}\n` : story.text);

/**
 * The text, without a newline at its end that only shows an empty last line. The cursor stands before that one, whether
 * the page has added it or the browser; after an edit at which Firefox adds none, the cursor is at the end.
 */
function read() {
  const text = editor.textContent;
  return placeOfCursor() === text.length ? text : text.replace(/\n$/, "");
}

/** How many pixels the end of the text would have to be further up to stand above the bar, which covers what is below it. */
function hiddenBelow() {
  const node = editor.firstChild;
  if (!node) return 0;
  const range = document.createRange();
  range.setStart(node, node.length - 1); // a range without characters has no place in some browsers
  range.setEnd(node, node.length);
  return range.getBoundingClientRect().bottom + SPACE - document.querySelector(".bar").getBoundingClientRect().top;
}

function bringUp() {
  const hidden = hiddenBelow();
  if (hidden > 0) scrollBy({ top: hidden });
}

/** Shows the text. Only what differs is replaced, so that a cursor or a selection elsewhere stays. */
function render(caret = null) {
  const wanted = shown();
  const node = editor.firstChild;
  if (editor.textContent !== wanted || editor.childNodes.length > 1) {
    if (editor.childNodes.length === 1 && node.nodeType === Node.TEXT_NODE && wanted) {
      const { at, removed, added } = difference(node.data, wanted);
      node.replaceData(at, removed, added);
    } else editor.replaceChildren(...(wanted ? [document.createTextNode(wanted)] : []));
  }
  if (caret !== null) setCaret(caret);
  mark();
  showState();
}

/** Where the cursor is in the text, which is `length` long; null if it is elsewhere. */
function caretIn(length = story.text.length) {
  const at = placeOfCursor();
  return at === null ? null : Math.min(at, length);
}

function placeOfCursor() {
  const selection = getSelection();
  if (!selection.rangeCount || !editor.contains(selection.focusNode)) return null;
  const range = document.createRange();
  range.setStart(editor, 0);
  range.setEnd(selection.focusNode, selection.focusOffset);
  return range.toString().length;
}

function setCaret(at) {
  if (document.activeElement !== editor) return;
  const node = editor.firstChild;
  if (node) getSelection().collapse(node, Math.min(at, node.length));
}

/** Marks of the CSS Custom Highlight API, where the browser has it; without it the text is plain. */
function mark() {
  if (!globalThis.Highlight || !CSS.highlights) return;
  CSS.highlights.clear();
  const node = editor.firstChild;
  const rangeOf = ({ start, end }) =>
    new StaticRange({ startContainer: node, startOffset: start, endContainer: node, endOffset: end });
  const fits = ({ end }) => node && end <= node.length;
  const model = new Highlight();
  for (const each of story.marks) if (fits(each)) model.add(rangeOf(each));
  CSS.highlights.set("model", model);
  if (shownPlace && fits(shownPlace)) {
    const here = new Highlight(rangeOf(shownPlace));
    here.priority = 1;
    CSS.highlights.set("here", here);
  }
}

function takeEdit() {
  const text = read();
  const caret = caretIn(text.length) ?? undefined;
  const change = difference(story.text, text, caret);
  if (change) {
    if (writing) stop();
    leaveAwaited();
    story.edit(change.at, change.removed, change.added);
    closePanel();
    tell("");
    showLink();
  }
  render(caret ?? null);
}

function undo() {
  if (story.canUndo) move(() => story.undo());
}

function redo() {
  if (story.canRedo) move(() => story.redo());
}

function move(step) {
  if (writing) stop();
  const isKept = keepBefore();
  const { home } = story;
  step();
  isLeft ||= !isKept && story.home !== home;
  afterMove();
}

function afterMove() {
  const isOther = shelf.home !== story.home;
  shelf.goTo(story.home);
  if (isOther) listEarlier();
  if (story.run) takeRun(story.run);
  closePanel();
  tell("");
  render(story.text.length);
  showLink();
}

/** Shows the seed, label and settings of a run. */
function takeRun(run) {
  $("seed").value = run.seed;
  $("label").value = run.label ?? "";
  for (const [name, value] of Object.entries(run.settings)) set(name, value);
  showSeed();
}

// === Writing ===

/** Writes from the text, or from the prompt of the last run with another seed. */
function write() {
  if (!card) return;
  if (writing) return stop();
  if (seedOf($("seed").value) === null) return refuseSeed();
  if (story.run && seedOf($("seed").value) === story.run.seed && isSameAsked()) $("seed").value = newSeed();
  begin({ prompt: story.run ? story.run.prompt : story.text, ...asked() });
}

/** Whether the same as in the last run would be asked, which would give the same text again. */
function isSameAsked() {
  const { label, settings: wanted } = asked();
  const { run } = story;
  return label === run.label && Object.entries(wanted).every(([name, value]) => run.settings[name] === value);
}

function asked() {
  const { max_tokens: _, ...wanted } = settings;
  return { seed: seedOf($("seed").value), label: $("label").value || null, settings: wanted };
}

function begin(run) {
  story.begin(run);
  ask(settings.max_tokens);
}

function more() {
  if (!card || writing || !story.run || story.run.isEnded) return;
  linked = null; // the address asks for less
  story.step();
  ask(settings.max_tokens);
}

function ask(tokens) {
  const { prompt, seed, label, settings: wanted, written } = story.run;
  if (story.run !== linked) leaveLink(); // until the text is there
  closePanel();
  writing = true;
  number += 1;
  worker.postMessage({ kind: "write", number, prompt, seed, label, settings: wanted, skip: written, tokens });
  tell("writing");
  render(story.text.length);
  bringUp();
}

function stop() {
  leaveAwaited();
  worker.postMessage({ kind: "stop" });
  finish("stopped");
}

function finish(word) {
  awaited = null; // the whole text is there
  writing = false;
  number += 1; // what still comes is not wanted
  tell(word);
  render();
  showLink();
}

function take({ tokens, isLast, isEnded }) {
  const isInSight = hiddenBelow() <= NEAR; // whoever has scrolled up reads something else
  const caret = caretIn();
  const isCaretAtEnd = caret === story.text.length && getSelection().isCollapsed;
  for (const token of tokens) story.append(token);
  story.run.isEnded = isEnded;
  render(isCaretAtEnd ? story.text.length : null);
  if (isInSight) bringUp();
  if (isLast) finish(isEnded ? "ended" : "done");
}

/** Puts an alternative in the place of a token; the model goes on from there. */
function choose(place, alternative) {
  if (writing) stop();
  story.choose(place, alternative);
  editor.focus(); // the button of the alternative goes
  closePanel();
  if (alternative.isEnd) {
    tell("ended");
    showLink();
    return render(story.text.length);
  }
  if (seedOf($("seed").value) === null) $("seed").value = newSeed();
  story.run = { prompt: story.text, ...asked(), written: 0, isEnded: false };
  story.held = null;
  return ask(settings.max_tokens);
}

const newSeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0] % NEW_SEEDS);

function refuseSeed() {
  tell("badSeed");
  $("seed").focus();
}

function showSeed() {
  $("seed").setAttribute("aria-invalid", String(seedOf($("seed").value) === null));
}

// === What else could have come ===

function showPanel(place) {
  if (place === shownPlace) return;
  shownPlace = place;
  $("panel").hidden = !place;
  if (place) {
    $("own").textContent = `${visible(story.text.slice(place.start, place.end))} (${percent(place.probability)})`;
    $("alternatives").replaceChildren(...place.top.map((alternative) => optionOf(place, alternative)));
  }
  mark();
}

function closePanel() {
  showPanel(null);
}

function leavePanel() {
  editor.focus();
  closePanel();
}

function optionOf(place, alternative) {
  const { text, shown: own, probability, isEnd, isChosen } = alternative;
  const choice = element("button", { type: "button", disabled: isChosen || (text === null && !isEnd) });
  choice.setAttribute("aria-current", String(isChosen));
  choice.style.setProperty("--part", `${100 * probability}%`);
  choice.append(
    element("span", { className: "piece", textContent: isEnd ? say("end") : visible(own) }),
    element("span", { className: "figure", textContent: percent(probability) }),
  );
  choice.addEventListener("click", () => choose(place, alternative));
  const item = element("li");
  item.append(choice);
  return item;
}

const visible = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅";

function percent(probability) {
  const value = 100 * probability;
  const sign = spoken() === "zh" ? "%" : " %";
  return value >= 10 ? `${value.toFixed(0)}${sign}` : value >= 0.1 ? `${value.toFixed(1)}${sign}` : `< 0.1${sign}`;
}

document.addEventListener("selectionchange", () => {
  if (writing || document.activeElement !== editor || !getSelection().isCollapsed) return;
  const at = caretIn();
  const place = at === null ? null : story.tokenAt(at);
  showPanel(place?.top.length ? place : null);
});

$("panel").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") {
    event.stopPropagation();
    leavePanel();
  }
  if (!step) return;
  event.preventDefault();
  const choices = [...$("alternatives").querySelectorAll("button:enabled")];
  choices.at((choices.indexOf(document.activeElement) + step) % choices.length)?.focus();
});

// === What is shown beside the text ===

/** Whether a button does nothing now. It is not `disabled`: a button that has the focus would lose it. */
const isOff = (id) => $(id).getAttribute("aria-disabled") === "true";

/** Shows what is going on: a word of the page, and perhaps a message. */
function tell(word, message = "") {
  told = { word, message };
  $("status").textContent = word ? say(word) + message : "";
}

function showState() {
  const { run } = story;
  const word = writing ? "stop" : run ? "another" : "write";
  $("write").dataset.word = word;
  $("write").textContent = say(word);
  const isOn = { write: card, more: card && !writing && run && !run.isEnded, undo: story.canUndo, redo: story.canRedo };
  editor.setAttribute("aria-busy", String(writing));
  const hasResult = Boolean(card && run?.written && !writing);
  isOn["copy-link"] = hasResult && isLinkable();
  for (const [id, is] of Object.entries(isOn)) $(id).setAttribute("aria-disabled", String(!is));
  const command = hasResult ? commandOf(card.name, exactRun(), defaults) : "";
  $("command-row").hidden = !command;
  $("command").replaceChildren(...flagsIn(command));
  const missing = $("command-missing");
  missing.hidden = command !== "";
  missing.dataset.word = hasResult ? "commandNone" : "commandLater";
  missing.textContent = say(missing.dataset.word);
}

/** The parts of a command that stay together where a line has room for them: some browsers break after a hyphen. */
function flagsIn(command) {
  return command.split(/(?<= )(?=--)/).map((part) => element("span", { textContent: part }));
}

/** The last run with as many tokens as it has written. */
function exactRun() {
  const { run } = story;
  const tokens = run.isEnded ? Math.max(run.written, defaults.max_tokens) : run.written;
  return { ...run, settings: { ...run.settings, max_tokens: tokens } };
}

/** Whether a link can ask for the text. */
const isLinkable = () => story.run?.written > 0 && story.run.written <= MAX_LINK_TOKENS;

function link() {
  const { run } = story;
  const max_tokens = run.isEnded ? USUAL.max_tokens : run.written;
  return linkOf({ ...run, settings: { ...run.settings, max_tokens: Math.max(max_tokens, run.written) } }, USUAL);
}

/** The address says how to write the text again, so that a reload or a bookmark does; if it cannot, it says nothing. */
function showLink() {
  keepSoon();
  const full = isLinkable() ? link() : "";
  showHash(full.length <= MAX_ADDRESS_CHARS ? full : "");
  ownHash = location.hash;
}

/** Takes the address of another text away, so that a reload does not show this text under it. */
function leaveLink() {
  showHash("");
  ownHash = location.hash;
}

function showHash(hash) {
  try {
    if (hash !== location.hash) history.replaceState(null, "", hash || location.href.split("#")[0]);
  } catch {
    // the browser does not allow it here; the button copies the link
  }
}

function openLink() {
  if (location.hash !== awaited) leaveAwaited();
  const found = readLink(location.hash, { ...SETTINGS, max_tokens: { ...SETTINGS.max_tokens, high: MAX_LINK_TOKENS } });
  if (!found) return;
  const { prompt, seed, label, settings: wanted } = found;
  const { max_tokens, ...others } = wanted;
  if (writing) worker.postMessage({ kind: "stop" }); // `stop` would put an address in the place of this one
  writing = false;
  if (story.text) {
    isLeft ||= !keepBefore();
    shelf.leave(); // the text stays where it is kept
  }
  ownHash = location.hash;
  const known = label !== null && card.labels.includes(label) ? label : null;
  takeRun({ seed, label: known, settings: others });
  story.begin({ prompt, seed, label: known, settings: others });
  linked = story.run;
  story.home = shelf.home;
  ask(max_tokens);
  listEarlier();
}

// === Texts that are kept ===

function isInLink() {
  const { run } = story;
  return Boolean(run) && (writing ? run === linked : isLinkable() && link() === ownHash);
}

/** Keeps the text where the browser allows it. Returns whether closing the page loses nothing. */
function keepText() {
  clearTimeout(keeping);
  if (awaited !== null) return true; // it is kept as a whole
  const { text, marks } = story;
  const isLinked = isInLink();
  const isKept = shelf.keep(text ? { text, marks, hash: ownHash, isLinked } : null);
  $("kept-note").hidden = !isKept;
  return isKept || isLinked || !text;
}

/** Keeps the text before another one replaces it, and its address. Returns whether it can be had again. */
function keepBefore() {
  keepText();
  const { text, run } = story;
  return shelf.home.isSafe || !text || Boolean(run && run === linked); // whoever followed a link has it
}

function keepSoon() {
  clearTimeout(keeping);
  keeping = setTimeout(keepText, 300);
}

/** Gives up writing the kept text again: that stays kept as a whole, and the text of the page is kept elsewhere. */
function leaveAwaited() {
  if (awaited === null) return;
  awaited = null;
  shelf.part();
  listEarlier();
}

/** Shows the text that was kept, if there is one. Returns whether the address is still that which it was kept with. */
function recallText() {
  const { hash } = location;
  ownHash = hash;
  const isLink = readLink(hash, SETTINGS) !== null;
  const found = shelf.begin(!isLink, hash);
  story.home = shelf.home;
  const isHere = found?.hash === hash;
  awaited = isLink && isHere && found.isLinked ? hash : null;
  if (!found || awaited !== null) return false;
  story.recall(found.text, found.marks);
  if (isLink && isHere) leaveLink(); // it was kept while another text than the one of the address was written
  render();
  return isHere;
}

function newText() {
  putText(() => {
    shelf.leave();
    return { text: "", marks: [] };
  });
}

/** Puts the text that `find` returns in the place of this one, which stays kept, too; null if it is kept no longer. */
function putText(find) {
  if (writing) stop();
  leaveAwaited();
  const isKept = keepBefore();
  const found = find();
  if (found) {
    isLeft ||= !isKept;
    story.replace(found.text, found.marks);
    story.home = shelf.home;
    linked = null;
    afterMove();
  } else tell("textGone");
  editor.focus();
  listEarlier();
}

/** Lists the other texts that are kept; what another tab keeps later is listed when the list is opened. */
function listEarlier() {
  const date = new Intl.DateTimeFormat(spoken(), { dateStyle: "medium" });
  const found = shelf.earlier().slice(0, LISTED).map(({ id, text, at }) => {
    const beginning = [...text.slice(0, 400).replace(/\s+/g, " ").trim()].slice(0, 60).join("");
    const open = element("button", { type: "button", className: "quiet", textContent: `${beginning} · ${date.format(at)}` });
    open.addEventListener("click", () => putText(() => shelf.take(id)));
    const item = element("li");
    item.append(open);
    return item;
  });
  $("earlier").replaceChildren(...found);
  $("earlier-texts").hidden = !found.length;
}

function set(name, value) {
  settings[name] = value;
  $(`${name}-range`).value = value;
  $(`${name}-number`).value = value;
  $(`${name}-range`).closest(".slider").classList.toggle("changed", value !== USUAL[name]);
}

function makeSliders() {
  for (const [name, { low, high, step, usual }] of Object.entries(SETTINGS)) {
    const row = element("div", { className: "slider" });
    const label = element("label", { htmlFor: `${name}-number` });
    label.dataset.word = name;
    const range = element("input", { type: "range", min: low, max: high, step, value: usual, id: `${name}-range` });
    range.dataset.label = name;
    const box = element("input", { type: "number", min: low, max: high, step, value: usual, id: `${name}-number` });
    row.append(label, range, box);
    $("sliders").append(row);
    range.addEventListener("input", () => set(name, range.valueAsNumber));
    box.addEventListener("change", () => {
      const value = Number.isFinite(box.valueAsNumber) ? box.valueAsNumber : usual;
      set(name, Math.min(high, Math.max(low, step === 1 ? Math.round(value) : value)));
    });
  }
}

function showCard() {
  const { licence, note, parameters, vocabulary, labels } = card;
  $("note").textContent = note;
  $("note").hidden = !note;
  const figure = (value) => value.toLocaleString(spoken());
  const facts = [
    ["licence", licence],
    ["size", `${figure(parameters)} ${say("parameters")}${say("comma")}${figure(vocabulary)} ${say("tokensKnown")}`],
    ["engine", card.isSimd ? "WebAssembly" : say("plain")],
  ];
  $("facts").replaceChildren(
    ...facts.filter(([, value]) => value).flatMap(([word, value]) => [
      element("dt", { textContent: say(word) }),
      element("dd", { textContent: value }),
    ]),
  );
  const chosen = $("label").value;
  $("label").replaceChildren(element("option", { value: "", textContent: say("noLabel") }));
  for (const label of labels) $("label").append(element("option", { value: label, textContent: label }));
  $("label").value = chosen;
  $("label-field").hidden = !labels.length;
}

function talk(language) {
  speak(language);
  tell(told.word, told.message);
  if (card) showCard();
  listEarlier();
  const place = shownPlace;
  shownPlace = null;
  showPanel(place);
  showState();
}

// === Keeping ===

async function copyAndTell(text) {
  tell((await copy(text)) ? "copied" : "notCopied");
}

/** Returns whether the text was copied. Where the page may not write to the clipboard, it copies as a person does. */
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

function save() {
  const url = URL.createObjectURL(new Blob([story.text], { type: "text/plain;charset=utf-8" }));
  element("a", { href: url, download: "text.txt" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

// === The page ===

/** Whether an event belongs to an input method; while that composes, browsers report 229 as the code of every key. */
const isComposing = (event) => event.isComposing || event.keyCode === 229;

function listen() {
  editor.addEventListener("beforeinput", (event) => {
    const history = { historyUndo: undo, historyRedo: redo }[event.inputType];
    if (!history) return;
    event.preventDefault();
    history();
  });
  editor.addEventListener("input", (event) => isComposing(event) || takeEdit());
  editor.addEventListener("compositionstart", () => writing && stop()); // what comes would end the composition
  editor.addEventListener("compositionend", takeEdit);
  document.addEventListener("keydown", (event) => {
    if (isComposing(event)) return;
    const control = event.ctrlKey || event.metaKey;
    const isInEditor = event.target === editor;
    const isOwn = event.altKey && (!isMac() || event.ctrlKey); // Option alone moves the cursor on a Mac
    if (control && event.key === "Enter") {
      if (event.target.type === "number") event.target.dispatchEvent(new Event("change")); // the browser sends it later
      write();
    } else if (event.key === "Escape" && writing) stop();
    else if (event.key === "Escape" && shownPlace) closePanel();
    else if (isInEditor && control && event.key.toLowerCase() === "z") (event.shiftKey ? redo : undo)();
    else if (isInEditor && control && event.key.toLowerCase() === "y") redo();
    else if (isInEditor && isOwn && event.key === "ArrowDown" && shownPlace) {
      $("alternatives").querySelector("button:enabled")?.focus();
    } else return;
    event.preventDefault();
  });
  const clicks = {
    write, more, undo, redo,
    "close-panel": leavePanel,
    language: () => {
      talk(spoken() === "zh" ? "en" : "zh");
      keepLanguage();
    },
    usual: () => Object.entries(USUAL).forEach(([name, value]) => set(name, value)),
    "copy-text": () => copyAndTell(story.text),
    "copy-link": () => copyAndTell(location.href.split("#")[0] + link()),
    "copy-command": () => copyAndTell($("command").textContent),
    "save-text": save,
    "new-text": newText,
    print: () => print(),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => isOff(id) || action());
  $("seed").addEventListener("input", showSeed);
  $("seed").addEventListener("keydown", (event) => event.key === "Enter" && !isComposing(event) && !writing && write());
  addEventListener("hashchange", () => card && openLink());
  $("earlier-texts").addEventListener("toggle", listEarlier);
  addEventListener("beforeunload", (event) => (keepText() && !isLeft) || event.preventDefault());
  addEventListener("pagehide", keepText); // phones tell nothing before
  document.addEventListener("visibilitychange", () => document.hidden && keepText());
}

function hear({ data }) {
  if (data.kind === "ready") {
    card = { ...data.card, isSimd: data.isSimd };
    defaults = data.defaults;
    showCard();
    tell("");
    showState();
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
    if (!isRecalled) openLink();
  } else if (data.kind === "tokens" && data.number === number) take(data);
  else if (data.kind === "failure") {
    if (card) leaveAwaited(); // it failed while it wrote
    writing = false;
    tell("failed", data.message);
    showState();
  }
}

function start() {
  makeSliders();
  listen();
  $("seed").value = newSeed();
  editor.replaceChildren(); // what a saved copy of the page may hold
  isRecalled = recallText();
  $("kept-note").hidden = !shelf.isAllowed;
  talk(keptLanguage());
  tell("loading");
  const code = new Blob([$("worker").textContent], { type: "text/javascript" });
  worker = new Worker(URL.createObjectURL(code));
  worker.addEventListener("message", hear);
  worker.addEventListener("error", (event) => tell("failed", event.message ?? ""));
  const isPlain = new URLSearchParams(location.hash.slice(1)).has("plain"); // without WebAssembly, to compare
  worker.postMessage({ kind: "load", model: $("model").textContent, wasm: !isPlain });
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
