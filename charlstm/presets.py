"""The settings a run gets when the user leaves them open, by size of the text, and advice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from charlstm.config import TrainConfig
from charlstm.errors import check_choice, plural, require
from charlstm.net.model_config import ModelConfig

if TYPE_CHECKING:  # numpy must not come before charlstm.train, which sets its threads
    from charlstm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Preset:
    """A model's size and its training budget; docs/reference/defaults.md lists them all."""

    hidden_size: int
    layers: int
    embedding_size: int
    batch: int
    bptt: int
    dropout: float
    """At most; of few epochs there is less."""
    characters: int
    """Characters read in all: the default budget is this many, over the corpus's size."""
    minutes: float
    """What reading them takes on two cores, about."""


PRESETS = {
    "tiny": Preset(256, 1, 32, 8, 64, 0.5, 240_000, 0.1),
    "quick": Preset(256, 1, 64, 16, 64, 0.3, 6_000_000, 1.6),
    "small": Preset(192, 3, 64, 16, 64, 0.3, 6_000_000, 3),
    "medium": Preset(192, 3, 64, 32, 64, 0.1, 4_000_000, 1.6),
    "large": Preset(320, 3, 64, 32, 64, 0.15, 9_000_000, 8),
    "huge": Preset(512, 3, 64, 32, 64, 0.3, 12_000_000, 30),
}
DROPOUT_MASKS = 4
"""Of a stream and step, where the output layer, run once for each, is at most a sixth of the
model."""
DISTILLATION = 0.7
"""The weight of a teacher's predictions beside the text's own characters."""
LEAST_DROPOUT = 0.1
"""For a text that is hardly read twice and therefore not memorised; and with a teacher, whose
predictions prevent that better (docs/research/experiments/teachers.md)."""
FEW_EPOCHS, FALL = 5.0, 3.0
"""In more epochs than these few the rate falls in the last three only: at a low rate a model
memorises its text (docs/research/experiments/schedule-and-dropout.md)."""
MAX_EPOCHS = 30.0
MOST_CHARACTERS = 20_000_000
"""A longer text is not read to its end by default: that would take hours."""


def default_preset(characters: int, minutes: float | None = None) -> str:
    """The preset for a text of this size and, where it is given, a time.

    A large model would only memorise a small text; in a short time a small model gets
    further, because it takes more steps.
    """
    if characters < 20_000:
        return "tiny"
    if minutes is not None and minutes < 1:
        return "quick"
    if characters < 400_000:
        return "small"
    return "medium" if minutes is not None and minutes < 5 else "large"


def default_settings(
    characters: int,
    vocab_size: int,
    *,
    preset: str | None = None,
    with_teacher: bool = False,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
) -> tuple[ModelConfig, TrainConfig]:
    """The settings of a new run on a text of ``characters`` characters.

    ``preset`` is a name in ``PRESETS``, or None for the one that suits the text and the time.
    ``model`` and ``train`` hold the fields of the two configurations that the user chose; all
    others have their defaults.

    Raises:
        UsageError: there is no such preset, or a value is out of its range.
    """
    if preset is not None:
        check_choice("`preset`", preset, PRESETS)
    given = dict(train or {})
    chosen = PRESETS[preset or default_preset(characters, given.get("minutes"))]
    shape: dict[str, Any] = {
        "cell": "lstm",
        "embedding_size": chosen.embedding_size,
        "hidden_size": chosen.hidden_size,
        "layers": chosen.layers,
    }
    if not given.keys() & {"epochs", "steps", "minutes"}:
        given["epochs"] = default_epochs(chosen, characters)
    config = ModelConfig(vocab_size=vocab_size, **{**shape, **(model or {})})
    small_output = 6 * DROPOUT_MASKS * vocab_size * config.hidden_size <= config.parameters
    values: dict[str, Any] = {
        "batch": chosen.batch,
        "bptt": chosen.bptt,
        "dropout": LEAST_DROPOUT,
        "dropout_masks": DROPOUT_MASKS if small_output else 1,
        "distillation": DISTILLATION if with_teacher else 0.0,
    }
    settings = TrainConfig(**{**values, **given})
    if settings.distillation:
        return config, settings
    epochs = _epochs(chosen, characters, settings)
    by_epochs = {"dropout": default_dropout(chosen, epochs), "hold": default_hold(epochs)}
    return config, replace(settings, **(by_epochs | given))


def default_epochs(preset: Preset, characters: int) -> float:
    """Enough to read the preset's number of characters, or the whole text where it is longer.

    A small text is read at most 30 times, of a very long one 20 million characters.
    """
    wanted = max(preset.characters, min(characters, MOST_CHARACTERS)) / max(1, characters)
    return min(MAX_EPOCHS, float(f"{wanted:.2g}"))


