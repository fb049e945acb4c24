// The exported page: it shows a text, lets the model of model.js continue it, and draws what happens.
//
// A text is a list of frames, one per symbol. Writing appends frames, Backspace removes one, and every
// picture is drawn from a frame, at most once per frame of the screen.

const KEPT = 4000; // frames that keep their values; older ones keep only their symbol
const GUESSES = Math.min(5, V);
const WORK = 28; // milliseconds of writing between two drawings; with these, about two frames of 1/60 s

const $ = (id) => document.getElementById(id);
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const page = {
  frames: [read(opening, null)], // the first is the newline before the text
  decode: decoder(),
  random: randomFrom(1),
  written: 0,
  playing: false,
  selected: null, // index of the frame being shown; null for the last
  marked: null, // the span that is marked as selected
  unit: { layer: 0, unit: 0 },
};
const last = () => page.frames.at(-1);
const lookedAt = () => page.selected ?? page.frames.length - 1;
const looked = () => page.frames[lookedAt()];
const settings = () => ({
  temperature: +$("temperature").value,
  topK: +$("top-k").value,
  topP: +$("top-p").value,
  minP: +$("min-p").value,
});
const say = (message) => { $("status").textContent = message; };

// -- the text -------------------------------------------------------------------------------

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

// Each line of the text is an element, so that the browser lays out only the last one while it grows.
const newLine = () => $("text").append(element("div"));

function append(id) {
  const before = last(), frame = read(id, before), shown = safe(page.decode(id));
  frame.bits = surpriseOf(frame, before);
  frame.span = element("span", { textContent: shown });
  frame.span.dataset.at = page.frames.length;
  page.frames.push(frame);
  $("text").lastElementChild.append(frame.span);
  if (shown.endsWith("\n")) newLine();
  const old = page.frames.length - 1 - KEPT;
  if (old >= 0) {
    page.frames[old].values = page.frames[old].logits = null;
    if (page.selected === old) page.selected = null;
  }
  tint(frame);
}

