"""What charlstm's commands have in common: their options, their help, where they may run."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from charlstm.cli import run
from charlstm.cli.app import app
from charlstm.cli.commands import Commands
from charlstm.presets import default_settings

ROOT: Any = get_command(app)
PATHS = [(name,) for name in ROOT.commands] + [
    (name, below)
    for name in ROOT.commands
    for below in getattr(ROOT.commands[name], "commands", {})
]


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(help="W.")] = 3
    full_height: Annotated[float | None, typer.Option("--height", help="H.")] = None


def test_options_in_a_dataclass_are_options_like_any_other() -> None:
    received: list[object] = []
    commands = Commands()

    @commands.command()
    def draw(
        name: Annotated[str, typer.Argument(help="N.")], *, size: Size, dry: bool = False
    ) -> int:
        received.append((name, size, dry))
        return 0

    @commands.callback()
    def callback() -> None:
        pass

    for words in (["draw", "x"], ["draw", "--height", "2.5", "y", "--width", "4", "--dry"]):
        assert commands(words, standalone_mode=False) == 0
    assert received == [("x", Size(), False), ("y", Size(4, 2.5), True)]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
@pytest.mark.parametrize("columns", [40, 60, 79])
def test_narrow_help_cuts_no_option_and_no_default(
    columns: int,
    path: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown.partition("Examples:")[0]
    assert "\\[" not in shown
    command = ROOT
    for name in path:
        command = command.commands[name]
    for parameter in command.params:
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert option in shown.replace(",", " ").split()


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help_is_a_command(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    by_option = capsys.readouterr().out
    assert run(["help", *path]) == 0
    assert capsys.readouterr().out == by_option


def test_help_alone_is_about_charlstm_and_knows_no_other_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ROOT.commands)
    assert run(["help", "tran"]) == 2
    assert capsys.readouterr().err.endswith("; did you mean train?\n")
    for words in (["train", "tran"], ["runs", "prune", "tran"], ["help", "tran"]):
        assert run(["help", *words]) == 2
        assert "unexpected argument tran;" in capsys.readouterr().err
    assert run(["help", "runs", "tran"]) == 2
    assert "unknown command tran" in capsys.readouterr().err


def test_help_of_train_has_the_defaults() -> None:
    shown = {p.name: p.help for p in ROOT.commands["train"].params}
    for characters in (5_000, 3_000_000):
        model, learning = default_settings(characters, 80)
        for name, value in {**model.to_dict(), **learning.to_dict()}.items():
            if name in shown and value is not None:
                assert shown[name].endswith(
                    (f"default: {value}]", "default: depends on the text]")
                ), name
    for name, default in (("learning_rate", "0.04]"), ("cell", "lstm]"), ("seed", "1]")):
        assert shown[name].endswith(default)
    assert shown["hidden_size"].endswith("[default: depends on the text]")


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no working directory")
@pytest.mark.parametrize(
    "command", ["sample", "train", "runs", "runs prune", "study lag", "score x"]
)
def test_a_deleted_working_directory_is_one_line(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(command.split()) == 1
    assert capsys.readouterr().err == (
        "charlstm: the working directory was deleted; change to another one with cd\n"
    )


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("train x.txt", "; use a smaller --hidden or --batch or --bptt"),
        ("sample", "; use a smaller --count"),
        ("score x.txt", ""),
    ],
)
def test_advice_for_too_little_memory_has_only_options_of_the_command(
    command: str,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    for module in ("train", "sample", "score"):
        name = "begin_run" if module == "train" else "open_voice"
        monkeypatch.setattr(sys.modules[f"charlstm.cli.{module}"], name, exhausted)
    assert run(command.split()) == 1
    assert capsys.readouterr().err == f"charlstm: out of memory{advice}\n"


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize("path", [("train",), ("sample",), ("runs", "prune"), ("study", "cells")])
def test_help_is_no_wider_than_a_narrow_terminal(
    path: tuple[str, ...],
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run([*path, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # An option that is longer by itself stands on a line of its own, as in any program.
    assert [line for line in lines if len(line) > columns and " " in line.strip()] == []


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["train", ""], "TEXT"),
        (["train", "book.txt", ""], "TEXT"),
        (["train", "--name", ""], "--name"),
        (["train", "--resume", "-c", ""], "--checkpoint"),
        (["sample", "--prime-file", ""], "--prime-file"),
        (["sample", "--stop", "x", "--stop", ""], "--stop"),
        (["sample", "--save-state", ""], "--save-state"),
        (["inspect", ""], "TEXT"),
        (["inspect", "--svg", ""], "--svg"),
        (["score", ""], "FILE"),
        (["runs", "prune", ""], "NAMES"),
        (["study", "lag", "--lags", ""], "--lags"),
    ],
)
def test_an_empty_value_is_refused(
    words: list[str], option: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"charlstm: {option} is empty; give a value, or omit the option\n"


def test_no_word_may_stand_for_an_empty_prime(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sample", "--prime", "", "--length", "5", "--seed", "1"]) == 0
    assert len(capsys.readouterr().out) == 5


@pytest.mark.parametrize("name", ["my book.txt", "$(touch pwned).txt", "it's; ls.txt"])
def test_advised_commands_can_be_pasted_into_a_shell(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).write_text("to be")
    assert run([name]) == 2
    assert shlex.split(capsys.readouterr().err.splitlines()[-1])[2:] == [name]
    run(["inspect", name, "--unknown", "skip"])
    advice = next(line for line in capsys.readouterr().err.splitlines() if "--file" in line)
    assert shlex.split(advice) == ["charlstm", "inspect", "--file", name]


def test_a_run_in_a_folder_with_a_blank_is_named_as_the_shell_needs_it(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = "old runs/small"
    shutil.copytree(folder / "checkpoints" / "small", tmp_path / path)
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--resume", "-c", path, "--steps", "160", "--plain"]) == 0
    advice = capsys.readouterr().err.splitlines()[-1]
    assert shlex.split(advice) == ["charlstm", "sample", "-c", path, "--temp", "0.8"]
    assert run(["train", path, "--resume"]) == 2
    advice = capsys.readouterr().err.splitlines()[-1]
    assert shlex.split(advice) == ["charlstm", "train", "--resume", "-c", path]


def test_a_library_that_cannot_be_loaded_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ImportError("libtorch_cpu.so: failed to map segment", name="torch")

    monkeypatch.setattr("charlstm.model.load", fail)
    assert run(["sample", "-c", "small"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith(
        "charlstm: torch cannot be loaded: libtorch_cpu.so: failed to map segment; "
        "the system may be out of memory\n"
    )


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_a_broken_library_that_every_command_needs_is_one_line(
    library: str, tmp_path: Path
) -> None:
    (tmp_path / f"{library}.py").write_text(f"raise ImportError('half', name={library!r})")
    paths = os.pathsep.join((str(tmp_path), *sys.path))
    done = subprocess.run(
        [sys.executable, "-m", "charlstm", "--help"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"charlstm: {library} cannot be loaded: half\n"


def test_the_end_of_memory_is_reported_where_nothing_more_can_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules["charlstm.cli.score"], "open_voice", exhausted)
    monkeypatch.setattr("charlstm.show.printable.printable", exhausted)
    assert run(["score", "x.txt"]) == 1
    assert capsys.readouterr().err == "charlstm: out of memory\n"


@pytest.mark.parametrize("wanted", ["option", "environment", ""])
def test_traceback_shows_what_the_error_boundary_hides(
    wanted: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints" / "old").mkdir(parents=True)
    (tmp_path / "checkpoints" / "old" / "run.json").mkdir()
    (tmp_path / "checkpoints" / "old" / "checkpoints.json").touch()
    monkeypatch.setenv("CHARLSTM_TRACEBACK", "1" if wanted == "environment" else "")
    options = ["--traceback"] if wanted == "option" else []
    assert run([*options, "runs", "show", "old"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("charlstm: checkpoints/old/run.json cannot be read")
    assert ("Traceback (most recent call last):" in lines) == bool(wanted)
    # The cause, which ``from None`` hides, comes first.
    assert any(line.startswith("OSError: ") for line in lines) == bool(wanted)
    assert run(["runs", "show", "old"]) == 1
    shown = capsys.readouterr().err.count("Traceback")
    assert bool(shown) == (wanted == "environment")


def test_traceback_of_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--traceback", "tran"]) == 2
    assert "Traceback (most recent call last):" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sample --color surprise", "score x --color surprise"])
def test_a_flag_takes_no_value(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command.split()) == 2
    assert capsys.readouterr().err.endswith("; --color takes no value\n")
