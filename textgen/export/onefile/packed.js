// Reads a packed model: see textgen/export/packing.py for its layout, and safetensors for that of the weights in it.

const MAGIC = "textgen\x01"; // the last character is the version
const HEADER_AT = MAGIC.length + 8 + 32; // after the header's length and checksum
const NUMBERS = { I8: Int8Array, U8: Uint8Array, F32: Float32Array };

/** The parts of a packed model. Sections and arrays are views of its bytes where their place in memory allows. */
export class Packed {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    if (bytes.length < HEADER_AT || String.fromCharCode(...bytes.subarray(0, MAGIC.length)) !== MAGIC) {
      throw new Error("This is not a model that this page can read.");
    }
    const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(MAGIC.length, true);
    this.bytes = bytes;
    this.start = HEADER_AT + size;
    this.header = JSON.parse(new TextDecoder().decode(bytes.subarray(HEADER_AT, this.start)));
    const ends = Object.values(this.header.sections).map(({ at, size }) => this.start + at + size);
    if (Math.max(...ends) > bytes.length) throw new Error("The model in this page is incomplete. Get the page again.");
  }

  /**
   * @param {string} name
   * @returns {Uint8Array|null} A section; null if there is none.
   */
  section(name) {
    const found = this.header.sections[name];
    if (!found) return null;
    return this.bytes.subarray(this.start + found.at, this.start + found.at + found.size);
  }

  /**
   * @param {Function} Kind The type of its numbers, such as Float32Array.
   * @param {string} name
   * @returns {any} A section as numbers.
   */
  numbers(Kind, name) {
    return as(Kind, this.section(name));
  }

  /**
   * @param {string} name Of a section that is a safetensors file.
   * @returns {{arrays: Object<string, {shape: number[], values: any}>, about: Object<string, string>}|null}
   */
  arrays(name) {
    const bytes = this.section(name);
    if (!bytes) return null;
    const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + size)));
    const { __metadata__: about = {}, ...entries } = header;
    const arrays = {};
    for (const [key, { dtype, shape, data_offsets: [start, end] }] of Object.entries(entries)) {
      arrays[key] = { shape, values: as(NUMBERS[dtype], bytes.subarray(8 + size + start, 8 + size + end)) };
    }
    return { arrays, about };
  }
}

/** Bytes as numbers of a type; copied if they do not begin at a multiple of its size. */
function as(Kind, bytes) {
  const { BYTES_PER_ELEMENT: width } = Kind;
  const placed = bytes.byteOffset % width ? bytes.slice() : bytes;
  return new Kind(placed.buffer, placed.byteOffset, placed.length / width);
}
