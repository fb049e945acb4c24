"""Characters are tinted by their surprise, and nothing unsafe reaches the terminal."""

import io
import math
import re

import pytest
from rich.console import Console

from charlstm.show.surprise import TINTS, Tint, legend, print_positions, print_tinted

CODES = re.compile(r"\x1b\[[0-9;]*m")


def console(color: str | None = "256", width: int = 80, **more: object) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=color is not None,
        color_system=color,  # type: ignore[arg-type]
        width=width,
        highlight=False,
        **more,  # type: ignore[arg-type]
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_tint_is_another_and_begins_where_the_last_one_ends() -> None:
    tint = Tint(console())
    assert tint("a", 0.0) == tint("a", 2.0) == tint("a", math.nan) == "a"
    shown = [tint("a", bits) for bits in (2.1, 4.1, 6.1, 8.1)]
    assert len(set(shown)) == 4
    assert all(CODES.sub("", one) == "a" for one in shown)
    assert tint("a", 4.0) == shown[0]
    assert all(one.endswith("\x1b[0m") for one in shown)


@pytest.mark.parametrize("system", ["standard", "256", "truecolor"])
def test_every_terminal_with_colours_has_tints(system: str) -> None:
    assert CODES.search(Tint(console(system))("a", 9.0))


def test_without_colours_the_text_is_plain() -> None:
    for plain in (console(None), console(no_color=True)):
        assert not Tint(plain).has_color
        assert Tint(plain)("a", 9.0) == "a"


def test_line_ends_are_shown_where_they_surprise_and_control_characters_always() -> None:
    tint = Tint(console())
    assert tint("\n", 1.0) == "\n"
    assert CODES.sub("", tint("\n", 9.0)) == "↵\n"
    assert CODES.sub("", tint("\x1b", 9.0)) == tint("\x1b", 1.0) == "␛"


def test_the_legend_names_every_tint() -> None:
    assert legend().plain == "surprise in bits:  0–2  2–4  4–6  6–8  8+ "
    assert len(legend().spans) == len([style for _, style in TINTS if style])


def test_a_text_is_printed_with_its_legend_where_there_are_colours() -> None:
    characters = [("a", math.nan), ("b", 9.0), ("\n", 1.0)]
    colored, plain = console(), console(None)
    print_tinted(colored, characters)
    print_tinted(plain, characters)
    print_tinted(plain, characters[:2])
    assert CODES.sub("", written(colored)) == legend().plain + "\nab\n"
    assert written(plain) == "ab\nab\n"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_places_have_line_column_and_what_is_around(width: int) -> None:
    narrow = console(None, width)
    text = "first line\nse\x1bond one\n" + "x" * 100
    print_positions(narrow, text, {13: 1.0, 0: math.nan, 10: 1.0, 50: 1.0})
    lines = written(narrow).splitlines()
    assert all(len(line) <= width for line in lines)
    assert lines[0].split() == ["bits", "line", "column"]
    assert lines[1].split()[:3] == ["1.0", "2", "3"]
    assert "se[␛]ond" in lines[1]
    assert lines[2].split()[:3] == ["nan", "1", "1"]
    assert lines[3].split()[:3] == ["1.0", "1", "11"]
    assert "line[↵]se" in lines[3]
