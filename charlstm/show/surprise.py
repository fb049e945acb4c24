"""Text tinted by the surprise of each character, for terminals with colour."""

import math
from collections.abc import Mapping, Sequence

from rich.console import COLOR_SYSTEMS, Console
from rich.style import Style
from rich.text import Text

from charlstm.show.printable import printable, symbol

TINTS = (
    (2.0, None),
    (4.0, Style(color="grey0", bgcolor="color(230)")),
    (6.0, Style(color="grey0", bgcolor="color(222)")),
    (8.0, Style(color="grey0", bgcolor="color(208)")),
    (math.inf, Style(color="bright_white", bgcolor="color(160)")),
)
"""(upper limit in bits, style): p down to 1/4, 1/16, 1/64, 1/256, and below. Styles set the
background, to show on spaces, and the foreground, to be legible on any terminal."""


class Tint:
    """Tints characters for a console; leaves them plain if it has no colour."""

    def __init__(self, console: Console) -> None:
        self._system = COLOR_SYSTEMS.get(console.color_system or "")
        self.has_color = self._system is not None and not console.no_color

    def __call__(self, character: str, bits: float) -> str:
        """``character`` with its tint's escape codes; a newline or tab gets a visible sign."""
        style = _style(bits) if self.has_color else None
        if style is None:
            return printable(character)
        end = character if character in "\n\t" else ""
        shown = symbol(character) if end else printable(character)
        return style.render(shown, color_system=self._system) + end


def legend() -> Text:
    """The legend of the tints, in one line."""
    text = Text("surprise in bits: ")
    low = 0.0
    for high, style in TINTS:
        text.append(f" {low:g}+ " if high == math.inf else f" {low:g}–{high:g} ", style or "")
        low = high
    return text


def print_tinted(console: Console, characters: Sequence[tuple[str, float]]) -> None:
    """Print (character, bits) pairs as tinted text, after the legend if there is colour."""
    tint = Tint(console)
    if tint.has_color:
        console.print(legend())
    file = console.file
    for character, bits in characters:
        file.write(tint(character, bits))
    file.write("" if characters[-1][0] == "\n" else "\n")


def print_positions(console: Console, symbols: Sequence[str], found: Mapping[int, float]) -> None:
    """Print a line for each position in ``found``: bits, line, column, and the text around it."""
    console.print(Text(f"{'bits':>6} {'line':>7} {'column':>6}", style="dim"))
    room = max(8, min(30, (console.width - 25) // 2))
    for position, bits in found.items():
        before = symbols[:position]
        line = before.count("\n") + 1
        column = next((i for i, one in enumerate(reversed(before)) if one == "\n"), position) + 1
        text = Text(f"{bits:>6.1f} {line:>7,} {column:>6,}  ")
        text.append("".join(map(_in_line, symbols[max(0, position - room) : position])), "dim")
        text.append(f"[{symbol(symbols[position])}]", "bold")
        text.append("".join(map(_in_line, symbols[position + 1 : position + 1 + room])), "dim")
        console.print(text, no_wrap=True, crop=True)


def _in_line(character: str) -> str:
    return " " if character == " " else symbol(character)


def _style(bits: float) -> Style | None:
    """None for unsurprising characters and unknown bits (NaN)."""
    return next((style for high, style in TINTS if bits <= high), None)
