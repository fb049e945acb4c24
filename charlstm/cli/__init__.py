"""The command line: the only package that imports typer; one module per command.

``main`` is the error boundary: it turns errors into one line of text and an exit code.
"""

import io
import os
import shlex
import signal
import sys
from typing import NoReturn, TextIO

from charlstm.cli import tracebacks
from charlstm.cli.option_names import option_of, use_parameters, with_options
from charlstm.errors import CharlstmError, ExitCode, reason_of
from charlstm.show.ascii_signs import ERRORS


def _is_own(error: ImportError) -> bool:
    return (error.name or "charlstm").split(".")[0] == "charlstm"


def _not_loaded(error: ImportError) -> str:
    """Describe a library that cannot be loaded: out of memory, or a broken installation."""
    name = str(error.name)
    if error.path and "." not in name:  # torch._C calls itself _C
        name = f"{os.path.basename(os.path.dirname(error.path))}.{name}"
    memory = "; the system may be out of memory" if "map segment" in str(error) else ""
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
"""Settings that determine how much memory a command needs."""


def main() -> NoReturn:
    """Run the command line and exit."""
    _open_closed_streams()
    _buffer_stdout()
    _keep_quotes_of_completed_word()
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open the null device for closed standard streams, which Python shows as None.

    Otherwise the next file opened would get the descriptor of stdout or stderr, and its text.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _buffer_stdout() -> None:
    """Buffer lines even under ``python -u``.

    The buffer shows afterwards whether a failed write was one to stdout.
    """
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper) and isinstance(stdout.buffer, io.RawIOBase):
        encoding, errors = stdout.encoding, stdout.errors
        buffer = io.BufferedWriter(stdout.detach())
        sys.stdout = io.TextIOWrapper(buffer, encoding, errors, line_buffering=True)


def _keep_quotes_of_completed_word() -> None:
    """Quote the word to complete in bash, so that typer can match it with quoted run names."""
    if os.environ.get("_CHARLSTM_COMPLETE") == "complete_bash":
        words = os.environ.get("COMP_WORDS", "").split("\n")
        current = int(os.environ.get("COMP_CWORD", "0"))
        if current < len(words):
            words[current] = shlex.quote(words[current])
            os.environ["COMP_WORDS"] = "\n".join(words)


def _flush(stream: TextIO) -> bool:
    """Flush a stream; return whether that worked. If not, drop the rest: no error at exit."""
    try:
        stream.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code.

    A failure is one line on stderr, then the command that helps, if there is one, and, with
    ``--traceback``, the traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # ASCII for characters that the encoding lacks
            stream.reconfigure(errors=ERRORS)
    use_parameters(())
    tracebacks.show(False)
    try:
        code = app(arguments, standalone_mode=False, prog_name="charlstm")
        sys.stdout.flush()
        return int(code or 0)
    except CharlstmError as error:
        _complain("; ".join(filter(None, (error.message, error.hint))), error, error.command)
        return int(error.exit_code)
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise  # how shell completion ends
        # The reader of the pipe has closed it; click turns BrokenPipeError into SystemExit. Drop
        # what cannot be written, so that there is no error at exit.
        _flush(sys.stdout)
        return int(ExitCode.DONE)
    except (KeyboardInterrupt, typer.Abort):
        return int(ExitCode.INTERRUPTED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        where = where if _flush(sys.stdout) else "standard output cannot be written: "
        _complain(f"{where}{reason_of(error)}", error)
        return int(ExitCode.FAILED)
    except MemoryError as error:
        _complain(f"out of memory{_smaller()}", error)
        return int(ExitCode.FAILED)
    except ImportError as error:
        if _is_own(error):
            raise
        _complain(_not_loaded(error), error)
        return int(ExitCode.FAILED)
    except Exception as error:
        describe = getattr(error, "format_message", None)
        if describe is None:
            raise
        # A usage error of typer's, whose classes moved between its versions.
        _complain(describe(), error)
        return int(ExitCode.USAGE)


def _smaller() -> str:
    """A hint at the running command's options that save memory."""
    options = [option for field in MEMORY_FIELDS if (option := option_of(field))]
    return f"; use a smaller {' or '.join(options)}" if options else ""


def _complain(message: str, error: Exception, command: str = "") -> None:
    lines = [f"charlstm: {' '.join(with_options(message).split())}", *filter(None, [command])]
    try:
        from charlstm.show.printable import one_line, printable

        lines = [one_line(line) for line in lines]
        lines += [printable(line, keep="\t") for line in tracebacks.lines(error)]
    except MemoryError:
        pass  # which is what the message is about
    try:
        print("\n".join(lines), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # stderr is closed; the exit code remains
