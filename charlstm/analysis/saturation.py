"""Gate saturation of a model at each character of a text.

A gate unit is left-saturated (shut) at a step when its activation is below 0.1, right-saturated
(open) when it is above 0.9 (Karpathy, Johnson & Fei-Fei 2015, section 4.1). A cell without gates
is reported by h, from -1 to 1, as a gate named ``hidden``: saturated below -0.9 and above 0.9.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.trace import pieces
from charlstm.errors import check_integer, check_number, plural, require, shown
from charlstm.events import GateSaturation
from charlstm.html_table import html_table
from charlstm.net.engine import Engine, Trace
from charlstm.net.spec import CELLS, HIDDEN, LEFT_SATURATED, RIGHT_SATURATED, CellSpec
from charlstm.text.vocabulary import Ids

RECORDED = 500
"""Characters of a checkpoint's excerpt on which a run records its gates at each evaluation; the
first fifth is warm-up."""


@dataclass(frozen=True)
class Thresholds:
    """Below ``left`` a gate counts as shut, above ``right`` as open; h beyond +-``right``."""

    left: float = LEFT_SATURATED
    right: float = RIGHT_SATURATED

    def __post_init__(self) -> None:
        check_number("`left`", self.left, 0, 1)
        check_number("`right`", self.right, 0, 1)
        object.__setattr__(self, "left", float(self.left))
        object.__setattr__(self, "right", float(self.right))
        require(
            self.left < self.right,
            f"`left` is {self.left:g} and `right` is {self.right:g}",
            "`left` must be smaller than `right`",
        )


@dataclass(frozen=True, eq=False)
class GateReport:
    """Gate saturation over a text of T characters; L layers, G gates, H units.

    The values at a position belong to the step that reads its character.
    """

    cell: str
    gates: tuple[str, ...]
    """As ``CellSpec.reported``."""
    thresholds: Thresholds
    symbols: tuple[str, ...]
    """(T,) the characters read."""
    warmup: int
    """Characters read before the text; not counted."""
    mean: NDArray[np.float64]
    """(T, L, G) mean activation over the layer's units."""
    left: NDArray[np.float64]
    """(T, L, G) fraction of the layer's units below the left threshold."""
    right: NDArray[np.float64]
    """(T, L, G) fraction of the layer's units above the right threshold."""
    unit_left: NDArray[np.float64]
    """(L, G, H) fraction of the text's steps at which the unit is left-saturated."""
    unit_right: NDArray[np.float64]
    """(L, G, H) fraction of the text's steps at which the unit is right-saturated."""
    unit_mean: NDArray[np.float64]
    """(L, G, H) mean activation over the text."""
    time_constant: NDArray[np.float64] | None
    """(L, H) tau = -1 / mean(ln m), m being the cell's memory gate, in characters.

    After tau steps, 1/e of the state is left. None for a cell without a memory gate.
    """
    surprise_bits: NDArray[np.float64]
    """(T,) -log2 p of each character given those before it; NaN where nothing came before."""

    @property
    def layers(self) -> int:
        """L."""
        return int(self.mean.shape[1])

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.unit_left.shape[2])

    @property
    def limits(self) -> tuple[float, float]:
        """A unit is left-saturated below the first and right-saturated above the second."""
        return _limits(CELLS[self.cell], self.thresholds)

    def __repr__(self) -> str:
        count, gates = len(self.symbols), ", ".join(self.gates)
        return f"<GateReport: {self.cell}, {count:,} characters, {self.layers} layers, {gates}>"

    def _repr_html_(self) -> str:
        rows = {
            f"layer {one.layer + 1}, {label(one.gate)}": f"{one.left:.1%} below "
            f"{self.limits[0]:g}, {one.right:.1%} above {self.limits[1]:g}, mean {one.mean:.3f}"
            for one in self.summary()
        }
        return html_table(f"Gates of {self.cell} over {len(self.symbols):,} characters", rows)

    def summary(self) -> tuple[GateSaturation, ...]:
        """Saturation of each layer's gates over the whole text."""
        return tuple(
            GateSaturation(
                layer=layer,
                gate=gate,
                left=float(self.left[:, layer, g].mean()),
                right=float(self.right[:, layer, g].mean()),
                mean=float(self.mean[:, layer, g].mean()),
            )
            for layer in range(self.layers)
            for g, gate in enumerate(self.gates)
        )

    def to_dict(self, checkpoint: str) -> dict[str, Any]:
        """The JSON of ``charlstm inspect --json``; see docs/reference/views.md."""
        return {
            "checkpoint": checkpoint,
            "cell": self.cell,
            "layers": self.layers,
            "hidden_size": self.hidden_size,
            "thresholds": {"left": self.thresholds.left, "right": self.thresholds.right},
            "warmup": self.warmup,
            "characters": [
                {
                    "position": t,
                    "character": symbol,
                    "surprise_bits": _number(self.surprise_bits[t]),
                    "layers": [
                        {
                            gate: {
                                "mean": float(self.mean[t, layer, g]),
                                "left": float(self.left[t, layer, g]),
                                "right": float(self.right[t, layer, g]),
                            }
                            for g, gate in enumerate(self.gates)
                        }
                        for layer in range(self.layers)
                    ],
                }
                for t, symbol in enumerate(self.symbols)
            ],
            "units": [
                {
                    "layer": layer,
                    "gate": gate,
                    "left": self.unit_left[layer, g].tolist(),
                    "right": self.unit_right[layer, g].tolist(),
                }
                for layer in range(self.layers)
                for g, gate in enumerate(self.gates)
            ],
            "time_constant": None
            if self.time_constant is None
            else [[_number(tau) for tau in layer] for layer in self.time_constant],
        }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _limits(spec: CellSpec, thresholds: Thresholds) -> tuple[float, float]:
    return (thresholds.left if spec.gates else -thresholds.right), thresholds.right


