// The network of textgen's exact engine: the same bits as in Python, on every machine.
//
// Weights are int8 with a scale for each output; the activations that they are multiplied with are whole numbers within
// +-k, where k is as large as it can be for every sum of products to stay below 2^24. So the products are exact however
// they are added up, and everything between them is double arithmetic in a fixed order (arithmetic.js).

import { sigmoid, tanh } from "./arithmetic.js";
import { KERNEL, hasSimd } from "./kernel.js";

const LARGEST_SUM = 2 ** 24 - 1;
const LARGEST_ACTIVATION = 32767; // of int16
const SPLIT = 2 ** 26; // two rows in one double: first + second * SPLIT
const PAGE = 65536; // bytes of WebAssembly's memory

/**
 * A matrix of int8 with a scale for each output.
 * @typedef {object} Matrix
 * @property {number} rows Outputs.
 * @property {number} columns Inputs.
 * @property {Int8Array} values
 * @property {boolean} isTransposed Whether `values` are [columns, rows], as weights are stored, and not [rows, columns].
 * @property {Float32Array} scales [rows]
 */

/**
 * @param {Matrix} matrix
 * @returns {(row: number, into: Float64Array|Int8Array, at: number) => void} A function that copies a row.
 */
function rowReader({ rows, columns, values, isTransposed }) {
  if (!isTransposed) {
    return (row, into, at) => into.set(values.subarray(row * columns, (row + 1) * columns), at);
  }
  return (row, into, at) => {
    for (let column = 0; column < columns; column++) into[at + column] = values[column * rows + row];
  };
}

/**
 * @param {Matrix} matrix
 * @returns {number} The largest magnitude of its whole-number activations.
 */
function activationRange({ rows, columns, values, isTransposed }) {
  const norms = new Float64Array(rows); // L1, of the rows
  for (let at = 0, outer = 0; at < values.length; outer++) {
    for (let inner = 0; inner < (isTransposed ? rows : columns); inner++, at++) {
      norms[isTransposed ? inner : outer] += Math.abs(values[at]);
    }
  }
  const largest = norms.reduce((a, b) => Math.max(a, b), 1);
  return Math.max(1, Math.min(LARGEST_ACTIVATION, Math.floor(LARGEST_SUM / largest)));
}

/**
 * The products of a matrix, in plain JavaScript. Two rows are kept as one double, so that one multiplication serves
 * both: their sums are below 2^24, so that of the pair is below 2^51, exactly.
 */
class PlainProduct {
  /** @param {Matrix} matrix */
  constructor(matrix) {
    const { rows, columns } = matrix;
    this.columns = columns;
    this.pairs = Math.ceil(rows / 8) * 4; // in fours, of which the last may be zeros
    this.weights = new Float64Array(this.pairs * columns);
    this.input = new Float64Array(columns);
    this.output = new Float64Array(this.pairs * 2);
    const read = rowReader(matrix);
    const row = new Int8Array(columns);
    for (let number = 0; number < rows; number++) {
      read(number, row, 0);
      const [start, factor] = [(number >> 1) * columns, number & 1 ? SPLIT : 1];
      for (let column = 0; column < columns; column++) this.weights[start + column] += row[column] * factor;
    }
  }

  /** Multiplies: output = matrix input. */
  multiply() {
    const { weights, input, output, columns, pairs } = this;
    for (let pair = 0; pair < pairs; pair += 4) {
      const one = pair * columns;
      const [two, three, four] = [one + columns, one + 2 * columns, one + 3 * columns];
      let a = 0;
      let b = 0;
      let c = 0;
      let d = 0;
      for (let column = 0; column < columns; column++) {
        const x = input[column];
        a += weights[one + column] * x;
        b += weights[two + column] * x;
        c += weights[three + column] * x;
        d += weights[four + column] * x;
      }
      split(a, output, 2 * pair);
      split(b, output, 2 * pair + 2);
      split(c, output, 2 * pair + 4);
      split(d, output, 2 * pair + 6);
    }
  }
}

