import math

import numpy as np
import pytest
from conftest import model_config, random_weights
from numpy.testing import assert_allclose, assert_array_equal

from charlstm import scoring
from charlstm.engine import Engine
from charlstm.errors import CharlstmError, UsageError
from charlstm.scoring import score

CONFIG = model_config(9, hidden=6, layers=2)
IDS = np.random.default_rng(2).integers(0, 9, 200)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(CONFIG, random_weights(CONFIG), np.float64)


def bits_by_hand(engine: Engine, ids: np.ndarray, window: int) -> list[float]:
    """-log2 p of every character but the first, one step of one text at a time."""
    bits = []
    for t in range(len(ids) - 1):
        if t % window == 0:
            state = engine.initial_state()
        logits, state = engine.step(ids[t : t + 1], state)
        p = np.exp(logits[0]) / np.exp(logits[0]).sum()
        bits.append(-math.log2(p[ids[t + 1]]))
    return bits


@pytest.mark.parametrize("window", [None, 1, 50])
def test_uniform_model_scores_log_v(window: int | None) -> None:
    zeros = {name: np.zeros(shape, np.float32) for name, shape in CONFIG.shapes().items()}
    result = score(Engine(CONFIG, zeros), IDS, window)
    assert result.nats == pytest.approx(math.log(9), rel=1e-14)
    assert result.bits_per_char == pytest.approx(math.log2(9), rel=1e-14)
    assert result.perplexity == pytest.approx(9, rel=1e-13)


def test_stateful_score_equals_a_loop_over_single_steps(engine: Engine) -> None:
    expected = bits_by_hand(engine, IDS, window=len(IDS))
    result = score(engine, IDS)
    assert_allclose(result.surprise_bits[1:], expected, rtol=0, atol=1e-10)
    assert result.bits_per_char == pytest.approx(np.mean(expected), abs=1e-12)
    assert (result.characters, result.protocol) == (199, "stateful")


@pytest.mark.parametrize("window", [1, 2, 7, 100, 198])  # by 7 the last one is short
def test_windowed_score_equals_a_loop_over_single_steps(engine: Engine, window: int) -> None:
    expected = bits_by_hand(engine, IDS, window)
    result = score(engine, IDS, window)
    assert_allclose(result.surprise_bits[1:], expected, rtol=0, atol=1e-10)
    assert result.bits_per_char == pytest.approx(np.mean(expected), abs=1e-12)
    assert (result.characters, result.protocol, result.window) == (199, "windowed", window)


def test_windows_read_in_groups_score_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(engine, IDS, 7)
    monkeypatch.setattr(scoring, "WINDOWS_AT_ONCE", 3)
    assert score(engine, IDS, 7).nats == pytest.approx(whole.nats, abs=1e-12)


def test_text_read_in_chunks_scores_the_same(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(engine, IDS)
    monkeypatch.setattr(scoring, "READ_CHUNK", 13)
    chunked = score(engine, IDS)
    assert_allclose(chunked.surprise_bits, whole.surprise_bits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [None, 10])
def test_only_the_first_character_has_no_surprise(engine: Engine, window: int | None) -> None:
    bits = score(engine, IDS, window).surprise_bits
    assert len(bits) == len(IDS)
    assert_array_equal(np.flatnonzero(np.isnan(bits)), [0])


@pytest.mark.parametrize("window", [199, 200, 5000])
def test_window_as_long_as_the_text_equals_the_stateful_score(engine: Engine, window: int) -> None:
    assert score(engine, IDS, window).nats == pytest.approx(score(engine, IDS).nats, abs=1e-12)


def test_progress_ends_at_the_number_of_predicted_characters(engine: Engine) -> None:
    for window in (None, 7, 1000):
        seen: list[int] = []
        score(engine, IDS, window, seen.append)
        assert seen[-1] == 199


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("length", [0, 1])
def test_text_without_a_character_to_predict_is_refused(
    engine: Engine, length: int, window: int | None
) -> None:
    with pytest.raises(CharlstmError, match="needs 2"):
        score(engine, IDS[:length], window)


def test_window_of_no_characters_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="--window is 0"):
        score(engine, IDS, 0)
