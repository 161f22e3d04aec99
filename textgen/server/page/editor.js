// The text as the page shows it: a block for each line, so that a key costs what its line costs, however long the text.
//
// What is typed is left to the browser, so input methods, screen readers and selection stay its own. What replaces,
// deletes, splits or joins is done here, alike in all browsers, and whatever else the browser does is read back.
// Lines stand in parts of some thousand characters: the browser lays out a part at a time, and marks are made only for
// those parts that can be seen.

import { difference } from "./story.js";

const PART = 4000; // characters of a part, about
const MAX_PART_SIZE = 2 * PART;
const NEAR = 2; // parts on each side of the cursor that a key may move it to

// Whether an event belongs to an input method; while that composes, browsers report 229 as the code of every key.
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

export class TextEditor {
  text = "";
  #root;
  #lines = []; // {text, element, part}, from the first to the last
  #byElement = new WeakMap();
  #visible = new Set(); // parts
  #records = []; // of changes that the browser has made
  #last = null; // where the cursor is; also while something else has the focus, and the browser's selection stays behind
  #left = null; // the selection that the focus comes back to, unless the text or the cursor has changed meanwhile
  #isPointing = false;
  #dragged = null; // what is dragged out of the text
  #ghosted = null;
  #near = new Set(); // parts that are laid out though they may not be seen
  #onEdit;
  #onFile;
  #mutations;
  #sight;

