"""A sample that grows a few characters at a time while a model trains."""

import time
from collections.abc import Callable, Iterator
from itertools import islice

from charlstm.generate.sampling import SamplingConfig
from charlstm.generate.writing import Sampler, prefill
from charlstm.net.engine import Engine
from charlstm.runs.checkpoint import ModelFile
from charlstm.text.vocabulary import StreamDecoder, Vocabulary

CHARACTERS_PER_SECOND = 40
CHARACTERS = 600
"""Length of a text, after which the current model starts a new one. It starts sooner, but not
before ``LEAST_CHARACTERS``, if training has more than doubled its steps since the text began."""
LEAST_CHARACTERS = 120
TEMPERATURE = 0.8
MOST_AT_ONCE = 40


class LiveSample:
    """A text that the model writes at reading speed.

    ``take_model`` returns the current weights; it is called each time a new text begins.
    """

    def __init__(
        self,
        take_model: Callable[[], ModelFile],
        seed: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.text = ""
        self.step = 0
        """The training step of the weights that write the text."""
        self._take_model = take_model
        self._seed = seed
        self._clock = clock
        self._due_at = clock()
        self._ids: Iterator[int] = iter(())
        self._decoder = StreamDecoder(Vocabulary(" "))

    def grow(self, step: int) -> None:
        """Sample as many characters as the time since the last call allows."""
        now = self._clock()
        wanted = int((now - self._due_at) * CHARACTERS_PER_SECOND)
        if wanted > MOST_AT_ONCE:  # after a pause, do not catch up
            wanted, self._due_at = MOST_AT_ONCE, now
        else:
            self._due_at += wanted / CHARACTERS_PER_SECOND
        outgrown = step > 2 * self.step and len(self.text) >= LEAST_CHARACTERS
        for _ in range(wanted):
            symbol = None if outgrown else next(self._ids, None)
            outgrown = False
            if symbol is None:
                self._begin(step)
                symbol = next(self._ids)
            self.text += self._decoder.feed(symbol)

    def finish(self, step: int) -> None:
        """Write a complete text at once, with the final model."""
        self._begin(step)
        self.text += "".join(self._decoder.feed(symbol) for symbol in self._ids)

    def _begin(self, step: int) -> None:
        model = self._take_model()
        engine = Engine(model.config, dict(model.weights))
        start = prefill(engine, model.vocab.opening())
        config = SamplingConfig(temperature=TEMPERATURE)
        sampler = Sampler(engine, start, config, self._seed + step)
        self._ids = (int(ids[0]) for ids in islice(sampler, CHARACTERS))
        self._decoder = model.vocab.decoder()
        self.text, self.step = "", step
