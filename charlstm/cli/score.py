"""``charlstm score``."""

import json
import sys
from typing import Annotated

import typer

from charlstm.cli.options import Checkpoint, Json, Unknown, example, note

EXAMPLES = example(
    "charlstm score chapter.txt",
    "charlstm score chapter.txt --window 256      nanoGPT's protocol",
    "cat chapter.txt | charlstm score - --json",
)


def score(
    file: Annotated[str, typer.Argument(help="The text; - for stdin.")],
    checkpoint: Checkpoint = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Score windows of so many characters, each from zero state; left out, one "
            "pass with the state carried.",
            show_default=False,
        ),
    ] = None,
    unknown: Unknown = "error",
    as_json: Json = False,
) -> int:
    """How well a model predicts a text."""
    from charlstm.cli.common import open_model, read_text, unknown_policy
    from charlstm.config import check_number
    from charlstm.scoring import score as compute

    policy = unknown_policy(unknown)
    if window is not None:
        check_number("--window", window, 1)
    model = open_model(checkpoint)
    vocab = model.file.vocab
    ids = vocab.encode(read_text(file, as_bytes=vocab.kind == "bytes"), policy)
    told = 0

    def progress(done: int) -> None:
        nonlocal told
        if sys.stderr.isatty() and done - told >= 100_000:
            told = done
            note(f"{done:,} of {len(ids):,} characters …")

    result = compute(model.engine, ids, window, progress)
    if as_json:
        print(json.dumps(result.to_dict()))
        return 0
    protocol = result.protocol if window is None else f"windowed, {window}"
    print(
        f"{result.bits_per_char:.4f} bits per character  {result.nats:.4f} nats  "
        f"perplexity {result.perplexity:.3f}  {result.characters:,} characters  {protocol}"
    )
    return 0
