"""Writes pictures as SVG, without web fonts or scripts, and as PNG made from it."""

import struct
from functools import cache
from html import escape
from pathlib import Path as File
from typing import Any
from unicodedata import category

from charlstm.errors import CharlstmError
from charlstm.show.picture import Dot, Label, Path, Picture, Rectangle, Shape
from charlstm.show.printable import printable
from charlstm.show.style import css

FAMILIES = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
FONT = File(__file__).parent / "fonts" / "DejaVuSansMono.ttf"
"""The font of PNG files: a slim container has none."""
SCALE = 2
"""Pixels of a PNG for each unit of a picture."""
MOST_PIXELS = 2**27
"""Each takes four bytes, briefly twice; resvg aborts the process if memory runs out."""
BOLD = "text[font-weight='bold'] { stroke: #141414; stroke-width: 0.45 }"
"""The font has one weight; bold text is outlined."""
NOT_IN_XML = {0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}
"""Code points that XML forbids and ``printable`` keeps."""


def to_svg(picture: Picture) -> str:
    """The picture as an SVG document."""
    width, height = _n(picture.width), _n(picture.height)
    body = "\n".join(_shape(shape) for shape in picture.shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="{FAMILIES}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def to_png(picture: Picture) -> bytes:
    """The picture as a PNG file with the bundled font: the same bytes on every machine.

    Raises:
        CharlstmError: it has more than ``MOST_PIXELS``.
    """
    import resvg_py

    width, height = round(SCALE * picture.width), round(SCALE * picture.height)
    if width * height > MOST_PIXELS:
        raise CharlstmError(
            f"a PNG of {width:,} by {height:,} pixels is too large",
            "use fewer `rows`, or write an SVG",
        )
    return resvg_py.svg_to_bytes(
        svg_string=to_svg(picture),
        zoom=SCALE,
        style_sheet=BOLD,
        font_files=[str(FONT)],
        skip_system_fonts=True,
    )


def lacking(picture: Picture) -> str:
    """The visible characters that the bundled font lacks, each once."""
    words = "".join(shape.text for shape in picture.shapes if isinstance(shape, Label))
    return "".join(
        c for c in dict.fromkeys(words) if ord(c) not in _covered() and category(c) != "Cf"
    )


@cache
def _covered() -> frozenset[int]:
    """The font's code points, from the format 12 subtable of its character map."""
    data = FONT.read_bytes()

    def numbers(form: str, start: int) -> tuple[Any, ...]:
        return struct.unpack_from(f">{form}", data, start)

    tables = (numbers("4sIII", 12 + 16 * n) for n in range(*numbers("H", 4)))
    start = next(offset for tag, _, offset, _ in tables if tag == b"cmap")
    records = (numbers("HHI", start + 4 + 8 * n) for n in range(*numbers("H", start + 2)))
    groups = next(start + at for _, _, at in records if numbers("H", start + at) == (12,))
    ranges = (numbers("III", groups + 16 + 12 * n) for n in range(*numbers("I", groups + 12)))
    return frozenset(code for first, last, _ in ranges for code in range(first, last + 1))


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _shape(shape: Shape) -> str:
    color = css(shape.color)
    if isinstance(shape, Rectangle):
        return (
            f'<rect x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" '
            f'height="{_n(shape.height)}" fill="{color}"/>'
        )
    if isinstance(shape, Path):
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
        return (
            f'<polyline points="{points}" fill="none" stroke="{color}" '
            f'stroke-width="{_n(shape.width)}"/>'
        )
    if isinstance(shape, Dot):
        return (
            f'<circle cx="{_n(shape.x)}" cy="{_n(shape.y)}" r="{_n(shape.radius)}" '
            f'fill="{color}" fill-opacity="{_n(shape.opacity)}"/>'
        )
    assert isinstance(shape, Label)
    extras = ' font-weight="bold"' if shape.bold else ""
    if shape.anchor != "start":
        extras += f' text-anchor="{shape.anchor}"'
    if shape.upright:
        extras += f' transform="rotate(-90 {_n(shape.x)} {_n(shape.y)})"'
    words = escape(printable(shape.text, keep="").translate(NOT_IN_XML))
    return (
        f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}" '
        f'fill="{color}" xml:space="preserve"{extras}>{words}</text>'
    )
