// The product of a matrix of int8 and a vector of int16 as WebAssembly with 128-bit vectors (SIMD), assembled here from
// its instructions: about 300 bytes. Four rows are multiplied at a time, eight columns of each.
//
//   multiply(w, x, y, rows, stride)   y[r] = sum over j of w[r * stride + j] * x[j], in int32
//
// w, x and y are addresses in the memory that the module imports; rows is a multiple of 4 and stride of 8, at least one.

const I32 = 0x7f;
const V128 = 0x7b;
const [ROW, X_AT, Y_AT, ROWS, STRIDE] = [0, 1, 2, 3, 4]; // parameters
const [END, X, W] = [5, 6, [7, 8, 9, 10]]; // of type i32: end of the first row, addresses of x and in four rows
const [SUMS, X_LANES] = [[11, 12, 13, 14], 15]; // of type v128
const I32_LOCALS = 6;
const V128_LOCALS = 5;

const get = (local) => [0x20, local];
const set = (local) => [0x21, local];
const i32 = (number) => [0x41, number]; // below 64
const ADD = 0x6a;
const SUBTRACT = 0x6b;
const LESS = 0x49; // unsigned
const SHIFT_LEFT = 0x74;
const loop = (...body) => [0x03, 0x40, ...body.flat(), 0x0b];
const AGAIN_IF = [0x0d, 0];
const LOAD = [0xfd, 0x00, 0, 0]; // 16 bytes, at any address
const LOAD_8_AS_16 = [0xfd, 0x01, 0, 0]; // 8 signed bytes
const STORE = [0xfd, 0x0b, 0, 0];
const ZEROS = [0xfd, 0x0c, ...new Array(16).fill(0)];
const ADD_LANES = [0xfd, 0xae, 0x01]; // i32x4.add
const DOT = [0xfd, 0xba, 0x01]; // i32x4.dot_i16x8_s: products of int16, added in pairs
const shuffle = (...lanes) => [0xfd, 0x0d, ...lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte))];
const step = (local, number) => [...get(local), ...i32(number), ADD, ...set(local)];

/** The sums of two vectors' lanes, two lanes for each: lanes of a, b -> (a0+a2, b0+b2, a1+a3, b1+b3). */
const fold = (a, b) => [
  ...get(a), ...get(b), ...shuffle(0, 4, 1, 5),
  ...get(a), ...get(b), ...shuffle(2, 6, 3, 7),
  ...ADD_LANES,
];

const BODY = [
  ...loop(
    SUMS.flatMap((sum) => [...ZEROS, ...set(sum)]),
    [...get(ROW), ...set(W[0])],
    [1, 2, 3].flatMap((row) => [...get(W[row - 1]), ...get(STRIDE), ADD, ...set(W[row])]),
    [...get(W[1]), ...set(END)],
    [...get(X_AT), ...set(X)],
    loop(
      [...get(X), ...LOAD, ...set(X_LANES)],
      SUMS.flatMap((sum, row) => [
        ...get(W[row]), ...LOAD_8_AS_16, ...get(X_LANES), ...DOT, ...get(sum), ...ADD_LANES, ...set(sum),
      ]),
      step(X, 16),
      W.flatMap((row) => step(row, 8)),
      [...get(W[0]), ...get(END), LESS, ...AGAIN_IF],
    ),
    [...fold(SUMS[0], SUMS[1]), ...set(SUMS[0]), ...fold(SUMS[2], SUMS[3]), ...set(SUMS[2])],
    get(Y_AT),
    [...get(SUMS[0]), ...get(SUMS[2]), ...shuffle(0, 1, 4, 5)],
    [...get(SUMS[0]), ...get(SUMS[2]), ...shuffle(2, 3, 6, 7)],
    ADD_LANES,
    STORE,
    step(Y_AT, 16),
    [...get(ROW), ...get(STRIDE), ...i32(2), SHIFT_LEFT, ADD, ...set(ROW)],
    [...get(ROWS), ...i32(4), SUBTRACT, ...set(ROWS)],
    [...get(ROWS), ...AGAIN_IF],
  ),
  0x0b,
];

/** A number in LEB128, as WebAssembly writes sizes. */
const size = (number) => (number < 128 ? [number] : [(number & 127) | 128, ...size(number >> 7)]);
const sized = (bytes) => [...size(bytes.length), ...bytes];
const named = (name) => sized([...new TextEncoder().encode(name)]);
const section = (kind, bytes) => [kind, ...sized(bytes)];

/** The module: it imports `of.memory` and exports `multiply`. */
export const KERNEL = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
  ...section(1, [1, 0x60, ...sized([I32, I32, I32, I32, I32]), ...sized([])]),
  ...section(2, [1, ...named("of"), ...named("memory"), 2, 0, 1]),
  ...section(3, [1, 0]),
  ...section(7, [1, ...named("multiply"), 0, 0]),
  ...section(10, [1, ...sized([2, I32_LOCALS, I32, V128_LOCALS, V128, ...BODY])]),
]);

/** Whether this engine has WebAssembly with 128-bit vectors, and the page may use it. */
export function hasSimd() {
  try {
    return WebAssembly.validate(KERNEL) && new WebAssembly.Module(KERNEL) instanceof WebAssembly.Module;
  } catch {
    return false;
  }
}
