"""Several models as one: the mean of their probabilities, over the union of their symbols."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import UsageError, require, shown
from charlstm.net.engine import Engine, log_softmax
from charlstm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Member:
    """A model of an ensemble, and its symbols."""

    engine: Engine
    vocab: Vocabulary


class Ensemble:
    """Runs several models as ``Engine`` runs one.

        p(x) = w_1 p_1(x) + ... + w_K p_K(x)

    A model gives no probability to a symbol that it lacks, and does not read one either: its state
    stays as it was, as with the policy ``skip``. The state is (1, 1, B, N): the numbers of all
    models' states, one model after the other. All models are of characters, or all of bytes,
    and of texts, or of lists with one separator.

    Raises:
        UsageError: models that ``union_of`` refuses, or weights that are no weights.
    """

    def __init__(self, members: Sequence[Member], weights: Sequence[float]) -> None:
        self.weights = checked_weights(weights, len(members))
        self._members = tuple(members)
        self.vocab = union_of([member.vocab for member in members])
        self.end, self.precision = self.vocab.end, members[0].engine.precision
        self._own = [
            np.array([m.vocab.symbols.find(symbol) for symbol in self.vocab.symbols])
            for m in members
        ]
        """For each model, its id of each symbol of the union, or -1: (V,)."""
        self._shapes = [m.engine.initial_state().shape for m in members]

    def initial_state(self, batch: int = 1) -> NDArray[Any]:
        """The state before any character: zeros (1, 1, B, N)."""
        return self._joined([member.engine.initial_state(batch) for member in self._members])

    def step(self, ids: NDArray[Any], state: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read one character of each text: logits (B, V) and the new state."""
        state = self.advance(ids[None], state)
        return self.logits(state), state

    def logits(self, state: NDArray[Any]) -> NDArray[Any]:
        """ln p (B, V) of the next characters after ``state``; -inf where no model has any."""
        return self._mean([m.engine.logits(s) for m, s in self._each(state)])

    def advance(self, ids: NDArray[Any], state: NDArray[Any]) -> NDArray[Any]:
        """The state after ``ids`` (T,) or (T, B)."""
        columns, new = ids.reshape(len(ids), -1), []
        for (member, own_state), own_ids in zip(self._each(state), self._own, strict=True):
            for step_ids in own_ids[columns]:
                known = step_ids >= 0
                if known.all():
                    own_state = member.engine.advance(step_ids[None], own_state)
                elif known.any():
                    own_state[:, :, known] = member.engine.advance(
                        step_ids[known][None], own_state[:, :, known]
                    )
            new.append(own_state)
        return self._joined(new)

    def forward(self, ids: NDArray[Any], state: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read ``ids`` (T,) or (T, B): ln p (T, V) or (T, B, V), and the new state."""
        log_p, states = [], []
        for (member, own_state), own_ids in zip(self._each(state), self._own, strict=True):
            known = own_ids[ids]
            if (known >= 0).all():
                logits, own_state = member.engine.forward(known, own_state)
            else:
                logits, own_state = _forward_skipping(member.engine, known, own_state)
            log_p.append(logits)
            states.append(own_state)
        return self._mean(log_p), self._joined(states)

    def _mean(self, logits: list[NDArray[Any]]) -> NDArray[np.float64]:
        """ln of the weighted mean of the models' probabilities: (..., V)."""
        mean = np.full((*logits[0].shape[:-1], len(self.vocab)), -np.inf)
        for weight, own_logits, own_ids in zip(self.weights, logits, self._own, strict=True):
            if weight > 0:
                has = own_ids >= 0
                log_p = log_softmax(own_logits)[..., own_ids[has]] + np.log(weight)
                mean[..., has] = np.logaddexp(mean[..., has], log_p)
        return mean

    def _each(self, state: NDArray[Any]) -> list[tuple[Member, NDArray[Any]]]:
        """Each model with a copy of its state, (L, S, B, H)."""
        found, start = [], 0
        for member, (layers, states, _, size) in zip(self._members, self._shapes, strict=True):
            end = start + layers * states * size
            own = state[0, 0, :, start:end].reshape(-1, layers, states, size)
            found.append((member, own.transpose(1, 2, 0, 3).copy()))
            start = end
        return found

    def _joined(self, states: list[NDArray[Any]]) -> NDArray[Any]:
        flat = [state.transpose(2, 0, 1, 3).reshape(state.shape[2], -1) for state in states]
        return np.concatenate(flat, axis=1)[None, None]


def _forward_skipping(
    engine: Engine, ids: NDArray[Any], state: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """``engine.forward`` that skips ids of -1."""
    columns = ids.reshape(len(ids), -1)
    logits = np.empty((*columns.shape, engine.config.vocab_size))
    for t, step_ids in enumerate(columns):
        known = step_ids >= 0
        if known.any():
            state[:, :, known] = engine.advance(step_ids[known][None], state[:, :, known])
        logits[t] = engine.logits(state)
    return logits.reshape(*ids.shape, -1), state


def union_of(vocabularies: Sequence[Vocabulary]) -> Vocabulary:
    """The symbols of all ``vocabularies``.

    Raises:
        UsageError: some are of characters and others of bytes, or some of lists and others not.
    """
    first = vocabularies[0]
    require(
        len({vocab.kind for vocab in vocabularies}) == 1,
        "a model of characters and one of bytes cannot be mixed",
    )
    require(
        len({vocab.separator for vocab in vocabularies}) == 1,
        "models of a text and of a list, or of lists with other separators, cannot be mixed",
    )
    if first.kind == "bytes":
        return first
    symbols = sorted({symbol for vocab in vocabularies for symbol in vocab.symbols})
    return Vocabulary("".join(symbols), separator=first.separator)


def checked_weights(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """``count`` weights, divided by their sum.

    Raises:
        UsageError: another number of weights, a negative one, or no positive one.
    """
    try:
        values = [float(weight) for weight in weights]
    except (TypeError, ValueError):
        values = []
    if len(values) != count:
        raise UsageError(
            f"`mix` is {shown(weights)}, but must be {count} numbers", "one weight for each model"
        )
    good = all(0 <= value < math.inf for value in values)
    require(good, f"`mix` is {shown(weights)}, but must be finite numbers of at least 0")
    largest = max(values, default=0.0)
    require(largest > 0, f"`mix` is {shown(weights)}, but one weight must be above 0")
    values = [value / largest for value in values]  # their sum cannot overflow
    return tuple(value / sum(values) for value in values)


Predictor = Engine | Ensemble
"""What predicts characters: one model, or several."""


def ids_of(predictor: Predictor) -> int:
    """The number of symbols that it predicts, V."""
    return len(predictor.vocab) if isinstance(predictor, Ensemble) else predictor.config.vocab_size
