"""``charlstm sample --interactive``: lines from the user, and the model's continuations."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from charlstm.cli.inputs import Reader
from charlstm.cli.options import note
from charlstm.cli.output import Output
from charlstm.errors import CharlstmError

if TYPE_CHECKING:
    from charlstm.generate.sampling import SamplingConfig
    from charlstm.generate.text_state import TextState
    from charlstm.generate.writing import Text
    from charlstm.model import Model

MAX_LINE = 1 << 20
"""Characters of a line that are read together: input may have no end, and no line either."""
HELP = """Type the beginning of something; the model goes on from it.
Ctrl-C stops it, Ctrl-D ends. An empty line lets it go on where it stopped.
A line that begins with / is typed with //.
/temp X    0 takes the most likely character, 1 the model's own chances
/length N  characters a turn; 0 is without end
/retry     write the last turn again, differently
/forget    start again, from zero state
/quit      end"""


class Conversation:
    """Turns of one text."""

    def __init__(
        self,
        model: "Model",
        reader: Reader,
        output: Output,
        *,
        start: "TextState | None",
        seed: int,
        length: int,
        stop: list[str],
        sampling: "SamplingConfig",
    ) -> None:
        """Turns of ``length`` characters, the first from ``start`` and with ``seed``."""
        self._model, self._reader, self._output = model, reader, output
        self._start, self._seed, self._length = start, seed, length
        self._stop, self._sampling = stop, sampling
        self._text: Text | None = None
        """What was written from ``start`` so far."""
        self._before: TextState | None = None
        """The state before the last turn was written."""

    @property
    def state(self) -> "TextState | None":
        """Where the text stands now, also while a turn is being written."""
        return self._start if self._text is None else self._text.state

    def run(self, prime: str, *, echo: bool) -> None:
        """Write ``prime``, then take turns until the input ends or the user does.

        ``echo`` writes the lines read, too, where no terminal shows them.
        """
        if self._output.terminal and sys.stdin.isatty():
            note("type the beginning of something; /help explains, Ctrl-D ends")
        self._output.write(prime)
        self._take_turns(echo=echo and not self._output.terminal)
        self._output.close()

    def _take_turns(self, *, echo: bool) -> None:
        read_line = _line_reader()
        commands: dict[str, Callable[[str], None]] = {
            "temp": self._set_temperature,
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
                        raise CharlstmError(f"there is no command /{name}", "/help lists them")
                    commands[name](argument.strip())
                else:
                    line = line.removeprefix("/") if line.startswith("//") else line
                    form, policy = self._reader.known_form(line), self._reader.policy
                    self._before = self._model.prefill(form, self.state, policy)
                    self._write(line if echo else "")
            except CharlstmError as error:
                note(str(error))

    def _write(self, shown: str) -> None:
        """Go on from ``_before``; Ctrl-C ends the turn."""
        self._text = self._model.generate(
            state=self._before,
            length=self._length or None,
            stop=self._stop,
            seed=self._seed,
            surprise=self._output.tinted,
            sampling=self._sampling,
        )
        self._seed += 1
        try:
            self._output.show(self._text, shown)
        except KeyboardInterrupt:
            pass
        self._output.write("\n")
        sys.stdout.flush()

    def _set_temperature(self, value: str) -> None:
        temperature = _number(value, float, "/temp 0.8")
        self._sampling = replace(self._sampling, temperature=temperature)

    def _set_length(self, value: str) -> None:
        from charlstm.errors import check_integer
        from charlstm.model import MAX_LENGTH

        length = _number(value, int, "/length 500")
        check_integer("/length", length, 0, MAX_LENGTH)
        self._length = length

    def _retry(self, _: str) -> None:
        if self._before is None:
            raise CharlstmError("there is no turn to write again yet", "type a line first")
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
        raise CharlstmError(f"{value!r} is no number", f"for example {example}") from None


def _ask() -> str:
    try:
        return input("> ")
    except KeyboardInterrupt:
        print()  # the shell's prompt goes on a line of its own
        raise


def _line_reader() -> Callable[[], str]:
    """Reads a line: with editing and history on a terminal, else as it comes from stdin."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        try:
            import readline  # noqa: F401  input() edits lines with it
        except ImportError:  # Windows edits lines by itself
            pass
        return _ask

    stream: Any = sys.stdin
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape")

    def read() -> str:
        line = stream.readline(MAX_LINE)
        if not line:
            raise EOFError
        return str(line).rstrip("\r\n")

    return read
