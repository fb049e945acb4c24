"""``context``: how far back the model uses the text, with its state h and c built from less of it.

The loss at many positions when the model has read only the last n characters before each, either
from zero state (cut) or after characters of the text in random order (shuffled); after Khandelwal
et al. (2018), Sharp Nearby, Fuzzy Far Away. Each loss is measured as a difference from the loss
with the whole history at the same positions, which varies far less than the loss itself. The view
also gives the probability of closing marks where they occur, by the distance to their opening mark.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import (
    FINDINGS,
    MINUS,
    NOTES,
    Cell,
    Column,
    Document,
    Heading,
    Lines,
    Plot,
    Plots,
    Series,
    Table,
    colored,
    log_ticks,
    number,
    span,
)
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.trace import pieces
from charlstm.errors import CharlstmError, plural
from charlstm.net.engine import Array, Engine, log_softmax
from charlstm.text.marks import BRACKETS, QUOTES
from charlstm.text.vocabulary import Ids

POSITIONS, FEW = 1024, 256
"""Positions measured for histories of up to ``NEARBY`` characters, and for everything else: with n,
differences get smaller and cost more."""
NEARBY = 64
LONGEST = 256
SHUFFLED = 128
"""Characters in random order before the last n."""
NEAR = 0.01
"""A history suffices if its loss, two standard errors included, is within this many nats of the
whole history's."""
BINS = (1, 4, 16, 64, 256)
"""Smallest distance of each bin."""


@dataclass(frozen=True)
class Context:
    """Losses in nats per character for K lengths of history.

    Each is ``whole`` plus the mean difference from it at the same positions.
    """

    lengths: tuple[int, ...]
    positions: tuple[int, ...]
    """(K,) number of positions at which each is cut."""
    cut: NDArray[np.float64]
    """(K,) loss with only the last n characters."""
    errors: NDArray[np.float64]
    """(K,) standard errors of ``cut - whole``."""
    shuffled: NDArray[np.float64]
    """(K,) loss with characters in random order before them."""
    before: int
    """Number of characters in random order."""
    whole: float
    """Loss with the whole history, at all positions."""
    closings: tuple[tuple[str, int, int, float], ...]
    """(closing mark, smallest distance of the bin, count, mean probability where it occurs)."""

    @property
    def used(self) -> int | None:
        """The shortest length from which on the loss stays within ``NEAR`` of ``whole``, if any."""
        used = None
        furthest = np.abs(self.cut - self.whole) + 2 * self.errors
        for length, far in zip(reversed(self.lengths), furthest[::-1], strict=True):
            if far > NEAR:
                break
            used = length
        return used


def losses_after(
    engine: Engine, ids: Ids, positions: Array, length: int, state: Array
) -> NDArray[np.float64]:
    """(N,) nats of the characters at ``positions``, after ``length`` others, from ``state``."""
    logits = np.empty(0)
    for back in range(length, 0, -1):
        logits, state = engine.step(ids[positions - back], state)
    return -log_softmax(logits)[np.arange(len(positions)), ids[positions]]


def closings(text: str, bits: NDArray[np.float64]) -> tuple[tuple[str, int, int, float], ...]:
    """Mean probability of closing marks where they occur, by distance from the opening mark.

    A mark that may open or close, such as ``"``, closes if a matching one is open.
    """
    pairs = BRACKETS | QUOTES
    opened: dict[str, int] = {}  # keyed by the closing mark
    seen: dict[tuple[str, int], list[float]] = {}
    for t, character in enumerate(text):
        if character in opened and not math.isnan(bits[t]):
            distance = t - opened.pop(character)
            least = max(b for b in BINS if b <= distance)
            seen.setdefault((character, least), []).append(2.0 ** -bits[t])
        elif character in pairs:
            opened[pairs[character]] = t
        elif text[t - 1 : t + 1] == "\n\n":
            opened.clear()
    return tuple(
        (mark, least, len(ps), float(np.mean(ps))) for (mark, least), ps in sorted(seen.items())
    )


