"""The bar that shows how saturated a gate is."""

from rich.text import Text

from charlstm.show.console import OPEN, SHUT

SHUT_CELL, BETWEEN_CELL, OPEN_CELL = "█", "·", "▒"


def saturation_bar(left: float, right: float, width: int) -> Text:
    """Share shut from the left, share open from the right, what is between as dots.

    The three differ in their character as well as their colour. A share that is not zero has at
    least one cell.
    """
    shut, open_ = _cells(left, width), _cells(right, width)
    if shut + open_ > width:
        shut, open_ = (width - open_, open_) if shut > open_ else (shut, width - shut)
    bar = Text(no_wrap=True)
    bar.append(SHUT_CELL * shut, style=SHUT)
    bar.append(BETWEEN_CELL * (width - shut - open_), style="dim")
    bar.append(OPEN_CELL * open_, style=OPEN)
    return bar


def _cells(share: float, width: int) -> int:
    return max(1, round(share * width)) if share > 0.005 else 0
