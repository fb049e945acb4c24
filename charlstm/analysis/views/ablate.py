"""``ablate``: how much the loss rises when one unit's output h is held constant."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import (
    FINDINGS,
    NOTES,
    Bar,
    Cell,
    Column,
    Document,
    Flagged,
    Heading,
    Lines,
    Table,
    number,
)
from charlstm.analysis.features import features_of
from charlstm.analysis.statistics import BLOCK, FEWEST, block_errors, ranks
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.trace import pieces
from charlstm.errors import CharlstmError
from charlstm.net.engine import Array, Engine, Hold, log_softmax
from charlstm.net.spec import layer_prefix
from charlstm.text.vocabulary import Ids

LONGEST = 2000
"""Most characters read: each unit costs a pass over the text."""
WARMUP = 200
UNITS = 12
"""Units ablated by default."""
AT_ONCE = 64
"""Variants of the model in one batch. Every batch is padded to this size, so that the matrix
products of all variants round alike."""
RARE = 20
"""Fewest characters at which a feature must hold."""
ERRORS = 2
"""Standard errors beyond which a change is clear."""


@dataclass(frozen=True)
class Ablation:
    """The change of the loss, in nats per character, for each of N ablated units."""

    units: tuple[tuple[int, int], ...]
    """(layer, unit) of each."""
    loss: float
    """Loss of the intact model."""
    mean: NDArray[np.float64]
    """(N,) change with h of the unit held at its mean over the text."""
    error: NDArray[np.float64]
    """(N,) standard error of ``mean``; NaN where the text is too short for one."""
    zero: NDArray[np.float64]
    """(N,) change with h of the unit held at 0."""
    where: dict[str, NDArray[np.float64]]
    """(N,) as ``mean``, but only over the characters where a feature holds."""


def influence(engine: Engine, weights: dict[str, Array], spread: Array) -> NDArray[np.float64]:
    """(L, H) influence of each unit: the deviation of h times the norm of its outgoing weights."""
    result = np.zeros(spread.shape)
    for layer in range(engine.config.layers):
        readers = [weights["output_weight"], weights[layer_prefix(layer) + "weight_hidden"]]
        if layer + 1 < engine.config.layers:
            readers.append(weights[layer_prefix(layer + 1) + "weight_input"])
        squares = sum((reader**2).sum(axis=0) for reader in readers)
        result[layer] = spread[layer] * np.sqrt(squares)
    return result


def chosen(
    h: NDArray[np.floating], features: list[NDArray[np.float64]], influences: NDArray[np.float64]
) -> list[tuple[int, int]]:
    """All units (layer, unit): first the closest tracker of each feature, then the others.

    Args:
        h: (T, L, H) the output of every unit.
        features: (T,) each.
        influences: (L, H), which orders the others, greatest first.
    """
    units = ranks(h.reshape(len(h), -1).T)
    trackers = [int(np.abs(units @ ranks(values[None])[0]).argmax()) for values in features]
    others = np.argsort(-influences, axis=None, kind="stable").tolist()
    size = influences.shape[1]
    return [divmod(unit, size) for unit in dict.fromkeys(trackers + others)]


def holding(variants: list[tuple[int, int, float]]) -> Hold:
    """A hook that holds h of each variant's unit, given as (layer, unit, value), in a batch."""
    by_layer: dict[int, tuple[Array, Array, Array]] = {}
    for layer in {layer for layer, _, _ in variants}:
        rows = [n for n, variant in enumerate(variants) if variant[0] == layer]
        units = [variants[n][1] for n in rows]
        values = [variants[n][2] for n in rows]
        by_layer[layer] = (np.array(rows), np.array(units), np.array(values))

    def hold(layer: int, new: Array) -> None:
        if layer in by_layer:
            rows, units, values = by_layer[layer]
            new[0, rows, units] = values

    return hold


