"""A constrained text matches, uses the whole width of its expression, and has no dead ends."""

import random
import re
import string
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from charlstm.errors import UsageError
from charlstm.generate.constraint import Constraint
from charlstm.generate.expression import Expression
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary

LETTERS = Vocabulary("".join(sorted(string.ascii_letters + " \n.,éß")))
BYTES = Vocabulary(BYTE_SYMBOLS, "bytes")


def walk(
    seed: int,
    match: str = "",
    ban: str = "",
    length: int | None = None,
    stops: tuple[str, ...] = (),
    vocab: Vocabulary = LETTERS,
    most: int = 300,
) -> str:
    """A text of symbols chosen uniformly among the allowed ones."""
    constraint = Constraint(vocab, match, ban, length, stops)
    generator, nodes, ids = random.Random(seed), np.zeros(1, np.int64), []
    while len(ids) < most:
        allowed = np.flatnonzero(constraint.allowed(nodes, len(ids))[0])
        if not len(allowed):
            break
        ids.append(generator.choice(allowed.tolist()))
        nodes = constraint.advance(nodes, np.array(ids[-1:]))
    return vocab.decode(ids)


@pytest.mark.parametrize(
    ("match", "length"),
    [
        ("Qu[a-z]{6}", None),
        ("Qu[a-z]{6}", 8),
        ("(?:.{40}\n){2}", None),
        ("A.*\nB.*\nC.*", 30),
        ("[^eé]*", 20),
        ("(?i:qu|éa)+", 20),
        ("(?s).*THE END", 25),
        (r"\w+ß", 9),
        (".*e.{7}", 30),
        ("a|b{50}", 49),
    ],
)
def test_a_text_matches_within_its_length(match: str, length: int | None) -> None:
    for seed in range(5):
        text = walk(seed, match, length=length)
        assert re.fullmatch(match, text)
        assert length is None or len(text) <= length


def test_each_text_of_a_finite_expression_is_reached_and_no_other() -> None:
    texts = {walk(seed, "a[bc]|d{2,3}|éß?") for seed in range(200)}
    assert texts == {"ab", "ac", "ddd", "éß"}
    texts = {walk(seed, "a[bc]|d{2,3}|éß?", length=2) for seed in range(200)}
    assert texts == {"ab", "ac", "dd", "éß"}


def test_a_stop_sequence_may_end_a_text_that_matches_and_no_other() -> None:
    texts = [walk(seed, "Qu[a-z]{2,4}", stops=("\n", ". ")) for seed in range(100)]
    assert all(re.fullmatch("Qu[a-z]{2,4}(\n|\\. )", text) for text in texts)
    assert {len(text.rstrip("\n. ")) for text in texts} == {4, 5, 6}
    assert {text[-1] for text in texts} == {"\n", " "}


def test_the_text_before_the_longest_stop_sequence_is_what_matches() -> None:
    for seed in range(100):
        text = walk(seed, "(?:x|ab|ba)*", length=8, stops=("ab", "b"))
        cut = min((text.find(stop) for stop in ("ab", "b") if stop in text), default=len(text))
        assert re.fullmatch("x*", text[:cut])
        assert "b" not in text[:cut]


def test_a_stop_sequence_inside_the_expression_is_never_begun_in_vain() -> None:
    with pytest.raises(UsageError, match=r"after 'a' it needs .* a stop sequence excludes"):
        Constraint(LETTERS, "a\nb", stops=("\n",))
    assert {walk(seed, "a[\nc]b", stops=("\n",)) for seed in range(20)} <= {"acb", "acb\n"}


def test_banned_characters_never_occur() -> None:
    assert not set("eéE") & set(walk(1, ban="eéE", most=2000))
    assert set(walk(1, "[abc]{200}", ban="b")) == {"a", "c"}
    assert "e" not in walk(1, "(?s).*", ban="e€", length=100)  # a character no model here knows


def test_bytes_match_as_characters_do() -> None:
    texts = {walk(seed, "é?[äü]x|€", vocab=BYTES) for seed in range(40)}
    assert texts == {"äx", "üx", "éäx", "éüx", "€"}
    assert walk(1, "[^a]{9}", vocab=BYTES).encode().decode()  # whole characters
    with pytest.raises(UsageError, match="at least 3 bytes, but `length` is 2"):
        Constraint(BYTES, "€", length=2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"match": "a{50}", "length": 40}, "at least 50 characters, but `length` is 40"),
        ({"match": "Quä.*"}, "after 'Qu' it needs a character that the model never saw"),
        ({"match": "Qua", "ban": "a"}, "after 'Qu' it needs"),
        ({"match": "a("}, r"`match` is 'a\(': missing \)"),
        ({"match": "a^b"}, "anchors .* are not supported; the whole text has to match anyway"),
        ({"match": r"a\b.*"}, "are not supported"),
        ({"match": "(?=a)b"}, "lookaround"),
        ({"match": r"(a)\1"}, "backreferences"),
        ({"match": "(?a)(?u)b"}, r"is '\(\?a\)\(\?u\)b': ASCII and UNICODE flags are incompatible"),
        ({"match": "(" * 250 + "a" + ")*" * 250}, "nested too deeply; use a simpler"),
        ({"match": "(" * 5000 + "a" + ")" * 5000}, "nested too deeply; use a simpler"),
        ({"ban": LETTERS.symbols}, "excludes every character"),
    ],
)
def test_what_cannot_be_matched_is_refused_with_the_reason(given: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Constraint(LETTERS, **given)


def test_an_expression_that_re_warns_of_is_read_as_re_reads_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = walk(1, "[[a-c]{9}")
    assert re.fullmatch(r"[\[a-c]{9}", text)


def test_a_model_of_bytes_bans_only_ascii() -> None:
    assert "e" not in walk(1, ban="e", vocab=BYTES)
    with pytest.raises(UsageError, match="can ban only ASCII"):
        Constraint(BYTES, ban="é")


def test_a_letter_is_not_banned_for_its_accent() -> None:
    apart, joined = Vocabulary("Jaen\u0301"), Vocabulary("Jaené")
    for ban in ("\u00e9", "e\u0301"):
        with pytest.raises(UsageError, match="letters and accents as separate characters"):
            Constraint(apart, ban=ban)
        assert set(walk(1, ban=ban, vocab=joined)) == set("Jaen")
    assert set(walk(1, ban="\u0301e", vocab=apart)) == set("Jan")


def test_an_expression_may_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.generate.constraint.MAX_TABLE", 1000)
    with pytest.raises(UsageError, match="too many states"):
        Constraint(LETTERS, ".{100}")


def test_anchors_at_the_ends_change_nothing() -> None:
    assert {walk(seed, "^(?:ab|c)$") for seed in range(20)} == {"ab", "c"}


def test_a_beginning_before_a_long_repeat_has_a_state_for_each_symbol() -> None:
    text = walk(1, "H.{20,60}", length=61)
    assert re.fullmatch("H.{20,60}", text)


MATCHES = ["a*b?c+", "(?:ab|c)*a", "(a|b){2,3}c?", "[^b]*", "(?i:A)(b|)c*", "(a*)*", ".{2}a?"]


@settings(deadline=None, max_examples=50)
@given(strategies.text("abc", max_size=6), strategies.sampled_from(MATCHES))
def test_the_expression_accepts_what_re_matches(text: str, match: str) -> None:
    for symbols in ("abc", None):
        expression = Expression(match, symbols)
        state = expression.start
        for symbol in text:
            states, which = expression.following(state)
            state = states[which["abc".index(symbol) if symbols else ord(symbol)]]
        assert expression.accepts(state) == (re.fullmatch(match, text) is not None)
