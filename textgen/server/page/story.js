// The text and its history: a tree whose nodes are changes. Undo goes to the parent, redo to the child visited last.
// Nothing is ever lost: what is undone, regenerated or replaced stays as a branch.
//
// A span is {text, origin, token}: origin is "user" or "model", and token tells the model's probabilities:
// {text, logprob, top: [{text, logprob}], healed}, natural logarithms; `healed` may be missing, and is the number of
// characters before the span that the token writes again. A change replaces `removed` spans at character `at` by
// `added`.

export class Story {
  constructor() {
    this.nodes = [{ parent: -1, at: 0, removed: [], added: [], children: [], last: -1, kind: "start", pinned: false }];
    this.current = 0;
    this.spans = [];
    this.text = "";
  }

  // Adds a change after the current node and goes there. Returns its number.
  change(at, length, added, kind) {
    at = Math.max(0, Math.min(at, this.text.length)); // beyond the text there is nothing that undo could come back to
    const node = { parent: this.current, at, removed: this.slice(at, at + length), added: added.filter((s) => s.text) };
    Object.assign(node, { children: [], last: -1, kind, pinned: false });
    const number = this.nodes.push(node) - 1;
    this.nodes[this.current].children.push(number);
    this.nodes[this.current].last = number;
    this.splice(at, length, node.added);
    this.current = number;
    return number;
  }

  // Typing: a change by the user, which continues the change before it where it can.
  type(at, length, text) {
    const node = this.nodes[this.current];
    const end = node.at + lengthOf(node.added);
    const goesOn = node.kind === "typing" && !node.children.length && !length && at === end && !/\n/.test(text);
    if (!goesOn) return this.change(at, length, [{ text, origin: "user" }], "typing");
    node.added = [{ text: textOf(node.added) + text, origin: "user" }];
    this.splice(at, 0, [{ text, origin: "user" }]);
    return this.current;
  }

  // Appends spans to a node, as a stream brings them. Returns whether the text has changed, as it does at the current
  // node. A node that was continued stays as it is.
  extend(number, spans) {
    const node = this.nodes[number];
    if (node.children.length) return false;
    if (number !== this.current) {
      node.added.push(...spans);
      return false;
    }
    this.splice(node.at + lengthOf(node.added), 0, spans);
    node.added.push(...spans);
    return true;
  }

  // Adds a change beside the current node without going there: a branch.
  branch(parent, at, removed, kind) {
    const node = { parent, at, removed, added: [], children: [], last: -1, kind, pinned: false };
    const number = this.nodes.push(node) - 1;
    this.nodes[parent].children.push(number);
    return number;
  }

  // Removes a node that has added nothing, if it is the last one and nothing goes on from it. Redo then leads to `last`
  // from the node before, as it did before there was this one, unless it leads elsewhere by now.
  forget(number, last) {
    if (number !== this.nodes.length - 1 || this.nodes[number].children.length) return;
    if (this.current === number) this.undo();
    const parent = this.nodes[this.nodes.pop().parent];
    parent.children = parent.children.filter((child) => child !== number);
    if (parent.last === number) parent.last = last;
  }

  undo() {
    const node = this.nodes[this.current];
    if (node.parent < 0) return false;
    this.splice(node.at, lengthOf(node.added), node.removed);
    this.nodes[node.parent].last = this.current;
    this.current = node.parent;
    return true;
  }

  redo() {
    const next = this.nodes[this.current].last;
    if (next < 0) return false;
    this.descend(next);
    return true;
  }

  descend(number) {
    const node = this.nodes[number];
    this.splice(node.at, lengthOf(node.removed), node.added);
    this.nodes[node.parent].last = number;
    this.current = number;
  }

  // Goes to any node: up to where both paths meet, then down.
  goTo(number) {
    const path = this.path(number);
    while (!path.includes(this.current)) this.undo();
    for (const next of path.slice(path.indexOf(this.current) + 1)) this.descend(next);
  }

  path(number) {
    const path = [];
    for (let at = number; at >= 0; at = this.nodes[at].parent) path.unshift(at);
    return path;
  }

