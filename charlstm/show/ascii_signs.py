"""ASCII stand-ins for the signs that a stream cannot encode, as an error handler of its encoding.

    stream.reconfigure(errors=ERRORS)

Everything that is drawn ends in a stream, so that no view needs a second set of signs, and an
encoding that has some of them (latin-1, code page 437) keeps those.
"""

import codecs

ERRORS = "charlstm.signs"
"""The handler's name, for the ``errors`` of a stream."""
BRAILLE = range(0x2800, 0x2900)
UPPER_DOTS, LOWER_DOTS = 0b00011011, 0b11100100
"""Those of the eight dots of a Braille pattern that are in its upper and in its lower half."""
BOX_DRAWING = range(0x2500, 0x2580)
STAND_INS = {
    # Bars of saturation, levels under a text, a progress bar: as many characters as before.
    **dict(zip("▁▂▃▄▅▆▇█▒·●━", "_.-~=+*#=.o=", strict=True)),
    # Signs for characters that have no shape of their own.
    **dict(zip("␣↵⇥", "_$>", strict=True)),
    **{chr(code): "^" for code in range(0x2400, 0x2422)},
    # Typography. A line that ends in "…" fills its width, so one dot has to do.
    **dict(zip("…−–—‐‑×∗₋", ".-----x*-", strict=True)),
    **dict(zip("‘’‚“”„«»", "'''" + 5 * '"', strict=True)),
    "±": "+-",
    "σ": "sigma",
    "∞": "inf",
}


def stand_in(character: str) -> str:
    """The ASCII for a character: ``?`` for those of a text that is not ours."""
    code = ord(character)
    if code in BRAILLE:  # a cell of a chart, two dots wide and four high
        upper, lower = code & UPPER_DOTS, code & LOWER_DOTS
        return (":" if lower else "'") if upper else "." if lower else " "
    if character in STAND_INS:
        return STAND_INS[character]
    if code in BOX_DRAWING:
        return {"─": "-", "│": "|", "┃": "|"}.get(character, "+")
    return "?"


def _handle(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(stand_in, error.object[error.start : error.end])), error.end


codecs.register_error(ERRORS, _handle)
