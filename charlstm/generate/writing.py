"""Texts as they are written: from drawn ids to characters, up to a stop string."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from charlstm.errors import require
from charlstm.generate.sampling import Sampler, TextState, surprise_bits
from charlstm.text.vocabulary import StreamDecoder, Vocabulary

BLOCK = 64
"""Steps of a batch between two looks for stop strings."""


class StopFilter:
    """Passes text on until one of the stop strings is complete; the stop string is left out.

    Text that may turn out to be the beginning of a stop string is held back until that is
    decided, so a stop string is found wherever the pieces are cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The part of the text so far that is safe to pass on."""
        self._held += text
        found = [(start, stop) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if found:
            # The first to be complete ends the text, as if it came a character at a time.
            cut, _ = min(found, key=lambda match: (match[0] + len(match[1]), match[0]))
            self.stopped = True
            passed, self._held = self._held[:cut], ""
            return passed
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        passed, self._held = self._held[:cut], self._held[cut:]
        return passed

    def finish(self) -> str:
        """What was held back when the text ended without a stop."""
        passed, self._held = self._held, ""
        return passed


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


def as_text(ids: Iterable[int], decoder: StreamDecoder, stop: StopFilter) -> Iterator[str]:
    """Decode drawn ids to text, piece by piece, until a stop string."""
    for symbol in ids:
        if piece := stop.feed(decoder.feed(symbol)):
            yield piece
        if stop.stopped:
            return
    if rest := stop.feed(decoder.finish()) + stop.finish():
        yield rest


class Text(Iterator[str]):
    """A text while it is written: an iterator of its pieces that knows where it stands.

    A piece is a character, or several where a stop string might have begun, or where bytes make
    no character.
    """

    def __init__(
        self,
        sampler: Sampler,
        vocab: Vocabulary,
        length: int | None = None,
        stops: Sequence[str] = (),
        *,
        surprise: bool = False,
    ) -> None:
        self._sampler, self._vocab = sampler, vocab
        self._bits: deque[float] | None = deque() if surprise else None
        self._pieces = as_text(self._drawn(length), vocab.decoder(), StopFilter(stops))

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def state(self) -> TextState:
        """The state after all that was drawn: also after a stop string, which is not shown."""
        return self._sampler.text_state()

    def surprise(self, piece: str) -> list[float]:
        """-log2 p of each character of the piece that came last, without temperature or filters.

        Raises:
            UsageError: the text was made without ``surprise=True``, or this is no new piece.
        """
        bits = self._bits
        require(bits is not None, "the text was not measured", "generate it with `surprise`=True")
        assert bits is not None
        counts = [self._vocab.symbols_in(character) for character in piece]
        require(sum(counts) <= len(bits), f"{piece!r} is not the piece that came last")
        return [sum(bits.popleft() for _ in range(count)) for count in counts]

    def _drawn(self, length: int | None) -> Iterator[int]:
        logits = self._sampler.logits
        for ids in islice(self._sampler, length):
            if self._bits is not None:
                self._bits.append(float(surprise_bits(logits, ids)[0]))
            logits = self._sampler.logits
            yield int(ids[0])


def draw_texts(
    sampler: Sampler, vocab: Vocabulary, length: int, stops: Sequence[str] = ()
) -> list[str]:
    """The texts of ``sampler``; text b is that of ``Text`` with ``seed + b``.

    One product for all of them rounds a little differently than one for each, so after some
    thousand characters a draw may fall on the other side of a limit, and from there the text is
    another.
    """
    decoders = [vocab.decoder() for _ in range(sampler.count)]
    filters = [StopFilter(stops) for _ in range(sampler.count)]
    texts = [""] * sampler.count
    drawn = islice(sampler, length)
    while block := list(islice(drawn, BLOCK)):
        for b, ids in enumerate(np.array(block).T.tolist()):
            if not filters[b].stopped:
                texts[b] += filters[b].feed("".join(map(decoders[b].feed, ids)))
        if all(stop.stopped for stop in filters):
            break
    return [
        text if stop.stopped else text + stop.feed(decoder.finish()) + stop.finish()
        for text, decoder, stop in zip(texts, decoders, filters, strict=True)
    ]
