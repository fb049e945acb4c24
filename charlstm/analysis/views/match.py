"""``match``: where several units are active together.

After LSTMVis (H. Strobelt, S. Gehrmann, H. Pfister, A. Rush 2018).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.document import (
    ELLIPSIS,
    LINE_END,
    Cell,
    Column,
    Document,
    Lines,
    Strong,
    Table,
    more_rows,
    number,
)
from charlstm.analysis.subject import Options, Subject
from charlstm.analysis.trace import pieces
from charlstm.analysis.views.cell import state_name, unit_values
from charlstm.errors import UsageError, check_number, plural

LISTED = 20
AROUND = 18
"""Characters shown before and after a span."""
INSIDE = 24
"""Most characters shown of a span."""


@dataclass(frozen=True)
class Span:
    """Consecutive characters at which all units are active."""

    start: int
    stop: int
    level: float
    """Mean over them of the least active unit's value."""


def spans_of(values: NDArray[np.floating], threshold: float) -> tuple[Span, ...]:
    """The spans in which all units (N, T) are active, longest first.

    A unit is active above ``threshold``, or below it if it is negative.
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


@dataclass(frozen=True)
class MatchView:
    """The spans in which the given units of a layer are all active."""

    subject: Subject
    layer: int
    units: tuple[int, ...]
    state: str
    """The values shown: ``tanh(c)`` or ``h``."""
    threshold: float
    spans: tuple[Span, ...]
    lines: int | None
    """Most spans in the document; None for all."""

    def to_dict(self) -> dict[str, Any]:
        """Every span, with its text."""
        return {
            **self.subject.facts("match"),
            "layer": self.layer,
            "units": list(self.units),
            "state": self.state,
            "threshold": self.threshold,
            "spans": [
                {
                    "start": span.start,
                    "stop": span.stop,
                    "level": span.level,
                    "text": self.subject.text[span.start : span.stop],
                }
                for span in self.spans
            ],
        }

    def document(self) -> Document:
        """The longest spans, each with the text around it."""
        text = self.subject.text.replace("\n", LINE_END)
        rows: list[tuple[Cell, ...]] = []
        for span in self.spans[: self.lines]:
            inside = text[span.start : span.stop]
            if len(inside) > INSIDE:
                inside = f"{inside[: INSIDE // 2]}{ELLIPSIS}{inside[-INSIDE // 2 :]}"
            before = text[max(0, span.start - AROUND) : span.start]
            after = text[span.stop : span.stop + AROUND]
            words = (before, Strong(inside), after)
            rows.append((f"{span.start:,}", str(span.stop - span.start), *words))
        more = more_rows(len(self.spans) - len(rows), "span")
        covered = sum(span.stop - span.start for span in self.spans) / len(text)
        columns = (
            Column("position", right=True),
            Column("length", right=True),
            Column("before", right=True),
            Column("active"),
            Column("after"),
        )
        spans = plural(len(self.spans), "span")
        summary = f"{spans} covering {covered:.1%} of the characters, longest first"
        return Document(
            self.subject.title(self._title()),
            (Lines((summary,)), Table(columns, tuple(rows), more)),
        )

    def _title(self) -> str:
        one = len(self.units) == 1
        units = ("unit " if one else "units ") + ", ".join(map(str, self.units))
        side = "above" if self.threshold >= 0 else "below"
        on = f"{'is' if one else 'are'} {side} {number(self.threshold, 'g')}"
        return f"Where layer {self.layer + 1} {units} {on} ({self.state})"


def view(subject: Subject, options: Options) -> MatchView:
    """The spans in which all of ``options.units`` are active."""
    if not options.units:
        raise UsageError("match needs units", "set `units`; the view find lists candidates")
    check_number("`threshold`", options.threshold, -1, 1)
    state = options.state_of(subject.spec)
    layer = subject.engine.config.layers - 1 if options.layer is None else options.layer
    values = np.empty((len(options.units), len(subject.ids)))
    for piece in pieces(subject.engine, subject.ids, subject.warmup, subject.reading):
        read = unit_values(subject.spec, piece.trace, state)[:, layer, list(options.units)]
        values[:, piece.positions] = read.T
    return MatchView(
        subject,
        layer,
        options.units,
        state_name(state),
        options.threshold,
        spans_of(values, options.threshold),
        options.lines(LISTED),
    )
