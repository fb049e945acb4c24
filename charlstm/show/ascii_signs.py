"""ASCII stand-ins for characters that a stream cannot encode, as an encoding error handler.

    stream.reconfigure(errors=ERRORS)

Because the handler belongs to the stream, no view needs a second set of characters, and encodings
that have some of them (latin-1, code page 437) keep those.
"""

import codecs

ERRORS = "charlstm.signs"
"""The handler's name, for the ``errors`` of a stream."""
BRAILLE = range(0x2800, 0x2900)
UPPER_DOTS, LOWER_DOTS = 0b00011011, 0b11100100
"""The dots in the upper and in the lower half of a Braille pattern."""
BOX_DRAWING = range(0x2500, 0x2580)
STAND_INS = {
    # Saturation bars, levels under a text, the progress bar: of equal width.
    **dict(zip("▁▂▃▄▅▆▇█▒·●━", "_.-~=+*#=.o=", strict=True)),
    # Signs for invisible characters.
    **dict(zip("␣↵⇥", "_$>", strict=True)),
    **{chr(code): "^" for code in range(0x2400, 0x2422)},
    # Typography. A truncated line fills its width, so "…" becomes one dot.
    **dict(zip("…−–—‐‑×∗₋", ".-----x*-", strict=True)),
    **dict(zip("‘’‚“”„«»", "'''" + 5 * '"', strict=True)),
    "±": "+-",
    "σ": "sigma",
    "∞": "inf",
}


def stand_in(character: str) -> str:
    """ASCII for a character: ``?`` for any that charlstm does not print itself."""
    code = ord(character)
    if code in BRAILLE:  # one cell of a chart: two dots wide, four high
        upper, lower = code & UPPER_DOTS, code & LOWER_DOTS
        return (":" if lower else "'") if upper else "." if lower else " "
    if character in STAND_INS:
        return STAND_INS[character]
    if code in BOX_DRAWING:
        return {"─": "-", "│": "|", "┃": "|"}.get(character, "+")
    return "?"


def with_signs(text: str, encoding: str) -> str:
    """``text`` as a stream of this encoding shows it: what has to fit is measured afterwards.

    A stand-in may be wider than its character, and a combining mark becomes a sign of its own.
    """
    return text.encode(encoding, ERRORS).decode(encoding)


def _handle(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(stand_in, error.object[error.start : error.end])), error.end


codecs.register_error(ERRORS, _handle)
