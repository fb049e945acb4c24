"""The views of ``charlstm inspect``: each a function from a model and a text to what it found.

A view is a module here whose function ``view`` takes a ``Subject`` and ``Options``, computes, and
returns a frozen dataclass of numbers: a ``View``, which converts to a ``Document`` for people and
to a dict for programs. ``charlstm.show`` renders documents on a terminal and as HTML, SVG and PNG.
"""

from typing import NamedTuple


class ViewInfo(NamedTuple):
    """A view's description, available without importing its module."""

    shows: str
    takes: tuple[str, ...]
    """The fields of ``Options`` that it uses, and ``text`` if it reads one."""
    reads: int = 0
    """Characters of the run's held-out part to read if no text is given; 0 for the excerpt."""


VIEWS = {
    "gates": ViewInfo(
        "which gates are open or shut, per character and per unit",
        ("text", "layer", "gate", "units", "left", "right", "rows"),
    ),
    "walk": ViewInfo(
        "one character through the cell, step by step", ("text", "layer", "units", "at")
    ),
    "cell": ViewInfo(
        "the text coloured by one unit", ("text", "layer", "units", "state", "guesses", "rows")
    ),
    "find": ViewInfo(
        "units that track quotes, brackets, lines, words and more",
        ("text", "state", "features"),
        50_000,
    ),
    "ablate": ViewInfo(
        "how much the loss rises without a unit",
        ("text", "layer", "units", "features", "rows"),
        3_500,
    ),
    "memory": ViewInfo(
        "how long each unit keeps its state", ("text", "layer", "units", "rows"), 20_000
    ),
    "context": ViewInfo("how far back the model uses the text", ("text",), 20_000),
    "probe": ViewInfo(
        "what a linear probe reads from all units of a layer",
        ("text", "layer", "state", "features"),
        50_000,
    ),
    "errors": ViewInfo("the kinds of errors the model makes", ("text",), 50_000),
    "match": ViewInfo(
        "where several units are active together",
        ("text", "layer", "units", "state", "threshold", "rows"),
        50_000,
    ),
    "drift": ViewInfo("gates and loss over training", ("layer", "gate")),
}
"""Keyed by the name of the view's module in this package."""
