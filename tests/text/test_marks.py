"""The definitions of words and paired marks that all analyses use."""

import pytest

from charlstm.text.marks import BRACKETS, QUOTES, WORD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't row, Odile’s heron!", ["Don't", "row", "Odile’s", "heron"]),
        ("'row' rowers' o''c", ["row", "rowers", "o", "c"]),
        ("40s in 1873, a_b", ["40s", "in", "1873", "a", "b"]),
        ("Καλημέρα, élan; 漢字", ["Καλημέρα", "élan", "漢字"]),
        ("-- … \n", []),
    ],
)
def test_word_is_letters_and_digits_with_apostrophes_inside(text: str, words: list[str]) -> None:
    assert WORD.findall(text) == words


def test_no_mark_is_closed_by_the_same_one_as_another() -> None:
    closing = [*BRACKETS.values(), *QUOTES.values()]
    assert len(set(closing)) == len(closing)
