// The page: one text that you and the model write. The text lives in `story`; `view` shows it and reports edits.

import { showBranches } from "./branches.js";
import { commandOf } from "./command.js";
import { $, copy, download, isOff, tell } from "./dom.js";
import { TextEditor, isComposing } from "./editor.js";
import { decoded } from "./encodings.js";
import { HttpEngine, explain, sentOf } from "./engine.js";
import { Keeper, whyNotKept } from "./keeper.js";
import { showMarks } from "./marks.js";
import { hideOffers, nameOffers, showOffer, showOffers, withdraw } from "./offers.js";
import { Probabilities } from "./probabilities.js";
import { Scores } from "./scores.js";
import { CHOICES, asked, checkSeed, chooseModel, forgetModel, look, makeSliders, recall, remember, restore, showModels } from "./settings.js";
import { aside, readFrom, writeTo } from "./shelf.js";
import { Drafts, Story, lastCharacters, lengthOf } from "./story.js";
import { Suggestions } from "./suggestions.js";
import { LANGUAGES, isMac, say, speak, spoken } from "./words.js";
import { Written } from "./written.js";

const SPACE = 12; // pixels between what is written and the bar
const NEAR = 40; // pixels: the bar grows by a line with what it tells, and nobody scrolls by less

const editor = $("text");
const engine = new HttpEngine();
const story = new Story(); // the only one: whoever writes into it writes into what is shown
const view = new TextEditor(editor, takeEdit, () => mark(), load);
let writing = null; // {abort}: what the model is writing
let running = Promise.resolve(); // until it has ended
let isComposed = false; // whether an input method is composing something in the text
let listing = 0;
const written = new Written();
let drawn = null; // the seed that the server has drawn last
const isWriting = () => writing !== null;

const scores = new Scores(story, engine, () => mark());
const probabilities = new Probabilities(story, scores, { onShow: () => mark(), onChoose: choose, onLeave: () => editor.focus() });
const suggestions = new Suggestions(story, view, engine, { isWriting, onTake });
const keeper = new Keeper(story, { isWriting, onOther: () => { showAnew(); showPlace(); } });

// === The editor ===

// Shows the text as it is now, with the cursor at `at` if that is given. A suggestion was for the text before.
function render(at = null) {
  suggestions.hide();
  view.show(story.text, at);
  mark();
  showPlace();
}

// Shows the text of another node: what was found in the one before has no place in it.
function showOther(at) {
  scores.forget();
  probabilities.show(null);
  render(at);
  scores.ask();
}

// How many pixels a place of the text would have to be further up to stand above the bar, which covers what is below it.
const hiddenBelow = (at) => view.bottomOf(at) + SPACE - document.querySelector(".bar").getBoundingClientRect().top;

function bringUp(at) {
  const hidden = hiddenBelow(at);
  if (hidden > 0) scrollBy({ top: hidden });
}

editor.addEventListener("beforeinput", (event) => {
  if (event.inputType === "historyUndo" || event.inputType === "historyRedo") {
    event.preventDefault();
    (event.inputType === "historyUndo" ? undo : redo)();
  }
});
editor.addEventListener("compositionstart", () => {
  isComposed = true;
  stop();
  suggestions.stop();
});
editor.addEventListener("compositionend", () => { isComposed = false; }); // after the editor has taken what was composed

function takeEdit({ at, length, added }, caret) {
  stop();
  story.type(at, length, added);
  movePlaces({ at, length, added });
  render(caret);
  changed();
  suggestions.ask();
  scores.ask();
}

function onTake(end) {
  render(end);
  changed();
}

// Takes note that the story has changed. While the model writes, what takes long waits until it has ended.
function changed(isStreaming = false) {
  showPlace();
  if (!isStreaming) {
    showCommand();
    clearTimeout(listing);
    listing = setTimeout(listBranches, 200);
  }
  keeper.note(isStreaming);
}

// Moves what was found in the text as a change moves the text.
function movePlaces(change) {
  scores.move(change);
  probabilities.move(change);
}

function mark() {
  showMarks(view, story, scores, probabilities.shown);
}

document.addEventListener("selectionchange", () => {
  if (document.activeElement !== editor) return;
  const at = view.caret;
  if (!view.isAtEnd) suggestions.hide();
  probabilities.show(probabilities.at(at) ?? (at ? probabilities.at(at - 1) : null));
  showCommand();
});

editor.addEventListener("pointermove", (event) => {
  if (event.pointerType !== "mouse" || writing) return;
  const at = view.offsetAt(event.clientX, event.clientY);
  const found = at === null ? null : probabilities.at(at);
  if (found) probabilities.show(found);
});

// === Writing ===

function write(options = {}) {
  if (!writing) running = stream(options);
}

