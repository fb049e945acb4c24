"""``probe``: what a linear probe reads from all units of a layer, with a control task.

A probe is a ridge regression from the standardised states to the feature, fitted on the first half
of the text and scored on the second. Its control task (Hewitt & Liang 2019) gives each sequence of
three characters a random label from the same distribution, the same wherever the sequence occurs: a
probe can learn these labels only by memorising. Selectivity is the difference. The states of an
untrained net are probed too: a random net also keeps much of what it read last.
"""

from collections.abc import Sequence
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
    Heading,
    Lines,
    Table,
    number,
)
from charlstm.analysis.features import Feature, features_of
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.units import LONGEST, read_units, saturated, saturation_lines
from charlstm.analysis.untrained import untrained_engine
from charlstm.analysis.views.cell import state_name
from charlstm.analysis.views.find import RARE
from charlstm.errors import CharlstmError, plural
from charlstm.text.vocabulary import Ids

RIDGE = 1e-3
"""Weight of the squared coefficients, over the mean square of the standardised states."""
TYPE = 3
"""Length of the character sequences that share a label in the control task."""
CLEAR = 0.1
"""A score that much above the control is more than memorised; above the untrained net's, trained.
Four untrained nets of 256 units differed by less, except for one score of 0.13.
"""


@dataclass(frozen=True)
class Probe:
    """How well a linear probe reads a feature from the states, on the second half of the text."""

    feature: str
    is_count: bool
    score: float
    """Balanced accuracy, the mean of the accuracies where the feature holds and where it does not:
    0.5 is chance. For a count, the correlation of prediction and truth: 0 is chance."""
    control: float
    """The same for random labels."""
    untrained: float
    """The same for the states of an untrained net."""

    @property
    def selectivity(self) -> float:
        """Score above the control task's."""
        return self.score - self.control

    @property
    def gain(self) -> float:
        """Score above the untrained net's."""
        return self.score - self.untrained