  // Calls onEdit(change, caret) when the user has changed the text, onSight() when other parts can be seen, and
  // onFile(file) when a file is dropped on the text.
  constructor(root, onEdit, onSight, onFile) {
    this.#root = root;
    this.#onEdit = onEdit;
    this.#onFile = onFile;
    this.#mutations = new MutationObserver((records) => { this.#records = [...this.#records, ...records]; });
    this.#sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        isIntersecting && target.isConnected ? this.#visible.add(target) : this.#visible.delete(target);
      }
      onSight();
    }, { rootMargin: "50% 0px" });
    this.#rebuild();
    this.#mutations.observe(root, { subtree: true, childList: true, characterData: true });
    root.addEventListener("pointerdown", () => { this.#isPointing = true; });
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { this.#isPointing = false; });
    root.addEventListener("focus", () => this.#focused());
    root.addEventListener("blur", () => this.#note(this.#selected()));
    root.addEventListener("beforeinput", (event) => this.#beforeInput(event));
    root.addEventListener("keydown", (event) => this.#keyDown(event));
    root.addEventListener("input", (event) => {
      this.#showHint();
      if (!isComposing(event)) this.#take();
    });
    root.addEventListener("compositionend", () => {
      this.#showHint();
      this.#take();
    });
    root.addEventListener("copy", (event) => this.#copy(event));
    root.addEventListener("cut", (event) => this.#copy(event) && this.#replaceSelection(""));
    root.addEventListener("paste", (event) => this.#paste(event, event.clipboardData, this.selection));
    root.addEventListener("dragstart", () => { this.#dragged = this.#selected(); });
    root.addEventListener("dragend", () => { this.#dragged = null; });
    root.addEventListener("dragover", (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
    root.addEventListener("drop", (event) => this.#dropText(event));
  }

  // Shows a text. The cursor goes to `caret`, or stays where it is in the text.
  show(text, caret = null) {
    if (text !== this.text) {
      const change = difference(this.text, text, 0);
      // What is added where a selection begins comes before it.
      const moved = (at, isStart = false) => {
        const stays = at < change.at || (at === change.at && (change.length || !isStart));
        return stays ? at : Math.max(change.at, at + change.added.length - change.length);
      };
      const before = this.#isActive && caret === null ? this.selection : null;
      if (this.#dragged) this.#dragged = { start: moved(this.#dragged.start, true), end: moved(this.#dragged.end) };
      this.#apply(change);
      this.#left = null;
      if (before) this.#select(moved(before.anchor, before.anchor < before.focus), moved(before.focus, before.focus < before.anchor));
      else if (caret === null && this.#last !== null) this.#last = moved(this.#last);
    }
    if (caret !== null) this.caret = caret;
  }

  get caret() {
    return this.selection?.focus ?? Math.min(this.#last ?? this.text.length, this.text.length);
  }

  set caret(at) {
    this.#left = null;
    this.#last = Math.min(at, this.text.length);
    if (this.#isActive) this.#select(this.#last, this.#last);
  }

  // Whether the cursor is at the end of the text and nothing is selected.
  get isAtEnd() {
    const { start, end } = this.selection ?? { start: this.caret, end: this.caret };
    return start === end && end === this.text.length;
  }

  // {start, end, anchor, focus} in the text; null while the focus or the selection is elsewhere.
  get selection() {
    return this.#note(this.#isActive ? this.#selected() : null);
  }

  // A suggestion after the end of the text.
  set ghost(text) {
    if (this.#ghosted) delete this.#ghosted.dataset.ghost;
    this.#ghosted = text ? this.#lines.at(-1).element : null;
    if (text) this.#ghosted.dataset.ghost = text;
  }

  // The place of the character that is shown at a point of the window; null if there is none.
  offsetAt(x, y) {
    const { node, offset } = this.#pointed(x, y);
    return node?.nodeType === Node.TEXT_NODE ? this.#offsetOf(node, offset) : null;
  }

  // Where the line of the window that has a place in the text ends, in pixels from the top of the window.
  bottomOf(at) {
    const [node, offset] = this.#placeOf(at);
    if (node.nodeType === Node.ELEMENT_NODE) return node.getBoundingClientRect().bottom; // an empty line
    const range = document.createRange();
    range.setStart(node, Math.max(0, offset - 1)); // a range without characters has no place in some browsers
    range.setEnd(node, Math.max(1, offset));
    return range.getBoundingClientRect().bottom;
  }

  // The pieces of intervals {name, start, end}, sorted by start, that can be seen: [name, StaticRange].
  pieces(intervals) {
    const lines = this.#seen();
    const found = [];
    let first = 0;
    for (const { name, start, end } of intervals) {
      while (first < lines.length && lines[first].end <= start) first++;
      for (let number = first; number < lines.length && lines[number].start < end; number++) {
        const { node, start: from, end: to } = lines[number];
        const [startOffset, endOffset] = [Math.max(start, from) - from, Math.min(end, to) - from];
        if (startOffset >= endOffset) continue;
        found.push([name, new StaticRange({ startContainer: node, startOffset, endContainer: node, endOffset })]);
      }
    }
    return found;
  }

  #seen() {
    const lines = [];
    let start = 0;
    for (const { text, element, part } of this.#lines) {
      const end = start + text.length;
      if (text && this.#visible.has(part)) lines.push({ node: element.firstChild, start, end });
      start = end + 1;
    }
    return lines;
  }

  get #isActive() {
    return document.activeElement === this.#root;
  }

  // === Places ===

  // The line that has a place in the text, and where it begins.
  #lineAt(at) {
    let start = 0;
    const last = this.#lines.length - 1;
    for (let number = 0; number < last; number++) {
      const end = start + this.#lines[number].text.length;
      if (at <= end) return { number, start };
      start = end + 1;
    }
    return { number: last, start };
  }

  #startOf(line) {
    let start = 0;
    for (const each of this.#lines) {
      if (each === line) return start;
      start += each.text.length + 1;
    }
    return start;
  }

  // The line that a node of the page belongs to.
  #lineOf(node) {
    const element = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
    return this.#byElement.get(element?.closest(".line"));
  }

  // {node, offset} where a point of the window is in the page; empty if that is outside of the text.
  #pointed(x, y) {
    const place = document.caretPositionFromPoint?.(x, y);
    const range = place ? null : document.caretRangeFromPoint?.(x, y);
    const node = place?.offsetNode ?? range?.startContainer;
    return this.#root.contains(node) ? { node, offset: place?.offset ?? range.startOffset } : {};
  }

  #offsetOf(node, offset) {
    const line = this.#lineOf(node);
    if (line) return this.#startOf(line) + Math.min(within(line.element, node, offset), line.text.length);
    const next = node.childNodes[offset]; // of the root or of a part
    const first = next && this.#byElement.get(next.classList?.contains("line") ? next : next.firstElementChild);
    if (first) return this.#startOf(first);
    const last = this.#byElement.get(node === this.#root ? node.lastElementChild?.lastElementChild : node.lastElementChild);
    return last ? this.#startOf(last) + last.text.length : this.text.length;
  }

  #placeOf(at) {
    const { number, start } = this.#lineAt(at);
    const { element, text } = this.#lines[number];
    return text ? [element.firstChild, Math.min(at - start, text.length)] : [element, 0];
  }

  // The selection of the browser, if it is in the text. Without the focus it may have stayed behind.
  #selected() {
    const { rangeCount, anchorNode, anchorOffset, focusNode, focusOffset } = getSelection();
    if (!rangeCount || !this.#root.contains(anchorNode) || !this.#root.contains(focusNode)) return null;
    const focus = this.#offsetOf(focusNode, focusOffset);
    const anchor = anchorNode === focusNode && anchorOffset === focusOffset ? focus : this.#offsetOf(anchorNode, anchorOffset);
    return { start: Math.min(anchor, focus), end: Math.max(anchor, focus), anchor, focus };
  }

  #note(selection) {
    if (selection) [this.#last, this.#left] = [selection.focus, selection];
    return selection;
  }

  // By a key or a script the focus comes back with the cursor where the browser has left it: it belongs where it is now.
  #focused() {
    const at = Math.min(this.#last ?? this.text.length, this.text.length);
    const { anchor, focus } = this.#left ?? { anchor: at, focus: at };
    if (!this.#isPointing) this.#select(anchor, focus);
  }

  #select(anchor, focus) {
    const now = this.#selected();
    this.#last = focus;
    if (now?.anchor !== anchor || now.focus !== focus) getSelection().setBaseAndExtent(...this.#placeOf(anchor), ...this.#placeOf(focus));
  }

  // === Changes to the page ===

  #apply({ at, length, added }) {
    const first = this.#lineAt(at);
    const last = length ? this.#lineAt(at + length) : first;
    const head = this.#lines[first.number].text.slice(0, at - first.start);
    const rest = this.#lines[last.number].text.slice(at + length - last.start);
    this.text = this.text.slice(0, at) + added + this.text.slice(at + length);
    this.#replaceLines(first.number, last.number, (head + added + rest).split("\n"));
  }

  // Puts these lines in the place of some that are there.
  #replaceLines(first, last, texts) {
    const old = this.#lines.slice(first, last + 1);
    const kept = old.slice(0, texts.length);
    kept.forEach((line, number) => write(line, texts[number]));
    for (const { element, part } of old.slice(kept.length)) {
      element.remove();
      if (!part.childElementCount) this.#drop(part);
    }
    const fresh = texts.slice(kept.length).map((text) => this.#makeLine(text));
    if (fresh.length) this.#insert(kept.at(-1), fresh);
    if (old.length !== texts.length) {
      this.#lines = [...this.#lines.slice(0, first), ...kept, ...fresh, ...this.#lines.slice(last + 1)];
    }
    this.#settle();
  }

  // Adds lines after one: to its part, or to parts of their own if they are long.
  #insert(before, lines) {
    const after = [];
    for (let next = before.element.nextElementSibling; next; next = next.nextElementSibling) after.push(this.#byElement.get(next));
    const size = (all) => all.reduce((sum, { text }) => sum + text.length + 40, 0);
    if (size([...before.part.children].map((each) => this.#byElement.get(each))) + size(lines) <= MAX_PART_SIZE) {
      for (const line of lines) line.part = before.part;
      before.element.after(...elements(lines));
      return;
    }
    let place = before.part;
    for (const group of groups([...lines, ...after])) place = this.#makePart(group, place);
  }

  #makeLine(text) {
    const line = { text: "", element: document.createElement("div"), part: null };
    line.element.className = "line";
    this.#byElement.set(line.element, line);
    write(line, text);
    return line;
  }

  #makePart(lines, before = null) {
    const part = document.createElement("div");
    part.className = "part";
    for (const line of lines) line.part = part;
    part.append(...elements(lines));
    before ? before.after(part) : this.#root.append(part);
    this.#sight.observe(part);
    return part;
  }

  #drop(part) {
    this.#sight.unobserve(part);
    this.#visible.delete(part);
    part.remove();
  }

  #rebuild() {
    this.#lines = this.text.split("\n").map((text) => this.#makeLine(text));
    this.#sight.disconnect();
    this.#visible.clear();
    this.#root.replaceChildren();
    for (const group of groups(this.#lines)) this.#makePart(group);
    this.#settle();
  }

  // Forgets the changes that were made here, so that those of the browser can be told from them.
  #settle() {
    this.#mutations.takeRecords();
    this.#records = [];
    this.#showHint();
  }

  // Shows the hint in an empty text, unless an input method is composing one.
  #showHint() {
    this.#root.toggleAttribute("data-empty", !this.text && !this.#root.textContent);
  }

  // === Changes by the user ===

  // Lays out the parts around the cursor before a key moves it. Chromium decides only when it paints which parts it lays
  // out, and passes over the others: a key that came earlier would move the cursor to the end of the text.
  #layOutNear() {
    const { start, end } = this.selection ?? { start: this.caret, end: this.caret };
    const parts = [...this.#root.children];
    const near = new Set([start, end].flatMap((at) => {
      const middle = parts.indexOf(this.#lines[this.#lineAt(at).number].part);
      return parts.slice(Math.max(0, middle - NEAR), middle + NEAR + 1);
    }));
    for (const part of this.#near) part.classList.toggle("near", near.has(part));
    for (const part of near) part.classList.add("near");
    this.#near = near;
  }

  // Enter, of which WebKit tells nothing more in an empty line.
  #keyDown(event) {
    this.#layOutNear();
    const isKey = event.key === "Enter" && !isComposing(event);
    if (!isKey || event.ctrlKey || event.metaKey || event.altKey) return;
    this.#replace(event, this.selection ?? { start: this.caret, end: this.caret }, "\n");
  }

  #beforeInput(event) {
    const kind = event.inputType;
    if (isComposing(event) || !event.cancelable || /^history|Composition/.test(kind)) return;
    const [range] = event.getTargetRanges?.() ?? [];
    const target = (range && this.#targetOf(range)) ?? this.selection ?? { start: this.caret, end: this.caret };
    if (kind === "insertParagraph" || kind === "insertLineBreak") this.#replace(event, target, "\n");
    else if (kind === "insertText" && event.data !== null && (target.start < target.end || (range && this.#joins(range)))) {
      this.#replace(event, target, event.data);
    } else if (kind.startsWith("delete")) {
      const deleted = target.start < target.end ? target : this.#lineBreakAt(target.start, kind);
      if (deleted) this.#replace(event, deleted, "");
    }
  }

  // The line break that a key at an end of a line deletes; nothing at the ends of the text; null within a line.
  #lineBreakAt(at, kind) {
    const { number, start } = this.#lineAt(at);
    if (kind.endsWith("Backward") && at === start) return { start: Math.max(0, at - 1), end: at };
    const end = start + this.#lines[number].text.length;
    if (kind.endsWith("Forward") && at === end) return { start: at, end: Math.min(this.text.length, at + 1) };
    return null;
  }

  #targetOf({ startContainer, startOffset, endContainer, endOffset }) {
    if (!this.#root.contains(startContainer) || !this.#root.contains(endContainer)) return null;
    return { start: this.#offsetOf(startContainer, startOffset), end: this.#offsetOf(endContainer, endOffset) };
  }

  // Whether what a range holds belongs to several lines.
  #joins(range) {
    const line = this.#lineOf(range.startContainer);
    return !line || line !== this.#lineOf(range.endContainer);
  }

  #replace(event, { start, end }, added) {
    event.preventDefault();
    const change = { at: start, length: end - start, added };
    if (!change.length && !added) return;
    this.#apply(change);
    this.caret = start + added.length;
    this.#scrollToCaret();
    this.#onEdit(change, this.#last);
  }

  #replaceSelection(added) {
    const selection = this.selection;
    if (selection) this.#replace({ preventDefault() {} }, selection, added);
  }

  #scrollToCaret() {
    this.#lines[this.#lineAt(this.#last).number].element.scrollIntoView({ block: "nearest" });
  }

  #copy(event) {
    const { start, end } = this.selection ?? {};
    if (!(start < end)) return false;
    event.clipboardData.setData("text/plain", this.text.slice(start, end));
    event.preventDefault();
    return true;
  }

  #paste(event, data, place) {
    const text = data?.getData("text/plain").replace(/\r\n?/g, "\n");
    event.preventDefault();
    if (text) this.#replace(event, place ?? { start: this.caret, end: this.caret }, text);
  }

  // What comes from elsewhere is added. What comes from this text is moved, or copied with the key that says so.
  #dropText(event) {
    const [file] = event.dataTransfer?.files ?? [];
    if (file) {
      event.preventDefault();
      return this.#onFile(file);
    }
    const { node, offset } = this.#pointed(event.clientX, event.clientY);
    const at = node ? this.#offsetOf(node, offset) : this.caret; // an empty line has no text node
    const from = this.#dragged;
    this.#dragged = null;
    if (!from) return this.#paste(event, event.dataTransfer, { start: at, end: at });
    const { start, end } = from;
    const text = this.text.slice(start, end);
    const isCopied = event.ctrlKey || event.altKey;
    event.preventDefault();
    if (!isCopied && at >= start && at <= end) return;
    if (!isCopied) this.#replace(event, from, "");
    const to = isCopied || at < start ? at : at - text.length;
    this.#replace(event, { start: to, end: to }, text);
  }

  // Takes over what the browser has done: within a line as a rule.
  #take() {
    const records = [...this.#records, ...this.#mutations.takeRecords()];
    this.#records = [];
    if (!records.length) return;
    const line = this.#onlyLine(records);
    if (!line) return this.#takeAll();
    line.element.normalize();
    const text = textIn(line.element);
    const start = this.#startOf(line);
    const { focusNode, focusOffset } = getSelection();
    const inside = line.element.contains(focusNode) ? within(line.element, focusNode, focusOffset) : text.length;
    const caret = Math.min(inside, text.length);
    const change = difference(line.text, text, caret);
    const isSound = text && !text.includes("\n") && line.element.firstChild.data === text;
    if (isSound) line.text = text;
    else this.#replaceLines(this.#lines.indexOf(line), this.#lines.indexOf(line), text.split("\n"));
    this.#report({ ...change, at: change.at + start }, start + caret);
  }

  // The line in which all changes are; undefined if there is none.
  #onlyLine(records) {
    const line = this.#lineOf(records[0].target);
    const isThere = line && line.element.parentElement === line.part && line.part.parentElement === this.#root;
    return isThere && records.every(({ target }) => line.element.contains(target)) ? line : undefined;
  }

  #takeAll() {
    const { text, caret } = readAll(this.#root);
    const change = difference(this.text, text, caret ?? text.length);
    const before = this.text;
    this.text = text;
    this.#rebuild();
    this.text = before;
    this.#report(change, caret ?? text.length);
  }

  #report(change, caret) {
    this.text = this.text.slice(0, change.at) + change.added + this.text.slice(change.at + change.length);
    this.#settle();
    this.caret = caret;
    if (change.length || change.added) this.#onEdit(change, this.#last);
  }
}

// Writes a line as far as it has changed, so that a selection in it stays.
function write(line, text) {
  const [node] = line.element.childNodes;
  if (text && line.element.childNodes.length === 1 && node.nodeType === Node.TEXT_NODE && node.data === line.text) {
    const { at, length, added } = difference(line.text, text, 0);
    if (length || added) node.replaceData(at, length, added);
  } else line.element.replaceChildren(text ? document.createTextNode(text) : document.createElement("br"));
  line.text = text;
}

const elements = (lines) => lines.map(({ element }) => element);

// Cuts lines into groups for parts.
function groups(lines) {
  const all = [[]];
  let size = 0;
  for (const line of lines) {
    if (size > PART) {
      all.push([]);
      size = 0;
    }
    all.at(-1).push(line);
    size += line.text.length + 40; // so that empty lines count too
  }
  return all;
}

// The number of characters in an element before a place.
function within(element, node, offset) {
  if (node.nodeType === Node.TEXT_NODE && (node === element || node === element.firstChild)) return offset;
  const range = document.createRange();
  range.setStart(element, 0);
  range.setEnd(node, offset);
  return range.toString().length;
}

// The text of a line; a line break at its end only keeps it open.
function textIn(element) {
  return [...element.childNodes]
    .map((node, number, all) => {
      if (node.nodeType === Node.TEXT_NODE) return node.data;
      if (node.nodeName === "BR") return number === all.length - 1 ? "" : "\n";
      return textIn(node);
    })
    .join("");
}

// The text of the editor whatever the browser has made of it, and the place of the cursor.
function readAll(root) {
  const { focusNode, focusOffset } = getSelection();
  const lines = [];
  let start = 0;
  let caret = null;
  const take = (node) => {
    const text = node.nodeType === Node.TEXT_NODE ? node.data : textIn(node);
    if (node.contains(focusNode)) caret = start + Math.min(text.length, within(node, focusNode, focusOffset));
    lines.push(text);
    start += text.length + 1;
  };
  for (const child of root.childNodes) {
    if (child.nodeName === "DIV" && child.querySelector(":scope > .line")) child.childNodes.forEach(take);
    else take(child);
  }
  return { text: lines.join("\n"), caret };
}