  // Takes in another story. Where nothing has been written yet it becomes this one; otherwise its text is one change,
  // which undo takes back, and all of its branches are kept beside it.
  adopt(other) {
    if (this.nodes.length === 1) return this.become(other);
    const root = this.change(0, this.text.length, [], "opened");
    const moved = (number) => (number < 0 ? number : number + root);
    for (const [number, node] of other.nodes.entries()) {
      const [children, last] = [node.children.map(moved), moved(node.last)];
      if (number) this.nodes.push({ ...node, parent: moved(node.parent), children, last });
      else Object.assign(this.nodes[root], { children, last });
    }
    this.undo();
    this.change(0, this.text.length, other.spans, "opened");
  }

  become({ nodes, current, spans, text }) {
    Object.assign(this, { nodes, current, spans, text });
  }

  // The nodes that replace the current one: its siblings, itself among them.
  siblings(number = this.current) {
    const { parent } = this.nodes[number];
    return parent < 0 ? [number] : this.nodes[parent].children;
  }

  leaves() {
    return this.nodes.map((_, number) => number).filter((number) => !this.nodes[number].children.length);
  }

  // The text at a node, without going there.
  textAt(number) {
    const there = new Story();
    for (const step of this.path(number)) {
      const node = this.nodes[step];
      there.splice(node.at, lengthOf(node.removed), node.added);
    }
    return there.text;
  }

  // The last characters of the text at a node. Each of them is followed up to the change that has brought it, so that no
  // text is made: there may be many nodes, and the way to each is long.
  ending(number, most) {
    let length = 0;
    for (let step = number; step >= 0; step = this.nodes[step].parent) {
      length += lengthOf(this.nodes[step].added) - lengthOf(this.nodes[step].removed);
    }
    const found = [];
    let wanted = [{ from: Math.max(0, length - most), to: length, place: 0 }];
    for (let step = number; step >= 0 && wanted.length; step = this.nodes[step].parent) {
      const { at, added, removed } = this.nodes[step];
      const end = at + lengthOf(added);
      const before = [];
      for (const { from, to, place } of wanted) {
        const [first, last] = [Math.max(from, at), Math.min(to, end)];
        const beyond = Math.max(from, end);
        if (first < last) found.push({ text: textOf(cut(added, first - at, last - at)), place: place + first - from });
        if (from < at) before.push({ from, to: Math.min(to, at), place });
        const shift = lengthOf(removed) + at - end;
        if (beyond < to) before.push({ from: beyond + shift, to: to + shift, place: place + beyond - from });
      }
      wanted = before;
    }
    return textOf(found.sort((one, other) => one.place - other.place));
  }

  // Where the model's text that a token before `at` belongs to ends: what you wrote after it stays.
  endOfRun(at) {
    let start = 0;
    for (const span of this.spans) {
      const end = start + span.text.length;
      if (span.origin !== "model" && end > at) return Math.max(start, at);
      start = end;
    }
    return start;
  }

  // The number of the span at a character, and where it begins.
  spanAt(at) {
    let start = 0;
    for (let number = 0; number < this.spans.length; number++) {
      const end = start + this.spans[number].text.length;
      if (at < end) return { number, start, end };
      start = end;
    }
    return null;
  }

  slice(from, to) {
    return cut(this.spans, from, to);
  }

  // Puts spans in the place of `length` characters at `at`. Only those there, and one on each side, are looked into.
  splice(at, length, added) {
    let [first, start] = [0, 0];
    while (first < this.spans.length && start + this.spans[first].text.length <= at) start += this.spans[first++].text.length;
    let [last, end] = [first, start];
    while (last < this.spans.length && end < at + length) end += this.spans[last++].text.length;
    const touched = this.spans.slice(first, last);
    const middle = [...cut(touched, 0, at - start), ...added, ...cut(touched, at + length - start, end - start)];
    const [from, to] = [Math.max(0, first - 1), Math.min(this.spans.length, last + 1)];
    const around = [...this.spans.slice(from, first), ...middle, ...this.spans.slice(last, to)];
    this.spans = [...this.spans.slice(0, from), ...joined(around), ...this.spans.slice(to)];
    this.text = this.text.slice(0, at) + textOf(added) + this.text.slice(at + length);
  }

