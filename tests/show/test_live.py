"""The panel shows what the events say, on a screen of any size, and nothing else gets out."""

import io
import math
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from charlstm.events import (
    BudgetFixed,
    Evaluated,
    Event,
    GateSaturation,
    RolledBack,
    RunFinished,
    RunStarted,
    SaveFailed,
    StepDone,
)
from charlstm.net.spec import LEFT_SATURATED, RIGHT_SATURATED
from charlstm.runs.metrics import MetricsLog, event_to_dict, read_lines
from charlstm.show.ascii_signs import ERRORS
from charlstm.show.curves import MOST_POINTS, Curve, View, loss_plot, replay
from charlstm.show.live import LivePanel, wrapped

SIZES = [(80, 24), (140, 40), (40, 20), (20, 10)]
STARTED = RunStarted(
    name="tales",
    model="lstm 2×512",
    parameters=3_400_000,
    train_characters=1_003_854,
    val_characters=111_540,
    vocab_size=65,
    batch=32,
    bptt=64,
    precision="float32",
    device="cpu",
    threads=2,
    step=0,
    total_steps=1000,
)
BUDGET = BudgetFixed(total_steps=1000, epochs=8.0, seconds=200.0)
STEP = StepDone(
    step=500,
    total_steps=1000,
    epoch=4.0,
    loss=1.7321,
    learning_rate=0.0125,
    gradient_norm=0.618,
    chars_per_second=98_765.4,
    seconds=100.0,
)
GATES = tuple(
    GateSaturation(layer, gate, left, right, 0.5)
    for layer in range(2)
    for gate, left, right in (("input", 0.3, 0.1), ("forget", 0.05, 0.6), ("output", 0.2, 0.2))
)
EVALUATED = Evaluated(
    step=500,
    epoch=4.0,
    val_loss=1.6180,
    best_loss=1.5,
    best_step=400,
    improved=False,
    seconds=101.0,
    gates=GATES,
)
FINISHED = RunFinished("budget", 1000, 8.0, 200.0, 1.5, 400, Path("checkpoints/tales"))
SAMPLE = "TAM: Which end do I hold?\n[He holds the wrong one.]\n"


def history() -> list[Event]:
    """The events of a run that is half done."""
    events: list[Event] = [STARTED, BUDGET]
    for step in range(10, 501, 10):
        above = 2 * math.exp(-step / 100) if step < 500 else 0
        events.append(replace(STEP, step=step, seconds=step / 5, loss=STEP.loss + above))
        if step % 50 == 0:
            events.append(replace(EVALUATED, step=step, val_loss=EVALUATED.val_loss + above))
    return events


def draw(
    *events: Event, width: int = 80, height: int = 24, sample: str = SAMPLE, color: bool = False
) -> str:
    """The screen after the events, as a terminal of this size would get it."""
    screen = io.StringIO()
    console = Console(
        file=screen,
        width=width,
        height=height,
        force_terminal=color,
        color_system="truecolor" if color else None,
        legacy_windows=False,
    )
    panel = LivePanel(console, lambda: (sample, 500))
    for event in events:
        panel.view.update(event)
    console.print(panel.render())
    return screen.getvalue()


def assert_fits(shown: str, width: int, height: int) -> None:
    lines = shown.splitlines()
    assert max(map(cell_len, lines)) <= width
    # One line is left free: a terminal that is filled to its last line scrolls.
    assert len(lines) <= height - 1


# -- the view ----------------------------------------------------------------------------------


