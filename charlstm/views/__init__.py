"""The views of ``charlstm inspect``: each a function from a model and a text to a report.

A view is a module here with a frozen dataclass of numbers, a pure function that computes it, and
``view``, which the command calls. It says what is to be seen in the blocks of ``blocks``; that a
terminal, HTML, SVG and PNG show those is the business of ``charlstm.show``.
"""

from typing import NamedTuple


class Listed(NamedTuple):
    """What is known of a view before it is loaded."""

    shows: str
    reads: int = 0
    """How much of the run's held-out text it reads when it is given none; 0 is the excerpt."""


VIEWS = {
    "gates": Listed("gate saturation per character, and Figure 3"),
    "walk": Listed("one character through the cell, step by step"),
    "cell": Listed("the text coloured by one unit"),
    "find": Listed("which units track something", 50_000),
    "ablate": Listed("what the loss is without a unit", 3_500),
    "memory": Listed("how long units keep their state", 20_000),
    "context": Listed("how far back the text is used", 20_000),
    "probe": Listed("what all units of a layer know together", 50_000),
    "errors": Listed("what kind of errors the model makes", 50_000),
    "match": Listed("where units are on together", 50_000),
    "drift": Listed("gates and loss over training"),
}
"""By the name of the view's module below this package."""
