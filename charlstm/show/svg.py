"""Pictures as SVG: one file that names no font to fetch and runs no script."""

from html import escape

from charlstm.show.picture import Dot, Label, Path, Picture, Rectangle, Shape
from charlstm.show.style import css

FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def to_svg(picture: Picture) -> str:
    """The picture as an SVG document."""
    width, height = _n(picture.width), _n(picture.height)
    body = "\n".join(_shape(shape) for shape in picture.shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="{FONT}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


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
    return (
        f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}" '
        f'fill="{color}" xml:space="preserve"{extras}>{escape(shape.text)}</text>'
    )
