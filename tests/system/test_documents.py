"""One document on every medium: a terminal of any width, HTML, SVG and PNG."""

import re
import struct
import xml.etree.ElementTree
import zlib
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from charlstm.analysis.document import (
    Bar,
    Column,
    Document,
    Flagged,
    FractionBar,
    Heading,
    Key,
    Lines,
    Plot,
    Plots,
    Series,
    Strip,
    Strong,
    Table,
    Tinted,
)
from charlstm.errors import CharlstmError
from charlstm.show.html import to_html
from charlstm.show.picture import (
    RED,
    WIDTH,
    Label,
    Path,
    Picture,
    Rectangle,
    document_picture,
    plot_picture,
)
from charlstm.show.style import NEGATIVE, POSITIVE, tint
from charlstm.show.svg import SCALE, lacking, to_png, to_svg
from charlstm.show.terminal import print_document

EVIL = "<b>&\x1b[31m\u202e"
TEXT = tuple('a "b"\n漢 c\x1b')
PLOT = Plot(
    f"plot {EVIL}",
    (
        Series("rising", [0, 1, 2], [0, 5, 10], "blue"),
        Series(f"falling {EVIL}", [0, 1, 2], [10, 5, 0], "dark_orange"),
    ),
    (0, 2),
    (0, 10),
    f"steps {EVIL}",
    f"size {EVIL}",
    x_ticks=((1, f"one {EVIL}"),),
    y_ticks=((5, f"five {EVIL}"),),
)
DOCUMENT = Document(
    f"All blocks {EVIL}",
    (
        Lines((f"Words that are long enough to need more than a line of forty cells {EVIL}",)),
        Heading(f"A heading {EVIL}"),
        Key(f"shares {EVIL}", f"shut {EVIL}", f"open {EVIL}"),
        Table(
            (
                Column(f"name {EVIL}"),
                Column("n", right=True),
                Column("bar"),
                Column("gate", ends=("l", f"h {EVIL}")),
            ),
            (
                (EVIL, "1", Bar(0.5), FractionBar(0.25, 0.5)),
                (" ", Strong("2.5"), Bar(-1.0), FractionBar(1.0, 0.0)),
                ("x", "", "", ""),
            ),
            f"… 3 more {EVIL}",
        ),
        Tinted(
            Strip(TEXT, tuple(np.linspace(-1, 1, len(TEXT)).tolist())),
            (Strip(tuple("<abcdefghi"), (0.5,) * len(TEXT)),),
            (f"low {EVIL}", f"high {EVIL}"),
        ),
        Plots((PLOT,)),
        Plots((PLOT, PLOT, PLOT)),
    ),
)


def printed(width: int, color: str | None = None) -> str:
    written = StringIO()
    console = Console(
        file=written, width=width, force_terminal=color is not None, color_system=color,  # type: ignore[arg-type]
        highlight=False,
    )  # fmt: skip
    print_document(console, DOCUMENT)
    return written.getvalue()


# -- terminal ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [10, 20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(cell_len, printed(width).splitlines())) <= width


def test_three_plots_have_one_legend_over_the_whole_width() -> None:
    series = tuple(Series(f"layer {n}", [0, 1], [0, n], "blue") for n in (1, 2, 3))
    plot = Plot("gate", series, (0, 1), (0, 3), "left", "right")
    written = StringIO()
    console = Console(file=written, width=80, color_system=None)
    print_document(console, Document("t", (Plots((plot, plot, plot)),)))
    legends = [line for line in written.getvalue().splitlines() if "layer 1" in line]
    assert len(legends) == 1
    assert "layer 2" in legends[0]
    assert "layer 3" in legends[0]


@pytest.mark.parametrize("name", ["speaker who says something long", "a" * 300, "漢" * 60])
def test_long_name_is_shortened_and_the_numbers_stay(name: str) -> None:
    columns = (Column("feature"), Column("n", right=True), Column("held out", right=True))
    table = Table(
        (*columns, Column("bar")),
        tuple((words, "1,234", "+0.831", Bar(0.5)) for words in (name, "short")),
    )
    written = StringIO()
    print_document(
        Console(file=written, width=40, color_system=None), Document("t", (table, Heading(name)))
    )
    lines = written.getvalue().splitlines()
    assert lines[2].startswith(name[:5])
    assert "… " in lines[2]
    for line in lines[2:4]:
        assert line.rstrip("·▒").rstrip("▒· ").endswith(" 1,234   +0.831")
        assert "▒" in line
    assert len({cell_len(line.rstrip()) for line in lines[2:4]}) == 1
    assert name in "".join(lines[4:]).replace("\n", "")  # whole where there is room for it


def test_without_colour_there_are_no_codes_and_with_it_only_colours() -> None:
    assert "\x1b" not in printed(80)
    colored = printed(80, "truecolor")
    assert not re.sub(r"\x1b\[[\d;]*m", "", colored).count("\x1b")
    assert "\u202e" not in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) != colored


