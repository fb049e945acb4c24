"""``charlstm score``."""

import json
import sys
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.cli.inputs import (
    Reader,
    check_one_model,
    is_training_text,
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
    Color,
    Json,
    Mix,
    Precision,
    Unknown,
    check_together,
    default,
    example,
    note,
    note_no_colors,
)
from charlstm.errors import check_integer, plural

if TYPE_CHECKING:
    from charlstm.scoring import Score
    from charlstm.text.vocabulary import Vocabulary

EXAMPLES = example(
    "charlstm score chapter.txt",
    "charlstm score chapter.txt --color --top 10",
    "charlstm score chapter.txt --window 256      as nanoGPT does",
    "charlstm score chapter.txt -c one -c other      their mean probabilities",
    "cat chapter.txt | charlstm score - --json",
)


def score(
    file: Annotated[str, typer.Argument(help="Text to score; - for stdin.")],
    checkpoint: Checkpoints = None,
    mix: Mix = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Score windows of this many characters, each from zero state."
            + default("one pass that carries the state"),
            show_default=False,
        ),
    ] = None,
    segments: Annotated[
        int | None,
        typer.Option(
            help="Split the text into this many segments; each starts from the state after the 256 "
            "characters before it.",
            show_default=False,
        ),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="Keep training on the text while scoring it (dynamic evaluation; slow)."
        ),
    ] = False,
    color: Color = False,
    top: Annotated[int, typer.Option(help="Number of most surprising characters to list.")] = 0,
    precision: Precision = "float32",
    unknown: Unknown = "error",
    as_json: Json = False,
) -> int:
    """Measure how well a model predicts a text."""
    from charlstm.mixture import Mixture

    policy, computed_in = unknown_policy(unknown), precision_of(precision)
    check_integer("`top`", top, 0)
    if window is not None:
        check_integer("`window`", window, 1)
    if segments is not None:
        check_integer("`segments`", segments, 1)
    given = [("--window", window), ("--segments", segments), ("--adapt", adapt or None)]
    check_together(*((name, value is not None) for name, value in given))
    check_together(("--color", color), ("--json", as_json))
    check_together(("--adapt", adapt), ("--precision int8", computed_in == "int8"))
    check_one_model(checkpoint, adapt=adapt)
    model = open_voice(checkpoint, mix)
    vocab = model.vocab
    training = training_text(only_model(model))[0] if adapt else None
    reader = Reader(vocab, policy)
    text = reader.known_form(read_text(file, as_bytes=vocab.kind == "bytes"))
    read = reader.encode(text)
    ids = vocab.closed(read)
    progress = progress_of(len(ids))
    note_no_kernel(computed_in, len(ids))
    if training is not None:
        from charlstm.training.adaptive import score_adaptive

        result = score_adaptive(only_model(model).file, ids, training, progress=progress)
    else:
        from charlstm.scoring import score as compute

        result = compute(model.engine_in(computed_in), ids, window, progress, segments=segments)
    for one in model.models if isinstance(model, Mixture) else (only_model(model),):
        if is_training_text(one, text):
            note(
                f"note: most of this text is in the training part of {one.path.parent}; "
                "a new text would score worse"
            )
            break
    symbols = [*vocab.as_symbols(text), *(vocab.symbols[i] for i in ids[len(read) :])]
    found = _most_surprising(result, top, symbols, vocab, policy)
    voices: dict[str, list[Any]] = {}
    if isinstance(model, Mixture):
        voices = {"models": checkpoint or [], "mix": list(model.weights)}
    if as_json:
        document = result.to_dict() | voices
        if top:
            document["top"] = [
                {"position": position, "character": character, "surprise_bits": bits}
                for position, character, bits in found
            ]
        print(json.dumps(document))
        return 0
    from charlstm.show.console import stdout_console
    from charlstm.show.surprise import Tint, print_positions, print_tinted

    console = stdout_console()
    if color:
        if not Tint(console).has_color:
            note_no_colors()
        print_tinted(console, vocab.by_character(ids.tolist(), result.surprise_bits.tolist()))
    unit = "byte" if vocab.kind == "bytes" else "character"
    print(
        f"{result.bits_per_char:z.4f} bits per {unit}  {result.nats:z.4f} nats  "
        f"perplexity {result.perplexity:.3f}  {plural(result.characters, unit)}  {result.label}"
        + (f", mean of {len(voices['models'])} models" if voices else "")
    )
    if result.nats_per_item is not None:
        print(f"{result.nats_per_item:z.4f} nats per item, its end counted")
    if found:
        characters = list("".join(_separated(symbols, vocab)))
        print_positions(console, characters, {position: bits for position, _, bits in found})
    sys.stdout.flush()
    return 0


def _most_surprising(
    result: "Score", count: int, symbols: list[str], vocab: "Vocabulary", policy: str
) -> list[tuple[int, str, float]]:
    """Position in the text, character and surprise in bits; ``symbols`` are those of the text."""
    skipped = set(symbols) - set(vocab.symbols) if policy == "skip" else set()
    scored = [number for number, symbol in enumerate(symbols) if symbol not in skipped]
    shown = _separated(symbols, vocab)
    starts = [0, *accumulate(map(len, shown))]
    return [
        (starts[scored[i]], shown[scored[i]], float(result.surprise_bits[i]))
        for i in result.most_surprising(count)
    ]


def _separated(symbols: list[str], vocab: "Vocabulary") -> list[str]:
    """``symbols``, with the separator in place of the symbol that stands for it."""
    end = vocab.end_symbol
    return [vocab.separator or end if symbol == end else symbol for symbol in symbols]
