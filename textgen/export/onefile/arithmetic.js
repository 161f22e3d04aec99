// Functions of doubles that give the same bits on every machine, in JavaScript as in textgen's exact engine in Python.
//
// Only + - * / and powers of two are used, each rounded once as IEEE 754 demands. Math.exp and Math.log are not: their
// last bits differ from one program to the next.

const LOG2_E = 1.4426950408889634;
const LN2_HIGH = 0.693145751953125; // ln 2 in two parts: k * LN2_HIGH is exact for the whole numbers k that occur
const LN2_LOW = 1.4286068203094173e-6;
const SQRT2 = 1.4142135623730951;
const MAX_EXP_ARGUMENT = 700; // larger arguments of exp are clamped

/** 1/n! for n from 0 to 13. */
const INVERSE_FACTORIALS = (() => {
  const found = [1];
  for (let n = 1, factorial = 1; n <= 13; n++) {
    factorial *= n;
    found.push(1 / factorial);
  }
  return found;
})();
const [C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13] = INVERSE_FACTORIALS;

const MIN_EXPONENT = -1022; // of the normal numbers
/** 2^k for k from MIN_EXPONENT to 1023. */
const POWERS = (() => {
  const found = new Float64Array(1023 - MIN_EXPONENT + 1);
  for (let k = 0, power = 1; k <= 1023; k++, power *= 2) found[k - MIN_EXPONENT] = power;
  for (let k = -1, power = 0.5; k >= MIN_EXPONENT; k--, power /= 2) found[k - MIN_EXPONENT] = power;
  return found;
})();

const DOUBLE = new Float64Array(1);
const WORDS = new Uint32Array(DOUBLE.buffer); // its low and its high half: every engine's machine is little-endian

/**
 * e to the power of x, by x = k ln 2 + r and the Taylor polynomial of degree 13 in r.
 * @param {number} x
 * @returns {number}
 */
export function exp(x) {
  if (x > MAX_EXP_ARGUMENT) x = MAX_EXP_ARGUMENT;
  else if (x < -MAX_EXP_ARGUMENT) x = -MAX_EXP_ARGUMENT;
  const k = Math.floor(x * LOG2_E + 0.5);
  const r = x - k * LN2_HIGH - k * LN2_LOW;
  let p = C13;
  p = p * r + C12;
  p = p * r + C11;
  p = p * r + C10;
  p = p * r + C9;
  p = p * r + C8;
  p = p * r + C7;
  p = p * r + C6;
  p = p * r + C5;
  p = p * r + C4;
  p = p * r + C3;
  p = p * r + C2;
  p = p * r + C1;
  p = p * r + C0;
  return p * POWERS[k - MIN_EXPONENT];
}

/**
 * The natural logarithm of x = m 2^e, by the series of the inverse hyperbolic tangent in (m - 1) / (m + 1).
 * @param {number} x A positive number that is not denormal.
 * @returns {number}
 */
export function log(x) {
  DOUBLE[0] = x;
  let e = (WORDS[1] >>> 20) - 1023;
  WORDS[1] = (WORDS[1] & 0xfffff) | 0x3ff00000;
  let m = DOUBLE[0];
  if (m > SQRT2) {
    m /= 2;
    e += 1;
  }
  const s = (m - 1) / (m + 1);
  const q = s * s;
  let p = 1 / 21;
  for (let n = 19; n >= 1; n -= 2) p = p * q + 1 / n;
  return e * LN2_LOW + 2 * s * p + e * LN2_HIGH;
}

/**
 * @param {number} x
 * @returns {number}
 */
export function sigmoid(x) {
  return 1 / (1 + exp(-x));
}

/**
 * @param {number} x
 * @returns {number}
 */
export function tanh(x) {
  return 1 - 2 / (1 + exp(2 * x));
}
