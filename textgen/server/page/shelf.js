// Keeps the story in the browser's own database, so that nothing is lost when the page closes.

const NAME = "textgen";

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

export function keep(story) {
  return run("readwrite", (store) => store.put(JSON.stringify(story), "current"));
}

export async function kept() {
  const text = await run("readonly", (store) => store.get("current"));
  return text === undefined ? null : JSON.parse(text);
}
