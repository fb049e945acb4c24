"""Text tinted by how unlikely each character was, for terminals with colours."""

from rich.console import COLOR_SYSTEMS, Console
from rich.style import Style
from rich.text import Text

from charlstm.show.text import printable, symbol

TINTS = (
    (2.0, None),
    (4.0, Style(color="grey0", bgcolor="color(230)")),
    (6.0, Style(color="grey0", bgcolor="color(222)")),
    (8.0, Style(color="grey0", bgcolor="color(208)")),
    (float("inf"), Style(color="bright_white", bgcolor="color(160)")),
)
"""Up to so many bits, the style: p down to 1/4, 1/16, 1/64, 1/256, and below. A background, so that
spaces have one too; with a foreground of its own, so that it is legible on any terminal."""


class Tint:
    """Characters as a terminal shows them in colour; plain where it has none."""

    def __init__(self, console: Console) -> None:
        self._system = COLOR_SYSTEMS.get(console.color_system or "")
        self.has_color = self._system is not None and not console.no_color

    def __call__(self, character: str, bits: float) -> str:
        """``character`` with the escape codes of its tint; a line's end is shown before it."""
        style = _style(bits) if self.has_color else None
        if style is None:
            return printable(character)
        end = character if character in "\n\t" else ""
        shown = symbol(character) if end else printable(character)
        return style.render(shown, color_system=self._system) + end


def legend() -> Text:
    """What the tints mean, in one line."""
    text = Text("surprise in bits: ")
    low = 0.0
    for high, style in TINTS:
        text.append(f" {low:g}–{high:g} " if high != float("inf") else f" {low:g}+ ", style or "")
        low = high
    return text


def _style(bits: float) -> Style | None:
    """None where nothing is known, too."""
    return next((style for high, style in TINTS if bits <= high), None)
