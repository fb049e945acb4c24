"""Default settings by size of the text and budget, and advice for the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from charlstm.config import MAX_BUDGET, MOST_GENERATIONS, TrainConfig
from charlstm.errors import check_choice, check_integer, check_number, plural, require
from charlstm.net.model_config import ModelConfig

if TYPE_CHECKING:  # numpy must not come before charlstm.training, which sets its threads
    from charlstm.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Preset:
    """A model size and its training budget; docs/reference/defaults.md lists all presets."""

    hidden_size: int
    layers: int
    embedding_size: int
    batch: int
    bptt: int
    dropout: float
    """Maximum dropout probability; few epochs use less."""
    characters: int
    """Default budget: characters read in total, over all epochs."""
    minutes: float
    """Approximate minutes for that budget on two cores."""


PRESETS = {
    "tiny": Preset(256, 1, 32, 8, 64, 0.5, 240_000, 0.1),
    "quick": Preset(256, 1, 64, 16, 64, 0.3, 6_000_000, 1.6),
    "small": Preset(192, 3, 64, 16, 64, 0.3, 6_000_000, 3),
    "medium": Preset(192, 3, 64, 32, 64, 0.1, 4_000_000, 1.6),
    "large": Preset(320, 3, 64, 32, 64, 0.15, 9_000_000, 8),
    "huge": Preset(512, 3, 64, 32, 64, 0.3, 12_000_000, 30),
}
DROPOUT_MASKS = 4
"""Default number of dropout masks, if evaluating the output layer once per mask costs at most a
sixth of the model."""
DISTILLATION = 0.7
"""Default weight of the teacher's predictions in the training objective."""
TAUGHT = 1.25
"""Time of a step with a teacher, over that of one without (docs/research/experiments/teachers.md:
9:20 against 7:33 for as many steps)."""
LEAST_DROPOUT = 0.1
"""Dropout probability for at most two epochs, which hardly memorise a text, and with a teacher,
whose predictions prevent memorising better (docs/research/experiments/teachers.md)."""
FEW_EPOCHS, FALL = 5.0, 3.0
"""Above this many epochs the learning rate decays in the last three only: at a low rate a model
memorises its text (docs/research/experiments/schedule-and-dropout.md)."""
MOST_HELD_OUT = 1_000
"""Default maximum of held-out items: a list needs most of its items for training."""
MAX_EPOCHS = 30.0
MOST_CHARACTERS = 20_000_000
"""Maximum default budget in characters: more would take hours."""


def _preset(name: str) -> Preset:
    check_choice("`preset`", name, PRESETS)
    return PRESETS[name]


def default_preset(characters: int, minutes: float | None = None) -> str:
    """The preset for a text of ``characters`` and an optional budget in minutes.

    A large model would only memorise a small text. With little time, a small model reaches a lower
    loss, because it takes more steps.
    """
    if characters < 20_000:
        return "tiny"
    if minutes is not None and minutes < 1:
        return "quick"
    if characters < 400_000:
        return "small"
    return "medium" if minutes is not None and minutes < 5 else "large"


GENERATION_EPOCHS = 8.0
"""Fewest epochs of each generation. On Russian prose two of 5 are worse than one run that takes as
long, by 0.008 nats; two of 8 are as good (docs/research/experiments/teachers.md)."""
GENERATIONS = {
    "small": ((7.0, ("small", "small")),),
    "large": ((14.0, ("large", "large")), (45.0, ("large", "large", "huge"))),
}
"""By the preset of a text: the presets of the generations that a budget of at least that many
minutes, on two cores, is divided among. A generation that takes as long as the first gains 0.025
nats on Tiny Shakespeare, where a run half as long again gains 0.009; one with more units gains
another 0.012 (docs/research/experiments/teachers.md)."""


