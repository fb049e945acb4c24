"""Nothing that a text holds can steer the terminal, and numbers read as people read them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.show.format import count, duration, printable, size, symbol

UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Every code point, surrogates too; control and format characters more often than chance has them.
anything = st.text(
    st.characters(codec=None, exclude_categories=())
    | st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp"))
)


@given(anything)
def test_no_control_format_or_surrogate_character_passes(text: str) -> None:
    shown = printable(text)
    assert all(c in "\n\t" or unicodedata.category(c) not in UNSAFE for c in shown)
    assert {unicodedata.category(c) for c in printable(text, keep="")}.isdisjoint(UNSAFE)
    shown.encode("utf-8")


@given(anything)
def test_each_character_is_shown_as_one_and_safe_ones_as_themselves(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        if before in "\n\t" or unicodedata.category(before) not in UNSAFE:
            assert after == before
        else:
            assert after != before


def test_every_unsafe_code_point_is_replaced() -> None:
    unsafe = "".join(map(chr, range(0x110000)))
    unsafe = "".join(c for c in unsafe if unicodedata.category(c) in UNSAFE)
    assert len(unsafe) > 2000
    assert {unicodedata.category(c) for c in printable(unsafe, keep="")}.isdisjoint(UNSAFE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", "␛[31mred␇"),
        ("a\x7fb\x9bc", "a␡b\ufffdc"),
        ("\u202eevil\udcff", "\ufffdevil\ufffd"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("é 漢 🙂", "é 漢 🙂"),
    ],
)
def test_control_characters_get_pictures(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_is_not_kept_is_shown_too() -> None:
    assert printable("a\nb\tc", keep="") == "a␊b␉c"


@pytest.mark.parametrize(
    ("character", "sign"),
    [(" ", "␣"), ("\n", "↵"), ("\t", "⇥"), ("\r", "␍"), ("\x1b", "␛"), ("a", "a"), ("漢", "漢")],
)
def test_blanks_and_line_ends_have_a_sign(character: str, sign: str) -> None:
    assert symbol(character) == sign


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (187, "3:07"),
        (3599.6, "1:00:00"),
        (7387, "2:03:07"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("bytes_", "shown"),
    [(0, "0 B"), (312, "312 B"), (4_200, "4.2 kB"), (4_200_000, "4.2 MB"), (7.5e12, "7500.0 GB")],
)
def test_sizes(bytes_: float, shown: str) -> None:
    assert size(bytes_) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (1_000, "1.0k"), (1_219_201, "1.2M"), (3e9, "3.0G")],
)
def test_counts(number: float, shown: str) -> None:
    assert count(number) == shown