def losses(
    engine: Engine,
    ids: Ids,
    warmup: Ids,
    variants: list[tuple[int, int, float]],
    progress: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """(B, T-1) nats of each character except the first, for each variant of the model.

    Units are held during the warm-up too. A variant with layer -1 holds none.
    """
    hold = holding(variants)
    state = engine.initial_state(len(variants))
    nats = np.empty((len(variants), len(ids) - 1))
    for symbol in warmup:
        _, state = engine.step(np.full(len(variants), symbol), state, hold)
    for t, symbol in enumerate(ids[:-1]):
        logits, state = engine.step(np.full(len(variants), symbol), state, hold)
        nats[:, t] = -log_softmax(logits)[:, ids[t + 1]]
        progress()
    return nats


def ablate(
    engine: Engine,
    ids: Ids,
    warmup: Ids,
    units: tuple[tuple[int, int], ...],
    means: NDArray[np.floating],
    features: dict[str, NDArray[np.float64]],
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Ablation:
    """Hold each of ``units`` at its mean (L, H) and at zero, and read the text again.

    ``progress`` is called with the characters read so far and their total.
    """
    changes: dict[str, list[NDArray[np.float64]]] = {"mean": [], "zero": []}
    asked = [(layer, unit, value) for layer, unit in units for value in (means[layer, unit], 0.0)]
    each = AT_ONCE - 1
    total = -(-len(asked) // each) * (len(ids) - 1)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    base = np.empty(0)
    for start in range(0, len(asked), each):
        variants = [(-1, 0, 0.0), *asked[start : start + each]]
        padded = variants + [(-1, 0, 0.0)] * (AT_ONCE - len(variants))
        nats = losses(engine, ids, warmup, padded, advance)
        base = nats[0]
        for n, change in enumerate(nats[1 : len(variants)] - base, start):
            changes["zero" if n % 2 else "mean"].append(change)
    held = np.array(changes["mean"])
    return Ablation(
        units=units,
        loss=float(base.mean()),
        mean=held.mean(axis=1),
        error=block_errors(held),
        zero=np.array(changes["zero"]).mean(axis=1),
        where={name: held[:, values[:-1] > 0].mean(axis=1) for name, values in features.items()},
    )


@dataclass(frozen=True)
class AblateView:
    """The loss without each of some units."""

    subject: Subject
    result: Ablation
    characters: int
    warmup: int

    def to_dict(self) -> dict[str, Any]:
        """The numbers of each unit."""
        result = self.result
        return {
            **self.subject.facts("ablate"),
            "characters": self.characters,
            "warmup": self.warmup,
            "state": "h",
            "loss": result.loss,
            "units": [
                {
                    "layer": layer,
                    "unit": unit,
                    "mean": float(result.mean[n]),
                    "mean_error": None if np.isnan(result.error[n]) else float(result.error[n]),
                    "zero": float(result.zero[n]),
                    "where": {name: float(change[n]) for name, change in result.where.items()},
                }
                for n, (layer, unit) in enumerate(result.units)
            ],
        }

    def document(self) -> Document:
        """A row for each unit, the greatest change first, and the feature that suffers most."""
        order = np.argsort(-self.result.mean, kind="stable")
        notes = (
            f"Each row ablates one unit. The numbers are changes of the loss from "
            f"{self.result.loss:.4f} nats per character; positive is worse.",
            "mean, zero: h of the unit is held at its mean over this text, or at 0.",
            f"error: standard error of ‘mean’, from blocks of {BLOCK} characters. ‘mean’ is "
            f"highlighted where it exceeds {ERRORS} standard errors.",
            "worst at, there: the feature whose characters suffer most from holding the unit at "
            "its mean, and the change at those characters.",
        )
        title = "Loss with h of one unit held constant"
        return Document(
            self.subject.title(title, self.characters, self.warmup),
            (
                self._table(order.tolist()),
                Heading(FINDINGS),
                Lines((self._sentence(int(order[0])),)),
                Heading(NOTES),
                Lines(notes, quiet=True),
            ),
        )

    def _table(self, order: list[int]) -> Table:
        result = self.result
        largest = max(float(np.abs(result.mean).max()), 1e-12)
        columns = (
            Column("layer", right=True),
            Column("unit", right=True),
            Column("mean", right=True),
            Column("error", right=True),
            Column("zero", right=True),
            Column("worst at"),
            Column("there", right=True),
            Column(""),
        )
        rows: list[tuple[Cell, ...]] = []
        for n in order:
            layer, unit = result.units[n]
            most = max(result.where, key=lambda name: float(result.where[name][n]), default="")
            change = number(float(result.mean[n]))
            rows.append(
                (
                    str(layer + 1),
                    str(unit),
                    Flagged(change) if self._is_clear(n) else change,
                    "" if np.isnan(result.error[n]) else f"{result.error[n]:.4f}",
                    number(float(result.zero[n])),
                    most,
                    number(float(result.where[most][n])) if most else "",
                    Bar(float(result.mean[n]) / largest),
                )
            )
        return Table(columns, tuple(rows))

    def _is_clear(self, n: int) -> bool:
        """Whether the loss rises by more than ``ERRORS`` standard errors; False without errors."""
        return bool(self.result.mean[n] > ERRORS * self.result.error[n])

    def _sentence(self, first: int) -> str:
        """Whether the greatest change is clear of chance."""
        (layer, unit), loss = self.result.units[first], self.result.loss
        change, error = float(self.result.mean[first]), float(self.result.error[first])
        if np.isnan(error):
            least = BLOCK * FEWEST + 1
            return (
                f"The text is too short for standard errors; {least} characters or more are needed."
            )
        name = f"layer {layer + 1} unit {unit}"
        if not self._is_clear(first):
            return (
                f"No unit tried has a clear effect: the greatest change, {number(change)} for "
                f"{name}, is within {ERRORS} standard errors."
            )
        return (
            f"Of the units tried, {name} matters most: without it the loss rises from {loss:.4f} "
            f"to {loss + change:.4f} nats."
        )


def view(subject: Subject, options: Options) -> AblateView:
    """Ablate the requested units, or the best tracker of each feature and the most influential."""
    ids, warmup = subject.ids[:LONGEST], subject.warmup[-WARMUP:]
    if len(ids) < 2:
        raise CharlstmError("ablate needs at least 2 characters", "give a longer text")
    read = pieces(subject.engine, ids, subject.warmup, subject.reading)
    h = np.concatenate([piece.trace.states[:, :, 0] for piece in read]).astype(np.float64)
    frequent = {
        feature.name: feature.values
        for feature in features_of(subject.text[: len(ids)], options.features)
        if (feature.values[:-1] > 0).sum() >= RARE
    }
    layers = list(range(h.shape[1])) if options.layer is None else [options.layer]
    if options.units:
        units = [(layer, unit) for layer in layers for unit in options.units]
    else:
        moved = influence(subject.engine, subject.model.file.weights, h.std(axis=0))
        order = chosen(h[:, layers], list(frequent.values()), moved[layers])
        units = [(layers[layer], unit) for layer, unit in order[: options.lines(UNITS)]]
    features = {
        name: (values > 0).astype(float)
        for name, values in frequent.items()
        if name not in ("position in line", "position in word")
    }

    def progress(done: int, total: int) -> None:
        subject.progress("ablating units", done, total)

    result = ablate(subject.engine, ids, warmup, tuple(units), h.mean(axis=0), features, progress)
    return AblateView(subject, result, len(ids), len(warmup))