def test_events_are_folded_into_the_view() -> None:
    view = View()
    assert (view.step, view.total_steps, view.seconds_left) == (0, None, None)
    view.update(replace(STARTED, step=100, total_steps=None))
    assert (view.step, view.total_steps) == (100, None)
    view.update(BUDGET)
    assert view.total_steps == 1000
    view.update(EVALUATED)
    view.update(replace(STEP, step=510))
    assert view.step == 510
    assert (view.train.x, view.train.y) == ([510], [1.7321])
    assert (view.val.x, view.val.y) == ([500], [1.6180])
    view.update(FINISHED)
    assert view.step == 1000


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (SaveFailed(7, "no space left on device"), ["save", "step 7", "no space left on device"]),
        (RolledBack(70, 50, 0.5, "the loss is not finite"), ["not finite", "70", "50", "0.5"]),
    ],
)
def test_trouble_is_noticed(event: Event, words: list[str]) -> None:
    view = View()
    view.update(event)
    assert all(word in view.notice for word in words)
    assert view.notice in draw(*history(), event, width=140)


def test_time_left_moves_from_the_estimate_to_what_was_measured() -> None:
    def left(step: int, seconds: float, estimate: float) -> float:
        view = View()
        for event in (STARTED, replace(BUDGET, seconds=estimate)):
            view.update(event)
        view.update(replace(STEP, step=step, seconds=seconds))
        assert view.seconds_left is not None
        return view.seconds_left

    assert left(500, 100.0, 200.0) == pytest.approx(100.0)
    # Twice as slow as estimated: at first the estimate counts, near the end the measurement.
    assert left(10, 4.0, 200.0) == pytest.approx(198, abs=4)
    assert left(990, 396.0, 200.0) == pytest.approx(4, abs=0.5)
    assert left(1000, 400.0, 200.0) == pytest.approx(0)
    assert left(1000, 100.0, 900.0) == pytest.approx(0)


def test_time_left_is_unknown_before_the_budget_or_the_first_step() -> None:
    for events in ([STARTED, STEP], [STARTED, BUDGET], [STARTED, BUDGET, replace(STEP, step=0)]):
        view = View()
        for event in events:
            view.update(event)
        assert view.seconds_left is None


# -- curves ------------------------------------------------------------------------------------


@given(losses=st.lists(st.floats(0, 10), min_size=1, max_size=30), copies=st.integers(1, 120))
def test_curve_stays_bounded_in_order_and_keeps_the_mean(losses: list[float], copies: int) -> None:
    curve = Curve()
    given_y = losses * copies
    for x, y in enumerate(given_y):
        curve.add(x, y)
    assert 1 <= len(curve.x) == len(curve.y) <= MOST_POINTS
    assert curve.x == sorted(curve.x)
    assert min(given_y) - 1e-9 <= min(curve.y)
    assert max(curve.y) <= max(given_y) + 1e-9
    # Every point stands for as many losses as any other; only the last few may still be waiting.
    each = math.floor(len(given_y) / len(curve.x))
    told = given_y[: len(curve.y) * each]
    assert sum(curve.y) / len(curve.y) == pytest.approx(sum(told) / len(told))


def test_points_of_a_short_curve_are_kept_as_they_are() -> None:
    curve = Curve()
    for x in range(MOST_POINTS - 1):
        curve.add(x, x * x)
    assert curve.y == [x * x for x in range(MOST_POINTS - 1)]


# -- the panel ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("events", [3, 5, len(history())])
@pytest.mark.parametrize("color", [False, True])
def test_panel_fits_the_screen(width: int, height: int, events: int, color: bool) -> None:
    shown = draw(*history()[:events], width=width, height=height, color=color)
    assert ("\x1b" in shown) == color
    assert_fits(Text.from_ansi(shown).plain, width, height)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_panel_fits_with_long_names_many_layers_and_wide_text(width: int, height: int) -> None:
    gates = tuple(replace(g, layer=layer) for layer in range(4) for g in GATES[:3])
    events = [
        replace(STARTED, name="a-very-long-name-" * 4),
        replace(BUDGET, total_steps=9_999_999_999),
        replace(STEP, step=123_456_789, chars_per_second=9_999_999.0, gradient_norm=1e9),
        replace(EVALUATED, val_loss=1234.5, best_loss=700.0, gates=gates),
        SaveFailed(7, "no space left on device " * 9),
    ]
    sample = "漢字かな交じり文🙂" * 40 + "\n" + "\t" * 30 + "x" * 500 + "\n\n\n"
    assert_fits(draw(*events, width=width, height=height, sample=sample), width, height)


