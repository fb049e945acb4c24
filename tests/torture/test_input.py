"""Any corpus and any value of any option: done, or one line on stderr and exit 1 or 2."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import TEXT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charlstm.cli import run
from charlstm.cli.app import app
from charlstm.show.printable import printable

EXAMPLES = int(os.environ.get("TORTURE_EXAMPLES", "60"))
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SIZES = "--hidden 4 --embed 2 --layers 1 --batch 2 --bptt 4 --precision float32 --device cpu"
SMALL = [*SIZES.split(), "--quiet", "--steps", "1", "--name", "any"]
LAG = "--task anbn --lags 2 --characters 1 --hidden 2 --trials 1 --cells rnn"
GRADIENT = "--reach 2 --steps 1 --hidden 2 --cells rnn"
CELLS = "--parameters 1000 --characters 1 --seeds 1 --cells rnn"
SHORT = {
    ("train",): SMALL,
    ("study", "lag"): LAG.split(),
    ("study", "gradient"): GRADIENT.split(),
    ("study", "cells"): CELLS.split(),
}
"""What keeps a command that trains short, where it is not said otherwise."""
NUMBERS = (
    *("0", "1", "2", "-1", "0.5", "1e3", "1e308", "1e999", "nan", "inf", "-inf", "9" * 30),
    *("9" * 5000, str(2**31), str(2**63), "0x10", "1_0", " 1", "١", "-0.0", "1e-400", ""),
)
TEXTS = (
    *("auto", "cpu", "cuda", "tpu", "lstm", "gru", "utf-8", "utf-7", "zlib", "idna", "punycode"),
    *("tiny", "small", "..", "/", "/dev/null", "~", "-", "--", "\x1b[2J", "a" * 5000),
    *("tales.txt", "checkpoints/any", "any", "skip", "replace", "none", "forget", "figure3"),
)
ANY = st.text(st.characters(exclude_characters="\0"), max_size=20)  # the system passes no NUL
WORDS = st.one_of(st.sampled_from(NUMBERS), ANY, st.sampled_from(TEXTS))


def _commands() -> dict[tuple[str, ...], list[Any]]:
    """Every command of the command line, with its options."""
    import typer.main

    found: dict[tuple[str, ...], list[Any]] = {}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        if path and not command.no_args_is_help:  # a group that only shows its help
            found[path] = [p for p in command.params if p.name not in ("help",)]
        for name, below in getattr(command, "commands", {}).items():
            walk(below, (*path, name))

    walk(typer.main.get_command(app), ())
    return found


COMMANDS = _commands()


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with some of its options, each with a value of some kind."""
    path = draw(st.sampled_from(sorted(COMMANDS)))
    words = [*path, *SHORT.get(path, ())]
    for option in draw(st.lists(st.sampled_from(COMMANDS[path] or [None]), max_size=4)):
        if option is None or option.name == "device":
            continue
        if option.param_type_name == "argument":
            words.append(draw(WORDS))
        else:
            words.append(draw(st.sampled_from(option.opts)))
            if not option.is_flag:
                words.append(draw(WORDS))
    return words


@pytest.fixture
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text, a run and a cache that any command may empty; training stops at once,
    whatever the budget."""
    assert cache.is_relative_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tales.txt").write_text(TEXT * 4, encoding="utf-8")
    assert answered("train", "tales.txt", *SMALL)[0] == 0
    from charlstm.training.schedule import Plan

    monkeypatch.setattr(Plan, "steps_left", lambda *_: False)
    monkeypatch.setattr("charlstm.cli.train.watch", _stop_at_once)
    monkeypatch.setattr("charlstm.model.DEFAULT_LENGTH", 3)
    return tmp_path


def _stop_at_once(run: Any, *_: object, **__: object) -> Any:
    *_, finished = run.trainer.run()
    return finished


def answered(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; what it raises, it raises here."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = run(list(arguments))
            except SystemExit as end:  # help, version, completion
                code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def assert_told(code: int, err: str) -> None:
    assert code in (0, 1, 2), err
    assert err == printable(err), ascii(err)
    if code:
        *_, last = (line for line in err.splitlines() if not line.startswith("charlstm "))
        assert last.startswith("charlstm: "), err
        assert err.count("charlstm: ") == 1, err


@MANY
@given(data=st.one_of(st.binary(max_size=400), st.binary(max_size=40).map(lambda b: b * 40)))
def test_corpus_of_any_bytes(folder: Path, data: bytes) -> None:
    for manner in ([], ["--bytes"], ["--encoding", "utf-16"]):
        (folder / "any.txt").write_bytes(data)
        code, _, err = answered("train", "any.txt", *manner, *SMALL)
        assert_told(code, err)
        if manner == ["--bytes"]:
            assert (code == 0) == (len(data) >= 20), err


@MANY
@given(
    text=st.text(max_size=60).map(lambda text: text * 3),
    ending=st.sampled_from(["\n", "\r\n", "\r", "\u2028", "\0", "\x1b[2J", ""]),
)
def test_corpus_of_any_text_is_learnt_and_read_exactly(
    folder: Path, text: str, ending: str
) -> None:
    whole = text.replace("\n", ending)
    (folder / "any.txt").write_bytes(whole.encode())
    code, _, err = answered("train", "any.txt", *SMALL)
    assert_told(code, err)
    assert (code == 0) == (len(whole.removeprefix("\ufeff")) >= 20), err
    if code == 0:
        for command in ("score", "inspect"):
            code, out, err = answered(
                command, *(["--file"] if command == "inspect" else []), "any.txt"
            )
            assert (code, err.count("charlstm: ")) == (0, 0) or code == 1, err
            assert out == printable(out)


@MANY
@given(words=command_lines())
def test_any_value_of_any_option(folder: Path, words: list[str]) -> None:
    if "-n" in words or "--length" in words:
        words += ["--length", "5"]  # not for ever; the last one counts
    if words[0] == "train" and "--resume" in words:
        words = [word for word in words if word not in SMALL]
    code, _, err = answered(*words, stdin=b"From standard input, which is long enough.")
    assert_told(code, err)
