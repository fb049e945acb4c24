"""An ensemble has the mean of its models' probabilities, and each model its own state."""

from typing import Any

import numpy as np
import pytest
from helpers import random_weights

from charlstm.errors import UsageError
from charlstm.generate.ensemble import Ensemble, Member
from charlstm.generate.writing import prefill
from charlstm.net.engine import Engine, log_softmax
from charlstm.net.model_config import ModelConfig
from charlstm.scoring import score
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary


def member(symbols: str, cell: str = "lstm", layers: int = 1, hidden: int = 8) -> Member:
    vocab = Vocabulary(symbols, "bytes" if symbols == BYTE_SYMBOLS else "characters")
    config = ModelConfig(cell, len(symbols), 4, hidden, layers)
    return Member(Engine(config, dict(random_weights(config, seed=layers))), vocab)


ONE, OTHER = member("\nabc"), member("bcé", "gru", layers=2, hidden=5)


def mean(text: str, weights: tuple[float, float]) -> dict[str, float]:
    """p of the next character by definition: each model reads what it knows of ``text``."""
    total: dict[str, float] = dict.fromkeys("\nabcé", 0.0)
    for each, weight in zip((ONE, OTHER), weights, strict=True):
        state = each.engine.initial_state()
        ids = each.vocab.encode(text, "skip")
        logits = each.engine.logits(each.engine.advance(ids, state) if len(ids) else state)
        for symbol, log_p in zip(each.vocab.symbols, log_softmax(logits)[0], strict=True):
            total[symbol] += weight * float(np.exp(log_p))
    return total


def predicted(ensemble: Ensemble, logits: np.ndarray) -> dict[str, float]:
    return dict(zip(ensemble.vocab.symbols, np.exp(logits).tolist(), strict=True))


@pytest.mark.parametrize("text", ["", "a", "é", "bc", "ab\néc", "aaé"])
def test_probabilities_are_averaged_over_the_union(text: str) -> None:
    ensemble = Ensemble([ONE, OTHER], [3, 1])
    assert ensemble.vocab.symbols == "\nabcé"
    state = ensemble.initial_state()
    ids = ensemble.vocab.encode(text)
    logits = ensemble.logits(state)
    for symbol in ids:
        logits, state = ensemble.step(np.array([symbol]), state)
    found = predicted(ensemble, logits[0])
    assert found == pytest.approx(mean(text, (0.75, 0.25)), rel=1e-5)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize("text", ["bcbc", "abéca\nb"])
def test_reading_at_once_equals_reading_step_by_step(text: str) -> None:
    ensemble = Ensemble([ONE, OTHER], [1, 1])
    ids = ensemble.vocab.encode(text)
    logits, end = ensemble.forward(ids, ensemble.initial_state())
    state = ensemble.initial_state()
    for t, symbol in enumerate(ids):
        row, state = ensemble.step(np.array([symbol]), state)
        assert np.allclose(logits[t], row[0], atol=1e-5)
    assert np.allclose(end, state, atol=1e-5)
    assert np.allclose(prefill(ensemble, ids).state, state, atol=1e-5)


def test_texts_of_a_batch_skip_their_own_unknown_characters() -> None:
    ensemble = Ensemble([ONE, OTHER], [1, 1])
    texts = ["abé", "ébc", "bca"]
    ids = np.array([ensemble.vocab.encode(text) for text in texts]).T
    logits, state = ensemble.forward(ids, ensemble.initial_state(3))
    assert logits.shape == (3, 3, 5)
    for b, text in enumerate(texts):
        assert predicted(ensemble, logits[-1, b]) == pytest.approx(mean(text, (0.5, 0.5)), rel=1e-5)
    assert np.allclose(ensemble.advance(ids, ensemble.initial_state(3)), state, atol=1e-5)


def test_a_model_of_weight_0_is_silent_but_reads_on() -> None:
    ensemble = Ensemble([ONE, OTHER], [1, 0])
    logits, state = ensemble.forward(ensemble.vocab.encode("bcb"), ensemble.initial_state())
    assert predicted(ensemble, logits[-1])["é"] == 0
    back = Ensemble([ONE, OTHER], [0, 1]).logits(state)[0]
    assert predicted(ensemble, back) == pytest.approx(mean("bcb", (0, 1)), rel=1e-5)
    with pytest.raises(UsageError, match="weight 0"):
        score(ensemble, ensemble.vocab.encode("bcb"))


def test_a_long_text_is_scored_as_by_definition() -> None:
    ensemble = Ensemble([ONE, OTHER], [1, 2])
    text = "".join(np.random.default_rng(1).choice(list("abcé"), 20_000))
    ids = ensemble.vocab.encode(text)
    logits, _ = ensemble.forward(ids, ensemble.initial_state())
    nats = -np.mean(log_softmax(logits)[np.arange(len(ids) - 1), ids[1:]])
    assert score(ensemble, ids).nats == pytest.approx(nats, abs=1e-5)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1], "must be 2 numbers"),
        ([1, 2, 3], "must be 2 numbers"),
        (None, "must be 2 numbers"),
        (["a", 1], "must be 2 numbers"),
        ([-1, 2], "at least 0"),
        ([0, 0], "one weight must be above 0"),
        ([float("nan"), 1], "finite numbers"),
        ([float("inf"), 1], "finite numbers"),
    ],
)
def test_weights_are_one_number_per_model(weights: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Ensemble([ONE, OTHER], weights)


@pytest.mark.parametrize("unit", [1e-300, 1e-10, 1, 1e10, 1e308])
def test_only_the_ratio_of_weights_counts(unit: float) -> None:
    assert Ensemble([ONE, OTHER], [unit, unit]).weights == (0.5, 0.5)


def test_bytes_and_characters_do_not_mix() -> None:
    bytes_member = member(BYTE_SYMBOLS)
    assert Ensemble([bytes_member, bytes_member], [1, 1]).vocab.kind == "bytes"
    with pytest.raises(UsageError, match="cannot be mixed"):
        Ensemble([ONE, bytes_member], [1, 1])
