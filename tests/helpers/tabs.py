"""The exported page in tabs of a browser that is a fake, in Node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from javascript import in_node

from textgen.export.html import SCRIPT
from textgen.export.packing import joined

STORAGE = """
const storage = (full = {}) => { // one that is full takes nothing, one that is refused fails at everything
  const items = new Map();
  const check = (fails, name) => { if (fails) throw new DOMException("It cannot.", name); };
  const refuse = () => check(full.isRefused, "SecurityError");
  return {
    items, get length() { refuse(); return items.size; }, key: (number) => [...items.keys()][number],
    getItem: (name) => { refuse(); return items.get(name) ?? null; },
    setItem: (name, value) => { refuse(); check(full.is, "QuotaExceededError"); items.set(name, String(value)); },
    removeItem: (name) => { refuse(); items.delete(name); },
  };
};
let clock = 0;
Date.now = () => (clock += 1000);
"""
BROWSER = """
import vm from "node:vm";
class Text {
  nodeType = 3;
  constructor(data) { this.data = data; }
  get length() { return this.data.length; }
  get textContent() { return this.data; }
  replaceData(at, removed, added) { this.data = this.data.slice(0, at) + added + this.data.slice(at + removed); }
}
class Element {
  childNodes = []; attributes = {}; dataset = {}; listeners = {}; value = ""; hidden = false;
  style = { setProperty() {} }; classList = { toggle() {} };
  get textContent() { return this.childNodes.map((each) => each.textContent).join(""); }
  set textContent(text) { this.childNodes = text === "" ? [] : [new Text(text)]; }
  get firstChild() { return this.childNodes[0] ?? null; }
  append(...nodes) { this.childNodes.push(...nodes); }
  replaceChildren(...nodes) { this.childNodes = nodes; }
  setAttribute(name, value) { this.attributes[name] = value; }
  getAttribute(name) { return this.attributes[name] ?? null; }
  addEventListener(type, listener) { (this.listeners[type] ??= []).push(listener); }
  fire(type, more = {}) {
    const event = { target: this, isPrevented: false, preventDefault() { this.isPrevented = true; }, ...more };
    for (const listener of this.listeners[type] ?? []) listener(event);
    return event.isPrevented;
  }
  click() { this.fire("click"); }
  focus() {}
  closest() { return new Element(); }
  getBoundingClientRect() { return { top: 0, bottom: 0 }; }
}
const card = { name: "model", licence: "", note: "", parameters: 1, vocabulary: 1, labels: [] };
/** Opens the page in a tab; its model is loaded with `ready` and writes with `tokens`. */
const open = (local, session = storage(), hash = "") => {
  const [elements, window, worker, document, timers, asked] =
    [{}, new Element(), new Element(), new Element(), new Map(), []];
  let timer = 0;
  const location = { pathname: "/page.html", hash, get href() { return `file:///page.html${this.hash}`; } };
  const $ = (id) => (elements[id] ??= new Element());
  Object.assign(document, {
    getElementById: $, querySelectorAll: () => [],
    querySelector: () => Object.assign(new Element(), { content: "fingerprint" }),
    createElement: () => new Element(), createTextNode: (text) => new Text(text), readyState: "complete",
    documentElement: new Element(), createRange: () => Object.assign(new Element(), { setStart() {}, setEnd() {} }),
  });
  const own = {
    document, location, localStorage: local, sessionStorage: session, navigator: { language: "en", platform: "" },
    history: { replaceState: (state, title, address) => { location.hash = /#.*|$/.exec(address)[0]; } },
    Worker: class { constructor() { return worker; } }, Node: { TEXT_NODE: 3 },
    scrollBy() {}, URL: { createObjectURL: () => "" },
    getSelection: () => ({ rangeCount: 0, isCollapsed: true }),
    setTimeout: (action) => { timers.set(++timer, action); return timer; }, clearTimeout: (id) => timers.delete(id),
    addEventListener: (type, listener) => window.addEventListener(type, listener),
    Blob, Date, Intl, URLSearchParams, crypto, performance,
  };
  worker.postMessage = (message) => asked.push(message);
  vm.runInNewContext(SOURCE, own);
  const hear = (data) => worker.fire("message", { data });
  const settle = () => { const all = [...timers.values()]; timers.clear(); for (const action of all) action(); };
  return {
    $, location, session, settle, text: () => $("text").textContent, click: (id) => $(id).click(),
    ready: () => hear({ kind: "ready", isSimd: true, defaults: { max_tokens: 500 }, card }),
    fail: () => hear({ kind: "failure", message: "" }),
    tokens: (texts, isLast = true) => {
      const { number } = asked.filter(({ kind }) => kind === "write").at(-1);
      const tokens = texts.map((text) => ({ text, own: text, probability: 1, top: [] }));
      hear({ kind: "tokens", number, isLast, isEnded: false, tokens });
      settle();
    },
    type: (text) => { $("text").textContent = text; $("text").fire("input"); settle(); },
    press: (key) => { document.fire("keydown", { key, ctrlKey: true, target: $("text") }); settle(); },
    follow: (link) => { location.hash = link; window.fire("hashchange"); settle(); },
    earlier: () => $("earlier").childNodes.map((item) => item.textContent.split(" · ")[0]),
    openEarlier: (number) => { $("earlier").childNodes[number].childNodes[0].click(); settle(); },
    /** Closes the tab. Returns whether the page asks before. */
    close: () => { const asks = window.fire("beforeunload"); window.fire("pagehide"); return asks; },
  };
};
const kept = (local) => [...local.items.values()].map((value) => JSON.parse(value).text).sort();
"""


def in_page_tabs(code: str, folder: Path, given: Any = None) -> Any:
    """Runs a script that opens the page in tabs, with `open(localStorage, sessionStorage, hash)`."""
    source = f"const SOURCE = {json.dumps(joined(SCRIPT))};\n"
    return in_node(code, given, folder, before=source + STORAGE + BROWSER)
