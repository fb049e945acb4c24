"""A trained model in Python: generate, score, inspect."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from charlstm.errors import CharlstmError, UsageError, check_integer, plural, require, shown
from charlstm.generate.sampling import SamplingConfig, SamplingFields
from charlstm.generate.text_state import TextState, load_state, save_state
from charlstm.generate.writing import Sampler, Text, draw_texts, prefill
from charlstm.net.engine import Engine
from charlstm.runs.catalogue import find_checkpoint
from charlstm.runs.checkpoint import ModelFile, read_model
from charlstm.text.vocabulary import Ids, UnknownPolicy

if TYPE_CHECKING:  # what `charlstm sample` has no use for is imported when it is asked for
    from charlstm.analysis.saturation import GateReport, Thresholds
    from charlstm.analysis.subject import ViewFields
    from charlstm.scoring import Score
    from charlstm.show.figure import Figure

DEFAULT_LENGTH = 1000
MAX_LENGTH = 10**15
MAX_SEED = 2**32
MAX_COUNT = 10_000
"""Texts side by side; each takes some tens of kilobytes."""


class Model:
    """A checkpoint's model. Loading one runs no code from it, and never imports torch."""

    def __init__(self, file: ModelFile, path: Path) -> None:
        self.file = file
        self.path = path

    def _repr_html_(self) -> str:
        from charlstm.html_table import html_table
        from charlstm.show.printable import printable

        training, config = self.file.training, self.file.config
        rows = {
            "cell, layers × units": config.describe(),
            "parameters": f"{self.parameters:,}",
            "symbols": f"{len(self.file.vocab):,} {self.file.vocab.kind}",
            "checkpoint": printable(str(self.path), keep=""),
            **({"trained steps": str(training["step"])} if "step" in training else {}),
        }
        return html_table("Model", rows)

    def __repr__(self) -> str:
        config, vocab = self.file.config, self.file.vocab
        return (
            f"<Model {config.cell}, {plural(config.layers, 'layer')} of "
            f"{plural(config.hidden_size, 'unit')}, {plural(self.parameters, 'parameter')}, "
            f"{plural(len(vocab), 'symbol')}, from {str(self.path)!r}>"
        )

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
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        unknown: UnknownPolicy = "error",
        state: TextState | None = None,
        surprise: bool = False,
        sampling: SamplingConfig | None = None,
        **fields: Unpack[SamplingFields],
    ) -> Text:
        """Continue ``prime``; yields the new text, a character at a time.

        Args:
            prime: is read first, on from ``state`` or from zero state; see ``prefill``.
            length: in characters (bytes for a byte model), or None for a text without end.
            stop: the text ends before any of these strings. One that has a character which the
                model does not know never occurs, nor does one that begins inside ``prime``.
            seed: the same seed gives the same text; None draws one.
            unknown: what happens to characters of ``prime`` that the model never saw.
            state: go on from here: the ``state`` of an earlier text, or ``load_state``'s.
            surprise: measure each character, for ``Text.surprise``.
            sampling: how characters are chosen; the default is the model's own distribution.
            **fields: fields of ``SamplingConfig``, such as ``temperature=0.8``; they replace
                those of ``sampling``.

        Returns:
            An iterator of characters; its ``state`` is where the text stands. ``str`` gives the
            whole text, and ``print`` prints it.

        Raises:
            UsageError: an argument is out of its range or of the wrong type.
            CharlstmError: ``prime`` has a character that the model never saw.
        """
        if length is not None:
            check_integer("`length`", length, 0, MAX_LENGTH)
        config = _sampling(sampling, fields)
        stops, chosen = self._stops(stop), _checked_seed(seed)
        start = self.prefill(prime, state, unknown)
        sampler = Sampler(self.engine, start, config, chosen)
        return Text(sampler, self.file.vocab, length, stops, surprise=surprise)

    def generate_batch(
        self,
        prime: str = "",
        *,
        count: int,
        length: int = DEFAULT_LENGTH,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        unknown: UnknownPolicy = "error",
        state: TextState | None = None,
        sampling: SamplingConfig | None = None,
        **fields: Unpack[SamplingFields],
    ) -> list[str]:
        """``count`` continuations of ``prime``, written side by side, which is faster.

        Text b is that of ``generate`` with ``seed + b``, but for rounding: see
        ``writing.draw_texts``. Arguments and errors are those of ``generate``.
        """
        check_count(count)
        check_integer("`length`", length, 0, MAX_LENGTH)
        config = _sampling(sampling, fields)
        stops, chosen = self._stops(stop), _checked_seed(seed)
        start = self.prefill(prime, state, unknown)
        sampler = Sampler(self.engine, start, config, chosen, count)
        return draw_texts(sampler, self.file.vocab, length, stops)

    def encode(self, text: str | Ids, unknown: UnknownPolicy = "error") -> Ids:
        """The ids of ``text``; int64 (N,). Ids are returned as they are.

        Characters that the model knows in another Unicode form only are encoded in that one; see
        ``Vocabulary.known_form``.

        Raises:
            CharlstmError: a character has no id and the policy is ``error``.
            UsageError: these are neither text nor ids of this model.
        """
        if isinstance(text, np.ndarray):
            known = text.ndim == 1 and text.dtype == np.int64
            known = known and bool(((text >= 0) & (text < len(self.file.vocab))).all())
            require(known, "the text is an array, but not of this model's ids")
            return text
        return self.file.vocab.encode(self.file.vocab.known_form(text), unknown)

    def prefill(
        self,
        text: str | Ids,
        state: TextState | None = None,
        unknown: UnknownPolicy = "error",
        progress: Callable[[int], None] = lambda _: None,
    ) -> TextState:
        """The state after ``text`` or its ids, read on from ``state``, or from zero state.

        Without a state an empty text is the beginning of a line: a newline is read. Text is
        encoded by ``encode``. ``progress`` is called with the characters read so far.
        """
        ids = self.encode(text, unknown)
        if state is None and not len(ids):
            ids = self.file.vocab.opening()
        return prefill(self.engine, ids, state, progress)

    def _stops(self, stop: str | Sequence[str] | None) -> list[str]:
        try:
            stops = [stop] if isinstance(stop, str) else [] if stop is None else list(stop)
        except TypeError:
            raise UsageError(f"`stop` is {shown(stop)}, but must be text") from None
        for one in stops:
            require(isinstance(one, str), f"`stop` is {shown(one)}, but must be text")
            require(one != "", "`stop` is empty", "give the text to end before")
        return [self.file.vocab.known_form(one) for one in stops]

    def save_state(self, path: str | Path, state: TextState) -> None:
        """Write the ``state`` of a text to a file; see ``generate.text_state``."""
        save_state(_checked_path(path), state, self.file)

    def load_state(self, path: str | Path) -> TextState:
        """The state in a file that this model's ``save_state`` wrote."""
        return load_state(_checked_path(path), self.file)

    def score(
        self, text: str, *, window: int | None = None, unknown: UnknownPolicy = "error"
    ) -> "Score":
        """Nats, bits and perplexity of ``text``; see ``scoring`` for the two protocols.

        The text is encoded by ``encode``.
        """
        from charlstm.scoring import score

        return score(self.engine, self.encode(text, unknown), window)

    def inspect(
        self,
        text: str | None = None,
        *,
        warmup: str | None = None,
        thresholds: "Thresholds | None" = None,
        unknown: UnknownPolicy = "error",
        unit: int | None = None,
    ) -> "GateReport":
        """Gate saturation at each character of ``text``, or of the stored held-out excerpt.

        ``warmup`` is read first and not counted. Left out, it is the held-out excerpt, or, when
        that is what is inspected, its first fifth; give an empty string for a cold start.
        ``unit`` narrows the values of each position to one unit of each layer. Texts are encoded
        by ``encode``.
        """
        from charlstm.analysis.saturation import Thresholds, measure_gates

        vocab = self.file.vocab
        ids, before = self.inspected(text, warmup, unknown)
        symbols = tuple(vocab.symbols[i] for i in ids)
        limits = Thresholds() if thresholds is None else thresholds
        return measure_gates(self.engine, ids, symbols, before, limits, unit)

    def view(
        self,
        name: str = "gates",
        text: str | Ids | None = None,
        *,
        warmup: str | Ids | None = None,
        unknown: UnknownPolicy = "error",
        progress: Callable[[str, int, int], None] = lambda *_: None,
        **options: "Unpack[ViewFields]",
    ) -> "Figure":
        """A view of ``charlstm inspect``, as data and as a picture.

        Args:
            name: of the view; ``analysis.views.VIEWS`` has them all.
            text: what the model reads. Left out, it is the held-out excerpt, or, for views that
                need more, the text that the model's run held out, where that is in the cache.
            warmup: as for ``inspect``.
            unknown: what happens to characters that the model never saw.
            progress: called with what is being done, how much of it is done, and of how much.
            **options: fields of ``analysis.subject.Options`` that the view uses. Layers and units
                are counted from 0.

        Raises:
            UsageError: there is no such view, or an option does not go with it.
            CharlstmError: the text is too short, or the view does not apply to the cell.
        """
        from charlstm.analysis.subject import Options, Subject, check_options, find_view, held_out
        from charlstm.analysis.views import VIEWS
        from charlstm.show.figure import Figure

        compute, chosen = find_view(name), Options(**options)
        check_options(chosen, name, self.file.config)
        ids, before = self.inspected(text, warmup, unknown)
        longer = None if text is not None else held_out(self, VIEWS[name].reads)
        if longer is not None:
            ids = longer if warmup is not None else longer[len(before) :]
        return Figure(compute(Subject(self, ids, before, progress), chosen))

    def inspected(
        self, text: str | Ids | None, warmup: str | Ids | None, unknown: UnknownPolicy = "error"
    ) -> tuple[Ids, Ids]:
        """The ids that ``inspect`` reports on, and those it reads before them."""
        excerpt = self.file.vocab.encode(self.file.excerpt)
        if text is None:
            lead = len(excerpt) // 5 if warmup is None else 0
            ids, before = excerpt[lead:], excerpt[:lead]
        else:
            ids, before = self.encode(text, unknown), excerpt
        if warmup is not None:
            before = self.encode(warmup, unknown)
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
    """A random seed, small enough to be typed again."""
    return secrets.randbelow(MAX_SEED)


def check_count(count: int) -> None:
    """Raise ``UsageError`` unless ``count`` texts can be written side by side."""
    check_integer("`count`", count, 1)
    hint = "write them in several batches, each with its own `seed`"
    check_integer("`count`", count, 1, MAX_COUNT, hint=hint)


def _checked_seed(seed: int | None) -> int:
    if seed is None:
        return new_seed()
    check_integer("`seed`", seed, 0)
    return int(seed)


def _checked_path(path: str | Path) -> Path:
    require(
        isinstance(path, str | Path), f"`path` is {shown(path)}, but must be a string or a `Path`"
    )
    return Path(path)


def _sampling(config: SamplingConfig | None, fields: SamplingFields) -> SamplingConfig:
    require(
        config is None or isinstance(config, SamplingConfig),
        f"`sampling` is {shown(config)}, but must be a `SamplingConfig`",
    )
    return replace(config or SamplingConfig(), **fields)
