// The script of the exported page: a model that reads and writes in the browser.
//
// A text is a list of frames, one per symbol. A frame holds everything known after reading that
// symbol: the states, the gates, and the logits of the next symbol. Writing appends frames, Backspace
// removes one, and every picture is drawn from a frame.
"use strict";

(() => {
  const meta = JSON.parse(document.getElementById("meta").textContent);
  const symbols = meta.symbols;
  const V = symbols.length, L = meta.layers, H = meta.hidden;
  const parts = [...meta.states, ...meta.gates]; // the values that a frame stores per unit, in this order
  const P = parts.length;
  const KEPT = 4000; // frames that keep their values; older ones keep only their symbol

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

  // out[r] += sum over i of matrix[r, i] * x[i]
  function addProduct(matrix, x, out) {
    const width = x.length;
    for (let r = 0, at = 0; r < out.length; r++) {
      let a = 0, b = 0, c = 0, d = 0, i = 0;
      for (; i + 3 < width; i += 4, at += 4) {
        a += matrix[at] * x[i];
        b += matrix[at + 1] * x[i + 1];
        c += matrix[at + 2] * x[i + 2];
        d += matrix[at + 3] * x[i + 3];
      }
      for (; i < width; i++, at++) a += matrix[at] * x[i];
      out[r] += a + b + c + d;
    }
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

  // Read one symbol after `before`, which is a frame, or null at the start of a text. The end of an
  // item of a list is read from zero state: no item sees another.
  function read(id, before) {
    if (id === meta.end) before = null;
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

  function draw(logits, settings, random) {
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
        frame = read(draw(frame.logits, settings, random), frame);
        text += decode(frame.id);
        if (stop && text.endsWith(stop)) return text.slice(0, -stop.length);
      }
      return text;
    },
  };

  // -- the text on the page -------------------------------------------------------------------

  const $ = (id) => document.getElementById(id);
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const page = {
    frames: [read(opening, null)], // the first is the newline before the text
    random: randomFrom(1),
    playing: false,
    selected: null, // the frame being shown; null for the last
    unit: { layer: 0, unit: 0 },
  };
  const last = () => page.frames.at(-1);
  const looked = () => page.selected ?? last();
  const settings = () => ({
    temperature: +$("temperature").value,
    topK: +$("top-k").value,
    topP: +$("top-p").value,
    minP: +$("min-p").value,
  });

  // A symbol as it is shown alone; control and format characters are replaced.
  const SIGNS = { "\n": "↵", "\t": "⇥", " ": "␣", "\r": "␍" };
  function sign(symbol) {
    if (SIGNS[symbol]) return SIGNS[symbol];
    const code = symbol.codePointAt(0);
    if (asBytes && code > 126) return code.toString(16).padStart(2, "0");
    if (code < 32) return String.fromCodePoint(0x2400 + code);
    return /[\p{C}\u2028\u2029]/u.test(symbol) ? "\ufffd" : symbol;
  }
  const safe = (text) => Array.from(text, (c) => c === "\n" || c === "\t" ? c : SIGNS[c] && c !== " " ? SIGNS[c]
    : /[\u202a-\u202e\u2066-\u2069\u2028\u2029]|(?![\u200c\u200d\u00ad])\p{Cc}|\p{Cs}/u.test(c) ? "\ufffd" : c).join("");

  function append(id) {
    const before = last(), frame = read(id, before);
    frame.bits = surpriseOf(frame, before);
    frame.span = element("span", { textContent: safe(page.decode(id)) });
    frame.span.dataset.at = page.frames.length;
    page.frames.push(frame);
    $("text").insertBefore(frame.span, $("cursor"));
    const old = page.frames[page.frames.length - 1 - KEPT];
    if (old) {
      old.values = old.logits = null;
      if (page.selected === old) page.selected = null;
    }
    tint(frame);
  }

  function removeLast() {
    if (page.frames.length === 1) return;
    const gone = page.frames.pop();
    gone.span.remove();
    if (page.selected === gone) page.selected = null;
    if (!last().values) reread();
    restartDecoder();
  }

  // The values of old frames were dropped: read the text again.
  function reread() {
    let frame = null;
    page.frames.forEach((old, n) => {
      frame = read(old.id, frame);
      if (n >= page.frames.length - KEPT) Object.assign(old, { values: frame.values, logits: frame.logits });
    });
  }

  // Bytes of an unfinished character wait in the decoder.
  function restartDecoder() {
    page.decode = decoder();
    if (asBytes) page.frames.slice(-4).forEach((frame) => page.decode(frame.id));
  }

  function clear() {
    page.frames.slice(1).forEach((frame) => frame.span.remove());
    page.frames.length = 1;
    page.selected = null;
    page.decode = decoder();
    if (!last().values) reread();
  }

  function type(text) {
    const unknown = new Set(toSymbols(text).filter((s) => !indexOf.has(s)));
    knownIds(text).forEach(append);
    say(unknown.size ? `Skipped characters that the model never saw: ${Array.from(unknown, sign).join(" ")}` : "");
  }

  function restart() {
    clear();
    page.random = randomFrom(+$("seed").value);
    page.written = 0;
    type($("prime").value);
  }

  const say = (message) => { $("status").textContent = message; };

  // -- playing --------------------------------------------------------------------------------

  const finished = () => {
    const length = +$("length").value, stop = $("stop").value;
    if (length && page.written >= length) return true;
    if (!stop) return false;
    const size = toSymbols(stop).length;
    const end = page.frames.slice(1).slice(-size);
    return page.written >= size && end.map((f) => symbols[f.id]).join("") === toSymbols(stop).join("");
  };

  function step() {
    append(draw(last().logits, settings(), page.random));
    page.written++;
    if (finished()) { pause(); page.written = 0; }
  }

  function play() {
    page.playing = true;
    page.selected = null;
    $("play").textContent = "Pause";
    let due = 0, then = performance.now(), shownAt = then, shown = 0;
    const frame = (now) => {
      if (!page.playing) return;
      const perSecond = +$("speed").value;
      due = Math.min(due + (now - then) / 1000 * perSecond, perSecond);
      then = now;
      while (due >= 1 && page.playing && performance.now() - now < 14) {
        step();
        shown++;
        due--;
      }
      if (now - shownAt > 1000) {
        say(`${Math.round(shown * 1000 / (now - shownAt))} characters per second`);
        shownAt = now;
        shown = 0;
      }
      refresh();
      if (page.playing) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  function pause() {
    page.playing = false;
    $("play").textContent = "Play";
  }

  // -- display ------------------------------------------------------------------------------

  // Two colours for negative and positive values, with alpha, for dark and light pages.
  const color = (value) =>
    `rgba(${value < 0 ? "24, 119, 200" : "230, 97, 1"}, ${Math.min(1, Math.abs(value)).toFixed(2)})`;
  const isGate = (part) => meta.gates.includes(part);
  const centred = (value, part) => isGate(part) ? 2 * value - 1 : part === "c" ? Math.tanh(value) : value;
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  const unitValue = (frame) => valuesOf(frame, page.unit.layer, $("part").value)[page.unit.unit];

  // Colour the text by surprise or by a unit. Underlines show the same without colour.
  function tint(frame) {
    if (!frame.span) return;
    const by = $("tint").value;
    let value = 0;
    if (by === "surprise") value = frame.bits === null ? 0 : Math.min(1, frame.bits / 8);
    else if (by === "unit" && frame.values) value = centred(unitValue(frame), $("part").value);
    frame.span.style.background = value ? color(value * 0.75) : "";
    frame.span.className = value > 0.5 ? "high" : value < -0.5 ? "low" : "";
  }

  const tintAll = () => page.frames.forEach(tint);

  // The most likely symbols after a frame.
  function mostLikely(frame, count) {
    const found = probabilities(frame.logits);
    const best = Array.from(found.keys()).sort((a, b) => found[b] - found[a]).slice(0, count);
    return best.map((id) => ({
      id,
      p: found[id],
      name: sign(symbols[id]),
      percent: `${(100 * found[id]).toFixed(found[id] < 0.1 ? 1 : 0)}%`,
    }));
  }

  function showGuesses() {
    $("guesses").replaceChildren(...mostLikely(last(), 5).map(({ id, p, name, percent }) => {
      const take = () => { pause(); append(id); refresh(); };
      const button = element("button", { type: "button", onclick: take },
        element("b", { textContent: name }), element("span", { textContent: percent }));
      button.style.setProperty("--p", p);
      button.setAttribute("aria-label", `Append ${name}, probability ${percent}`);
      return button;
    }));
  }

  function showStrips() {
    const frame = looked(), part = $("part").value;
    for (let layer = 0; layer < L; layer++) {
      const canvas = $(`strip-${layer}`), context = canvas.getContext("2d");
      const columns = Math.max(1, Math.floor(canvas.clientWidth / 8)), rows = Math.ceil(H / columns);
      const ratio = window.devicePixelRatio || 1, side = canvas.clientWidth / columns;
      canvas.width = canvas.clientWidth * ratio;
      canvas.height = rows * side * ratio;
      canvas.style.height = `${rows * side}px`;
      context.scale(ratio, ratio);
      const values = valuesOf(frame, layer, part);
      for (let k = 0; k < H; k++) {
        context.fillStyle = color(centred(values[k], part));
        context.fillRect((k % columns) * side, Math.floor(k / columns) * side, side - 1, side - 1);
      }
      if (layer === page.unit.layer) {
        const k = page.unit.unit;
        context.strokeStyle = getComputedStyle(canvas).color;
        context.lineWidth = 2;
        context.strokeRect((k % columns) * side, Math.floor(k / columns) * side, side - 1, side - 1);
      }
      canvas.unitAt = (x, y) => Math.floor(y / side) * columns + Math.floor(x / side);
    }
  }

  function showGates() {
    const frame = looked();
    for (const row of $("gates").querySelectorAll("tr[data-gate]")) {
      const values = valuesOf(frame, +row.dataset.layer, row.dataset.gate);
      const fraction = (test) => values.filter(test).length / H;
      const left = fraction((v) => v < meta.left), right = fraction((v) => v > meta.right);
      row.style.setProperty("--left", left);
      row.style.setProperty("--right", right);
      row.cells[2].textContent = `${Math.round(100 * left)}%`;
      row.cells[4].textContent = `${Math.round(100 * right)}%`;
    }
  }

  // The unit's value over the end of the text.
  function showCurve() {
    const canvas = $("curve"), context = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    const width = canvas.width = canvas.clientWidth * ratio, height = canvas.height = 80 * ratio;
    const frames = page.frames.slice(-Math.floor(canvas.clientWidth / 4)), part = $("part").value;
    const y = (value) => (1 - centred(value, part)) / 2 * (height - 4 * ratio) + 2 * ratio;
    const style = getComputedStyle(canvas);
    context.lineWidth = ratio;
    context.strokeStyle = style.getPropertyValue("--line");
    context.strokeRect(0, y(isGate(part) ? 0.5 : 0), width, 0);
    context.strokeStyle = style.color;
    context.lineWidth = 1.5 * ratio;
    context.beginPath();
    frames.forEach((frame, n) => {
      if (frame.values) context.lineTo((n + 0.5) / frames.length * width, y(unitValue(frame)));
    });
    context.stroke();
    if (page.selected && frames.includes(page.selected)) {
      const x = (frames.indexOf(page.selected) + 0.5) / frames.length * width;
      context.strokeRect(x, 0, 0, height);
    }
  }

  // One step, explained: what was read, what was expected, and what the selected unit did.
  function showStep() {
    const frame = looked(), at = page.frames.indexOf(frame), before = page.frames[at - 1];
    const { layer, unit } = page.unit, lines = [];
    if (!before) lines.push("The text starts after a newline.");
    else {
      const guesses = before.logits ? ` Expected: ${mostLikely(before, 3).map(({ name, percent }) => `${name} ${percent}`).join(", ")}.` : "";
      lines.push(`Read ${sign(symbols[frame.id])}: surprise ${frame.bits.toFixed(2)} bits.${guesses}`);
    }
    const value = (part, of = frame) => valuesOf(of, layer, part)[unit];
    const gates = meta.gates.map((gate) => `${gate} ${value(gate).toFixed(2)}`).join(", ");
    if (gates) lines.push(`Gates of unit ${unit} in layer ${layer + 1}: ${gates}.`);
    const state = meta.states.at(-1), memory = meta.memory;
    if (gates && (!before || before.values)) {
      const old = before ? value(state, before) : 0, kept = old * (memory ? value(memory) : 1);
      const factor = memory ? `${value(memory).toFixed(2)} × ` : "";
      lines.push(`${state} = ${factor}${signed(old)} kept ${signed(value(state) - kept)} written = ${signed(value(state))}.`);
    }
    if (state !== "h" || !gates) lines.push(`h = ${signed(value("h"))}.`);
    $("step").replaceChildren(...lines.map((line) => element("p", { textContent: line })));
    page.frames.forEach((f) => f.span?.toggleAttribute("aria-current", f === page.selected));
  }

  let asked = false;
  function refresh() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      showGuesses();
      showStrips();
      showGates();
      showCurve();
      showStep();
      $("text").scrollTop = page.selected ? $("text").scrollTop : $("text").scrollHeight;
    });
  }

  // -- putting it together --------------------------------------------------------------------

  function chooseUnit(layer, unit, part = $("part").value) {
    page.unit = { layer: Math.min(Math.max(layer, 0), L - 1), unit: Math.min(Math.max(unit, 0), H - 1) };
    $("layer").value = page.unit.layer + 1;
    $("unit").value = page.unit.unit;
    $("part").value = part;
    tintAll();
    refresh();
  }

  function select(at) {
    const frame = page.frames[Math.min(Math.max(at, 1), page.frames.length - 1)];
    if (!frame.values) say(`Only the last ${KEPT.toLocaleString("en")} characters can be inspected.`);
    else page.selected = frame === page.frames[0] ? null : frame;
    refresh();
  }

  function build() {
    for (const part of parts) $("part").append(element("option", { value: part, textContent: isGate(part) ? `${part} gate` : part }));
    $("part").value = meta.states.at(-1);
    $("layer").max = L;
    $("unit").max = H - 1;
    for (let layer = 0; layer < L; layer++) {
      const canvas = element("canvas", { id: `strip-${layer}`, className: "strip" });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `All units of layer ${layer + 1}. Select one with the fields Layer and Unit.`);
      canvas.addEventListener("click", (event) => {
        const unit = canvas.unitAt(event.offsetX, event.offsetY);
        if (unit < H) { $("tint").value = "unit"; chooseUnit(layer, unit); }
      });
      $("strips").append(element("figure", {}, element("figcaption", { textContent: `Layer ${layer + 1}` }), canvas));
      for (const gate of meta.gates) {
        const row = element("tr", {}, element("th", { textContent: layer + 1 }), element("th", { textContent: gate }),
          element("td"), element("td", {}, element("i"), element("i")), element("td"));
        Object.assign(row.dataset, { layer, gate });
        $("gates").append(row);
      }
    }
    $("gates").hidden = !meta.gates.length;
    for (const { layer, unit, part, label } of meta.named) {
      $("named").append(element("button", {
        type: "button",
        textContent: `${label} (layer ${layer + 1}, unit ${unit})`,
        onclick: () => { $("tint").value = "unit"; chooseUnit(layer, unit, part); },
      }));
    }
    $("named-units").hidden = !meta.named.length;
  }

  function listen() {
    $("play").onclick = () => { page.playing ? pause() : play(); };
    $("next").onclick = () => { pause(); page.selected = null; step(); refresh(); };
    $("again").onclick = () => { restart(); refresh(); };
    $("back").onclick = () => { pause(); removeLast(); refresh(); };
    $("typed").addEventListener("input", (event) => {
      if (event.isComposing) return;
      pause();
      page.selected = null;
      type($("typed").value);
      $("typed").value = "";
      refresh();
    });
    $("typed").addEventListener("compositionend", () => $("typed").dispatchEvent(new Event("input")));
    $("typed").addEventListener("keydown", (event) => {
      if (event.key === "Backspace" && !$("typed").value) { pause(); removeLast(); refresh(); }
    });
    $("text").addEventListener("pointerover", (event) => {
      if (!page.playing && event.target.dataset.at) select(+event.target.dataset.at);
    });
    $("text").addEventListener("click", (event) => {
      if (event.target.dataset.at) { pause(); select(+event.target.dataset.at); }
    });
    $("text").addEventListener("pointerleave", () => { if (!page.playing) { page.selected = null; refresh(); } });
    $("text").addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move) return;
      event.preventDefault();
      pause();
      select(page.frames.indexOf(looked()) + move);
    });
    for (const id of ["layer", "unit", "part"]) {
      $(id).addEventListener("change", () => chooseUnit($("layer").value - 1, +$("unit").value));
    }
    $("tint").addEventListener("change", () => { tintAll(); refresh(); });
    window.addEventListener("resize", refresh);
  }

  build();
  listen();
  restart();
  chooseUnit(meta.named[0]?.layer ?? 0, meta.named[0]?.unit ?? 0, meta.named[0]?.part);
})();
