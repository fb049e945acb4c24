"""``walk``: one character through the cell, step by step, with the numbers of one unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import (
    Block,
    Cell,
    Column,
    Document,
    Heading,
    Lines,
    Strong,
    Table,
    named,
    number,
)
from charlstm.analysis.subject import Options, Subject
from charlstm.errors import CharlstmError, check_number
from charlstm.generate.writing import prefill
from charlstm.net.engine import log_softmax
from charlstm.net.spec import LEFT_SATURATED, RIGHT_SATURATED, CellSpec, layer_prefix
from charlstm.text.vocabulary import Ids

Row = NDArray[np.float64]
GUESSES = 5


@dataclass(frozen=True)
class Step:
    """One line of the cell's equations, for all units of a layer."""

    name: str
    equation: str
    meaning: str
    terms: Mapping[str, Row]
    """(H,) each, by name; their sum is z for a gate or a candidate, or the state."""
    value: Row
    """(H,) result of the line."""
    is_gate: bool = False
    state: str | None = None
    """Which state of the cell ``value`` becomes, if any."""


@dataclass(frozen=True)
class Walk:
    """One character processed by one layer."""

    character: str
    position: int
    layer: int
    before: Mapping[str, Row]
    """(H,) each of the cell's states before the character."""
    steps: tuple[Step, ...]
    guesses: tuple[tuple[str, float], ...]
    """The most likely next characters, with their probabilities."""


class _Layer:
    """A layer's weights, its input and its previous states, in float64."""

    def __init__(
        self, spec: CellSpec, weights: Mapping[str, NDArray[Any]], layer: int, x: Row, before: Row
    ) -> None:
        self.spec, self.x, self.before = spec, x, before
        prefix = layer_prefix(layer)
        self._arrays = {
            name.removeprefix(prefix): array.astype(np.float64)
            for name, array in weights.items()
            if name.startswith(prefix)
        }
        self._size = len(before[0])

    def terms(self, block: str) -> dict[str, Row]:
        """The terms whose sum is z of a block."""
        rows = self.spec.block(block, self._size)
        return {
            "from x": self._arrays["weight_input"][rows] @ self.x,
            "from h₋": self._arrays["weight_hidden"][rows] @ self.before[0],
            "bias": self._arrays["bias"][rows],
        }

    def extra(self, name: str, block: str) -> Row:
        """A block of an array that is not packed with the others."""
        row: Row = self._arrays[name][self.spec.block(block, self._size, name)]
        return row


def _sigma(z: Row) -> Row:
    half: Row = 0.5 * (1 + np.tanh(0.5 * z))
    return half


def _gate(name: str, equation: str, meaning: str, terms: dict[str, Row]) -> Step:
    return Step(name, equation, meaning, terms, _sigma(sum(terms.values(), 0.0)), is_gate=True)  # type: ignore[arg-type]


def _candidate(equation: str, terms: dict[str, Row]) -> Step:
    z = sum(terms.values(), np.zeros(1))
    return Step("candidate", equation, "the candidate value for the cell", terms, np.tanh(z))


def _hidden_state(equation: str, meaning: str, terms: dict[str, Row], h: Row) -> Step:
    return Step("hidden state", equation, meaning, terms, h, state="h")