def default_dropout(preset: Preset, epochs: float) -> float:
    """0.1 for two epochs, and a tenth more for each further one, up to the preset's."""
    return min(preset.dropout, max(LEAST_DROPOUT, round((epochs - 1) / 10, 2)))


def default_hold(epochs: float) -> float:
    """None of few epochs, else so much of them that the rate falls in the last three."""
    return min(0.99, round(1 - FALL / epochs, 2)) if epochs > FEW_EPOCHS else 0.0


def _epochs(preset: Preset, characters: int, train: TrainConfig) -> float:
    """How often a budget reads the text; one in minutes at about the speed of two cores."""
    if train.epochs is not None:
        return train.epochs
    if train.steps is not None:
        return train.steps * train.batch * train.bptt / max(1, characters)
    assert train.minutes is not None
    return train.minutes / preset.minutes * preset.characters / max(1, characters)


LITTLE = 10_000
"""Characters below which a text is too short to learn its style."""
GIB = 2**30
MUCH, FAR_TOO_MUCH = 0.8, 2.0
"""Times the memory that is there: what deserves a note, and what is refused. The need is estimated
roughly, and a system can move some of it to disk."""

RARE_FRACTION = 0.01
"""Fraction of a text that characters make up which occur hardly ever, above which there is a note:
any text has some of them."""
MANY_SYMBOLS, FEW_BYTES = 0.25, 1.1
"""Symbols that take this fraction of the parameters, for a text of fewer bytes per character."""


def advice(
    model: ModelConfig, vocab: "Vocabulary", counts: Sequence[int], train: TrainConfig
) -> list[str]:
    """What a user might want to know before the run starts, a sentence each.

    ``counts`` says how often the text has each symbol of the vocabulary.
    """
    notes: list[str] = []
    characters = sum(counts)
    if model.parameters > 30 * characters and characters < LITTLE:
        notes.append(
            f"{characters:,} characters are little to learn from: what it writes may be "
            "gibberish; give more text, or let it memorise this one: `val_fraction` 0, `steps` 500"
        )
    elif model.parameters > 30 * characters:
        notes.append(
            f"{model.parameters:,} parameters for {characters:,} characters: the model will "
            "memorise the text; more text or a smaller `hidden_size` would help"
        )
    few = [count for count in counts if 0 < count < 5]
    rare = len(few)
    if sum(few) > RARE_FRACTION * characters:
        notes.append(
            f"{rare:,} of {plural(len(counts), 'character')} {'occurs' if rare == 1 else 'occur'} "
            f"fewer than 5 times: the model will hardly learn {'it' if rare == 1 else 'them'}"
        )
    fraction = len(vocab) * (model.embedding_size + model.hidden_size + 1) / model.parameters
    if len(vocab) >= 2 * 256 and fraction > MANY_SYMBOLS:  # fewer would save little
        lengths = [len(symbol.encode("utf-8", "surrogatepass")) for symbol in vocab.symbols]
        if (
            sum(n * count for n, count in zip(lengths, counts, strict=True))
            < FEW_BYTES * characters
        ):
            notes.append(
                f"{len(vocab):,} characters take {fraction:.0%} of the parameters, most of them "
                "for hardly any text: with `as_bytes`, which has 256 symbols, it learns faster"
            )
    needed, present = _memory(model, train)
    if present is not None and needed > MUCH * present:
        notes.append(
            f"training wants about {needed / GIB:.1f} GiB of memory, and there are "
            f"{present / GIB:.1f}: use a smaller `hidden_size`, `batch` or `bptt`"
        )
    return notes


def require_memory(model: ModelConfig, train: TrainConfig) -> None:
    """Raise ``UsageError`` if training needs far more memory than this process may have."""
    needed, present = _memory(model, train)
    require(
        present is None or needed <= FAR_TOO_MUCH * present,
        f"training wants about {needed / GIB:,.0f} GiB of memory, and there are "
        f"{(present or 0) / GIB:.1f}",
        "use a smaller `hidden_size`, `batch` or `bptt`",
    )


def _memory(model: ModelConfig, train: TrainConfig) -> tuple[int, int | None]:
    """Bytes that training needs, and those that this process may have, where that is known."""
    from charlstm.files import memory_present  # here: help texts need presets, and no files

    return memory_needed(model, train), memory_present()


def memory_needed(model: ModelConfig, train: TrainConfig) -> int:
    """Bytes, roughly: weights, gradients, average, two moments, a rollback copy, activations."""
    copies = 10
    per_mask = model.hidden_size + 3 * model.vocab_size
    per_character = 16 * model.hidden_size * model.layers + train.dropout_masks * per_mask
    return 4 * (copies * model.parameters + train.batch * train.bptt * per_character) + (300 << 20)