def log_memory(spec: CellSpec, trace: Trace) -> NDArray[Any]:
    """(T, L, H) ln of the memory gate; never -inf."""
    assert spec.memory is not None
    kept = trace.gates[:, :, spec.gates.index(spec.memory)]
    logs: NDArray[Any] = np.log(np.maximum(kept, kept.dtype.type(np.finfo(np.float32).tiny)))
    return logs


def label(gate: str) -> str:
    """The gate's name on screen."""
    return "hidden state" if gate == HIDDEN else f"{gate} gate"


def measure_gates(
    engine: Engine,
    ids: Ids,
    symbols: tuple[str, ...],
    warmup: Ids,
    thresholds: Thresholds = Thresholds(),
    unit: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> GateReport:
    """Read ``warmup`` and then ``ids`` (T,), T >= 1, and report on the gates at ``ids``.

    With ``unit``, the fractions and means at a position are of this one unit of each layer.

    Raises:
        CharlstmError: the text is empty.
    """
    require(
        isinstance(thresholds, Thresholds),
        f"`thresholds` is {shown(thresholds)}, but must be a `Thresholds`",
    )
    spec = engine.spec
    steps, layers, size = len(ids), engine.config.layers, engine.config.hidden_size
    if unit is not None:
        check_integer("`unit`", unit, 0, size - 1)
    low, high = _limits(spec, thresholds)
    per_step = {
        name: np.empty((steps, layers, len(spec.reported))) for name in ("mean", "left", "right")
    }
    per_unit = {
        name: np.zeros((layers, len(spec.reported), size)) for name in ("mean", "left", "right")
    }
    log_kept = np.zeros((layers, size))
    bits = np.full(steps, np.nan)
    for piece in pieces(engine, ids, warmup, progress):
        activations = piece.trace.gates if spec.gates else piece.trace.states[:, :, :1]
        shut, open_ = activations < low, activations > high
        sizes = activations if spec.gates else np.abs(activations)
        for name, values in (("mean", sizes), ("left", shut), ("right", open_)):
            # Products with ones are several times faster than sums of booleans or to float64.
            numbers = values.astype(engine.dtype)
            counted = numbers if unit is None else numbers[..., unit : unit + 1]
            sums = counted @ np.ones(counted.shape[-1], engine.dtype)
            per_step[name][piece.positions] = sums.astype(np.float64) / counted.shape[-1]
            per_unit[name] += np.tensordot(np.ones(len(numbers), engine.dtype), numbers, 1)
        if spec.memory is not None:
            log_kept += log_memory(spec, piece.trace).sum(axis=0, dtype=np.float64)
        bits[piece.positions] = piece.bits
    with np.errstate(divide="ignore"):
        time_constant = -steps / np.minimum(log_kept, -0.0)
    return GateReport(
        cell=spec.name,
        gates=spec.reported,
        thresholds=thresholds,
        symbols=symbols,
        warmup=len(warmup),
        mean=per_step["mean"],
        left=per_step["left"],
        right=per_step["right"],
        unit_left=per_unit["left"] / steps,
        unit_right=per_unit["right"] / steps,
        unit_mean=per_unit["mean"] / steps,
        time_constant=None if spec.memory is None else time_constant,
        surprise_bits=bits,
    )


def findings(
    report: GateReport, layers: Iterable[int] | None = None, gates: tuple[str, ...] | None = None
) -> list[str]:
    """A sentence for each layer and gate, by default for all of them."""
    sentences: list[str] = []
    spec = CELLS[report.cell]
    low, high = "shut", "open"
    if not spec.gates:
        end = f"{report.limits[1]:g}"
        low, high = f"below −{end}", f"above {end}"
    shown = report.gates if gates is None else gates
    for layer in range(report.layers) if layers is None else layers:
        for gate in shown:
            g = report.gates.index(gate)
            left, right = report.unit_left[layer, g], report.unit_right[layer, g]
            always_open, always_shut = int((right > 0.9).sum()), int((left > 0.9).sum())
            balance = f"{_percent(left.mean())} {low}, {_percent(right.mean())} {high}"
            extremes = f"{plural(always_shut, 'unit')} always {low}, {always_open} always {high}"
            sentences.append(f"Layer {layer + 1}, {label(gate)}: {balance}; {extremes}.")
        if report.time_constant is not None and spec.memory in shown:
            tau = np.sort(report.time_constant[layer])
            median, longest = _characters(float(np.median(tau))), _characters(float(tau[-1]))
            sentences.append(
                f"Layer {layer + 1}, memory of {spec.states[-1]}: median {median} characters, "
                f"longest {longest}."
            )
    return sentences


def longest_memory(report: GateReport, layers: range, count: int) -> list[tuple[int, int, float]]:
    """The units of ``layers`` with the longest memory: (layer, unit, tau in characters)."""
    if report.time_constant is None:
        return []
    tau = report.time_constant[layers.start : layers.stop]
    order = np.argsort(-tau, axis=None, kind="stable")[:count]
    return [
        (layers[int(i) // tau.shape[1]], int(i) % tau.shape[1], float(tau.flat[i])) for i in order
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}%"


def _characters(tau: float) -> str:
    return "∞" if math.isinf(tau) else f"{tau:,.1f}"
