"""Nothing that a text holds can steer the terminal, and numbers read as people read them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.show.printable import LONGEST_LINE, one_line, printable, symbol
from charlstm.show.quantities import count, duration, size

DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Bidirectional embeddings, overrides, isolates, and what ends them (Unicode's UAX 9)."""


def unsafe(character: str) -> bool:
    """Controls, lone surrogates, line and paragraph separators, changes of direction."""
    kinds = {"Cc", "Cs", "Zl", "Zp"}
    return unicodedata.category(character) in kinds or character in DIRECTIONS


# Every code point, surrogates too; control and format characters more often than chance has them.
anything = st.text(
    st.characters(codec=None, exclude_categories=())
    | st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp"))
)


@given(anything)
def test_nothing_that_could_steer_a_terminal_passes(text: str) -> None:
    shown = printable(text)
    assert not any(unsafe(c) for c in shown if c not in "\n\t")
    assert not any(map(unsafe, printable(text, keep="")))
    shown.encode("utf-8")


@given(anything)
def test_each_character_is_shown_as_one_and_safe_ones_as_themselves(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        assert (after == before) == (before in "\n\t" or not unsafe(before))


def test_every_unsafe_code_point_is_replaced() -> None:
    found = [c for c in map(chr, range(0x110000)) if unsafe(c)]
    assert len(found) > 2000
    assert not any(map(unsafe, printable("".join(found), keep="")))


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f469\u200d\U0001f467",  # a family, joined
        "می\u200cخواهم",  # Persian, with a non-joiner
        "Donau\u00addampf\u00adschiff",  # soft hyphens
        "\u200eabc\u200f \ufeff a\u2060b",  # marks and joiners that reorder nothing else
    ],
)
def test_format_characters_that_scripts_need_stay(text: str) -> None:
    assert printable(text) == text


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
    [
        (" ", "␣"),
        ("\n", "↵"),
        ("\t", "⇥"),
        ("\r", "␍"),
        ("\x1b", "␛"),
        ("a", "a"),
        ("漢", "漢"),
        ("\u200d", "\ufffd"),
        ("\u00ad", "\ufffd"),
        ("\u202e", "\ufffd"),
    ],
)
def test_what_cannot_be_seen_by_itself_has_a_sign(character: str, sign: str) -> None:
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


def test_a_message_is_one_line_of_bounded_length() -> None:
    assert one_line("a\nb") == "a␊b"
    assert one_line("a" * LONGEST_LINE) == "a" * LONGEST_LINE
    assert one_line("\x1b" * 10**6) == "␛" * LONGEST_LINE + "…"