@pytest.mark.parametrize(("width", "height"), SIZES[:2])
def test_panel_tells_what_training_is_about(width: int, height: int) -> None:
    shown = draw(*history(), width=width, height=height)
    for words in (
        "tales",
        "lstm 2×512",
        "1.7321",  # training
        "1.6180",  # validation
        "1.5000 nats",
        "2.164 bits/char",
        "perplexity 4.48",
        "500/1,000",
        "4.00 of 8.0",
        "98,765 char/s",
        "1:40 left",
        "0.0125",
        "0.618",
        "TAM: Which end do I hold?",
        "[He holds the wrong one.]",
        "step 500",
        "Ctrl-C",
    ):
        assert words in shown, words
    lines = shown.splitlines()
    gates = [line for line in lines if "█" in line and "forget" in line]
    assert len(gates) == 2
    assert all("▒" in line and "input" in line and "output" in line for line in gates)
    assert any("┤" in line for line in lines)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_panel_has_ascii_signs_where_the_stream_has_no_others(
    encoding: str, width: int, height: int
) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=ERRORS)
    console = Console(file=file, width=width, height=height, color_system=None)
    panel = LivePanel(console, lambda: ("[He holds it.]\n", 500))
    for event in [replace(STARTED, name="a-very-long-name-" * 9), *history()[1:]]:
        panel.view.update(event)
    console.print(panel.render())
    file.flush()
    shown = file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "?" not in shown
    assert_fits(shown, width, height)
    if height >= 14:
        bar = next(line for line in shown.splitlines() if line.startswith(" 1 "))
        assert re.search(r"#+[.·]+=+", bar)
    if height >= 24:
        assert re.search(r"\d\.\d\d\+.*[':.]", shown)  # a line of the chart
        assert re.search(r"=+-+ +50%", shown)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("text", ["σ∞±", "e\u0301 ", "漢字 "], ids=["signs", "marks", "wide"])
def test_panel_fits_with_a_text_that_the_stream_cannot_encode(
    text: str, encoding: str, width: int, height: int
) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=ERRORS)
    console = Console(file=file, width=width, height=height, color_system=None)
    panel = LivePanel(console, lambda: (text * 200, 500))
    for event in [replace(STARTED, name=text * 9), *history()[1:], SaveFailed(7, text * 90)]:
        panel.view.update(event)
    console.print(panel.render())
    file.flush()
    assert_fits(file.buffer.getvalue().decode(encoding), width, height)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("width", "height"), SIZES[2:])
def test_small_panel_keeps_the_essentials(width: int, height: int) -> None:
    shown = draw(*history(), width=width, height=height)
    assert "tales" in shown
    assert "1.7321" in shown
    assert "50%" in shown
    assert "wrong one.]" in shown


def test_bigger_screen_shows_more_of_the_sample() -> None:
    sample = "".join(f"line {number}\n" for number in range(50))
    shown = {
        size: draw(*history(), width=size[0], height=size[1], sample=sample).count("line ")
        for size in SIZES[:2]
    }
    assert 0 < shown[80, 24] < shown[140, 40]


def test_panel_follows_a_resized_screen() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=140, height=40, color_system=None)
    panel = LivePanel(console, lambda: (SAMPLE, 500))
    for event in history():
        panel.view.update(event)
    for width, height in (*SIZES, *reversed(SIZES)):
        console.size = (width, height)  # type: ignore[assignment]
        screen.seek(0)
        screen.truncate()
        console.print(panel.render())
        assert_fits(screen.getvalue(), width, height)


