"""``charlstm inspect``."""

import json
import os
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
    command,
    default,
    example,
    note,
    one_of,
)
from charlstm.errors import UsageError, plural
from charlstm.net.spec import CELLS, LEFT_SATURATED, RIGHT_SATURATED

if TYPE_CHECKING:
    from charlstm.analysis.subject import ViewFields
    from charlstm.cli.inputs import Reader
    from charlstm.model import Model
    from charlstm.text.vocabulary import Ids

COMMON = ("view", "checkpoint", "as_json", "html", "svg", "png")
"""Parameters that every view takes; for the others see ``ViewInfo.takes``."""
READING = ("text", "file", "warmup", "unknown")
"""Parameters for the text that is read."""
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
    """The views that take an option, for its help."""
    return f"Views: {', '.join(view for view in VIEWS if option in parameters_of(view))}."


def parameters_of(view: str) -> tuple[str, ...]:
    """The parameters that a view takes, besides those of all views."""
    takes = VIEWS[view].takes
    reading = READING if "text" in takes else ()
    return (*reading, *(field for field in takes if field != "text"))


class Reading(OptionGroup):
    """The text that the model reads, and what it reads first."""

    text: Annotated[
        str | None,
        typer.Argument(
            help="Text for the model to read."
            + default("held-out excerpt in the checkpoint; more held-out text for some views"),
            show_default=False,
        ),
    ] = None
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read the text from this file; - for stdin.")
    ] = None
    warmup: Annotated[
        str | None,
        typer.Option(
            help="Text to read first, not measured; none to start from zero state."
            + default("held-out excerpt"),
            show_default=False,
        ),
    ] = None
    unknown: Unknown = "error"


class Chosen(OptionGroup):
    """What a view shows: the fields of ``Options``, as the user types them."""

    layer: Annotated[
        int | None,
        typer.Option(help=f"Show only this layer, counted from 1. {_views('layer')}"),
    ] = None
    gate: Annotated[
        str | None,
        typer.Option(
            help=f"Show only this gate, if the cell has it: {', '.join(GATES)}. {_views('gate')}",
            autocompletion=one_of(*GATES),
        ),
    ] = None
    units: Annotated[
        str | None,
        typer.Option(
            "--unit",
            help="Show this unit, counted from 0; ablate, memory, match accept several: 3,17,40. "
            f"{_views('units')}",
            metavar="N[,N]",
        ),
    ] = None
    state: Annotated[
        str | None,
        typer.Option(
            help=f"State to show: h (hidden) or c (cell). {_views('state')}"
            + default("c if the cell has one"),
            autocompletion=one_of("h", "c"),
        ),
    ] = None
    at: Annotated[
        int | None,
        typer.Option(
            help=f"Position of the character to show, counted from 0. {_views('at')}"
            + default("the last one")
        ),
    ] = None
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            help="Your own feature: all characters that a regular expression matches (repeatable). "
            f"{_views('features')}",
            metavar="NAME=REGEX",
        ),
    ] = None
    guesses: Annotated[
        bool,
        typer.Option(
            "--guesses",
            help=f"Show the five best guesses below each character. {_views('guesses')}",
        ),
    ] = False
    threshold: Annotated[
        float,
        typer.Option(
            help="Activation above which a unit is on; if negative, below which it is on. "
            f"{_views('threshold')}"
        ),
    ] = 0.5
    left: Annotated[
        float, typer.Option(help=f"Below this value a gate is left-saturated. {_views('left')}")
    ] = LEFT_SATURATED
    right: Annotated[
        float, typer.Option(help=f"Above this value a gate is right-saturated. {_views('right')}")
    ] = RIGHT_SATURATED
    rows: Annotated[
        int | None,
        typer.Option(
            help=f"Number of lines of a long table or text; 0 for all. {_views('rows')}"
            + default("depends on the view")
        ),
    ] = None