  // What a change replaces is told by its length, since it is there in the text of the parent.
  toJSON() {
    const nodes = this.nodes.map((node) => ({ ...node, removed: lengthOf(node.removed) || [] }));
    return { format: "textgen story 1", nodes, current: this.current };
  }

  // Finds the spans that changes replace, where only their length is known, at the beginning of the story. It visits the
  // nodes from which such changes go on.
  findRemoved() {
    const leads = this.nodes.map(({ removed }) => isCount(removed));
    const isPassed = leads.map(() => false);
    for (let number = leads.length - 1; number > 0; number--) {
      if (leads[number] || isPassed[number]) isPassed[this.nodes[number].parent] = true;
    }
    const todo = [{ number: 0 }];
    while (todo.length) {
      const { number, isDone } = todo.pop();
      const node = this.nodes[number];
      if (isDone) {
        this.splice(node.at, lengthOf(node.added), node.removed);
        continue;
      }
      if (isCount(node.removed)) node.removed = this.slice(node.at, node.at + node.removed);
      if (!isPassed[number]) continue;
      if (number) {
        this.splice(node.at, lengthOf(node.removed), node.added);
        todo.push({ number, isDone: true });
      }
      for (const child of node.children) todo.push({ number: child });
    }
  }

  // Throws an error for what is no story.
  static fromJSON(value) {
    const story = new Story();
    if (value?.format !== "textgen story 1" || !Array.isArray(value.nodes) || !value.nodes.length) throw new Error("format");
    story.nodes = value.nodes.map((node, number) => checkedNode(node, number));
    const lengths = [0]; // of the text at each node: what a change replaces is there, or undo would add to the text
    for (const [number, node] of story.nodes.entries()) {
      if (!number) continue;
      story.nodes[node.parent].children.push(number);
      const before = lengths[node.parent];
      node.at = Math.min(node.at, before);
      const most = before - node.at;
      node.removed = isCount(node.removed) ? Math.min(node.removed, most) : cut(node.removed, 0, most);
      lengths[number] = before - (isCount(node.removed) ? node.removed : lengthOf(node.removed)) + lengthOf(node.added);
    }
    story.findRemoved();
    for (const node of story.nodes) { // -1 is right where branches were written and none was visited
      if (node.last !== -1 && !node.children.includes(node.last)) node.last = node.children.at(-1) ?? -1;
    }
    const current = value.current;
    if (!(Number.isInteger(current) && current >= 0 && current < story.nodes.length)) throw new Error("current");
    story.goTo(current);
    return story;
  }
}

// Texts that are written at once at a place of a story. A single one is gone to; of several, each is a branch once its
// first span is there, so that a text of which nothing comes is no version.
export class Drafts {
  #story;
  #from;
  #at;
  #kind;
  #last; // where redo has led before

  constructor(story, at, kind, number) {
    this.#story = story;
    this.#from = story.current;
    this.#last = story.nodes[story.current].last;
    this.#at = at;
    this.#kind = kind;
    this.nodes = number === 1 ? [story.change(at, 0, [], kind)] : Array(number).fill(null); // null: not yet there
  }

  // Appends a span to one of the texts. Returns whether the text of the story has changed.
  extend(place, span) {
    this.nodes[place] ??= this.#story.branch(this.#from, this.#at, [], this.#kind);
    return this.#story.extend(this.nodes[place], [span]);
  }