def test_control_characters_in_sample_and_name_are_made_visible() -> None:
    shown = draw(
        replace(STARTED, name="t\x1b[2Jx"), BUDGET, STEP, sample="a\x1b[31mb\x07c\u202ed\udc80"
    )
    assert not set(shown) & set("\x1b\x07\u202e\udc80")
    assert "a␛[31mb␇c\ufffdd\ufffd" in shown


def test_square_brackets_are_no_markup() -> None:
    shown = draw(replace(STARTED, name="[red]t"), BUDGET, STEP, sample="[bold]x[/bold] [/]")
    assert "[red]t" in shown
    assert "[bold]x[/bold] [/]" in shown


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("budget", "done"),
        ("patience", "early stop: no improvement"),
        ("stopped", "stopped"),
        ("diverged", "diverged"),
    ],
)
def test_finished_panel_says_how_it_ended(reason: str, words: str) -> None:
    shown = draw(*history(), replace(FINISHED, reason=reason))
    assert words in shown.splitlines()[1]
    assert "Ctrl-C" not in shown
    assert " left" not in shown.splitlines()[1]


def test_finished_panel_shows_the_loss_that_is_printed_below_it_and_no_other() -> None:
    shown = draw(*history(), replace(FINISHED, val_loss=1.5123, step=600))
    assert re.findall(r"(best|validation) +(\d\.\d+)", shown) == [("best", "1.5123")]
    assert re.search(r"step +600/1,000", shown)


def test_panel_before_the_first_event_says_that_it_starts() -> None:
    assert draw().strip() == "starting …"


def drawings(console: Console, screen: io.StringIO, times: int) -> list[bool]:
    """Whether each of N events, an eighth of a second apart, made the panel draw."""
    seconds, drawn = [100.0], []
    with LivePanel(console, lambda: (SAMPLE, 500), lambda: seconds[0]) as panel:
        for step in range(times):
            settle(console)
            before = screen.tell()
            panel.show(replace(STEP, step=step))
            settle(console)
            drawn.append(screen.tell() > before)
            seconds[0] += 0.125
    return drawn


def test_panel_draws_nothing_in_the_background_and_then_below_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80, height=24, force_terminal=True)
    foreground = iter([True, False, False, True, True])
    monkeypatch.setattr("charlstm.show.live.in_foreground", lambda _: next(foreground))
    seconds = [100.0]
    with LivePanel(console, lambda: (SAMPLE, 500), lambda: seconds[0]) as panel:
        drawn = []
        for step in range(5):
            settle(console)
            before = screen.tell()
            seconds[0] += 1
            panel.show(replace(STEP, step=step))
            settle(console)
            drawn.append(screen.getvalue()[before:])
    assert [bool(piece) for piece in drawn] == [True, False, False, True, True]
    assert ["\n" * console.height in piece for piece in drawn] == [False, False, False, True, False]


def settle(console: Console) -> None:
    """Wait until the terminal has what was written, if it takes it."""
    end = time.monotonic() + 0.2
    while not console.file.idle and time.monotonic() < end:  # type: ignore[attr-defined]
        time.sleep(0.001)


def test_panel_is_drawn_by_the_events_but_not_more_often_than_it_can_be_seen() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80, height=24, force_terminal=True, color_system=None)
    assert drawings(console, screen, 9) == [False, *([False, True] * 4)]


def test_panel_draws_nothing_while_the_terminal_takes_nothing_and_goes_on_after() -> None:
    held = threading.Event()

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if self.tell() and not held.is_set():  # the first frame only
                held.wait(60)
            return super().write(text)

    screen = Terminal()
    console = Console(file=screen, width=80, height=24, force_terminal=True, color_system=None)
    seconds = [100.0]
    with LivePanel(console, lambda: (SAMPLE, 500), lambda: seconds[0]) as panel:
        settle(console)
        for step in range(20):
            panel.show(replace(STEP, step=step))  # never waits
            seconds[0] += 1
        settle(console)
        held.set()
        settle(console)
        seen = screen.getvalue()
        panel.show(replace(STEP, step=500))
        settle(console)
        assert len(screen.getvalue()) > len(seen)
    # One frame was under way when the terminal was held; the others were left out, not kept.
    assert 1 <= seen.count("starting") <= 2


