// The network of textgen's exact engine: the same bits as in Python, textgen.model.exact_model, on every machine.
//
// Weights are int8 with a scale for each output; the inputs that they are multiplied with are whole numbers within +-k,
// where k is as large as it can be for every sum of products to stay below 2^24. So the products are exact however they
// are added up, and everything between them is double arithmetic in a fixed order (arithmetic.js).

import { exp, sigmoid, tanh } from "./arithmetic.js";
import { KERNEL, hasSimd } from "./kernel.js";

const MAX_EXACT_SUM = 2 ** 24 - 1; // of products, whatever their order
const MAX_LEVELS = 32767; // upper limit of k, so that an input fits into int16
const SPLIT = 2 ** 26; // two rows in one double: first + second * SPLIT
const PAGE = 65536; // bytes of WebAssembly's memory
const NORM_EPSILON = 1e-5;
const EMBEDDING = "embedding/table";

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
 * @returns {number} k, the largest magnitude of its whole-number inputs.
 */
function inputRange({ rows, columns, values, isTransposed }) {
  const norms = new Float64Array(rows); // L1, of the rows
  for (let at = 0, outer = 0; at < values.length; outer++) {
    for (let inner = 0; inner < (isTransposed ? rows : columns); inner++, at++) {
      norms[isTransposed ? inner : outer] += Math.abs(values[at]);
    }
  }
  const largest = norms.reduce((a, b) => Math.max(a, b), 1);
  return Math.max(1, Math.min(MAX_LEVELS, Math.floor(MAX_EXACT_SUM / largest)));
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

/** A matrix of weights, multiplied with vectors whose numbers become whole numbers first. */
class Weights {
  /**
   * @param {Matrix} matrix
   * @param {PlainProduct|SimdProduct} product
   * @param {number|null} bound What the inputs never exceed; null if it is not known, so that each vector is divided by
   *   its own largest magnitude.
   * @param {Float32Array|null} bias What is added.
   */
  constructor(matrix, product, bound, bias = null) {
    this.product = product;
    this.bound = bound;
    this.range = inputRange(matrix);
    this.factors = Float64Array.from(matrix.scales, (scale) => (scale * (bound ?? 1)) / this.range);
    this.bias = bias && Float64Array.from(bias);
  }

  /**
   * @param {Float64Array} values
   * @param {Float64Array} result
   */
  multiply(values, result) {
    const { product, range, factors, bias, bound } = this;
    const { input, output } = product;
    const divisor = bound ?? largestOf(values);
    for (let column = 0; column < input.length; column++) {
      const rounded = Math.floor((values[column] / divisor) * range + 0.5);
      input[column] = rounded > range ? range : rounded < -range ? -range : rounded;
    }
    product.multiply();
    for (let row = 0; row < factors.length; row++) {
      let sum = output[row] * factors[row];
      if (bound === null) sum *= divisor;
      result[row] = bias ? sum + bias[row] : sum;
    }
  }
}

/** The largest magnitude of a vector, 1 if that is 0. */
function largestOf(values) {
  let largest = 0;
  for (let at = 0; at < values.length; at++) largest = Math.max(largest, Math.abs(values[at]));
  return largest || 1;
}

// === The cells: a step reads x and the state of its layer, h and what follows it from `at` on, and changes that ===

/**
 * A recurrent layer.
 * @typedef {object} Layer
 * @property {number} size Of h (H).
 * @property {(name: string, bound: number|null) => Weights} weights Makes the product of one of its matrices.
 * @property {(name: string) => Float64Array} vector One of its vectors.
 * @property {number|null} bound Of its input.
 * @property {object} config
 */

/** The makers of steps by the name of the cell, and how many vectors of size H its state has. */
const CELLS = {
  lstm: [(layer) => lstmStep(layer, layer.bound, 1), 2],
  peephole: [peepholeStep, 2],
  gru: [gruStep, 1],
  rnn: [rnnStep, 1],
  mogrifier: [mogrifierStep, 2],
};

function lstmStep(layer, bound, boundOfH) {
  const { size } = layer;
  const [kernel, recurrent] = [layer.weights("kernel", bound), layer.weights("recurrent_kernel", boundOfH)];
  const bias = layer.vector("bias");
  const [a, b] = [new Float64Array(4 * size), new Float64Array(4 * size)];
  return (x, state, at, h = state.subarray(at, at + size)) => {
    kernel.multiply(x, a);
    recurrent.multiply(h, b);
    for (let j = 0, f = size, g = 2 * size, o = 3 * size; j < size; j++, f++, g++, o++) {
      const input = sigmoid(a[j] + b[j] + bias[j]);
      const forget = sigmoid(a[f] + b[f] + bias[f]);
      const c = state[at + size + j] * forget + input * tanh(a[g] + b[g] + bias[g]);
      state[at + size + j] = c;
      state[at + j] = tanh(c) * sigmoid(a[o] + b[o] + bias[o]);
    }
  };
}

function peepholeStep(layer) {
  const { size } = layer;
  const [kernel, recurrent] = [layer.weights("kernel", layer.bound), layer.weights("recurrent_kernel", 1)];
  const [bias, peepholes] = [layer.vector("bias"), layer.vector("peepholes")];
  const [a, b] = [new Float64Array(4 * size), new Float64Array(4 * size)];
  return (x, state, at) => {
    kernel.multiply(x, a);
    recurrent.multiply(state.subarray(at, at + size), b);
    for (let j = 0, f = size, g = 2 * size, o = 3 * size; j < size; j++, f++, g++, o++) {
      const before = state[at + size + j];
      const input = sigmoid(a[j] + b[j] + bias[j] + peepholes[j] * before);
      const forget = sigmoid(a[f] + b[f] + bias[f] + peepholes[f] * before);
      const c = before * forget + input * tanh(a[g] + b[g] + bias[g]);
      state[at + size + j] = c;
      state[at + j] = tanh(c) * sigmoid(a[o] + b[o] + bias[o] + peepholes[g] * c);
    }
  };
}

function gruStep(layer) {
  const { size } = layer;
  const [kernel, recurrent] = [layer.weights("kernel", layer.bound), layer.weights("recurrent_kernel", 1)];
  const bias = layer.vector("bias");
  const isAfter = bias.length === 6 * size; // the reset gate is applied after the product, which has a bias of its own
  const [a, b, reset] = [new Float64Array(3 * size), new Float64Array(3 * size), new Float64Array(size)];
  const update = new Float64Array(size);
  return (x, state, at) => {
    const h = state.subarray(at, at + size);
    kernel.multiply(x, a);
    recurrent.multiply(h, b);
    for (let j = 0; j < 3 * size; j++) {
      a[j] += bias[j];
      if (isAfter) b[j] += bias[3 * size + j];
    }
    for (let j = 0; j < size; j++) {
      update[j] = sigmoid(a[j] + b[j]);
      reset[j] = sigmoid(a[size + j] + b[size + j]);
    }
    if (!isAfter) recurrent.multiply(reset.map((r, j) => r * h[j]), b);
    for (let j = 0; j < size; j++) {
      const seen = isAfter ? reset[j] * b[2 * size + j] : b[2 * size + j];
      h[j] = update[j] * h[j] + (1 - update[j]) * tanh(a[2 * size + j] + seen);
    }
  };
}

function rnnStep(layer) {
  const { size } = layer;
  const isRelu = layer.config.activation === "relu";
  const kernel = layer.weights("kernel", layer.bound);
  const recurrent = layer.weights("recurrent_kernel", isRelu ? null : 1);
  const bias = layer.vector("bias");
  const [a, b] = [new Float64Array(size), new Float64Array(size)];
  return (x, state, at) => {
    const h = state.subarray(at, at + size);
    kernel.multiply(x, a);
    recurrent.multiply(h, b);
    for (let j = 0; j < size; j++) {
      const z = a[j] + b[j] + bias[j];
      h[j] = isRelu ? Math.max(z, 0) : tanh(z);
    }
  };
}

function mogrifierStep(layer) {
  const { size, config } = layer;
  const rounds = Array.from({ length: config.mogrifier_rounds }, (_, number) => {
    const name = `round_${number + 1}`;
    const names = config.mogrifier_rank === null ? [name] : [`${name}_left`, `${name}_right`];
    return names.map((each) => layer.weights(each, null));
  });
  const inner = lstmStep(layer, null, null);
  const gate = (factors, source, target) => {
    for (const factor of factors) {
      const product = new Float64Array(factor.factors.length);
      factor.multiply(source, product);
      source = product;
    }
    return target.map((value, j) => 2 * sigmoid(source[j]) * value);
  };
  return (x, state, at) => {
    let h = state.slice(at, at + size);
    for (const [number, factors] of rounds.entries()) {
      if (number % 2 === 0) x = gate(factors, h, x);
      else h = gate(factors, x, h);
    }
    inner(x, state, at, h);
  };
}

// === Layer normalization and attention ===

/** @returns {(x: Float64Array) => Float64Array} */
function normOf(gamma, beta) {
  const result = new Float64Array(gamma.length);
  return (x) => {
    const size = x.length;
    let sum = 0;
    for (let j = 0; j < size; j++) sum += x[j];
    const mean = sum / size;
    let squares = 0;
    for (let j = 0; j < size; j++) {
      result[j] = x[j] - mean;
      squares += result[j] * result[j];
    }
    const deviation = Math.sqrt(squares / size + NORM_EPSILON);
    for (let j = 0; j < size; j++) result[j] = (result[j] / deviation) * gamma[j] + beta[j];
    return result;
  };
}

/** A head that reads past outputs: see ExactAttention in textgen.model.exact_model. */
class Attention {
  constructor(layer, window) {
    this.norm = normOf(layer.vector("gamma"), layer.vector("beta"));
    this.query = layer.weights("query", null);
    this.output = layer.weights("output", null);
    [this.window, this.size] = [window, layer.size];
    /** Numbers of its state: the whole numbers of the last outputs, their ranges, how many came. */
    this.stateSize = window * (layer.size + 1) + 1;
  }

  /**
   * @param {Float64Array} x
   * @param {Float64Array} state
   * @param {number} at Where its own part of the state begins.
   * @returns {Float64Array}
   */
  step(x, state, at) {
    const { window, size } = this;
    const rangesAt = at + window * size;
    const countAt = rangesAt + window;
    const n = this.norm(x);
    const [own, ownRange] = wholeNumbers(n);
    const count = state[countAt];
    const keys = []; // oldest first: the places of past outputs, and the present one
    for (let back = Math.min(count, window); back > 0; back--) keys.push((count - back) % window);
    const keyOf = (place) => state.subarray(at + place * size, at + (place + 1) * size);
    const vectors = [...keys.map(keyOf), own];
    const ranges = [...keys.map((place) => state[rangesAt + place]), ownRange];
    const asked = new Float64Array(size);
    this.query.multiply(n, asked);
    const [query, queryRange] = wholeNumbers(asked);
    const scores = vectors.map((vector, i) => {
      const product = dot(vector, query) * (ranges[i] / MAX_LEVELS) * (queryRange / MAX_LEVELS);
      return product / size;
    });
    const highest = scores.reduce((a, b) => Math.max(a, b));
    const shares = scores.map((score) => exp(score - highest));
    const total = shares.reduce((sum, share) => sum + share, 0);
    const [mix, mixRange] = wholeNumbers(Float64Array.from(shares, (share, i) => (share / total) * ranges[i]));
    const mixed = new Float64Array(size);
    vectors.forEach((vector, i) => { for (let j = 0; j < size; j++) mixed[j] += mix[i] * vector[j]; });
    for (let j = 0; j < size; j++) mixed[j] = (mixed[j] * (mixRange / MAX_LEVELS)) / MAX_LEVELS;
    const result = new Float64Array(size);
    this.output.multiply(mixed, result);
    for (let j = 0; j < size; j++) result[j] = x[j] + result[j] / Math.sqrt(size);
    state.set(own, at + (count % window) * size);
    state[rangesAt + (count % window)] = ownRange;
    state[countAt] = count + 1;
    return result;
  }
}

/** A vector as whole numbers of int16, and its largest magnitude. */
function wholeNumbers(values) {
  const largest = largestOf(values);
  const clamped = (value) => Math.max(-MAX_LEVELS, Math.min(MAX_LEVELS, value));
  return [values.map((value) => clamped(Math.floor((value / largest) * MAX_LEVELS + 0.5))), largest];
}

function dot(a, b) {
  let sum = 0;
  for (let j = 0; j < a.length; j++) sum += a[j] * b[j];
  return sum;
}

// === The network ===

/** A network that reads one token at a time. */
export class Network {
  /**
   * @param {object} config The settings of textgen's ModelConfig.
   * @param {Object<string, {shape: number[], values: any}>} arrays Of an int8 file of weights.
   * @param {boolean} wasm Whether to use WebAssembly, where it is to be had.
   * @returns {Promise<Network>}
   */
  static async load(config, arrays, wasm) {
    const isWide = (name) => name !== EMBEDDING && !name.startsWith("backward_") && `${name}/scale` in arrays;
    const names = Object.keys(arrays).filter(isWide);
    if (config.tie_embeddings) names.push(EMBEDDING);
    const made = await products(names.map((name) => matrixOf(arrays, name)), wasm);
    return new Network(config, arrays, new Map(names.map((name, number) => [name, made[number]])));
  }

  /** @private Use `load`. */
  constructor(config, arrays, made) {
    this.config = config;
    this.arrays = arrays;
    this.made = made;
    this.isSimd = [...made.values()][0] instanceof SimdProduct;
    this.embedding = matrixOf(arrays, EMBEDDING);
    this.x = new Float64Array(this.embedding.columns);
    const isRelu = config.cell === "rnn" && config.activation === "relu";
    const layers = Array.from({ length: config.num_layers }, (_, number) => this.layer(number, isRelu));
    const [, vectors] = CELLS[config.cell];
    this.layers = layers;
    this.layerSize = vectors * config.hidden_units; // numbers of a layer's state, one layer after another
    this.attention = config.attention ? new Attention(this.part("attention", null), config.attention) : null;
    this.stateSize = this.layerSize * layers.length + (this.attention?.stateSize ?? 0);
    let bound = config.residual || isRelu || this.attention ? null : 1; // of the last layer's output
    if (config.hidden_units !== config.embedding_dim) {
      this.projection = this.weights("projection/kernel", bound, arrays["projection/bias"].values);
      this.features = new Float64Array(config.embedding_dim);
      bound = null;
    }
    this.head = this.weights(config.tie_embeddings ? EMBEDDING : "head/kernel", bound, arrays["head/bias"].values);
    /** The logits of the next token, [V], after `step`. */
    this.logits = new Float64Array(config.vocab_size);
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
    let x = this.read(id, state);
    if (this.projection) {
      this.projection.multiply(x, this.features);
      x = this.features;
    }
    this.head.multiply(x, this.logits);
  }

  /**
   * Reads a token without computing logits.
   * @param {number} id
   * @param {Float64Array} state Changed in place.
   * @returns {Float64Array} The output of the last layer, or of attention.
   */
  read(id, state) {
    let x = this.embedded(id);
    for (let number = 0, at = 0; number < this.layers.length; number++, at += this.layerSize) {
      const { norm, step, output } = this.layers[number];
      const below = x;
      step(norm ? norm(x) : x, state, at);
      const isAdded = this.config.residual && below.length === output.length;
      for (let j = 0; j < output.length; j++) output[j] = isAdded ? state[at + j] + below[j] : state[at + j];
      x = output;
    }
    return this.attention ? this.attention.step(x, state, this.layers.length * this.layerSize) : x;
  }

  /** @private The embedding of a token. */
  embedded(id) {
    const { values, columns, scales } = this.embedding;
    const [scale, start] = [scales[id], id * columns];
    for (let column = 0; column < columns; column++) this.x[column] = values[start + column] * scale;
    return this.x;
  }

  /** @private A layer: its step, its norm if it has one, and where its output goes. */
  layer(number, isRelu) {
    const { config } = this;
    let bound = number === 0 ? embeddingBound(this.embedding) : 1;
    if (config.layer_norm || (number > 0 && (config.residual || isRelu))) bound = null;
    const part = this.part(`${config.cell}_${number}`, bound);
    const norm = this.part(`norm_${number}`, null);
    const [make] = CELLS[config.cell];
    return {
      step: make(part),
      norm: config.layer_norm ? normOf(norm.vector("gamma"), norm.vector("beta")) : null,
      output: new Float64Array(config.hidden_units),
    };
  }

  /** @private The weights whose names begin alike. */
  part(prefix, bound) {
    return {
      config: this.config,
      size: this.config.hidden_units,
      bound,
      weights: (name, own) => this.weights(`${prefix}/${name}`, own),
      vector: (name) => Float64Array.from(this.arrays[`${prefix}/${name}`].values),
    };
  }

  /** @private */
  weights(name, bound, bias = null) {
    return new Weights(matrixOf(this.arrays, name), this.made.get(name), bound, bias);
  }
}

/** @returns {Matrix} A matrix of a file of weights: the embedding has a row for each output, the others a column. */
function matrixOf(arrays, name) {
  const { shape, values } = arrays[name];
  const isTransposed = name !== EMBEDDING;
  const [rows, columns] = isTransposed ? [shape[1], shape[0]] : shape;
  return { rows, columns, values, isTransposed, scales: arrays[`${name}/scale`].values };
}

/** The largest magnitude of a number in the embedding, 1 if all are 0. */
function embeddingBound({ rows, columns, values, scales }) {
  let bound = 0;
  for (let row = 0; row < rows; row++) {
    let largest = 0;
    for (let at = row * columns; at < (row + 1) * columns; at++) largest = Math.max(largest, Math.abs(values[at]));
    bound = Math.max(bound, largest * scales[row]);
  }
  return bound || 1;
}
