"""Write a document to the files that a command names."""

from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.cli.options import note

if TYPE_CHECKING:
    from charlstm.analysis.document import Document


def write_document(
    document: "Document", *, html: str | None = None, svg: str | None = None, png: str | None = None
) -> None:
    """Write the document to these files, as far as they are given."""
    if html is not None:
        from charlstm.show.html import to_html

        write_file(html, to_html(document).encode("utf-8"))
    if svg is not None:
        from charlstm.show.picture import document_picture
        from charlstm.show.svg import to_svg

        write_file(svg, to_svg(document_picture(document)).encode("utf-8"))
    if png is not None:
        from charlstm.show.picture import document_picture
        from charlstm.show.svg import lacking, to_png

        picture = document_picture(document)
        write_file(png, to_png(picture))
        if missing := lacking(picture):
            note(
                f"note: the font of {png} lacks some characters, such as {missing[:5]}; use --svg "
                "or --html to show them"
            )


def write_file(path: str, data: bytes) -> None:
    """Write the file atomically, and report it."""
    from charlstm.files import write_output

    write_output(Path(path), data)
    note(f"wrote {path}")