def test_last_state_stays_on_the_screen() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80, height=24, force_terminal=True, color_system=None)
    with LivePanel(console, lambda: (SAMPLE, 1000)) as panel:
        for event in [*history(), FINISHED]:
            panel.show(event)
    shown = screen.getvalue()
    last = shown.rpartition("charlstm")[2]
    assert "done" in last
    assert "He holds the wrong one" in last
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_chart_of_a_memorised_text_has_labels_that_differ() -> None:
    losses = [0.0031 - step / 1e6 for step in range(0, 500, 10)]
    steps = [replace(STEP, step=10 * n, loss=loss) for n, loss in enumerate(losses)]
    shown = draw(STARTED, BUDGET, *steps, width=140, height=40)
    labels = re.findall(r"^ *([\d.]+)┤", shown, re.MULTILINE)
    assert len(set(labels)) == len(labels) >= 3


def test_a_loss_that_rounds_to_zero_has_no_minus() -> None:
    tiny = replace(EVALUATED, val_loss=-1e-7, best_loss=-1e-7)
    shown = draw(STARTED, BUDGET, replace(STEP, loss=-1e-7), tiny)
    assert shown.count(" 0.0000") == 3
    assert "-0.0" not in shown


def test_thresholds_of_gates_are_those_that_count_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"below {LEFT_SATURATED:g}" in draw(*history())
    assert f"above {RIGHT_SATURATED:g}" in draw(*history())
    monkeypatch.setattr("charlstm.show.live.LEFT_SATURATED", 0.25)
    assert "█ shut, below 0.25 " in draw(*history())


