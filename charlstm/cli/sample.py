"""``charlstm sample``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.cli.conversation import Conversation
from charlstm.cli.inputs import (
    Reader,
    open_model,
    progress_of,
    read_text,
    training_text,
    unknown_policy,
)
from charlstm.cli.options import (
    Checkpoint,
    OptionGroup,
    Unknown,
    check_outputs,
    check_together,
    example,
    note,
    note_no_colors,
    one_of,
)
from charlstm.cli.output import Output
from charlstm.cli.signals import interruptible, uninterrupted
from charlstm.errors import plural, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charlstm.generate.writing import Text
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
    ("--interactive", "--prime-file -"),
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


class Sampling(OptionGroup):
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


class Writing(OptionGroup):
    """How many texts are written, from which seed, and how they are shown."""

    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same text; drawn and shown if left out."),
    ] = None
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; may be given several times.")
    ] = None
    count: Annotated[
        int, typer.Option(help="Write this many texts side by side, with the seeds that follow.")
    ] = 1
    interactive: Annotated[
        bool,
        typer.Option("--interactive", "-i", help="Take turns: type a line, the model goes on."),
    ] = False
    color: Annotated[
        str | None,
        typer.Option(
            metavar="surprise",
            help="Tint each character by how unlikely it was.",
            autocompletion=one_of("surprise"),
            show_default=False,
        ),
    ] = None
    novelty: Annotated[
        bool,
        typer.Option("--novelty", help="Say what was copied from the training text."),
    ] = False


class Priming(OptionGroup):
    """The text given first."""

    prime: Annotated[
        str | None,
        typer.Option(
            help="Text to go on from; left out, a newline, so that a line begins.",
            rich_help_panel=PRIMING,
        ),
    ] = None
    prime_file: Annotated[
        str | None,
        typer.Option(help="File to go on from; - for stdin.", rich_help_panel=PRIMING),
    ] = None
    echo: Annotated[
        bool,
        typer.Option("--echo/--no-echo", help="Print the prime too.", rich_help_panel=PRIMING),
    ] = True
    unknown: Unknown = "error"


class States(OptionGroup):
    """Files of resume states."""

    save_state: Annotated[
        str | None,
        typer.Option(help="Keep h and c in this file at the end.", rich_help_panel=STATES),
    ] = None
    state: Annotated[
        str | None,
        typer.Option(help="Go on from the h and c in this file.", rich_help_panel=STATES),
    ] = None


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
    writing: Writing,
    priming: Priming,
    states: States,
) -> int:
    """Let a model write."""
    # One stream multiplies matrices with vectors: a second thread waits for memory, too, and
    # spins. Set before numpy is imported; a batch and a user's own choice are left alone.
    if writing.count == 1:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from charlstm.generate.sampling import SamplingConfig

    # Wrong settings are refused before the model is opened.
    policy = unknown_policy(priming.unknown)
    config = SamplingConfig(**vars(sampling))
    _check(length, writing, priming, states)
    _note_unusual(sampling, writing, priming)

    model = open_model(checkpoint)
    start = None if states.state is None else model.load_state(states.state)
    training = training_text(model) if writing.novelty else None
    vocab = model.file.vocab
    as_bytes = vocab.kind == "bytes"
    given = priming.prime or ""
    if priming.prime_file is not None:
        given = read_text(priming.prime_file, as_bytes=as_bytes)
    reader = Reader(vocab, policy)
    prime = reader.encode(given)
    reader.note_stops(writing.stop or ())
    begun = bool(given or writing.interactive or start)
    seed = _seed(writing, "" if begun else vocab.decode(vocab.opening().tolist()))
    output = Output(raw=as_bytes, color=writing.color is not None)
    if writing.color is not None:
        _explain_color(output)
    if given or not writing.interactive:
        start = model.prefill(prime, start, progress=progress_of(len(prime)))
    shown = vocab.decode(prime) if priming.echo else ""
    stop = writing.stop or []
    characters = (TURN if writing.interactive else LENGTH) if length is None else length
    texts: list[str] = []
    if writing.count > 1:
        texts = model.generate_batch(
            count=writing.count,
            length=characters,
            stop=stop,
            seed=seed,
            state=start,
            sampling=config,
        )
        output.write(BETWEEN.join(shown + one for one in texts))
        output.close()
    elif writing.interactive:
        talk = Conversation(
            model,
            reader,
            output,
            start=start,
            seed=seed,
            length=characters,
            stop=stop,
            sampling=config,
        )
        with _saving(states.save_state, model, talk):
            talk.run(shown, echo=priming.echo)
    else:
        text = model.generate(
            length=characters or None,
            stop=stop,
            seed=seed,
            state=start,
            surprise=output.tinted,
            sampling=config,
        )
        with _saving(states.save_state, model, text):
            try:
                texts = [output.show(text, shown, collect=writing.novelty)]
            finally:
                output.close()
    if training is not None:
        _note_novelty(texts, seed, *training)
    return 0


def _check(length: int | None, writing: Writing, priming: Priming, states: States) -> None:
    """Raise ``UsageError`` for a value out of its range, and for options that exclude others."""
    from charlstm.errors import check_integer
    from charlstm.model import MAX_LENGTH, check_count

    if length is not None:
        check_integer("`length`", length, 0, MAX_LENGTH)
    if writing.seed is not None:
        check_integer("`seed`", writing.seed, 0)
    check_count(writing.count)
    color = writing.color
    require(color in (None, "surprise"), f"`color` is {color!r}", "there is --color surprise")
    given = {
        "--prime": priming.prime is not None,
        "--prime-file": priming.prime_file is not None,
        "--prime-file -": priming.prime_file == "-" and not sys.stdin.isatty(),
        "--interactive": writing.interactive,
        "--length 0": length == 0,
        "--count": writing.count > 1,
        "--novelty": writing.novelty,
        "--save-state": states.save_state is not None,
        "--color": color is not None,
    }
    for pair in APART:
        check_together(*((name, given[name]) for name in pair))
    check_outputs(save_state=states.save_state)


def _note_unusual(sampling: Sampling, writing: Writing, priming: Priming) -> None:
    """Point out values that are allowed and hardly meant."""
    _note_backslashes(priming.prime, writing.stop)
    prime = priming.prime
    if prime and os.path.isfile(prime):
        note(f"treating {prime!r} as text; to go on from what is in that file: --prime-file")
    if sampling.repeat_penalty > USEFUL_PENALTY:
        note(
            f"note: a repeat penalty above {USEFUL_PENALTY} spoils the text of most models of "
            f"characters; 1.02 to {USEFUL_PENALTY} is useful"
        )

    primed = writing.interactive or priming.prime is not None or priming.prime_file is not None
    for sentence in _without_effect(sampling, writing.count, primed, priming.echo, priming.unknown):
        note(f"note: {sentence}")


def _seed(writing: Writing, opening: str) -> int:
    """The seed of the first text; a random one is reported, with what stands for a prime."""
    from charlstm.model import new_seed

    if writing.seed is not None:
        return writing.seed
    seed = new_seed()
    seeds = f"seed {seed}" if writing.count == 1 else f"seeds {seed} to {seed + writing.count - 1}"
    note(f"{seeds}; with no prime, the text begins after {opening!r}" if opening else seeds)
    return seed


def _without_effect(
    sampling: Sampling, count: int, primed: bool, echo: bool, unknown: str
) -> Iterator[str]:
    """Which options do nothing next to the others, and why."""
    filters = {
        "top_k": sampling.top_k > 1,
        "top_p": sampling.top_p < 1,
        "min_p": sampling.min_p > 0,
    }
    filtered = " and ".join(f"`{name}`" for name, is_given in filters.items() if is_given)
    if sampling.temperature == 0 and filtered:
        yield f"no effect: {filtered}; `temperature` 0 takes the most likely character anyway"
    certain = {"`temperature` 0": sampling.temperature == 0, "`top_k` 1": sampling.top_k == 1}
    certain["`min_p` 1"] = sampling.min_p == 1
    if count > 1 and any(certain.values()):
        reason = next(name for name, is_given in certain.items() if is_given)
        yield f"all {count} texts are the same: with {reason} no character is random"
    if sampling.repeat_window != Sampling.repeat_window and sampling.repeat_penalty == 1:
        yield "`repeat_window` has no effect without `repeat_penalty`"
    if not primed and not echo:
        yield "--no-echo has no effect: there is no prime"
    if not primed and unknown != "error":
        yield "`unknown` has no effect: it is about the characters of a prime, and there is none"


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
def _saving(path: str | None, model: "Model", text: "Text | Conversation") -> Iterator[None]:
    """Save the state of ``text`` at the end, whatever ends it."""

    def save() -> None:
        with uninterrupted():
            if path is not None and (state := text.state) is not None:
                model.save_state(path, state)

    with interruptible():
        try:
            yield
        finally:
            try:
                save()
            except KeyboardInterrupt:  # a signal came before they were held off
                save()
                raise


def _explain_color(output: Output) -> None:
    if not output.tinted:
        note_no_colors()
        return
    from charlstm.show.console import stderr_console
    from charlstm.show.surprise import legend

    stderr_console().print(legend())


def _note_novelty(
    texts: list[str], seed: int, corpus: "NDArray[np.unsignedinteger]", vocab: "Vocabulary"
) -> None:
    from charlstm.generate.novelty import novelty

    found = novelty(texts, corpus, vocab)
    copied = found.copied if found.longest <= 60 else found.copied[:60] + "…"
    copier = next((n for n, text in enumerate(texts) if found.copied in text), 0)
    of = f", by the text of seed {seed + copier}" if len(texts) > 1 else ""
    note(
        f"longest run copied from the training text: {plural(found.longest, 'character')}{of}, "
        f"{copied!r}; "
        f"{found.new_words:,} of {found.words:,} words are not in it ({found.new_fraction:.1%})"
        + (f", of all {len(texts)} texts" if len(texts) > 1 else "")
    )
