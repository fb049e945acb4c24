"""The views of ``charlstm inspect``: each a function from a model and a text to a report.

A view is a module here with a frozen dataclass of numbers, a pure function that computes it, and
``view``, which the command calls. It says what is to be seen in the blocks of ``blocks``; that a
terminal, HTML, SVG and PNG show those is the business of ``charlstm.show``.
"""

from typing import NamedTuple

TEXT = ("text", "file", "warmup", "unknown")
"""What says which text is read: of every view but ``drift``."""


class Listed(NamedTuple):
    """What is known of a view before it is loaded."""

    shows: str
    takes: tuple[str, ...]
    """The parameters of the command that it heeds, beside those that every view does: which
    checkpoint, and what is written where."""
    reads: int = 0
    """How much of the run's held-out text it reads when it is given none; 0 is the excerpt."""


VIEWS = {
    "gates": Listed(
        "gate saturation per character, and Figure 3",
        (*TEXT, "layer", "gate", "unit", "left", "right", "rows"),
    ),
    "walk": Listed("one character through the cell, step by step", (*TEXT, "layer", "unit", "at")),
    "cell": Listed(
        "the text coloured by one unit", (*TEXT, "layer", "unit", "state", "guesses", "rows")
    ),
    "find": Listed("which units track something", (*TEXT, "state", "feature"), 50_000),
    "ablate": Listed(
        "what the loss is without a unit", (*TEXT, "layer", "unit", "feature", "rows"), 3_500
    ),
    "memory": Listed("how long units keep their state", (*TEXT, "layer", "unit", "rows"), 20_000),
    "context": Listed("how far back the text is used", TEXT, 20_000),
    "probe": Listed(
        "what all units of a layer know together", (*TEXT, "layer", "state", "feature"), 50_000
    ),
    "errors": Listed("what kind of errors the model makes", TEXT, 50_000),
    "match": Listed(
        "where units are on together",
        (*TEXT, "layer", "unit", "state", "threshold", "rows"),
        50_000,
    ),
    "drift": Listed("gates and loss over training", ("layer", "gate")),
}
"""By the name of the view's module below this package."""
