"""The colours of values from -1 to 1, and of series, as red, green and blue."""

RGB = tuple[int, int, int]

NEGATIVE: RGB = (5, 113, 176)
POSITIVE: RGB = (230, 97, 1)
WHITE: RGB = (255, 255, 255)
SERIES: dict[str, RGB] = {
    "blue": (31, 119, 180),
    "dark_orange": (230, 97, 1),
    "green": (44, 140, 60),
    "magenta": (160, 50, 160),
}


def tint(value: float) -> RGB:
    """White for 0, ever bluer down to -1, ever more orange up to 1; linear in each channel."""
    end = NEGATIVE if value < 0 else POSITIVE
    share = min(abs(value), 1.0)
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(WHITE, end, strict=True))
    return red, green, blue


def css(color: RGB) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)
