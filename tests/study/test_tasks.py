import random
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

from charlstm.errors import UsageError
from charlstm.study.grammars import PADDING, String, reber_length
from charlstm.study.tasks import (
    TASKS,
    WARMUP,
    Task,
    encode,
    examples,
    is_right,
    numbered_examples,
    training_text,
)

TASK_LAGS = [(task, lag) for task in TASKS.values() for lag in task.lags[:2]]
by_lag = pytest.mark.parametrize(
    ("task", "lag"), TASK_LAGS, ids=[f"{task.name} {lag}" for task, lag in TASK_LAGS]
)


def drawn(name: str, lag: int, count: int = 300) -> list[String]:
    rng = random.Random(7)
    return [TASKS[name].draw(rng, lag) for _ in range(count)]


# -- Reber's grammar, once more and in another form -----------------------------------------------

A, F = "T*V(?:PXT*V)*(?:V|PS)", "(?:S|X{A})"
EMBEDDED = re.compile(f"B([TP])B(?:TS*X{F.format(A=A)}|P{A})E\\1E")


@cache
def from_a(length: int) -> frozenset[str]:
    """What leads in ``length`` characters from the node with the loop T to the last E."""
    ends = {"V" + end for end in (["V"] if length == 2 else [])}
    if length > 1:
        ends |= {"T" + rest for rest in from_a(length - 1)}
    if length > 2:
        ends |= {"VP" + rest for rest in from_f(length - 2)}
    return frozenset(ends)


@cache
def from_f(length: int) -> frozenset[str]:
    """The same from the node where X leads back to the loop T."""
    return frozenset({"S"} if length == 1 else {"X" + rest for rest in from_a(length - 1)})


@cache
def reber_strings(longest: int) -> frozenset[str]:
    """All Reber strings of at most ``longest`` characters."""
    found = set()
    for length in range(1, longest - 2):
        for rest in from_a(length):
            found.add("BP" + rest + "E")
        for s in range(length):
            found |= {"BT" + "S" * s + "X" + rest + "E" for rest in from_f(length - s)}
    return frozenset(string for string in found if len(string) <= longest)


@pytest.mark.parametrize("lag", [6, 8, 30])
def test_embedded_reber_strings_are_in_the_language(lag: int) -> None:
    strings = drawn("reber", lag)
    assert all(EMBEDDED.fullmatch(string.text) for string in strings)
    short = [s.text[2:-2] for s in strings if len(s.text) <= 16]
    assert short
    assert set(short) <= reber_strings(12)


def test_every_short_string_of_the_language_is_drawn() -> None:
    inner = {string.text[2:-2] for string in drawn("reber", 8, 5000)}
    assert reber_strings(8) <= inner
    assert len(reber_strings(8)) == 16


def test_what_may_follow_is_what_some_string_of_the_language_goes_on_with() -> None:
    whole = {f"B{o}{inner}{o}EB" for o in "TP" for inner in reber_strings(14)}
    followers: dict[str, set[str]] = {}
    for text in whole:
        for t in range(1, len(text)):
            followers.setdefault(text[:t], set()).add(text[t])
    for string in drawn("reber", 8, 500):
        for t in range(1, len(string.text) + 1):
            # A prefix of 9 can be led to an end within 18 characters.
            if t <= 9 or string.text + "B" in whole:
                assert set(string.legal[t - 1]) >= followers[string.text[:t]]
            if t <= 9:
                assert set(string.legal[t - 1]) == followers[string.text[:t]], string.text[:t]
        assert string.legal[-3:] == (string.text[1], "E", "B")


@pytest.mark.parametrize("lag", [6, 8, 16, 64])
def test_the_lag_is_the_mean_length_of_the_inner_string(lag: int) -> None:
    lengths = [len(string.text) - 4 for string in drawn("reber", lag, 4000)]
    assert abs(np.mean(lengths) - lag) < 4 * np.std(lengths) / len(lengths) ** 0.5


