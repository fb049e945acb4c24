"""Texts that ``charlstm train`` cannot use: one line that names the file and a remedy."""

import gzip
import io
import os
import re
import sys
from pathlib import Path

import pytest

from charlstm.cli import run

SMALL = "--hidden 8 --embed 4 --batch 2 --bptt 8 --precision float32 --device cpu --steps 1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Train; return the one line of complaint, after which there is no run."""
    code = run(["train", *arguments, *SMALL.split()])
    shown = capsys.readouterr()
    assert (code, shown.out) == (1, "")
    assert re.fullmatch(r"charlstm: [^\n]+\n", shown.err), shown.err
    assert not Path("checkpoints").exists()
    return shown.err


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "nix.txt")
    assert "nix.txt" in told
    assert "check the path" in told


def test_empty_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tales.txt").touch()
    told = refused(capsys, "tales.txt")
    assert "tales.txt has no characters" in told
    assert "longer text" in told


def test_one_character(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tales.txt").write_text("a")
    told = refused(capsys, "tales.txt")
    assert "tales.txt has 1 character" in told
    assert "longer text" in told


@pytest.mark.parametrize("characters", [2, 19])
def test_too_few_characters(
    characters: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "tales.txt").write_text("a" * characters)
    told = refused(capsys, "tales.txt")
    assert f"tales.txt has {characters} characters, but must have at least 20" in told


def test_binary_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "photo.jpg").write_bytes(b"JFIF \xff\xd8" * 100)
    told = refused(capsys, "photo.jpg")
    for words in ("photo.jpg", "not valid utf-8", "0xff", "offset 5", "--encoding", "--bytes"):
        assert words in told


def test_other_encoding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tales.txt").write_text("Row, said the heron. " * 9, encoding="utf-16")
    told = refused(capsys, "tales.txt")
    assert "tales.txt" in told
    assert "--encoding utf-16" in told


def test_damaged_gz(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tales.gz").write_bytes(gzip.compress(os.urandom(999))[:500])
    assert "tales.gz" in refused(capsys, "tales.gz", "--bytes")
    (folder / "tales.gz").write_bytes(b"no gzip at all, but long enough")
    assert "tales.gz" in refused(capsys, "tales.gz")


def test_folder_without_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(b"\xff\xd8" * 100)
    told = refused(capsys, "photos")
    assert "photos" in told
    assert "--bytes" in told


def test_empty_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    told = refused(capsys, "-")
    assert "standard input has no characters" in told
    assert "longer text" in told


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may read everything, Windows has no modes"
)
def test_unreadable_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tales.txt").write_text("Row, said the heron. " * 9)
    (folder / "tales.txt").chmod(0)
    told = refused(capsys, "tales.txt")
    assert "tales.txt cannot be read: permission denied" in told


def test_one_bad_file_among_good_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "good.txt").write_text("Row, said the heron. " * 9)
    (folder / "bad.txt").write_bytes(b"\xc3(" * 99)
    told = refused(capsys, "good.txt", "bad.txt")
    assert "bad.txt" in told
    assert "good.txt" not in told


def test_control_characters_in_a_name_are_made_visible(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, "a\x1b[2J\nb.txt")
    assert "a␛[2J" in told
    assert "\x1b" not in told
