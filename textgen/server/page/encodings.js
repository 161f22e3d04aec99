// The text of a file: in UTF-8, in UTF-16 with a byte order mark, or in GB 18030, of which GBK and GB 2312 are parts.

const MARKS = [["utf-16le", 0xff, 0xfe], ["utf-16be", 0xfe, 0xff]];

// Throws an error for what is no text in any of them.
export function decoded(bytes) {
  const marked = MARKS.find(([, first, second]) => bytes[0] === first && bytes[1] === second);
  const text = marked ? inEncoding(marked[0], bytes) : inUtf8(bytes) ?? inGb18030(bytes);
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

// Most Chinese characters are two bytes beyond ASCII. Where most are one beside a letter, the file is in an encoding of
// Western Europe, which would be read as wrong characters, as would UTF-8 that is cut or damaged.
function inGb18030(bytes) {
  if (isMostlyUtf8(bytes)) throw new TypeError("damaged");
  const text = inEncoding("gb18030", bytes);
  const beyond = bytes.reduce((sum, byte) => sum + (byte > 0x7f), 0);
  if (beyond < 1.5 * [...text].filter((character) => character > "\x7f").length) throw new TypeError("not Chinese");
  return text;
}

// Whether more of the characters beyond ASCII are sound in UTF-8 than are not.
function isMostlyUtf8(bytes) {
  let sum = 0;
  for (const character of new TextDecoder().decode(bytes)) {
    if (character > "\x7f") sum += character === "\ufffd" ? -1 : 1;
  }
  return sum > 0;
}
