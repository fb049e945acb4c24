// The model of the exported page: it reads symbols and samples what comes next, without the page.
//
// A frame holds everything known after reading one symbol: the states, the gates, and the logits of
// the next symbol. page.js, which follows in the same scope, shows frames.
"use strict";

const meta = JSON.parse(document.getElementById("meta").textContent);
const symbols = meta.symbols;
const V = symbols.length, L = meta.layers, H = meta.hidden;
const parts = [...meta.states, ...meta.gates]; // the values that a frame stores per unit, in this order
const P = parts.length;

// -- the network ----------------------------------------------------------------------------

const weights = readWeights(document.getElementById("weights").textContent);

function readWeights(base64) {
  const bytes = Uint8Array.from(atob(base64.trim()), (c) => c.charCodeAt(0));
  const numbers = meta.precision === "float16" ? fromHalves(new Uint16Array(bytes.buffer))
    : new Float32Array(bytes.buffer);
  const arrays = {};
  let start = 0;
  for (const [name, size] of meta.arrays) {
    arrays[name] = numbers.subarray(start, start + size);
    start += size;
  }
  return arrays;
}

function fromHalves(halves) {
  const numbers = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) {
    const sign = halves[i] & 0x8000 ? -1 : 1, exponent = (halves[i] >> 10) & 31, rest = halves[i] & 1023;
    numbers[i] = sign * (exponent ? (1 + rest / 1024) * 2 ** (exponent - 15) : rest * 2 ** -24);
  }
  return numbers;
}

const sigma = (z) => 1 / (1 + Math.exp(-z));
const tanh = Math.tanh;

// Each cell at unit k: z has the pre-activations by block, h and c the state before. It returns
// the new states and then the gates, in the order of `parts`. The equations are those of
// charlstm/net/engine.py.
const CELLS = {
  "lstm": (z, k, h, c) => {
    const i = sigma(z.input[k]), f = sigma(z.forget[k]), o = sigma(z.output[k]);
    const next = f * c[k] + i * tanh(z.candidate[k]);
    return [o * tanh(next), next, i, f, o];
  },
  "lstm-1997": (z, k, h, c) => {
    const i = sigma(z.input[k]), o = sigma(z.output[k]);
    const next = c[k] + i * tanh(z.candidate[k]);
    return [o * tanh(next), next, i, o];
  },
  "coupled": (z, k, h, c) => {
    const f = sigma(z.forget[k]), o = sigma(z.output[k]);
    const next = f * c[k] + (1 - f) * tanh(z.candidate[k]);
    return [o * tanh(next), next, 1 - f, f, o];
  },
  "peephole": (z, k, h, c, more) => {
    const p = more.weight_peephole; // blocks: input, forget, output
    const i = sigma(z.input[k] + p[k] * c[k]), f = sigma(z.forget[k] + p[H + k] * c[k]);
    const next = f * c[k] + i * tanh(z.candidate[k]);
    const o = sigma(z.output[k] + p[2 * H + k] * next);
    return [o * tanh(next), next, i, f, o];
  },
  "gru": (z, k, h, c, more) => {
    const r = sigma(z.reset[k]), u = sigma(z.update[k]);
    const hidden = more.hidden.candidate[k];
    const n = tanh(z.candidate[k] - hidden + r * (hidden + more.bias_hidden[k]));
    return [u * h[k] + (1 - u) * n, u, r];
  },
  "rnn": (z, k) => [tanh(z.candidate[k])],
};
const cell = CELLS[meta.cell];

// out[r] += sum over i of matrix[r, i] * x[i]. Four rows at a time, so that each x[i] is read once for
// all four: that is half as fast again.
function addProduct(matrix, x, out) {
  const width = x.length;
  let r = 0;
  for (; r + 3 < out.length; r += 4) {
    const first = r * width, second = first + width, third = second + width, fourth = third + width;
    let a = 0, b = 0, c = 0, d = 0;
    for (let i = 0; i < width; i++) {
      const value = x[i];
      a += matrix[first + i] * value;
      b += matrix[second + i] * value;
      c += matrix[third + i] * value;
      d += matrix[fourth + i] * value;
    }
    out[r] += a;
    out[r + 1] += b;
    out[r + 2] += c;
    out[r + 3] += d;
  }
  for (; r < out.length; r++) for (let i = 0; i < width; i++) out[r] += matrix[r * width + i] * x[i];
}

const byBlock = (values) =>
  Object.fromEntries(meta.blocks.map((name, n) => [name, values.subarray(n * H, (n + 1) * H)]));
const zeros = new Float32Array(H);
const z = new Float64Array(meta.blocks.length * H), hidden = new Float64Array(z.length);
const zOf = byBlock(z), hiddenOf = byBlock(hidden);

