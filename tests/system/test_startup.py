"""Commands that do not train start without torch, and every command explains itself."""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import charlstm
from charlstm.analysis.views import VIEWS
from charlstm.cli import run
from charlstm.cli.app import app

ROOT: Any = get_command(app)
COMMANDS = sorted(ROOT.commands)
ALL = [(name,) for name in COMMANDS] + [
    (name, below) for name in COMMANDS for below in getattr(ROOT.commands[name], "commands", {})
]


def find(path: tuple[str, ...]) -> Any:
    command = ROOT
    for name in path:
        command = command.commands[name]
    return command


def process(*command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python process, ended."""
    root = str(Path(charlstm.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


# One process for all commands: an import by any of them is seen at that one.
WATCHED = """
import contextlib, io, json, sys
from charlstm.cli import run
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            code = run(command.split())
        except SystemExit as end:
            code = end.code
    print(json.dumps([command, code, bool(out.getvalue()), "torch" in sys.modules]))
"""


def test_commands_that_do_not_train_never_import_torch(trained_run: Path) -> None:
    commands = [
        "--help",
        "train --help",
        "study --help",
        "study lag --help",
        "sample -c small --length 5 --seed 1",
        "inspect -c small --rows 3",
        "sample -c small --count 2 --length 5 --seed 1 --temp 0.5",
        "sample -c small --interactive --prime Row --seed 1",
        "score -c small other.txt",
        "score -c small other.txt --top 3",
        "runs",
        "runs show small",
    ]
    (trained_run.parents[1] / "other.txt").write_text(
        "Row, said the heron.\n" * 9, encoding="utf-8"
    )
    done = process("-c", WATCHED, json.dumps(commands), folder=trained_run.parents[1])
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [[command, 0, True, False] for command in commands]


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        ("--help", ["numpy", "charlstm.files", "charlstm.text", "charlstm.runs", "charlstm.model"]),
        (
            "sample -c small --length 5 --seed 1",
            ["charlstm.text.corpus", "charlstm.analysis.saturation", "charlstm.scoring"],
        ),
    ],
)
def test_a_start_imports_nothing_that_it_does_not_use(
    command: str, unused: list[str], trained_run: Path
) -> None:
    done = process(
        "-X", "importtime", "-m", "charlstm", *command.split(), folder=trained_run.parents[1]
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"typer", "charlstm.cli.train"} <= imported
    assert imported.isdisjoint(unused)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"charlstm {charlstm.__version__}\n"


def test_python_m_charlstm_exits_with_the_commands_code(tmp_path: Path) -> None:
    done = process("-m", "charlstm", "sample", "--temp", "warm", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("charlstm: Invalid value for '--temp'")


Complete = Callable[[str], set[str]]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """What bash is offered for the last word of a line."""

    def offered(line: str) -> set[str]:
        monkeypatch.setenv("_CHARLSTM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        with pytest.raises(SystemExit) as end:
            run([])
        assert end.value.code == 0
        return set(capsys.readouterr().out.split())

    return offered


def test_shells_complete_commands(complete: Complete) -> None:
    assert complete("charlstm s") == {"sample", "score", "study"}
    assert complete("charlstm runs p") == {"prune"}


def test_a_shell_that_is_unknown_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CHARLSTM_COMPLETE", "complete_nothing")
    with pytest.raises(SystemExit) as end:
        run([])
    assert end.value.code == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_shows_an_example(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    examples = shown.partition("Examples:")[2]
    assert re.search(rf"^ *charlstm {name}\b", examples, re.MULTILINE)
    assert "\x1b" not in shown


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_and_argument_has_a_help_text(path: tuple[str, ...]) -> None:
    command = find(path)
    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_use_only_options_that_there_are(name: str) -> None:
    lines = [line.strip() for line in find((name,)).epilog.split("\n\n")[1:]]
    assert lines
    for line in lines:
        words = shlex.split(line.rpartition("| ")[2].split("     ")[0])
        assert words[:2] == ["charlstm", name]
        below = getattr(find((name,)), "commands", {})
        command = below.get(words[2]) if len(words) > 2 and below else find((name,))
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known


def test_no_arguments_show_the_help_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    shown = capsys.readouterr()
    assert all(name in shown.out for name in COMMANDS)
    assert shown.err == ""


@pytest.mark.parametrize("arguments", [["nix"], ["train", "--nix"], ["sample", "extra"]])
def test_wrong_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(rf"charlstm: .*{arguments[-1]}.*\n", shown.err)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sample -c ", ["tales", "tea"]),
        ("sample -c ta", ["tales"]),
        ("runs show te", ["tea"]),
        ("runs prune tea ", ["tales", "tea"]),
        ("train --init-from ", ["tales", "tea"]),
        ("train --preset ", ["tiny", "quick", "small", "medium", "large", "huge"]),
        ("train --cell ls", ["lstm", "lstm-1997"]),
        ("train --precision b", ["bfloat16"]),
        ("study lag --task re", ["reber"]),
        ("inspect --gate f", ["forget"]),
        ("inspect --view ", list(VIEWS)),
        ("score --unknown ", ["error", "skip", "replace"]),
    ],
)
def test_shells_complete_the_values_of_options(
    words: str,
    offered: list[str],
    complete: Complete,
    trained_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("tales", "tea"):
        shutil.copytree(trained_run, tmp_path / "checkpoints" / name)
    monkeypatch.chdir(tmp_path)
    assert complete(f"charlstm {words}") == set(offered)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["tran"], "train?"),
        (["runs", "remove"], "prune?"),
        (["runs", "list"], "this?\ncharlstm runs"),
        (["list"], "runs?"),
        (["runs", "shwo"], "show?"),
        (["generate"], "sample?"),
    ],
    ids=str,
)
def test_a_command_that_does_not_exist_names_the_one_meant(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err.endswith(f"; did you mean {meant}\n")


def test_a_text_in_the_place_of_a_command_learns_how_to_train_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").touch()
    (tmp_path / "studies").mkdir()
    assert run(["book.txt"]) == 2
    assert capsys.readouterr().err.endswith("; to train on book.txt:\ncharlstm train book.txt\n")
    assert run(["studies"]) == 2
    assert capsys.readouterr().err.endswith("; did you mean study?\n")


def test_a_run_in_the_place_of_a_word_too_many_learns_how_to_name_it(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained_run.parent.parent)
    assert run(["sample", trained_run.name]) == 2
    assert capsys.readouterr().err.endswith(
        f"; to use the run of that name: -c {trained_run.name}\n"
    )
    assert run(["sample", "nothing"]) == 2
    assert "-c" not in capsys.readouterr().err


def test_a_command_like_no_other_gets_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["xyzzy"]) == 2
    assert (
        "choose one of train, sample, inspect, score, export, help, study, runs"
        in capsys.readouterr().err
    )


# Training sets up the whole process; charlstm/training/__init__.py has the reasons.
TRAIN = """
from charlstm.cli import run
assert run("train tales.txt --hidden 16 --batch 2 --bptt 8 --steps 1 --quiet".split()) == 0
"""
COUNT_THREADS = """
import ctypes
from pathlib import Path
import numpy
folder = Path(numpy.__file__).parent.parent / "numpy.libs"
for path in folder.glob("libscipy_openblas64_*.so"):
    print("threads", ctypes.CDLL(str(path)).scipy_openblas_get_num_threads64_())
"""
FREE_MEMORY = """
import resource
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
import charlstm.training
before = resident()
bytearray(200_000_000)
print("kept", resident() - before > 150_000_000)
"""


def test_training_leaves_the_cores_to_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tales.txt").write_text("Row, said the heron. " * 50)
    done = process("-c", TRAIN + COUNT_THREADS, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    if "threads" not in done.stdout:
        pytest.skip("this numpy has no OpenBLAS whose threads can be counted")
    assert "threads 1\n" in done.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no setting")
def test_training_keeps_the_memory_that_it_freed_unless_the_user_set_otherwise(
    tmp_path: Path,
) -> None:
    assert process("-c", FREE_MEMORY, folder=tmp_path).stdout == "kept True\n"
    chosen = process("-c", FREE_MEMORY, folder=tmp_path, MALLOC_MMAP_MAX_="65536")
    assert chosen.stdout == "kept False\n"
