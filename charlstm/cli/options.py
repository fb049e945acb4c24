"""Options that several commands share, and what commands print on stderr."""

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
    """Shell completion for an option with a fixed set of values."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def run_names(incomplete: str) -> list[str]:
    """Shell completion for a run: the names under checkpoints/.

    bash inserts a completion into the command line as it is, so names are quoted for it: a folder
    called ``$(rm -r .)`` must not become a command. Other shells quote in their own ways and get
    only the names that need no quotes.
    """
    from charlstm.runs.catalogue import list_runs
    from charlstm.show.printable import printable

    names = [run.name for run in list_runs()]
    if os.environ.get("_CHARLSTM_COMPLETE") == "complete_bash":
        names = [re.sub(r"[^\w./-]", r"\\\g<0>", n) for n in names if n == printable(n, keep="")]
    else:
        names = [name for name in names if re.fullmatch(r"[\w./-]+", name)]
    # A folder called --whole must not become an option.
    return [n for n in names if n.startswith(incomplete) and not n.startswith("-")]


def default(value: object) -> str:
    """The default of an option, as typer shows it in the help, for those that typer cannot know."""
    return f" \\[default: {value}]"  # a backslash, because Rich reads brackets as markup


Checkpoint = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--checkpoint",
        metavar="RUN",
        help="Run to use: its name, its folder, or the folder of one of its checkpoints."
        + default("newest run"),
        show_default=False,
        autocompletion=run_names,
    ),
]
Checkpoints = Annotated[
    list[str] | None,
    typer.Option(
        "-c",
        "--checkpoint",
        metavar="RUN",
        help="Run to use: its name, its folder, or the folder of one of its checkpoints "
        "(repeatable, to mix models)." + default("newest run"),
        show_default=False,
        autocompletion=run_names,
    ),
]
Mix = Annotated[
    str | None,
    typer.Option(
        "--mix",
        metavar="W,W",
        help="Weight of each model's probabilities, with several -c." + default("equal weights"),
        show_default=False,
    ),
]
Color = Annotated[
    bool, typer.Option("--color", help="Tint each character by its surprise, on a terminal.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Precision = Annotated[
    str,
    typer.Option(
        metavar="int8|float32",
        help="Precision of the model's weights; int8 is several times faster, float32 exact.",
        autocompletion=one_of("int8", "float32"),
    ),
]
Unknown = Annotated[
    str,
    typer.Option(
        "--unknown",
        metavar="error|skip|replace",
        help="What to do with characters that are not in the vocabulary.",
        autocompletion=one_of("error", "skip", "replace"),
    ),
]


class OptionGroup:
    """A group of options, as annotated attributes with their defaults; see ``flat_options``.

    Not a dataclass: building one adds half a millisecond to the start of every command.
    """

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def given(self) -> dict[str, Any]:
        """The options that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


class TextReading(OptionGroup):
    """How a text becomes symbols. The fields are arguments of ``open_corpus``."""

    encoding: Annotated[
        str | None,
        typer.Option(
            help="Text encoding." + default("utf-8"), rich_help_panel="Text", show_default=False
        ),
    ] = None
    as_bytes: Annotated[
        bool | None,
        typer.Option(
            "--bytes",
            help="Train on bytes: any file, vocabulary of 256.",
            rich_help_panel="Text",
            show_default=False,
        ),
    ] = None


def check_together(*options: tuple[str, bool]) -> None:
    """Raise ``UsageError`` if more than one of these options is given."""
    given = [name for name, is_given in options if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} cannot be used together", "choose one of them")


def check_outputs(*, force: bool = False, **paths: str | None) -> None:
    """Raise ``UsageError`` if an output file cannot be written, before any work is done.

    Without ``force``, neither may it overwrite a file of another kind.
    """
    from charlstm.files import OUTPUT_KINDS, output_file

    writers: dict[Path, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        option = f"--{name.replace('_', '-')}"
        try:
            kind = None if force or name not in OUTPUT_KINDS else name
            target = output_file(Path(path), kind)
        except UsageError as error:
            raise UsageError(f"{option} {error.message}", error.hint) from None
        if target in writers:
            raise UsageError(
                f"{writers[target]} and {option} name the same file", "use two different files"
            )
        writers[target] = option


def command(*words: object) -> str:
    """A charlstm command that can be copied into a shell, quoted where necessary."""
    return shlex.join(["charlstm", *map(str, words)])


def weights_of(text: str) -> list[float]:
    """The numbers of ``--mix`` or ``/mix``, as in 0.7,0.3; raises ``UsageError`` for others."""
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"the weights are {text!r}", "give numbers such as 0.7,0.3") from None


def operands(names: Iterable[object]) -> list[str]:
    """Names of files as words of a command: none of them is taken for an option."""
    words = map(str, names)
    return [f"./{word}" if word.startswith("-") and word != "-" else word for word in words]


def example(*lines: str) -> str:
    """The examples at the end of a command's help."""
    escaped = (line.replace("[", "\\[") for line in lines)  # brackets are markup in help
    return "\n\n".join(("Examples:", *(f"  {line}" for line in escaped)))


def note_no_colors() -> None:
    """Report that ``--color`` has no effect here."""
    note("note: --color has no effect: standard output is not a colour terminal")


def note(message: str) -> None:
    """Print one line to stderr, without characters that could control the terminal."""
    from charlstm.show.printable import one_line

    try:
        print(one_line(with_options(message)), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # the terminal is gone; the work continues