def measure(subject: Subject, seed: int = 0) -> Context:
    """Measure at up to ``POSITIONS`` evenly spread positions, and at ``FEW`` of them."""
    engine, ids = subject.engine, subject.ids
    longest = min(LONGEST, 1 << max(0, (len(ids) // 4)).bit_length() - 1) if len(ids) >= 8 else 0
    others = min(SHUFFLED, longest)
    before = longest + others
    if longest < 2:
        raise CharlstmError(
            f"the text has {plural(len(ids), 'character')}, but context needs at least 8",
            "give several thousand",
        )
    lengths = tuple(2**n for n in range(longest.bit_length()))
    most = min(POSITIONS, len(ids) - before)
    positions = np.linspace(before, len(ids) - 1, most).astype(np.int64)
    few = positions[:: max(1, len(positions) // FEW)]
    bits = np.empty(len(ids))
    for piece in pieces(engine, ids, subject.warmup, subject.reading):
        bits[piece.positions] = piece.bits
    nats = bits * math.log(2)
    whole = float(nats[positions].mean())
    random = np.random.default_rng(seed)
    disordered = engine.initial_state(len(few))
    order = random.permuted(np.tile(np.arange(longest + 1, before + 1), (len(few), 1)), axis=1)
    for back in order.T:
        _, disordered = engine.step(ids[few - back], disordered)
    cut, errors, shuffled = np.empty((3, len(lengths)))
    at = [positions if length <= NEARBY else few for length in lengths]
    steps = np.cumsum(
        [0, *(n * (len(cuts) + len(few)) for n, cuts in zip(lengths, at, strict=True))]
    )
    for k, (length, cuts) in enumerate(zip(lengths, at, strict=True)):
        subject.progress("cutting histories", int(steps[k]), int(steps[-1]))
        cold = engine.initial_state(len(cuts))
        more = losses_after(engine, ids, cuts, length, cold) - nats[cuts]
        cut[k] = whole + more.mean()
        errors[k] = more.std(ddof=1) / math.sqrt(len(cuts))
        mixed = losses_after(engine, ids, few, length, disordered) - nats[few]
        shuffled[k] = whole + mixed.mean()
    return Context(
        lengths=lengths,
        positions=tuple(map(len, at)),
        cut=cut,
        errors=errors,
        shuffled=shuffled,
        before=others,
        whole=whole,
        closings=closings(subject.text, bits),
    )


@dataclass(frozen=True)
class ContextView:
    """How much the history lowers the loss."""

    subject: Subject
    context: Context

    def to_dict(self) -> dict[str, Any]:
        """The curves and the closing marks."""
        context = self.context
        return {
            **self.subject.facts("context"),
            "state": list(self.subject.spec.states),
            "lengths": list(context.lengths),
            "places": list(context.positions),
            "cut": context.cut.tolist(),
            "cut_minus_whole_error": context.errors.tolist(),
            "shuffled": context.shuffled.tolist(),
            "shuffled_before": context.before,
            "whole": context.whole,
            "closings": [
                {"mark": mark, "distance_from": least, "count": count, "p": p}
                for mark, least, count, p in context.closings
            ],
        }

    def document(self) -> Document:
        """The curves, a table of them, a table of closing marks, and notes."""
        context, names = self.context, self.subject.spec.states
        states = " and ".join(names)
        need, are = ("need", "are") if len(names) > 1 else ("needs", "is")
        most, few = context.positions[0], context.positions[-1]
        where = f"Losses in nats per character at {most:,} positions spread over the text"
        if few < most:
            where += f" ({few:,} of them for n > {NEARBY} and for ‘shuffled’)"
        notes = (
            f"{where}.",
            f"cut: the model reads only the last n characters; {states} {are} zero before them. "
            f"error: standard error of cut {MINUS} whole.",
            f"shuffled: before the last n characters the model reads {context.before} of the "
            "text's characters in random order.",
        )
        within = f"within {NEAR:g} nats of the whole history, two standard errors included."
        used = (
            f"No history of up to {plural(context.lengths[-1], 'character')} comes {within}"
            if context.used is None
            else f"A history of {plural(context.used, 'character')} comes {within}"
        )
        return Document(
            self.subject.title(f"How much history {states} {need}"),
            (
                Plots((_curves(context),)),
                _table(context),
                *_closing_blocks(context),
                Heading(FINDINGS),
                Lines((used,)),
                Heading(NOTES),
                Lines(notes, quiet=True),
            ),
        )


def view(subject: Subject, options: Options) -> ContextView:
    """Losses by length of history, and closing marks by distance from their opening."""
    del options
    return ContextView(subject, measure(subject))


def _curves(context: Context) -> Plot:
    x = [math.log2(n) for n in context.lengths]
    series = (
        Series("last n only", x, context.cut.tolist(), colored(0)),
        Series("shuffled text, then the last n", x, context.shuffled.tolist(), colored(1)),
        Series("whole history", [x[0], x[-1]], [context.whole] * 2, colored(2)),
    )
    return Plot(
        "loss by length of history",
        series,
        (x[0], x[-1]),
        span([*context.cut, *context.shuffled, context.whole]),
        "n, characters",
        "nats per character",
        log_ticks(context.lengths),
    )


def _table(context: Context) -> Table:
    curves = zip(context.lengths, context.cut, context.errors, context.shuffled, strict=True)
    rows: list[tuple[Cell, ...]] = [
        (f"{n}", f"{cut:.4f}", number(cut - context.whole), f"{error:.4f}", f"{mixed:.4f}")
        for n, cut, error, mixed in curves
    ]
    rows.append(("whole", f"{context.whole:.4f}", "", "", f"{context.whole:.4f}"))
    titles = ("n", "cut", f"cut {MINUS} whole", "error", "shuffled")
    return Table(tuple(Column(title, right=True) for title in titles), tuple(rows))


def _closing_blocks(context: Context) -> tuple[Heading | Table, ...]:
    if not context.closings:
        return ()
    columns = (
        Column("mark"),
        Column("distance", right=True),
        Column("count", right=True),
        Column("p", right=True),
    )
    rows: list[tuple[Cell, ...]] = []
    for mark, least, count, p in context.closings:
        above = [b for b in BINS if b > least]
        ago = f"{least}–{above[0] - 1}" if above else f"{least} or more"
        rows.append((mark, ago, str(count), f"{p:.1%}"))
    heading = "Probability of closing marks where they occur, by distance from the opening mark"
    return Heading(heading), Table(columns, tuple(rows))
