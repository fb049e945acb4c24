"""Tab in real shells: what they put on the command line is one word, and no command."""

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import charlstm
from charlstm.cli.options import run_names
from charlstm.runs.catalogue import list_runs

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
READY = b"ready> "
# Completes as charlstm does; run as a command it keeps its arguments.
SHIM = """#!/bin/sh
[ -n "$_CHARLSTM_COMPLETE" ] && exec {python} -m charlstm "$@"
printf '%s\\n' "$@" > words.new && mv words.new words
"""
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
LOAD = {"bash": "", "zsh": "autoload -U compinit && compinit -u -D; "}
QUOTED = ["my run", "tea:time", "$(touch pwned)", "`touch pwned`", "a;touch pwned", "it's", "a*é"]


def type_in(shell: str, keys: str, folder: Path) -> list[str]:
    """Type a line after the completions are loaded; return the words that charlstm got."""
    shim = folder / "bin" / "charlstm"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(python=sys.executable))
    shim.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(charlstm.__file__).parents[1]),
        "PS1": READY.decode(),
        "TERM": "dumb",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
    }
    master, slave = pty.openpty()
    with subprocess.Popen(
        SHELLS[shell],
        cwd=folder,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            wait_for(master, READY)
            load = f"_CHARLSTM_COMPLETE=source_{shell} charlstm"
            os.write(master, f'{LOAD[shell]}eval "$({load})"; echo lo""aded\r'.encode())
            wait_for(master, b"loaded", READY)
            os.write(master, keys.encode())
            words = folder / "words"
            end = time.monotonic() + 15
            while not words.exists():
                assert time.monotonic() < end, "charlstm was not run"
                if select.select([master], [], [], 0.1)[0]:
                    os.read(master, 4096)
            return words.read_text(encoding="utf-8").splitlines()
        finally:
            process.kill()
            os.close(master)


def wait_for(terminal: int, *wanted: bytes) -> None:
    """Read until the terminal has shown these, one after the other."""
    shown = b""
    for part in wanted:
        while part not in shown:
            assert select.select([terminal], [], [], 15)[0], shown
            shown += os.read(terminal, 4096)
        shown = shown.partition(part)[2]


@pytest.fixture
def run_called(trained_run: Path, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    name: str = request.param
    shutil.copytree(trained_run, tmp_path / "checkpoints" / name)
    return name


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("run_called", ["tales", *QUOTED], indirect=True)
def test_bash_completes_any_name_as_one_word(run_called: str, tmp_path: Path) -> None:
    assert type_in("bash", "charlstm sample -c \t\r", tmp_path) == ["sample", "-c", run_called]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("run_called", ["my run", "tea:time"], indirect=True)
def test_bash_completes_the_rest_of_a_quoted_name(run_called: str, tmp_path: Path) -> None:
    begun = run_called[:4].replace(" ", "\\ ").replace(":", "\\:")
    keys = f"charlstm sample -c {begun}\t\r"
    assert type_in("bash", keys, tmp_path) == ["sample", "-c", run_called]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("run_called", ["tales", *QUOTED], indirect=True)
def test_zsh_completes_names_that_need_no_quotes(run_called: str, tmp_path: Path) -> None:
    completed = ["tales"] if run_called == "tales" else []
    words = type_in("zsh", "charlstm sample -c \t\r", tmp_path)
    assert words == ["sample", "-c", *completed]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("run_called", ["--whole"], indirect=True)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_no_run_is_completed_to_an_option(
    run_called: str, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_CHARLSTM_COMPLETE", f"complete_{shell}")
    assert run_called in [run.name for run in list_runs()]
    assert run_names("") == []
