"""``probe``: what all units of a layer know together: a linear probe per feature, and its control.

A probe is a ridge regression from the standardised states to the feature, fitted on the first half
of the text and judged on the second. Its control task (Hewitt & Liang 2019) gives every three
characters in a row a random label from the same distribution, the same wherever they occur: what
the probe can learn of that it has memorised. Selectivity is the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.views.blocks import Bar, Cell, Column, Document, Lines, Table, number
from charlstm.views.cell import state_name
from charlstm.views.features import Feature, features_of
from charlstm.views.find import LONGEST, RARE, read_units
from charlstm.views.subject import Options, Shown, Subject
from charlstm.vocab import Ids

RIDGE = 1e-3
"""Weight of the squared coefficients, as a share of the mean square of the standardised states."""
TYPE = 3
"""Characters in a row that have one label in the control task."""


@dataclass(frozen=True)
class Probe:
    """How well a feature can be read off the states, on the second half of the text."""

    feature: str
    is_count: bool
    score: float
    """Balanced accuracy, the mean over both answers of the share that is right: 0.5 is chance.
    For a count the correlation with what is predicted: 0 is chance."""
    control: float
    """The same for random labels."""

    @property
    def selectivity(self) -> float:
        """How much better the feature is read off than random labels."""
        return self.score - self.control


def control_labels(ids: Ids, values: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """A value for each character (T,), drawn from ``values`` for each ``TYPE`` of them in a row."""
    random = np.random.default_rng(seed)
    padded = np.concatenate([np.full(TYPE - 1, -1), ids])
    rows = np.stack([padded[n : n + len(ids)] for n in range(TYPE)], axis=1)
    _, types = np.unique(rows, axis=0, return_inverse=True)
    drawn = random.choice(values, int(types.max()) + 1)
    labels: NDArray[np.float64] = drawn[types.ravel()]
    return labels


def scores(
    values: NDArray[np.floating], labels: Sequence[NDArray[np.float64]], counts: Sequence[bool]
) -> list[float]:
    """What a probe of the states (D, T) scores on each of the labels (T,)."""
    half = values.shape[1] // 2
    fit, judge = values[:, :half].T.astype(np.float64), values[:, half:].T
    mean, spread = fit.mean(axis=0), fit.std(axis=0)
    spread[spread == 0] = 1
    fit = (fit - mean) / spread
    gram = fit.T @ fit + RIDGE * half * np.eye(fit.shape[1])
    targets = np.stack([label[:half] for label in labels], axis=1)
    offsets = targets.mean(axis=0)
    weights = np.linalg.solve(gram, fit.T @ (targets - offsets))
    predicted = ((judge - mean) / spread) @ weights + offsets
    fitted = fit @ weights + offsets
    result = []
    for n, (label, is_count) in enumerate(zip(labels, counts, strict=True)):
        truth = label[half:]
        if is_count:
            constant = not (truth.std() and predicted[:, n].std())
            result.append(0.0 if constant else float(np.corrcoef(predicted[:, n], truth)[0, 1]))
            continue
        holds = targets[:, n] > 0
        middle = (fitted[holds, n].mean() + fitted[~holds, n].mean()) / 2
        yes = predicted[:, n] > middle
        result.append(float((yes[truth > 0].mean() + (~yes)[truth <= 0].mean()) / 2))
    return result


def probe(values: NDArray[np.floating], ids: Ids, features: Sequence[Feature]) -> tuple[Probe, ...]:
    """Probe the states (D, T) at the characters ``ids`` (T,) for each feature and its control."""
    half = len(ids) // 2

    def enough(labels: NDArray[np.float64], is_count: bool) -> bool:
        parts = (labels[:half], labels[half:])
        return all(
            len(np.unique(part)) > 1 if is_count else RARE <= part.sum() <= len(part) - RARE
            for part in parts
        )

    there = [f for f in features if enough(f.values, f.is_count)]
    controls = [control_labels(ids, f.values, seed) for seed, f in enumerate(there)]
    kept = [n for n, f in enumerate(there) if enough(controls[n], f.is_count)]
    if not kept:
        return ()
    labels = [there[n].values for n in kept] + [controls[n] for n in kept]
    counts = [there[n].is_count for n in kept]
    scored = scores(values, labels, counts + counts)
    return tuple(
        Probe(there[n].name, there[n].is_count, scored[place], scored[place + len(kept)])
        for place, n in enumerate(kept)
    )


def view(subject: Subject, options: Options) -> Shown:
    """Probe the states of the layer asked for, or of all layers together."""
    state = options.state_of(subject.spec)
    ids = subject.ids[:LONGEST]
    config = subject.engine.config
    if len(ids) < 4 * RARE:
        raise CharlstmError(
            f"the text has {len(ids)} characters, and probe needs {4 * RARE} at least",
            "give some thousands: --file",
        )
    values = read_units(subject, state)
    if options.layer is not None:
        start = options.layer * config.hidden_size
        values = values[start : start + config.hidden_size]
    probes = probe(values, ids, features_of(subject.text[:LONGEST], options.features))
    data = {
        **subject.facts("probe"),
        "characters": len(ids),
        "state": state_name(state),
        "layer": options.layer,
        "features": [
            {
                "feature": one.feature,
                "measure": "correlation" if one.is_count else "balanced accuracy",
                "score": one.score,
                "control": one.control,
                "selectivity": one.selectivity,
            }
            for one in probes
        ],
    }
    where = "all layers" if options.layer is None else f"layer {options.layer + 1}"
    what = f"What a linear probe reads off {state_name(state)} of {where}"
    return Shown(lambda: document(subject.title(what), probes), lambda: data)


def document(title: str, probes: tuple[Probe, ...]) -> Document:
    """A row for each feature."""
    columns = (
        Column("feature"),
        Column("measure"),
        Column("score", right=True),
        Column("control", right=True),
        Column("selectivity", right=True),
        Column(""),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            one.feature,
            "correlation" if one.is_count else "accuracy",
            f"{one.score:.3f}",
            f"{one.control:.3f}",
            number(one.selectivity)[:6],
            Bar(one.selectivity if one.is_count else 2 * one.selectivity),
        )
        for one in probes
    ]
    notes = (
        "a ridge regression on all units, fitted on the first half of the text, judged on the "
        "second; accuracy: the mean of the shares right where the feature holds and where it does "
        "not, 0.5 is chance; correlation: with the count that is predicted, 0 is chance",
        f"control: the same for random labels that any {TYPE} characters in a row share "
        "(Hewitt & Liang 2019); what exceeds it, the selectivity, is not mere memory of characters",
    )
    return Document(title, (Lines(notes, quiet=True), Table(columns, tuple(rows))))
