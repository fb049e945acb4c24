import math

import numpy as np
import pytest
from helpers import model_config, random_weights
from numpy.testing import assert_allclose, assert_array_equal

from charlstm import scoring
from charlstm.errors import CharlstmError, UsageError
from charlstm.net.engine import Engine
from charlstm.net.spec import CELLS
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


# -- a long text is read in parts side by side, with the same result ----------------------------


def in_parts(patch: pytest.MonkeyPatch) -> list[int]:
    """Let a part be short; returns the list of how many texts each read is of."""
    patch.setattr(scoring, "CHUNK", 16)
    patch.setattr(scoring, "PARTS", 8)
    patch.setattr(scoring, "PART", 6 * 16)
    read, widths = Engine.forward, []

    def counted(self: Engine, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        widths.append(ids.shape[1] if ids.ndim == 2 else 0)
        return read(self, ids, state)

    patch.setattr(Engine, "forward", counted)
    return widths


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_side_by_side_score_as_one_after_the_other(
    cell: str, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = model_config(9, hidden=12, layers=2, cell=cell)
    engine = Engine(config, random_weights(config, scale=0.3), dtype)
    ids = np.random.default_rng(3).integers(0, 9, 1500)
    expected = bits_by_hand(engine, ids, window=len(ids))
    widths = in_parts(monkeypatch)
    found = score(engine, ids)
    assert 8 in widths  # it was read side by side
    # The c of lstm-1997 grows, and float32's rounding with it: in any order of reading.
    tolerance = 1e-3 if dtype == np.float32 else 2e-5
    assert_allclose(found.surprise_bits[1:], expected, rtol=0, atol=tolerance)
    assert found.bits_per_char == pytest.approx(np.mean(expected), abs=tolerance / 100)
    assert (found.protocol, found.segments) == ("stateful", None)


def test_a_model_that_never_forgets_is_read_one_part_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = model_config(9, hidden=12, cell="lstm-1997")
    weights = random_weights(config, scale=0.3)
    engine = Engine(config, weights, np.float64)
    ids = np.random.default_rng(3).integers(0, 9, 5000)
    expected = bits_by_hand(engine, ids, window=len(ids))
    widths = in_parts(monkeypatch)
    found = score(engine, ids)
    assert_allclose(found.surprise_bits[1:], expected, rtol=0, atol=1e-9)
    # The first block is read twice side by side and once part by part; then it is given up.
    assert 0 < sum(width > 1 for width in widths) <= 2 * 6
    assert widths[-1] == 0


def test_a_part_whose_end_changes_makes_the_next_one_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GRU that keeps h whatever it reads, except one symbol that sets h again."""
    config = model_config(3, hidden=4, cell="gru")
    weights = {name: np.zeros_like(array) for name, array in random_weights(config).items()}
    generator = np.random.default_rng(1)
    weights["embedding"][:, 0] = [0, 100, -100]  # symbols 1 and 2 open the update gate's lid
    update = CELLS["gru"].block("update", 4)
    candidate = CELLS["gru"].block("candidate", 4)
    weights["layers.0.bias"][update] = 50
    weights["embedding"][1:, 1] = -100
    weights["layers.0.weight_input"][update, 1] = 1
    weights["layers.0.weight_input"][candidate, 0] = generator.normal(size=4) / 100
    weights["output_weight"][:] = generator.normal(size=(3, 4))
    engine = Engine(config, weights, np.float64)
    ids = np.zeros(1500, dtype=np.int64)
    ids[[3, 200, 210, 700]] = [1, 1, 2, 1]
    expected = bits_by_hand(engine, ids, window=len(ids))
    in_parts(monkeypatch)
    assert_allclose(score(engine, ids).surprise_bits[1:], expected, rtol=0, atol=1e-9)
    assert len(set(np.round(expected, 6))) > 4


# -- segments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [1, 3, 5])
def test_segments_score_as_a_loop_that_warms_up_each(segments: int, engine: Engine) -> None:
    ids = np.random.default_rng(4).integers(0, 9, 1600)
    length = -(-1599 // segments)
    expected = np.full(1600, np.nan)
    for start in range(0, 1599, length):
        end = min(start + length, 1599)
        before = max(0, start - 256)
        logits, _ = engine.forward(ids[before:end], engine.initial_state())
        places = np.arange(start, end)
        expected[places + 1] = scoring.surprise_bits(logits[start - before :], ids[places + 1])
    found = score(engine, ids, segments=segments)
    assert_allclose(found.surprise_bits, expected, rtol=0, atol=1e-10)
    assert (found.protocol, found.segments, found.window) == ("stateful", segments, None)
    assert found.label == f"stateful, in {segments} segments"


def test_segments_shorter_than_their_warm_up_are_refused(engine: Engine) -> None:
    ids = np.random.default_rng(4).integers(0, 9, 1600)
    with pytest.raises(UsageError, match="`segments` is 7, but must be at least 1 and at most 6"):
        score(engine, ids, segments=7)


# -- summaries ---------------------------------------------------------------------------------


def test_labels_name_the_protocol(engine: Engine) -> None:
    assert score(engine, IDS).label == "stateful"
    assert score(engine, IDS, 7).label == "windowed, 7"
    assert scoring.summarise(np.array([np.nan, 1.0]), adaptive=True).label == "stateful, adaptive"


def test_the_most_surprising_places_come_first(engine: Engine) -> None:
    found = scoring.summarise(np.array([np.nan, 1.0, 5.0, 0.5, 5.0, 7.0]))
    assert found.most_surprising(3) == [5, 2, 4]
    assert found.most_surprising(0) == []
    assert found.most_surprising(99) == [5, 2, 4, 1, 3]


@pytest.mark.parametrize("window", [None, 10])
def test_only_the_first_character_has_no_surprise(engine: Engine, window: int | None) -> None:
    bits = score(engine, IDS, window).surprise_bits
    assert len(bits) == len(IDS)
    assert_array_equal(np.flatnonzero(np.isnan(bits)), [0])


@pytest.mark.parametrize("window", [199, 200, 5000, 10**30])
def test_window_as_long_as_the_text_equals_the_stateful_score(engine: Engine, window: int) -> None:
    assert score(engine, IDS, window).nats == pytest.approx(score(engine, IDS).nats, abs=1e-12)


def test_progress_ends_at_the_number_of_predicted_characters(engine: Engine) -> None:
    for window in (None, 7, 1000):
        seen: list[int] = []
        score(engine, IDS, window, seen.append)
        assert seen[-1] == 199


def test_a_count_of_places_is_a_whole_number(engine: Engine) -> None:
    found = score(engine, IDS)
    assert len(found.most_surprising(10**30)) == 199
    for count in (-1, 2.0, True, "3", None):
        with pytest.raises(UsageError, match="`count` is"):
            found.most_surprising(count)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("length", [0, 1])
def test_text_without_a_character_to_predict_is_refused(
    engine: Engine, length: int, window: int | None
) -> None:
    with pytest.raises(CharlstmError, match="at least 2"):
        score(engine, IDS[:length], window)


def test_window_of_no_characters_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="`window` is 0"):
        score(engine, IDS, 0)


@pytest.mark.parametrize("value", [2.0, True, "3"])
@pytest.mark.parametrize("name", ["window", "segments"])
def test_windows_and_segments_are_whole_numbers(engine: Engine, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is {value!r}, but must be a whole number"):
        score(engine, IDS, **{name: value})  # type: ignore[arg-type]
