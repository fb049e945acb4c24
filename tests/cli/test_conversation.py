"""``charlstm sample --interactive``, through a pipe and through a terminal."""

import io
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import untrained

import charlstm
from charlstm import Model
from charlstm.cli import run
from charlstm.text.vocabulary import Vocabulary

Talk = Callable[..., tuple[str, str]]


@pytest.fixture
def model(trained_run: Path) -> Model:
    return charlstm.load(trained_run)


@pytest.fixture
def talk(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Talk:
    """Type lines into a pipe; returns stdout and stderr."""

    def typed(lines: str | bytes, *options: str, code: int = 0) -> tuple[str, str]:
        data = lines.encode() if isinstance(lines, str) else lines
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        command = ["sample", "-c", str(trained_run), "-i", "--seed", "1", "--length", "30"]
        assert run([*command, *options]) == code
        shown = capsys.readouterr()
        return shown.out, shown.err

    return typed


def text(model: Model, state: object, seed: int, **how: object) -> str:
    how = {"length": 30, **how}
    return "".join(model.generate(state=state, seed=seed, **how))  # type: ignore[arg-type]


# -- through a pipe ----------------------------------------------------------------------------


def test_the_state_is_kept_from_turn_to_turn(talk: Talk, model: Model) -> None:
    out, err = talk("NED: \nTAM: \n\n")
    first = model.prefill("NED: ")
    one = text(model, first, 1)
    second = model.prefill("NED: " + one + "TAM: ")
    two = text(model, second, 2)
    three = text(model, model.prefill("NED: " + one + "TAM: " + two), 3)
    assert out == f"NED: {one}\nTAM: {two}\n{three}\n"
    assert err == ""
    assert talk("NED: \nTAM: \n\n", "--no-echo")[0] == f"{one}\n{two}\n{three}\n"


def test_retry_writes_the_last_turn_again_with_another_seed(talk: Talk, model: Model) -> None:
    out, _ = talk("NED: \n/retry\nTAM\n", "--no-echo")
    start = model.prefill("NED: ")
    one, two = text(model, start, 1), text(model, start, 2)
    three = text(model, model.prefill("NED: " + two + "TAM"), 3)
    assert out == f"{one}\n{two}\n{three}\n"
    assert one != two


def test_forget_starts_again(talk: Talk, model: Model) -> None:
    out, _ = talk("NED: \n/forget\nTAM: \n", "--no-echo")
    assert out.splitlines()[-1] == text(model, model.prefill("TAM: "), 2).splitlines()[-1]
    assert "nothing to retry" in talk("NED\n/forget\n/retry\n")[1]


def test_temperature_and_length_change_from_the_next_turn_on(talk: Talk, model: Model) -> None:
    out, err = talk("/temp 0\n/length 50\nNED: \n", "--no-echo")
    assert out == text(model, model.prefill("NED: "), 1, temperature=0, length=50) + "\n"
    assert err == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/temp", "'' is not a number; for example /temp 0.8"),
        ("/temp warm", "'warm' is not a number"),
        ("/temp -1", "must be"),
        ("/temp nan", "must be"),
        ("/length 1.5", "'1.5' is not a number"),
        ("/length -1", "/length is -1"),
        ("/nix", "unknown command /nix; type /help"),
        ("/retry", "nothing to retry"),
        ("/mix 1,2", "/mix needs several models"),
        ("€", "'€' (U+20AC)"),
    ],
)
def test_a_mistake_is_one_line_and_the_talk_goes_on(
    line: str, words: str, talk: Talk, model: Model
) -> None:
    out, err = talk(f"{line}\nNED: \n", "--no-echo")
    assert words in err
    assert err.count("\n") == 1
    assert out == text(model, model.prefill("NED: "), 1) + "\n"


