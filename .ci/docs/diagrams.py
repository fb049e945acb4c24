"""The drawings of docs/explanation/lstm.md, as SVG."""

from collections.abc import Callable, Iterable
from html import escape
from math import log10

INK, PALE = "#24292f", "#d0d7de"
BLUE, GREEN, ORANGE, PURPLE = "#0969da", "#1a7f37", "#bc4c00", "#8250df"
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"

PARTS = ("carry", "forget", "write", "show")
"""The parts of a cell: the line along which c moves, and what each gate does to it."""
COLORS = {"carry": INK, "forget": BLUE, "write": GREEN, "show": PURPLE}
STEPS = (
    ("1. Forget", {"forget"}, "f = σ(W_f·x + U_f·h₋ + b_f)"),
    ("2. Propose and gate", {"write"}, "i = σ(…), g = tanh(…)"),
    ("3. Update the cell", {"carry"}, "c = f ∗ c₋ + i ∗ g"),
    ("4. Show", {"show"}, "h = o ∗ tanh(c)"),
)
GRADIENTS = {
    "plain RNN": (ORANGE, (4e-1, 2e-2, 6e-8, 5e-15)),
    "LSTM, along c": (BLUE, (2e-1, 3e-2, 3e-4, 9e-7)),
}
"""Untrained models, at the distances K; docs/research/studies.md has the table."""
K = (1, 10, 50, 100)


def pictures() -> dict[str, str]:
    """Each drawing by the name of its file."""
    return {
        "lstm-cell.svg": _svg(760, 400, _cell(set(PARTS)) + _labels()),
        "lstm-steps.svg": _svg(860, 560, _steps()),
        "lstm-unrolled.svg": _svg(760, 330, _unrolled()),
        "lstm-gradient.svg": _svg(620, 340, _gradient()),
    }


def _svg(width: int, height: int, shapes: str) -> str:
    marks = "".join(
        f"<marker id='a{color[1:]}' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
        f"markerHeight='7' orient='auto'><path d='M0 0 8 4 0 8z' fill='{color}'/></marker>"
        for color in (INK, PALE, BLUE, GREEN, ORANGE, PURPLE)
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}'>\n<defs>{marks}</defs>\n"
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>\n{shapes}</svg>\n"
    )


def _line(points: Iterable[tuple[float, float]], color: str, *, arrow: bool = True) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    end = f" marker-end='url(#a{color[1:]})'" if arrow else ""
    return f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='2'{end}/>\n"


def _text(
    x: float, y: float, text: str, color: str = INK, size: int = 14, anchor: str = "middle"
) -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' fill='{color}' font-size='{size}' text-anchor='{anchor}' "
        f"{FONT}>{escape(text)}</text>\n"
    )


def _box(x: float, y: float, text: str, color: str) -> str:
    return (
        f"<rect x='{x - 28}' y='{y - 18}' width='56' height='36' rx='5' fill='#ffffff' "
        f"stroke='{color}' stroke-width='2'/>\n" + _text(x, y + 5, text, color)
    )


def _circle(x: float, y: float, text: str, color: str) -> str:
    return (
        f"<circle cx='{x}' cy='{y}' r='15' fill='#ffffff' stroke='{color}' stroke-width='2'/>\n"
        + _text(x, y + 6, text, color, 18)
    )


def _cell(lit: set[str]) -> str:
    """One cell; the parts that are not lit are pale."""
    color: Callable[[str], str] = lambda part: COLORS[part] if part in lit else PALE  # noqa: E731
    carry, forget, write, show = map(color, PARTS)
    bus = INK if lit & {"forget", "write", "show"} else PALE
    return "".join(
        (
            # What all four blocks read.
            _line([(40, 360), (600, 360)], bus, arrow=False),
            _text(40, 350, "x and h₋", bus, 14, "start"),
            *(_line([(x, 360), (x, 279)], bus) for x in (200, 310, 430, 560)),
            # The cell state, from left to right.
            _line([(40, 70), (184, 70)], carry),
            _line([(215, 70), (414, 70)], carry),
            _line([(445, 70), (725, 70)], carry),
            _text(40, 58, "c₋", carry, 16, "start"),
            _text(725, 58, "c", carry, 16, "end"),
            _line([(200, 242), (200, 86)], forget),
            _box(200, 260, "σ", forget),
            _text(190, 180, "f", forget, 16, "end"),
            _circle(200, 70, "∗", forget if "forget" in lit else carry),
            _line([(310, 242), (310, 160), (414, 160)], write),
            _line([(430, 242), (430, 176)], write),
            _line([(430, 145), (430, 86)], write),
            _box(310, 260, "σ", write),
            _box(430, 260, "tanh", write),
            _text(300, 205, "i", write, 16, "end"),
            _text(442, 215, "g", write, 16, "start"),
            _circle(430, 160, "∗", write),
            _circle(430, 70, "+", carry if "carry" in lit else write),
            _line([(640, 70), (640, 102)], show),
            _line([(640, 138), (640, 174)], show),
            _box(640, 120, "tanh", show),
            _line([(560, 242), (560, 190), (624, 190)], show),
            _box(560, 260, "σ", show),
            _text(550, 215, "o", show, 16, "end"),
            _line([(656, 190), (725, 190)], show),
            _circle(640, 190, "∗", show),
            _text(725, 178, "h", show, 16, "end"),
        )
    )


