"""``context``: how far back the model uses the text, with its state h and c made from less of it.

The loss at many positions, when only the last n characters before each were read, from zero
state (cut), or after characters of the text in random order (shuffled); after Khandelwal et al.
(2018), Sharp Nearby, Fuzzy Far Away. What is measured are differences from the loss with the whole
history at the same positions, which vary far less from position to position than losses do. And the
probability of a closing mark where it stands, by how long ago it was opened.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import (
    MINUS,
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
"""Where histories of up to ``NEARBY`` characters are cut, and where all else is tried: differences
get smaller with n, and dearer."""
NEARBY = 64
LONGEST = 256
SHUFFLED = 128
"""Characters in random order before the true ones."""
NEAR = 0.01
"""Nats from the loss of the whole history that count as all of it, with two standard errors."""
BINS = (1, 4, 16, 64, 256)
"""Distances from which a bin begins."""


@dataclass(frozen=True)
class Context:
    """Losses in nats per character by K lengths of history.

    Each is ``whole`` plus the mean difference from it at the same positions.
    """

    lengths: tuple[int, ...]
    positions: tuple[int, ...]
    """(K,) at how many positions each is cut."""
    cut: NDArray[np.float64]
    """(K,) with the last n characters alone."""
    errors: NDArray[np.float64]
    """(K,) standard errors of ``cut - whole``."""
    shuffled: NDArray[np.float64]
    """(K,) with others in random order before them."""
    before: int
    """How many others."""
    whole: float
    """With all that came before, at all positions."""
    closings: tuple[tuple[str, int, int, float], ...]
    """(closing mark, least distance of the bin, how many, mean probability where it stands)."""

    @property
    def used(self) -> int | None:
        """The length from which on the loss is surely almost that of the whole, if there is one."""
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
    """(N,) nats of the characters at ``positions``, after ``length`` others from ``state``."""
    logits = np.empty(0)
    for back in range(length, 0, -1):
        logits, state = engine.step(ids[positions - back], state)
    return -log_softmax(logits)[np.arange(len(positions)), ids[positions]]


def closings(text: str, bits: NDArray[np.float64]) -> tuple[tuple[str, int, int, float], ...]:
    """Mean probability of closing marks where they stand, by distance from their opening.

    A mark that may open or close, such as ``"``, closes if there is something that it can close.
    """
    pairs = BRACKETS | QUOTES
    opened: dict[str, int] = {}  # by the mark that would close it
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
    """Measure at up to ``POSITIONS`` of them, spread evenly over the text, and at ``FEW``."""
    engine, ids = subject.engine, subject.ids
    longest = min(LONGEST, 1 << max(0, (len(ids) // 4)).bit_length() - 1) if len(ids) >= 8 else 0
    others = min(SHUFFLED, longest)
    before = longest + others
    if longest < 2:
        raise CharlstmError(
            f"the text has {plural(len(ids), 'character')}, and context needs 8 at least",
            "give some thousands",
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
        subject.progress("reading with less before", int(steps[k]), int(steps[-1]))
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
    """What the history is worth to a model."""

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
        """Two curves, a table of them, a table of closing marks, and what follows."""
        context, names = self.context, self.subject.spec.states
        states = " and ".join(names)
        need, are = ("need", "are") if len(names) > 1 else ("needs", "is")
        most, few = context.positions[0], context.positions[-1]
        where = f"{most:,} places spread over the text"
        if few < most:
            where += f", at {few:,} of them beyond n = {NEARBY} and shuffled"
        note = (
            f"at {where}; cut: {states} {are} zero before the last n characters; error: the "
            f"standard error of cut {MINUS} whole; shuffled: before the last n come "
            f"{context.before} of the text's characters in random order"
        )
        within = f"within {NEAR:g} nats of all of it, two standard errors included."
        used = (
            f"No history of up to {plural(context.lengths[-1], 'character')} is {within}"
            if context.used is None
            else f"A history of {plural(context.used, 'character')} is {within}"
        )
        return Document(
            self.subject.title(f"How much history {states} {need}"),
            (
                Lines((note,), quiet=True),
                Plots((_curves(context),)),
                _table(context),
                Lines((used,)),
                *_closing_blocks(context),
            ),
        )


def view(subject: Subject, options: Options) -> ContextView:
    """Losses by length of history, and closing marks by distance."""
    del options
    return ContextView(subject, measure(subject))


def _curves(context: Context) -> Plot:
    x = [math.log2(n) for n in context.lengths]
    series = (
        Series("only the last n", x, context.cut.tolist(), colored(0)),
        Series("shuffled text before them", x, context.shuffled.tolist(), colored(1)),
        Series("whole history", [x[0], x[-1]], [context.whole] * 2, colored(2)),
    )
    return Plot(
        "loss by how much true history was read",
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
        Column("opened", right=True),
        Column("times", right=True),
        Column("p", right=True),
    )
    rows: list[tuple[Cell, ...]] = []
    for mark, least, count, p in context.closings:
        above = [b for b in BINS if b > least]
        ago = f"{least}–{above[0] - 1}" if above else f"{least} or more"
        rows.append((mark, f"{ago} before", str(count), f"{p:.1%}"))
    heading = "Closing marks: the model's probability where one stands"
    return Heading(heading), Table(columns, tuple(rows))