def test_piped_lines_are_shown_on_a_terminal(
    talk: Talk, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    one = text(model, model.prefill("NED: "), 1)
    assert talk("NED: \n")[0] == f"NED: {one}\n\n"


def test_bytes_that_are_no_text_are_a_mistake_like_others(talk: Talk) -> None:
    assert "U+DCFF" in talk(b"NED\xff\n")[1]


def test_help_lists_every_command(talk: Talk) -> None:
    out, err = talk("/help\n")
    assert out == ""
    for name in ("temp", "mix", "length", "retry", "forget", "quit"):
        assert re.search(rf"^/{name}\b", err, re.MULTILINE)


def test_mix_changes_the_weights_from_the_next_turn_on(
    talk: Talk, model: Model, tmp_path: Path
) -> None:
    last = untrained(tmp_path, Vocabulary("\nNEDé: "))
    other = charlstm.load(last)
    out, err = talk("NED: \n/mix 1,3\n\n", "-c", last, "--no-echo")
    equal, weighted = charlstm.mix([model, other]), charlstm.mix([model, other], [1, 3])
    first = equal.generate("NED: ", length=30, seed=1)
    one = str(first)
    two = str(weighted.generate(state=first.state, length=30, seed=2))
    assert out == f"{one}\n{two}\n"
    assert err == ""
    assert "must be 2 numbers" in talk("/mix 1\n", "-c", last)[1]
    assert "'a,b'" in talk("/mix a,b\n", "-c", last)[1]
    assert talk("/mix\n", "-c", last)[1].endswith("/mix 0.5,0.5\n")


def test_quit_ends_and_two_slashes_are_a_slash(talk: Talk) -> None:
    assert talk("/quit\nNED\n") == ("", "")
    assert "'/' (U+002F)" in talk("//x\n")[1]


def test_a_prime_and_a_state_come_before_the_first_line(
    talk: Talk, model: Model, tmp_path: Path
) -> None:
    state = str(tmp_path / "a.state")
    out, _ = talk("TAM: \n", "--prime", "NED: ", "--save-state", state)
    one = text(model, model.prefill("NED: TAM: "), 1)
    assert out == f"NED: TAM: {one}\n"
    out, _ = talk("\n", "--state", state)
    assert out == text(model, model.prefill("NED: TAM: " + one), 1) + "\n"


# -- through a terminal ------------------------------------------------------------------------

pytest_posix = pytest.mark.skipif(os.name == "nt", reason="terminals as POSIX has them")


class Terminal:
    """``charlstm sample --interactive`` at a terminal of its own."""

    def __init__(self, run: Path, *options: str, **variables: str) -> None:
        import pty

        self.screen = b""
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(charlstm.__file__).parents[1]),
            "TERM": "xterm-256color",
            "XDG_STATE_HOME": str(run.parent / "state"),
            **variables,
        }
        environment.pop("NO_COLOR", None)
        command = [sys.executable, "-m", "charlstm", "sample", "-c", str(run), "-i", *options]
        self.end, theirs = pty.openpty()
        self.child = subprocess.Popen(
            command,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    def type(self, text: bytes) -> None:
        os.write(self.end, text)

    def wait_for(self, pattern: bytes, seconds: float = 60, repeat: bytes = b"") -> bytes:
        """What came up to ``pattern``, which is taken away; ``repeat`` is typed meanwhile."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.screen)):
            assert time.monotonic() < end, self.screen
            self.type(repeat)
            if select.select([self.end], [], [], 0.1)[0]:
                try:
                    self.screen += os.read(self.end, 65536)
                except OSError:
                    raise AssertionError(self.screen) from None
        before, self.screen = self.screen[: found.end()], self.screen[found.end() :]
        return before

    def exit_code(self, seconds: float = 60) -> int | None:
        """Read until the child ends, so that no full terminal holds it up."""
        end = time.monotonic() + seconds
        while self.child.poll() is None and time.monotonic() < end:
            if select.select([self.end], [], [], 0.1)[0]:
                with suppress(OSError):
                    self.screen += os.read(self.end, 65536)
        return self.child.poll()


def _take_terminal() -> None:
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # some runners of tests ignore it

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(trained_run: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*options: str, **variables: str) -> Terminal:
        opened.append(Terminal(trained_run, *options, **variables))
        return opened[-1]

    yield start
    for one in opened:
        one.child.kill()
        one.child.wait()


@pytest_posix
def test_lines_are_edited_remembered_and_answered_at_a_terminal(
    terminal: Callable[..., Terminal], model: Model
) -> None:
    there = terminal("--seed", "1", "--length", "30", "--temp", "0")
    assert b"/help lists commands, Ctrl-D quits\r\n" in there.wait_for(b"> ")
    there.type(b"XED: \x01\x1b[3~N\r")  # to the beginning, delete, type N
    one = text(model, model.prefill("NED: "), 1, temperature=0)
    there.wait_for(re.escape(one.replace("\n", "\r\n").encode()))
    there.wait_for(b"> ")
    there.type(b"/forget\r")
    there.wait_for(b"> ")
    there.type(b"\x1b[A\x1b[A\r")  # two lines back
    there.wait_for(re.escape(one.replace("\n", "\r\n").encode()))
    there.wait_for(b"> ")
    there.type(b"\x04")
    assert there.child.wait(60) == 0


@pytest_posix
def test_a_byte_that_is_no_text_does_not_end_the_session(
    terminal: Callable[..., Terminal],
) -> None:
    there = terminal("--length", "3", PYTHONIOENCODING="utf-8:strict")  # as most locales have it
    there.wait_for(b"> ")
    there.type(b"\xff\r")
    there.wait_for(b"the model never saw ")
    there.wait_for(b"> ")
    there.type(b"\x04")
    assert there.child.wait(60) == 0


@pytest_posix
def test_ctrl_c_ends_a_turn_and_then_the_talk(
    terminal: Callable[..., Terminal], model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "a.state"
    there = terminal("--seed", "1", "--length", "0", "--save-state", str(path))
    there.wait_for(b"> ")
    there.type(b"NED: \r")
    there.wait_for(b"\r\n.{40}")
    there.type(b"\x03")
    there.wait_for(b"> ")
    there.type(b"/length 5\r")
    there.wait_for(b"> ")
    while there.child.poll() is None:
        # Between the prompt and readline's waiting for keys, Ctrl-C is seen with the next key only.
        there.type(b"\x03")
        with suppress(subprocess.TimeoutExpired):
            there.child.wait(5)
    assert there.child.returncode == 130
    assert b"Traceback" not in there.screen
    assert len(model.load_state(path).recent) > 40


@pytest_posix
def test_a_terminal_that_goes_away_leaves_a_whole_state(
    terminal: Callable[..., Terminal], model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "a.state"
    there = terminal("--seed", "1", "--length", "0", "--save-state", str(path))
    there.wait_for(b"> ")
    there.type(b"NED: \r")
    there.wait_for(b"\r\n(?s:.{300})")
    os.close(there.end)
    assert there.child.wait(60) in (1, 130)
    assert len(model.load_state(path).recent) > 40
    assert [p.name for p in tmp_path.iterdir()] == ["a.state"]


@pytest_posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_in_the_middle_of_a_turn_ends_the_talk_and_not_only_the_turn(
    number: signal.Signals, terminal: Callable[..., Terminal], model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "a.state"
    there = terminal("--seed", "1", "--length", "0", "--save-state", str(path))
    there.wait_for(b"> ")
    there.type(b"NED: \r")
    there.wait_for(b"\r\n(?s:.{300})")
    there.child.send_signal(number)
    assert there.exit_code() == 130
    assert len(model.load_state(path).recent) > 40


@pytest_posix
def test_typed_bytes_that_are_no_text_are_a_mistake_like_others(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    there = terminal("--seed", "1")
    there.wait_for(b"> ")
    there.type("é\r".encode())
    there.wait_for(rb"U\+DCC3")
    there.wait_for(b"> ")
    there.type(b"\x04")
    assert there.child.wait(60) == 0


@pytest_posix
def test_characters_are_tinted_at_a_terminal(terminal: Callable[..., Terminal]) -> None:
    there = terminal("--seed", "1", "--length", "60", "--temp", "3", "--color")
    there.wait_for(b"surprise in bits")
    there.wait_for(b"> ")
    there.type(b"NED: \r")
    shown = there.wait_for(b"\n> |\x1b\\[\\?2004h> ")
    assert b"\x1b[38;5;16;48;5;2" in shown
    there.child.send_signal(signal.SIGHUP)


@pytest_posix
def test_ctrl_c_at_the_prompt_leaves_the_shells_prompt_a_line_of_its_own(
    terminal: Callable[..., Terminal],
) -> None:
    there = terminal("--seed", "1")
    there.wait_for(b"> ")
    # Python does not see a signal between the prompt and its first wait for a key.
    there.wait_for(b"\r\n", repeat=b"\x03")
    # A second one that arrives during the exit ends the process as the system does.
    assert there.child.wait(60) in (130, -signal.SIGINT)


@pytest_posix
def test_a_paste_of_several_lines_is_one_turn_and_is_remembered_in_the_next_session(
    terminal: Callable[..., Terminal], model: Model, trained_run: Path
) -> None:
    import readline

    if "libedit" in (readline.__doc__ or ""):
        pytest.skip("libedit has no bracketed paste")
    options = ("--seed", "1", "--length", "30", "--temp", "0")
    one = str(model.generate("NED: I\nTAM: ", length=30, temperature=0)).replace("\n", "\r\n")
    there = terminal(*options)
    there.wait_for(b"> ")
    there.type(b"\x1b[200~NED: I\nTAM: \x1b[201~\r")
    there.wait_for(re.escape(one.encode()))
    there.wait_for(b"> ")
    there.type(b"\x04")
    assert there.child.wait(60) == 0
    file = trained_run.parent / "state" / "charlstm" / "history.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    there = terminal(*options)
    there.wait_for(b"> ")
    there.type(b"\x1b[A\r")
    there.wait_for(re.escape(one.encode()))
