"""``charlstm sample``."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.cli.conversation import Conversation, line_reader
from charlstm.cli.inputs import (
    known_form,
    note_unknown,
    open_model,
    progress_of,
    read_text,
    training_text,
    unknown_policy,
)
from charlstm.cli.options import (
    Checkpoint,
    Unknown,
    check_outputs,
    check_together,
    example,
    note,
    one_of,
)
from charlstm.cli.output import Output
from charlstm.cli.signals import interruptible, uninterrupted
from charlstm.errors import plural, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charlstm.generate.writing import Text, TextState
    from charlstm.model import Model
    from charlstm.text.vocabulary import Vocabulary

FILTERS, PRIMING, STATES = "Choosing characters", "Beginning", "Going on later"
LENGTH, TURN = 1000, 300
USEFUL_PENALTY = 1.1
BETWEEN = "\n%\n"
"""Between the texts of a batch, as in the files of fortune."""
APART = (
    ("--prime", "--prime-file"),
    ("--interactive", "--count"),
    ("--length 0", "--count"),
    ("--interactive", "--novelty"),
    ("--length 0", "--novelty"),
    ("--save-state", "--count"),
    ("--color", "--count"),
)
"""Options that cannot be given together."""

EXAMPLES = example(
    "charlstm sample --temp 0.8",
    'charlstm sample --prime "ROMEO:" --length 500 --seed 7',
    "charlstm sample --length 0 --min-p 0.05      without end, until Ctrl-C",
    'charlstm sample --stop "THE END" > story.txt',
    "charlstm sample --interactive --state story.state --save-state story.state",
    "charlstm sample --count 20 --length 300 --novelty",
)


@dataclass(frozen=True)
class Sampling:
    """The fields of ``SamplingConfig``."""

    temperature: Annotated[
        float,
        typer.Option(
            "--temp", help="0 takes the most likely character, 1 the model's own chances."
        ),
    ] = 1.0
    top_k: Annotated[
        int, typer.Option(help="Only the k most likely; 0 for all.", rich_help_panel=FILTERS)
    ] = 0
    top_p: Annotated[
        float,
        typer.Option(help="Only the most likely that reach p together.", rich_help_panel=FILTERS),
    ] = 1.0
    min_p: Annotated[
        float,
        typer.Option(
            help="Only those at least this fraction as likely as the most likely.",
            rich_help_panel=FILTERS,
        ),
    ] = 0.0
    repeat_penalty: Annotated[
        float,
        typer.Option(
            help="Above 1, recent characters get less likely; useful from 1.02 to 1.1.",
            rich_help_panel=FILTERS,
        ),
    ] = 1.0
    repeat_window: Annotated[
        int,
        typer.Option(
            help="How many characters are recent, the prime's too.", rich_help_panel=FILTERS
        ),
    ] = 64


def sample(
    checkpoint: Checkpoint = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length",
            "-n",
            help=f"Characters to write, {LENGTH} if left out, {TURN} a turn with --interactive; 0 "
            "writes without end.",
            show_default=False,
        ),
    ] = None,
    *,
    sampling: Sampling,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same text; drawn and shown if left out."),
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; may be given several times.")
    ] = None,
    count: Annotated[
        int, typer.Option(help="Write this many texts side by side, with the seeds that follow.")
    ] = 1,
    interactive: Annotated[
        bool,
        typer.Option("--interactive", "-i", help="Take turns: type a line, the model goes on."),
    ] = False,
    color: Annotated[
        str | None,
        typer.Option(
            metavar="surprise",
            help="Tint each character by how unlikely it was.",
            autocompletion=one_of("surprise"),
            show_default=False,
        ),
    ] = None,
    novelty: Annotated[
        bool,
        typer.Option("--novelty", help="Say what was copied from the training text."),
    ] = False,
    prime: Annotated[
        str | None, typer.Option(help="Text to go on from.", rich_help_panel=PRIMING)
    ] = None,
    prime_file: Annotated[
        str | None,
        typer.Option(help="File to go on from; - for stdin.", rich_help_panel=PRIMING),
    ] = None,
    echo: Annotated[
        bool,
        typer.Option("--echo/--no-echo", help="Print the prime too.", rich_help_panel=PRIMING),
    ] = True,
    unknown: Unknown = "error",
    save_state: Annotated[
        str | None,
        typer.Option(help="Keep h and c in this file at the end.", rich_help_panel=STATES),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(help="Go on from the h and c in this file.", rich_help_panel=STATES),
    ] = None,
) -> int:
    """Let a model write."""
    # One stream multiplies matrices with vectors: a second thread waits for memory, too, and
    # spins. Set before numpy is imported; a batch and a user's own choice are left alone.
    if count == 1:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from charlstm.generate.sampling import SamplingConfig
    from charlstm.model import new_seed

    # Wrong settings are refused before the model is opened.
    policy = unknown_policy(unknown)
    settings: dict[str, Any] = asdict(sampling)
    SamplingConfig(**settings)  # checks them
    _check_alone(length, seed, count, color)
    given = {
        "--prime": prime is not None,
        "--prime-file": prime_file is not None,
        "--interactive": interactive,
        "--length 0": length == 0,
        "--count": count > 1,
        "--novelty": novelty,
        "--save-state": save_state is not None,
        "--color": color is not None,
    }
    for pair in APART:
        check_together(*((name, given[name]) for name in pair))
    check_outputs(save_state=save_state)
    _note_backslashes(prime, stop)
    if sampling.repeat_penalty > USEFUL_PENALTY:
        note(
            f"note: a repeat penalty above {USEFUL_PENALTY} spoils the text of most models of "
            f"characters; 1.02 to {USEFUL_PENALTY} is useful"
        )

    model = open_model(checkpoint)
    vocab = model.file.vocab
    as_bytes = vocab.kind == "bytes"
    start = None if state is None else model.load_state(state)
    training = training_text(model) if novelty else None
    text = prime or "" if prime_file is None else read_text(prime_file, as_bytes=as_bytes)
    text = known_form(vocab, text)
    for one in stop or ():
        if missing := vocab.unknown(vocab.known_form(one)):
            note(f"--stop {one!r} never occurs: the model does not know {missing[0]!r}")
    if seed is None:
        seed = new_seed()
        note(f"seed {seed}" if count == 1 else f"seeds {seed} to {seed + count - 1}")
    output = Output(raw=as_bytes, color=color is not None)
    if color is not None:
        _explain_color(output)
    shown = vocab.decode(vocab.encode(text, policy)) if echo else ""
    note_unknown(vocab, text, policy)
    settings |= {"stop": stop or (), "unknown": policy}
    if text or not interactive:
        start = model.prefill(text, start, policy, progress_of(len(text)))
    if interactive:
        turn = TURN if length is None else length
        talk = Conversation(
            model, start, seed, turn, output, {**settings, "surprise": output.tinted}
        )
        with _keeping(save_state, model, lambda: talk.state):
            if output.terminal and sys.stdin.isatty():
                note("type the beginning of something; /help explains, Ctrl-D ends")
            output.write(shown)
            talk.run(line_reader(), echo=echo and not output.terminal)
            output.close()
        return 0
    settings |= {"seed": seed, "state": start}
    characters = LENGTH if length is None else length
    if count > 1:
        texts = model.generate_batch(count=count, length=characters, **settings)
        output.write(BETWEEN.join(shown + one for one in texts))
        output.close()
    else:
        stream = model.generate(length=characters or None, surprise=output.tinted, **settings)
        with _keeping(save_state, model, lambda: stream.state):
            texts = ["".join(_written(stream, output, shown, collect=novelty))]
    if training is not None:
        _note_novelty(texts, *training)
    return 0


def _check_alone(length: int | None, seed: int | None, count: int, color: str | None) -> None:
    """Raise ``UsageError`` for a value that no other option could make good."""
    from charlstm.errors import check_integer
    from charlstm.model import MAX_LENGTH, check_count

    if length is not None:
        check_integer("`length`", length, 0, MAX_LENGTH)
    if seed is not None:
        check_integer("`seed`", seed, 0)
    check_count(count)
    require(color in (None, "surprise"), f"`color` is {color!r}", "there is --color surprise")


def _note_backslashes(prime: str | None, stop: list[str] | None) -> None:
    """Say how the shell passes a newline, if an option seems to mean one."""
    for option, texts in (("--prime", [prime or ""]), ("--stop", stop or [])):
        for text in texts:
            if "\\n" in text:
                meant = text.replace("'", "\\'")
                note(
                    f"note: {option} has a backslash and an n, which are read as they stand; for a "
                    f"newline, in most shells: {option} $'{meant}'"
                )
                return


@contextmanager
def _keeping(
    path: str | None, model: "Model", state: "Callable[[], TextState | None]"
) -> Iterator[None]:
    """Whatever ends what is inside, save the state after it."""

    def save() -> None:
        with uninterrupted():
            if path is not None and (last := state()) is not None:
                model.save_state(path, last)

    with interruptible():
        try:
            yield
        finally:
            try:
                save()
            except KeyboardInterrupt:  # a signal came before they were held off
                save()
                raise


def _written(stream: "Text", output: Output, shown: str, *, collect: bool) -> list[str]:
    """Write ``shown`` and the text to stdout; return the text, if it is wanted, in pieces."""
    collected = []
    try:
        output.write(shown)
        for piece in stream:
            output.write(piece, stream.surprise(piece) if output.tinted else None)
            if collect:  # a text without end would fill the memory
                collected.append(piece)
    finally:
        output.close()
    return collected


def _explain_color(output: Output) -> None:
    if not output.tinted:
        note("there are no colours here; the text comes plain")
        return
    from charlstm.show.console import stderr_console
    from charlstm.show.surprise import legend

    stderr_console().print(legend())


def _note_novelty(
    texts: list[str], corpus: "NDArray[np.unsignedinteger]", vocab: "Vocabulary"
) -> None:
    from charlstm.generate.novelty import novelty

    found = novelty(texts, corpus, vocab)
    copied = found.copied if found.longest <= 60 else found.copied[:60] + "…"
    note(
        f"longest run copied from the training text: {plural(found.longest, 'character')}, "
        f"{copied!r}; "
        f"{found.new_words:,} of {found.words:,} words are not in it ({found.new_fraction:.1%})"
    )
