"""Options that several commands share, their examples and their notices."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from charlstm.cli.option_names import with_options
from charlstm.errors import UsageError


def one_of(*values: str) -> Callable[[str], list[str]]:
    """What the shell offers for an option that takes one of these."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def run_names(incomplete: str) -> list[str]:
    """What the shell offers where a run is wanted: the names under checkpoints/.

    bash puts on the command line what it is given here, so a name is quoted for it: a folder
    called ``$(rm -r .)`` must not become a command. The other shells quote in ways of their own,
    and get the names that need no quotes.
    """
    from charlstm.runs.catalogue import list_runs
    from charlstm.show.printable import printable

    names = [run.name for run in list_runs()]
    if os.environ.get("_CHARLSTM_COMPLETE") == "complete_bash":
        names = [re.sub(r"[^\w./-]", r"\\\g<0>", n) for n in names if n == printable(n, keep="")]
    else:
        names = [name for name in names if re.fullmatch(r"[\w./-]+", name)]
    return [name for name in names if name.startswith(incomplete)]


Checkpoint = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--checkpoint",
        metavar="RUN",
        help="A run's folder, one of its checkpoints, or a name under checkpoints/; "
        "the newest run if left out.",
        show_default=False,
        autocompletion=run_names,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Unknown = Annotated[
    str,
    typer.Option(
        "--unknown",
        metavar="error|skip|replace",
        help="What to do with characters that the model never saw.",
        autocompletion=one_of("error", "skip", "replace"),
    ),
]


class OptionGroup:
    """A group of options, as annotated attributes with their defaults; see ``flat_options``.

    No dataclass: making the methods of one takes half a millisecond of every command's start.
    """

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def given(self) -> dict[str, Any]:
        """The options that the user gave, by name; for groups whose defaults are all None."""
        return {name: value for name, value in vars(self).items() if value is not None}


def check_together(*options: tuple[str, bool]) -> None:
    """Raise ``UsageError`` if more than one of these options is given."""
    given = [name for name, is_given in options if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are given together", "give one of them")


def check_outputs(**paths: str | None) -> None:
    """Raise ``UsageError``, before any work, for options whose files cannot all be written."""
    from charlstm.files import output_file

    writers: dict[Path, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        option = f"--{name.replace('_', '-')}"
        try:
            target = output_file(Path(path))
        except UsageError as error:
            raise UsageError(f"{option} {error.message}", error.hint) from None
        if target in writers:
            raise UsageError(f"{writers[target]} and {option} name the same file", "name two files")
        writers[target] = option


def command(*words: object) -> str:
    """A command to copy into a shell, with its words quoted where they must be."""
    return shlex.join(["charlstm", *map(str, words)])


def operands(names: Iterable[object]) -> list[str]:
    """Names of files as words of a command: none of them is taken for an option."""
    words = map(str, names)
    return [f"./{word}" if word.startswith("-") and word != "-" else word for word in words]


def example(*lines: str) -> str:
    """The epilog that shows how a command is used."""
    return "\n\n".join(("Examples:", *(f"  {line}" for line in lines)))


def note_no_colors() -> None:
    """Say why a text that was to be tinted is not."""
    note("no colours: standard output is not a terminal that has them; the text comes plain")


def note(message: str) -> None:
    """Tell the user something on stderr, on one line, safe for the terminal."""
    from charlstm.show.printable import one_line

    try:
        print(one_line(with_options(message)), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # the terminal is gone; what is being done goes on
