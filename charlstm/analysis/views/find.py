"""``find``: units that track a feature of the text, with a controlled false discovery rate.

The statistic of a unit and a feature is their rank correlation (Spearman's rho); for a feature of
zeros and ones the area under the ROC curve (AUC) is shown, which orders units alike. c is used
rather than tanh(c): their ranks are the same, and tanh of a large c rounds to 1. Characters of a
text are not independent: neighbours in either series are alike. So the null distribution comes from
shifting the feature circularly against the unit, by every amount except the smallest, which
preserves each series and breaks only the link between them. The p-values of all units and features
together go through the procedure of Benjamini & Hochberg (1995).

A unit may track a feature without training: among hundreds of random units, one responds to
capitals. So the best unit of an untrained net of the same shape is shown as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
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
from charlstm.analysis.features import Feature, features_of
from charlstm.analysis.statistics import (
    RATE,
    auc,
    discoveries,
    is_frequent,
    ranks,
    shifted_p,
    smooth_length,
)
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.units import LONGEST, read_units, saturated, saturation_lines
from charlstm.analysis.untrained import untrained_engine
from charlstm.errors import CharlstmError, plural

RARE = 20
"""A feature that holds (or fails) at fewer characters of either half is not tested."""
STRONG_AUC, STRONG_RHO = 0.9, 0.8
MARGIN = 1.4
"""How many times farther from chance than the untrained net's best a unit must be. If the units of
untrained nets are normal, the best of a few hundred exceeds 1.4 times its median in one net of 100.
"""
BEST = 3
"""Units listed for each feature."""


@dataclass(frozen=True)
class Association:
    """A unit that tracks a feature."""

    unit: int
    """Its row in ``values``."""
    p: float
    chosen: float
    """AUC or rho on the first half, which selected it."""
    held_out: float
    """AUC or rho on the second half."""


@dataclass(frozen=True)
class Found:
    """The units that track one feature."""

    feature: str
    is_count: bool
    rare: bool
    """Whether the feature is too rare to test."""
    discoveries: int
    """Units that pass the procedure."""
    best: tuple[Association, ...]
    """The strongest of them on the first half."""
    untrained: float | None = None
    """AUC or rho on the second half of an untrained net's unit, selected the same way."""
    untrained_discoveries: int = 0
    """Units of the untrained net that pass the procedure."""

    @property
    def strong(self) -> tuple[Association, ...]:
        """Those of the best that are strong on the second half, and clearly beat the untrained."""
        limit = STRONG_RHO if self.is_count else STRONG_AUC
        if self.untrained is not None:
            limit = max(limit, untrained_limit(self.untrained, self.is_count))
        return tuple(a for a in self.best if strength(a.held_out, self.is_count) > limit)


def strength(score: float, is_count: bool) -> float:
    """How strong an association is, whatever its direction."""
    return abs(score) if is_count else max(score, 1 - score)


def untrained_limit(untrained: float, is_count: bool) -> float:
    """The strength ``MARGIN`` times farther from chance than an untrained net's score.

    Distances are on a scale where chance is normal: the probit of an AUC, Fisher's z of rho.
    """
    known = min(strength(untrained, is_count), 1 - 1e-9)
    if is_count:
        return math.tanh(MARGIN * math.atanh(known))
    normal = NormalDist()
    return normal.cdf(MARGIN * normal.inv_cdf(known))


def find(
    values: NDArray[np.floating],
    features: tuple[Feature, ...],
    rate: float = RATE,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Found, ...]:
    """Which of the units track which features.

    Args:
        values: (N, T) of N units at T characters.
        features: of the same text.
        rate: accepted false discovery rate.
        progress: called with the number of units done.

    Returns:
        One ``Found`` for each feature: selected on the first half, scored on the second.
    """
    halves, testable = _testable(values.shape[1], features)
    tested: dict[str, tuple[Association, ...]] = {}
    counted: dict[str, int] = {}
    if testable:
        first = halves[0]
        known = np.array([f.values[first] for f in testable])
        rho, p = shifted_p(values[:, first], known, progress)
        passed = discoveries(p, rate)
        for n, feature in enumerate(testable):
            order = [int(u) for u in np.argsort(-np.abs(rho[:, n]), kind="stable") if passed[u, n]]
            counted[feature.name] = len(order)
            tested[feature.name] = tuple(
                Association(u, float(p[u, n]), *(_score(values[u], feature, h) for h in halves))
                for u in order[:BEST]
            )
    return tuple(
        Found(
            f.name,
            f.is_count,
            f.name not in tested,
            counted.get(f.name, 0),
            tested.get(f.name, ()),
        )
        for f in features
    )


def find_untrained(
    values: NDArray[np.floating],
    features: tuple[Feature, ...],
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, tuple[float, int]]:
    """How well units (N, T) of an untrained net seem to track each feature.

    By feature: AUC or rho on the second half of the unit that is best on the first, and the number
    of units that pass the procedure.
    """
    halves, testable = _testable(values.shape[1], features)
    if not testable:
        return {}
    known = np.array([f.values[halves[0]] for f in testable])
    rho, p = shifted_p(values[:, halves[0]], known, progress)
    best, counts = np.abs(rho).argmax(axis=0), discoveries(p).sum(axis=0)
    return {
        f.name: (_score(values[u], f, halves[1]), int(count))
        for f, u, count in zip(testable, best, counts, strict=True)
    }


