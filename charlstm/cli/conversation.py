"""``charlstm sample --interactive``: the user and the model take turns."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from charlstm.cli import history
from charlstm.cli.inputs import Reader
from charlstm.cli.options import note, weights_of
from charlstm.cli.output import Output
from charlstm.cli.signals import Terminated
from charlstm.errors import CharlstmError

if TYPE_CHECKING:
    from charlstm.generate.sampling import SamplingConfig
    from charlstm.generate.text_state import TextState
    from charlstm.generate.writing import Text
    from charlstm.model import Voice
    from charlstm.net.quantised import Precision

MAX_LINE = 1 << 20
"""Most characters read as one line: input may be endless and without a newline."""
HELP = """Type some text; the model continues it.
Press Enter on an empty line to let it continue. Ctrl-C stops a turn, Ctrl-D quits.
To begin a line with /, type //.
/temp X    set the temperature; 0 always takes the most likely character
/mix W,W   set the weights of several models
/length N  set the number of characters per turn; 0 for no limit
/retry     generate the last turn again with another seed
/forget    start over from zero state
/quit      quit"""


class Conversation:
    """A text that the user and the model write in turns."""

    def __init__(
        self,
        model: "Voice",
        reader: Reader,
        output: Output,
        *,
        start: "TextState | None",
        seed: int,
        length: int,
        stop: list[str],
        sampling: "SamplingConfig",
        precision: "Precision" = "int8",
    ) -> None:
        """The first turn continues ``start`` with ``seed``; a turn has ``length`` characters."""
        self._model, self._reader, self._output = model, reader, output
        self._start, self._seed, self._length = start, seed, length
        self._stop, self._sampling, self._precision = stop, sampling, precision
        self._text: Text | None = None
        """The turn that was generated last."""
        self._before: TextState | None = None
        """The state before the last turn."""

    @property
    def state(self) -> "TextState | None":
        """The resume state now, even in the middle of a turn."""
        return self._start if self._text is None else self._text.state

    def run(self, prime: str, *, echo: bool) -> None:
        """Write ``prime``, then take turns until the input ends or the user quits.

        ``echo`` also writes the lines read, unless a terminal already shows them.
        """
        typed = self._output.terminal and sys.stdin.isatty()
        if typed:
            note("type some text and the model continues it; /help lists commands, Ctrl-D quits")
        self._output.write(prime)
        self._take_turns(echo=echo and not typed)
        self._output.close()

    def _take_turns(self, *, echo: bool) -> None:
        read_line = _line_reader()
        commands: dict[str, Callable[[str], None]] = {
            "temp": self._set_temperature,
            "mix": self._set_mix,
            "length": self._set_length,
            "retry": self._retry,
            "forget": self._forget,
            "help": _help,
        }
        while True:
            try:
                line = read_line()
            except EOFError:
                return
            try:
                if line.startswith("/") and not line.startswith("//"):
                    name, _, argument = line[1:].partition(" ")
                    if name == "quit":
                        return
                    if name not in commands:
                        raise CharlstmError(f"unknown command /{name}", "type /help for a list")
                    commands[name](argument.strip())
                else:
                    line = line.removeprefix("/") if line.startswith("//") else line
                    form, policy = self._reader.known_form(line), self._reader.policy
                    self._before = self._model.prefill(
                        form, self.state, policy, precision=self._precision
                    )
                    self._write(line if echo else "")
            except CharlstmError as error:
                note(str(error))

    def _write(self, shown: str) -> None:
        """Generate a turn from ``_before``; Ctrl-C ends it."""
        self._text = self._model.generate(
            state=self._before,
            length=self._length or None,
            stop=self._stop,
            seed=self._seed,
            surprise=self._output.tinted,
            sampling=self._sampling,
            precision=self._precision,
        )
        self._seed += 1
        try:
            self._output.show(self._text, shown)
        except Terminated:
            raise
        except KeyboardInterrupt:
            pass
        self._output.write("\n")
        sys.stdout.flush()

    def _set_temperature(self, value: str) -> None:
        temperature = _number(value, float, "/temp 0.8")
        self._sampling = replace(self._sampling, temperature=temperature)

    def _set_mix(self, value: str) -> None:
        from charlstm.mixture import Mixture

        if not isinstance(self._model, Mixture):
            raise CharlstmError("/mix needs several models", "start with several -c")
        if value:
            self._model = self._model.reweighted(weights_of(value))
        else:
            note("/mix " + ",".join(f"{weight:g}" for weight in self._model.weights))

    def _set_length(self, value: str) -> None:
        from charlstm.errors import check_integer
        from charlstm.model import MAX_LENGTH

        length = _number(value, int, "/length 500")
        check_integer("/length", length, 0, MAX_LENGTH)
        self._length = length

    def _retry(self, _: str) -> None:
        if self._before is None:
            raise CharlstmError("nothing to retry yet", "type a line first")
        self._write("")

    def _forget(self, _: str) -> None:
        self._start = self._text = self._before = None


def _help(_: str) -> None:
    for line in HELP.splitlines():
        note(line)


def _number(value: str, kind: Callable[[str], Any], example: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise CharlstmError(f"{value!r} is not a number", f"for example {example}") from None


def _ask() -> str:
    try:
        turn = input("> ")
    except KeyboardInterrupt:
        print()  # so that the shell's prompt begins a new line
        raise
    history.append(turn)
    return turn


def _line_reader() -> Callable[[], str]:
    """A function that reads a line: with editing and history on a terminal, else from stdin."""
    stream: Any = sys.stdin
    typed = stream.isatty() and sys.stdout.isatty()
    if hasattr(stream, "reconfigure"):  # the model refuses bytes that are no text
        encoding = stream.encoding if typed else "utf-8"
        stream.reconfigure(encoding=encoding, errors="surrogateescape")
    if typed:
        try:
            import readline  # input() edits lines with it
        except ImportError:  # Windows edits lines by itself
            return _ask
        # A paste of several lines stays in the line until Enter, so it is one turn.
        readline.parse_and_bind("set enable-bracketed-paste on")
        history.load(readline)
        return _ask

    def read() -> str:
        line = stream.readline(MAX_LINE)
        if not line:
            raise EOFError
        return str(line).rstrip("\r\n")

    return read
