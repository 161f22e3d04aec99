// What the page says, in English and Chinese, and the language that is shown.

export const WORDS = JSON.parse(document.getElementById("words").textContent);
let language = navigator.language.toLowerCase().startsWith("zh") ? 1 : 0;

/** Whether the page is shown in Chinese. */
export const isChinese = () => language === 1;

/** Shows the other language from the next words on. */
export function switchLanguage() {
  language = 1 - language;
}

/** The words of a key in the language shown, with {names} replaced. */
export function say(key, values = {}) {
  const found = WORDS[key];
  const text = found ? found[language] : key;
  return text.replace(/\{(\w+)\}/g, (_, name) => (name in values ? values[name] : `{${name}}`));
}
