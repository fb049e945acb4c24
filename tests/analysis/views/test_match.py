"""``match`` against a scan written out, and against a planted unit whose spans are known."""

import numpy as np
import planted
import pytest

from charlstm.analysis.document import Table
from charlstm.analysis.subject import Options
from charlstm.analysis.views.match import spans_of, view
from charlstm.errors import UsageError

TEXT = planted.prose(900, seed=5)


def scan(values: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    """The spans, found character by character."""
    found, start = set(), None
    for t in range(values.shape[1] + 1):
        on = t < values.shape[1] and all(
            v > threshold if threshold >= 0 else v < threshold for v in values[:, t]
        )
        if on and start is None:
            start = t
        if not on and start is not None:
            found.add((start, t))
            start = None
    return found


@pytest.mark.parametrize("threshold", [0.5, 0.0, -0.3])
def test_spans_are_those_of_a_scan(threshold: float) -> None:
    values = np.cos(np.arange(400) * np.array([[0.11], [0.07], [0.31]])).cumsum(axis=1)
    values = np.tanh(values / 3)[:2]
    spans = spans_of(values, threshold)
    assert {(s.start, s.stop) for s in spans} == scan(values, threshold)
    assert spans
    lengths = [s.stop - s.start for s in spans]
    assert lengths == sorted(lengths, reverse=True)
    for span in spans:
        part = values[:, span.start : span.stop]
        least = part.min(axis=0) if threshold >= 0 else -part.max(axis=0)
        assert span.level == pytest.approx(least.mean())


def test_planted_unit_returns_the_quotations() -> None:
    data = view(
        planted.subject(planted.tracker(), TEXT), Options(units=(planted.QUOTES,))
    ).to_dict()
    marks = [n for n, c in enumerate(TEXT) if c == '"']
    ends = [*marks[1::2], len(TEXT)][: len(marks[::2])]
    expected = set(zip(marks[::2], ends, strict=True))
    assert {(s["start"], s["stop"]) for s in data["spans"]} == expected
    for span in data["spans"]:
        assert span["text"] == TEXT[span["start"] : span["stop"]]


def test_line_ends_around_a_span_have_their_sign() -> None:
    subject = planted.subject(planted.tracker(), 'ab\n"cd"\nef')
    table = view(subject, Options(units=(planted.QUOTES,))).document().blocks[1]
    assert isinstance(table, Table)
    assert table.rows[0][2] == "ab↵"


def test_several_units_must_be_on_together() -> None:
    subject = planted.subject(planted.tracker(), TEXT)
    both = (planted.QUOTES, planted.BRACKETS)
    data = view(subject, Options(units=both, threshold=0.2)).to_dict()
    inside = [t for s in data["spans"] for t in range(s["start"], s["stop"])]
    alone = [view(subject, Options(units=(u,), threshold=0.2)).to_dict()["spans"] for u in both]
    covered = [{t for s in spans for t in range(s["start"], s["stop"])} for spans in alone]
    assert set(inside) == covered[0] & covered[1]
    assert inside


def test_title_says_where_then_of_which_model_then_over_which_text() -> None:
    subject = planted.subject(planted.tracker(), TEXT)

    def title(**options: object) -> str:
        return view(subject, Options(**options)).document().title  # type: ignore[arg-type]

    over = f"lstm 1×16, {len(TEXT)} characters from zero state"
    assert title(units=(3,)) == f"Where layer 1 unit 3 is above 0.5 (tanh(c)): {over}"
    assert title(units=(3, 7), threshold=-0.2, state="h") == (
        f"Where layer 1 units 3, 7 are below −0.2 (h): {over}"
    )


def test_no_units_and_a_wrong_threshold_are_refused() -> None:
    subject = planted.subject(planted.tracker(), TEXT)
    with pytest.raises(UsageError, match="match needs units"):
        view(subject, Options())
    with pytest.raises(UsageError, match="`threshold`"):
        view(subject, Options(units=(1,), threshold=1.5))
