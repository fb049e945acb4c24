"""The command line: the only folder that imports typer; one file per command.

``main`` is the boundary where errors become one line of text and an exit code.
"""

import difflib
import os
import re
import signal
import sys
from typing import Any, NoReturn, TextIO

from charlstm.errors import CharlstmError, ExitCode, reason_of
from charlstm.show.signs import ERRORS

try:
    import typer

    from charlstm.cli.app import app
except KeyboardInterrupt:  # Ctrl-C before the command began
    sys.exit(ExitCode.INTERRUPTED)

# Typer's usage errors and their base, reached through the one of them that is public in all
# versions: newer ones no longer depend on click.
_ClickError = typer.BadParameter.__mro__[2]


_SYNONYMS = {
    "delete": "prune",
    "remove": "prune",
    "rm": "prune",
    "list": "runs",
    "generate": "sample",
    "eval": "score",
}


def main() -> NoReturn:
    """Run the command line and exit."""
    _open_closed_streams()
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left to stop
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Where stdout or stderr is closed, the next file opened would take its number, and its text.

    Python has None for such a stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _flush(stream: TextIO) -> bool:
    """Whether all of a stream could be written; if not, the rest is dropped: no error at exit."""
    try:
        stream.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code. Every failure is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # where the encoding lacks a sign, ASCII stands in
            stream.reconfigure(errors=ERRORS)
    try:
        code = app(arguments, standalone_mode=False, prog_name="charlstm")
        sys.stdout.flush()
        return int(code or 0)
    except CharlstmError as error:
        _complain(str(error))
        return int(error.exit_code)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise  # shell completion ends so
        # The reader has seen enough; click turns the first into the second. Nothing can be
        # written any more, also not at exit.
        _flush(sys.stdout)
        return int(ExitCode.DONE)
    except (KeyboardInterrupt, typer.Abort):
        return int(ExitCode.INTERRUPTED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        where = where if _flush(sys.stdout) else "standard output cannot be written: "
        _complain(f"{where}{reason_of(error)}")
        return int(ExitCode.FAILED)
    except MemoryError:
        _complain("there is not enough memory; use a smaller --hidden, --batch or --bptt")
        return int(ExitCode.FAILED)
    except Exception as error:
        if not isinstance(error, _ClickError):
            raise
        # The message is empty where no arguments were given and the help was shown instead.
        if message := error.format_message():  # type: ignore[attr-defined]
            _complain(message + _suggestion(error))
        return int(ExitCode.USAGE)


def _suggestion(error: Any) -> str:
    """What may have been meant by a command that does not exist, or by a word too many."""
    if surplus := re.search(r"unexpected extra argument \((.*)\)", error.format_message()):
        from charlstm.runs.catalogue import is_run

        return f". The run of that name: -c {surplus[1]}" if is_run(surplus[1]) else ""
    commands = getattr(getattr(error.ctx, "command", None), "commands", None)
    asked = re.match(r"No such command '(.*)'\.$", error.format_message())
    if not commands or not asked:
        return ""
    if "train" in commands and os.path.isfile(asked[1]):
        return f" To train on {asked[1]}: charlstm train {asked[1]}"
    word = _SYNONYMS.get(asked[1], asked[1])
    close = [word] if word in commands else difflib.get_close_matches(word, commands, 1)
    return f" Did you mean {close[0]}?" if close else f" There are {', '.join(commands)}."


def _complain(message: str) -> None:
    from charlstm.show.format import printable

    line = printable(" ".join(message.split()), keep="")
    try:
        print(f"charlstm: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # stderr is closed; the exit code still says it
