"""The command line: the only folder that imports typer; one file per command.

``main`` is the boundary where errors become one line of text and an exit code.
"""

import io
import os
import shlex
import signal
import sys
from typing import NoReturn, TextIO

from charlstm.cli.option_names import option_of, use_parameters, with_options
from charlstm.errors import CharlstmError, ExitCode, reason_of
from charlstm.show.ascii_signs import ERRORS


def _is_own(error: ImportError) -> bool:
    return (error.name or "charlstm").split(".")[0] == "charlstm"


def _not_loaded(error: ImportError) -> str:
    """That a library cannot be loaded: too little memory, or a broken installation."""
    name = str(error.name)
    if error.path and "." not in name:  # torch._C calls itself _C
        name = f"{os.path.basename(os.path.dirname(error.path))}.{name}"
    memory = "; there may be too little memory" if "map segment" in str(error) else ""
    return f"{name} cannot be loaded: {error}{memory}"


try:
    import typer

    from charlstm.cli.app import app
except KeyboardInterrupt:  # Ctrl-C before the command began
    sys.exit(ExitCode.INTERRUPTED)
except ImportError as error:
    if _is_own(error):
        raise
    sys.exit(f"charlstm: {_not_loaded(error)}")
MEMORY_FIELDS = ("hidden_size", "batch", "bptt", "count")
"""Settings on which it depends how much memory a command needs."""


def main() -> NoReturn:
    """Run the command line and exit."""
    _open_closed_streams()
    _buffer_stdout()
    _keep_quotes_of_completed_word()
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


def _buffer_stdout() -> None:
    """Buffer lines under ``python -u``, too.

    Without a buffer, nothing shows afterwards that a write which failed was one to stdout.
    """
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper) and isinstance(stdout.buffer, io.RawIOBase):
        encoding, errors = stdout.encoding, stdout.errors
        buffer = io.BufferedWriter(stdout.detach())
        sys.stdout = io.TextIOWrapper(buffer, encoding, errors, line_buffering=True)


def _keep_quotes_of_completed_word() -> None:
    """Let typer compare what was typed in bash, quotes and all, with the quoted names of runs."""
    if os.environ.get("_CHARLSTM_COMPLETE") == "complete_bash":
        words = os.environ.get("COMP_WORDS", "").split("\n")
        current = int(os.environ.get("COMP_CWORD", "0"))
        if current < len(words):
            words[current] = shlex.quote(words[current])
            os.environ["COMP_WORDS"] = "\n".join(words)


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
    use_parameters(())
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
        _complain(f"there is not enough memory{_smaller()}")
        return int(ExitCode.FAILED)
    except ImportError as error:
        if _is_own(error):
            raise
        _complain(_not_loaded(error))
        return int(ExitCode.FAILED)
    except Exception as error:
        describe = getattr(error, "format_message", None)
        if describe is None:
            raise
        # One of typer's, whose classes have moved between its versions: wrong usage.
        _complain(describe())
        return int(ExitCode.USAGE)


def _smaller() -> str:
    """Which options of the running command save memory when they are smaller."""
    options = [option for field in MEMORY_FIELDS if (option := option_of(field))]
    return f"; use a smaller {' or '.join(options)}" if options else ""


def _complain(message: str) -> None:
    line = " ".join(with_options(message).split())
    try:
        from charlstm.show.printable import one_line

        line = one_line(line)
    except MemoryError:
        pass  # which is what the message is about
    try:
        print(f"charlstm: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # stderr is closed; the exit code still says it
