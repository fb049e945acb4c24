"""``match``: where in a text units are on together.

The question of LSTMVis (H. Strobelt, S. Gehrmann, H. Pfister, A. Rush 2018).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import (
    Cell,
    Column,
    Document,
    Lines,
    Strong,
    Table,
    more_rows,
    number,
    plural,
)
from charlstm.analysis.subject import Options, Shown, Subject
from charlstm.analysis.trace import pieces
from charlstm.analysis.views.cell import state_name, unit_values
from charlstm.errors import UsageError, check_number

LISTED = 20
AROUND = 18
"""Characters shown before and after a place."""
INSIDE = 24


@dataclass(frozen=True)
class Span:
    """Characters in a row at which all units are on."""

    start: int
    stop: int
    level: float
    """Mean over them of the value of the unit that is least on."""


def spans_of(values: NDArray[np.floating], threshold: float) -> tuple[Span, ...]:
    """The spans in which all of the units (N, T) are on, the longest first.

    A unit is on above ``threshold``, or, for a negative one, below it.
    """
    least = values.min(axis=0) if threshold >= 0 else -values.max(axis=0)
    on = np.zeros(values.shape[1] + 2, dtype=bool)
    on[1:-1] = least > abs(threshold)
    starts = np.flatnonzero(on[1:] & ~on[:-1])
    stops = np.flatnonzero(~on[1:] & on[:-1])
    spans = [
        Span(int(a), int(b), float(least[a:b].mean())) for a, b in zip(starts, stops, strict=True)
    ]
    return tuple(sorted(spans, key=lambda s: (s.start - s.stop, -s.level, s.start)))


def view(subject: Subject, options: Options) -> Shown:
    """Where all the units of ``--unit`` are on."""
    if not options.units:
        raise UsageError("match needs units", "name them, for example --unit 3,17; find lists some")
    check_number("--threshold", options.threshold, -1, 1)
    state = options.state_of(subject.spec)
    layer = subject.engine.config.layers - 1 if options.layer is None else options.layer
    values = np.empty((len(options.units), len(subject.ids)))
    for piece in pieces(subject.engine, subject.ids, subject.warmup, subject.reading):
        some = unit_values(subject.spec, piece.trace, state)[:, layer, list(options.units)]
        values[:, piece.places] = some.T
    spans = spans_of(values, options.threshold)
    data = {
        **subject.facts("match"),
        "layer": layer,
        "units": list(options.units),
        "state": state_name(state),
        "threshold": options.threshold,
        "spans": [
            {
                "start": span.start,
                "stop": span.stop,
                "level": span.level,
                "text": subject.text[span.start : span.stop],
            }
            for span in spans
        ],
    }
    side = "above" if options.threshold >= 0 else "below"
    units = ("unit " if len(options.units) == 1 else "units ") + ", ".join(map(str, options.units))
    verb = "is" if len(options.units) == 1 else "are"
    limit = number(options.threshold, "g")
    what = f"Where layer {layer + 1} {units} {verb} {side} {limit} ({state_name(state)})"
    return Shown(lambda: document(subject, what, spans, options.lines(LISTED)), lambda: data)


def document(subject: Subject, what: str, spans: tuple[Span, ...], lines: int | None) -> Document:
    """The places, each with what stands around it."""
    text = subject.text.replace("\n", "↵")
    rows: list[tuple[Cell, ...]] = []
    for span in spans[:lines]:
        inside = text[span.start : span.stop]
        if len(inside) > INSIDE:
            inside = f"{inside[: INSIDE // 2]}…{inside[-INSIDE // 2 :]}"
        before = text[max(0, span.start - AROUND) : span.start]
        after = text[span.stop : span.stop + AROUND]
        words = (before, Strong(inside), after)
        rows.append((f"{span.start:,}", str(span.stop - span.start), *words))
    more = more_rows(len(spans) - len(rows), "place")
    covered = sum(span.stop - span.start for span in spans)
    told = f"{plural(len(spans), 'place')}, {covered / len(text):.1%} of the characters"
    columns = (
        Column("place", right=True),
        Column("length", right=True),
        Column("before", right=True),
        Column("on"),
        Column("after"),
    )
    return Document(
        subject.title(what),
        (
            Lines((f"{told}; the longest first",)),
            Table(columns, tuple(rows), more),
        ),
    )
