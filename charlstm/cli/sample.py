"""``charlstm sample``."""

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any

import typer

from charlstm.cli.options import Checkpoint, Unknown, example, note
from charlstm.errors import UsageError

FILTERS, PRIMING = "Choosing characters", "Beginning"


EXAMPLES = example(
    "charlstm sample --temp 0.8",
    'charlstm sample --prime "ROMEO:" --length 500 --seed 7',
    "charlstm sample --length 0 --min-p 0.05      without end, until Ctrl-C",
    'charlstm sample --stop "THE END" > story.txt',
)


def sample(
    checkpoint: Checkpoint = None,
    length: Annotated[
        int, typer.Option("--length", "-n", help="Characters to write; 0 writes without end.")
    ] = 1000,
    temp: Annotated[
        float,
        typer.Option(help="0 takes the most likely character, 1 the model's own chances."),
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same text; drawn and told if left out."),
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; may be given several times.")
    ] = None,
    top_k: Annotated[
        int, typer.Option(help="Only the k most likely; 0 for all.", rich_help_panel=FILTERS)
    ] = 0,
    top_p: Annotated[
        float,
        typer.Option(help="Only the most likely that reach p together.", rich_help_panel=FILTERS),
    ] = 1.0,
    min_p: Annotated[
        float,
        typer.Option(
            help="Only those at least this share as likely as the most likely.",
            rich_help_panel=FILTERS,
        ),
    ] = 0.0,
    repeat_penalty: Annotated[
        float,
        typer.Option(help="Above 1, recent characters get less likely.", rich_help_panel=FILTERS),
    ] = 1.0,
    repeat_window: Annotated[
        int, typer.Option(help="How many characters are recent.", rich_help_panel=FILTERS)
    ] = 64,
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
) -> int:
    """Let a model write."""
    from charlstm.cli.common import open_model, read_text, unknown_policy
    from charlstm.config import check_number
    from charlstm.model import new_seed
    from charlstm.sampling import SamplingConfig

    if prime is not None and prime_file is not None:
        raise UsageError("--prime and --prime-file are both given", "give one of them")
    policy = unknown_policy(unknown)
    # Told before anything else is said: what generate() would find out later.
    SamplingConfig(temp, top_k, top_p, min_p, repeat_penalty, repeat_window)
    check_number("--length", length, 0)
    if seed is not None:
        check_number("--seed", seed, 0)
    model = open_model(checkpoint)
    as_bytes = model.file.vocab.kind == "bytes"
    text = prime or ""
    if prime_file is not None:
        text = read_text(prime_file, as_bytes=as_bytes)
    chosen = seed
    if chosen is None:
        chosen = new_seed()
        note(f"seed {chosen}")
    pieces = model.generate(
        text,
        length=None if length == 0 else length,
        temperature=temp,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repeat_penalty=repeat_penalty,
        repeat_window=repeat_window,
        stop=stop or (),
        seed=chosen,
        unknown=policy,
    )
    shown = model.file.vocab.decode(model.file.vocab.encode(text, policy)) if echo else ""
    _write(shown, pieces, raw=as_bytes)
    return 0


def _write(before: str, pieces: Iterator[str], *, raw: bool) -> None:
    """Stream text to stdout. A terminal gets no control characters, a pipe the exact text."""
    from charlstm.show.text import printable

    terminal = sys.stdout.isatty()
    if not terminal:
        errors = "surrogateescape" if raw else "strict"
        _reconfigure(sys.stdout, encoding="utf-8", errors=errors, newline="")
    try:
        for piece in chain([before], pieces):
            sys.stdout.write(printable(piece) if terminal else piece)
            if terminal:
                sys.stdout.flush()
    finally:
        if terminal:
            sys.stdout.write("\n")
        sys.stdout.flush()


def _reconfigure(stream: Any, **settings: Any) -> None:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(**settings)