async function stream({ at = view.caret, kind = "writing", parent = null }) {
  suggestions.hide();
  hideOffers();
  const [before, caret] = [story.current, view.caret];
  if (parent !== null) {
    story.goTo(parent);
    showOther(at); // at once, since what is typed before the model's first word is typed into what is shown
    changed();
  }
  bringUp(at);
  const request = requestAt(at);
  const [from, number] = [story.current, request.n];
  let seed = null;
  const abort = new AbortController();
  const drafts = new Drafts(story, at, kind, number);
  writing = { abort };
  if (number > 1) showOffers(number, (place) => takeOffer(drafts.nodes[place]));
  busy(true);
  try {
    const isEnded = await engine.write({
      ...request, signal: abort.signal,
      onSeed(given) {
        seed = given;
        if (request.settings.seed === undefined) showSeed(given);
      },
      onSpan(place, span) {
        if (abort.signal.aborted) return; // what was on its way when you went on yourself
        const end = at + drafts.text(place).length;
        const follows = view.caret === end; // unless you went elsewhere meanwhile
        if (drafts.extend(place, span)) {
          const isInSight = hiddenBelow(end) <= NEAR; // whoever has scrolled up reads something else
          movePlaces({ at: end, length: 0, added: span.text });
          render(follows ? end + span.text.length : null);
          if (isInSight) bringUp(end + span.text.length);
        } else showOffer(place, drafts.text(place));
        changed(true);
      },
    });
    tell(isEnded ? "ended" : "done");
  } catch (error) {
    tell(error.name === "AbortError" ? "stopped" : explain(error));
    if (error.status === 401) askKey();
    if (error.status === 404) findModels().then(() => writing || tell(explain(error))); // the server has others by now
  } finally {
    writing = null;
    busy(false);
    withdraw(drafts.end());
    if (seed === null) written.forget();
    else written.note({ story, request, seed, from, at, nodes: drafts.written });
    if (parent !== null && story.current === parent && !drafts.written.length && !isComposed) {
      story.goTo(before); // there is no other version; what is being composed will be one
      showOther(caret);
    } else render();
    changed();
    scores.ask();
  }
}

function stop() {
  writing?.abort.abort();
}

async function stopped() {
  stop();
  await running;
}

