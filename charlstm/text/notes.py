"""What a user should know about a text before training on it."""

import codecs
from collections.abc import Iterable, Iterator
from unicodedata import category

from charlstm.errors import plural
from charlstm.text.corpus import Corpus

MOST_ALIKE = 3
"""Most notices of one kind that are shown."""
LEFT_OVER, MUCH_LEFT_OVER = "\ufffd\ufeff", 0.001
"""Characters left by failed conversions, and the fraction of a text that is reported."""

LOOKED_AT, MANY_LINES, SHORT_LINE, LONG_LINE = 100_000, 200, 30, 140
"""A text may be a list if, in its first characters, there are that many lines, of that length on
average and at most, and no line is blank. Verse and source code have blank lines."""


def text_notes(corpus: Corpus) -> Iterator[str]:
    """One note for each notable thing, skipped files first."""
    yield from _few_alike(corpus.notices)
    if corpus.vocab.kind != "bytes":
        yield from _short_lines(corpus)
        yield from _line_ends(corpus)
        yield from _controls(corpus)


def _few_alike(notices: Iterable[str]) -> Iterator[str]:
    """A few notices of each kind: a folder may have thousands of files."""
    kinds: dict[str, list[str]] = {}
    for notice in notices:
        kinds.setdefault(notice.partition(" ")[0], []).append(notice)
    for alike in kinds.values():
        yield from alike[:MOST_ALIKE]
        if (more := len(alike) - MOST_ALIKE) > 0:
            yield f"… and {more:,} more like these"


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
        yield "tr '\\r' '\\n' < TEXT | charlstm train -"
    elif returns > newlines / 20:
        lines = "lines" if returns > 0.95 * newlines else f"{returns / newlines:.0%} of the lines"
        yield (
            f"note: {lines} end with CR LF (Windows), and the model will write them that way; "
            "to train on newlines instead:"
        )
        yield f"tr -d '\\r' < TEXT | charlstm train -{lines_too}"


def _controls(corpus: Corpus) -> Iterator[str]:
    """Control characters and signs of a failed conversion: the model would learn them."""
    usual = f"\t\n\v\f\r{corpus.vocab.end_symbol}"  # the last is not in the text
    found = {
        symbol: count
        for symbol, count in zip(corpus.vocab.symbols, corpus.counts, strict=True)
        if count and symbol not in usual and (category(symbol) == "Cc" or symbol in LEFT_OVER)
    }
    latin = codecs.lookup(corpus.source.encoding).name == "iso8859-1"
    if latin and any("\x80" <= one < "\xa0" for one in found):
        yield "note: the text has C1 control characters, so it is probably cp1252; set `encoding`"
    elif (total := sum(found.values())) > MUCH_LEFT_OVER * len(corpus):
        shown = ", ".join(ascii(one) for one in sorted(found, key=lambda one: -found[one])[:5])
        yield (
            f"note: {plural(total, 'control or replacement character')} in the text ({shown}); "
            "the model will learn to write them"
        )
