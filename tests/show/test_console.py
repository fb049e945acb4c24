"""Only a real terminal that moves its cursor is drawn on in place."""

import io
import itertools
import os
from collections.abc import Iterator
from typing import TextIO

import pytest

from charlstm.show.console import can_animate, make_console, progress_bar

KERNEL = {"TERM": "xterm-color", "PAGER": "cat", "GIT_PAGER": "cat"}
VARIABLES = ("JPY_PARENT_PID", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *KERNEL, "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """A pseudo-terminal, as pexpect and terminal emulators open them."""
    ours, theirs = os.openpty()
    with open(theirs, "w") as stream:
        yield stream
    os.close(ours)


class Seen(io.StringIO):
    """A terminal of which everything written is kept."""

    def isatty(self) -> bool:
        return True


def test_a_width_of_0_is_an_unknown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    stream = io.StringIO()
    make_console(stream).print("a result")
    assert stream.getvalue() == "a result\n"


def test_a_terminal_is_animated(terminal: TextIO) -> None:
    assert can_animate(make_console(terminal))


@pytest.mark.skipif(not hasattr(os, "tcgetpgrp"), reason="no jobs")
def test_a_job_in_the_background_animates_nothing(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = make_console(terminal)
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
    assert can_animate(console)
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() + 1)
    assert not can_animate(console)


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_a_file_is_never_animated_whatever_asks_for_colours(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv(name, "1")
    reads, writes = os.pipe()
    for file in (open(f"{tmp_path}/log", "w"), open(writes, "w")):  # noqa: SIM115
        with file:
            console = make_console(file)
            assert console.is_terminal or console.is_interactive  # as Rich sees it
            assert not can_animate(console)
    os.close(reads)


@pytest.mark.parametrize(
    ("variables", "animated"),
    [
        (KERNEL, False),
        (KERNEL | {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
        ({"JPY_PARENT_PID": "17"}, False),
        ({"TERM": "xterm-color"}, True),
        ({"PAGER": "cat", "GIT_PAGER": "cat"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "unknown"}, False),
        ({"TTY_COMPATIBLE": "0"}, False),
        ({"TTY_INTERACTIVE": "0"}, False),
        ({"COLUMNS": "19", "LINES": "24"}, False),
        ({"COLUMNS": "80", "LINES": "7"}, False),
    ],
)
def test_a_terminal_is_animated_unless_it_cannot_move_its_cursor(
    variables: dict[str, str], animated: bool, terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert can_animate(make_console(terminal)) == animated


def progress_seen(file: io.StringIO, *, seconds: float) -> str:
    times = iter([0.0, seconds, seconds + 1, seconds + 2])
    with progress_bar(make_console(file), clock=lambda: next(times)) as report:
        report("reading", 10, 100)
        report("reading", 50, 100)
    return file.getvalue()


def test_progress_leaves_the_terminal_to_the_process_in_its_foreground(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, states = Seen(), {"foreground": True}
    monkeypatch.setattr(
        "charlstm.show.console.in_foreground",
        lambda _: states["foreground"],
    )
    times = itertools.count(step=5)
    with progress_bar(make_console(file), clock=lambda: next(times)) as report:
        report("reading", 10, 100)
        assert file.getvalue().index("\x1b[?25h") < file.getvalue().index("reading")
        states["foreground"] = False
        before = file.getvalue()
        report("reading", 50, 100)
    assert file.getvalue() == before


def test_progress_is_shown_after_two_seconds_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "reading" in progress_seen(Seen(), seconds=2.1)
    assert progress_seen(Seen(), seconds=0.5) == ""
    assert progress_seen(io.StringIO(), seconds=5) == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert progress_seen(io.StringIO(), seconds=5) == ""
    monkeypatch.setenv("JPY_PARENT_PID", "17")
    assert progress_seen(Seen(), seconds=5) == ""
