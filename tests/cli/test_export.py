"""``charlstm export``: models for use outside charlstm."""

import re
from pathlib import Path
from typing import Any

import pytest

from charlstm.cli import run

onnx = pytest.importorskip("onnx")


@pytest.fixture
def export(tmp_path: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run(["export", "-c", str(trained_run), *arguments])


def test_the_ending_chooses_the_format(export: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("book.ONNX") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("book.ONNX: ")
    onnx.checker.check_model(onnx.load("book.ONNX"))


def test_a_page_comes_with_its_size_speed_and_cost(
    export: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("book.html", "--title", "A & B") == 0
    size, speed, cost = capsys.readouterr().err.splitlines()[-3:]
    assert re.fullmatch(r"book\.html: [\d.]+ kB, lstm \d×\d+", size)
    assert re.fullmatch(r"about [\d,]+ characters per second in a browser", speed)
    assert re.fullmatch(r"float16 weights cost -?\d\.\d{4} bits per character .* excerpt", cost)
    html = Path("book.html").read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in html
    assert export("exact.html", "--precision", "float32") == 0
    assert "cost" not in capsys.readouterr().err
    assert Path("exact.html").stat().st_size > len(html)


def test_options_of_the_page_are_refused_elsewhere(
    export: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("book.onnx", "--title", "Mine") == 2
    assert "--title: only for a web page" in capsys.readouterr().err


def test_an_unknown_ending_lists_the_known_ones(
    export: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("book.pdf") == 2
    assert "end the name in .html or .onnx" in capsys.readouterr().err
    assert not Path("book.pdf").exists()


def test_a_file_that_is_there_is_overwritten_only_when_asked(
    export: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("book.onnx").write_text("mine", encoding="utf-8")
    assert export("book.onnx") == 2
    assert "--force" in capsys.readouterr().err
    assert Path("book.onnx").read_text(encoding="utf-8") == "mine"
    assert export("book.onnx", "--force") == 0
    onnx.checker.check_model(onnx.load("book.onnx"))


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    export: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*_: object) -> bytes:
        Path("book.onnx").write_text("mine", encoding="utf-8")
        return b"graph"

    monkeypatch.setattr("charlstm.export.onnx_graph.to_onnx", meanwhile)
    assert export("book.onnx") == 2
    assert Path("book.onnx").read_text(encoding="utf-8") == "mine"
    assert export("book.onnx", "--force") == 0


def test_an_interrupted_export_leaves_nothing(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    assert export("book.onnx") == 130
    assert list(Path().iterdir()) == []
