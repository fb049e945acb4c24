"""``charlstm inspect``."""

import json
import os
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.analysis.views import VIEWS
from charlstm.cli.documents import write_document
from charlstm.cli.option_names import with_options
from charlstm.cli.options import (
    Checkpoint,
    Json,
    OptionGroup,
    Unknown,
    check_outputs,
    example,
    note,
    one_of,
)
from charlstm.errors import UsageError
from charlstm.net.spec import CELLS, LEFT_SATURATED, RIGHT_SATURATED

if TYPE_CHECKING:
    from charlstm.analysis.subject import ViewFields
    from charlstm.cli.inputs import Reader
    from charlstm.model import Model
    from charlstm.text.vocabulary import Ids

COMMON = ("view", "checkpoint", "as_json", "html", "svg", "png")
"""The parameters that work with every view; see ``ViewInfo.takes`` for the others."""
READING = ("text", "file", "warmup", "unknown")
"""The parameters that say which text is read, and how."""
GATES = tuple(dict.fromkeys(gate for cell in CELLS.values() for gate in cell.reported))
EXAMPLES = example(
    "charlstm inspect",
    'charlstm inspect "To be, or not to be"',
    "charlstm inspect --file scene.txt --gate forget",
    "charlstm inspect --view find",
    "charlstm inspect --view cell --unit 17 --guesses --html cell.html",
    'charlstm inspect "(a (b) c)" --layer 1 --unit 17 --json',
)


def _views(option: str) -> str:
    """Which views use an option, in its help."""
    return f"Views: {', '.join(view for view in VIEWS if option in parameters_of(view))}."


def parameters_of(view: str) -> tuple[str, ...]:
    """The parameters that a view uses, besides those of all views: fields, and how it reads."""
    takes = VIEWS[view].takes
    reading = READING if "text" in takes else ()
    return (*reading, *(field for field in takes if field != "text"))


class Reading(OptionGroup):
    """What the model reads, and before it."""

    text: Annotated[
        str | None,
        typer.Argument(
            help="What the model reads; left out, the held-out excerpt in the checkpoint, or, for "
            "views that need more, the run's held-out text.",
            show_default=False,
        ),
    ] = None
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read this file instead; - for stdin.")
    ] = None
    warmup: Annotated[
        str | None,
        typer.Option(
            help="Text to read first, which is not counted, or none; left out, the excerpt.",
            show_default=False,
        ),
    ] = None
    unknown: Unknown = "error"


class Chosen(OptionGroup):
    """What a view looks at; the fields of ``Options``, as a user gives them."""

    layer: Annotated[
        int | None, typer.Option(help=f"Show only this layer, from 1. {_views('layer')}")
    ] = None
    gate: Annotated[
        str | None,
        typer.Option(
            help=f"Show only this gate of those that the cell has: {', '.join(GATES)}. "
            f"{_views('gate')}",
            autocompletion=one_of(*GATES),
        ),
    ] = None
    units: Annotated[
        str | None,
        typer.Option(
            "--unit",
            help="Look at this unit, from 0; ablate, memory, match take several, as 3,17,40. "
            f"{_views('units')}",
            metavar="N[,N]",
        ),
    ] = None
    state: Annotated[
        str | None,
        typer.Option(
            help=f"Look at h or at c; left out, at c where the cell has one. {_views('state')}",
            autocompletion=one_of("h", "c"),
        ),
    ] = None
    at: Annotated[
        int | None,
        typer.Option(help=f"The character to go through, from 0; else the last. {_views('at')}"),
    ] = None
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            help="A feature of your own: the characters in matches of a regular expression. "
            f"{_views('features')}",
            metavar="NAME=REGEX",
        ),
    ] = None
    guesses: Annotated[
        bool,
        typer.Option(
            "--guesses", help=f"Five best guesses under each character. {_views('guesses')}"
        ),
    ] = False
    threshold: Annotated[
        float,
        typer.Option(
            help=f"Above this a unit counts as on; if negative, below it. {_views('threshold')}"
        ),
    ] = 0.5
    left: Annotated[float, typer.Option(help=f"Below this a gate is shut. {_views('left')}")] = (
        LEFT_SATURATED
    )
    right: Annotated[float, typer.Option(help=f"Above this a gate is open. {_views('right')}")] = (
        RIGHT_SATURATED
    )
    rows: Annotated[
        int | None,
        typer.Option(help=f"Lines of a long table or text; 0 is all of them. {_views('rows')}"),
    ] = None


class Files(OptionGroup):
    """Files that the view is written to."""

    html: Annotated[
        str | None, typer.Option(help="Write one HTML file that needs nothing else.")
    ] = None
    svg: Annotated[str | None, typer.Option(help="Write the picture as an SVG file.")] = None
    png: Annotated[str | None, typer.Option(help="Write the picture as a PNG file.")] = None


