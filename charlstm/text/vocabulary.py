"""Map characters to ids and back, with a policy for unknown characters."""

import codecs
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, check_choice, require, shown

UnknownPolicy = Literal["error", "skip", "replace"]
UNKNOWN_POLICIES: tuple[UnknownPolicy, ...] = ("error", "skip", "replace")
MAX_VOCABULARY = sys.maxunicode + 1
"""The number of Unicode code points."""
RECORD_SEPARATOR = "\x1e"
"""The symbol that stands for a separator of several characters."""
MAX_SEPARATOR = 1000
"""Most characters of a separator: they are written once for each item."""
Ids = NDArray[np.int64]


def code_points(text: str) -> NDArray[np.unsignedinteger]:
    """The code point of each character (len(text),); uint8 for ASCII, else uint16 or uint32.

    Raises:
        UnicodeEncodeError: ``text`` has a lone surrogate.
    """
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    units = np.frombuffer(text.encode("utf-16-le"), "<u2")
    if len(units) == len(text):
        return units
    return np.frombuffer(text.encode("utf-32-le"), "<u4")  # it has surrogate pairs


def is_separator(text: str) -> bool:
    """Whether items can be separated by ``text``: it is neither empty nor long, and encodable."""
    if not 0 < len(text) <= MAX_SEPARATOR:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in text)


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a model; the id of a symbol is its index in ``symbols``.

    ``kind`` is ``characters`` (symbols are Unicode characters, in code-point order) or ``bytes``
    (256 symbols, symbol b standing for byte b). The vocabulary of a list has a ``separator``, the
    text between two items, for which one symbol stands.
    """

    symbols: str
    kind: Literal["characters", "bytes"] = "characters"
    separator: str | None = None

    def __post_init__(self) -> None:
        unique = len(set(self.symbols)) == len(self.symbols)
        if not self.symbols or not unique or len(self.symbols) > MAX_VOCABULARY:
            raise CharlstmError("the vocabulary is empty or has a duplicate symbol")
        if self.kind == "bytes" and self.symbols != BYTE_SYMBOLS:
            raise CharlstmError("a byte vocabulary must have all 256 bytes in order")
        if self.separator is None:
            return
        if not is_separator(self.separator):
            raise CharlstmError(f"the separator of its items is {shown(self.separator)}")
        if self.end_symbol not in self._index:
            raise CharlstmError(f"the vocabulary has no end of an item, {self.end_symbol!r}")

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    @property
    def end_symbol(self) -> str:
        """The symbol of the separator: a single character stands for itself; "" without items."""
        separator = self.separator or ""
        return separator if len(separator) < 2 else RECORD_SEPARATOR

    @property
    def end(self) -> int | None:
        """The id that ends an item of a list; None for a text."""
        return None if self.separator is None else self._index[self.end_symbol]

    def closed(self, ids: Ids) -> Ids:
        """``ids`` (N,), and the end of the last item if it is a list and has none."""
        if self.end is None or not len(ids) or ids[-1] == self.end:
            return ids
        return np.append(ids, self.end)

    def as_symbols(self, text: str) -> str:
        """``text`` as symbols, one character each: its characters, or its UTF-8 bytes.

        For each separator of a list stands ``end_symbol``.

        Raises:
            CharlstmError: the symbols are bytes, and ``text`` has a surrogate that is none.
        """
        if self.kind == "characters":
            return text.replace(self.separator, self.end_symbol) if self.separator else text
        try:
            return text.encode("utf-8", "surrogateescape").decode("latin-1")
        except UnicodeEncodeError as error:
            raise CharlstmError(
                f"U+{ord(text[error.start]):04X} is a lone surrogate and has no bytes",
                "remove it from the text",
            ) from None

    def symbols_in(self, character: str) -> int:
        """Number of symbols in a character: 1, or the number of its UTF-8 bytes."""
        return len(self.as_symbols(character))

    def unknown(self, text: str) -> list[str]:
        """The characters of ``text`` that have no id, each once, in order of appearance."""
        return [s for s in dict.fromkeys(self.as_symbols(text)) if s not in self._index]

    def known_form(self, text: str) -> str:
        """``text``, or its canonical Unicode equivalent with fewer unknown characters.

        An accented letter can be one character (\u00e9) or two (e and U+0301). They look alike, and
        a model may know only one form. Unknown characters are composed (NFC), or decomposed (NFD)
        if the model knows only that form.
        """
        if not isinstance(text, str) or not (unknown := self.unknown(text)):
            return text
        import unicodedata  # rarely needed

        composed = unicodedata.normalize("NFC", text)
        forms = {}
        for character in set(composed):
            decomposed = unicodedata.normalize("NFD", character)
            typed = character if character in text else decomposed
            both = (character, decomposed)
            forms[ord(character)] = next((f for f in both if not self.unknown(f)), typed)
        other = composed.translate(forms)
        return other if len(self.unknown(other)) < len(unknown) else text

    def encode(self, text: str, unknown: UnknownPolicy = "error") -> Ids:
        """Ids of the characters of ``text``; int64 (N,), or fewer where some are skipped.

        ``unknown`` is the policy for characters without an id: ``error`` raises, ``skip`` drops
        them, ``replace`` substitutes a space (or the first symbol if the vocabulary has no space).

        Raises:
            CharlstmError: a character has no id and the policy is ``error``.
            UsageError: the policy is unknown, or ``text`` is not a string.
        """
        require(isinstance(text, str), f"the text is {shown(text)}, but must be a string")
        check_choice("`unknown`", unknown, UNKNOWN_POLICIES)
        missing = self.unknown(text)
        if missing and unknown == "error":
            named = " ".join(f"{s!r} (U+{ord(s):04X})" for s in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise CharlstmError(
                f"the model never saw {named}{more}",
                "remove these characters, or use `unknown` skip or `unknown` replace",
            )
        symbols: Iterable[str] = self.as_symbols(text)
        if missing:
            gone = set(missing)
            stand_in = " " if " " in self._index else self.symbols[0]
            symbols = (
                (s for s in symbols if s not in gone)
                if unknown == "skip"
                else (stand_in if s in gone else s for s in symbols)
            )
        index = self._index
        return np.fromiter((index[s] for s in symbols), dtype=np.int64)

    def opening(self) -> Ids:
        """The id that stands for an empty prime: of an item's end, a newline, or 0; int64 (1,)."""
        return np.array([self._index.get("\n", 0) if self.end is None else self.end])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; bytes that are not valid UTF-8 become surrogate escapes."""
        text = "".join(self.symbols[i] for i in ids)
        if self.kind == "bytes":
            return text.encode("latin-1").decode("utf-8", "surrogateescape")
        return text.replace(self.end_symbol, self.separator) if self.separator else text

    def by_character(self, ids: Iterable[int], values: Iterable[float]) -> list[tuple[str, float]]:
        """Each character of ``ids``, paired with the sum of the values of its symbols."""
        decoder, pending = self.decoder(), 0.0
        result: list[tuple[str, float]] = []
        for symbol_id, value in zip(ids, values, strict=True):
            pending += value
            if piece := decoder.feed(symbol_id):
                result += ((character, pending / len(piece)) for character in piece)
                pending = 0.0
        rest = decoder.finish()
        return result + [(character, pending / len(rest)) for character in rest]

    def decoder(self) -> "StreamDecoder":
        """A decoder that takes ids one at a time."""
        return StreamDecoder(self)


class StreamDecoder:
    """Decodes ids one at a time; a multi-byte character is returned once it is complete."""

    def __init__(self, vocab: Vocabulary) -> None:
        self._symbols: Sequence[str] = vocab.symbols
        if vocab.separator is not None and vocab.end_symbol != vocab.separator:
            self._symbols = [
                vocab.separator if symbol == vocab.end_symbol else symbol
                for symbol in vocab.symbols
            ]
        self._bytes: codecs.IncrementalDecoder | None = None
        if vocab.kind == "bytes":
            self._bytes = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def feed(self, symbol_id: int) -> str:
        """The text that ``symbol_id`` completes; empty inside a multi-byte character."""
        symbol = self._symbols[symbol_id]
        return symbol if self._bytes is None else self._bytes.decode(symbol.encode("latin-1"))

    def finish(self) -> str:
        """The remaining bytes of an incomplete character, as surrogate escapes."""
        return "" if self._bytes is None else self._bytes.decode(b"", final=True)


BYTE_SYMBOLS = bytes(range(256)).decode("latin-1")