def test_replayed_metrics_give_the_curves_of_the_events(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for event in history():
        log.write(event)
    log.close()
    followed, replayed = View(), View()
    for event in history():
        followed.update(event)
    replay(replayed, read_lines(tmp_path / "metrics.jsonl"))
    assert (replayed.val.x, replayed.val.y) == (followed.val.x, followed.val.y)
    assert replayed.train.x
    assert set(replayed.train.x) <= set(followed.train.x)
    assert (replayed.evaluated, replayed.budget) == (followed.evaluated, followed.budget)
    replayed.update(replace(STARTED, total_steps=BUDGET.total_steps))
    assert replayed.budget == BUDGET
    replayed.update(replace(STARTED, total_steps=BUDGET.total_steps + 1))
    assert replayed.budget is None


@pytest.mark.parametrize("nats", [1.5, 4.7, 7.0, 11.0])
def test_perplexity_is_whole_next_to_the_chart(nats: float) -> None:
    shown = draw(STARTED, BUDGET, STEP, replace(EVALUATED, best_loss=nats))
    perplexity = math.exp(nats)
    assert f"perplexity {perplexity:.{2 if perplexity < 100 else 0}f}" in shown


def test_replay_passes_over_what_is_no_event() -> None:
    view = View()
    step, evaluated = event_to_dict(STEP), event_to_dict(EVALUATED)
    gate = evaluated["gates"][0]
    lines: list[dict[str, Any]] = [
        *({**step, "step": wrong} for wrong in ("7", -1, 1 << 63, True, None)),
        *({**step, "loss": wrong} for wrong in (None, math.inf, [1.0], "1.0")),
        *({**evaluated, "gates": wrong} for wrong in (None, [1], [{**gate, "gate": "\x1b[2J"}])),
        {**evaluated, "improved": 1},
        {name: value for name, value in evaluated.items() if name != "best_loss"},
        {"event": "step_done", "step": "7", "loss": 1.0},
        {"event": "step_done", "step": 7, "loss": None},
        {"event": "saved", "step": 7, "loss": 1.0, "val_loss": 1.0},
        {"step": 7, "val_loss": [1.0]},
    ]
    replay(view, lines)
    assert view == View()


def test_numbers_of_the_untrained_net_are_not_shown_as_the_run_s() -> None:
    untrained = replace(EVALUATED, step=0, val_loss=4.2, best_loss=4.2, best_step=0)
    shown = draw(STARTED, untrained, replace(STEP, step=7))
    assert re.search(r"untrained +4\.2000", shown)
    assert "gates on held-out text, before training" in shown
    assert not re.search(r"^.*(best|perplexity|validation +[0-9])", shown, re.MULTILINE)
    assert "gates on held-out text, step 500" in draw(*history())


@pytest.mark.parametrize("width", [60, 64, 70])
def test_title_of_the_chart_is_whole_next_to_the_numbers(width: int) -> None:
    assert "● training  ● validation " in draw(*history(), width=width)


def test_loss_of_the_untrained_model_is_printed_but_not_drawn() -> None:
    view = View()
    for event in (STARTED, replace(EVALUATED, step=0)):
        view.update(event)
    assert view.evaluated is not None
    assert view.val.x == []
    replay(view, [{"event": "evaluated", "step": 0, "val_loss": 4.2}])
    assert view.val.x == []
    view.update(EVALUATED)
    assert view.val.x == [EVALUATED.step]


def test_many_epochs_are_shown_in_full() -> None:
    shown = draw(STARTED, replace(BUDGET, epochs=1706.67), replace(STEP, epoch=130.13))
    assert "130 of 1,707" in shown


@given(st.text(alphabet="ab  \u0301\u200d漢👩🇩🇪☺\ufe0f", max_size=60), st.integers(2, 12))
def test_wrapped_lines_hold_the_text_and_fit_where_no_characters_are_joined(
    text: str, width: int
) -> None:
    lines = list(wrapped(text, width))
    rest = text
    for line in lines:
        assert sum(cell_len(c) for c in line) <= width
        assert rest.startswith(line)
        rest = rest[len(line) :].removeprefix(" ")
    assert rest == ""


def test_lines_are_broken_at_spaces() -> None:
    assert list(wrapped("the heron sat down", 9)) == ["the heron", "sat down"]
    assert list(wrapped("the herons sat down", 9)) == ["the", "herons", "sat down"]
    assert list(wrapped("abcdefghijkl", 5)) == ["abcde", "fghij", "kl"]
    assert list(wrapped("", 5)) == [""]
    family = "👩\u200d👩\u200d👧"
    assert list(wrapped(2 * family, 9)) == [family, family]


@pytest.mark.parametrize(("width", "height"), [(140, 40), (80, 24), (60, 20), (50, 20), (30, 16)])
def test_what_the_signs_of_gates_mean_is_never_cut(width: int, height: int) -> None:
    shown = draw(*history(), width=width, height=height).splitlines()
    title = next(line for line in shown if "shut" in line)
    assert "open" in title
    assert cell_len(title.rstrip()) <= width


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_generation_is_named_and_drawn_with_the_curves_of_the_earlier_ones(
    width: int, height: int
) -> None:
    console = Console(file=io.StringIO(), width=width, height=height, legacy_windows=False)
    panel = LivePanel(console, lambda: (SAMPLE, 500))
    earlier = [event_to_dict(replace(EVALUATED, step=step)) for step in (400, 2000)]
    panel.view.add_earlier(earlier)
    for event in (replace(STARTED, generation=2, generations=3), *history()[1:]):
        panel.view.update(event)
    plot = loss_plot(panel.view)
    assert plot is not None
    assert list(plot.series[0].x) == [400, 2000]
    assert plot.x_limits[1] >= 2000
    console.print(panel.render())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert_fits(shown, width, height)
    assert ("generation 2 of 3" in shown) == (width >= 40)
    assert ("● earlier" in shown) == (width >= 80)
