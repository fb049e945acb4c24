"""``cell``: colours give back their values, and a planted unit lights the right spans."""

import re
from io import StringIO

import numpy as np
import planted
import pytest
from helpers import model_config, random_weights
from numpy.testing import assert_allclose
from reference import read_text
from rich.console import Console

from charlstm.analysis.document import Lines
from charlstm.analysis.subject import Options
from charlstm.analysis.views.cell import view
from charlstm.show.html import to_html
from charlstm.show.style import NEGATIVE, POSITIVE, tint
from charlstm.show.terminal import LEVELS, print_document

TEXT = 'he said "not (yet) today", and\nleft. "No."'
OPTIONS = Options(units=(planted.QUOTES,))


def value_of(color: tuple[int, int, int]) -> float:
    """The value that a colour stands for, from the channel that changes most."""
    end, sign = (NEGATIVE, -1) if color[0] < color[2] else (POSITIVE, 1)
    channel = min(range(3), key=lambda n: end[n])
    return sign * (255 - color[channel]) / (255 - end[channel])


@pytest.mark.parametrize("value", np.linspace(-1, 1, 41))
def test_colour_gives_back_its_value(value: float) -> None:
    assert value_of(tint(value)) == pytest.approx(value, abs=0.003)


def test_colours_of_html_and_terminal_are_the_unit() -> None:
    shown = view(planted.subject(planted.tracker(), TEXT), OPTIONS)
    values = shown.to_dict()["values"]
    page = to_html(shown.document())
    spans = re.findall(r'background:#(\w\w)(\w\w)(\w\w)" title="(\d+): ([-\d.]+)">', page)
    assert len(spans) == len(TEXT)
    for red, green, blue, position, value in spans:
        color = (int(red, 16), int(green, 16), int(blue, 16))
        assert value_of(color) == pytest.approx(values[int(position)], abs=0.004)
        assert float(value) == pytest.approx(values[int(position)], abs=0.0006)
    written = StringIO()
    console = Console(file=written, width=40, force_terminal=True, color_system="truecolor")
    print_document(console, shown.document())
    colors = re.findall(r"\x1b\[38;2;0;0;0;48;2;(\d+);(\d+);(\d+)m([^\x1b]*)", written.getvalue())[
        9:
    ]
    seen = [value_of((int(r), int(g), int(b))) for r, g, b, text in colors for _ in text]
    assert_allclose(seen, values, atol=0.004)


def test_planted_unit_lights_the_quotations() -> None:
    data = view(planted.subject(planted.tracker(), TEXT), OPTIONS).to_dict()
    lit = "".join("#" if v > 0.5 else "." for v in data["values"])
    assert lit == "".join("#" if inside else "." for inside in inside_quotes(TEXT))
    assert (data["state"], data["unit"]) == ("tanh(c)", planted.QUOTES)


def inside_quotes(text: str) -> list[bool]:
    """By hand: between the first mark and the second, and between the third and the fourth."""
    marks = [n for n, c in enumerate(text) if c == '"']
    pairs = list(zip(marks[::2], marks[1::2], strict=True))
    return [any(a <= n < b for a, b in pairs) for n in range(len(text))]


def test_without_colour_a_line_of_levels_follows() -> None:
    shown = view(planted.subject(planted.tracker(), TEXT), OPTIONS)
    written = StringIO()
    print_document(Console(file=written, width=60, color_system=None), shown.document())
    lines = written.getvalue().splitlines()
    at = lines.index('he said "not (yet) today", and↵')
    lit = inside_quotes(TEXT)[: len(lines[at])]
    assert all((level in LEVELS[6:]) == on for level, on in zip(lines[at + 1], lit, strict=True))


def test_numbers_of_a_sentence_have_one_kind_of_minus() -> None:
    for unit in range(6):
        shown = view(planted.subject(planted.tracker(), TEXT), Options(units=(unit,))).document()
        notes = shown.blocks[0]
        assert isinstance(notes, Lines)
        assert re.match(r"tanh\(c\) is [+−]\d\.\d\d on average, above 0.5 at ", notes.lines[0])
        assert "-" not in notes.lines[0]


def test_default_unit_is_the_tracker_of_a_feature() -> None:
    subject = planted.subject(planted.tracker(hidden=48), planted.prose(1500))
    shown = view(subject, Options())
    assert shown.to_dict()["unit"] in (planted.QUOTES, planted.BRACKETS, planted.LINE)
    notes = shown.document().blocks[0]
    assert isinstance(notes, Lines)
    assert re.match("It tracks ‘(inside quotes|bracket depth|position in line)’", notes.lines[0])


def test_requested_unit_and_layer_are_shown_without_a_reason() -> None:
    weights = random_weights(model_config(len(planted.ALPHABET), 8, 2))
    subject = planted.subject(planted.model(weights, layers=2), planted.prose(300))
    asked = view(subject, Options(units=(5,)))
    assert (asked.layer, asked.unit, asked.why) == (1, 5, "")
    assert view(subject, Options(layer=0)).layer == 0


def test_text_without_features_shows_the_unit_that_varies_most() -> None:
    subject = planted.subject(planted.tracker(), "abc")
    shown = view(subject, Options())
    spreads = [np.std(view(subject, Options(units=(unit,))).values) for unit in range(16)]
    assert shown.unit == int(np.argmax(spreads))
    assert "varies most" in str(shown.document().blocks[0])


def test_guesses_are_the_oracles() -> None:
    model = planted.tracker()
    shown = view(planted.subject(model, TEXT), Options(units=(1,), guesses=5))
    logits = read_text(model.file.weights, model.file.vocab.encode(TEXT)).logits
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for t, guesses in enumerate(shown.to_dict()["guesses"]):
        best = np.argsort(-p[t], kind="stable")[:5]
        assert [g["character"] for g in guesses] == [planted.ALPHABET[i] for i in best]
        assert_allclose([g["p"] for g in guesses], p[t, best], atol=1e-5)


@pytest.mark.parametrize(("state", "name"), [(None, "tanh(c)"), ("c", "tanh(c)"), ("h", "h")])
def test_values_are_the_oracles(state: str | None, name: str) -> None:
    model = planted.tracker()
    data = view(planted.subject(model, TEXT), Options(units=(2,), state=state)).to_dict()
    h, c = read_text(model.file.weights, model.file.vocab.encode(TEXT)).states[:, 0, :, 2].T
    assert data["state"] == name
    assert_allclose(data["values"], h if name == "h" else np.tanh(c), atol=1e-5)
    assert np.abs(np.tanh(c) - c).max() > 0.05
