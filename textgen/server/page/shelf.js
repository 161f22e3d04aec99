// Keeps the story in the browser's own database, so that nothing is lost when the page closes.
//
// The revision of what is kept stands in `localStorage`, which is read at once, also while the page closes. A page whose
// story is of another revision does not write over it: another tab has kept a newer one.

const NAME = "textgen";
const REVISION = "textgen-revision";
let own = null; // revision of the story of this page

export class Stale extends Error {}

export function newest() {
  return localStorage.getItem(REVISION);
}

export function isStale() {
  return newest() !== own;
}

// Tells that the story of this page is of a revision now.
export function accept(revision) {
  own = revision;
}

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore("stories");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function run(mode, action) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction("stories", mode);
    const request = action(transaction.objectStore("stories"));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  }).finally(() => database.close());
}

// Throws `Stale`, and keeps nothing, if another tab has kept something since this page began.
export async function keep(story) {
  if (isStale()) throw new Stale();
  accept(`${Date.now()} ${Math.random()}`);
  localStorage.setItem(REVISION, own);
  return run("readwrite", (store) => store.put(JSON.stringify(story), "current"));
}

export async function kept() {
  const text = await run("readonly", (store) => store.get("current"));
  return text === undefined ? null : JSON.parse(text);
}