function busy(isBusy) {
  $("write").textContent = say(isBusy ? "stop" : "write");
  $("write").dataset.word = isBusy ? "stop" : "write";
  if (isBusy) tell("writing");
  showPlace();
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

function takeOffer(node) {
  if (node === null) return; // nothing of it is there yet
  move(() => story.goTo(node));
  hideOffers();
  editor.focus();
}

// Another token in the place of one: a branch, which the model continues.
async function choose(place, taken) {
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

// Goes to another version of this place. Returns whether there is one.
function version(step) {
  const siblings = story.siblings();
  const place = siblings.indexOf(story.current) + step;
  const isThere = place >= 0 && place < siblings.length;
  if (isThere) move(() => story.goTo(siblings[place]));
  return isThere;
}

function showPlace() {
  const siblings = story.siblings();
  const place = siblings.indexOf(story.current);
  const shown = `${place + 1}/${siblings.length}`;
  if ($("version").textContent !== shown) $("version").textContent = shown; // which a screen reader then says
  const { parent, last } = story.nodes[story.current];
  const isOn = { previous: place > 0, next: place < siblings.length - 1, undo: parent >= 0, redo: last >= 0, again: !writing };
  for (const [id, is] of Object.entries(isOn)) $(id).setAttribute("aria-disabled", String(!is));
}

function listBranches() {
  showBranches(story, { onOpen: (leaf) => move(() => story.goTo(leaf)), onPin: changed });
}

// === Keys ===

editor.addEventListener("keydown", (event) => {
  if (isComposing(event)) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  const isOffered = suggestions.text && view.isAtEnd;
  // The keys of the system that move by a word: at the end of the text they take one.
  const isByWord = isMac() ? event.altKey && !control : event.ctrlKey && !event.altKey;
  const isOwn = event.altKey && (!isMac() || event.ctrlKey); // Option alone moves the cursor on a Mac
  let handled = true;
  if (control && key === "enter") writing ? stop() : write();
  else if (control && key === "z") event.shiftKey ? redo() : undo();
  else if (control && key === "y") redo();
  else if (key === "escape" && writing) stop();
  else if (key === "escape" && isOffered) suggestions.ask();
  else if (key === "tab" && isOffered && !event.shiftKey) suggestions.take();
  else if (isByWord && key === "arrowright" && isOffered && !event.shiftKey) suggestions.takeWord();
  else if (isOwn && key === "arrowdown" && probabilities.shown) {
    $("alternatives").focus();
  } else if (isOwn && key === "arrowleft") handled = version(-1);
  else if (isOwn && key === "arrowright") handled = version(1);
  else handled = false;
  if (handled) event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !isComposing(event)) stop();
});

// === Another text ===

async function load(file) {
  let text;
  try {
    text = decoded(new Uint8Array(await file.arrayBuffer()));
  } catch {
    return tell("badEncoding");
  }
  try {
    if (file.name.toLowerCase().endsWith(".json")) {
      const other = Story.fromJSON(JSON.parse(text));
      replace(() => story.adopt(other));
    } else {
      const added = [{ text: text.replace(/\r\n?/g, "\n"), origin: "user" }];
      replace(() => story.change(0, story.text.length, added, "opened"));
    }
  } catch {
    tell("badFile");
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
  written.forget(); // the nodes are others
  hideOffers(); // they are versions of another text
  showOther(story.text.length);
}

// === The page ===

// What is sent of the text if the model writes at a place of it.
function sentAt(at) {
  return sentOf(story.text.slice(0, at), $("fill").checked ? story.text.slice(at) : "");
}

// What the server is asked for if the model writes at a place of the text.
function requestAt(at) {
  const [model, n, isGap] = [$("model").value, Number($("number").value), $("fill").checked];
  return { model, sent: sentAt(at), n, settings: asked(), isExact: engine.isExact, isGap };
}

// Shows the command that writes what was just written again, and elsewhere the one that writes as the page would.
function showCommand() {
  const next = requestAt(view.caret);
  const again = written.requestAt(story, view.caret, next);
  const [command, word] = [commandOf(again ?? next), again ? "commandAgain" : "command"];
  if ($("command").textContent !== command) $("command").textContent = command;
  if ($("command-title").dataset.word === word) return;
  $("command-title").dataset.word = word;
  $("command-title").textContent = say(word);
}

function showSeed(given = drawn) {
  drawn = given;
  $("seed").placeholder = drawn === null ? say("random") : `${say("drawn")}${drawn}`;
}

function speakOut(language) {
  speak(language);
  showSeed();
  editor.dataset.hint = say("hint");
  nameOffers();
  probabilities.render();
  listBranches();
}

function askKey() {
  $("key-form").hidden = false;
  $("key").focus();
}

function takeChoice() {
  remember();
  look();
  mark();
  showCommand();
  scores.ask();
}

// Forgets what another model, or the same one with another label or other cells clamped, has found in the text and
// suggested.
function takeModel() {
  scores.forget();
  probabilities.show(null);
  takeChoice();
  suggestions.ask();
}

async function findModels() {
  try {
    showModels(await engine.models());
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
  $("seed").addEventListener("input", () => {
    checkSeed();
    showCommand();
  });
  $("model").addEventListener("change", () => {
    chooseModel();
    forgetModel();
    takeModel();
  });
  $("label").addEventListener("change", () => {
    chooseModel(); // whose label it is
    takeModel();
  });
  $("branches").closest("details").addEventListener("toggle", listBranches);
  for (const id of [...CHOICES.filter((id) => id !== "clamp"), "fill"]) $(id).addEventListener("input", takeChoice);
  $("clamp").addEventListener("input", () => {
    if ($("clamp").value) chooseModel(); // whose cells they are
    takeModel();
  });
  $("ghost").addEventListener("input", () => {
    takeChoice();
    suggestions.ask();
  });
  $("copy").addEventListener("click", async () => tell((await copy($("command").textContent)) ? "copied" : "notCopied"));
  $("language").addEventListener("click", () => {
    speakOut(LANGUAGES[(LANGUAGES.indexOf(spoken()) + 1) % LANGUAGES.length]);
    remember();
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
  $("save-aside").addEventListener("click", saveAside);
  $("load").addEventListener("click", () => $("load-file").click());
  $("load-file").addEventListener("change", () => {
    const [file] = $("load-file").files;
    $("load-file").value = ""; // so that the same file can be opened again
    if (file) load(file);
  });
}

async function saveAside() {
  try {
    download("not-read.txt", (await aside()).join("\n"), "text/plain");
  } catch (error) {
    tell(whyNotKept(error));
  }
}

async function begin() {
  const before = recall();
  makeSliders(showCommand);
  listen();
  speakOut(before.language ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
  restore(before);
  look();
  mark();
  engine.key = readFrom(() => sessionStorage, "textgen-key") ?? "";
  try {
    await keeper.takeUp();
    $("save-aside").hidden = !(await aside()).length;
  } catch (error) {
    tell(whyNotKept(error));
  }
  render(story.text.length);
  showPlace();
  await findModels();
  document.documentElement.dataset.ready = "yes";
}

begin();

export { story, view }; // for the console of the browser, and for tests
