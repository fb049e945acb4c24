"""Text generation: prefill, sampling, decoding, stop sequences."""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import UsageError, require, shown
from charlstm.generate.constraint import Constraint
from charlstm.generate.ensemble import Predictor, ids_of
from charlstm.generate.sampling import REMEMBERED, SamplingConfig, surprise_bits, weights_of
from charlstm.generate.text_state import TextState, check_state
from charlstm.net.engine import chunks
from charlstm.text.vocabulary import Ids, StreamDecoder, Vocabulary

READ_CHUNK = 512
BLOCK = 64
"""Steps of a batch between two checks for stop sequences."""
END = -1
"""In place of an id: the text is complete."""


def prefill(
    engine: Predictor,
    ids: Ids,
    start: TextState | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> TextState:
    """Read a text, (T,) ids of any length, from ``start`` or from zero state.

    ``progress`` is called with the characters read so far.

    Raises:
        UsageError: ``start`` does not fit the model.
    """
    if start is not None:
        check_state(start, engine.initial_state().shape, ids_of(engine))
    start = start or TextState(engine.initial_state())
    state, done = start.state, 0
    for chunk in chunks(ids, READ_CHUNK):
        state = engine.advance(chunk, state)
        done += len(chunk)
        progress(done)
    recent = (*start.recent, *ids[-REMEMBERED:].tolist())
    return TextState(state, recent[-REMEMBERED:])


class Sampler(Iterator[Ids]):
    """Samples B texts in parallel: yields their next ids (B,).

    It ends when the constraint has completed all texts, and is endless without one. A text that is
    complete before others has ``END`` from then on.

    All texts continue from ``start``. Text b uses a Mersenne Twister seeded with ``seed + b``, so
    each text of a batch can be reproduced alone.
    """

    state: NDArray[Any]
    """(L, S, B, H), after the last ids yielded."""
    logits: NDArray[Any]
    """(B, V), of the next character of each text."""

    def __init__(
        self,
        engine: Predictor,
        start: TextState,
        config: SamplingConfig,
        seed: int,
        count: int = 1,
        constraint: Constraint | None = None,
    ) -> None:
        self._engine, self._config = engine, config
        self._constraint = constraint
        self._nodes, self._written = np.zeros(count, dtype=np.int64), 0
        self._generators = [random.Random(seed + b) for b in range(count)]
        kept = max(REMEMBERED, config.repeat_window)
        self._recent = [deque(start.recent, maxlen=kept) for _ in range(count)]
        self.state = np.repeat(start.state, count, axis=2)
        self.logits = np.repeat(engine.logits(start.state), count, axis=0)

    @property
    def count(self) -> int:
        """The number of texts, B."""
        return len(self._generators)

    def __next__(self) -> Ids:
        allowed = None
        if self._constraint is not None:
            allowed = self._constraint.allowed(self._nodes, self._written)
            complete = ~allowed.any(axis=-1)
            if complete.all():
                raise StopIteration
            allowed[complete] = True  # these are sampled in vain
        weights = weights_of(self.logits, self._config, self._recent, allowed)
        cumulative = weights.cumsum(axis=-1)
        uniform = np.array([g.random() for g in self._generators])
        ids: Ids = (cumulative > (uniform * cumulative[:, -1])[:, None]).argmax(axis=-1)
        self.logits, self.state = self._engine.step(ids, self.state)
        for memory, symbol in zip(self._recent, ids.tolist(), strict=True):
            memory.append(symbol)
        if self._constraint is not None:
            self._nodes = self._constraint.advance(self._nodes, ids)
            self._nodes[complete] = END  # the last node, which has no way out
            ids[complete] = END
            self._written += 1
        return ids

    def text_state(self, text: int = 0) -> TextState:
        """The resume state of text number ``text``, after the last id yielded."""
        state = self.state[:, :, text : text + 1].copy()  # sampling continues from the original
        return TextState(state, tuple(self._recent[text])[-REMEMBERED:])


class StopFilter:
    """Passes text on until a stop sequence is complete; the stop sequence is dropped.

    Text that may be the beginning of a stop sequence is held back until that is decided, so stop
    sequences are found across pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Add ``text``; return what can be passed on."""
        self._held += text
        found = [(start, stop) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if found:
            # The first one that is complete ends the text, as if text came one character at a time.
            cut, _ = min(found, key=lambda match: (match[0] + len(match[1]), match[0]))
            self.stopped = True
            passed, self._held = self._held[:cut], ""
            return passed
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        passed, self._held = self._held[:cut], self._held[cut:]
        return passed

    def finish(self) -> str:
        """The text held back, after the end of a text without a stop sequence."""
        passed, self._held = self._held, ""
        return passed


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


def as_text(ids: Iterable[int], decoder: StreamDecoder, stop: StopFilter) -> Iterator[str]:
    """Decode sampled ids to pieces of text, up to a stop sequence."""
    for symbol in ids:
        if piece := stop.feed(decoder.feed(symbol)):
            yield piece
        if stop.stopped:
            return
    if rest := stop.feed(decoder.finish()) + stop.finish():
        yield rest


class Text(Iterator[str]):
    """A text that is generated while it is iterated over, in pieces.

    A piece is a character, or several after the possible beginning of a stop sequence or after
    bytes that are not a character. Each piece is generated once, when it is asked for. ``str``
    generates the rest and returns the whole text, as often as it is called.
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
        self._written = None if length is None else StringIO()  # endless, it would fill the memory

    def __next__(self) -> str:
        piece = next(self._pieces)
        if self._written is not None:
            self._written.write(piece)
        return piece

    def __str__(self) -> str:
        """The whole text; raises ``UsageError`` for one that was made without a ``length``."""
        if self._written is None:
            raise UsageError("a text without a `length` has no end", "give it one, or iterate")
        for _ in self:
            pass
        return self._written.getvalue()

    def __repr__(self) -> str:
        return "<Text, generated while iterated over: str(text) is the whole text>"

    @property
    def state(self) -> TextState:
        """The resume state after everything generated, including a stop sequence."""
        return self._sampler.text_state()

    def surprise(self, piece: str) -> list[float]:
        """-log2 p of each character of the latest piece, without temperature or filters.

        Raises:
            UsageError: the text was generated without ``surprise=True``, or ``piece`` is another.
        """
        require(isinstance(piece, str), f"the piece is {shown(piece)}, but must be a string")
        bits = self._bits
        if bits is None:
            raise UsageError("the surprise was not measured", "generate with `surprise`=True")
        counts = [self._vocab.symbols_in(character) for character in piece]
        if sum(counts) > len(bits):
            raise UsageError(f"{shown(piece)} is not the latest piece")
        return [sum(bits.popleft() for _ in range(count)) for count in counts]

    def _drawn(self, length: int | None) -> Iterator[int]:
        logits = self._sampler.logits
        for ids in islice(self._sampler, length):
            if self._bits is not None:
                self._bits.append(float(surprise_bits(logits, ids)[0]))
            logits = self._sampler.logits
            yield int(ids[0])


def draw_texts(
    sampler: Sampler,
    vocab: Vocabulary,
    length: int,
    stops: Sequence[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """The texts of ``sampler``; text b equals a ``Text`` with ``seed + b``, except for rounding.

    A matrix product for the whole batch rounds slightly differently than one per text. After a few
    thousand characters this may change a sampled character, and with it the rest of the text.
    ``progress`` is called with the number of characters sampled so far, of all texts together.
    """
    decoders = [vocab.decoder() for _ in range(sampler.count)]
    filters = [StopFilter(stops) for _ in range(sampler.count)]
    texts = [""] * sampler.count
    drawn, done = islice(sampler, length), 0
    while block := list(islice(drawn, BLOCK)):
        for b, ids in enumerate(np.array(block).T.tolist()):
            if not filters[b].stopped:
                written = (symbol for symbol in ids if symbol != END)
                texts[b] += filters[b].feed("".join(map(decoders[b].feed, written)))
        if all(stop.stopped for stop in filters):
            break
        done += len(block) * sampler.count
        progress(done)
    return [
        text if stop.stopped else text + stop.feed(decoder.finish()) + stop.finish()
        for text, decoder, stop in zip(texts, decoders, filters, strict=True)
    ]
