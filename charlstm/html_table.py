"""A small table in HTML: what a notebook shows of an object."""

from collections.abc import Mapping
from html import escape


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """A title and two columns, names and values; nothing in them becomes markup."""
    body = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<b>{escape(title)}</b><table>{body}</table>"