def _lstm_steps(layer: _Layer) -> tuple[Step, ...]:
    """The LSTM and its variants."""
    spec, c_before = layer.spec, layer.before[1]
    peepholes = "weight_peephole" in spec.extras

    def gate(name: str, letter: str, meaning: str, c: Row, sign: str) -> Step:
        terms = layer.terms(name)
        if peepholes:
            terms[f"from {sign}"] = layer.extra("weight_peephole", name) * c
        sees = f" + p∗{sign}" if peepholes else ""
        equation = f"{letter} = σ(W·x + U·h₋ + b{sees})"
        return _gate(f"{name} gate", equation, meaning, terms)

    steps = []
    forget = np.ones_like(c_before)
    kept, f = "c₋", ""
    if "forget" in spec.blocks:
        steps.append(
            gate("forget", "f", "fraction of the old cell state that is kept", c_before, "c₋")
        )
        forget, kept, f = steps[-1].value, "f∗c₋", "f∗"
    if "input" in spec.blocks:
        steps.append(
            gate("input", "i", "fraction of the candidate that is written", c_before, "c₋")
        )
    else:
        left = {"1": np.ones_like(forget), "−f": -forget}
        meaning = "new content replaces what is forgotten"
        steps.append(Step("input gate", "i = 1 − f", meaning, left, 1 - forget, is_gate=True))
    wrote = steps[-1].value
    steps.append(_candidate("g = tanh(W·x + U·h₋ + b)", layer.terms("candidate")))
    parts = {kept: forget * c_before, "i∗g": wrote * steps[-1].value}
    c = parts[kept] + parts["i∗g"]
    equation = f"c = {f}c₋ + i∗g"
    meaning = "the new cell state"
    steps.append(Step("cell update", equation, meaning, parts, c, state="c"))
    steps.append(gate("output", "o", "fraction of the cell that is passed on", c, "c"))
    shown = steps[-1].value * np.tanh(c)
    meaning = "what the next step and the next layer read"
    steps.append(_hidden_state("h = o∗tanh(c)", meaning, {"o∗tanh(c)": shown}, shown))
    return tuple(steps)


def _gru_steps(layer: _Layer) -> tuple[Step, ...]:
    h_before = layer.before[0]
    reset = _gate(
        "reset gate",
        "r = σ(W·x + U·h₋ + b)",
        "fraction of the previous h that the candidate reads",
        layer.terms("reset"),
    )
    update = _gate(
        "update gate",
        "u = σ(W·x + U·h₋ + b)",
        "fraction of the previous h that is kept",
        layer.terms("update"),
    )
    terms = layer.terms("candidate")
    from_before = reset.value * (terms.pop("from h₋") + layer.extra("bias_hidden", "candidate"))
    terms["r∗(from h₋)"] = from_before
    candidate = _candidate("n = tanh(W·x + b + r∗(U·h₋ + b_h))", terms)
    parts = {"u∗h₋": update.value * h_before, "(1−u)∗n": (1 - update.value) * candidate.value}
    h = parts["u∗h₋"] + parts["(1−u)∗n"]
    meaning = "the new hidden state, read by the next step and the next layer"
    state = _hidden_state("h = u∗h₋ + (1−u)∗n", meaning, parts, h)
    return (reset, update, candidate, state)


def _rnn_steps(layer: _Layer) -> tuple[Step, ...]:
    terms = layer.terms("candidate")
    h = np.tanh(sum(terms.values(), np.zeros(1)))
    meaning = "the whole state is overwritten"
    return (_hidden_state("h = tanh(W·x + U·h₋ + b)", meaning, terms, h),)


def steps_of(
    spec: CellSpec, weights: Mapping[str, NDArray[Any]], layer: int, x: Row, before: Row
) -> tuple[Step, ...]:
    """The lines of a cell's equations, computed one by one in float64.

    Args:
        spec: the cell.
        weights: the model's arrays, named as in ``spec``.
        layer: from 0.
        x: the layer's input, (E,) or (H,).
        before: (S, H) the previous states.
    """
    walked = _Layer(spec, weights, layer, x, before)
    if "c" in spec.states:
        return _lstm_steps(walked)
    return _gru_steps(walked) if spec.gates else _rnn_steps(walked)


def measure(subject: Subject, layer: int, position: int) -> Walk:
    """Read up to ``position``, then step ``layer`` with the character there."""
    engine, spec = subject.engine, subject.spec
    lead: Ids = np.concatenate([subject.warmup, subject.ids[:position]])
    state = prefill(engine, lead).state
    before = state[:, :, 0].astype(np.float64)
    trace, logits, _ = engine.trace(subject.ids[position : position + 1], state)
    weights = subject.model.file.weights
    x = trace.states[0, layer - 1, 0] if layer else weights["embedding"][subject.ids[position]]
    log_p = log_softmax(logits[0])
    best = np.argsort(-log_p, kind="stable")[:GUESSES]
    return Walk(
        character=subject.symbols[position],
        position=position,
        layer=layer,
        before=dict(zip(spec.states, before[layer], strict=True)),
        steps=steps_of(spec, weights, layer, x.astype(np.float64), before[layer]),
        guesses=tuple((subject.vocab.symbols[i], float(np.exp(log_p[i]))) for i in best),
    )