def generation_presets(
    characters: int,
    minutes: float | None,
    count: int | None = None,
    preset: str | None = None,
    *,
    is_list: bool = False,
) -> tuple[str, ...]:
    """The preset of each generation: of ``count``, or of as many as suit the text and the time.

    Generations pay where each reads the text ``GENERATION_EPOCHS`` times, because a teacher
    prevents memorising. Without a budget in minutes a text has one. A list has two, which divide
    the budget of one (docs/research/experiments/lists.md).

    Raises:
        UsageError: there is no such preset, or the minutes or the count are out of range.
    """
    if preset is not None:
        _preset(preset)
    if minutes is not None:  # they are divided below, so a later message would show a part of them
        check_number("`minutes`", minutes, 0, MAX_BUDGET, low_allowed=False)
    if count is None:
        usual = preset or default_preset(characters, minutes)
        plans = GENERATIONS.get(usual, ())
        if is_list and plans:
            plans = ((0.0, (usual, usual)), *plans)
            minutes = _usual_minutes(usual, characters) if minutes is None else minutes
        for least, presets in reversed(plans):
            read = (minutes or 0.0) / PRESETS[usual].minutes * PRESETS[usual].characters
            epochs = read / max(1, characters) / len(presets)
            if minutes is not None and minutes >= least and epochs >= GENERATION_EPOCHS:
                return presets if preset is None else (preset,) * len(presets)
        return (usual,)
    check_integer("`generations`", count, 1, MOST_GENERATIONS)
    usual = preset or default_preset(characters, minutes and minutes / count)
    larger = preset is None and usual == "large" and count > 2
    return (*[usual] * (count - 1), "huge" if larger else usual)


def _usual_minutes(preset: str, characters: int) -> float:
    """Approximate minutes of the default budget for a text."""
    read = default_epochs(PRESETS[preset], characters) * characters
    return read / PRESETS[preset].characters * PRESETS[preset].minutes


def generation_minutes(presets: Sequence[str], number: int, left: float, budget: float) -> float:
    """The part of the minutes ``left`` for generation ``number`` of ``presets``, counted from 1.

    Each gets the time for the steps of its preset. The earlier ones took their time as measured:
    one that ended early leaves its time to the later ones, and however late they were, each of
    these gets a hundredth of the ``budget``.

    Raises:
        UsageError: there is no such preset; a newer version may have had it.
    """
    times = [_preset(preset).minutes * TAUGHT for preset in presets]
    times[0] /= TAUGHT
    return max(left * times[number - 1] / sum(times[number - 1 :]), budget / 100)


def default_settings(
    characters: int,
    vocab_size: int,
    *,
    preset: str | None = None,
    with_teacher: bool = False,
    items: int | None = None,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
) -> tuple[ModelConfig, TrainConfig]:
    """The settings of a new run on a text of ``characters`` characters.

    ``preset`` is a name in ``PRESETS``, or None to choose by text size and time. ``items`` is the
    number of items of a list, None for a text. ``model`` and ``train`` hold the fields of
    ``ModelConfig`` and ``TrainConfig`` that the user set; all others get their defaults.

    Raises:
        UsageError: the preset is unknown, or a value is out of range.
    """
    given = dict(train or {})
    if preset is None:
        preset = default_preset(characters, given.get("minutes"))
    chosen = _preset(preset)
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
    if items:
        values["val_fraction"] = min(TrainConfig.val_fraction, MOST_HELD_OUT / items)
    settings = TrainConfig(**{**values, **given})
    if settings.distillation:
        return config, settings
    epochs = _epochs(chosen, characters, settings)
    by_epochs = {"dropout": default_dropout(chosen, epochs), "hold": default_hold(epochs)}
    return config, replace(settings, **(by_epochs | given))


def default_epochs(preset: Preset, characters: int) -> float:
    """Epochs to read the preset's number of characters, or the whole text if it is longer.

    At most 30 epochs, and at most 20 million characters of a long text.
    """
    wanted = max(preset.characters, min(characters, MOST_CHARACTERS)) / max(1, characters)
    return min(MAX_EPOCHS, float(f"{wanted:.2g}"))


def default_dropout(preset: Preset, epochs: float) -> float:
    """Dropout probability: 0.1 up to two epochs, plus 0.1 per further epoch, up to the preset's."""
    return min(preset.dropout, max(LEAST_DROPOUT, round((epochs - 1) / 10, 2)))


def default_hold(epochs: float) -> float:
    """Fraction of the budget at the peak rate, so that decay covers the last three epochs."""
    return min(0.99, round(1 - FALL / epochs, 2)) if epochs > FEW_EPOCHS else 0.0


