"""The next character is sampled from the distribution that the options define."""

import math
from collections.abc import Iterable
from dataclasses import fields
from itertools import islice

import numpy as np
import pytest
from helpers import random_weights
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import UsageError
from charlstm.generate import writing
from charlstm.generate.constraint import Constraint
from charlstm.generate.sampling import (
    REMEMBERED,
    SamplingConfig,
    SamplingFields,
    distribution,
    repeated,
    surprise_bits,
)
from charlstm.generate.text_state import TextState
from charlstm.generate.writing import Sampler, prefill
from charlstm.net.engine import Engine
from charlstm.net.model_config import ModelConfig
from charlstm.text.vocabulary import Vocabulary

LOGITS = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -1.5, 0.25, 1.5])
SYMBOLS = "\nabcdefg"


class Constant:
    """Stands in for an engine: the logits never change."""

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(self._logits, (len(ids), 1)), state

    def logits(self, state: np.ndarray) -> np.ndarray:
        return np.tile(self._logits, (state.shape[2], 1))


def sampler(
    engine: Constant, config: SamplingConfig, seed: int, count: int = 1, before: Iterable[int] = ()
) -> Sampler:
    start = TextState(np.zeros((1, 2, 1, 1)), tuple(before))
    constraint = None
    if config.match or config.ban:
        constraint = Constraint(Vocabulary("abcd"), config.match, config.ban)
    return Sampler(engine, start, config, seed, count, constraint)  # type: ignore[arg-type]


def drawn(sampler: Sampler, length: int) -> list[int]:
    """Characters of the first text."""
    return [int(ids[0]) for ids in islice(sampler, length)]


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
    counts = np.bincount(drawn(sampler(engine, config, 1), number), minlength=len(LOGITS))
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
    assert drawn(sampler(engine, config, 0), 6) == cycle * (6 // len(cycle))


def test_a_passage_is_followed_until_it_would_be_repeated() -> None:
    #         0  1  2  3  4  5  6  7  8
    text = [1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3]
    assert repeated(text, 99) == {4: 3, 5: 2}
    assert repeated(text, 2) == {4: 2, 5: 2}
    assert repeated([7, 7, 7], 99) == {7: 2}
    assert repeated([], 99) == repeated([1], 99) == repeated([1, 2], 99) == {}


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 40))
def test_repeated_is_what_a_search_finds(text: list[int], limit: int) -> None:
    found: dict[int, int] = {}
    for end in range(1, len(text)):
        for length in range(1, min(end, limit) + 1):
            if text[end - length : end] == text[-length:]:
                found[text[end]] = max(length, found.get(text[end], 0))
    assert repeated(text, limit) == found


def test_dry_breaks_a_loop_that_the_penalty_would_allow() -> None:
    class Loop(Constant):
        """After a comes b, after b c, after c a: nearly always."""

        def step(self, ids: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.eye(4)[(ids + 1) % 3] * 4.0, state

    def written(config: SamplingConfig) -> list[int]:
        return drawn(sampler(Loop(np.array([4.0, 0, 0, 0])), config, 0), 30)

    assert written(SamplingConfig(temperature=0)) == [0, 1, 2] * 10
    dry = written(SamplingConfig(temperature=0, dry=2.0, dry_length=3))
    # The fourth repeated character costs 2, the fifth 3.5, the sixth 6.1: more than the 4 between.
    assert dry[:8] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert dry[8] != 2


def test_dry_forgets_what_a_resume_state_does_not_keep() -> None:
    between = [3] * (REMEMBERED - 2)
    ids = [0, 1, 2, *between, 0, 1]
    logits = np.zeros((1, 4))
    for window in (1, 2 * REMEMBERED):
        config = SamplingConfig(dry=2.0, dry_length=2, repeat_window=window)
        assert np.array_equal(
            distribution(logits, config, [ids]), distribution(logits, config, [ids[-REMEMBERED:]])
        )
    seen = distribution(logits, SamplingConfig(dry=2.0, dry_length=2), [ids[:3] + ids[-2:]])
    assert seen[0, 2] < seen[0, 3]


def test_a_batch_ends_when_its_longest_text_is_complete() -> None:
    engine = Constant(np.zeros(4))
    config = SamplingConfig(match="a|bb|ccc")
    rows = np.array(list(sampler(engine, config, 1, 200))).T.tolist()
    assert {tuple(row) for row in rows} == {(0, -1, -1), (1, 1, -1), (2, 2, 2)}


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
    assert drawn(sampler(engine, config, 0), 5) == [0] * 5


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
        ("repeat_penalty", 1e9, 1e300),
        ("repeat_window", 1, 0),
        ("dry", 0, -0.1),
        ("dry", 1e6, 1e7),
        ("dry_base", 1, 0.9),
        ("dry_length", 1, 0),
        ("match", "a", b"a"),
        ("ban", "", None),
        ("repeat_window", 10**9, 99999999999999999999),
        ("repeat_window", np.int64(7), 7.0),
        ("top_k", np.int64(7), True),
        ("top_k", 10**30, "3"),
        ("temperature", np.float32(0.5), "0.5"),
        ("temperature", 1, True),
        ("min_p", 0, None),
        ("temperature", 1e9, math.nan),
        ("top_p", 0.5, math.nan),
        ("repeat_penalty", 1e9, math.inf),
    ],
)
def test_options_have_limits(name: str, inside: float, outside: object) -> None:
    assert getattr(SamplingConfig(**{name: inside}), name) == inside  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"^`{name}` is .*, but must be"):
        SamplingConfig(**{name: outside})  # type: ignore[arg-type]