@dataclass(frozen=True)
class WalkView:
    """A walk, and the unit whose values are shown."""

    subject: Subject
    walk: Walk
    unit: int

    def to_dict(self) -> dict[str, Any]:
        """Every step, with the values of all units."""
        walk = self.walk
        return {
            **self.subject.facts("walk"),
            "position": walk.position,
            "character": walk.character,
            "layer": walk.layer,
            "unit": self.unit,
            "before": {name: row.tolist() for name, row in walk.before.items()},
            "steps": [
                {
                    "name": step.name,
                    "equation": step.equation,
                    "terms": {name: row.tolist() for name, row in step.terms.items()},
                    "value": step.value.tolist(),
                }
                for step in walk.steps
            ],
            "guesses": [{"character": c, "p": p} for c, p in walk.guesses],
        }

    def document(self) -> Document:
        """A heading, a sentence and a table for each step, then the prediction."""
        walk, unit = self.walk, self.unit
        states = " and ".join(f"{name}₋ = {number(row[unit])}" for name, row in walk.before.items())
        intro = (
            f"Character {walk.position}, {named(walk.character)}, in layer {walk.layer + 1}; x is "
            f"{'its embedding' if not walk.layer else f'h of layer {walk.layer}'}.",
            f"Unit {unit} before it: {states}.",
        )
        blocks: list[Block] = [Lines(intro)]
        for n, step in enumerate(walk.steps, 1):
            blocks += [
                Heading(f"{n}. {step.name}: {step.equation}"),
                Lines((step.meaning,), quiet=True),
                _table(step, unit),
            ]
        guesses = ", ".join(f"{named(c)} {p:.0%}" for c, p in walk.guesses)
        blocks += [Heading("Most likely next characters"), Lines((guesses,))]
        return Document(self.subject.title("One character through the cell"), tuple(blocks))


def view(subject: Subject, options: Options) -> WalkView:
    """Walk through the last or the requested layer, at the last character or ``options.at``.

    The unit is the requested one, or the one whose state changes most.
    """
    if not len(subject.ids):
        raise CharlstmError("there is no text to inspect", "give at least one character")
    position = len(subject.ids) - 1 if options.at is None else options.at
    check_number("`at`", position, 0, len(subject.ids) - 1)
    layers = subject.engine.config.layers
    layer = layers - 1 if options.layer is None else options.layer
    walk = measure(subject, layer, position)
    unit = options.one_unit()
    if unit is None:
        state = subject.spec.states[-1]
        after = next(step.value for step in walk.steps if step.state == state)
        unit = int(np.abs(after - walk.before[state]).argmax())
    return WalkView(subject, walk, unit)


def _table(step: Step, unit: int) -> Table:
    squashed = step.is_gate or step.name == "candidate"
    columns = [Column("", right=False), *(Column(name, right=True) for name in step.terms)]
    numbers: list[Cell] = [number(row[unit]) for row in step.terms.values()]
    means: list[Cell] = [number(float(row.mean())) for row in step.terms.values()]
    if squashed and len(step.terms) > 2:
        total = sum(step.terms.values(), np.zeros(1))
        columns.append(Column("z", right=True))
        numbers.append(number(total[unit]))
        means.append(number(float(total.mean())))
    columns.append(Column("value", right=True))
    rows: list[tuple[Cell, ...]] = [
        (f"unit {unit}", *numbers, Strong(number(step.value[unit]))),
        ("layer mean", *means, number(float(step.value.mean()))),
    ]
    if step.is_gate:
        columns += [Column("shut", right=True), Column("open", right=True)]
        shut, open_ = step.value < LEFT_SATURATED, step.value > RIGHT_SATURATED
        rows[0] += ("yes" if shut[unit] else "no", "yes" if open_[unit] else "no")
        rows[1] += (f"{shut.mean():.0%}", f"{open_.mean():.0%}")
    return Table(tuple(columns), tuple(rows))
