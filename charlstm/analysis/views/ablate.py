"""``ablate``: how much worse the model gets when one unit's output h says nothing any more."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import (
    Bar,
    Cell,
    Column,
    Document,
    Heading,
    Lines,
    Strong,
    Table,
    number,
)
from charlstm.analysis.features import features_of
from charlstm.analysis.statistics import BLOCK, FEWEST, block_errors, ranks
from charlstm.analysis.subject import Options, Shown, Subject
from charlstm.analysis.trace import pieces
from charlstm.errors import CharlstmError
from charlstm.net.engine import Array, Engine, Hold, log_softmax
from charlstm.net.spec import layer_prefix
from charlstm.text.vocabulary import Ids

LONGEST = 2000
"""Characters read at most: each unit that is held costs a reading of its own."""
WARMUP = 200
UNITS = 12
"""How many units are held where none is named."""
AT_ONCE = 64
"""Variants of the model that read side by side; all blocks have this size, so that the products
of every variant are computed alike."""
RARE = 20


@dataclass(frozen=True)
class Ablation:
    """The change of the loss, in nats per character, for each of N units held still."""

    units: tuple[tuple[int, int], ...]
    """(layer, unit) of each."""
    loss: float
    """Of the model as it is."""
    mean: NDArray[np.float64]
    """(N,) change with h of the unit held at its mean over the text."""
    error: NDArray[np.float64]
    """(N,) standard error of ``mean``; NaN where the text is too short to tell."""
    zero: NDArray[np.float64]
    """(N,) change with h of the unit held at 0."""
    where: dict[str, NDArray[np.float64]]
    """(N,) as ``mean``, over the characters at which a feature holds."""


def influence(engine: Engine, weights: dict[str, Array], spread: Array) -> NDArray[np.float64]:
    """(L, H) how far each unit's h moves what reads it: its deviation times its weights' norm."""
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
    """All units (layer, unit): the one that goes with each feature most closely, then the others.

    Args:
        h: (T, L, H) the output of every unit.
        features: (T,) each.
        influences: (L, H), by which the others are in order.
    """
    units = ranks(h.reshape(len(h), -1).T)
    trackers = [int(np.abs(units @ ranks(values[None])[0]).argmax()) for values in features]
    others = np.argsort(-influences, axis=None, kind="stable").tolist()
    size = influences.shape[1]
    return [divmod(unit, size) for unit in dict.fromkeys(trackers + others)]


def holding(variants: list[tuple[int, int, float]]) -> Hold:
    """What holds h of each variant's unit (layer, unit, value) while all read side by side."""
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
    """(B, T-1) nats of each character but the first, for each variant of the model.

    The unit is held during the warm-up as well. A variant of layer -1 holds nothing.
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
    """Hold each of ``units`` at its mean (L, H) and at zero, and read the text again."""
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
        some = [(-1, 0, 0.0), *asked[start : start + each]]
        padded = some + [(-1, 0, 0.0)] * (AT_ONCE - len(some))
        nats = losses(engine, ids, warmup, padded, advance)
        base = nats[0]
        for n, change in enumerate(nats[1 : len(some)] - base, start):
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


def view(subject: Subject, options: Options) -> Shown:
    """Hold the units asked for, or the best tracker of each feature and the most influential."""
    ids, warmup = subject.ids[:LONGEST], subject.warmup[-WARMUP:]
    if len(ids) < 2:
        raise CharlstmError("ablate needs 2 characters at least", "give a longer text")
    config = subject.engine.config
    read = pieces(subject.engine, ids, subject.warmup, subject.reading)
    h = np.concatenate([piece.trace.states[:, :, 0] for piece in read]).astype(np.float64)
    means = h.mean(axis=0)
    known = {
        feature.name: feature.values
        for feature in features_of(subject.text[: len(ids)], options.features)
        if (feature.values[:-1] > 0).sum() >= RARE
    }
    shown = list(range(config.layers)) if options.layer is None else [options.layer]
    if options.units:
        units = tuple((layer, unit) for layer in shown for unit in options.units)
    else:
        moved = influence(subject.engine, subject.model.file.weights, h.std(axis=0))
        order = chosen(h[:, shown], list(known.values()), moved[shown])[: options.lines(UNITS)]
        units = tuple((shown[layer], unit) for layer, unit in order)
    features = {
        name: (values > 0).astype(float)
        for name, values in known.items()
        if name not in ("position in line", "position in word")
    }

    def progress(done: int, of: int) -> None:
        subject.progress("reading with units held", done, of)

    result = ablate(subject.engine, ids, warmup, units, means, features, progress)
    data = {
        **subject.facts("ablate"),
        "characters": len(ids),
        "warmup": len(warmup),
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
            for n, (layer, unit) in enumerate(units)
        ],
    }
    return Shown(lambda: document(subject, result, len(ids)), lambda: data)


def document(subject: Subject, result: Ablation, characters: int) -> Document:
    """A row for each unit, the one that is missed most at the top, and where it is missed."""
    order = np.argsort(-result.mean, kind="stable")
    largest = max(float(np.abs(result.mean).max()), 1e-12)
    columns = (
        Column("layer", right=True),
        Column("unit", right=True),
        Column("mean", right=True),
        Column("error", right=True),
        Column("zero", right=True),
        Column("most where", right=False),
        Column("there", right=True),
        Column(""),
    )
    rows: list[tuple[Cell, ...]] = []
    for n in order:
        layer, unit = result.units[n]
        most = max(result.where, key=lambda name: float(result.where[name][n]), default="")
        there = number(float(result.where[most][n])) if most else ""
        rows.append(
            (
                str(layer + 1),
                str(unit),
                Strong(number(float(result.mean[n]))),
                "" if np.isnan(result.error[n]) else f"{result.error[n]:.4f}",
                number(float(result.zero[n])),
                most,
                there,
                Bar(float(result.mean[n]) / largest),
            )
        )
    first = int(order[0])
    layer, unit = result.units[first]
    notes = (
        f"change of the loss in nats per character, {result.loss:.4f} as it is, when h of one unit "
        "is held at its mean over this text, and when it is held at zero; error: the standard "
        f"error of the former, from means over {BLOCK} characters each",
        "most where: the feature at whose characters the unit held at its mean is missed most; "
        "there: the change of the loss at those",
    )
    change, error = float(result.mean[first]), float(result.error[first])
    name = f"Of the units tried layer {layer + 1} unit {unit}"
    if np.isnan(error):
        least = BLOCK * FEWEST + 1
        told = f"The text is too short to tell what is missed: give {least} characters at least."
    elif change > 2 * error:
        told = (
            f"{name} is missed most: without it the loss is "
            f"{result.loss + change:.4f} instead of {result.loss:.4f} nats."
        )
    else:
        told = (
            f"{name} has the greatest change, but {number(change)} is not beyond two standard "
            "errors."
        )
    warmup = min(WARMUP, len(subject.warmup))
    return Document(
        subject.title("What is lost with h of one unit held still", characters, warmup),
        (
            Lines(notes, quiet=True),
            Table(columns, tuple(rows)),
            Heading("What follows"),
            Lines((told,)),
        ),
    )
