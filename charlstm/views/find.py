"""``find``: which units track something, with error rates under control.

The statistic of a unit and a feature is the correlation of their ranks (Spearman's rho); for a
feature of zeros and ones the area under the ROC curve (AUC) is told, which orders units alike. A
text is no independent sample: both series go on and on alike. So the null distribution comes from
shifting the feature circularly against the unit, by every amount but the smallest, which leaves
each series as it is and breaks only the tie between them. The p-values of all units and features
together go through the procedure of Benjamini & Hochberg (1995).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.reading import pieces
from charlstm.views.blocks import (
    Bar,
    Block,
    Cell,
    Column,
    Document,
    Heading,
    Lines,
    Loud,
    Table,
    number,
)
from charlstm.views.cell import state_name, unit_values
from charlstm.views.features import Feature, features_of
from charlstm.views.subject import Options, Shown, Subject

LONGEST = 100_000
"""Characters read at most: all units' values at all of them are kept."""
RATE = 0.05
"""Share of false discoveries that is accepted."""
LEAST_SHIFT = 0.02
"""The smallest shift of the null distribution, as a share of the text."""
RARE = 20
"""A feature that holds, or fails, at fewer characters of a half is left out."""
STRONG_AUC, STRONG_RHO = 0.9, 0.8
BEST = 3
"""Units listed for each feature."""
UNITS_AT_ONCE = 32


@dataclass(frozen=True)
class Association:
    """A unit that tracks a feature."""

    unit: int
    """Its number in ``values``."""
    p: float
    chosen: float
    """AUC or rho on the first half, by which it was chosen."""
    held_out: float
    """AUC or rho on the second half."""


@dataclass(frozen=True)
class Found:
    """What units track one feature."""

    feature: str
    is_count: bool
    rare: bool
    """Whether there is too little of the feature to tell."""
    discoveries: int
    """Units that pass the procedure."""
    best: tuple[Association, ...]
    """Those of them with the greatest statistic on the first half."""

    @property
    def strong(self) -> tuple[Association, ...]:
        """Those of the best that hold on the second half."""
        limit = STRONG_RHO if self.is_count else STRONG_AUC
        return tuple(a for a in self.best if strength(a.held_out, self.is_count) >= limit)


def strength(score: float, is_count: bool) -> float:
    """How strong an association is, whatever its direction."""
    return abs(score) if is_count else max(score, 1 - score)


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks (N, T) of the rows, ties sharing their mean, centred and of length 1.

    A row that is constant becomes zeros.
    """
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    rows, steps = values.shape
    new = np.ones((rows, steps), dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    places = np.broadcast_to(np.arange(steps), (rows, steps))
    first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    ends = np.ones_like(new)
    ends[:, :-1] = new[:, 1:]
    last = np.minimum.accumulate(np.where(ends, places, steps)[:, ::-1], axis=1)[:, ::-1]
    result = np.empty((rows, steps))
    np.put_along_axis(result, order, (first + last) / 2, axis=1)
    result -= result.mean(axis=1, keepdims=True)
    length = np.sqrt((result**2).sum(axis=1, keepdims=True))
    return result / np.where(length > 0, length, 1)


def auc(values: NDArray[np.floating], labels: NDArray[np.float64]) -> float:
    """How often a value (T,) is higher where the label is 1 than where it is 0; ties are half."""
    ones = labels > 0
    ordered = np.sort(values[~ones])
    below = np.searchsorted(ordered, values[ones], "left")
    up_to = np.searchsorted(ordered, values[ones], "right")
    return float((below + up_to).mean() / 2 / len(ordered))


def smooth_length(longest: int) -> int:
    """The greatest number up to ``longest`` that is a product of 2, 3 and 5: quick to transform."""
    best = 1
    five = 1
    while five <= longest:
        three = five
        while three <= longest:
            best = max(best, three << (longest // three).bit_length() - 1)
            three *= 3
        five *= 5
    return best


def shifted_p(
    values: NDArray[np.floating],
    features: NDArray[np.float64],
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rank correlations (N, F) of units (N, T) and features (F, T), and their p-values.

    p is the share of circular shifts, the unshifted one among them, with as great a correlation
    in size. All shifts at once are a product of Fourier transforms.
    """
    count, steps = values.shape
    least = max(1, int(LEAST_SHIFT * steps))
    known = ranks(features)
    transformed = np.conj(np.fft.rfft(known, axis=1))
    rho = np.empty((count, len(features)))
    p = np.empty_like(rho)
    for start in range(0, count, UNITS_AT_ONCE):
        some = slice(start, start + UNITS_AT_ONCE)
        units = ranks(values[some])
        rho[some] = units @ known.T
        spectra = np.fft.rfft(units, axis=1)
        for f in range(len(features)):
            shifted = np.fft.irfft(spectra * transformed[f], n=steps, axis=1)
            null = np.abs(shifted[:, least : steps - least + 1])
            reached = (null >= np.abs(rho[some, f, None]) - 1e-12).sum(axis=1)
            p[some, f] = (1 + reached) / (1 + null.shape[1])
        progress(min(count, start + UNITS_AT_ONCE))
    return rho, p