def test_keywords_are_the_fields() -> None:
    assert SamplingFields.__annotations__ == {f.name: f.type for f in fields(SamplingConfig)}


@pytest.mark.parametrize("penalty", [1e-9, 1e9])
@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1.0, 1e308])
def test_no_logit_overflows(penalty: float, temperature: float) -> None:
    most = float(np.finfo(np.float32).max)
    config = SamplingConfig(temperature, repeat_penalty=penalty)
    with np.errstate(all="raise", under="ignore"):
        for logits in ([[most, -most]], [[-most, most]], [[most, most]], [[-1.0, 1.0]]):
            found = distribution(np.array(logits, np.float32), config, [[0, 1]])
            assert found.sum() == pytest.approx(1)


# -- samples follow the filters -----------------------------------------------------------------

CHANCES = (0.4, 0.3, 0.2, 0.1)
DRAWS = 20_000


def limit(freedom: int) -> float:
    """Chi-square exceeds it once in ten thousand seeds (Wilson & Hilferty 1931)."""
    share = 2 / (9 * freedom)
    return float(freedom * (1 - share + 3.719 * math.sqrt(share)) ** 3)


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, (4, 3, 2, 1)),
        ({"temperature": 0.5}, (16, 9, 4, 1)),
        ({"temperature": 2.0}, (4**0.5, 3**0.5, 2**0.5, 1)),
        ({"temperature": 100.0}, (4**0.01, 3**0.01, 2**0.01, 1)),
        ({"temperature": 0}, (1, 0, 0, 0)),
        ({"top_k": 2}, (4, 3, 0, 0)),
        ({"top_p": 0.65}, (4, 3, 0, 0)),
        ({"top_p": 0.75}, (4, 3, 2, 0)),
        ({"min_p": 0.4}, (4, 3, 2, 0)),
        # ln p is negative, so a penalty of 2 squares p; 0 and 3 are recent.
        ({"repeat_penalty": 2.0}, (0.16, 0.3, 0.2, 0.01)),
        ({"repeat_penalty": 2.0, "repeat_window": 1}, (0.4, 0.3, 0.2, 0.01)),
        # Of the text 1 2 3 0 2 3, two characters are repeated: 0 would make it three.
        ({"dry": 2.0, "dry_length": 2}, (0.4 / math.e**2, 0.3, 0.2, 0.1)),
        ({"dry": 2.0, "dry_length": 1, "dry_base": 3.0}, (0.4 / math.e**6, 0.3, 0.2, 0.1)),
        ({"dry": 2.0, "dry_length": 3}, (4, 3, 2, 1)),
        ({"ban": "a"}, (0, 3, 2, 1)),
        ({"match": "[abd]"}, (4, 3, 0, 1)),
        ({"match": "[abd]", "ban": "b"}, (4, 0, 0, 1)),
        # What is not allowed counts neither among the k nor in p, nor as the most likely.
        ({"ban": "a", "top_k": 2}, (0, 3, 2, 0)),
        ({"ban": "a", "top_p": 0.45}, (0, 3, 0, 0)),
        ({"match": "[bd]", "min_p": 0.33}, (0, 3, 0, 1)),
        ({"ban": "a", "temperature": 0}, (0, 1, 0, 0)),
        ({"ban": "a", "repeat_penalty": 2.0}, (0, 0.3, 0.2, 0.01)),
        # DRY before the temperature: (0.4 / e)^2 and so on.
        ({"dry": 1.0, "dry_length": 2, "temperature": 0.5}, (16 / math.e**2, 9, 4, 1)),
        # Penalty .16 .3 .2 .01; squared 256 900 400 1; the first three; 0.6 of 1556 needs two,
        # and the second is not 0.5 of the first.
        (
            {
                "repeat_penalty": 2.0,
                "temperature": 0.5,
                "top_k": 3,
                "top_p": 0.6,
                "min_p": 0.4,
            },
            (0, 9, 4, 0),
        ),
        (
            {
                "repeat_penalty": 2.0,
                "temperature": 0.5,
                "top_k": 3,
                "top_p": 0.6,
                "min_p": 0.5,
            },
            (0, 1, 0, 0),
        ),
    ],
    ids=str,
)
def test_draws_follow_the_exact_distribution_of_each_filter(
    options: dict[str, float], weights: tuple[float, ...]
) -> None:
    engine = Constant(np.log(CHANCES))
    config = SamplingConfig(**options)  # type: ignore[arg-type]
    before = [1, 2, 3, 0, 2, 3] if config.dry else [0, 3]
    ids = next(sampler(engine, config, 1, DRAWS, before=before))
    counts = np.bincount(ids, minlength=4)
    kept = np.flatnonzero(weights)
    expected = np.array(weights)[kept] / sum(weights) * DRAWS
    assert counts.sum() == counts[kept].sum() == DRAWS
    if len(kept) > 1:
        assert ((counts[kept] - expected) ** 2 / expected).sum() < limit(len(kept) - 1)


