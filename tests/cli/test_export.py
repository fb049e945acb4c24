"""``charlstm export``: models for use outside charlstm."""

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


def test_an_unknown_ending_lists_the_known_ones(
    export: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("book.pdf") == 2
    assert ".onnx" in capsys.readouterr().err
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


def test_an_interrupted_export_leaves_nothing(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    assert export("book.onnx") == 130
    assert list(Path().iterdir()) == []
