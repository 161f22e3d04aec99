// What the page says, in English and Chinese, and the language that is shown.

export const WORDS = JSON.parse(document.getElementById("words").textContent);
let language = navigator.language.toLowerCase().startsWith("zh") ? 1 : 0;

/** Whether the page is shown in Chinese. */
export const isChinese = () => language === 1;

/** Shows the other language from the next words on. */
export function switchLanguage() {
  language = 1 - language;
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
