"""``charlstm sample``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.cli.conversation import Conversation
from charlstm.cli.inputs import (
    Reader,
    check_one_model,
    items_of,
    note_no_kernel,
    only_model,
    open_voice,
    precision_of,
    progress_of,
    read_text,
    training_text,
    unknown_policy,
)
from charlstm.cli.options import (
    Checkpoints,
    Mix,
    check_outputs,
    check_together,
    default,
    example,
    note,
    note_no_colors,
)
from charlstm.cli.output import Output
from charlstm.cli.sample_options import Priming, Sampling, States, Writing
from charlstm.cli.signals import interruptible, uninterrupted
from charlstm.errors import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charlstm.generate.text_state import TextState
    from charlstm.generate.writing import Text
    from charlstm.model import Voice
    from charlstm.text.vocabulary import Vocabulary

LENGTH, TURN = 1000, 300
BETWEEN = "\n%\n"
"""Separator between the texts of a batch, as in fortune files."""
APART = (
    ("--prime", "--prime-file"),
    ("--interactive", "--count"),
    ("--interactive", "--prime-file -"),
    ("--length 0", "--count"),
    ("--interactive", "--novelty"),
    ("--length 0", "--novelty"),
    ("--save-state", "--count"),
    ("--color", "--count"),
    ("--interactive", "--new"),
    ("--length 0", "--new"),
    ("--save-state", "--new"),
    ("--color", "--new"),
)
"""Options that cannot be used together."""

EXAMPLES = example(
    "charlstm sample --temp 0.8",
    'charlstm sample --prime "ROMEO:" --length 500 --seed 7',
    "charlstm sample --length 0 --min-p 0.05      no limit: stop with Ctrl-C",
    'charlstm sample --stop "THE END" > story.txt',
    "charlstm sample --interactive --state story.state --save-state story.state",
    "charlstm sample --count 20 --length 300 --novelty",
    "charlstm sample -c names --count 20 --new    items of a list that are not in it",
    'charlstm sample --match "Qu[a-z]{6}"          a text that matches',
    "charlstm sample -c shakespeare -c code --mix 0.7,0.3",
)


def sample(
    checkpoint: Checkpoints = None,
    mix: Mix = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length",
            "-n",
            help="Number of characters to generate; 0 for no limit."
            + default(f"{LENGTH}; {TURN} per turn with --interactive"),
            show_default=False,
        ),
    ] = None,
    *,
    sampling: Sampling,
    writing: Writing,
    priming: Priming,
    states: States,
) -> int:
    """Generate text with a model."""
    # A single text needs only matrix-vector products, which a second thread does not speed up.
    # Set before numpy is imported; a batch and the user's own setting are left alone.
    if writing.count == 1:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from charlstm.generate.sampling import SamplingConfig

    # Reject wrong settings before loading the model.
    policy, precision = unknown_policy(priming.unknown), precision_of(writing.precision)
    config = SamplingConfig(**sampling.given())
    _check(length, writing, priming, states)
    check_one_model(
        checkpoint,
        new=writing.new,
        novelty=writing.novelty,
        save_state=states.save_state is not None,
        state=states.state is not None,
    )
    _note_unusual(sampling, writing, priming)

    model = open_voice(checkpoint, mix)
    start = _start(states, model)
    vocab = model.vocab
    separator = vocab.separator
    known = writing.new or (writing.novelty and separator)
    items = items_of(only_model(model)) if known else set[str]()
    training = training_text(only_model(model)) if writing.novelty and not separator else None
    as_bytes = vocab.kind == "bytes"
    given = priming.prime or ""
    if priming.prime_file is not None:
        given = read_text(priming.prime_file, as_bytes=as_bytes)
    reader = Reader(vocab, policy)
    prime = reader.encode(given)
    reader.note_stops(writing.stop or ())
    if sampling.ban and not len(vocab.encode(vocab.known_form(sampling.ban), "skip")):
        note("note: `ban` has no effect: none of these characters is in the vocabulary")
    begun = bool(given or writing.interactive or start or separator)
    seed = _seed(writing, "" if begun else vocab.decode(vocab.opening().tolist()))
    output = Output(raw=as_bytes, color=writing.color)
    if writing.color:
        _explain_color(output)
    if given or not writing.interactive:
        start = model.prefill(prime, start, progress=progress_of(len(prime)), precision=precision)
    shown = vocab.decode(prime) if priming.echo else ""
    lead = _begun_item(start, vocab)
    stop = writing.stop or []
    characters = (TURN if writing.interactive else LENGTH) if length is None else length
    note_no_kernel(precision, len(prime) + (characters or inf) * writing.count)
    texts: list[str] = []
    if writing.count > 1 or writing.new:
        texts = model.generate_batch(
            count=writing.count,
            length=characters,
            stop=stop,
            seed=seed,
            state=start,
            accept=(lambda text: lead + text not in items) if writing.new else None,
            progress=progress_of(writing.count * characters),
            sampling=config,
            precision=precision,
        )
        output.write((separator or BETWEEN).join(shown + one for one in texts))
        output.close(separator if texts else None)
        if len(texts) < writing.count:
            remedy = "try a higher `temperature`" if config.match == "" else "loosen `match`"
            note(f"note: found {len(texts):,} of {writing.count:,} new items; {remedy}")
        elif len(texts) > 1 and len(set(texts)) == 1:
            note(f"note: all {len(texts):,} texts are identical")
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
            precision=precision,
        )
        with _saving(states.save_state, model, talk):
            talk.run(shown, echo=priming.echo)
    else:
        collect = writing.novelty or (separator is not None and characters > 0)
        text = model.generate(
            length=characters or None,
            stop=stop,
            seed=seed,
            state=start,
            surprise=output.tinted,
            sampling=config,
            precision=precision,
        )
        with _saving(states.save_state, model, text):
            try:
                texts = [output.show(text, shown, collect=collect)]
            finally:
                output.close(separator)
    if separator and not config.match:
        _note_cut(texts, characters, vocab)
    if training is not None:
        _note_novelty(texts, seed, *training)
    elif writing.novelty:
        _note_new([lead + text for text in texts], items)
    return 0


def _check(length: int | None, writing: Writing, priming: Priming, states: States) -> None:
    """Raise ``UsageError`` for values out of range and for options that exclude each other."""
    from charlstm.errors import check_integer
    from charlstm.model import MAX_LENGTH, check_count

    if length is not None:
        check_integer("`length`", length, 0, MAX_LENGTH)
    if writing.seed is not None:
        check_integer("`seed`", writing.seed, 0)
    check_count(writing.count)
    given = {
        "--prime": priming.prime is not None,
        "--prime-file": priming.prime_file is not None,
        "--prime-file -": priming.prime_file == "-" and not sys.stdin.isatty(),
        "--interactive": writing.interactive,
        "--length 0": length == 0,
        "--count": writing.count > 1,
        "--novelty": writing.novelty,
        "--save-state": states.save_state is not None,
        "--color": writing.color,
        "--new": writing.new,
    }
    for pair in APART:
        check_together(*((name, given[name]) for name in pair))
    check_outputs(save_state=states.save_state)


def _note_unusual(sampling: Sampling, writing: Writing, priming: Priming) -> None:
    """Point out values that are allowed but probably not intended."""
    _note_backslashes(
        prime=[priming.prime or ""], stop=writing.stop or [], ban=[sampling.ban or ""]
    )
    prime = priming.prime
    if prime and os.path.isfile(prime):
        note(f"treating {prime!r} as text, not a file name; to read the file, use --prime-file")
    if sampling.repeat_penalty > 1:
        note(
            "note: `repeat_penalty` affects nearly every letter, since common letters are always "
            "recent; to prevent repeated passages, use `dry` 0.8"
        )
    primed = writing.interactive or priming.prime is not None or priming.prime_file is not None
    for sentence in _without_effect(sampling, primed, priming.echo, priming.unknown):
        note(f"note: {sentence}")


def _seed(writing: Writing, opening: str) -> int:
    """The seed of the first text; a random one is reported, with the default prime."""
    from charlstm.model import new_seed

    if writing.seed is not None:
        return writing.seed
    seed = new_seed()
    seeds = f"seed {seed}" if writing.count == 1 else f"seeds {seed} to {seed + writing.count - 1}"
    if writing.precision != Writing.precision:
        seeds += f" in {writing.precision}"
    note(f"{seeds}; no prime, so the text begins after {opening!r}" if opening else seeds)
    return seed


def _without_effect(sampling: Sampling, primed: bool, echo: bool, unknown: str) -> Iterator[str]:
    """The options that have no effect with the others, and why."""
    filters = {
        "top_k": sampling.top_k > 1,
        "top_p": sampling.top_p < 1,
        "min_p": sampling.min_p > 0,
    }
    filtered = " and ".join(f"`{name}`" for name, is_given in filters.items() if is_given)
    if sampling.temperature == 0 and filtered:
        yield f"{filtered} has no effect: `temperature` 0 takes the most likely character anyway"
    if sampling.repeat_window != Sampling.repeat_window and sampling.repeat_penalty == 1:
        yield "`repeat_window` has no effect without `repeat_penalty`"
    for field in ("dry_base", "dry_length"):
        if getattr(sampling, field) != getattr(Sampling, field) and sampling.dry == 0:
            yield f"`{field}` has no effect without `dry`"
    if not primed and not echo:
        yield "--no-echo has no effect: there is no prime"
    if not primed and unknown != "error":
        yield "`unknown` has no effect: there is no prime"


def _note_backslashes(**texts: list[str]) -> None:
    """Explain how to pass a newline, if an option has a backslash and an n."""
    for option, given in texts.items():
        for text in given:
            if "\\n" in text:
                meant = text.replace("'", "\\'")
                note(
                    f"note: --{option} has a literal backslash and n; for a newline, in most "
                    f"shells: --{option} $'{meant}'"
                )
                return


def _start(states: States, model: "Voice") -> "TextState | None":
    """The state of --state. A file that --save-state is to make need not exist yet."""
    if states.state is None:
        return None
    if states.state == states.save_state and not os.path.lexists(states.state):
        note(f"{states.state} does not exist yet; starting a new text")
        return None
    return only_model(model).load_state(states.state)


@contextmanager
def _saving(path: str | None, model: "Voice", text: "Text | Conversation") -> Iterator[None]:
    """Save the resume state of ``text`` at the end, whether it finishes, fails or is stopped."""

    def save() -> None:
        with uninterrupted():
            if path is not None and (state := text.state) is not None:
                only_model(model).save_state(path, state)

    with interruptible():
        try:
            yield
        finally:
            try:
                save()
            except KeyboardInterrupt:  # a signal came before they were ignored
                save()
                raise


def _explain_color(output: Output) -> None:
    if not output.tinted:
        note_no_colors()
        return
    from charlstm.show.console import stderr_console
    from charlstm.show.surprise import legend

    stderr_console().print(legend())


def _begun_item(start: "TextState | None", vocab: "Vocabulary") -> str:
    """What the prime and the resume state have of the item of a list that is to be completed."""
    if start is None or vocab.separator is None:
        return ""
    return vocab.decode(start.recent).rpartition(vocab.separator)[2]


def _note_cut(texts: list[str], length: int, vocab: "Vocabulary") -> None:
    """Report items that did not end within ``length``."""
    cut = sum(len(vocab.encode(text)) == length for text in texts)
    if cut:
        note(f"note: {cut:,} of {plural(len(texts), 'item')} cut at `length` {length:,}")


def _note_new(texts: list[str], items: set[str]) -> None:
    """Report how many generated items are not in the list."""
    new = sum(text not in items for text in texts)
    note(
        f"{new:,} of {plural(len(texts), 'item')} not in the list "
        f"({new / max(1, len(texts)):.1%}); {len(set(texts)):,} different"
    )


def _note_novelty(
    texts: list[str], seed: int, corpus: "NDArray[np.unsignedinteger]", vocab: "Vocabulary"
) -> None:
    from charlstm.generate.novelty import novelty

    found = novelty(texts, corpus, vocab)
    copied = found.copied if found.longest <= 60 else found.copied[:60] + "…"
    # In bytes, because a copy of a model of bytes may begin within a character.
    data, *written = (t.encode("utf-8", "surrogateescape") for t in (found.copied, *texts))
    copier = next((n for n, text in enumerate(written) if data in text), 0)
    of = f" (seed {seed + copier})" if len(texts) > 1 else ""
    unit = "byte" if vocab.kind == "bytes" else "character"
    note(
        f"longest copy from the training text: {plural(found.longest, unit)}{of}, "
        f"{copied!r}; "
        f"{found.new_words:,} of {plural(found.words, 'word')} not in it ({found.new_fraction:.1%})"
        + (f", in all {len(texts)} texts" if len(texts) > 1 else "")
    )
