// Keeps the story in the browser's own database, so that nothing is lost when the page closes.
//
// The story stands in one record with its revision. A page writes over the revision that its own story came from, and
// over no other: another tab has kept a newer one. `localStorage` has the newest revision too, as a hint that is read
// without the database.
//
// What is kept and cannot be read is set aside in another record, a list, so that no story is written over it.

const NAME = "textgen";
const REVISION = "textgen-revision";
const ASIDE = "aside";
let own = null; // revision of the story of this page
let keeping = Promise.resolve(); // until the last story is kept: the next one goes over it

export class Stale extends Error {}

// Reads a small storage of the browser, which `storage` returns: already to name it fails where site data are refused.
// Returns null for what was never written, and undefined if nothing can be read.
export function readFrom(storage, name) {
  try {
    return storage().getItem(name);
  } catch {
    return undefined;
  }
}

// Writes into it if that is possible: what stands there is no more than convenient.
export function writeTo(storage, name, value) {
  try {
    storage().setItem(name, value);
  } catch {
    // refused or full
  }
}

// Tells that the story of this page is of a revision now: the one that `kept` or `newer` has found with it.
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

// Calls `action` with what is kept and the store, within one transaction. Returns what it returns.
async function run(mode, action) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction("stories", mode);
    const store = transaction.objectStore("stories");
    const request = store.get("current");
    let result;
    request.onsuccess = () => { result = action(recordOf(request.result), store); };
    transaction.oncomplete = () => resolve(result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  }).finally(() => database.close());
}

// A record may also be the story alone, without a revision, as former versions of the page kept it.
function recordOf(found) {
  return typeof found === "object" ? found : { revision: null, story: found ?? null };
}

// Throws `Stale`, and keeps nothing, if another tab has kept something since this page read what it has.
export function keep(story) {
  const text = JSON.stringify(story);
  keeping = keeping.catch(() => {}).then(() => put(text));
  return keeping;
}

const put = (story) => writeOver(own, (store, revision) => store.put({ revision, story }, "current"));

// Writes over the record of a revision: `write` is called with the store, the new revision and the record. Throws `Stale`,
// and writes nothing, if it is of another revision.
async function writeOver(expected, write) {
  const revision = `${Date.now()} ${Math.random()}`;
  const isWritten = await run("readwrite", (record, store) => {
    if (record.revision !== expected) return false;
    write(store, revision, record);
    return true;
  });
  if (!isWritten) throw new Stale();
  own = revision;
  writeTo(() => localStorage, REVISION, revision);
}

// Returns {revision, story}: the story that is kept, null in its place if there is none or undefined if it is no JSON, and
// the revision to accept with it.
export async function kept() {
  const { revision, story } = await run("readonly", (record) => record);
  return { revision, story: story === null ? null : parsed(story) };
}

function parsed(story) {
  try {
    return JSON.parse(story);
  } catch {
    return undefined;
  }
}

// Sets aside what is kept under a revision, since it cannot be read. The story of this page then goes in its place.
export function setAside(revision) {
  return writeOver(revision, (store, fresh, { story }) => {
    const asked = store.get(ASIDE);
    asked.onsuccess = () => {
      store.put([...(asked.result ?? []), typeof story === "string" ? story : JSON.stringify(story)], ASIDE);
      store.put({ revision: fresh, story: null }, "current");
    };
  });
}

// Returns the texts that were set aside.
export async function aside() {
  return (await run("readonly", (_, store) => store.get(ASIDE))).result ?? [];
}

// Returns the same if another tab has kept it, and null if it is of this page.
export async function newer() {
  if (readFrom(() => localStorage, REVISION) === own) return null;
  const found = await kept();
  return found.revision === own ? null : found;
}
