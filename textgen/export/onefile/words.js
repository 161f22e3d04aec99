// The words of the page in two languages.

const WORDS = {
  en: {
    language: "中文",
    tagline: "A language model in a single file",
    text: "Your text",
    hint: "Write a beginning, or just press Write.",
    write: "Write",
    another: "Another",
    stop: "Stop",
    more: "More",
    undo: "Undo",
    redo: "Redo",
    seed: "Seed",
    label: "Label",
    noLabel: "any",
    instead: "Instead of",
    end: "end of the text",
    closePanel: "Close",
    settings: "Settings",
    usual: "Default settings",
    max_tokens: "Max tokens",
    temperature: "Temperature",
    min_p: "Min-p",
    top_p: "Top-p",
    top_k: "Top-k",
    share: "Keep and share",
    copyText: "Copy the text",
    copyLink: "Copy a link",
    saveText: "Save as .txt",
    newText: "New text",
    earlier: "Earlier texts",
    keptNote: "Your texts stay in this browser when you close the page.",
    textGone: "This text is no longer kept: it was emptied in another tab.",
    print: "Print",
    linkNote: "The link opens this page at this address and writes the same text again. If the page is a file on your device, send the file too; the recipient adds the part from # on to the address of the copy.",
    command: "The same text on the command line",
    commandLater: "After the model has written, the command is shown here.",
    commandNone: "A prompt that is only “-” cannot be given on the command line, where - means standard input.",
    copyCommand: "Copy the command",
    about: "About the model",
    licence: "Licence",
    size: "Size",
    parameters: "parameters",
    tokensKnown: "tokens",
    comma: ", ",
    engine: "Computed by",
    plain: "JavaScript",
    device: "It runs on your device and sends nothing.",
    imitates: "It imitates the text that it was trained on. What it says need not be true.",
    keys: "Keys",
    keysList: "Ctrl+Enter writes and stops · Esc stops · Ctrl+Z and Ctrl+Shift+Z undo and redo · with the cursor in a word that the model wrote, Alt+↓ goes to the alternatives",
    keysListOnMac: "⌘+Enter writes and stops · Esc stops · ⌘+Z and ⇧+⌘+Z undo and redo · with the cursor in a word that the model wrote, Ctrl+Option+↓ goes to the alternatives",
    loading: "Opening the model …",
    writing: "Writing …",
    done: "Done.",
    stopped: "Stopped.",
    ended: "The text has ended here.",
    copied: "Copied.",
    notCopied: "Could not copy: the browser does not allow it. Select the text and press Ctrl+C.",
    notCopiedOnMac: "Could not copy: the browser does not allow it. Select the text and press ⌘+C.",
    badSeed: "The seed must be a whole number from 0 to 9223372036854775807.",
    failed: "The model cannot run in this browser: ",
  },
  zh: {
    language: "English",
    tagline: "整个语言模型都在这个文件里",
    text: "你的文本",
    hint: "写一个开头，或者直接点“续写”。",
    write: "续写",
    another: "再写一版",
    stop: "停止",
    more: "再写一段",
    undo: "撤销",
    redo: "重做",
    seed: "种子",
    label: "标签",
    noLabel: "不限",
    instead: "替换",
    end: "结束全文",
    closePanel: "关闭",
    settings: "设置",
    usual: "恢复默认设置",
    max_tokens: "词元数上限",
    temperature: "温度",
    min_p: "Min-p",
    top_p: "Top-p",
    top_k: "Top-k",
    share: "保存与分享",
    copyText: "复制文本",
    copyLink: "复制链接",
    saveText: "保存为 .txt",
    newText: "新建文本",
    earlier: "以前的文本",
    keptNote: "关闭页面后，文本仍保留在此浏览器中。",
    textGone: "这篇文本已不再保留：它已在另一个标签页中被清空。",
    print: "打印",
    linkNote: "链接会打开此地址上的本页面，并重新生成同样的文本。如果页面是你设备上的文件，请把文件一并发给对方；对方打开文件后，把链接中从 # 开始的部分接在地址末尾即可。",
    command: "生成同样文本的命令",
    commandLater: "模型写完后，这里会显示对应的命令。",
    commandNone: "开头只有一个“-”时没有对应的命令：在命令行中，“-”表示标准输入。",
    copyCommand: "复制命令",
    about: "关于此模型",
    licence: "许可证",
    size: "大小",
    parameters: "个参数",
    tokensKnown: "个词元",
    comma: "，",
    engine: "运算引擎",
    plain: "JavaScript",
    device: "它在你的设备上运行，不发送任何数据。",
    imitates: "它模仿训练时读过的文本，所写内容未必属实。",
    keys: "快捷键",
    keysList: "Ctrl+Enter 续写或停止 · Esc 停止 · Ctrl+Z、Ctrl+Shift+Z 撤销与重做 · 光标在模型写的词上时，Alt+↓ 转到其他可能的词",
    keysListOnMac: "⌘+Enter 续写或停止 · Esc 停止 · ⌘+Z、⇧+⌘+Z 撤销与重做 · 光标在模型写的词上时，Ctrl+Option+↓ 转到其他可能的词",
    loading: "正在打开模型……",
    writing: "正在写……",
    done: "完成。",
    stopped: "已停止。",
    ended: "文本在此结束。",
    copied: "已复制。",
    notCopied: "未能复制：浏览器不允许。请选中文本，按 Ctrl+C 复制。",
    notCopiedOnMac: "未能复制：浏览器不允许。请选中文本，按 ⌘+C 复制。",
    badSeed: "种子必须是 0 到 9223372036854775807 之间的整数。",
    failed: "模型无法在此浏览器中运行：",
  },
};

let language = "en";

/** Shows the page in a language. */
export function speak(chosen) {
  language = chosen in WORDS ? chosen : "en";
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.getElementById("language").lang = language === "zh" ? "en" : "zh-CN"; // it names the other language
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
  for (const element of document.querySelectorAll("[data-hint]")) element.dataset.hint = say("hint");
}

/** @returns {boolean} Whether the keys are those of a Mac. */
export const isMac = () => /^(Mac|iP)/.test(globalThis.navigator?.platform);

/** @returns {string} A word in the language of the page; words that name keys may be others on a Mac. */
export function say(word) {
  const words = WORDS[language];
  return (isMac() && words[`${word}OnMac`]) || words[word];
}

const LANGUAGE = "textgen language"; // where the language that was chosen is kept, for all such pages of a place

/** Keeps the language of the page for the next time, where the browser allows it. */
export function keepLanguage() {
  try {
    localStorage.setItem(LANGUAGE, JSON.stringify(language));
  } catch {
    // the next time begins in the language of the browser
  }
}

/** @returns {string} The language that was kept; otherwise that of the browser. */
export function keptLanguage() {
  try {
    const kept = JSON.parse(localStorage.getItem(LANGUAGE));
    if (kept in WORDS) return kept;
  } catch {
    // refused, or damaged
  }
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** @returns {string} The language of the page. */
export function spoken() {
  return language;
}
