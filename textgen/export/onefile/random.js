// NumPy's random numbers: SeedSequence and Philox4x64-10 (Salmon et al. 2011), as in
// np.random.Generator(np.random.Philox(seed)).random().

const WORD = (1n << 32n) - 1n;
const LONG = (1n << 64n) - 1n;
const POOL_SIZE = 4; // words of 32 bits
const ROUNDS = 10;
const NUMBERS = 4; // that one counter gives

/**
 * A text's random numbers: they depend on its seed alone.
 */
export class Random {
  /**
   * @param {...(number|bigint|string)} seeds Whole numbers from 0 on, of any size; several are one seed together.
   */
  constructor(...seeds) {
    const [a, b, c, d] = seedWords(seeds.flatMap((seed) => wordsOf(BigInt(seed))));
    this.key = [BigInt(a) | (BigInt(b) << 32n), BigInt(c) | (BigInt(d) << 32n)];
    this.numbers = new Float64Array(NUMBERS); // made at once, and used one after another
    this.drawn = 0; // numbers so far; the only thing that changes, so a fork copies nothing else
    this.made = -1; // the counter whose numbers are there
  }

  /**
   * The next number in [0, 1), a multiple of 2^-53.
   * @returns {number}
   */
  next() {
    const at = this.drawn++;
    const counter = Math.floor(at / NUMBERS);
    if (counter !== this.made) this.make(counter);
    return this.numbers[at % NUMBERS];
  }

  /** @param {number} counter Makes its four numbers; NumPy counts from 1. */
  make(counter) {
    let [k0, k1] = this.key;
    let [c0, c1, c2, c3] = [BigInt(counter + 1), 0n, 0n, 0n];
    for (let round = 0; round < ROUNDS; round++) {
      const low = 0xd2e7470ee14c6c93n * c0;
      const high = 0xca5a826395121157n * c2;
      [c0, c1, c2, c3] = [(high >> 64n) ^ c1 ^ k0, high & LONG, (low >> 64n) ^ c3 ^ k1, low & LONG];
      k0 = (k0 + 0x9e3779b97f4a7c15n) & LONG;
      k1 = (k1 + 0xbb67ae8584caa73bn) & LONG;
    }
    this.numbers.set([c0, c1, c2, c3].map((word) => Number(word >> 11n) * 2 ** -53));
    this.made = counter;
  }
}

/**
 * @param {bigint} seed
 * @returns {number[]} Its words of 32 bits, the lowest first; at least one.
 */
function wordsOf(seed) {
  const words = [];
  do {
    words.push(Number(seed & WORD));
    seed >>= 32n;
  } while (seed);
  return words;
}

/**
 * NumPy's SeedSequence, after O'Neill's seed_seq_fe.
 * @param {number[]} entropy Words of 32 bits.
 * @returns {number[]} Four words of 32 bits.
 */
function seedWords(entropy) {
  const times = (a, b) => Math.imul(a, b) >>> 0;
  const folded = (value) => (value ^ (value >>> 16)) >>> 0;
  let constant = 0x43b0d7e5;
  const hash = (value) => {
    const mixed = (value ^ constant) >>> 0;
    constant = times(constant, 0x931e8875);
    return folded(times(mixed, constant));
  };
  const mix = (x, y) => folded((times(0xca01f9dd, x) - times(0x4973f715, y)) >>> 0);
  const pool = [];
  for (let i = 0; i < POOL_SIZE; i++) pool.push(hash(entropy[i] ?? 0));
  for (let from = 0; from < POOL_SIZE; from++) {
    for (let to = 0; to < POOL_SIZE; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
  }
  for (const word of entropy.slice(POOL_SIZE)) {
    for (let to = 0; to < POOL_SIZE; to++) pool[to] = mix(pool[to], hash(word));
  }
  constant = 0x8b51f9dd;
  return pool.map((word) => {
    const mixed = (word ^ constant) >>> 0;
    constant = times(constant, 0x58f38ded);
    return folded(times(mixed, constant));
  });
}
