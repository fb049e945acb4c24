"""Makes a document safe to show on any medium."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from charlstm.analysis.document import Strip
from charlstm.show.printable import printable, symbol

T = TypeVar("T")


def printable_words(part: T) -> T:
    """A document, or a part of one, with control characters in its words made visible.

    Names of runs come from folders of anybody, so even titles of columns are not safe. A word of
    one character gets a sign if it cannot be seen. The symbols of a ``Strip`` are kept: they
    become signs where they are drawn, because a newline there ends the line.
    """
    return _changed(part)  # type: ignore[no-any-return]


def _changed(part: Any) -> Any:
    if isinstance(part, str):
        return symbol(part) if len(part) == 1 else printable(part, keep="")
    if isinstance(part, tuple):
        return tuple(map(_changed, part))
    if is_dataclass(part) and not isinstance(part, type | Strip):
        return replace(part, **{f.name: _changed(getattr(part, f.name)) for f in fields(part)})
    return part
