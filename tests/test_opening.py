"""A long text shows how far it is read, as lines or by what its caller gives."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import PLAIN, write

from charlstm.opening import LINE_SECONDS, open_text, progress_lines
from charlstm.text.found import Progress


def test_lines_of_progress_are_rare_and_have_the_time_left() -> None:
    now = 0.0
    lines: list[str] = []
    report = progress_lines(lines.append, lambda: now)
    for second in range(0, 13):
        now = float(second)
        report("reading", second * 10_000_000, 200_000_000)
    assert lines == [
        "reading the text: 50 MB of 200 MB, 15 s left …",
        "reading the text: 100 MB of 200 MB, 10 s left …",
    ]
    now = 12 + LINE_SECONDS
    report("renumbering", 5_000_000, None)
    assert lines[2:] == ["renumbering the text: 5 MB …"]


@pytest.mark.usefixtures("cache")
def test_a_watch_lasts_as_long_as_a_text_is_read(tmp_path: Path) -> None:
    seen: list[str] = []

    @contextmanager
    def watch() -> Iterator[Progress]:
        yield lambda activity, done, total: seen.append(activity)
        seen.append("end")

    path = write(tmp_path / "a.txt", PLAIN + "\r\n" * 5)
    notes: list[str] = []
    open_text(
        [path],
        note=lambda note: notes.append(note) or seen.append("note"),
        advise=notes.append,
        watch=watch,
    )
    assert seen[:3] == ["checking", "reading", "renumbering"]
    assert seen[3:5] == ["end", "note"]
    assert re.search("CR LF", notes[0])
