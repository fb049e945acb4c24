import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console, RenderableType

from charlstm.show.ascii_signs import ERRORS
from charlstm.show.study_charts import cells_view, gradient_view, lag_view, legend
from charlstm.show.study_panel import StudyLines, StudyPanel
from charlstm.study.results import CellRun, Clipping, GradientProfile, GradientReport, LagTrial

TRIALS = [
    LagTrial("rnn", 8, 1, False, 600_000, 0.95999, None, None, 1.0),
    LagTrial("rnn", 16, 1, False, 600_000, 0.9, None, None, 1.0),
    LagTrial("lstm", 8, 1, True, 90_000, 1.0, None, 12.25, 1.0),
    LagTrial("lstm", 8, 2, True, 110_000, 1.0, None, 12.35, 1.0),
]
RUNS = [
    CellRun(cell, seed, 100, 100_123, loss + seed / 100, speed, 9.0, f"studies/x/{cell}-{seed}")
    for cell, loss, speed in (("lstm-1997", 1.6, 50_000.0), ("gru", 1.5, 30_000.0))
    for seed in (1, 2, 3)
]
FADING = GradientProfile("rnn", "rnn", 0.7 ** np.arange(60.0), None, 0.5)
GROWING = GradientProfile("rnn, W×2", "rnn", 1.1 ** np.arange(60.0), None, 900.0)
KEEPING = GradientProfile("lstm", "lstm", 0.9 ** np.arange(60.0), 0.95 ** np.arange(60.0), 0.4)
REPORT = GradientReport(
    (FADING, KEEPING, GROWING),
    (KEEPING,),
    (
        Clipping("rnn, W×2", 1.0, 0.29, 81.3, 0.14, 2.0057),
        Clipping("rnn, W×2", None, 0.38, 133.4, 0.16, 2.2647),
    ),
)


def printed(view: str, width: int, color: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        height=50,
        force_terminal=color,
        color_system="truecolor" if color else None,
        highlight=False,
    )
    drawn: dict[str, RenderableType] = {
        "lag": lag_view(console, TRIALS, ["rnn", "lstm"], [8, 16]),
        "cells": cells_view(console, RUNS),
        "gradient": gradient_view(console, REPORT),
    }
    console.print(drawn[view])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("view", ["lag", "cells", "gradient"])
def test_views_have_ascii_signs_where_the_stream_has_no_others(view: str, color: bool) -> None:
    signs = printed(view, 80, color)
    assert not signs.isascii()
    written = signs.encode("ascii", ERRORS).decode()
    assert "?" not in written
    assert len(written) == len(signs)
    assert re.search(r"\+.*[abx:'.]", written)  # a line of a chart


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("view", ["lag", "cells", "gradient"])
def test_views_fit_and_have_no_codes_without_colour(view: str, width: int) -> None:
    shown = printed(view, width)
    assert "\x1b" not in shown
    assert max(len(line) for line in shown.splitlines()) <= width


@pytest.mark.parametrize("view", ["lag", "cells", "gradient"])
def test_views_have_colours_where_the_terminal_has(view: str) -> None:
    assert "\x1b[" in printed(view, 80, color=True)


def test_lags_are_a_table_of_shares_characters_and_states() -> None:
    lines = [line.split() for line in printed("lag", 80).splitlines()]
    assert lines[0] == ["cell", "lag", "solved", "characters", "correct", "|c|"]
    assert lines[1] == ["rnn", "8", "0", "of", "1", "95.99%"]
    assert lines[2] == ["16", "0", "of", "1", "90.00%"]
    assert lines[3] == ["lstm", "8", "2", "of", "2", "100,000", "100.00%", "12.3"]
    assert lines[4] == ["16", "–"]
    reaching = [replace(trial, reach=17) for trial in TRIALS]
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(lag_view(console, reaching, ["lstm"], [8]))
    assert "reach" in console.file.getvalue()  # type: ignore[attr-defined]


