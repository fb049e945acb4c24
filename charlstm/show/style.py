"""The colours of all output, and the bar for a gate's saturation."""

from rich.text import Text

RGB = tuple[int, int, int]

SHUT, OPEN, TRAIN, VAL = "blue", "dark_orange", "blue", "dark_orange"
"""Rich's names of the colours of a gate's two ends and of the two losses."""
EARLIER = "green"
"""That of the validation losses of earlier generations."""

NEGATIVE: RGB = (5, 113, 176)
POSITIVE: RGB = (230, 97, 1)
WHITE: RGB = (255, 255, 255)
SERIES: dict[str, RGB] = {
    "blue": (31, 119, 180),
    "dark_orange": (230, 97, 1),
    "green": (44, 140, 60),
    "magenta": (160, 50, 160),
    "red": (200, 30, 45),
    "cyan": (0, 140, 150),
    "yellow": (150, 120, 0),
}


def tint(value: float) -> RGB:
    """White at 0, blue towards -1, orange towards 1; linear in each channel."""
    end = NEGATIVE if value < 0 else POSITIVE
    fraction = min(abs(value), 1.0)
    red, green, blue = (round(a + fraction * (b - a)) for a, b in zip(WHITE, end, strict=True))
    return red, green, blue


def css(color: RGB) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


SHUT_CELL, BETWEEN_CELL, OPEN_CELL = "█", "·", "▒"


def saturation_bar(left: float, right: float, width: int) -> Text:
    """The fraction shut from the left, the fraction open from the right, dots in between.

    The three differ in character as well as in colour. Any fraction above 0.5% has at least one
    cell.
    """
    shut, open_ = _cells(left, width), _cells(right, width)
    if shut + open_ > width:
        shut, open_ = (width - open_, open_) if shut > open_ else (shut, width - shut)
    bar = Text(no_wrap=True)
    bar.append(SHUT_CELL * shut, style=SHUT)
    bar.append(BETWEEN_CELL * (width - shut - open_), style="dim")
    bar.append(OPEN_CELL * open_, style=OPEN)
    return bar


def _cells(fraction: float, width: int) -> int:
    return max(1, round(fraction * width)) if fraction > 0.005 else 0
