"""The views of ``charlstm inspect``: each a function from a model and a text to what it found.

A view is a module here whose function ``view`` takes a ``Subject`` and ``Options``, computes, and
returns a frozen dataclass of numbers: a ``View``. That renders them as a ``Document`` for people
and as a dict for programs. How a terminal, HTML, SVG and PNG show a document is the business of
``charlstm.show``.
"""

from typing import NamedTuple


class ViewInfo(NamedTuple):
    """What is known of a view before its module is loaded."""

    shows: str
    takes: tuple[str, ...]
    """The fields of ``Options`` that change what it shows, and ``text`` if it reads one."""
    reads: int = 0
    """How much of the run's held-out text it reads when it is given none; 0 is the excerpt."""


VIEWS = {
    "gates": ViewInfo(
        "gate saturation per character, and Figure 3",
        ("text", "layer", "gate", "units", "left", "right", "rows"),
    ),
    "walk": ViewInfo(
        "one character through the cell, step by step", ("text", "layer", "units", "at")
    ),
    "cell": ViewInfo(
        "the text coloured by one unit", ("text", "layer", "units", "state", "guesses", "rows")
    ),
    "find": ViewInfo("which units track something", ("text", "state", "features"), 50_000),
    "ablate": ViewInfo(
        "what the loss is without a unit", ("text", "layer", "units", "features", "rows"), 3_500
    ),
    "memory": ViewInfo(
        "how long units keep their state", ("text", "layer", "units", "rows"), 20_000
    ),
    "context": ViewInfo("how far back the text is used", ("text",), 20_000),
    "probe": ViewInfo(
        "what all units of a layer know together", ("text", "layer", "state", "features"), 50_000
    ),
    "errors": ViewInfo("what kind of errors the model makes", ("text",), 50_000),
    "match": ViewInfo(
        "where units are on together",
        ("text", "layer", "units", "state", "threshold", "rows"),
        50_000,
    ),
    "drift": ViewInfo("gates and loss over training", ("layer", "gate")),
}
"""By the name of the view's module below this package."""