function removeLast() {
  if (page.frames.length === 1) return;
  const line = page.frames.pop().span.parentElement;
  line.nextElementSibling?.remove();
  line.lastElementChild.remove();
  if (page.selected === page.frames.length) page.selected = null;
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

function type(text) {
  const unknown = new Set(toSymbols(text).filter((s) => !indexOf.has(s)));
  knownIds(text).forEach(append);
  say(unknown.size ? `Skipped characters that the model never saw: ${Array.from(unknown, sign).join(" ")}` : "");
}

function restart() {
  page.frames.length = 1;
  page.selected = null;
  page.decode = decoder();
  page.random = randomFrom(+$("seed").value);
  page.written = 0;
  if (!last().values) reread();
  $("text").replaceChildren();
  newLine();
  type($("prime").value);
}

// -- playing --------------------------------------------------------------------------------

function isFinished() {
  const length = +$("length").value, stop = toSymbols($("stop").value);
  if (length && page.written >= length) return true;
  const end = page.frames.slice(-stop.length).map((frame) => symbols[frame.id]);
  return stop.length > 0 && page.written >= stop.length && end.join("") === stop.join("");
}

function step() {
  append(sample(last().logits, settings(), page.random));
  page.written++;
  if (isFinished()) { pause(); page.written = 0; }
}

function play() {
  page.playing = true;
  page.selected = null;
  $("play").textContent = "Pause";
  let due = 0, then = performance.now(), shownAt = then, shown = 0;
  const writeAndDraw = (now) => {
    if (!page.playing) return;
    const perSecond = +$("speed").value;
    due = Math.min(due + (now - then) / 1000 * perSecond, perSecond);
    then = now;
    for (const begun = performance.now(); due >= 1 && page.playing && performance.now() - begun < WORK; due--) {
      step();
      shown++;
    }
    if (now - shownAt > 1000) {
      say(`${Math.round(shown * 1000 / (now - shownAt))} characters per second`);
      shownAt = now;
      shown = 0;
    }
    show();
    if (page.playing) requestAnimationFrame(writeAndDraw);
  };
  requestAnimationFrame(writeAndDraw);
}

function pause() {
  page.playing = false;
  $("play").textContent = "Play";
}

// -- pictures -------------------------------------------------------------------------------

// Two colours for negative and positive values, with alpha, for dark and light pages.
const NEGATIVE = [24, 119, 200], POSITIVE = [230, 97, 1];
const color = (value) =>
  `rgba(${(value < 0 ? NEGATIVE : POSITIVE).join(", ")}, ${Math.min(1, Math.abs(value)).toFixed(2)})`;
const isGate = (part) => meta.gates.includes(part);
const centred = (value, part) => isGate(part) ? 2 * value - 1 : part === "c" ? Math.tanh(value) : value;
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const unitValue = (frame) => valuesOf(frame, page.unit.layer, $("part").value)[page.unit.unit];

// Colour the text by surprise or by a unit. Underlines show the same without colour.
function tint(frame) {
  if (!frame.span) return;
  const by = $("tint").value;
  let value = 0;
  if (by === "surprise") value = Math.min(1, frame.bits / 8);
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
  mostLikely(last(), GUESSES).forEach(({ id, p, name, percent }, n) => {
    const button = $("guesses").children[n];
    button.dataset.id = id;
    button.style.setProperty("--p", p.toFixed(3));
    button.setAttribute("aria-label", `Append ${name}, probability ${percent}`);
    button.firstChild.textContent = name;
    button.lastChild.textContent = percent;
  });
}

// Change the size of a canvas only if it differs: that allocates its memory again.
function fit(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
}

// One pixel per unit; the browser enlarges them.
function showStrips() {
  const part = $("part").value;
  for (let layer = 0; layer < L; layer++) {
    const canvas = $(`strip-${layer}`), mark = canvas.nextElementSibling;
    const columns = Math.max(1, Math.floor(canvas.clientWidth / 8)), rows = Math.ceil(H / columns);
    fit(canvas, columns, rows);
    const pixels = new ImageData(columns, rows), values = valuesOf(looked(), layer, part);
    for (let k = 0; k < H; k++) {
      const value = centred(values[k], part);
      pixels.data.set(value < 0 ? NEGATIVE : POSITIVE, 4 * k);
      pixels.data[4 * k + 3] = 255 * Math.abs(value);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const { unit } = page.unit;
    mark.hidden = layer !== page.unit.layer;
    mark.style.left = `${unit % columns / columns * 100}%`;
    mark.style.top = `${Math.floor(unit / columns) / rows * 100}%`;
    mark.style.width = `${100 / columns}%`;
    mark.style.height = `${100 / rows}%`;
  }
}

function showGates() {
  for (const row of $("gates").querySelectorAll("tr[data-gate]")) {
    let left = 0, right = 0;
    for (const value of valuesOf(looked(), +row.dataset.layer, row.dataset.gate)) {
      if (value < meta.left) left++;
      else if (value > meta.right) right++;
    }
    row.style.setProperty("--left", left / H);
    row.style.setProperty("--right", right / H);
    row.cells[2].textContent = `${Math.round(100 * left / H)}%`;
    row.cells[4].textContent = `${Math.round(100 * right / H)}%`;
  }
}

// The unit's value over the end of the text.
function showCurve() {
  const canvas = $("curve"), context = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  fit(canvas, width, height);
  context.clearRect(0, 0, width, height);
  const first = Math.max(0, page.frames.length - Math.floor(canvas.clientWidth / 4));
  const frames = page.frames.slice(first), part = $("part").value;
  const x = (n) => (n + 0.5) / frames.length * width;
  const y = (value) => (1 - centred(value, part)) / 2 * (height - 4 * ratio) + 2 * ratio;
  const style = getComputedStyle(canvas);
  context.lineWidth = ratio;
  context.strokeStyle = style.getPropertyValue("--line");
  context.strokeRect(0, y(isGate(part) ? 0.5 : 0), width, 0);
  context.strokeStyle = style.color;
  context.lineWidth = 1.5 * ratio;
  context.beginPath();
  frames.forEach((frame, n) => { if (frame.values) context.lineTo(x(n), y(unitValue(frame))); });
  context.stroke();
  if (page.selected >= first && page.selected !== null) context.strokeRect(x(page.selected - first), 0, 0, height);
}

// One step, explained: what was read, what was expected, and the equations of the selected unit.
function showStep() {
  const frame = looked(), before = page.frames[lookedAt() - 1] ?? null, { layer, unit } = page.unit;
  let sentence = "The text starts after a newline.";
  if (before) {
    const guesses = before.logits && mostLikely(before, 3).map(({ name, percent }) => `${name} ${percent}`);
    sentence = `Read ${sign(symbols[frame.id])}: surprise ${frame.bits.toFixed(2)} bits.`
      + (guesses ? ` Expected: ${guesses.join(" · ")}` : "");
  }
  $("read").textContent = sentence;
  const rows = before && !before.values ? [] : explain(frame, before, layer, unit);
  $("equations").tBodies[0].replaceChildren(...rows.map(({ equation, terms, value, gate }) => {
    const parts = Object.entries(terms).flatMap(([name, term], n) =>
      [n ? ", " : "", element("span", { textContent: `${name} ${signed(term)}` })]);
    const note = !gate ? "" : value < meta.left ? " shut" : value > meta.right ? " open" : "";
    return element("tr", {}, element("th", { textContent: equation }), element("td", {}, ...parts),
      element("td", { textContent: (gate ? value.toFixed(2) : signed(value)) + note }));
  }));
  page.marked?.removeAttribute("aria-current");
  page.marked = page.selected === null ? null : frame.span;
  page.marked?.setAttribute("aria-current", "true");
}

function show() {
  showGuesses();
  showStrips();
  showGates();
  showCurve();
  showStep();
  if (page.selected === null) $("text").scrollTop = $("text").scrollHeight;
}

let asked = false;
function refresh() {
  if (asked || page.playing) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    show();
  });
}