  text(place) {
    return textOf(this.#story.nodes[this.nodes[place]]?.added ?? []);
  }

  // The nodes of those of which something has come.
  get written() {
    return this.nodes.filter((node, place) => node !== null && this.text(place));
  }

  // Ends the texts. Returns the places of those of which nothing has come.
  end() {
    const empty = [...this.nodes.keys()].filter((place) => !this.text(place));
    if (this.nodes.length === 1 && empty.length) this.#story.forget(this.nodes[0], this.#last);
    return empty;
  }
}

const isCount = (n) => Number.isInteger(n) && n >= 0;

function checkedNode(node, number) {
  const isSpan = (s) => typeof s?.text === "string" && ["user", "model"].includes(s.origin);
  const sound = ({ text, origin, token }) => (isToken(token) ? { text, origin, token } : { text, origin });
  const fits = number === 0 ? node.parent === -1 : isCount(node.parent) && node.parent < number;
  const isList = (list) => Array.isArray(list) && list.every(isSpan);
  const lists = isList(node.added) && ((number && isCount(node.removed)) || isList(node.removed));
  if (!fits || !isCount(node.at) || !lists) throw new Error(`node ${number}`);
  const { parent, at } = node;
  const added = node.added.map(sound);
  const removed = isCount(node.removed) ? node.removed : node.removed.map(sound); // former versions kept the spans
  const last = Number.isInteger(node.last) ? node.last : null; // null where it is missing
  return { parent, at, removed, added, children: [], last, kind: String(node.kind), pinned: Boolean(node.pinned) };
}

// Whether probabilities can be shown: those of a token, and of what could have come in its place.
function isToken(token) {
  const isEach = (each) => typeof each?.text === "string" && Number.isFinite(each.logprob);
  const isHealed = token?.healed === undefined || (Number.isInteger(token.healed) && token.healed >= 0);
  return isEach(token) && Array.isArray(token.top) && token.top.every(isEach) && isHealed;
}

// The spans from one character to another of those given; those that are cut lose their token.
function cut(spans, from, to) {
  const found = [];
  let start = 0;
  for (const span of spans) {
    const end = start + span.text.length;
    if (Math.max(start, from) < Math.min(end, to)) {
      const whole = start >= from && end <= to;
      found.push(whole ? span : { ...span, token: undefined, text: span.text.slice(Math.max(0, from - start), to - start) });
    }
    start = end;
  }
  return found;
}

// Spans of the user that touch become one, so that a long text stays one span.
function joined(spans) {
  const result = [];
  for (const span of spans) {
    const last = result.at(-1);
    if (last && !last.token && !span.token && last.origin === span.origin) {
      result[result.length - 1] = { text: last.text + span.text, origin: last.origin };
    } else if (span.text) {
      result.push(span);
    }
  }
  return result;
}

export function textOf(spans) {
  return spans.map((span) => span.text).join("");
}

export function lengthOf(spans) {
  return spans.reduce((sum, span) => sum + span.text.length, 0);
}

// The last characters of a text; one of them may be two units long.
export function lastCharacters(text, number) {
  return number ? [...text].slice(-number).join("") : "";
}

// Where the last `most` units of a text begin: at a line if there is one, and never inside a character. The place moves
// by whole steps, so that a text that grows keeps its beginning, and the server need not read it anew.
export function beginningOfLast(text, most) {
  if (text.length <= most) return 0;
  const step = most >> 1;
  const from = Math.ceil((text.length - most) / step) * step;
  const line = text.indexOf("\n", from - 1) + 1;
  return line && line <= from + (step >> 1) ? line : from + isInside(text, from);
}

// Where the first `most` units of a text end: at a line if there is one, and never inside a character.
export function endOfFirst(text, most) {
  if (text.length <= most) return text.length;
  const line = text.lastIndexOf("\n", most - 1) + 1;
  return line >= most >> 1 ? line : most - isInside(text, most);
}

// 1 between the two units of one character, otherwise 0.
function isInside(text, at) {
  return Number(/^[\uDC00-\uDFFF]/.test(text[at]) && /^[\uD800-\uDBFF]/.test(text[at - 1]));
}

// Where two texts differ: the new one has `added` in place of `length` characters at `at`. The end of the change is
// looked for near `caret`, where the user typed, since "aa" may have become "aaa" at any of its places.
export function difference(before, after, caret = after.length) {
  const most = Math.min(before.length, after.length);
  let tail = 0;
  const longest = Math.min(most, after.length - Math.min(caret, after.length));
  while (tail < longest && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++;
  let at = 0;
  while (at < most - tail && before[at] === after[at]) at++;
  return { at, length: before.length - at - tail, added: after.slice(at, after.length - tail) };
}
