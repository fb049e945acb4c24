"""Renders a view's document as one self-contained HTML file without scripts."""

from html import escape

from charlstm.analysis.document import (
    Bar,
    Block,
    Cell,
    Document,
    Flagged,
    FractionBar,
    Heading,
    Key,
    Lines,
    Plots,
    Strip,
    Strong,
    Table,
    Tinted,
)
from charlstm.show.documents import printable_words
from charlstm.show.picture import plot_picture
from charlstm.show.printable import in_text
from charlstm.show.style import css, tint
from charlstm.show.svg import to_svg
from charlstm.show.terminal import broken

LINE = 100
"""Characters in a line of a text with strips under it."""
BODY = """
body { font: 15px/1.5 system-ui, sans-serif; color: #141414; background: #fff;
  max-width: 1100px; margin: 2em auto; padding: 0 1em; }
"""
STYLE = """
h1 { font-size: 1.3em; } h2 { font-size: 1.05em; margin: 1.4em 0 .3em; }
p { margin: .3em 0; } .quiet { color: #666; }
.text, table { font: 13px/1.5 ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; }
table { border-collapse: collapse; } td, th { padding: 0 .8em 0 0; text-align: left;
  font-weight: normal; white-space: pre; } th { color: #666; } .right { text-align: right; }
.strong, .flagged { font-weight: bold; } .flagged { color: #be1e1e; }
.bar { display: inline-block; position: relative; width: 180px; height: 11px;
  background: #e1e1e1; } .bar i { position: absolute; top: 0; height: 100%; }
.key .bar { width: 18px; margin-left: .8em; }
.low { background: #0571b0; } .high { background: #e66101; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.strips { display: inline-grid; grid-auto-flow: column; margin-bottom: .8em; white-space: pre; }
.plots svg { max-width: 100%; }
"""


def to_html(document: Document) -> str:
    """The whole page."""
    document = printable_words(document)
    title = escape(document.title)
    body = "\n".join(_block(block) for block in document.blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{BODY}{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def to_fragment(document: Document) -> str:
    """The same as a part of a page, such as a notebook, whose other parts keep their style."""
    document = printable_words(document)
    body = "\n".join(_block(block) for block in document.blocks)
    return (
        f'<div class="charlstm">\n<style>.charlstm {{ color: #141414; background: #fff;\n'
        f"padding: .5em; {STYLE}}}</style>\n"
        f"<h1>{escape(document.title)}</h1>\n{body}\n</div>\n"
    )


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Lines):
        kind = ' class="quiet"' if block.quiet else ""
        return "\n".join(f"<p{kind}>{escape(line)}</p>" for line in block.lines)
    if isinstance(block, Key):
        return _key(block)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Tinted):
        return _tinted(block)
    return _plots(block)


def _key(key: Key) -> str:
    filled = ("low", key.left), ("", "between"), ("high", key.right)
    parts = (
        f'<span class="bar"><i class="{side}" style="width:100%"></i></span> {escape(meaning)}'
        for side, meaning in filled
    )
    return f'<p class="key quiet">{escape(key.fraction)}: {" ".join(parts)}</p>'


def _table(table: Table) -> str:
    def kind(n: int) -> str:
        return ' class="right"' if table.columns[n].right else ""

    heads = "".join(
        f"<th{kind(n)}>{escape(column.title)}{_ends(column.ends)}</th>"
        for n, column in enumerate(table.columns)
    )
    rows = "\n".join(
        "<tr>" + "".join(f"<td{kind(n)}>{_cell(cell)}</td>" for n, cell in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    more = f'\n<p class="quiet">{escape(table.more)}</p>' if table.more else ""
    return f"<table>\n<tr>{heads}</tr>\n{rows}\n</table>{more}"


def _ends(ends: tuple[str, str]) -> str:
    return f" ({escape(ends[0])}, {escape(ends[1])})" if any(ends) else ""


def _cell(cell: Cell) -> str:
    if isinstance(cell, FractionBar):
        left, right = 100 * cell.left, 100 * cell.right
        return (
            f'<span class="bar"><i class="low" style="left:0;width:{left:.1f}%"></i>'
            f'<i class="high" style="right:0;width:{right:.1f}%"></i></span>'
            f"{left:4.0f}%{right:4.0f}%"
        )
    if isinstance(cell, Bar):
        whole = 100 if cell.from_left else 50
        length = whole * min(1.0, abs(cell.value))
        side = "low" if cell.value < 0 else "high"
        edge = "right" if cell.value < 0 else "left"
        style = f"{edge}:{100 - whole}%;width:{length:.1f}%"
        return f'<span class="bar"><i class="{side}" style="{style}"></i></span>'
    if isinstance(cell, Strong | Flagged):
        kind = type(cell).__name__.lower()
        return f'<span class="{kind}">{escape(cell.text)}</span>'
    return escape(cell)


def _tinted(block: Tinted) -> str:
    low, high = (escape(end) for end in block.ends)
    steps = "".join(_colored("  ", step / 4, "") for step in range(-4, 5))
    legend = f'<p class="text quiet">{low} {steps} {high}</p>'
    if not block.under:
        text = "".join(
            _colored(in_text(c), value, f"{t}: {value:.3f}") + ("\n" if c == "\n" else "")
            for t, (c, value) in enumerate(zip(block.text.symbols, block.text.values, strict=True))
        )
        return f'{legend}\n<div class="text">{text}</div>'
    lines = []
    for positions in broken(block.text.symbols, LINE):
        columns = (
            "<span>"
            + "<br>".join(_one(strip, t) for strip in (block.text, *block.under))
            + "</span>"
            for t in positions
        )
        lines.append(f'<div class="strips text">{"".join(columns)}</div><br>')
    return legend + "\n" + "\n".join(lines)


def _one(strip: Strip, t: int) -> str:
    return _colored(in_text(strip.symbols[t]), strip.values[t], f"{t}: {strip.values[t]:.3f}")


def _colored(text: str, value: float, title: str) -> str:
    hint = f' title="{title}"' if title else ""
    return f'<span style="background:{css(tint(value))}"{hint}>{escape(text)}</span>'


def _plots(block: Plots) -> str:
    several = len(block.plots) > 1
    width, height = (350, 320) if several else (720, 380)
    pictures = "\n".join(to_svg(plot_picture(plot, width, height)) for plot in block.plots)
    return f'<div class="plots">\n{pictures}</div>'
