"""The options of ``charlstm train``, in groups."""

from typing import Annotated, Any

import typer

from charlstm.cli.options import OptionGroup, default, one_of, run_names
from charlstm.net.spec import CELLS
from charlstm.presets import PRESETS, default_settings

BUDGET, MODEL, LEARNING, TEXT, SHOW = "Budget", "Model", "Training", "Text", "Output"


def option(*names: str, help: str, panel: str | None = None, **more: Any) -> Any:
    """An option whose default is part of its help, in a panel of the help page."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


def _usual_settings() -> dict[str, Any]:
    """The defaults of those settings whose default does not depend on the text."""
    short, long = (
        {**model.to_dict(), **learning.to_dict()}
        for model, learning in (default_settings(1_000, 2), default_settings(10_000_000, 10_000))
    )
    return {name: value for name, value in short.items() if value == long[name]}


USUAL = _usual_settings()


def _setting(field: str, *names: str, help: str, panel: str, **more: Any) -> Any:
    """The option of a field of ``ModelConfig`` or ``TrainConfig``; its help shows the default."""
    usual = USUAL.get(field, "depends on the text")
    shown = "" if usual is None else default(usual)
    return option(*names, help=help + shown, panel=panel, **more)


class Start(OptionGroup):
    """What a run starts from. The fields are arguments of ``begin_run``."""

    name: Annotated[
        str | None, option(help="Name of the run." + default("from the text's file name"))
    ] = None
    init_from: Annotated[
        str | None,
        option(
            metavar="RUN",
            help="Start from the weights of another run.",
            autocompletion=run_names,
        ),
    ] = None
    teacher: Annotated[
        str | None,
        option(
            metavar="RUN",
            help="Distil from another run on the same text: also learn its predictions.",
            autocompletion=run_names,
        ),
    ] = None
    preset: Annotated[
        str | None,
        option(
            help=f"Preset: {', '.join(PRESETS)}." + default("depends on the text and --minutes"),
            panel=MODEL,
            autocompletion=one_of(*PRESETS),
        ),
    ] = None
    generations: Annotated[
        int | None,
        option(
            help="Number of runs, each distilled from the one before; --minutes is divided among "
            "them." + default("depends on the text and --minutes"),
            panel=BUDGET,
        ),
    ] = None


class Budget(OptionGroup):
    """How long and where a run trains, and what it keeps; a resumed run may change these."""

    epochs: Annotated[
        float | None,
        _setting("epochs", help="Training budget in epochs, passes over the text.", panel=BUDGET),
    ] = None
    steps: Annotated[
        int | None, _setting("steps", help="Training budget in steps.", panel=BUDGET)
    ] = None
    minutes: Annotated[
        float | None,
        _setting(
            "minutes",
            help="Training budget in minutes; converted to steps after the first few seconds.",
            panel=BUDGET,
        ),
    ] = None
    patience: Annotated[
        int | None,
        _setting(
            "patience",
            help="Stop after this many validations without improvement; 0 to never stop early.",
            panel=BUDGET,
        ),
    ] = None
    keep: Annotated[
        int | None,
        _setting(
            "keep", help="Number of latest checkpoints to keep, besides the best.", panel=BUDGET
        ),
    ] = None
    device: Annotated[
        str | None,
        _setting(
            "device",
            help="Device: auto, cpu, cuda, cuda:N or mps.",
            panel=LEARNING,
            autocompletion=one_of("auto", "cpu", "cuda", "mps"),
        ),
    ] = None


class Shape(OptionGroup):
    """The fields of ``ModelConfig``."""

    cell: Annotated[
        str | None,
        _setting(
            "cell",
            help=f"Recurrent cell: {', '.join(CELLS)}.",
            panel=MODEL,
            autocompletion=one_of(*CELLS),
        ),
    ] = None
    hidden_size: Annotated[
        int | None, _setting("hidden_size", "--hidden", help="Units per layer.", panel=MODEL)
    ] = None
    layers: Annotated[int | None, _setting("layers", help="Number of layers.", panel=MODEL)] = None
    embedding_size: Annotated[
        int | None,
        _setting(
            "embedding_size", "--embed", help="Size of the character embeddings.", panel=MODEL
        ),
    ] = None


class Learning(OptionGroup):
    """The other fields of ``TrainConfig``."""

    batch: Annotated[
        int | None,
        _setting("batch", help="Batch size B, the number of parallel streams.", panel=LEARNING),
    ] = None
    bptt: Annotated[
        int | None,
        _setting(
            "bptt",
            help="Sequence length T, in characters, for truncated backpropagation.",
            panel=LEARNING,
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        _setting(
            "learning_rate",
            "--lr",
            help="Peak learning rate of Muon, for weight matrices.",
            panel=LEARNING,
        ),
    ] = None
    adam_rate: Annotated[
        float | None,
        _setting(
            "adam_rate",
            "--adam-lr",
            help="Peak learning rate of Adam, for all other parameters.",
            panel=LEARNING,
        ),
    ] = None
    warmup_steps: Annotated[
        int | None,
        _setting(
            "warmup_steps",
            "--warmup",
            help="Warmup steps, until the learning rate peaks.",
            panel=LEARNING,
        ),
    ] = None
    hold: Annotated[
        float | None,
        _setting(
            "hold", help="Fraction of the budget before the learning rate decays.", panel=LEARNING
        ),
    ] = None
    final_rate: Annotated[
        float | None,
        _setting(
            "final_rate", help="Final learning rate, as a fraction of the peak.", panel=LEARNING
        ),
    ] = None
    weight_decay: Annotated[
        float | None,
        _setting(
            "weight_decay",
            help="Decoupled weight decay of matrices, multiplied by the learning rate.",
            panel=LEARNING,
        ),
    ] = None
    row_averaging: Annotated[
        float | None,
        _setting(
            "row_averaging",
            help="Decay of Muon's running mean square of each row; 0 to turn off.",
            panel=LEARNING,
        ),
    ] = None
    reset_every: Annotated[
        int | None,
        _setting(
            "reset_every",
            help="Reset each stream's state to zero after this many steps; 0 for never.",
            panel=LEARNING,
        ),
    ] = None
    dropout: Annotated[
        float | None, _setting("dropout", help="Dropout probability.", panel=LEARNING)
    ] = None
    dropout_masks: Annotated[
        int | None,
        _setting(
            "dropout_masks",
            help="Number of dropout masks to average over per step.",
            panel=LEARNING,
        ),
    ] = None
    clip: Annotated[
        float | None,
        _setting(
            "clip",
            help="Largest gradient norm; gradients above it are scaled down.",
            panel=LEARNING,
        ),
    ] = None
    averaging: Annotated[
        float | None,
        _setting("averaging", help="Decay of the weight average.", panel=LEARNING),
    ] = None
    seed: Annotated[
        int | None, _setting("seed", help="Seed for initialization and dropout.", panel=LEARNING)
    ] = None
    precision: Annotated[
        str | None,
        _setting(
            "precision",
            help="Precision: auto (what suits the processor), float32, bfloat16 or float16.",
            panel=LEARNING,
            autocompletion=one_of("auto", "float32", "bfloat16", "float16"),
        ),
    ] = None
    threads: Annotated[
        int | None,
        _setting("threads", help="CPU threads; 0 for the fastest in a trial.", panel=LEARNING),
    ] = None
    val_fraction: Annotated[
        float | None,
        _setting(
            "val_fraction",
            help="Fraction held out for validation: the end of a text, random items of a list.",
            panel=TEXT,
        ),
    ] = None


class Items(OptionGroup):
    """Whether the text is a list. The fields are arguments of ``open_text``."""

    lines: Annotated[
        bool | None,
        option(
            "--lines",
            help="Train on a list: each line is an item that stands alone, such as a name.",
            panel=TEXT,
        ),
    ] = None
    separator: Annotated[
        str | None,
        option(
            metavar="TEXT",
            help="Train on a list whose items are separated by this text, not by newlines.",
            panel=TEXT,
        ),
    ] = None
