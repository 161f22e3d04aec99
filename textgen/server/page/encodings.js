// The text of a file: in UTF-8, in UTF-16 with a byte order mark, in GB 18030, of which GBK and GB 2312 are parts, or in
// Big5.

const MARKS = [["utf-16le", 0xff, 0xfe], ["utf-16be", 0xfe, 0xff]];

// Throws an error for what is no text in any of them.
export function decoded(bytes) {
  const marked = MARKS.find(([, first, second]) => bytes[0] === first && bytes[1] === second);
  const text = marked ? inEncoding(marked[0], bytes) : inUtf8(bytes) ?? inChinese(bytes);
  if (text.includes("\0")) throw new TypeError("not a text");
  return text;
}

const inEncoding = (name, bytes) => new TextDecoder(name, { fatal: true }).decode(bytes);

function inUtf8(bytes) {
  try {
    return inEncoding("utf-8", bytes);
  } catch {
    return null;
  }
}

// Nearly all Big5 is valid GB 18030, too, but its punctuation and many frequent characters are private ones there.
//
// A file in an encoding of Western Europe would be read as wrong characters, as would UTF-8 that is cut or damaged. Most
// Chinese characters are two bytes beyond ASCII in GB 18030, and most stand beside others; a character that is one byte
// and the letter after it stands alone.
function inChinese(bytes) {
  if (isMostlyUtf8(bytes)) throw new TypeError("damaged");
  const text = inEncoding("gb18030", bytes);
  const runs = text.match(/[^\0-\x7f]+/g) ?? [];
  const characters = [...runs.join("")];
  const isBig5 = characters.filter(isPrivate).length > 0.02 * characters.length;
  const beyond = bytes.reduce((sum, byte) => sum + (byte > 0x7f), 0);
  const isChinese = isBig5 ? characters.length >= 2 * runs.length : beyond >= 1.5 * characters.length;
  if (!isChinese) throw new TypeError("not Chinese");
  return isBig5 ? inEncoding("big5", bytes) : text;
}

const isPrivate = (character) => character >= "\ue000" && character <= "\uf8ff";

// Whether more of the characters beyond ASCII are sound in UTF-8 than are not.
function isMostlyUtf8(bytes) {
  let sum = 0;
  for (const character of new TextDecoder().decode(bytes)) {
    if (character > "\x7f") sum += character === "\ufffd" ? -1 : 1;
  }
  return sum > 0;
}