def inspect(
    context: typer.Context,
    *,
    reading: Reading,
    checkpoint: Checkpoint = None,
    view: Annotated[
        str,
        typer.Option(
            help="; ".join(f"{name}: {listed.shows}" for name, listed in VIEWS.items()) + ".",
            autocompletion=one_of(*VIEWS),
        ),
    ] = "gates",
    chosen: Chosen,
    as_json: Json = False,
    files: Files,
) -> int:
    """Look inside: gates, cells, what units track, how far back a model remembers."""
    from charlstm.analysis.document import reworded
    from charlstm.analysis.subject import find_view, held_out
    from charlstm.cli.inputs import Reader, open_model, unknown_policy
    from charlstm.show.console import progress_bar, stderr_console, stdout_console

    if reading.text is not None and reading.file is not None:
        raise UsageError("a text and --file are both given", "give one of them")
    find_view(view)
    _check_taken(context, view)
    check_outputs(**vars(files))
    options = _options(chosen)
    policy = unknown_policy(reading.unknown)
    model = open_model(checkpoint)
    _check(model, options)
    _note_names(reading)
    text, warmup = _read(model, reading, Reader(model.file.vocab, policy))
    if text is None and VIEWS[view].reads and held_out(model, VIEWS[view].reads) is None:
        excerpt, _ = model.inspected(None, warmup)
        note(
            f"no text that the run held out is in the cache, so {view} reads the {len(excerpt):,} "
            "characters kept with the checkpoint; --file gives it more"
        )
    with progress_bar(stderr_console()) as progress:
        figure = model.view(view, text, warmup=warmup, progress=progress, **options)
    found = figure.data
    document = reworded(found.document(), with_options)
    write_document(document, **vars(files))
    if as_json:
        print(json.dumps(found.to_dict(), allow_nan=False))
    elif not any(vars(files).values()):
        from charlstm.show.terminal import print_document

        print_document(stdout_console(), document)
    return 0


def _note_names(reading: Reading) -> None:
    """Point out words that are read as text, and name a file or a run."""
    from charlstm.runs.catalogue import is_run

    if (text := reading.text) is not None:
        if os.path.isfile(text):
            note(f"treating {text!r} as text; for what is in that file: --file {quote(text)}")
        elif is_run(text):
            note(f"treating {text!r} as text; for the run of that name: -c {quote(text)}")
    if reading.warmup and os.path.isfile(reading.warmup):
        note(f"treating {reading.warmup!r} as text, not as the name of a file")


def _check_taken(context: typer.Context, view: str) -> None:
    """Raise ``UsageError`` for an option that the view does not use."""
    taken = parameters_of(view)
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and name not in (*COMMON, *taken):
            usable = ", ".join(f"`{field}`" for field in taken)
            raise UsageError(f"`{name}` does not go with --view {view}", f"it takes {usable}")


def _options(chosen: Chosen) -> "ViewFields":
    from charlstm.errors import check_integer

    if chosen.rows is not None:
        check_integer("`rows`", chosen.rows, 0)
    converted = {
        "layer": None if chosen.layer is None else chosen.layer - 1,
        "units": _units(chosen.units),
        "features": tuple(chosen.features or ()),
        "guesses": 5 if chosen.guesses else 0,
    }
    options: ViewFields = vars(chosen) | converted  # type: ignore[assignment]
    return options


def _units(numbers: str | None) -> tuple[int, ...]:
    if numbers is None:
        return ()
    try:
        return tuple(int(number) for number in numbers.split(","))
    except ValueError:
        raise UsageError(
            f"`units` is {numbers!r}", "give a number, or several as 3,17,40"
        ) from None


def _check(model: "Model", options: "ViewFields") -> None:
    config = model.file.config
    gates = CELLS[config.cell].reported
    layer, gate = options["layer"], options["gate"]
    if layer is not None and not 0 <= layer < config.layers:
        raise UsageError(
            f"`layer` is {layer + 1}, and the model has {config.layers}",
            f"give a number from 1 to {config.layers}",
        )
    if gate is not None and gate not in gates:
        raise UsageError(
            f"`gate` is {gate!r}, which the cell {config.cell} does not have",
            f"choose one of {', '.join(gates)}",
        )
    for unit in options["units"]:
        if not 0 <= unit < config.hidden_size:
            raise UsageError(
                f"`units` has {unit}, and a layer has {config.hidden_size} units",
                f"give a number from 0 to {config.hidden_size - 1}",
            )


def _read(model: "Model", reading: Reading, reader: "Reader") -> "tuple[Ids | None, Ids | None]":
    """What the view counts and what the model reads before it, as ids; None for the default."""
    from charlstm.cli.inputs import read_text
    from charlstm.runs.catalogue import is_run

    text, warmup = reading.text, "" if reading.warmup == "none" else reading.warmup
    if text is not None and os.path.isfile(text):
        note(f"reading the words {text!r}; for what is in that file: --file {quote(text)}")
    elif text is not None and is_run(text):
        note(f"reading the words {text!r}; for the run of that name: -c {quote(text)}")
    if reading.file is not None:
        text = read_text(reading.file, as_bytes=model.file.vocab.kind == "bytes")
    return (
        None if text is None else reader.encode(text),
        None if warmup is None else reader.encode(warmup),
    )