/** Takes the sums of two rows apart. */
function split(sum, output, at) {
  const second = Math.floor(sum / SPLIT + 0.5);
  output[at + 1] = second;
  output[at] = sum - second * SPLIT;
}

/** The products of a matrix by the kernel; see `kernel.js`. */
class SimdProduct {
  /**
   * @param {Matrix} matrix
   * @param {WebAssembly.Memory} memory
   * @param {number} at Where in the memory the matrix is to be.
   * @param {Function} multiply
   */
  constructor(matrix, memory, at, multiply) {
    const { rows, columns } = matrix;
    const { stride, inputAt, outputAt, height } = SimdProduct.places(matrix);
    const weights = new Int8Array(memory.buffer, at, height * stride);
    const read = rowReader(matrix);
    for (let row = 0; row < rows; row++) read(row, weights, row * stride);
    this.input = new Int16Array(memory.buffer, at + inputAt, columns);
    this.output = new Int32Array(memory.buffer, at + outputAt, rows);
    this.multiply = () => multiply(at, at + inputAt, at + outputAt, height, stride);
  }

  /** Where input and output are after a matrix, in bytes, and where the next matrix may be. */
  static places({ rows, columns }) {
    const [stride, height] = [multiple(columns, 16), multiple(rows, 4)];
    const inputAt = height * stride;
    const outputAt = inputAt + 2 * stride;
    return { stride, height, inputAt, outputAt, end: multiple(outputAt + 4 * height, 16) };
  }
}

const multiple = (number, of) => Math.ceil(number / of) * of;

/**
 * @param {Matrix[]} matrices
 * @param {boolean} wasm Whether to use WebAssembly, where it is to be had.
 * @returns {Promise<(PlainProduct|SimdProduct)[]>}
 */
async function products(matrices, wasm) {
  if (!wasm || !hasSimd()) return matrices.map((matrix) => new PlainProduct(matrix));
  const places = [0];
  for (const matrix of matrices) places.push(places.at(-1) + SimdProduct.places(matrix).end);
  const memory = new WebAssembly.Memory({ initial: Math.ceil(places.at(-1) / PAGE) });
  const { instance } = await WebAssembly.instantiate(KERNEL, { of: { memory } });
  return matrices.map((matrix, at) => new SimdProduct(matrix, memory, places[at], instance.exports.multiply));
}

/** A matrix that is multiplied with activations within +-1. */
class Weights {
  /**
   * @param {Matrix} matrix
   * @param {PlainProduct|SimdProduct} product
   * @param {number} bound What the activations were divided by.
   */
  constructor(matrix, product, bound = 1) {
    this.range = activationRange(matrix);
    this.factors = Float64Array.from(matrix.scales, (scale) => (scale * bound) / this.range); // of the sums, [rows]
    this.product = product;
    /** Sums of products, [rows]: times `factors` they are the product. */
    this.sums = product.output;
  }

  /**
   * @param {Float64Array} values
   * @param {number} at Where in `values` the activations begin.
   */
  multiply(values, at = 0) {
    const { input } = this.product;
    const { range } = this;
    for (let column = 0; column < input.length; column++) {
      const rounded = Math.floor(values[at + column] * range + 0.5);
      input[column] = rounded > range ? range : rounded < -range ? -range : rounded;
    }
    this.product.multiply();
  }
}

