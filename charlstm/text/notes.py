"""What a user should know about a text before training on it."""

import codecs
from collections.abc import Iterable, Iterator
from unicodedata import category

import numpy as np

from charlstm.errors import plural
from charlstm.text.corpus import Corpus
from charlstm.text.items import spans
from charlstm.text.sources import reads_as_utf8

MOST_ALIKE = 3
"""Most notices of one kind that are shown."""
LEFT_OVER, MUCH_LEFT_OVER = "\ufffd\ufeff", 0.001
"""Characters left by failed conversions, and the fraction of a text that is reported."""

LOOKED_AT, MANY_LINES, SHORT_LINE, LONG_LINE = 100_000, 200, 30, 140
"""A text may be a list if, in its first characters, there are that many lines, of that length on
average and at most, and no line is blank. Verse and source code have blank lines."""
BLANK, FEW_ITEMS = 0.05, 20
"""Something may be no list if this fraction of its lines is blank, or if it has fewer items."""


def text_notes(corpus: Corpus) -> Iterator[str]:
    """One note for each notable thing, skipped files first."""
    yield from _few_alike(corpus.notices)
    if (end := corpus.vocab.end) is not None:
        yield from _hardly_a_list(corpus, end)
    if corpus.vocab.kind != "bytes":
        yield from _short_lines(corpus)
        yield from _line_ends(corpus)
        yield from _wrong_encoding(corpus) or _controls(corpus)


def _few_alike(notices: Iterable[str]) -> Iterator[str]:
    """A few notices of each kind: a folder may have thousands of files."""
    kinds: dict[str, list[str]] = {}
    for notice in notices:
        kinds.setdefault(notice.partition(" ")[0], []).append(notice)
    for alike in kinds.values():
        yield from alike[:MOST_ALIKE]
        if (more := len(alike) - MOST_ALIKE) > 0:
            yield f"… and {more:,} more like these"


def _hardly_a_list(corpus: Corpus, end: int) -> Iterator[str]:
    """A list whose items are few, or whose lines are those of a text."""
    start = np.asarray(corpus.ids[:LOOKED_AT])
    lines = int((start == end).sum())
    blank = lines - len(spans(start, end)[0])
    if (items := corpus.counts[end] - blank) < FEW_ITEMS:
        yield (
            f"note: the list has only {plural(items, 'item')}; check that they are separated by "
            f"{corpus.vocab.separator!r}"
        )
    elif corpus.vocab.separator == "\n" and blank > BLANK * lines:
        yield (
            f"note: {blank / lines:.0%} of the lines are blank, as between paragraphs; if lines "
            "belong together, omit `lines`"
        )


def _short_lines(corpus: Corpus) -> Iterator[str]:
    """A text that looks like a list: its lines are short, and none is blank."""
    if corpus.vocab.separator is not None:
        return
    lines = corpus.vocab.decode(corpus.ids[:LOOKED_AT].tolist()).splitlines()[:-1]
    lengths = sorted(map(len, lines))
    if len(lines) >= MANY_LINES and lengths[0] > 0 and lengths[-1] <= LONG_LINE:
        mean = sum(lengths) / len(lengths)
        if mean <= SHORT_LINE:
            yield (
                f"note: the lines are short ({mean:.0f} characters on average); if each stands "
                "alone, as in a list of names, use `lines`"
            )


def _line_ends(corpus: Corpus) -> Iterator[str]:
    """Carriage returns in a text, unless they separate items: the model would learn them."""
    if corpus.vocab.separator == "\r":
        return
    lines_too = " --lines" if corpus.vocab.separator == "\n" else ""
    occurrences = dict(zip(corpus.vocab.symbols, corpus.counts, strict=True))
    returns, newlines = occurrences.get("\r", 0), occurrences.get("\n", 0)
    if returns and not newlines:
        yield (
            "note: lines end with a carriage return (CR), and the model will write them that way; "
            "to train on newlines instead:"
        )
        yield f"tr '\\r' '\\n' < TEXT | charlstm train -{lines_too}"
    elif returns > newlines / 20:
        lines = "lines" if returns > 0.95 * newlines else f"{returns / newlines:.0%} of the lines"
        yield (
            f"note: {lines} end with CR LF (Windows), and the model will write them that way; "
            "to train on newlines instead:"
        )
        yield f"tr -d '\\r' < TEXT | charlstm train -{lines_too}"


def _wrong_encoding(corpus: Corpus) -> list[str]:
    """A text that was read in another encoding than its own, but without an error."""
    encoding = codecs.lookup(corpus.source.encoding).name
    text = corpus.vocab.decode(corpus.ids[:LOOKED_AT].tolist())
    if not encoding.startswith("utf-8") and _is_utf8(text, encoding):
        return ["note: the text is valid UTF-8, but was read in another encoding; omit `encoding`"]
    if encoding == "iso8859-1" and any("\x80" <= one < "\xa0" for one in corpus.vocab.symbols):
        return [
            "note: the text has C1 control characters, so it is probably cp1252; set `encoding`"
        ]
    return []


def _is_utf8(text: str, encoding: str) -> bool:
    """Whether the bytes of ``text`` in this encoding are another text in UTF-8."""
    try:
        data = text.encode(encoding).removeprefix("".encode(encoding))  # a byte-order mark
    except UnicodeError:
        return False
    # Encodings of 7 bits, such as ISO-2022-JP, have only bytes that are ASCII, too.
    seven_bits = data.isascii() and not encoding.startswith(("utf-16", "utf-32"))
    return not seven_bits and reads_as_utf8(data)


def _controls(corpus: Corpus) -> Iterator[str]:
    """Control characters and signs of a failed conversion: the model would learn them."""
    usual = f"\t\n\v\f\r{corpus.vocab.end_symbol}"  # the last is not in the text
    found = {
        symbol: count
        for symbol, count in zip(corpus.vocab.symbols, corpus.counts, strict=True)
        if count and symbol not in usual and (category(symbol) == "Cc" or symbol in LEFT_OVER)
    }
    if (total := sum(found.values())) > MUCH_LEFT_OVER * len(corpus):
        shown = ", ".join(ascii(one) for one in sorted(found, key=lambda one: -found[one])[:5])
        yield (
            f"note: {plural(total, 'control or replacement character')} in the text ({shown}); "
            "the model will learn to write them"
        )
