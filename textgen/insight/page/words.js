// What the page says, in English and Chinese, and the language that is shown.

export const WORDS = JSON.parse(document.getElementById("words").textContent);
const LANGUAGE = "textgen language"; // where the language that was chosen is kept, for all such pages of a place
const NAMES = ["en", "zh"];
let language = keptLanguage();

/** The number of the language that was kept; otherwise that of the browser. */
function keptLanguage() {
  try {
    const kept = NAMES.indexOf(JSON.parse(localStorage.getItem(LANGUAGE)));
    if (kept >= 0) return kept;
  } catch {
    // the browser keeps nothing, or it is damaged
  }
  return navigator.language.toLowerCase().startsWith("zh") ? 1 : 0;
}

/** Whether the page is shown in Chinese. */
export const isChinese = () => language === 1;

/** Shows the other language from the next words on, and the next time, where the browser allows it. */
export function switchLanguage() {
  language = 1 - language;
  try {
    localStorage.setItem(LANGUAGE, JSON.stringify(NAMES[language]));
  } catch {
    // the next time begins in the language of the browser
  }
}

const ENDS_CHINESE = /[\u2e80-\u9fff\uff00-\uffef]( ?)$/, BEGINS_CHINESE = /^( ?)[\u2e80-\u9fff\uff00-\uffef]/;

/** Appends a text. In Chinese, a space parts a number or a name from Chinese, but not Chinese from Chinese. */
function joined(before, after) {
  const [end, start] = [ENDS_CHINESE.exec(before), BEGINS_CHINESE.exec(after)];
  if (!isChinese() || !end || !start) return before + after;
  return before.slice(0, before.length - end[1].length) + after.slice(start[1].length);
}

/** The words of a key in the language shown, with {names} replaced. */
export function say(key, values = {}) {
  const found = WORDS[key];
  const parts = (found ? found[language] : key).split(/\{(\w+)\}/); // every second one is a name
  return parts.map((part, place) => (place % 2 ? String(part in values ? values[part] : `{${part}}`) : part)).reduce(joined);
}