class Files(OptionGroup):
    """Output files."""

    html: Annotated[str | None, typer.Option(help="Write a self-contained HTML file.")] = None
    svg: Annotated[str | None, typer.Option(help="Write an SVG file.")] = None
    png: Annotated[str | None, typer.Option(help="Write a PNG file.")] = None


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
    """Look inside a model: gates, cells, what units track, how far back it remembers."""
    from charlstm.analysis.document import reworded
    from charlstm.analysis.subject import find_view, held_out
    from charlstm.cli.inputs import Reader, open_model, unknown_policy
    from charlstm.show.console import progress_bar, stderr_console, stdout_console

    if reading.text is not None and reading.file is not None:
        raise UsageError("TEXT and --file cannot be used together", "choose one of them")
    find_view(view)
    _check_taken(context, view)
    check_outputs(**vars(files))
    options = _options(chosen)
    policy = unknown_policy(reading.unknown)
    model = open_model(checkpoint)
    _check(model, options)
    _note_names(reading)
    text, warmup = _read(model, reading, Reader(model.file.vocab, policy))
    with progress_bar(stderr_console()) as progress:
        figure = model.view(view, text, warmup=warmup, progress=progress, **options)
    if text is None and VIEWS[view].reads and held_out(model, VIEWS[view].reads) is None:
        excerpt, _ = model.inspected(None, warmup)
        note(
            f"note: the run's held-out text is not in the cache; {view} read only the "
            f"{plural(len(excerpt), 'character')} in the checkpoint; use --file for more"
        )
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
    """Point out arguments that are read as text but are also the name of a file or a run."""
    from charlstm.runs.catalogue import is_run

    if (text := reading.text) is not None:
        if os.path.isfile(text):
            note(f"treating {text!r} as text, not a file name; to read the file:")
            note(command("inspect", "--file", text))
        elif is_run(text):
            note(f"treating {text!r} as text, not the name of a run; to inspect the run:")
            note(command("inspect", "-c", text))
    if reading.warmup and os.path.isfile(reading.warmup):
        note(f"treating {reading.warmup!r} as text, not a file name")


def _check_taken(context: typer.Context, view: str) -> None:
    """Raise ``UsageError`` for an option that the view does not take."""
    taken = parameters_of(view)
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and name not in (*COMMON, *taken):
            usable = ", ".join(f"`{field}`" for field in taken)
            raise UsageError(f"--view {view} does not take `{name}`", f"it takes {usable}")


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
        raise UsageError(f"`units` is {numbers!r}", "give a number, or several: 3,17,40") from None


def _check(model: "Model", options: "ViewFields") -> None:
    config = model.file.config
    gates = CELLS[config.cell].reported
    layer, gate = options["layer"], options["gate"]
    if layer is not None and not 0 <= layer < config.layers:
        raise UsageError(
            f"`layer` is {layer + 1}, but the model has {plural(config.layers, 'layer')}",
            f"give a number from 1 to {config.layers}",
        )
    if gate is not None and gate not in gates:
        raise UsageError(
            f"`gate` is {gate!r}, but the {config.cell} cell has no such gate",
            f"choose one of {', '.join(gates)}",
        )
    for unit in options["units"]:
        if not 0 <= unit < config.hidden_size:
            raise UsageError(
                f"`units` has {unit}, but a layer has {plural(config.hidden_size, 'unit')}",
                f"give a number from 0 to {config.hidden_size - 1}",
            )


def _read(model: "Model", reading: Reading, reader: "Reader") -> "tuple[Ids | None, Ids | None]":
    """The ids that the view measures, and those that the model reads first; None: the default."""
    from charlstm.cli.inputs import read_text

    text, warmup = reading.text, "" if reading.warmup == "none" else reading.warmup
    if reading.file is not None:
        text = read_text(reading.file, as_bytes=model.file.vocab.kind == "bytes")
    return (
        None if text is None else reader.encode(text),
        None if warmup is None else reader.encode(warmup),
    )