def _epochs(preset: Preset, characters: int, train: TrainConfig) -> float:
    """Epochs in a budget; minutes are converted at the approximate speed of two cores."""
    if train.epochs is not None:
        return train.epochs
    if train.steps is not None:
        return train.steps * train.batch * train.bptt / max(1, characters)
    assert train.minutes is not None
    return train.minutes / preset.minutes * preset.characters / max(1, characters)


LITTLE = 10_000
"""A text with fewer characters is too short to learn its style."""
GIB = 2**30
MUCH, FAR_TOO_MUCH = 0.8, 2.0
"""Multiples of the available memory: above the first there is a note, above the second an error.
The estimate is rough, and a system can swap."""

RARE_FRACTION = 0.01
"""A note appears if rare characters exceed this fraction of a text: any text has a few."""
MANY_SYMBOLS, FEW_BYTES = 0.25, 1.1
"""Bytes are suggested if symbols take this fraction of the parameters and the text has fewer bytes
per character than this."""


def advice(
    model: ModelConfig, vocab: "Vocabulary", counts: Sequence[int], train: TrainConfig
) -> list[str]:
    """Notes for the user before a run starts, one sentence each.

    ``counts`` holds the occurrences of each symbol of the vocabulary in the text; (V,).
    """
    notes: list[str] = []
    characters = sum(counts)
    if model.parameters > 30 * characters and characters < LITTLE:
        notes.append(
            f"{plural(characters, 'character')} may be too few to learn from, and samples may be "
            "gibberish; use more text, or let the model memorise it with `val_fraction` 0 and "
            "`steps` 500"
        )
    elif model.parameters > 30 * characters:
        notes.append(
            f"{model.parameters:,} parameters for {plural(characters, 'character')}: the model "
            "will memorise the text; use more text or a smaller `hidden_size`"
        )
    few = [count for count in counts if 0 < count < 5]
    rare = len(few)
    if sum(few) > RARE_FRACTION * characters:
        notes.append(
            f"{rare:,} of {plural(len(counts), 'character')} {'occurs' if rare == 1 else 'occur'} "
            f"fewer than 5 times, too rarely to learn {'it' if rare == 1 else 'them'} well"
        )
    fraction = len(vocab) * (model.embedding_size + model.hidden_size + 1) / model.parameters
    if len(vocab) >= 2 * 256 and fraction > MANY_SYMBOLS:  # fewer would save little
        lengths = [len(symbol.encode("utf-8", "surrogatepass")) for symbol in vocab.symbols]
        if (
            sum(n * count for n, count in zip(lengths, counts, strict=True))
            < FEW_BYTES * characters
        ):
            notes.append(
                f"the vocabulary of {len(vocab):,} characters takes {fraction:.0%} of the "
                "parameters, most of them rarely used; `as_bytes` (256 symbols) learns faster"
            )
    needed, present = _memory(model, train)
    if present is not None and needed > MUCH * present:
        notes.append(
            f"training needs about {needed / GIB:.1f} GiB of memory, {present / GIB:.1f} GiB "
            "available; use a smaller `hidden_size`, `batch` or `bptt`"
        )
    return notes


def require_memory(
    model: ModelConfig,
    train: TrainConfig,
    hint: str = "use a smaller `hidden_size`, `batch` or `bptt`",
) -> None:
    """Raise ``UsageError`` if training needs more than twice the available memory."""
    needed, present = _memory(model, train)
    require(
        present is None or needed <= FAR_TOO_MUCH * present,
        f"training needs about {needed / GIB:,.0f} GiB of memory, but only "
        f"{(present or 0) / GIB:.1f} GiB are available",
        hint,
    )


def _memory(model: ModelConfig, train: TrainConfig) -> tuple[int, int | None]:
    """Bytes that training needs, and bytes available to this process, if known."""
    from charlstm.files import (
        memory_present,
    )  # imported here: help texts need presets, but no files

    return memory_needed(model, train), memory_present()


def memory_needed(model: ModelConfig, train: TrainConfig) -> int:
    """Rough bytes of weights, gradients, average, two moments, a rollback copy and activations."""
    copies = 10
    per_mask = model.hidden_size + 3 * model.vocab_size
    per_character = 16 * model.hidden_size * model.layers + train.dropout_masks * per_mask
    return 4 * (copies * model.parameters + train.batch * train.bptt * per_character) + (300 << 20)