def test_the_original_grammar_tosses_an_even_coin() -> None:
    assert reber_length(0.5) == pytest.approx(8)
    after: Counter[str] = Counter()
    for string in drawn("reber", 8, 4000):
        for prefix in ("BTBT", "BTBP", "BTBTX", "BTBPV"):
            if string.text.startswith(prefix):
                after[string.text[: len(prefix) + 1]] += 1
    for left, right in (("BTBTS", "BTBTX"), ("BTBPT", "BTBPV"), ("BTBTXX", "BTBTXS")):
        share = after[left] / (after[left] + after[right])
        assert abs(share - 0.5) < 4 * 0.5 / (after[left] + after[right]) ** 0.5


# -- the other tasks ---------------------------------------------------------------------------


def test_long_lag_repeats_its_first_symbol_after_ever_the_same_ones() -> None:
    strings = drawn("long-lag", 20)
    assert {string.text[0] for string in strings} == {"x", "y"}
    assert {string.text[0] == string.text[20] for string in strings} == {True}
    assert {len(string.text) for string in strings} == {21}
    (between,) = {string.text[1:-1] for string in strings}
    assert len(set(between)) == 19
    assert not set(between) & set("xy")
    for string in strings:
        assert string.legal == (*string.text[1:], "")


@pytest.mark.parametrize("lag", [10, 100])
def test_temporal_order_names_the_order_of_its_two_signs(lag: int) -> None:
    names = {"XX": "Q", "XY": "R", "YX": "S", "YY": "U"}
    lengths, first_places, second_places = set(), set(), set()
    for string in drawn("temporal-order", lag, 3000):
        assert re.fullmatch("E[abcdXY]*B[QRSU]", string.text)
        (t1, s1), (t2, s2) = [(t, s) for t, s in enumerate(string.text) if s in "XY"]
        assert string.text[-1] == names[s1 + s2]
        assert [after for after in string.legal if after] == [string.text[-1]]
        assert string.legal[-2] == string.text[-1]
        first_places.add(t1)
        second_places.add(t2)
        lengths.add(len(string.text) - 1)
    assert lengths == set(range(lag, lag + lag // 10 + 1))
    assert first_places == set(range(lag // 10, lag // 5 + 1))
    assert second_places == set(range(lag // 2, lag * 3 // 5 + 1))


def test_anbn_counts_and_is_judged_from_its_first_b_on() -> None:
    counts = set()
    for string in drawn("anbn", 6):
        match = re.fullmatch(f"(a+)(b+){PADDING}", string.text)
        assert match
        n = len(match[1])
        assert n == len(match[2])
        counts.add(n)
        assert string.legal == (*[""] * n, *"b" * (n - 1), PADDING, "")
    assert counts == {1, 2, 3, 4, 5, 6}


def reduced(text: str) -> str:
    """What is left when all pairs are taken out; brackets that do not fit stay."""
    while (shorter := re.sub(r"\(\)|\[\]", "", text)) != text:
        text = shorter
    return text


def test_brackets_match_and_may_go_on_with_any_that_can_be_closed() -> None:
    depths, seen = set(), set()
    for string in drawn("brackets", 3, 100):
        assert reduced(string.text) == ""
        for t in range(1, len(string.text) + 1):
            prefix = string.text[:t]
            depths.add(len(reduced(prefix)))
            legal = {
                s
                for s in "()[]"
                if len(left := reduced(prefix + s)) <= 3 and not set(left) & set(")]")
            }
            assert set(string.legal[t - 1]) == legal
            seen.add(string.text[t - 1])
    assert depths == {0, 1, 2, 3}
    assert seen == set("()[]")


# -- texts and examples ------------------------------------------------------------------------


@by_lag
def test_a_seed_gives_a_text_and_another_seed_another(task: Task, lag: int) -> None:
    text = training_text(task, lag, 1, 5000)
    assert text == training_text(task, lag, 1, 5000)
    assert text != training_text(task, lag, 2, 5000)
    assert len(text) >= 5000
    assert set(text) <= set(task.vocabulary(lag).symbols)
    test = examples(task, lag, 1, 4, 100)
    first = task.vocabulary(lag).decode(test.ids[:, 0].tolist())
    assert task.name == "long-lag" or not text.startswith(first)


def test_a_text_is_the_same_on_every_machine() -> None:
    assert (
        training_text(TASKS["continual-reber"], 8, 1, 30) == "BTBPVVETEBPBTXXTTVPXVPSEPEBTBPVPSETE"
    )


@by_lag
def test_rows_hold_a_string_each(task: Task, lag: int) -> None:
    if task.width is None:
        pytest.skip("streams have no rows")
    width = task.width(lag)
    text = training_text(task, lag, 1, 20 * width)
    assert len(text) == 20 * width
    starts = {"reber": "B", "long-lag": "xy", "temporal-order": "E", "anbn": "a"}[task.name]
    for row in range(20):
        string = text[row * width : (row + 1) * width]
        assert string[0] in starts
        assert string.endswith(PADDING)
        assert PADDING not in string.rstrip(PADDING)


@by_lag
def test_what_follows_in_the_examples_is_legal(task: Task, lag: int) -> None:
    test = examples(task, lag, 1, 5, 300)
    steps, texts, symbols = test.legal.shape
    assert (steps + 1, texts) == test.ids.shape == (test.ids.shape[0], 5)
    assert symbols == len(task.vocabulary(lag))
    judged = test.legal.any(axis=-1)
    follows = np.take_along_axis(test.legal, test.ids[1:, :, None], axis=-1)[..., 0]
    assert (follows == judged).all()
    assert judged.any()
    if task.width is None:
        assert judged[WARMUP:].all()
        assert not judged[:WARMUP].any()
        assert steps == WARMUP + 300


def test_numbered_examples_are_the_strings_of_1_to_n() -> None:
    task = TASKS["anbn"]
    test = numbered_examples(task, 3, 8)
    vocab = task.vocabulary(3)
    texts = [vocab.decode(column.tolist()).rstrip(PADDING) for column in test.ids.T]
    assert texts == ["a" * n + "b" * n for n in range(1, 9)]
    assert test.legal.any(axis=-1).sum(axis=0).tolist() == list(range(1, 9))


@by_lag
def test_too_short_a_lag_is_refused(task: Task, lag: int) -> None:
    task.check_lag(task.least_lag)
    assert training_text(task, task.least_lag, 1, 100)
    with pytest.raises(UsageError, match=f"{task.name}; use at least {task.least_lag}"):
        task.check_lag(task.least_lag - 1)


# -- the criterion -----------------------------------------------------------------------------

LOGITS = np.log([[[0.5, 0.3, 0.2]]])


@pytest.mark.parametrize(
    ("legal", "threshold", "right"),
    [
        ("100", None, True),
        ("010", None, False),
        ("110", None, True),
        ("101", None, False),
        ("011", None, False),
        ("111", None, True),
        ("000", None, True),
        ("100", 0.49, True),
        ("100", 0.51, False),
        ("000", 0.9, True),
    ],
)
def test_criterion(legal: str, threshold: float | None, right: bool) -> None:
    mask = np.array([[[mark == "1" for mark in legal]]])
    assert is_right(LOGITS, mask, threshold).tolist() == [[right]]


def test_a_tie_with_a_symbol_that_is_not_legal_is_wrong() -> None:
    assert not is_right(np.zeros((1, 1, 2)), np.array([[[True, False]]]), None)[0, 0]


def test_encode_marks_the_legal_symbols() -> None:
    task = TASKS["brackets"]
    test = encode(task, 1, [String("()[]", ("", ")", "([", "]"))])
    symbols = np.array(list(task.vocabulary(1).symbols))
    assert ["".join(symbols[mask[0]]) for mask in test.legal] == ["", ")", "(["]
