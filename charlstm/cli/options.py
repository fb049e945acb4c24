"""Options that several commands share, their examples and their notices."""

import sys
from typing import Annotated

import typer

Checkpoint = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--checkpoint",
        metavar="RUN",
        help="A run's folder, one of its checkpoints, or a name under checkpoints/; "
        "the newest run if left out.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Unknown = Annotated[
    str,
    typer.Option(
        "--unknown",
        metavar="error|skip|replace",
        help="What to do with characters that the model never saw.",
    ),
]


def example(*lines: str) -> str:
    """The epilog that shows how a command is used."""
    return "\n\n".join(("Examples:", *(f"  {line}" for line in lines)))


def note(message: str) -> None:
    """Tell the user something on stderr, on one line, safe for the terminal."""
    from charlstm.show.text import printable

    try:
        print(printable(message, keep=""), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # the terminal is gone; what is being done goes on
