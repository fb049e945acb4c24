"""What a user should know of a text before a model learns it."""

import codecs
from collections.abc import Iterable, Iterator
from unicodedata import category

from charlstm.text.corpus import Corpus

MOST_ALIKE = 3
"""Notices of one kind that are shown."""
LEFT_OVER, MUCH_LEFT_OVER = "\ufffd\ufeff", 0.001
"""Characters that conversions leave in a text, and the fraction of it that is noted."""


def text_notes(corpus: Corpus) -> Iterator[str]:
    """A sentence for each thing that is notable, what was left out first."""
    yield from _few_alike(corpus.notices)
    if corpus.vocab.kind != "bytes":
        yield from _line_ends(corpus)
        yield from _controls(corpus)


def _few_alike(notices: Iterable[str]) -> Iterator[str]:
    """Of each kind of notices a few: a folder may have thousands of files."""
    kinds: dict[str, list[str]] = {}
    for notice in notices:
        kinds.setdefault(notice.partition(" ")[0], []).append(notice)
    for alike in kinds.values():
        yield from alike[:MOST_ALIKE]
        if (more := len(alike) - MOST_ALIKE) > 0:
            yield f"… and {more:,} more of these"


def _line_ends(corpus: Corpus) -> Iterator[str]:
    """What carriage returns in a text mean: the model learns and writes them."""
    occurrences = dict(zip(corpus.vocab.symbols, corpus.counts, strict=True))
    returns, newlines = occurrences.get("\r", 0), occurrences.get("\n", 0)
    if returns and not newlines:
        yield (
            "note: the lines end with carriage returns alone, and so will those of the model; "
            "to train on newlines, convert them first: tr '\\r' '\\n' < TEXT > NEW"
        )
    elif returns > newlines / 20:
        lines = (
            "the lines" if returns > 0.95 * newlines else f"{returns / newlines:.0%} of the lines"
        )
        yield (
            f"note: {lines} end with a carriage return and a newline, and so will those of the "
            "model; to train on newlines alone, convert them first: tr -d '\\r' < TEXT > NEW"
        )


def _controls(corpus: Corpus) -> Iterator[str]:
    """Characters that hardly anybody wrote: the model will write them."""
    usual = "\t\n\v\f\r"
    found = {
        symbol: count
        for symbol, count in zip(corpus.vocab.symbols, corpus.counts, strict=True)
        if count and symbol not in usual and (category(symbol) == "Cc" or symbol in LEFT_OVER)
    }
    latin = codecs.lookup(corpus.source.encoding).name == "iso8859-1"
    if latin and any("\x80" <= one < "\xa0" for one in found):
        yield "note: the text has controls that latin-1 texts lack: `encoding` may be cp1252"
    elif (total := sum(found.values())) > MUCH_LEFT_OVER * len(corpus):
        shown = ", ".join(ascii(one) for one in sorted(found, key=lambda one: -found[one])[:5])
        yield (
            f"note: {total:,} characters are controls or marks of a failed conversion ({shown}); "
            "the model learns to write them"
        )