def control_labels(ids: Ids, values: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """(T,) a random one of ``values`` for each distinct sequence of ``TYPE`` characters."""
    random = np.random.default_rng(seed)
    padded = np.concatenate([np.full(TYPE - 1, -1), ids])
    rows = np.stack([padded[n : n + len(ids)] for n in range(TYPE)], axis=1)
    _, types = np.unique(rows, axis=0, return_inverse=True)
    sampled = random.choice(values, int(types.max()) + 1)
    labels: NDArray[np.float64] = sampled[types.ravel()]
    return labels


def scores(
    values: NDArray[np.floating], labels: Sequence[NDArray[np.float64]], counts: Sequence[bool]
) -> list[float]:
    """The score of a probe of the states (D, T) for each of the labels (T,)."""
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


def probe(
    values: NDArray[np.floating],
    untrained: NDArray[np.floating],
    ids: Ids,
    features: Sequence[Feature],
) -> tuple[Probe, ...]:
    """Probe the states (D, T) at the characters ``ids`` (T,) for each feature and its control.

    The states of an untrained net (D, T) are probed for each feature too.
    """
    half = len(ids) // 2

    def enough(labels: NDArray[np.float64], is_count: bool) -> bool:
        parts = (labels[:half], labels[half:])
        return all(
            len(np.unique(part)) > 1 if is_count else RARE <= part.sum() <= len(part) - RARE
            for part in parts
        )

    frequent = [f for f in features if enough(f.values, f.is_count)]
    controls = [control_labels(ids, f.values, seed) for seed, f in enumerate(frequent)]
    pairs = [
        (f, control)
        for f, control in zip(frequent, controls, strict=True)
        if enough(control, f.is_count)
    ]
    if not pairs:
        return ()
    labels = [f.values for f, _ in pairs]
    counts = [f.is_count for f, _ in pairs]
    scored = scores(values, labels + [control for _, control in pairs], counts + counts)
    columns = (scored[: len(pairs)], scored[len(pairs) :], scores(untrained, labels, counts))
    return tuple(
        Probe(f.name, f.is_count, *numbers)
        for (f, _), *numbers in zip(pairs, *columns, strict=True)
    )


@dataclass(frozen=True)
class ProbeView:
    """What probes read from the states of a layer, or of all layers."""

    subject: Subject
    probes: tuple[Probe, ...]
    state: str
    """The states probed: ``tanh(c)`` or ``h``."""
    layer: int | None
    """None for all layers together."""
    characters: int
    units: int
    saturated: int
    """How many units are saturated almost everywhere."""

    def to_dict(self) -> dict[str, Any]:
        """The scores of each feature."""
        return {
            **self.subject.facts("probe"),
            "characters": self.characters,
            "state": self.state,
            "saturated_units": self.saturated,
            "layer": self.layer,
            "features": [
                {
                    "feature": one.feature,
                    "measure": "correlation" if one.is_count else "balanced accuracy",
                    "score": one.score,
                    "control": one.control,
                    "selectivity": one.selectivity,
                    "untrained": one.untrained,
                }
                for one in self.probes
            ],
        }

    def document(self) -> Document:
        """A row for each feature, the findings, and how to read the table."""
        columns = (
            Column("feature"),
            Column("measure"),
            Column("score", right=True),
            Column("control", right=True),
            Column("untrained", right=True),
            Column("gain", right=True),
            Column(""),
        )
        rows: list[tuple[Cell, ...]] = [
            (
                one.feature,
                "correlation" if one.is_count else "accuracy",
                f"{one.score:.3f}",
                f"{one.control:.3f}",
                f"{one.untrained:.3f}",
                number(one.gain, "+.3f"),
                Bar(one.gain if one.is_count else 2 * one.gain),
            )
            for one in self.probes
        ]
        notes = (
            "A probe is a ridge regression on all units, fitted on the first half of the text and "
            "scored on the second.",
            "accuracy, for yes/no features: mean of the accuracies where the feature holds and "
            "where it does not; 0.5 is chance. correlation, for counts: between prediction and "
            "truth; 0 is chance.",
            f"control: score for random labels, one per sequence of {TYPE} characters (Hewitt & "
            "Liang 2019). A score above it is not just memorised.",
            "untrained: score for an untrained net of the same shape. gain: score minus untrained.",
        )
        where = "all layers" if self.layer is None else f"layer {self.layer + 1}"
        title = f"What a linear probe reads from {self.state} of {where}"
        warning = saturation_lines(self.saturated, self.units)
        return Document(
            self.subject.title(title, self.characters),
            (
                Table(columns, tuple(rows)),
                Heading(FINDINGS),
                Lines((*self._sentences(), *warning)),
                Heading(NOTES),
                Lines(notes, quiet=True),
            ),
        )

    def _sentences(self) -> list[str]:
        sentences = [
            f"The trained states encode ‘{one.feature}’: {one.score:.3f}, against "
            f"{one.untrained:.3f} untrained and {one.control:.3f} for random labels."
            for one in self.probes
            if min(one.gain, one.selectivity) > CLEAR
        ] or [f"No score exceeds both the untrained net and the control by {CLEAR:g}."]
        alike = [one.feature for one in self.probes if one.selectivity > CLEAR >= one.gain]
        if alike:
            names = ", ".join(f"‘{name}’" for name in alike)
            sentences.append(f"An untrained net does about as well, or better, on {names}.")
        return sentences


def view(subject: Subject, options: Options) -> ProbeView:
    """Probe the states of the requested layer, or of all layers together."""
    state = options.state_of(subject.spec)
    ids = subject.ids[:LONGEST]
    config = subject.engine.config
    if len(ids) < 4 * RARE:
        raise CharlstmError(
            f"the text has {plural(len(ids), 'character')}, but probe needs at least {4 * RARE}",
            "give several thousand",
        )
    size = config.hidden_size
    first, layers = (0, config.layers) if options.layer is None else (options.layer, 1)
    units = slice(first * size, (first + layers) * size)
    untrained = read_units(subject, state, engine=untrained_engine(config))[units]
    values = read_units(subject, state)[units]
    saturated_units = saturated(values)
    if state == "c":
        untrained, values = np.tanh(untrained), np.tanh(values)
    features = features_of(subject.text[:LONGEST], options.features)
    return ProbeView(
        subject,
        probe(values, untrained, ids, features),
        state_name(state),
        options.layer,
        len(ids),
        len(values),
        saturated_units,
    )