/** A network that reads one token at a time. */
export class Network {
  /**
   * @param {object} config The settings of textgen's ModelConfig.
   * @param {Object<string, {shape: number[], values: any}>} arrays Of an int8 file of weights.
   * @param {boolean} wasm Whether to use WebAssembly, where it is to be had.
   */
  static async load(config, arrays, wasm) {
    const network = new Network();
    network.hidden = config.hidden_units;
    network.stateSize = 2 * config.num_layers * network.hidden; // h and c of each layer, one after another
    network.embedding = matrixOf(arrays, "embedding/table");
    const names = [];
    for (let layer = 0; layer < config.num_layers; layer++) {
      names.push(`lstm_${layer}/kernel`, `lstm_${layer}/recurrent_kernel`);
    }
    names.push(config.tie_embeddings ? "embedding/table" : "head/kernel");
    const matrices = names.map((name) => matrixOf(arrays, name));
    const made = await products(matrices, wasm);
    const { scales } = network.embedding;
    network.bound = scales.reduce((most, scale, id) => Math.max(most, scale * largestOf(network.embedding, id)), 0);
    const weights = made.map(
      (product, number) => new Weights(matrices[number], product, number === 0 ? network.bound : 1),
    );
    network.head = weights.pop();
    network.headBias = Float64Array.from(arrays["head/bias"].values);
    network.layers = Array.from({ length: config.num_layers }, (_, layer) => ({
      kernel: weights[2 * layer],
      recurrent: weights[2 * layer + 1],
      bias: Float64Array.from(arrays[`lstm_${layer}/bias`].values),
    }));
    network.x = new Float64Array(network.embedding.columns);
    network.isSimd = made[0] instanceof SimdProduct;
    /** The logits of the next token, [V], after `step`. */
    network.logits = new Float64Array(config.vocab_size);
    return network;
  }

  /** @returns {Float64Array} The state before the first token. */
  initialState() {
    return new Float64Array(this.stateSize);
  }

  /**
   * Reads a token and computes the logits of the next one.
   * @param {number} id
   * @param {Float64Array} state Changed in place.
   */
  step(id, state) {
    this.read(id, state);
    const { head, headBias, logits } = this;
    head.multiply(state, this.stateSize - 2 * this.hidden);
    const { sums, factors } = head;
    for (let v = 0; v < logits.length; v++) logits[v] = sums[v] * factors[v] + headBias[v];
  }

  /**
   * Reads a token without computing logits.
   * @param {number} id
   * @param {Float64Array} state Changed in place.
   */
  read(id, state) {
    this.embed(id);
    for (let layer = 0; layer < this.layers.length; layer++) {
      const start = 2 * layer * this.hidden;
      const { kernel, recurrent, bias } = this.layers[layer];
      if (layer === 0) kernel.multiply(this.x);
      else kernel.multiply(state, start - 2 * this.hidden);
      recurrent.multiply(state, start);
      this.advance(kernel, recurrent, bias, state, start);
    }
  }

  /** Puts the embedding of a token, divided by its bound, into x. */
  embed(id) {
    const { values, columns, scales } = this.embedding;
    const scale = scales[id];
    for (let column = 0; column < columns; column++) {
      this.x[column] = (values[id * columns + column] * scale) / this.bound;
    }
  }

  /** One step of an LSTM, from the products of its two matrices: new h and c at `start` of the state. */
  advance(kernel, recurrent, bias, state, start) {
    const { hidden } = this;
    const [a, fa, b, fb] = [kernel.sums, kernel.factors, recurrent.sums, recurrent.factors];
    for (let j = 0; j < hidden; j++) {
      const [f, g, o] = [j + hidden, j + 2 * hidden, j + 3 * hidden];
      const input = sigmoid(a[j] * fa[j] + b[j] * fb[j] + bias[j]);
      const forget = sigmoid(a[f] * fa[f] + b[f] * fb[f] + bias[f]);
      const change = tanh(a[g] * fa[g] + b[g] * fb[g] + bias[g]);
      const output = sigmoid(a[o] * fa[o] + b[o] * fb[o] + bias[o]);
      const c = state[start + hidden + j] * forget + input * change;
      state[start + hidden + j] = c;
      state[start + j] = tanh(c) * output;
    }
  }
}

/** @returns {Matrix} A matrix of a file of weights: the embedding has a row for each output, the others a column. */
function matrixOf(arrays, name) {
  const { shape, values } = arrays[name];
  const isTransposed = name !== "embedding/table";
  const [rows, columns] = isTransposed ? [shape[1], shape[0]] : shape;
  return { rows, columns, values, isTransposed, scales: arrays[`${name}/scale`].values };
}

/** The largest magnitude in a row of the embedding. */
function largestOf({ values, columns }, row) {
  let largest = 0;
  for (let at = row * columns; at < (row + 1) * columns; at++) largest = Math.max(largest, Math.abs(values[at]));
  return largest;
}
