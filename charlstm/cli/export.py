"""``charlstm export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm import __version__
from charlstm.cli.inputs import open_model
from charlstm.cli.options import Checkpoint, default, example, note, one_of
from charlstm.errors import UsageError

if TYPE_CHECKING:
    from charlstm.model import Model

ENDINGS = (".html", ".onnx")
EXAMPLES = example(
    "charlstm export book.html            an interactive web page",
    "charlstm export book.onnx -c book    for onnxruntime, in any language",
)


def export(
    file: Annotated[
        str,
        typer.Argument(
            help="File to write. The suffix sets the format: .html for a web page, .onnx for an "
            "ONNX graph."
        ),
    ],
    checkpoint: Checkpoint = None,
    title: Annotated[
        str | None,
        typer.Option(help="Title of the page." + default("the run's name"), show_default=False),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision of the page's weights: float16, or float32 for twice the size."
            + default("float16"),
            show_default=False,
            autocompletion=one_of("float16", "float32"),
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> int:
    """Export a model as a web page or an ONNX graph."""
    from charlstm.files import output_file, write_output
    from charlstm.show.quantities import size

    path = Path(file)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"unknown format: {file}", f"end the name in {' or '.join(ENDINGS)}")
    page_options = {"title": title, "precision": precision}
    given = {name: value for name, value in page_options.items() if value is not None}
    if given and ending != ".html":
        names = ", ".join(f"`{name}`" for name in given)
        raise UsageError(f"{names}: only for a web page", "omit it, or end the name in .html")

    def check() -> None:
        if output_file(path).exists() and not force:
            raise UsageError(f"{file} already exists", "choose another name, or add --force")

    check()
    model = open_model(checkpoint)
    data, facts = _page(model, given) if ending == ".html" else _onnx(model)
    check()  # that took a while
    write_output(path, data)
    for fact in (f"{file}: {size(len(data))}, {model.file.config.describe()}", *facts):
        note(fact)
    return 0


def _page(model: "Model", options: dict[str, Any]) -> tuple[bytes, list[str]]:
    from charlstm.export.page import to_page

    page = to_page(model, __version__, **options)
    facts = [f"about {page.characters_per_second:,.0f} characters per second in a browser"]
    if page.cost_bits is not None:
        facts.append(
            f"float16 weights cost {page.cost_bits:z.4f} bits per character on the held-out excerpt"
        )
    return page.html, facts


def _onnx(model: "Model") -> tuple[bytes, list[str]]:
    from charlstm.export.onnx_graph import to_onnx

    return to_onnx(model.file, __version__), []