// -- putting it together --------------------------------------------------------------------

function chooseUnit(layer, unit, part = $("part").value) {
  page.unit = { layer: Math.min(Math.max(layer, 0), L - 1), unit: Math.min(Math.max(unit, 0), H - 1) };
  $("layer").value = page.unit.layer + 1;
  $("unit").value = page.unit.unit;
  $("part").value = part;
  $("equations").caption.textContent = `Unit ${page.unit.unit} of layer ${page.unit.layer + 1}, step by step`;
  tintAll();
  refresh();
}

function tintByUnit(layer, unit, part) {
  $("tint").value = "unit";
  chooseUnit(layer, unit, part);
}

function select(at) {
  const bounded = Math.min(Math.max(at, 1), page.frames.length - 1);
  if (!page.frames[bounded].values) say(`Only the last ${KEPT.toLocaleString("en")} characters can be inspected.`);
  else page.selected = bounded || null;
  refresh();
}

function build() {
  for (const part of parts) $("part").append(element("option", { value: part, textContent: isGate(part) ? `${part} gate` : part }));
  $("part").value = meta.states.at(-1);
  $("layer").max = L;
  $("unit").max = H - 1;
  for (let n = 0; n < GUESSES; n++) $("guesses").append(element("button", { type: "button" }, element("b"), element("span")));
  for (let layer = 0; layer < L; layer++) {
    const canvas = element("canvas", { id: `strip-${layer}` });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `All units of layer ${layer + 1}. Select one with the fields Layer and Unit.`);
    canvas.addEventListener("click", (event) => {
      const column = Math.floor(event.offsetX / canvas.clientWidth * canvas.width);
      const unit = Math.floor(event.offsetY / canvas.clientHeight * canvas.height) * canvas.width + column;
      if (unit < H) tintByUnit(layer, unit);
    });
    const strip = element("div", { className: "strip" }, canvas, element("i"));
    $("strips").append(element("figure", {}, element("figcaption", { textContent: `Layer ${layer + 1}` }), strip));
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
      onclick: () => tintByUnit(layer, unit, part),
    }));
  }
  $("named-units").hidden = !meta.named.length;
}

function listen() {
  const changed = (change) => (event) => { pause(); change(event); refresh(); };
  $("play").onclick = () => { page.playing ? pause() : play(); };
  $("next").onclick = changed(() => { page.selected = null; step(); });
  $("again").onclick = changed(restart);
  $("back").onclick = changed(removeLast);
  $("guesses").onclick = (event) => {
    const button = event.target.closest("button");
    if (button) changed(() => { page.selected = null; append(+button.dataset.id); })(event);
  };
  $("typed").addEventListener("input", (event) => {
    if (event.isComposing) return;
    const typed = $("typed").value;
    $("typed").value = "";
    changed(() => { page.selected = null; type(typed); })(event);
  });
  $("typed").addEventListener("compositionend", () => $("typed").dispatchEvent(new Event("input")));
  $("typed").addEventListener("keydown", (event) => {
    if (event.key === "Backspace" && !$("typed").value) changed(removeLast)(event);
  });
  $("text").addEventListener("pointerover", (event) => {
    if (!page.playing && event.target.dataset.at) select(+event.target.dataset.at);
  });
  $("text").addEventListener("click", (event) => {
    if (event.target.dataset.at) changed(() => select(+event.target.dataset.at))(event);
  });
  $("text").addEventListener("pointerleave", () => { if (!page.playing) { page.selected = null; refresh(); } });
  $("text").addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    changed(() => select(lookedAt() + move))(event);
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