def test_bars_are_as_long_as_their_values() -> None:
    lines = printed(80).splitlines()
    row = next(line for line in lines if "25%" in line)
    half, share = re.findall(r"[█·▒]+", row)
    assert half.count("▒") == pytest.approx(len(half) / 4, abs=0.6)
    assert half.rstrip("·").endswith("▒")
    assert half.index("▒") == pytest.approx(len(half) / 2, abs=0.6)
    assert (share.count("█"), share.count("▒")) == pytest.approx(
        (len(share) / 4, len(share) / 2), abs=0.6
    )


def test_bar_from_the_left_fills_the_whole_column_on_every_medium() -> None:
    rows = ((Bar(1, from_left=True),), (Bar(0.25, from_left=True),))
    document = Document("t", (Table((Column("bar"),), rows),))
    written = StringIO()
    print_document(Console(file=written, width=42, color_system=None), document)
    full, quarter = written.getvalue().splitlines()[2:]
    assert full.strip() == "▒" * 40
    assert quarter.strip() == "▒" * 10 + "·" * 30
    assert 'style="left:0%;width:100.0%"' in to_html(document)
    assert 'style="left:0%;width:25.0%"' in to_html(document)
    shapes = [s for s in document_picture(document).shapes if isinstance(s, Rectangle)]
    assert [(s.x, s.width) for s in shapes[:2]] == [(shapes[0].x, shapes[0].width)] * 2
    assert (shapes[3].x, shapes[3].width) == (shapes[0].x, shapes[0].width / 4)


def test_only_flagged_cells_are_red() -> None:
    document = Document("t", (Table((Column("n"),), ((Strong("1"),), (Flagged("2"),))),))
    written = StringIO()
    console = Console(file=written, width=40, force_terminal=True, color_system="standard")
    print_document(console, document)
    assert "\x1b[1m1\x1b[0m" in written.getvalue()
    assert "\x1b[1;31m2\x1b[0m" in written.getvalue()
    assert re.findall(r'<span class="(\w+)">', to_html(document)) == ["strong", "flagged"]
    labels = [s for s in document_picture(document).shapes if isinstance(s, Label)][-2:]
    assert [(s.bold, s.color == RED) for s in labels] == [(True, False), (False, True)]


def test_key_names_what_each_medium_draws_a_share_with() -> None:
    document = Document("t", (Key("units", "shut", "open"),))
    written = StringIO()
    print_document(Console(file=written, width=80, color_system=None), document)
    assert written.getvalue() == "t\nunits: █ shut  · between  ▒ open\n"
    page = to_html(document)
    drawn = re.findall(r'<i class="(\w*)" style="width:100%"></i></span> (\w+)', page)
    assert drawn == [("low", "shut"), ("", "between"), ("high", "open")]
    assert not set("█·▒") & set(page)
    shapes = document_picture(document).shapes
    told = {
        shapes[n + 1].text: shape.color  # type: ignore[union-attr]
        for n, shape in enumerate(shapes)
        if isinstance(shape, Rectangle)
    }
    assert (told["shut"], told["open"]) == (NEGATIVE, POSITIVE)
    bar = document_picture(
        Document("t", (Table((Column(""),), ((FractionBar(0.5, 0.5),),)),))
    ).shapes
    colors = [shape.color for shape in bar if isinstance(shape, Rectangle)]
    assert colors == [told["between"], told["shut"], told["open"]]


def test_series_are_distinguishable_without_colour() -> None:
    shown = printed(80)
    assert "o rising" in shown
    assert "x falling" in shown


# -- files -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def page() -> Page:
    parsed = Page()
    parsed.feed(to_html(DOCUMENT))
    return parsed


def test_page_needs_nothing_from_outside_and_runs_nothing(page: Page) -> None:
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "b"} & set(page.tags)
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    addresses = {value for name, value in page.attributes if value and "://" in value}
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in to_html(DOCUMENT)
    assert "url(" not in to_html(DOCUMENT)


def test_page_says_what_the_terminal_says(page: Page) -> None:
    for words in ("All blocks <b>&␛[31m", "A heading", "Words that are long", "… 3 more", "2.5"):
        assert words in page.words
    assert page.words.count("rising") == 4
    assert not set(page.words) & set("\x1b\u202e")


def test_svg_is_well_formed_and_holds_the_points() -> None:
    picture = plot_picture(PLOT, 400, 300)
    root = xml.etree.ElementTree.fromstring(to_svg(picture))
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        for line in root.iter("{http://www.w3.org/2000/svg}polyline")
        if line.get("stroke-width") == "1.8"
    ]
    assert len(lines) == 2
    for line, ys in zip(lines, ([0, 5, 10], [10, 5, 0]), strict=True):
        x, y = np.array(line).T
        assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.02)
        slope = (y[2] - y[0]) / (ys[2] - ys[0])
        assert slope < 0  # up on the page is less
        assert y[1] - y[0] == pytest.approx(slope * (ys[1] - ys[0]), abs=0.02)
    whole = xml.etree.ElementTree.fromstring(to_svg(document_picture(DOCUMENT)))
    assert "".join(whole.itertext()).count("rising") == 4


