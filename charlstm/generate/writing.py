"""Texts as they are written: from drawn ids to characters, stop strings, where a text stands."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.generate.sampling import DecodeState, SamplingConfig, draw, repeat, surprise_bits
from charlstm.net.engine import Engine
from charlstm.text.vocabulary import Ids, StreamDecoder, Vocabulary

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
        found = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
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


REMEMBERED = 4096
"""Characters that a state keeps for the repeat penalty."""


@dataclass(frozen=True)
class TextState:
    """Where a text stands: enough to go on from it."""

    state: NDArray[Any]
    """(L, S, 1, H)"""
    recent: tuple[int, ...] = ()
    """The last ids of the text, for the repeat penalty; ``REMEMBERED`` at most."""


class Text(Iterator[str]):
    """A text while it is written: an iterator of its pieces that knows where it stands.

    A piece is a character, or several where a stop string might have begun, or where bytes make
    no character.
    """

    def __init__(
        self,
        engine: Engine,
        vocab: Vocabulary,
        start: TextState,
        config: SamplingConfig,
        seed: int,
        length: int | None,
        stops: Sequence[str] = (),
        *,
        surprise: bool = False,
    ) -> None:
        self._place = DecodeState(start.state, engine.logits(start.state))
        window = max(REMEMBERED, config.repeat_window)
        self._recent = deque(start.recent, maxlen=window)
        self._vocab = vocab
        self._bits: deque[float] = deque()
        drawn = draw(engine, self._place, config, seed, length, start.recent)
        symbols = self._noted(drawn, surprise)
        self._pieces = as_text(symbols, vocab.decoder(), StopFilter(stops))

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def state(self) -> TextState:
        """The state after all that was drawn: also after a stop string, which is not shown."""
        return TextState(self._place.state, tuple(self._recent)[-REMEMBERED:])

    def surprise(self, piece: str) -> list[float]:
        """-log2 p of each character of the piece that came last, without temperature or filters.

        The text must have been made with ``surprise=True``.
        """
        return [
            sum(self._bits.popleft() for _ in range(self._vocab.symbols_in(character)))
            for character in piece
        ]

    def _noted(self, drawn: Iterator[tuple[Ids, DecodeState]], surprise: bool) -> Iterator[int]:
        for ids, place in drawn:
            if surprise:
                self._bits.append(float(surprise_bits(self._place.logits, ids)[0]))
            self._place = place
            symbol = int(ids[0])
            self._recent.append(symbol)
            yield symbol


def draw_texts(
    engine: Engine,
    vocab: Vocabulary,
    start: TextState,
    config: SamplingConfig,
    seed: int,
    length: int,
    count: int,
    stops: Sequence[str] = (),
) -> list[str]:
    """``count`` texts side by side; text b is that of ``Text`` with ``seed + b``.

    One product for all of them rounds a little differently than one for each, so after some
    thousand characters a draw may fall on the other side of a limit, and that text goes its own
    way from there.
    """
    place = repeat(DecodeState(start.state, engine.logits(start.state)), count)
    decoders = [vocab.decoder() for _ in range(count)]
    filters = [StopFilter(stops) for _ in range(count)]
    texts = [""] * count
    drawn = (ids for ids, _ in draw(engine, place, config, seed, length, start.recent))
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
