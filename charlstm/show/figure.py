"""A view in Python: its data, and its picture for a notebook, a terminal or a file."""

from pathlib import Path
from typing import Any

from charlstm.analysis.subject import View
from charlstm.errors import UsageError

ENDINGS = (".html", ".svg", ".png")


class Figure:
    """What ``Model.view`` found. A notebook shows it as a picture, ``print`` as text."""

    def __init__(self, data: View) -> None:
        self.data = data
        """The view's dataclass, with arrays; see the view's module below ``analysis.views``."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the JSON of ``charlstm inspect --json``."""
        return self.data.to_dict()

    def html(self) -> str:
        """One HTML page that needs nothing else."""
        from charlstm.show.html import to_html

        return to_html(self.data.document())

    def svg(self) -> str:
        """The picture as SVG."""
        from charlstm.show.picture import document_picture
        from charlstm.show.svg import to_svg

        return to_svg(document_picture(self.data.document()))

    def png(self) -> bytes:
        """The picture as PNG.

        Raises:
            CharlstmError: it is too large; use fewer ``rows``.
        """
        from charlstm.show.picture import document_picture
        from charlstm.show.svg import to_png

        return to_png(document_picture(self.data.document()))

    def save(self, path: str | Path) -> None:
        """Write the picture to a file whose name ends in .html, .svg or .png.

        Raises:
            UsageError: the ending is another, or the file cannot be written.
        """
        from charlstm.files import write_output

        ending = Path(path).suffix.lower()
        if ending not in ENDINGS:
            raise UsageError(f"{path} has no known ending", f"end it in {', '.join(ENDINGS)}")
        makers = {
            ".html": lambda: self.html().encode("utf-8"),
            ".svg": lambda: self.svg().encode("utf-8"),
            ".png": self.png,
        }
        write_output(Path(path), makers[ending](), ending.removeprefix("."))

    def __str__(self) -> str:
        from io import StringIO

        from charlstm.show.console import make_console
        from charlstm.show.terminal import print_document

        stream = StringIO()
        print_document(make_console(stream), self.data.document())
        return stream.getvalue()

    def __repr__(self) -> str:
        return f"<Figure {self.data.document().title!r}>"

    def _repr_html_(self) -> str:
        from charlstm.show.html import to_fragment

        return to_fragment(self.data.document())