// The values (H) of a part in a layer, after the frame's symbol.
const valuesOf = (frame, layer, part) => {
  const start = (layer * P + parts.indexOf(part)) * H;
  return frame.values.subarray(start, start + H);
};
const stateOf = (frame, layer, part) =>
  frame && meta.states.includes(part) ? valuesOf(frame, layer, part) : zeros;

// Read one symbol after `before`, which is a frame, or null at the start of a text.
function read(id, before) {
  if (id === meta.end) before = null; // an item of a list is read from zero state
  const frame = { id, values: new Float32Array(L * P * H), logits: new Float32Array(V) };
  const total = new Float32Array(H);
  let below = null;
  for (let layer = 0; layer < L; layer++) {
    const of = (name) => weights[`layers.${layer}.${name}`];
    const h = stateOf(before, layer, "h"), c = stateOf(before, layer, "c");
    if (layer === 0) z.set(weights.table.subarray(id * z.length, (id + 1) * z.length));
    else { z.set(of("bias")); addProduct(of("weight_input"), below, z); }
    hidden.fill(0);
    addProduct(of("weight_hidden"), h, hidden);
    for (let r = 0; r < z.length; r++) z[r] += hidden[r];
    const more = { weight_peephole: of("weight_peephole"), bias_hidden: of("bias_hidden"), hidden: hiddenOf };
    const start = layer * P * H;
    for (let k = 0; k < H; k++) {
      const values = cell(zOf, k, h, c, more);
      for (let p = 0; p < P; p++) frame.values[start + p * H + k] = values[p];
    }
    below = valuesOf(frame, layer, "h");
    for (let k = 0; k < H; k++) total[k] += below[k];
  }
  const logits = new Float64Array(weights.output_bias);
  addProduct(weights.output_weight, total, logits);
  frame.logits.set(logits);
  return frame;
}

// -- a step explained -----------------------------------------------------------------------

const LETTERS = { forget: "f", input: "i", output: "o", reset: "r", update: "u" };

// The equations of a step at unit k of a layer, each with its terms and its value, as
// `charlstm inspect --view walk` shows them. The bias is part of "from x".
function explain(frame, before, layer, k) {
  const of = (name) => weights[`layers.${layer}.${name}`];
  const value = (part, at = frame) => at ? valuesOf(at, layer, part)[k] : 0;
  const product = (matrix, r, x) => x.reduce((sum, one, i) => sum + matrix[r * x.length + i] * one, 0);
  const terms = (block) => {
    const r = meta.blocks.indexOf(block) * H + k;
    return {
      "from x": layer ? of("bias")[r] + product(of("weight_input"), r, valuesOf(frame, layer - 1, "h"))
        : weights.table[frame.id * z.length + r],
      "from h₋": product(of("weight_hidden"), r, stateOf(before, layer, "h")),
    };
  };
  const tanhOf = (equation, of) =>
    ({ equation, terms: of, value: tanh(Object.values(of).reduce((a, b) => a + b)) });
  const gate = (block) => {
    const row = { equation: `${LETTERS[block]} = σ(W·x + U·h₋ + b)`, terms: terms(block), value: value(block) };
    if (of("weight_peephole")) {
      const [sign, seen] = block === "output" ? ["c", frame] : ["c₋", before];
      const weight = of("weight_peephole")[["input", "forget", "output"].indexOf(block) * H + k];
      row.terms[`from ${sign}`] = weight * value("c", seen);
      row.equation = row.equation.replace("b)", `b + p∗${sign})`);
    }
    return { ...row, gate: true };
  };
  if (!meta.gates.length) return [tanhOf("h = tanh(W·x + U·h₋ + b)", terms("candidate"))];
  if (meta.cell === "gru") {
    const r = gate("reset"), u = gate("update"), { "from x": x, "from h₋": h } = terms("candidate");
    const n = tanhOf("n = tanh(W·x + b + r∗(U·h₋ + b_h))",
      { "from x": x, "r∗(from h₋)": r.value * (h + of("bias_hidden")[k]) });
    const parts = { "u∗h₋": u.value * value("h", before), "(1−u)∗n": (1 - u.value) * n.value };
    return [r, u, n, { equation: "h = u∗h₋ + (1−u)∗n", terms: parts, value: value("h") }];
  }
  const f = meta.memory ? [gate("forget")] : [], kept = meta.memory ? "f∗c₋" : "c₋";
  const i = meta.blocks.includes("input") ? gate("input")
    : { equation: "i = 1 − f", terms: { "1": 1, "−f": -f[0].value }, value: value("input"), gate: true };
  const g = tanhOf("g = tanh(W·x + U·h₋ + b)", terms("candidate"));
  const parts = { [kept]: (f[0]?.value ?? 1) * value("c", before), "i∗g": i.value * g.value };
  const c = { equation: `c = ${kept} + i∗g`, terms: parts, value: value("c") };
  const h = { equation: "h = o∗tanh(c)", terms: { "o∗tanh(c)": value("h") }, value: value("h") };
  return [...f, i, g, c, gate("output"), h];
}