def test_letters_of_coloured_text_stand_on_their_colours() -> None:
    symbols = ("a", " ", "\n", "b")
    strips = Strip(symbols, (0.5, 0.1, 0.2, -0.5)), Strip((" ", "x", "y", "z"), (0.3,) * 4)
    picture = document_picture(Document("title", (Tinted(strips[0], strips[1:]),)))
    letters = [s for s in picture.shapes if isinstance(s, Label) and len(s.text) == 1][1:]
    rectangles = [s for s in picture.shapes if isinstance(s, Rectangle) and s.width < 10]
    assert "".join(s.text for s in letters) == "a↵␣xybz"
    shown = [s for s in rectangles if s.color != tint(0.1)]
    assert [s.x for s in shown] == [s.x for s in letters]


def pixels_of(data: bytes) -> np.ndarray:
    """A PNG of 8 bits for each of red, green, blue and opacity, as (height, width, 4) pixels."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, parts = 8, {b"IDAT": b""}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        parts[kind] = parts.get(kind, b"") + body
        at += 12 + length
    width, height, depth, kind_of_color, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert (depth, kind_of_color) == (8, 6)
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, 1 + 4 * width)
    pixels = np.zeros((height + 1, width + 1, 4), np.uint8)  # a border of zeros above and left
    for y, (kind_of_row, *row) in enumerate(rows.tolist(), 1):
        for x in range(1, width + 1):
            left, up, corner = (
                pixels[p].astype(int) for p in ((y, x - 1), (y - 1, x), (y - 1, x - 1))
            )
            paeth = np.array(
                [
                    min((a, b, c), key=lambda v: abs(a + b - c - v))
                    for a, b, c in zip(left, up, corner, strict=True)
                ]
            )
            guess = (0 * left, left, up, (left + up) // 2, paeth)[kind_of_row]
            pixels[y, x] = (guess + row[4 * x - 4 : 4 * x]) % 256
    return pixels[1:, 1:]


def picture_of(*shapes: Rectangle | Path | Label, width: int = 60, height: int = 40) -> Picture:
    return Picture(width, height, list(shapes))


def test_png_has_the_pixels_of_the_picture() -> None:
    picture = picture_of(
        Rectangle(10, 5, 20, 10, NEGATIVE),
        Path(((0, 30), (60, 30)), POSITIVE, 2),
        Label(40, 20, "I", (0, 0, 0)),
    )
    pixels = pixels_of(to_png(picture))
    assert pixels.shape == (40 * SCALE, 60 * SCALE, 4)
    assert (pixels[..., 3] == 255).all()
    assert (pixels[10 * SCALE, 20 * SCALE, :3] == NEGATIVE).all()
    assert (pixels[30 * SCALE, 50 * SCALE, :3] == POSITIVE).all()
    assert (pixels[25 * SCALE, 5 * SCALE] == 255).all()
    area = (pixels[..., :3] == np.array(NEGATIVE)).all(axis=-1).sum()
    assert area == 20 * 10 * SCALE**2
    assert pixels[8 * SCALE : 22 * SCALE, 38 * SCALE : 50 * SCALE].min() < 60


def test_words_in_a_png_need_no_font_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def ink(text: str, *, bold: bool = False) -> int:
        label = Label(5, 20, text, (0, 0, 0), bold=bold)
        return int((pixels_of(to_png(picture_of(label, height=30)))[..., 0] < 128).sum())

    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("FONTCONFIG_FILE", "/nonexistent")
    assert ink(" ") == 0
    assert ink(".") < ink("I") < ink("W")
    assert ink("Wλ") > ink("W")
    assert ink("W", bold=True) > 1.1 * ink("W")


def test_png_is_the_same_bytes_each_time() -> None:
    picture = document_picture(DOCUMENT)
    assert to_png(picture) == to_png(picture)


def test_text_is_no_markup_in_any_file() -> None:
    evil = "</text><rect width='60' height='40' fill='#ff0000'/>&amp;<!--]]>\ufffe\uffff"
    picture = picture_of(Label(0, 20, evil))
    root = xml.etree.ElementTree.fromstring(to_svg(picture))
    assert [one.tag.rpartition("}")[2] for one in root] == ["rect", "text"]
    assert root[1].text == evil.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    red = (pixels_of(to_png(picture))[..., :3] == (255, 0, 0)).all(axis=-1)
    assert not red.any()


def test_characters_that_a_png_lacks_are_listed_once_each() -> None:
    signs = "éß h₋ = ±1 ∗ σ −∞ … ↵␣⇥ ‘’ Καλημέρα Привет"
    assert lacking(document_picture(Document(f"{signs} 漢字漢 \U0001f642", ()))) == "漢字\U0001f642"
    assert lacking(document_picture(Document(signs, ()))) == ""


def test_joiners_are_not_lacking_for_they_draw_nothing() -> None:
    assert lacking(picture_of(Label(0, 20, "می\u200cخواهم a\u200db"))) == ""


def test_a_png_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(CharlstmError, match=r"1,920 by 4,000,000 pixels"):
        to_png(Picture(WIDTH, 2_000_000))


def test_png_of_a_whole_document_has_its_colours() -> None:
    pixels = document_picture(DOCUMENT)
    data = to_png(pixels)
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (SCALE * WIDTH, round(SCALE * pixels.height))
