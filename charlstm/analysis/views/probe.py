"""``probe``: what all units of a layer know together: a linear probe per feature, and its control.

A probe is a ridge regression from the standardised states to the feature, fitted on the first half
of the text and judged on the second. Its control task (Hewitt & Liang 2019) gives every three
characters in a row a random label from the same distribution, the same wherever they occur: what
the probe can learn of that it has memorised. Selectivity is the difference. And the states of a
net that has learnt nothing are probed alike: a random net, too, keeps much of what it read last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import Bar, Cell, Column, Document, Heading, Lines, Table, number
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
"""Characters in a row that have one label in the control task."""
LEARNT = 0.1
"""A score as far above the control counts as more than memory, above the untrained net's as learnt.
Four untrained nets of 256 units differed by less but for one score of 0.13.
"""


@dataclass(frozen=True)
class Probe:
    """How well a feature can be read off the states, on the second half of the text."""

    feature: str
    is_count: bool
    score: float
    """Balanced accuracy, the mean over both answers of the fraction that is right: 0.5 is chance.
    For a count the correlation with what is predicted: 0 is chance."""
    control: float
    """The same for random labels."""
    untrained: float
    """The same for the states of an untrained net."""

    @property
    def selectivity(self) -> float:
        """How much better the feature is read off than random labels."""
        return self.score - self.control

    @property
    def learnt(self) -> float:
        """How much better the feature is read off than off an untrained net."""
        return self.score - self.untrained


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


def probe(
    values: NDArray[np.floating],
    untrained: NDArray[np.floating],
    ids: Ids,
    features: Sequence[Feature],
) -> tuple[Probe, ...]:
    """Probe the states (D, T) at the characters ``ids`` (T,) for each feature and its control.

    And those of an untrained net (D, T), for each feature.
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
    """What was read off the states of a layer, or of all layers."""

    subject: Subject
    probes: tuple[Probe, ...]
    state: str
    """What the states are: ``tanh(c)`` or ``h``."""
    layer: int | None
    """None for all layers together."""
    characters: int
    units: int
    saturated: int
    """Units that are saturated nearly everywhere."""

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
        """A row for each feature, and what was learnt."""
        columns = (
            Column("feature"),
            Column("measure"),
            Column("score", right=True),
            Column("control", right=True),
            Column("untrained", right=True),
            Column("learnt", right=True),
            Column(""),
        )
        rows: list[tuple[Cell, ...]] = [
            (
                one.feature,
                "correlation" if one.is_count else "accuracy",
                f"{one.score:.3f}",
                f"{one.control:.3f}",
                f"{one.untrained:.3f}",
                number(one.learnt, "+.3f"),
                Bar(one.learnt if one.is_count else 2 * one.learnt),
            )
            for one in self.probes
        ]
        notes = (
            "a ridge regression on all units, fitted on the first half of the text, judged on the "
            "second; accuracy: the mean of the shares right where the feature holds and where it "
            "does not, 0.5 is chance; correlation: with the count that is predicted, 0 is chance",
            f"control: the same for random labels that any {TYPE} characters in a row share "
            "(Hewitt & Liang 2019); what exceeds it, the selectivity, is not mere memory of "
            "characters",
            "untrained: the same for the feature and a net of this shape that has learnt nothing; "
            "learnt: by how much the score exceeds that",
        )
        where = "all layers" if self.layer is None else f"layer {self.layer + 1}"
        title = f"What a linear probe reads off {self.state} of {where}"
        warning = saturation_lines(self.saturated, self.units)
        return Document(
            self.subject.title(title, self.characters),
            (
                Lines(notes, quiet=True),
                Table(columns, tuple(rows)),
                Heading("What was found"),
                Lines((*self._sentences(), *warning)),
            ),
        )

    def _sentences(self) -> list[str]:
        sentences = [
            f"‘{one.feature}’ was learnt: {one.score:.3f}, {one.untrained:.3f} untrained, "
            f"{one.control:.3f} for random labels."
            for one in self.probes
            if min(one.learnt, one.selectivity) > LEARNT
        ] or [f"Nothing is read off by {LEARNT:g} better than untrained and than random labels."]
        alike = [one.feature for one in self.probes if one.selectivity > LEARNT >= one.learnt]
        if alike:
            names = ", ".join(f"‘{name}’" for name in alike)
            sentences.append(f"An untrained net gives nearly as much, or more, of {names}.")
        return sentences


def view(subject: Subject, options: Options) -> ProbeView:
    """Probe the states of the layer asked for, or of all layers together."""
    state = options.state_of(subject.spec)
    ids = subject.ids[:LONGEST]
    config = subject.engine.config
    if len(ids) < 4 * RARE:
        raise CharlstmError(
            f"the text has {plural(len(ids), 'character')}, and probe needs {4 * RARE} at least",
            "give some thousands",
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
