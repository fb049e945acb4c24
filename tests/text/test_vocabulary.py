"""Characters to ids and back, exactly, whatever the characters are."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charlstm.errors import CharlstmError, UsageError
from charlstm.text.vocabulary import BYTE_SYMBOLS, UNKNOWN_POLICIES, Vocabulary, code_points

BYTES = Vocabulary(BYTE_SYMBOLS, "bytes")
# Any text at all: with lone surrogates, which st.text leaves out, and much that is special.
SPECIAL = st.sampled_from("\ud800\udbff\udc00\udcff\udfff\0\r\n\ufeff\u0301\U0010ffff")
ANY_TEXT = st.lists(st.characters() | SPECIAL).map("".join)


def vocabulary_of(text: str) -> Vocabulary:
    return Vocabulary("".join(sorted(set(text))))


def streamed(vocab: Vocabulary, ids: list[int]) -> list[str]:
    decoder = vocab.decoder()
    return [decoder.feed(i) for i in ids] + [decoder.finish()]


@given(ANY_TEXT.filter(bool))
@example("\r\n\0\ufeff\u0301e\u0301\U0001f1e9\U0001f1ea\ud83d\ude00")
def test_any_text_comes_back_exactly(text: str) -> None:
    vocab = vocabulary_of(text)
    ids = vocab.encode(text)
    assert ids.dtype == np.int64
    assert len(ids) == len(text)
    assert vocab.decode(ids.tolist()) == text
    assert "".join(streamed(vocab, ids.tolist())) == text


@given(st.text())
def test_code_points_are_those_of_the_text(text: str) -> None:
    assert code_points(text).tolist() == [ord(c) for c in text]


def test_half_a_surrogate_pair_has_no_code_point() -> None:
    with pytest.raises(UnicodeEncodeError):
        code_points("a\ud800")


@given(st.binary())
def test_any_bytes_come_back_exactly(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    ids = BYTES.encode(text)
    assert ids.tolist() == list(data)
    assert BYTES.decode(ids.tolist()).encode("utf-8", "surrogateescape") == data


@given(st.binary())
@example(b"\xf0\x9f\x98")
@example(b"\xe2\x82a\xf0\x9f\x98\x80\xff\xc3")
def test_bytes_decode_one_at_a_time_as_at_once(data: bytes) -> None:
    assert "".join(streamed(BYTES, list(data))) == BYTES.decode(data)


@given(st.text(), st.text())
def test_a_text_decodes_the_same_wherever_it_is_cut(before: str, after: str) -> None:
    ids = BYTES.encode(before + after).tolist()
    pieces = streamed(BYTES, ids)
    assert "".join(pieces) == before + after
    assert all(len(piece) <= 1 for piece in pieces)


def test_a_character_of_several_bytes_comes_when_it_is_complete() -> None:
    assert streamed(BYTES, list("a€".encode())) == ["a", "", "", "€", ""]


def test_bytes_that_are_no_text_come_as_surrogate_escapes() -> None:
    assert streamed(BYTES, list(b"a\xffb")) == ["a", "\udcff", "b", ""]
    assert streamed(BYTES, list("€".encode()[:2])) == ["", "", "\udce2\udc82"]


def test_a_surrogate_that_stands_for_no_byte_is_refused_by_a_byte_vocabulary() -> None:
    with pytest.raises(CharlstmError, match=r"U\+D800"):
        BYTES.encode("a\ud800")


@pytest.mark.parametrize(
    ("separator", "reason"),
    [("", "the separator .* is ''"), ("x", "no end of an item"), ("\n%\n", "no end of an item")],
)
def test_a_list_needs_a_symbol_for_its_separator(separator: str, reason: str) -> None:
    with pytest.raises(CharlstmError, match=reason):
        Vocabulary("\nab", separator=separator)


def test_an_unknown_character_is_an_error_that_names_it_and_the_remedy() -> None:
    with pytest.raises(CharlstmError) as caught:
        Vocabulary("ab").encode("aéb\né")
    assert "'é' (U+00E9) '\\n' (U+000A)" in caught.value.message
    assert "`unknown`" in caught.value.hint


def test_many_unknown_characters_are_counted() -> None:
    with pytest.raises(CharlstmError, match="U\\+0067\\) and 2 more"):
        Vocabulary("ab").encode("cdefghi")


def test_unknown_characters_can_be_skipped() -> None:
    assert Vocabulary("ab").encode("xaxbx", "skip").tolist() == [0, 1]
    assert Vocabulary("ab").encode("xyz", "skip").tolist() == []


def test_unknown_characters_can_be_replaced_by_a_space() -> None:
    assert Vocabulary("a b").encode("xab", "replace").tolist() == [1, 0, 2]


def test_without_a_space_the_first_symbol_stands_in() -> None:
    assert Vocabulary("ba").encode("xa", "replace").tolist() == [0, 1]


@pytest.mark.parametrize("policy", UNKNOWN_POLICIES)
def test_no_policy_changes_a_known_text(policy: str) -> None:
    assert Vocabulary("ab ").encode("ab ba", policy).tolist() == [0, 1, 2, 1, 0]  # type: ignore[arg-type]


def test_unknown_characters_are_listed_once_in_order() -> None:
    assert Vocabulary("ab").unknown("zazbyz") == ["z", "y"]
    assert BYTES.unknown("any ✓") == []


@pytest.mark.parametrize("symbols", ["", "aba"])
def test_a_vocabulary_without_symbols_or_with_one_twice_is_refused(symbols: str) -> None:
    with pytest.raises(CharlstmError):
        Vocabulary(symbols)


def test_a_byte_vocabulary_holds_the_256_bytes_in_order() -> None:
    assert len(BYTES) == 256
    for symbols in ("abc", BYTE_SYMBOLS[::-1], BYTE_SYMBOLS[:-1]):
        with pytest.raises(CharlstmError):
            Vocabulary(symbols, "bytes")


def test_values_of_bytes_are_added_up_by_character() -> None:
    vocab = Vocabulary(BYTE_SYMBOLS, "bytes")
    ids = [*"aé".encode(), 0xE2, 0x82]
    assert vocab.by_character(ids, [1, 2, 4, 8, 8]) == [
        ("a", 1),
        ("é", 6),
        ("\udce2", 8),
        ("\udc82", 8),
    ]
    plain = Vocabulary("ab")
    assert plain.by_character([1, 0, 1], [3, 2, 1]) == [("b", 3), ("a", 2), ("b", 1)]
    assert vocab.symbols_in("é") == 2
    assert plain.symbols_in("a") == 1


# -- Unicode forms ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbols", "text", "expected"),
    [
        ("abc\u00e9", "e\u0301", "\u00e9"),
        ("abce\u0301", "\u00e9", "e\u0301"),
        ("abce\u0301", "a\u00e9\u2713", "ae\u0301\u2713"),  # the check mark stays unknown
        ("ab\u00e9n\u0303", "e\u0301\u00f1", "\u00e9n\u0303"),  # one of each
        ("\ud55c", "\u1112\u1161\u11ab", "\ud55c"),  # Korean letters and syllables
        ("abce\u0301\u00e9", "e\u0301\u00e9", "e\u0301\u00e9"),  # both are known
        ("abc", "e\u0301", "e\u0301"),  # neither is
        ("abc", "abc", "abc"),
    ],
)
def test_characters_get_the_unicode_form_that_is_known(
    symbols: str, text: str, expected: str
) -> None:
    assert Vocabulary(symbols).known_form(text) == expected


def test_bytes_know_every_form() -> None:
    vocab = Vocabulary(BYTE_SYMBOLS, "bytes")
    assert vocab.known_form("e\u0301\u00e9\udcff") == "e\u0301\u00e9\udcff"


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="`unknown` is 'bogus'"):
        Vocabulary("ab").encode("a", "bogus")  # type: ignore[arg-type]


def test_without_a_prime_a_newline_or_the_first_symbol_is_read() -> None:
    assert Vocabulary("\t\nab").opening().tolist() == [1]
    assert Vocabulary("ab").opening().tolist() == [0]
    assert Vocabulary(BYTE_SYMBOLS, "bytes").opening().tolist() == [10]
