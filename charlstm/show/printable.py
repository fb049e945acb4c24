"""Makes text safe to print: replaces characters that could control a terminal."""

import unicodedata

_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_NAMED = {"\n": "↵", "\t": "⇥", " ": "␣", "\r": "␍"}
LONGEST_LINE = 10_000
_UNSAFE = {"Cc", "Cs", "Zl", "Zp"}
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Bidirectional embeddings, overrides and isolates: they reorder the surrounding text."""


def printable(text: str, keep: str = "\n\t") -> str:
    """``text`` with control characters made visible, except those in ``keep``.

    Control characters, line and paragraph separators, lone surrogates (undecodable bytes),
    bidirectional overrides and isolates are replaced by a picture or U+FFFD. Other format
    characters stay: Persian words and family emoji need joiners, German words soft hyphens.
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
    """A character in a table cell: whitespace as a sign, zero-width characters as U+FFFD."""
    if unicodedata.category(character) == "Cf":
        return "\ufffd"
    return _NAMED.get(character) or printable(character, keep="")


def in_text(character: str) -> str:
    """As ``symbol``, but a space stays a space: for text shown character by character."""
    return " " if character == " " else symbol(character)


def one_line(text: str) -> str:
    """A message on one line of a terminal, cut where it is too long to be read.

    It may quote names and values from a file of somebody else's.
    """
    line = printable(text, keep="")
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
