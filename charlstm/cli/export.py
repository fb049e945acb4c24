"""``charlstm export``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm import __version__
from charlstm.cli.inputs import open_model
from charlstm.cli.options import Checkpoint, example, note
from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.model import Model

EXAMPLES = example(
    "charlstm export book.onnx                 for onnxruntime, in any language",
    "charlstm export book.onnx -c book --force",
)


def export(
    file: Annotated[
        str, typer.Argument(help="The file to write; its ending chooses the format: .onnx.")
    ],
    checkpoint: Checkpoint = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file that is already there.")
    ] = False,
) -> int:
    """Save a model for use outside charlstm."""
    from charlstm.files import output_file, write_output
    from charlstm.show.units import size

    path = Path(file)
    convert = FORMATS.get(path.suffix.lower())
    if convert is None:
        known = ", ".join(FORMATS)
        raise UsageError(f"{file} has no known ending", f"end the name in one of: {known}")
    if output_file(path).exists() and not force:
        raise UsageError(f"{file} is already there", "name another file, or add --force")
    model = open_model(checkpoint)
    data = convert(model)
    write_output(path, data)
    note(f"{file}: {size(len(data))}, {model.file.config.describe()}")
    return 0


def _onnx(model: "Model") -> bytes:
    from charlstm.export.onnx_graph import to_onnx

    return to_onnx(model.file, __version__)


FORMATS: dict[str, Callable[["Model"], bytes]] = {".onnx": _onnx}
"""By the ending of the file's name."""