def _testable(
    steps: int, features: tuple[Feature, ...]
) -> tuple[tuple[slice, slice], list[Feature]]:
    """The two halves of a text, and the features frequent enough in both."""
    half = smooth_length(steps // 2) if steps >= 2 * RARE else 0
    halves = (slice(0, half), slice(steps - half, steps))
    return halves, [
        f for f in features if half and all(is_frequent(f.values[p], RARE) for p in halves)
    ]


def _score(values: NDArray[np.floating], feature: Feature, part: slice) -> float:
    """AUC (rho for a count) of one unit (T,) and a feature over part of the text."""
    if not feature.is_count:
        return auc(values[part], feature.values[part])
    unit, known = ranks(np.array([values[part], feature.values[part]]))
    return float(unit @ known)


@dataclass(frozen=True)
class FindView:
    """The units that track each feature, with their scores."""

    subject: Subject
    found: tuple[Found, ...]
    state: str
    characters: int
    saturated: int
    """How many units are saturated almost everywhere."""

    def _unit(self, association: Association) -> tuple[int, int]:
        """(layer, unit)"""
        return divmod(association.unit, self.subject.engine.config.hidden_size)

    def to_dict(self) -> dict[str, Any]:
        """Every feature with its best units."""
        features = []
        for one in self.found:
            strong = one.strong
            best = []
            for a in one.best:
                layer, unit = self._unit(a)
                scores = {"p": a.p, "chosen": a.chosen, "held_out": a.held_out}
                best.append({"layer": layer, "unit": unit, **scores, "strong": a in strong})
            features.append(
                {
                    "feature": one.feature,
                    "measure": "rho" if one.is_count else "auc",
                    "too_rare": one.rare,
                    "discoveries": one.discoveries,
                    "untrained_discoveries": one.untrained_discoveries,
                    "untrained": one.untrained,
                    "best": best,
                }
            )
        return {
            **self.subject.facts("find"),
            "state": self.state,
            "saturated_units": self.saturated,
            "characters": self.characters,
            "false_discovery_rate": RATE,
            "features": features,
        }

    def document(self) -> Document:
        """A table of features and units, the findings, and how to read the table."""
        config = self.subject.engine.config
        columns = (
            Column("feature"),
            Column("units", right=True),
            Column("layer", right=True),
            Column("unit", right=True),
            Column("measure"),
            Column("chosen", right=True),
            Column("held out", right=True),
            Column("untrained", right=True),
            Column(""),
        )
        rows = tuple(row for one in self.found for row in self._rows(one))
        warning = saturation_lines(self.saturated, config.layers * config.hidden_size)
        return Document(
            self.subject.title(f"Units that track a feature, by {self.state}", self.characters),
            (
                Table(columns, rows),
                Heading(FINDINGS),
                Lines((*self._sentences(), *warning)),
                Heading(NOTES),
                Lines(self._notes(), quiet=True),
            ),
        )

    def _notes(self) -> tuple[str, ...]:
        return (
            "units: how many track the feature, in this net / in an untrained one, at a false "
            f"discovery rate of {RATE:.0%}. The {BEST} strongest are listed.",
            "AUC, for yes/no features: 1 if the unit is always higher where the feature holds, 0 "
            "if always lower, 0.5 for chance. rho, for counts: rank correlation.",
            "chosen: score on the first half of the text, where the units were chosen. held out: "
            "score on the second half, highlighted if strong. untrained: best held-out score of an "
            "untrained net.",
        )

    def _rows(self, one: Found) -> list[tuple[Cell, ...]]:
        """A row for each of the best units; the first also has what concerns the feature."""
        if one.rare or not one.best:
            counts = "too rare" if one.rare else f"0/{one.untrained_discoveries:,}"
            return [(one.feature, counts, "", "", "", "", "", "", "")]
        measure, form = ("rho", "+.3f") if one.is_count else ("AUC", ".3f")
        untrained = "" if one.untrained is None else number(one.untrained, form)
        strong = one.strong
        rows: list[tuple[Cell, ...]] = []
        for n, a in enumerate(one.best):
            layer, unit = self._unit(a)
            held_out = number(a.held_out, form)
            rows.append(
                (
                    "" if n else one.feature,
                    "" if n else f"{one.discoveries:,}/{one.untrained_discoveries:,}",
                    str(layer + 1),
                    str(unit),
                    measure,
                    number(a.chosen, form),
                    Flagged(held_out) if a in strong else held_out,
                    "" if n else untrained,
                    Bar(a.held_out if one.is_count else 2 * a.held_out - 1),
                )
            )
        return rows

    def _sentences(self) -> list[str]:
        sentences = []
        for one in self.found:
            for a in one.strong[:1]:
                layer, unit = self._unit(a)
                score = (
                    f"rho {number(a.held_out, '+.3f')}" if one.is_count else f"AUC {a.held_out:.3f}"
                )
                sentences.append(
                    f"Layer {layer + 1} unit {unit} tracks ‘{one.feature}’ ({score}, held out)."
                )
        return sentences or [
            "No single unit tracks any of these features strongly on held-out text."
        ]


def view(subject: Subject, options: Options) -> FindView:
    """Test every unit against every feature."""
    state = options.state_of(subject.spec)
    text = subject.text[:LONGEST]
    features = features_of(text, options.features)
    if len(text) < 2 * RARE:
        raise CharlstmError(
            f"the text has {plural(len(text), 'character')}, but find needs at least {2 * RARE}",
            "give several thousand",
        )
    config = subject.engine.config
    units = config.layers * config.hidden_size

    def comparing(done: int) -> None:
        subject.progress("comparing units", done, units)

    values = read_units(subject, state, engine=untrained_engine(config))
    untrained = find_untrained(values, features, comparing)
    values = read_units(subject, state)
    found = []
    for one in find(values, features, progress=comparing):
        score, count = untrained.get(one.feature, (None, 0))
        found.append(replace(one, untrained=score, untrained_discoveries=count))
    return FindView(subject, tuple(found), state, len(text), saturated(values))
