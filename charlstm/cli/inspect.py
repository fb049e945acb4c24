"""``charlstm inspect``."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.cli.options import Checkpoint, Json, Unknown, example, note, one_of
from charlstm.errors import UsageError
from charlstm.spec import CELLS
from charlstm.views import VIEWS

if TYPE_CHECKING:
    from charlstm.model import Model
    from charlstm.views.blocks import Document
    from charlstm.views.subject import Options

GATES = tuple(dict.fromkeys(gate for cell in CELLS.values() for gate in cell.reported))
EXAMPLES = example(
    "charlstm inspect",
    'charlstm inspect "To be, or not to be"',
    "charlstm inspect --file scene.txt --gate forget",
    "charlstm inspect --view find",
    "charlstm inspect --view cell --unit 17 --guesses --html cell.html",
    'charlstm inspect "(a (b) c)" --layer 1 --unit 17 --json',
)


def inspect(
    text: Annotated[
        str | None,
        typer.Argument(
            help="What the model reads; left out, the held-out excerpt in the checkpoint, or, for "
            "views that need more, the run's held-out text.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read this file instead; - for stdin.")
    ] = None,
    checkpoint: Checkpoint = None,
    view: Annotated[
        str,
        typer.Option(
            help="; ".join(f"{name}: {listed.shows}" for name, listed in VIEWS.items()) + ".",
            autocompletion=one_of(*VIEWS),
        ),
    ] = "gates",
    layer: Annotated[int | None, typer.Option(help="Show only this layer, from 1.")] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            help=f"Show only this gate of those that the cell has: {', '.join(GATES)}.",
            autocompletion=one_of(*GATES),
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Look at this unit, from 0; several as 3,17,40 where a view takes several.",
            metavar="N[,N]",
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            help="Look at h or at c; left out, at c where the cell has one.",
            autocompletion=one_of("h", "c"),
        ),
    ] = None,
    at: Annotated[
        int | None,
        typer.Option(help="The character that walk goes through, from 0; else the last."),
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            help="A feature of your own: the characters in matches of a regular expression.",
            metavar="NAME=REGEX",
        ),
    ] = None,
    guesses: Annotated[
        bool, typer.Option("--guesses", help="Five best guesses under each character of cell.")
    ] = False,
    threshold: Annotated[
        float, typer.Option(help="Above this a unit counts as on in match; if negative, below it.")
    ] = 0.5,
    left: Annotated[float, typer.Option(help="Below this a gate is shut.")] = 0.1,
    right: Annotated[float, typer.Option(help="Above this a gate is open.")] = 0.9,
    warmup: Annotated[
        str | None,
        typer.Option(
            help="Text to read first, which is not counted, or none; left out, the excerpt.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Lines of a long table or text; 0 is all of them.")
    ] = None,
    unknown: Unknown = "error",
    as_json: Json = False,
    html: Annotated[
        str | None, typer.Option(help="Write one HTML file that needs nothing else.")
    ] = None,
    svg: Annotated[str | None, typer.Option(help="Write the picture as an SVG file.")] = None,
    png: Annotated[str | None, typer.Option(help="Write the picture as a PNG file.")] = None,
) -> int:
    """Look inside: gates, cells, what units track, how far back a model remembers."""
    from charlstm.cli.common import open_model, read_text, unknown_policy
    from charlstm.config import check_number
    from charlstm.show.console import stderr_console, stdout_console
    from charlstm.views.subject import Options, Subject, find_view, held_out

    if text is not None and file is not None:
        raise UsageError("a text and --file are both given", "give one of them")
    show = find_view(view)
    if rows is not None:
        check_number("--rows", rows, 0)
    policy = unknown_policy(unknown)
    units = _units(unit)
    options = Options(
        layer=None if layer is None else layer - 1,
        gate=gate,
        units=units,
        left=left,
        right=right,
        rows=rows,
        state=state,
        at=at,
        features=tuple(feature or ()),
        guesses=5 if guesses else 0,
        threshold=threshold,
    )
    model = open_model(checkpoint)
    _check(model, options)
    if text is not None and os.path.isfile(text):
        note(f"reading the words {text!r}; for what is in that file: --file {text}")
    if file is not None:
        text = read_text(file, as_bytes=model.file.vocab.kind == "bytes")
    ids, before = model.inspected(text, None if warmup is None else _none(warmup), policy)
    if text is None and (longer := held_out(model, VIEWS[view].reads)) is not None:
        ids = longer if warmup is not None else longer[len(before) :]
    from charlstm.show.progress import progress_bar

    with progress_bar(stderr_console()) as progress:
        shown = show(Subject(model, ids, before, progress), options)
    _write(shown.document(), html, svg, png)
    if as_json:
        print(json.dumps(shown.data(), allow_nan=False))
    elif not (html or svg or png):
        from charlstm.show.terminal import print_document

        print_document(stdout_console(), shown.document())
    return 0


def _none(warmup: str) -> str:
    return "" if warmup == "none" else warmup


def _units(unit: str | None) -> tuple[int, ...]:
    if unit is None:
        return ()
    try:
        return tuple(int(number) for number in unit.split(","))
    except ValueError:
        raise UsageError(f"--unit is {unit!r}", "give a number, or several as 3,17,40") from None


def _check(model: "Model", options: "Options") -> None:
    config = model.file.config
    gates = CELLS[config.cell].reported
    layer, gate = options.layer, options.gate
    if layer is not None and not 0 <= layer < config.layers:
        raise UsageError(
            f"--layer is {layer + 1}, and the model has {config.layers}",
            f"give a number from 1 to {config.layers}",
        )
    if gate is not None and gate not in gates:
        raise UsageError(
            f"--gate is {gate!r}, which the cell {config.cell} does not have",
            f"choose one of {', '.join(gates)}",
        )
    for unit in options.units:
        if not 0 <= unit < config.hidden_size:
            raise UsageError(
                f"--unit is {unit}, and a layer has {config.hidden_size} units",
                f"give a number from 0 to {config.hidden_size - 1}",
            )


def _write(document: "Document", html: str | None, svg: str | None, png: str | None) -> None:
    """The files that were asked for."""
    if html is not None:
        from charlstm.show.html import to_html

        _put(html, to_html(document).encode("utf-8"))
    if svg is not None:
        from charlstm.show.picture import document_picture
        from charlstm.show.svg import to_svg

        _put(svg, to_svg(document_picture(document)).encode("utf-8"))
    if png is not None:
        from charlstm.show.picture import document_picture
        from charlstm.show.png import to_png

        _put(png, to_png(document_picture(document)))


def _put(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)
    note(f"wrote {path}")
