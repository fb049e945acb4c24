"""A trained model in Python: generate, score, inspect.

In Python, layers, units and positions are counted from 0; on screen, layers are counted from 1.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from charlstm.errors import (
    CharlstmError,
    UsageError,
    check_choice,
    check_integer,
    plural,
    require,
    shown,
)
from charlstm.generate.constraint import Constraint
from charlstm.generate.ensemble import Predictor
from charlstm.generate.sampling import SamplingConfig, SamplingFields
from charlstm.generate.text_state import TextState, load_state, save_state
from charlstm.generate.writing import Sampler, Text, draw_texts, prefill
from charlstm.net.engine import Engine
from charlstm.net.quantised import PRECISIONS, Precision, engine_of
from charlstm.runs.catalogue import find_checkpoint
from charlstm.runs.checkpoint import ModelFile, read_model
from charlstm.text.vocabulary import Ids, UnknownPolicy, Vocabulary

if TYPE_CHECKING:  # what `charlstm sample` does not need is imported on first use
    from charlstm.analysis.saturation import GateReport, Thresholds
    from charlstm.analysis.subject import ViewFields
    from charlstm.scoring import Score
    from charlstm.show.figure import Figure

DEFAULT_LENGTH = 1000
MAX_LENGTH = 10**15
MAX_SEED = 2**32
MAX_BATCHES = 50
"""Most batches in search of texts that are accepted."""
MAX_COUNT = 10_000
"""Most texts per batch; each needs tens of kilobytes."""


class Voice(ABC):
    """What generates and scores texts: one model, or several as a ``Mixture``."""

    @property
    @abstractmethod
    def vocab(self) -> Vocabulary:
        """The symbols that it reads and writes."""

    @abstractmethod
    def engine_in(self, precision: Precision) -> Predictor:
        """What computes in this precision, created on first use.

        Raises:
            UsageError: there is no such precision.
        """

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
        precision: Precision = "int8",
        **fields: Unpack[SamplingFields],
    ) -> Text:
        """Generate a continuation of ``prime``, one character at a time.

        A model of a list generates one item, which ends before the separator.

        Args:
            prime: text to read first, from ``state`` or from zero state; see ``prefill``.
            length: number of characters (bytes for a byte model), or None for no limit.
            stop: stop sequences; the text ends before the first one. A stop sequence never occurs
                if it has a character that is not in the vocabulary, or begins inside ``prime``.
            seed: the same seed gives the same text; None chooses a random seed.
            unknown: what to do with characters of ``prime`` that are not in the vocabulary.
            state: resume state to continue from: the ``state`` of an earlier text, or one from
                ``load_state``.
            surprise: measure each character, for ``Text.surprise``.
            sampling: how to sample characters; the default is the model's own distribution.
            precision: ``int8`` computes several times faster; ``float32`` is exact. The same seed
                gives different texts in the two.
            **fields: fields of ``SamplingConfig``, such as ``temperature=0.8``; they override
                those of ``sampling``.

        Returns:
            An iterator of characters; its ``state`` is the resume state. ``str`` gives the whole
            text, and ``print`` prints it.

        Raises:
            UsageError: an argument is out of range or of the wrong type.
            CharlstmError: ``prime`` has a character that is not in the vocabulary.
        """
        if length is not None:
            check_integer("`length`", length, 0, MAX_LENGTH)
        config = _sampling(sampling, fields)
        stops, chosen = self._stops(stop), _checked_seed(seed)
        constraint = self._constraint(config, length, stops)
        start = self.prefill(prime, state, unknown, precision=precision)
        sampler = Sampler(self.engine_in(precision), start, config, chosen, constraint=constraint)
        return Text(sampler, self.vocab, length, stops, surprise=surprise)

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
        accept: Callable[[str], bool] | None = None,
        progress: Callable[[int], None] = lambda _: None,
        sampling: SamplingConfig | None = None,
        precision: Precision = "int8",
        **fields: Unpack[SamplingFields],
    ) -> list[str]:
        """Generate ``count`` continuations of ``prime`` in a batch, which is faster.

        Text b equals that of ``generate`` with ``seed + b``, except for rounding: see
        ``writing.draw_texts``. Other arguments and errors are those of ``generate``. ``accept``
        decides which texts to keep, each once; further seeds replace the others. After
        ``MAX_BATCHES`` batches the texts found so far are returned. ``progress`` is called with the
        number of characters of this batch that are generated so far.
        """
        check_count(count)
        check_integer("`length`", length, 0, MAX_LENGTH)
        require(
            accept is None or callable(accept),
            f"`accept` is {shown(accept)}, but must be a function of a text",
        )
        config = _sampling(sampling, fields)
        stops, chosen = self._stops(stop), _checked_seed(seed)
        constraint = self._constraint(config, length, stops)
        start = self.prefill(prime, state, unknown, precision=precision)
        kept: dict[str, None] = {}
        count = int(count)  # NumPy's would overflow below
        for first in range(chosen, chosen + MAX_BATCHES * count, count):
            sampler = Sampler(self.engine_in(precision), start, config, first, count, constraint)
            texts = draw_texts(sampler, self.vocab, length, stops, progress)
            if accept is None:
                return texts
            kept |= dict.fromkeys(filter(accept, texts))
            if len(kept) >= count:
                break
        return list(kept)[:count]

    def encode(self, text: str | Ids, unknown: UnknownPolicy = "error") -> Ids:
        """The ids of ``text``, int64 (N,); ids are returned unchanged.

        Text is first converted to the Unicode form of the vocabulary; see
        ``Vocabulary.known_form``.

        Raises:
            CharlstmError: a character is not in the vocabulary, and the policy is ``error``.
            UsageError: ``text`` is neither text nor ids of this model.
        """
        if isinstance(text, np.ndarray):
            known = text.ndim == 1 and text.dtype == np.int64
            known = known and bool(((text >= 0) & (text < len(self.vocab))).all())
            require(known, "the text is an array, but not one of this model's ids")
            return text
        return self.vocab.encode(self.vocab.known_form(text), unknown)

    def prefill(
        self,
        text: str | Ids,
        state: TextState | None = None,
        unknown: UnknownPolicy = "error",
        progress: Callable[[int], None] = lambda _: None,
        *,
        precision: Precision = "int8",
    ) -> TextState:
        """The resume state after reading ``text``, or its ids, from ``state`` or from zero state.

        If there is no state and no text, a newline is read, so that the text begins with a line. A
        model of a list without a state first reads the end of an item.
        Text is encoded by ``encode``. ``progress`` is called with the characters read so far.
        """
        ids = self.encode(text, unknown)
        if state is None and (not len(ids) or self.vocab.end is not None):
            ids = np.append(self.vocab.opening(), ids)
        return prefill(self.engine_in(precision), ids, state, progress)

    def _stops(self, stop: str | Sequence[str] | None) -> list[str]:
        try:
            stops = [stop] if isinstance(stop, str) else [] if stop is None else list(stop)
        except TypeError:
            raise UsageError(f"`stop` is {shown(stop)}, but must be a string or strings") from None
        for one in stops:
            require(
                isinstance(one, str), f"`stop` is {shown(one)}, but must be a string or strings"
            )
            require(one != "", "`stop` is empty", "give the text to stop at")
        ends = [] if self.vocab.separator is None else [self.vocab.separator]
        return [self.vocab.known_form(one) for one in stops] + ends

    def _constraint(
        self, config: SamplingConfig, length: int | None, stops: Sequence[str]
    ) -> Constraint | None:
        if not (config.match or config.ban):
            return None
        vocab = self.vocab
        return Constraint(vocab, vocab.known_form(config.match), config.ban, length, stops)

    def score(
        self,
        text: str,
        *,
        window: int | None = None,
        unknown: UnknownPolicy = "error",
        precision: Precision = "float32",
    ) -> "Score":
        """Score ``text``: nats, bits and perplexity; see ``scoring`` for the protocols.

        ``window`` is the number of characters per window, or None for the stateful protocol. The
        text is encoded by ``encode``. ``precision`` is ``float32``, or ``int8``, which is faster
        and differs by some thousandths of a bit.
        """
        from charlstm.scoring import score

        ids = self.vocab.closed(self.encode(text, unknown))
        return score(self.engine_in(precision), ids, window)


class Model(Voice):
    """A trained model. Loading it runs no code from the checkpoint and does not import torch."""

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
        """The number of trained parameters."""
        return self.file.config.parameters

    @property
    def vocab(self) -> Vocabulary:
        """The symbols of this model."""
        return self.file.vocab

    @cached_property
    def engine(self) -> Engine:
        """The NumPy engine with this model's float32 weights, created on first use."""
        return engine_of(self.file.config, self.file.weights, "float32")

    @cached_property
    def _int8_engine(self) -> Engine:
        return engine_of(self.file.config, self.file.weights, "int8")

    def engine_in(self, precision: Precision) -> Engine:
        """As ``Voice.engine_in``."""
        check_choice("`precision`", precision, PRECISIONS)
        return self._int8_engine if precision == "int8" else self.engine

    def save_state(self, path: str | Path, state: TextState) -> None:
        """Write the resume state of a text to a file; see ``generate.text_state``."""
        save_state(_checked_path(path), state, self.file)

    def load_state(self, path: str | Path) -> TextState:
        """Read a resume state that ``save_state`` of this model wrote."""
        return load_state(_checked_path(path), self.file)

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

        ``warmup`` is read first and not measured. By default it is the held-out excerpt, or its
        first fifth if the excerpt itself is inspected; pass "" to start from zero state. ``unit``,
        counted from 0, limits the values of each position to one unit per layer. Texts are encoded
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
        """The ids that ``inspect`` measures, and those that it reads first."""
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
    """Load a model.

    Args:
        path: a run's folder, one of its checkpoints, or a name under ``checkpoints/``; None for the
            newest run.

    Raises:
        CharlstmError: there is no such run or checkpoint, or it is damaged.
    """
    name = None if path is None else str(path)
    found = find_checkpoint(name)
    while True:
        try:
            return Model(read_model(found), found)
        except CharlstmError:
            # A run that is training may have just replaced the checkpoint with a better one.
            before, found = found, find_checkpoint(name)
            if found == before:
                raise


def new_seed() -> int:
    """A random seed that is short enough to type."""
    return secrets.randbelow(MAX_SEED)


def check_count(count: int) -> None:
    """Raise ``UsageError`` unless ``count`` texts fit in a batch."""
    check_integer("`count`", count, 1)
    hint = "generate several batches, each with its own `seed`"
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
