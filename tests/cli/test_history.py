"""What was typed comes back in the next session, and trouble with the file is no trouble."""

import errno
import json
import os
from pathlib import Path

import pytest

from charlstm.cli import history


class Readline:
    """Stands in for readline, whose history belongs to the process."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.turns: list[str] = []
        self._encoding = encoding
        history.load(self)

    def add_history(self, turn: str) -> None:
        turn.encode(self._encoding, "surrogateescape")  # raises as readline's does
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


def test_a_full_disk_costs_no_turn(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for n in range(2 * history.KEPT + 1):
        history.append(str(n))
    before = file.read_bytes()
    monkeypatch.setattr("os.fsync", full)  # where the new content is sure to be on disk
    assert len(Readline().turns) == history.KEPT
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_file_that_is_shortened_stays_where_a_link_leads(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    (tmp_path / "dotfiles").touch(mode=0o600)
    file.symlink_to(tmp_path / "dotfiles")
    for n in range(2 * history.KEPT + 1):
        history.append(str(n))
    Readline()
    assert file.is_symlink()
    assert len((tmp_path / "dotfiles").read_text().splitlines()) == history.KEPT


def test_a_relative_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    history.append("NED: ")
    assert not Path("state").exists()
    assert Readline().turns == ["NED: "]


def test_a_damaged_line_is_skipped(file: Path) -> None:
    history.append("NED: ")
    with file.open("ab") as added:
        added.write(b'"half a li\n7\n\xff\n"a\\u0000b"\n' + json.dumps("TAM: ").encode() + b"\n")
    assert Readline().turns == ["NED: ", "TAM: "]


def test_turns_that_the_locale_cannot_write_are_skipped() -> None:
    for turn in ("NED: ", "“é”", "half an emoji: \ud83d", "a byte: \udce9"):
        history.append(turn)
    assert Readline("ascii").turns == ["NED: ", "a byte: \udce9"]
    assert Readline().turns == ["NED: ", "“é”", "a byte: \udce9"]


@pytest.mark.skipif(os.name == "nt", reason="permissions as POSIX has them")
def test_only_the_owner_reads_it(file: Path) -> None:
    history.append("NED: ")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_no_error(file: Path) -> None:
    file.parent.write_text("a file")
    history.append("NED: ")
    assert Readline().turns == []
