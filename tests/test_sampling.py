"""The next character is drawn from the distribution that the options say."""

import math
from collections.abc import Iterable
from itertools import islice, pairwise

import numpy as np
import pytest
from conftest import random_weights
from hypothesis import example, given
from hypothesis import strategies as st

from charlstm import sampling
from charlstm.config import ModelConfig
from charlstm.engine import Engine
from charlstm.errors import UsageError
from charlstm.sampling import (
    Place,
    SamplingConfig,
    distribution,
    draw,
    opening,
    read,
    repeat,
    surprise_bits,
)
from charlstm.vocab import BYTE_SYMBOLS, Vocabulary
from charlstm.writing import StopFilter, as_text

LOGITS = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -1.5, 0.25, 1.5])
SYMBOLS = "\nabcdefg"


class Constant:
    """Stands in for an engine: the logits never change."""

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(self._logits, (len(ids), 1)), state

    def place(self) -> Place:
        return Place(np.zeros((1, 2, 1, 1)), self._logits[None].copy())


def small_engine(vocab_size: int = len(SYMBOLS)) -> Engine:
    config = ModelConfig("lstm", vocab_size, 4, 16, 2)
    return Engine(config, dict(random_weights(config, seed=1)))


def chances(probabilities: Iterable[float], **options: float) -> list[float]:
    """The distribution after the filters, from one before them."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([list(probabilities)]))
    return distribution(logits, SamplingConfig(**options))[0].tolist()  # type: ignore[arg-type]


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


# -- the distribution --------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_follow_the_softmax(temperature: float) -> None:
    engine, number = Constant(LOGITS), 20_000
    config = SamplingConfig(temperature=temperature)
    drawn = draw(engine, engine.place(), config, seed=1, length=number)  # type: ignore[arg-type]
    counts = np.bincount([int(ids[0]) for ids, _ in drawn], minlength=len(LOGITS))
    expected = softmax(LOGITS / temperature) * number
    assert counts.sum() == number
    assert expected.min() > 5
    # Chi-square with 7 degrees of freedom exceeds 24.3 once in a thousand seeds (Wilson and
    # Hilferty: 7 (1 - 2/63 + 3.09 sqrt(2/63))^3).
    assert ((counts - expected) ** 2 / expected).sum() < 24.3


def test_without_options_it_is_the_softmax() -> None:
    logits = np.stack([LOGITS, LOGITS[::-1] * 3])
    found = distribution(logits, SamplingConfig())
    assert np.allclose(found, [softmax(row) for row in logits], rtol=1e-12)


def test_the_logits_are_left_as_they_were() -> None:
    logits = LOGITS[None].copy()
    config = SamplingConfig(0.5, top_k=3, top_p=0.5, min_p=0.1, repeat_penalty=2.0)
    distribution(logits, config, [[0, 1]])
    assert np.array_equal(logits[0], LOGITS)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_temperature_zero_takes_the_most_likely(scale: float) -> None:
    found = distribution(LOGITS[None] * scale, SamplingConfig(temperature=0))
    assert found[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_temperature_zero_takes_one_of_several_as_likely() -> None:
    found = distribution(np.array([[0.0, 3.0, 3.0]]), SamplingConfig(temperature=0))
    assert found[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("temperature", [1e-3, 1e-10, 5e-324])
def test_a_tiny_temperature_comes_to_the_most_likely(temperature: float) -> None:
    found = distribution(LOGITS[None], SamplingConfig(temperature=temperature))
    assert found[0].argmax() == 0
    assert found[0, 0] == 1


def test_a_high_temperature_is_nearly_uniform() -> None:
    found = distribution(LOGITS[None], SamplingConfig(temperature=100))[0]
    assert found.max() / found.min() == pytest.approx(math.exp(3.5 / 100))


def test_logits_of_any_size_make_a_distribution() -> None:
    for logits in ([[1e30, -1e30]], [[-1e4, -1e4]], [[88.0, 0.0]]):
        found = distribution(np.array(logits, dtype=np.float32), SamplingConfig())
        assert np.isfinite(found).all()
        assert found.sum() == pytest.approx(1)


# -- filters -----------------------------------------------------------------------------------


def test_top_k_keeps_the_most_likely() -> None:
    assert chances([0.1, 0.4, 0.2, 0.3], top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert chances([0.1, 0.4, 0.2, 0.3], top_k=1) == pytest.approx([0, 1, 0, 0])


def test_top_k_keeps_those_tied_with_the_last() -> None:
    assert chances([0.4, 0.2, 0.2, 0.2], top_k=2) == pytest.approx([0.4, 0.2, 0.2, 0.2])
    assert chances([0.2, 0.2, 0.5, 0.1], top_k=2) == pytest.approx([2 / 9, 2 / 9, 5 / 9, 0])


@pytest.mark.parametrize("k", [0, 4, 5, 1000])
def test_top_k_of_all_or_zero_keeps_all(k: int) -> None:
    assert chances([0.1, 0.4, 0.2, 0.3], top_k=k) == pytest.approx([0.1, 0.4, 0.2, 0.3])


def test_top_p_keeps_the_one_that_reaches_p() -> None:
    probabilities = [0.25, 0.5, 0.125, 0.125]
    assert chances(probabilities, top_p=0.01) == pytest.approx([0, 1, 0, 0])
    assert chances(probabilities, top_p=0.51) == pytest.approx([1 / 3, 2 / 3, 0, 0])
    assert chances(probabilities, top_p=0.74) == pytest.approx([1 / 3, 2 / 3, 0, 0])
    assert chances(probabilities, top_p=1.0) == pytest.approx(probabilities)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    st.floats(0.01, 0.999),
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: list[float], p: float) -> None:
    before = softmax(np.array(logits))
    after = distribution(np.array([logits]), SamplingConfig(top_p=p))[0]
    kept = before[after > 0]
    assert kept.sum() >= p - 1e-9
    assert kept.sum() - kept.min() < p + 1e-9
    assert kept.min() >= before[after == 0].max(initial=0) - 1e-12
    assert np.allclose(after[after > 0], kept / kept.sum())


def test_min_p_keeps_what_is_a_share_as_likely_as_the_most_likely() -> None:
    probabilities = [0.5, 0.3, 0.15, 0.05]
    assert chances(probabilities, min_p=0.29) == pytest.approx([50 / 95, 30 / 95, 15 / 95, 0])
    assert chances(probabilities, min_p=0.31) == pytest.approx([5 / 8, 3 / 8, 0, 0])
    assert chances(probabilities, min_p=1.0) == pytest.approx([1, 0, 0, 0])
    assert chances(probabilities, min_p=0.0) == pytest.approx(probabilities)


def test_top_p_counts_what_top_k_left() -> None:
    # 0.4 of 0.7 reaches 0.55; of the whole it would not.
    assert chances([0.4, 0.3, 0.2, 0.1], top_k=2, top_p=0.55) == pytest.approx([1, 0, 0, 0])


def test_filters_apply_after_the_temperature() -> None:
    probabilities = [0.4, 0.3, 0.2, 0.1]
    # Squared and normalised: 16/30, 9/30, 4/30, 1/30.
    assert chances(probabilities, temperature=0.5, top_p=0.5) == pytest.approx([1, 0, 0, 0])
    assert chances(probabilities, temperature=0.5, min_p=0.4) == pytest.approx(
        [16 / 25, 9 / 25, 0, 0]
    )


def test_the_repeat_penalty_lowers_recent_characters_whatever_their_sign() -> None:
    logits = np.array([[2.0, -1.0, 1.0]])
    found = distribution(logits, SamplingConfig(repeat_penalty=2.0), [[0, 1, 0]])
    assert np.allclose(found[0], softmax(np.array([1.0, -2.0, 1.0])))


def test_the_repeat_penalty_comes_before_the_temperature_and_the_filters() -> None:
    logits = np.array([[2.0, 1.5, 0.0]])
    for config in (
        SamplingConfig(temperature=0, repeat_penalty=2.0),
        SamplingConfig(top_k=1, repeat_penalty=2.0),
    ):
        assert distribution(logits, config, [[0]])[0].tolist() == [0, 1, 0]


def test_each_text_has_its_own_recent_characters() -> None:
    logits = np.array([[2.0, 1.0], [2.0, 1.0]])
    found = distribution(logits, SamplingConfig(temperature=0, repeat_penalty=9.0), [[0], []])
    assert found.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("window", "cycle"), [(1, [0, 1]), (2, [0, 1, 2])])
def test_the_penalty_looks_back_as_far_as_its_window(window: int, cycle: list[int]) -> None:
    engine = Constant(np.array([4.0, 3.0, 2.0]))
    config = SamplingConfig(temperature=0, repeat_penalty=10.0, repeat_window=window)
    drawn = draw(engine, engine.place(), config, seed=0, length=6)  # type: ignore[arg-type]
    assert [int(ids[0]) for ids, _ in drawn] == cycle * (6 // len(cycle))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0},
        {"top_k": 1},
        {"top_p": 0.1},
        {"min_p": 1.0},
        {"repeat_penalty": 3.0},
    ],
)
def test_a_vocabulary_of_one_symbol_has_one_choice(options: dict[str, float]) -> None:
    engine = Constant(np.array([-3.0]))
    config = SamplingConfig(**options)  # type: ignore[arg-type]
    drawn = draw(engine, engine.place(), config, seed=0, length=5)  # type: ignore[arg-type]
    assert [ids.tolist() for ids, _ in drawn] == [[0]] * 5


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("temperature", 0.0, -0.1),
        ("top_k", 0, -1),
        ("top_p", 1e-9, 0.0),
        ("top_p", 1.0, 1.01),
        ("min_p", 0.0, -0.1),
        ("min_p", 1.0, 1.01),
        ("repeat_penalty", 1e-9, 0.0),
        ("repeat_window", 1, 0),
        ("temperature", 1e9, math.nan),
        ("top_p", 0.5, math.nan),
        ("repeat_penalty", 1e9, math.inf),
    ],
)
def test_options_have_limits(name: str, inside: float, outside: float) -> None:
    assert getattr(SamplingConfig(**{name: inside}), name) == inside  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="must be"):
        SamplingConfig(**{name: outside})  # type: ignore[arg-type]


# -- drawing -----------------------------------------------------------------------------------


def texts(engine: Engine, batch: int, seed: int, **options: float) -> list[list[int]]:
    place = repeat(read(engine, np.array([1, 2, 3])), batch)
    config = SamplingConfig(**options)  # type: ignore[arg-type]
    return np.array([ids for ids, _ in draw(engine, place, config, seed, 100)]).T.tolist()


@pytest.mark.parametrize("options", [{}, {"repeat_penalty": 1.5, "repeat_window": 8}])
def test_text_b_of_a_batch_is_the_single_text_of_seed_plus_b(options: dict[str, float]) -> None:
    engine = small_engine()
    batch = texts(engine, 4, seed=10, **options)
    assert batch == [texts(engine, 1, seed=10 + b, **options)[0] for b in range(4)]
    assert len({tuple(text) for text in batch}) == 4


def test_the_same_seed_gives_the_same_text() -> None:
    engine = small_engine()
    assert texts(engine, 1, seed=7) == texts(engine, 1, seed=7)
    assert texts(engine, 1, seed=7) != texts(engine, 1, seed=8)


def test_drawing_goes_on_from_the_place_it_gives() -> None:
    engine = small_engine()
    config = SamplingConfig(temperature=0)
    start = read(engine, np.array([1]))
    whole = [int(ids[0]) for ids, _ in draw(engine, start, config, 0, 20)]
    ids, place = list(draw(engine, start, config, 0, 8))[-1]
    assert int(ids[0]) == whole[7]
    assert [int(ids[0]) for ids, _ in draw(engine, place, config, 0, 12)] == whole[8:]
    again = read(engine, np.array([1, *whole[:8]]))
    assert np.allclose(again.logits, place.logits, atol=1e-5)
    assert np.allclose(again.state, place.state, atol=1e-5)


def test_a_length_of_none_has_no_end_and_zero_no_beginning() -> None:
    engine = Constant(LOGITS)
    place, config = engine.place(), SamplingConfig()
    assert len(list(islice(draw(engine, place, config, 0), 3000))) == 3000  # type: ignore[arg-type]
    assert list(draw(engine, place, config, 0, 0)) == []  # type: ignore[arg-type]


def test_the_prime_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    ids = np.array([1, 2, 3, 4, 5, 6, 7, 0, 1])
    whole = read(engine, ids)
    for other in (ids[:-1], ids[1:], ids[::-1]):
        assert not np.allclose(read(engine, other).state, whole.state)
    logits, state = engine.read(ids, engine.initial_state())
    assert np.allclose(whole.logits, logits[-1:], atol=1e-6)
    assert np.array_equal(whole.state, state)
    assert np.array_equal(read(engine, ids[4:], read(engine, ids[:4]).state).state, state)
    monkeypatch.setattr(sampling, "READ_CHUNK", 2)
    assert np.array_equal(read(engine, ids).state, state)


def test_without_a_prime_a_newline_or_the_first_symbol_is_read() -> None:
    assert opening(Vocabulary("\t\nab")).tolist() == [1]
    assert opening(Vocabulary("ab")).tolist() == [0]
    assert opening(Vocabulary(BYTE_SYMBOLS, "bytes")).tolist() == [10]


def test_surprise_is_the_logarithm_of_the_probability() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])) + 7
    found = surprise_bits(logits, np.array([1, 2]))
    assert found.tolist() == pytest.approx([2, -math.log2(0.8)])


# -- stop strings ------------------------------------------------------------------------------

AB = st.text("ab", max_size=12)
STOPS = st.text("ab", min_size=1, max_size=4)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[a:b] for a, b in pairwise(places)]


def passed_on(stops: list[str], pieces: Iterable[str]) -> tuple[str, bool]:
    stop, passed = StopFilter(stops), ""
    for piece in pieces:
        passed += stop.feed(piece)
        if stop.stopped:
            return passed, True
    return passed + stop.finish(), False


@given(AB, STOPS, st.lists(st.integers(0, 12)))
def test_a_stop_string_is_found_however_the_text_is_cut(
    text: str, stop: str, cuts: list[int]
) -> None:
    before, found, _ = text.partition(stop)
    assert passed_on([stop], pieces_of(text, cuts)) == (before, bool(found))


@given(AB, STOPS, st.lists(st.integers(0, 12)))
def test_only_the_beginning_of_a_stop_string_is_held_back(
    text: str, stop: str, cuts: list[int]
) -> None:
    stops, read_so_far, passed = StopFilter([stop]), "", ""
    for piece in pieces_of(text.partition(stop)[0], cuts):
        read_so_far += piece
        passed += stops.feed(piece)
        held = read_so_far.removeprefix(passed)
        assert read_so_far == passed + held
        assert stop.startswith(held)
        assert held != stop


@given(AB, st.lists(STOPS, min_size=2, max_size=3), st.lists(st.integers(0, 12)))
@example("abba", ["abba", "bb"], [])
def test_of_several_stop_strings_the_first_complete_one_ends_the_text(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    assert passed_on(stops, pieces_of(text, cuts)) == passed_on(stops, text)


def test_several_stop_strings_are_looked_for() -> None:
    assert passed_on(["END", "\n\n"], "one\n\ntwo END") == ("one", True)
    assert passed_on(["END", "\n\n"], "one\ntwo END ") == ("one\ntwo ", True)
    assert passed_on(["END", "\n\n"], "one\ntwo EN\n") == ("one\ntwo EN\n", False)


@pytest.mark.parametrize("stops", [[], [""]])
def test_without_a_stop_string_everything_passes_at_once(stops: list[str]) -> None:
    stop = StopFilter(stops)
    assert stop.feed("some text") == "some text"
    assert stop.finish() == ""
    assert not stop.stopped


def test_text_comes_symbol_by_symbol_and_ends_before_the_stop() -> None:
    vocab = Vocabulary(SYMBOLS)
    ids = vocab.encode("abcdefg").tolist()
    assert list(as_text(ids, vocab.decoder(), StopFilter([]))) == list("abcdefg")
    assert list(as_text(ids, vocab.decoder(), StopFilter(["de"]))) == ["a", "b", "c"]
    assert list(as_text(ids, vocab.decoder(), StopFilter(["gx"]))) == list("abcdefg")


def test_nothing_is_drawn_after_the_stop() -> None:
    vocab = Vocabulary(SYMBOLS)
    ids = iter(vocab.encode("abcdefg").tolist())
    assert list(as_text(ids, vocab.decoder(), StopFilter(["c"]))) == ["a", "b"]
    assert next(ids) == 4


def test_bytes_become_whole_characters_and_the_rest_comes_at_the_end() -> None:
    vocab = Vocabulary(BYTE_SYMBOLS, "bytes")
    ids = list("é€".encode())
    assert list(as_text(ids, vocab.decoder(), StopFilter([]))) == ["é", "€"]
    assert list(as_text(ids[:-1], vocab.decoder(), StopFilter([]))) == ["é", "\udce2\udc82"]
    assert list(as_text(ids, vocab.decoder(), StopFilter(["€"]))) == ["é"]
