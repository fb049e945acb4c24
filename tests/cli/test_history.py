"""What was typed comes back in the next session, and trouble with the file is no trouble."""

import json
import os
from pathlib import Path

import pytest

from charlstm.cli import history


class Readline:
    """Stands in for readline, whose history belongs to the process."""

    def __init__(self) -> None:
        self.turns: list[str] = []
        history.load(self)

    def add_history(self, turn: str) -> None:
        self.turns.append(turn)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "charlstm" / "history.jsonl"


def test_turns_come_back_in_order_with_their_lines() -> None:
    for turn in ("NED: ", "", "one\ntwo ä", "/temp 1"):
        history.append(turn)
    assert Readline().turns == ["NED: ", "one\ntwo ä", "/temp 1"]


def test_the_latest_are_kept(file: Path) -> None:
    for n in range(2 * history.KEPT + 1):
        history.append(str(n))
    assert Readline().turns == [str(n) for n in range(history.KEPT + 1, 2 * history.KEPT + 1)]
    assert len(file.read_text().splitlines()) == history.KEPT


def test_a_damaged_line_is_skipped(file: Path) -> None:
    history.append("NED: ")
    with file.open("ab") as added:
        added.write(b'"half a li\n7\n\xff\n"a\\u0000b"\n' + json.dumps("TAM: ").encode() + b"\n")
    assert Readline().turns == ["NED: ", "TAM: "]


def test_a_turn_that_the_locale_lacks_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(self: Readline, turn: str) -> None:  # as in the locale C
        turn.encode("ascii")
        self.turns.append(turn)

    monkeypatch.setattr(Readline, "add_history", add)
    for turn in ("caf\u00e9", "\ud800", "NED: "):
        history.append(turn)
    assert Readline().turns == ["NED: "]


@pytest.mark.skipif(os.name == "nt", reason="permissions as POSIX has them")
def test_only_the_owner_reads_it(file: Path) -> None:
    history.append("NED: ")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_no_error(file: Path) -> None:
    file.parent.write_text("a file")
    history.append("NED: ")
    assert Readline().turns == []