def test_lines_of_equal_shares_do_not_hide_each_other() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    same = [replace(TRIALS[0], cell=cell) for cell in ("rnn", "gru", "lstm")]
    console.print(lag_view(console, same, ["rnn", "gru", "lstm"], [8]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    row = next(line for line in shown.splitlines() if line.startswith("  0%┤"))
    assert "".join(row.split()) == "0%┤abc│"


def test_charts_of_gradients_say_on_a_line_of_its_own_which_is_which() -> None:
    lines = [line.rstrip() for line in printed("gradient", 80).splitlines()]
    assert "a rnn  b lstm  c rnn, W×2" in lines
    assert "a lstm, untrained  b lstm, trained" in lines


def test_gradients_of_a_run_have_no_empty_table_of_clipping() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(gradient_view(console, replace(REPORT, clippings=())))
    assert "clip" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_is_not_quite_right_is_not_rounded_up() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(lag_view(console, [replace(TRIALS[0], right=0.99999)], ["rnn"], [8]))
    assert "99.99%" in console.file.getvalue()  # type: ignore[attr-defined]


def test_without_colours_letters_tell_the_lines_apart() -> None:
    shown = printed("lag", 80)
    assert "a rnn  b lstm" in shown
    chart = shown.partition("trials solved")[2]
    assert " a " in chart
    assert " b " in chart
    assert legend(["rnn"], color=True).plain == "● rnn  "


def test_losses_that_are_nearly_equal_have_labels_that_differ() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(cells_view(console, [replace(r, val_loss=1.5 + r.seed / 1e5) for r in RUNS]))
    labels = re.findall(r"([\d.]+)┤", console.file.getvalue())  # type: ignore[attr-defined]
    assert len(set(labels)) == len(labels) >= 2


def test_cells_come_with_the_best_first() -> None:
    lines = [line.split() for line in printed("cells", 80).splitlines()]
    assert lines[1] == ["gru", "100", "100,123", "1.5200", "1.5100–1.5300", "3", "30,000"]
    assert lines[2][0] == "lstm-1997"
    assert sum(line.count("x") for line in printed("cells", 80).splitlines()[5:-1]) >= 4


def test_gradients_show_how_they_fade_and_grow_and_what_clipping_does() -> None:
    shown = printed("gradient", 80)
    rows = [line.split() for line in shown.splitlines()]
    assert ["rnn,", "untrained,", "h", "1e+00", "4e-02", "3e-08", "7e-10", "0.700"] in rows
    assert ["lstm,", "trained,", "c", "1e+00", "6e-01", "8e-02", "5e-02", "0.950"] in rows
    assert ["rnn,", "W×2", "none", "0.38", "133", "16%", "2.265"] in rows
    assert ["rnn,", "W×2", "1", "0.29", "81", "14%", "2.006"] in rows


def test_an_empty_study_says_so() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(lag_view(console, [], ["rnn"], [8]), cells_view(console, []))
    assert console.file.getvalue() == "no finished trial yet no finished run yet\n"  # type: ignore[attr-defined]


def test_plain_lines_are_thinned_out_but_for_results() -> None:
    now = 0.0
    stream = io.StringIO()
    lines = StudyLines(stream, lambda: now)
    for second in range(12):
        now = float(second)
        lines.show(f"step {second}", result=False)
    lines.show("solved\x1b[2J", result=True)
    assert stream.getvalue().splitlines() == ["step 0", "step 5", "step 10", "solved␛[2J"]


def test_the_panel_draws_nothing_in_the_background_and_then_below_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=60, height=20, force_terminal=True)
    states = {"foreground": False}
    for module in ("study_panel", "console"):
        monkeypatch.setattr(f"charlstm.show.{module}.in_foreground", lambda _: states["foreground"])
    with StudyPanel(console, lambda: lag_view(console, TRIALS, ["rnn"], [8])) as panel:
        before = screen.getvalue()
        panel.show("rnn, lag 8, trial 2", result=True)
        assert screen.getvalue() == before
        states["foreground"] = True
        panel.show("rnn, lag 8, trial 3", result=True)
        assert "\n" * console.height in screen.getvalue()
        panel.draw_below()
        panel.show("rnn, lag 8, trial 4", result=True)
        assert screen.getvalue().count("\n" * console.height) == 2
        states["foreground"] = False
        before = screen.getvalue()
    assert screen.getvalue() == before


def test_the_panel_is_gone_when_the_study_ends() -> None:
    console = Console(file=io.StringIO(), width=60, height=20, force_terminal=True)
    with StudyPanel(console, lambda: lag_view(console, TRIALS, ["rnn"], [8])) as panel:
        panel.show("rnn, lag 8, trial 2", result=True)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "rnn, lag 8, trial 2" in written
    assert written.rstrip().endswith("\x1b[2K")