// -- symbols and characters -----------------------------------------------------------------

const indexOf = new Map(symbols.map((symbol, id) => [symbol, id]));
const asBytes = meta.kind === "bytes";
const toSymbols = (text) =>
  asBytes ? Array.from(new TextEncoder().encode(text), (b) => String.fromCharCode(b)) : Array.from(text);
const knownIds = (text) => toSymbols(text).filter((s) => indexOf.has(s)).map((s) => indexOf.get(s));
const opening = meta.end ?? indexOf.get("\n") ?? 0;

function idsOf(text) {
  const unknown = toSymbols(text).find((s) => !indexOf.has(s));
  if (unknown !== undefined) throw new Error(`the model never saw ${JSON.stringify(unknown)}`);
  return knownIds(text);
}

// A function from ids, one at a time, to the text that each completes.
function decoder() {
  if (!asBytes) return (id) => symbols[id];
  const utf8 = new TextDecoder();
  return (id) => utf8.decode(Uint8Array.of(id), { stream: true });
}

// -- from logits to a symbol ----------------------------------------------------------------

function probabilities(logits) {
  const highest = Math.max(...logits);
  const found = Float64Array.from(logits, (x) => Math.exp(x - highest));
  const sum = found.reduce((a, b) => a + b);
  return found.map((p) => p / sum);
}

const surpriseOf = (frame, before) => before ? -Math.log2(probabilities(before.logits)[frame.id]) : null;

// Sampling weights after temperature, top-k, top-p and min-p, in this order.
function filtered(logits, { temperature = 1, topK = 0, topP = 1, minP = 0 }) {
  const highest = Math.max(...logits);
  if (temperature === 0) {
    const best = logits.indexOf(highest);
    return Float64Array.from(logits, (_, id) => id === best ? 1 : 0);
  }
  const kept = Float64Array.from(logits, (x) => Math.exp((x - highest) / temperature));
  if (topK > 0 && topK < V) {
    const limit = Float64Array.from(kept).sort()[V - topK];
    kept.forEach((w, id) => { if (w < limit) kept[id] = 0; });
  }
  if (topP < 1) {
    const enough = topP * kept.reduce((a, b) => a + b);
    let before = 0;
    for (const id of Array.from(kept.keys()).sort((a, b) => kept[b] - kept[a] || a - b)) {
      const weight = kept[id];
      if (before >= enough) kept[id] = 0;
      before += weight;
    }
  }
  if (minP > 0) kept.forEach((w, id) => { if (w < minP) kept[id] = 0; });
  return kept;
}

function sample(logits, settings, random) {
  const kept = filtered(logits, settings);
  let left = random() * kept.reduce((a, b) => a + b);
  for (let id = 0; id < V; id++) if ((left -= kept[id]) < 0) return id;
  return kept.findLastIndex((w) => w > 0);
}

// Random numbers in [0, 1) from a seed: xorshift32 (Marsaglia 2003), with a nonzero start.
function randomFrom(seed) {
  let x = Math.imul(seed + 1, 0x9e3779b1) || 1;
  const next = () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) / 2 ** 32;
  };
  for (let n = 0; n < 8; n++) next();
  return next;
}

// -- for scripts ----------------------------------------------------------------------------

const framesOf = (ids) => {
  let frame = null;
  return ids.map((id) => (frame = read(id, frame)));
};

const primed = (text) => (text && meta.end === null ? idsOf(text) : [opening, ...idsOf(text)]);

window.charlstm = {
  symbols,
  /** Logits (V) of the next symbol after a text, read from zero state. */
  logits: (text) => framesOf(primed(text)).at(-1).logits,
  /** Bits of each symbol of a text read from zero state; null for the first. */
  surprise: (text) => framesOf(idsOf(text)).map((frame, t, all) => surpriseOf(frame, all[t - 1])),
  /** Generate a text that continues the prime. */
  write({ prime = "", length = 200, seed = 1, stop = "", ...settings } = {}) {
    const random = randomFrom(seed), decode = decoder();
    let frame = framesOf(primed(prime)).at(-1), text = "";
    for (let n = 0; n < length; n++) {
      frame = read(sample(frame.logits, settings, random), frame);
      text += decode(frame.id);
      if (stop && text.endsWith(stop)) return text.slice(0, -stop.length);
    }
    return text;
  },
};