def test_ties_are_sampled_equally_often() -> None:
    engine = Constant(np.zeros(3))
    for options in ({"top_k": 1}, {"top_p": 0.9}, {"min_p": 1.0}):
        config = SamplingConfig(**options)  # type: ignore[arg-type]
        ids = next(sampler(engine, config, 1, DRAWS))
        counts = np.bincount(ids, minlength=3)
        assert ((counts - DRAWS / 3) ** 2 / (DRAWS / 3)).sum() < limit(2)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=6),
    st.sampled_from([0.0, 1e-9, 0.5, 1.0, 100.0, 1e9]),
    st.integers(0, 7),
    st.floats(1e-12, 1),
    st.floats(0, 1),
    st.floats(0.1, 10),
)
def test_no_filters_leave_nothing_to_draw(
    logits: list[float], temperature: float, k: int, p: float, min_p: float, penalty: float
) -> None:
    config = SamplingConfig(temperature, k, p, min_p, penalty)
    found = distribution(np.array([logits], dtype=np.float32), config, [range(len(logits))])
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1)


# -- drawing -----------------------------------------------------------------------------------


def texts(engine: Engine, batch: int, seed: int, **options: float) -> list[list[int]]:
    start = prefill(engine, np.array([1, 2, 3]))
    config = SamplingConfig(**options)  # type: ignore[arg-type]
    return np.array(list(islice(Sampler(engine, start, config, seed, batch), 100))).T.tolist()


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


@pytest.mark.parametrize("penalty", [1.0, 3.0])
def test_drawing_goes_on_from_the_state_it_gives(penalty: float) -> None:
    engine = small_engine()
    config = SamplingConfig(temperature=0, repeat_penalty=penalty)
    start = prefill(engine, np.array([1]))
    whole = drawn(Sampler(engine, start, config, 0), 20)
    first = Sampler(engine, start, config, 0, count=2)
    assert drawn(first, 8) == whole[:8]
    for text in range(2):
        assert drawn(Sampler(engine, first.text_state(text), config, 0), 12) == whole[8:]
    again = prefill(engine, np.array([1, *whole[:8]]))
    assert np.allclose(again.state, first.text_state().state, atol=1e-5)
    assert again.recent == first.text_state().recent


def test_the_penalty_counts_what_was_read_before_as_far_as_its_window() -> None:
    engine = Constant(np.array([4.0, 3.0, 2.0]))
    for window, first in ((2, 2), (1, 0)):
        config = SamplingConfig(temperature=0, repeat_penalty=10.0, repeat_window=window)
        assert drawn(sampler(engine, config, 0, before=[0, 1]), 1) == [first]


def test_the_prime_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = small_engine()
    ids = np.array([1, 2, 3, 4, 5, 6, 7, 0, 1])
    whole = prefill(engine, ids)
    for other in (ids[:-1], ids[1:], ids[::-1]):
        assert not np.allclose(prefill(engine, other).state, whole.state)
    logits, state = engine.forward(ids, engine.initial_state())
    assert np.allclose(engine.logits(whole.state), logits[-1:], atol=1e-6)
    assert np.array_equal(whole.state, state)
    assert whole.recent == tuple(ids.tolist())
    in_two = prefill(engine, ids[4:], prefill(engine, ids[:4]))
    assert np.array_equal(in_two.state, state)
    assert in_two.recent == whole.recent
    assert np.array_equal(prefill(engine, ids[:0], whole).state, state)
    monkeypatch.setattr(writing, "READ_CHUNK", 2)
    assert np.array_equal(prefill(engine, ids).state, state)


def test_surprise_is_the_logarithm_of_the_probability() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])) + 7
    found = surprise_bits(logits, np.array([1, 2]))
    assert found.tolist() == pytest.approx([2, -math.log2(0.8)])
