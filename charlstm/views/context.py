"""``context``: how far back the model uses the text, with its state h and c made from less of it.

The loss at some hundred places, when only the last n characters before each were read, from zero
state (cut), or after characters of the text in random order (shuffled); after Khandelwal et al.
(2018), Sharp Nearby, Fuzzy Far Away. And the probability of a closing mark where it stands, by how
long ago it was opened.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.engine import Array, Engine, log_softmax
from charlstm.errors import CharlstmError
from charlstm.reading import pieces
from charlstm.views.blocks import (
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
    span,
)
from charlstm.views.subject import Options, Shown, Subject
from charlstm.vocab import Ids

PLACES = 256
LONGEST = 256
SHUFFLED = 128
"""Characters in random order before the true ones."""
NEAR = 0.01
"""Nats above the loss of the whole history that count as all of it."""
BINS = (1, 4, 16, 64, 256)
"""Distances from which a bin begins."""
PAIRS = {")": "(", "]": "[", "}": "{", '"': '"', "”": "“", "»": "«"}


@dataclass(frozen=True)
class Context:
    """Losses in nats per character at the same places, by K lengths of history."""

    lengths: tuple[int, ...]
    places: int
    cut: NDArray[np.float64]
    """(K,) with the last n characters alone."""
    shuffled: NDArray[np.float64]
    """(K,) with others in random order before them."""
    whole: float
    """With all that came before."""
    closings: tuple[tuple[str, int, int, float], ...]
    """(closing mark, least distance of the bin, how many, mean probability where it stands)."""

    @property
    def used(self) -> int | None:
        """The length from which on the loss is almost that of the whole, if there is one."""
        used = None
        for length, loss in zip(reversed(self.lengths), self.cut[::-1], strict=True):
            if loss >= self.whole + NEAR:
                break
            used = length
        return used


def losses_after(
    engine: Engine, ids: Ids, places: Array, length: int, state: Array
) -> NDArray[np.float64]:
    """(N,) nats of the characters at ``places``, reading ``length`` before them from ``state``."""
    logits = np.empty(0)
    for back in range(length, 0, -1):
        logits, state = engine.step(ids[places - back], state)
    return -log_softmax(logits)[np.arange(len(places)), ids[places]]


def closings(text: str, bits: NDArray[np.float64]) -> tuple[tuple[str, int, int, float], ...]:
    """Mean probability of closing marks where they stand, by distance from their opening."""
    opened: dict[str, int] = {}
    seen: dict[tuple[str, int], list[float]] = {}
    for t, character in enumerate(text):
        opening = PAIRS.get(character)
        if opening in opened and not math.isnan(bits[t]):
            distance = t - opened.pop(opening)
            least = max(b for b in BINS if b <= distance)
            seen.setdefault((character, least), []).append(2.0 ** -bits[t])
        elif character in PAIRS.values():
            opened[character] = t
        elif text[t - 1 : t + 1] == "\n\n":
            opened.clear()
    return tuple(
        (mark, least, len(ps), float(np.mean(ps))) for (mark, least), ps in sorted(seen.items())
    )


def measure(subject: Subject, seed: int = 0) -> Context:
    """Measure at up to ``PLACES`` places, spread evenly over the text."""
    engine, ids = subject.engine, subject.ids
    longest = min(LONGEST, 1 << max(0, (len(ids) // 4)).bit_length() - 1) if len(ids) >= 8 else 0
    before = longest + min(SHUFFLED, longest)
    if longest < 2:
        raise CharlstmError(
            f"the text has {len(ids)} characters, and context needs 8 at least",
            "give some thousands: --file",
        )
    lengths = tuple(2**n for n in range(longest.bit_length()))
    count = min(PLACES, len(ids) - before)
    places = np.linspace(before, len(ids) - 1, count).astype(np.int64)
    bits = np.empty(len(ids))
    for piece in pieces(engine, ids, subject.warmup, subject.reading):
        bits[piece.places] = piece.bits
    random = np.random.default_rng(seed)
    disordered = engine.initial_state(count)
    order = random.permuted(np.tile(np.arange(longest + 1, before + 1), (count, 1)), axis=1)
    for back in order.T:
        _, disordered = engine.step(ids[places - back], disordered)
    cut, shuffled = np.empty((2, len(lengths)))
    total = 2 * sum(lengths)
    for k, length in enumerate(lengths):
        subject.progress("reading with less before", 2 * sum(lengths[:k]), total)
        cold = engine.initial_state(count)
        cut[k] = losses_after(engine, ids, places, length, cold).mean()
        shuffled[k] = losses_after(engine, ids, places, length, disordered).mean()
    whole = float(bits[places].mean() * math.log(2))
    return Context(lengths, count, cut, shuffled, whole, closings(subject.text, bits))


def view(subject: Subject, options: Options) -> Shown:
    """Losses by length of history, and closing marks by distance."""
    del options
    context = measure(subject)
    data = {
        **subject.facts("context"),
        "state": list(subject.spec.states),
        "places": context.places,
        "lengths": list(context.lengths),
        "cut": context.cut.tolist(),
        "shuffled": context.shuffled.tolist(),
        "whole": context.whole,
        "closings": [
            {"mark": mark, "distance_from": least, "count": count, "p": p}
            for mark, least, count, p in context.closings
        ],
    }
    return Shown(lambda: document(subject, context), lambda: data)


def document(subject: Subject, context: Context) -> Document:
    """Two curves, a table of them, a table of closing marks, and what follows."""
    x = [math.log2(n) for n in context.lengths]
    series = (
        Series("only the last n", x, context.cut.tolist(), colored(0)),
        Series("shuffled text before them", x, context.shuffled.tolist(), colored(1)),
        Series("whole history", [x[0], x[-1]], [context.whole] * 2, colored(2)),
    )
    y = [*context.cut, *context.shuffled, context.whole]
    plot = Plot(
        "loss by how much true history was read",
        series,
        (x[0], x[-1]),
        span(y),
        "n, characters",
        "nats per character",
        log_ticks(context.lengths),
    )
    rows: list[tuple[Cell, ...]] = [
        (f"{n}", f"{cut:.4f}", f"{mixed:.4f}")
        for n, cut, mixed in zip(context.lengths, context.cut, context.shuffled, strict=True)
    ]
    rows.append(("whole", f"{context.whole:.4f}", f"{context.whole:.4f}"))
    columns = (Column("n", right=True), Column("cut", right=True), Column("shuffled", right=True))
    far = f"{context.lengths[-1]} characters are not enough"
    used = (
        f"{far}: more than {NEAR:g} nats are missing."
        if context.used is None
        else f"{context.used} characters of history are within {NEAR:g} nats of all of it."
    )
    states = " and ".join(subject.spec.states)
    return Document(
        subject.title(f"How much history {states} need"),
        (
            Lines(
                (
                    f"at {context.places} places spread over the text; cut: {states} are zero "
                    f"before the last n characters; shuffled: before them come {SHUFFLED} of the "
                    "text's characters in random order",
                ),
                quiet=True,
            ),
            Plots((plot,)),
            Table(columns, tuple(rows)),
            Lines((used,)),
            *_closing_blocks(context),
        ),
    )


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
