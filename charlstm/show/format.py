"""Text that is safe and legible on a terminal, and numbers as people read them."""

import unicodedata

_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_NAMED = {"\n": "↵", "\t": "⇥", " ": "␣", "\r": "␍"}
_UNSAFE = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Bidirectional embeddings, overrides and isolates: they reorder what stands around a text."""


def printable(text: str, keep: str = "\n\t") -> str:
    """``text`` with what could steer a terminal made visible; ``keep`` are characters that stay.

    Control characters, line and paragraph separators, lone surrogates (undecodable bytes),
    bidirectional overrides and isolates are replaced by a picture or U+FFFD. Other format
    characters stay: joiners make Persian words and family emoji, soft hyphens German ones.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep else _shown(c) for c in text)


def _shown(character: str) -> str:
    if ord(character) in _CONTROL_PICTURES:
        return _CONTROL_PICTURES[ord(character)]
    unsafe = unicodedata.category(character) in _UNSAFE or ord(character) in _DIRECTIONS
    return "\ufffd" if unsafe else character


def symbol(character: str) -> str:
    """One character for a table's cell: blanks have a sign, and what has no width U+FFFD."""
    if unicodedata.category(character) == "Cf":
        return "\ufffd"
    return _NAMED.get(character) or printable(character, keep="")


def in_text(character: str) -> str:
    """One character of a text that is shown character by character: a space is a space."""
    return " " if character == " " else symbol(character)


def duration(seconds: float) -> str:
    """``42 s``, ``3:07``, ``2:03:07``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def size(bytes_: float) -> str:
    """``312 B``, ``4.2 MB``."""
    for unit in ("B", "kB", "MB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} {unit}" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} GB"


def count(number: float) -> str:
    """``1,219,201`` short: ``1.2M``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"
