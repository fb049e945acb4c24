"""``charlstm inspect``."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.cli.options import Checkpoint, Json, Unknown, example, note, one_of
from charlstm.errors import UsageError
from charlstm.spec import CELLS

if TYPE_CHECKING:
    from charlstm.model import Model

GATES = tuple(dict.fromkeys(gate for cell in CELLS.values() for gate in cell.reported))
EXAMPLES = example(
    "charlstm inspect",
    'charlstm inspect "To be, or not to be"',
    "charlstm inspect --file scene.txt --gate forget",
    'charlstm inspect "(a (b) c)" --layer 1 --unit 17 --json',
)


def inspect(
    text: Annotated[
        str | None,
        typer.Argument(
            help="What the model reads; left out, the held-out excerpt in the checkpoint.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read this file instead; - for stdin.")
    ] = None,
    checkpoint: Checkpoint = None,
    layer: Annotated[int | None, typer.Option(help="Show only this layer, from 1.")] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            help=f"Show only this gate of those that the cell has: {', '.join(GATES)}.",
            autocompletion=one_of(*GATES),
        ),
    ] = None,
    unit: Annotated[
        int | None, typer.Option(help="Count only this unit of each layer, from 0.")
    ] = None,
    left: Annotated[float, typer.Option(help="Below this a unit is shut.")] = 0.1,
    right: Annotated[float, typer.Option(help="Above this a unit is open.")] = 0.9,
    warmup: Annotated[
        str | None,
        typer.Option(
            help="Text to read first, which is not counted, or none; left out, the excerpt.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(help="Characters listed; 0 lists all.")] = 60,
    view: Annotated[
        str, typer.Option(help="What to show: gates.", autocompletion=one_of("gates"))
    ] = "gates",
    unknown: Unknown = "error",
    as_json: Json = False,
) -> int:
    """Look at the gates: who is shut and who is open, at each character."""
    from charlstm.cli.common import open_model, read_text, unknown_policy
    from charlstm.config import check_number
    from charlstm.gates import Thresholds

    if text is not None and file is not None:
        raise UsageError("a text and --file are both given", "give one of them")
    if view != "gates":
        raise UsageError(f"--view is {view!r}", "the view there is: gates")
    check_number("--rows", rows, 0)
    thresholds = Thresholds(left, right)
    policy = unknown_policy(unknown)
    model = open_model(checkpoint)
    _check(model, layer, gate, unit)
    if text is not None and os.path.isfile(text):
        note(f"reading the words {text!r}; for what is in that file: --file {text}")
    if file is not None:
        text = read_text(file, as_bytes=model.file.vocab.kind == "bytes")
    report = model.inspect(
        text,
        warmup="" if warmup == "none" else warmup,
        thresholds=thresholds,
        unknown=policy,
        unit=unit,
    )
    layers = range(report.layers) if layer is None else [layer - 1]
    gates = report.gates if gate is None else (gate,)
    if as_json:
        print(json.dumps(_narrow(report.to_dict(str(model.path)), layer, gates)))
        return 0
    from charlstm.show.console import stdout_console
    from charlstm.show.gates import print_report

    print_report(stdout_console(), report, layers=layers, gates=gates, rows=rows or None)
    return 0


def _check(model: "Model", layer: int | None, gate: str | None, unit: int | None) -> None:
    config = model.file.config
    gates = CELLS[config.cell].reported
    if layer is not None and not 1 <= layer <= config.layers:
        raise UsageError(
            f"--layer is {layer}, and the model has {config.layers}",
            f"give a number from 1 to {config.layers}",
        )
    if gate is not None and gate not in gates:
        raise UsageError(
            f"--gate is {gate!r}, which the cell {config.cell} does not have",
            f"choose one of {', '.join(gates)}",
        )
    if unit is not None and not 0 <= unit < config.hidden_size:
        raise UsageError(
            f"--unit is {unit}, and a layer has {config.hidden_size} units",
            f"give a number from 0 to {config.hidden_size - 1}",
        )


def _narrow(report: dict[str, Any], layer: int | None, gates: tuple[str, ...]) -> dict[str, Any]:
    """The JSON with only the gates and the layer asked for; layers keep their numbers."""
    for character in report["characters"]:
        character["layers"] = [
            {gate: values[gate] for gate in gates} if layer in (None, number + 1) else {}
            for number, values in enumerate(character["layers"])
        ]
    report["units"] = [
        entry
        for entry in report["units"]
        if entry["gate"] in gates and layer in (None, entry["layer"] + 1)
    ]
    return report