def discoveries(p: NDArray[np.float64], rate: float = RATE) -> NDArray[np.bool_]:
    """Which of all p-values together pass the step-up procedure of Benjamini & Hochberg."""
    flat = np.sort(p, axis=None)
    passed = np.flatnonzero(flat <= rate * np.arange(1, flat.size + 1) / flat.size)
    return p <= flat[passed[-1]] if len(passed) else np.zeros(p.shape, dtype=bool)


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
        rate: the share of false discoveries that is accepted.
        progress: is told how many units are done.

    Returns:
        One ``Found`` for each feature: chosen on the first half of the text, told on the second.
    """
    half = smooth_length(values.shape[1] // 2) if values.shape[1] >= 2 * RARE else 0
    halves = (slice(0, half), slice(values.shape[1] - half, values.shape[1]))
    there = [f for f in features if half and all(_enough(f.values[part]) for part in halves)]
    tested: dict[str, tuple[Association, ...]] = {}
    counted: dict[str, int] = {}
    if there:
        first = halves[0]
        known = np.array([f.values[first] for f in there])
        rho, p = shifted_p(values[:, first], known, progress)
        passed = discoveries(p, rate)
        for n, feature in enumerate(there):
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


def _score(values: NDArray[np.floating], feature: Feature, part: slice) -> float:
    """AUC, or rho of a count, of one unit (T,) and a feature over a part of the text."""
    if not feature.is_count:
        return auc(values[part], feature.values[part])
    unit, known = ranks(np.array([values[part], feature.values[part]]))
    return float(unit @ known)


def _enough(values: NDArray[np.float64]) -> bool:
    """Whether the commonest value leaves enough others."""
    return len(values) - int(np.unique(values, return_counts=True)[1].max()) >= RARE


def read_units(subject: Subject, state: str, longest: int = LONGEST) -> NDArray[np.float32]:
    """(L*H, T) the values of all units at the first ``longest`` characters of the text."""
    ids = subject.ids[:longest]
    config = subject.engine.config
    values = np.empty((config.layers * config.hidden_size, len(ids)), np.float32)
    for piece in pieces(subject.engine, ids, subject.warmup, subject.reading):
        some = unit_values(subject.spec, piece.trace, state)
        values[:, piece.places] = some.reshape(len(some), -1).T
    return values


def view(subject: Subject, options: Options) -> Shown:
    """Look for every feature in every unit."""
    state = options.state_of(subject.spec)
    text = subject.text[:LONGEST]
    features = features_of(text, options.features)
    if len(text) < 2 * RARE:
        raise CharlstmError(
            f"the text has {len(text)} characters, and find needs {2 * RARE} at least",
            "give some thousands: --file",
        )
    values = read_units(subject, state)

    def comparing(done: int) -> None:
        subject.progress("comparing units", done, len(values))

    found = find(values, features, progress=comparing)
    size = subject.engine.config.hidden_size
    data = {
        **subject.facts("find"),
        "state": state_name(state),
        "characters": len(text),
        "false_discovery_rate": RATE,
        "features": [
            {
                "feature": one.feature,
                "measure": "rho" if one.is_count else "auc",
                "too_rare": one.rare,
                "discoveries": one.discoveries,
                "best": [
                    {
                        "layer": a.unit // size,
                        "unit": a.unit % size,
                        "p": a.p,
                        "chosen": a.chosen,
                        "held_out": a.held_out,
                    }
                    for a in one.best
                ],
            }
            for one in found
        ],
    }
    return Shown(lambda: document(subject, found, state_name(state), len(text)), lambda: data)


def document(subject: Subject, found: tuple[Found, ...], state: str, characters: int) -> Document:
    """A table of features and units, and how the numbers came about."""
    size = subject.engine.config.hidden_size
    columns = (
        Column("feature"),
        Column("units", right=True),
        Column("layer", right=True),
        Column("unit", right=True),
        Column("measure"),
        Column("chosen", right=True),
        Column("held out", right=True),
        Column(""),
    )
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        measure = "rho" if one.is_count else "AUC"
        if one.rare or not one.best:
            said = "too rare" if one.rare else "0"
            rows.append((one.feature, said, "", "", "", "", "", ""))
        for n, a in enumerate(one.best):
            told = f"{a.held_out:+.3f}" if one.is_count else f"{a.held_out:.3f}"
            chosen = f"{a.chosen:+.3f}" if one.is_count else f"{a.chosen:.3f}"
            rows.append(
                (
                    "" if n else one.feature,
                    "" if n else f"{one.discoveries:,}",
                    str(a.unit // size + 1),
                    str(a.unit % size),
                    measure,
                    chosen,
                    Loud(told) if a in one.strong else told,
                    Bar(a.held_out if one.is_count else 2 * a.held_out - 1),
                )
            )
    strong = [(one, one.strong[0]) for one in found if one.strong]
    named = [
        f"Layer {a.unit // size + 1} unit {a.unit % size} tracks ‘{one.feature}’: "
        + (f"rho {number(a.held_out)[:6]}" if one.is_count else f"AUC {a.held_out:.3f}")
        + " on text that it was not chosen on."
        for one, a in strong
    ] or ["No unit by itself tracks one of these closely on text that it was not chosen on."]
    notes = (
        f"units: how many track the feature, at most {RATE:.0%} of them by chance "
        "(Benjamini & Hochberg over all units and features, null by circular shifts)",
        "AUC: 1 the unit is higher wherever the feature holds, 0 lower, 0.5 no relation; rho: "
        "Spearman's rank correlation, for counts",
        f"chosen on the first half of {characters:,} characters, held out on the second; "
        f"bold from AUC {STRONG_AUC:g} (or {1 - STRONG_AUC:.1g}) and rho ±{STRONG_RHO:g} on",
    )
    blocks: list[Block] = [
        Lines(notes, quiet=True),
        Table(columns, tuple(rows)),
        Heading("What was found"),
        Lines(tuple(named)),
    ]
    return Document(subject.title(f"What {state} of the units tracks"), tuple(blocks))