def _labels() -> str:
    names = ((200, "forget gate", BLUE), (310, "input gate", GREEN), (430, "candidate", GREEN))
    return (
        "".join(_text(x, 382, name, color, 13) for x, name, color in names)
        + _text(560, 382, "output gate", PURPLE, 13)
        + _text(310, 40, "cell state: only scaled and added to", INK, 13)
        + _text(725, 232, "to the next step", PURPLE, 12, "end")
        + _text(725, 248, "and the layer above", PURPLE, 12, "end")
        + _text(725, 36, "to the next step", INK, 12, "end")
    )


def _steps() -> str:
    panels = []
    for n, (title, lit, equation) in enumerate(STEPS):
        x, y = 430 * (n % 2), 280 * (n // 2)
        panels.append(
            f"<g transform='translate({x + 20},{y + 45}) scale(0.53)'>\n{_cell(lit)}</g>\n"
            + _text(x + 30, y + 30, title, INK, 16, "start")
            + _text(x + 400, y + 30, equation, INK, 13, "end")
        )
    return "".join(panels)


def _unrolled() -> str:
    """The way of a gradient through three steps of either net."""
    shapes = [
        _text(
            30, 35, "Plain RNN: each step back passes a matrix U and a tanh", ORANGE, 15, "start"
        ),
        _text(30, 195, "LSTM: along c each step back is a product with f alone", BLUE, 15, "start"),
    ]
    for n in range(3):
        x = 120 + 210 * n
        shapes += [
            _line([(x - 90, 90), (x - 30, 90)], ORANGE),
            _box(x, 90, "U", ORANGE),
            _line([(x + 29, 90), (x + 61, 90)], ORANGE),
            _box(x + 90, 90, "tanh", ORANGE),
            _text(x + 45, 140, f"character {n + 1}", INK, 12),
            _line([(x - 104, 250), (x + 4, 250)], BLUE),
            _circle(x + 20, 250, "∗", BLUE),
            _text(x + 20, 290, "f", BLUE, 15),
            _line([(x + 36, 250), (x + 74, 250)], BLUE),
            _circle(x + 90, 250, "+", BLUE),
            _text(x + 90, 290, "i ∗ g", GREEN, 13),
        ]
    shapes += [
        _line([(659, 90), (730, 90)], ORANGE),
        _line([(646, 250), (730, 250)], BLUE),
        _text(30, 80, "h", ORANGE, 15, "start"),
        _text(30, 240, "c", BLUE, 15, "start"),
        _text(
            380, 320, "arrows show the forward pass; the gradient takes the same way back", INK, 12
        ),
    ]
    return "".join(shapes)


def _gradient() -> str:
    """Norms of gradients by distance, on a logarithmic axis from 1 down to 1e-15."""

    def at(k: int, norm: float) -> tuple[float, float]:
        return 70 + 4.3 * k, 50 - 15 * log10(norm)

    shapes = [
        _text(
            70,
            25,
            "gradient of the loss with respect to the state k steps before",
            INK,
            13,
            "start",
        ),
        _text(285, 325, "k, characters back", INK, 13),
        _line([(70, 40), (70, 285), (515, 285)], INK, arrow=False),
    ]
    for power in (0, -5, -10, -15):
        shapes += [
            _line([(66, at(0, 10.0**power)[1]), (500, at(0, 10.0**power)[1])], PALE, arrow=False),
            _text(60, at(0, 10.0**power)[1] + 5, f"1e{power}" if power else "1", INK, 12, "end"),
        ]
    shapes += [_text(at(k, 1)[0], 303, str(k), INK, 12) for k in K]
    for name, (color, norms) in GRADIENTS.items():
        points = [at(k, norm) for k, norm in zip(K, norms, strict=True)]
        shapes.append(_line(points, color, arrow=False))
        shapes += [f"<circle cx='{x:g}' cy='{y:g}' r='4' fill='{color}'/>\n" for x, y in points]
        shapes.append(_text(points[-1][0] + 10, points[-1][1] - 2, name, color, 13, "start"))
    return "".join(shapes)
