"""A trained model in Python: generate, score, inspect."""

import secrets
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from charlstm.analysis.saturation import GateReport, Thresholds, measure_gates
from charlstm.errors import CharlstmError, check_number
from charlstm.generate.sampling import SamplingConfig, opening, prefill
from charlstm.generate.state_file import load_state, save_state
from charlstm.generate.writing import REMEMBERED, Text, TextState, draw_texts
from charlstm.net.engine import Engine
from charlstm.runs.catalogue import find_checkpoint
from charlstm.runs.checkpoint import ModelFile, read_model
from charlstm.scoring import Score, score
from charlstm.text.vocabulary import Ids, UnknownPolicy

DEFAULT_LENGTH = 1000
MAX_SEED = 2**32


class Model:
    """A checkpoint's model. TextSource it never runs code from it, and never imports torch."""

    def __init__(self, file: ModelFile, path: Path) -> None:
        self.file = file
        self.path = path

    @property
    def parameters(self) -> int:
        """How many numbers the model has learnt."""
        return self.file.config.parameters

    @cached_property
    def engine(self) -> Engine:
        """The NumPy engine with this model's weights, made when first needed."""
        return Engine(self.file.config, dict(self.file.weights))

    def generate(
        self,
        prime: str = "",
        *,
        length: int | None = DEFAULT_LENGTH,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repeat_penalty: float = 1.0,
        repeat_window: int = 64,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        unknown: UnknownPolicy = "error",
        state: TextState | None = None,
        surprise: bool = False,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Text:
        """Continue ``prime``; yields the new text, a character at a time.

        Args:
            prime: is read first, on from ``state`` or from zero state.
            length: in characters (bytes for a byte model), or None for a text without end.
            temperature: divides the logits; 0 takes the most likely character.
            top_k: keep the k most likely characters; 0 keeps all.
            top_p: keep the most likely characters that reach p together.
            min_p: keep characters at least this share as likely as the most likely one.
            repeat_penalty: above 1, recent characters get less likely.
            repeat_window: how many characters are recent, those of the prime among them.
            stop: the text ends before any of these.
            seed: the same seed gives the same text; None draws one.
            unknown: what happens to characters of ``prime`` that the model never saw.
            state: go on from here: the ``state`` of an earlier text, or ``load_state``'s.
            surprise: measure each character, for ``Text.surprise``.
            progress: called with the number of characters of ``prime`` read so far.

        Returns:
            An iterator of characters; its ``state`` is where the text stands.

        Raises:
            UsageError: a number is out of its range.
            CharlstmError: ``prime`` has a character that the model never saw.
        """
        config = SamplingConfig(temperature, top_k, top_p, min_p, repeat_penalty, repeat_window)
        if length is not None:
            check_number("--length", length, 0)
        chosen = new_seed() if seed is None else seed
        check_number("--seed", chosen, 0)
        start = self.prefill(prime, state, unknown, progress)
        stops = [stop] if isinstance(stop, str) else stop
        return Text(
            self.engine, self.file.vocab, start, config, chosen, length, stops, surprise=surprise
        )

    def generate_batch(
        self,
        prime: str = "",
        *,
        count: int,
        length: int = DEFAULT_LENGTH,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repeat_penalty: float = 1.0,
        repeat_window: int = 64,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        unknown: UnknownPolicy = "error",
        state: TextState | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[str]:
        """``count`` continuations of ``prime``, written side by side, which is faster.

        Text b is that of ``generate`` with ``seed + b``, but for rounding: see
        ``writing.draw_texts``. Arguments and errors are those of ``generate``.
        """
        config = SamplingConfig(temperature, top_k, top_p, min_p, repeat_penalty, repeat_window)
        check_number("--count", count, 1)
        check_number("--length", length, 0)
        chosen = new_seed() if seed is None else seed
        check_number("--seed", chosen, 0)
        start = self.prefill(prime, state, unknown, progress)
        stops = [stop] if isinstance(stop, str) else stop
        return draw_texts(self.engine, self.file.vocab, start, config, chosen, length, count, stops)

    def prefill(
        self,
        text: str,
        state: TextState | None = None,
        unknown: UnknownPolicy = "error",
        progress: Callable[[int], None] = lambda _: None,
    ) -> TextState:
        """The state after ``text``, read on from ``state``, or from zero state.

        Without a state an empty text is a line's beginning: a newline is read.
        """
        vocab = self.file.vocab
        ids = vocab.encode(text, unknown)
        if not len(ids):
            if state is not None:
                return state
            ids = opening(vocab)
        before = state or TextState(self.engine.initial_state())
        place = prefill(self.engine, ids, before.state, progress)
        recent = (*before.recent, *ids[-REMEMBERED:].tolist())[-REMEMBERED:]
        return TextState(place.state, recent)

    def save_state(self, path: str | Path, state: TextState) -> None:
        """Write the ``state`` of a text to a file; see ``states``."""
        save_state(Path(path), state, self.file)

    def load_state(self, path: str | Path) -> TextState:
        """The state in a file that this model's ``save_state`` wrote."""
        return load_state(Path(path), self.file)

    def score(
        self, text: str, *, window: int | None = None, unknown: UnknownPolicy = "error"
    ) -> Score:
        """Nats, bits and perplexity of ``text``; see ``scoring`` for the two protocols."""
        return score(self.engine, self.file.vocab.encode(text, unknown), window)

    def inspect(
        self,
        text: str | None = None,
        *,
        warmup: str | None = None,
        thresholds: Thresholds = Thresholds(),
        unknown: UnknownPolicy = "error",
        unit: int | None = None,
    ) -> GateReport:
        """Gate saturation at each character of ``text``, or of the stored held-out excerpt.

        ``warmup`` is read first and not counted. Left out, it is the held-out excerpt, or, when
        that is what is inspected, its first fifth; give an empty string for a cold start.
        ``unit`` narrows the values of each position to one unit of each layer.
        """
        vocab = self.file.vocab
        ids, before = self.inspected(text, warmup, unknown)
        symbols = tuple(vocab.symbols[i] for i in ids)
        return measure_gates(self.engine, ids, symbols, before, thresholds, unit)

    def inspected(
        self, text: str | None, warmup: str | None, unknown: UnknownPolicy = "error"
    ) -> tuple[Ids, Ids]:
        """The ids that ``inspect`` reports on, and those it reads before them."""
        vocab = self.file.vocab
        excerpt = vocab.encode(self.file.excerpt)
        if text is None:
            lead = len(excerpt) // 5 if warmup is None else 0
            ids, before = excerpt[lead:], excerpt[:lead]
        else:
            ids, before = vocab.encode(text, unknown), excerpt
        if warmup is not None:
            before = vocab.encode(warmup, unknown)
        return ids, before.astype(np.int64)


def load(path: str | Path | None = None) -> Model:
    """Load a model: a run's folder, one of its checkpoints, a name under ``checkpoints/``.

    None is the newest run. Raises ``CharlstmError`` if there is none, or it is damaged.
    """
    name = None if path is None else str(path)
    found = find_checkpoint(name)
    while True:
        try:
            return Model(read_model(found), found)
        except CharlstmError:
            # A run that trains meanwhile may have replaced the checkpoint by a better one.
            before, found = found, find_checkpoint(name)
            if found == before:
                raise


def new_seed() -> int:
    """A seed for a text that was given none; small enough to be typed again."""
    return secrets.randbelow(MAX_SEED)
