"""``charlstm train``."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.cli.inputs import note_keyboard, reading_watch, refuse_run
from charlstm.cli.options import (
    Json,
    OptionGroup,
    TextReading,
    command,
    default,
    example,
    note,
    one_of,
    run_names,
)
from charlstm.cli.run_setup import find_resumed
from charlstm.cli.signals import interruptible
from charlstm.cli.watch_run import watch
from charlstm.errors import ExitCode, UsageError, plural
from charlstm.generations import OpenRun
from charlstm.net.spec import CELLS
from charlstm.opening import begin_run, check_tensorboard, resume_run, resumed_text
from charlstm.presets import PRESETS, default_settings

if TYPE_CHECKING:
    from charlstm.config import TrainConfig
    from charlstm.events import RunFinished
    from charlstm.training.trainer import Trainer

BUDGET, MODEL, LEARNING, TEXT, SHOW = (
    "Budget",
    "Model",
    "Training",
    "Text",
    "Output",
)


EXAMPLES = example(
    "charlstm train book.txt",
    "charlstm train --minutes 2                   the bundled text, for two minutes",
    "charlstm train src/ --bytes --hidden 256     all files of a folder, as bytes",
    "charlstm train names.txt --lines             a list: each line stands alone",
    "charlstm train --resume                      continue the newest run",
    "zcat big.gz | charlstm train - --name big",
)


def _option(*names: str, help: str, panel: str | None = None, **more: Any) -> Any:
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
    return _option(*names, help=help + shown, panel=panel, **more)


class Start(OptionGroup):
    """What a run starts from. The fields are arguments of ``begin_run``."""

    name: Annotated[
        str | None, _option(help="Name of the run." + default("from the text's file name"))
    ] = None
    init_from: Annotated[
        str | None,
        _option(
            metavar="RUN",
            help="Start from the weights of another run.",
            autocompletion=run_names,
        ),
    ] = None
    teacher: Annotated[
        str | None,
        _option(
            metavar="RUN",
            help="Distil from another run on the same text: also learn its predictions.",
            autocompletion=run_names,
        ),
    ] = None
    preset: Annotated[
        str | None,
        _option(
            help=f"Preset: {', '.join(PRESETS)}." + default("depends on the text and --minutes"),
            panel=MODEL,
            autocompletion=one_of(*PRESETS),
        ),
    ] = None
    generations: Annotated[
        int | None,
        _option(
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
        _option(
            "--lines",
            help="Train on a list: each line is an item that stands alone, such as a name.",
            panel=TEXT,
        ),
    ] = None
    separator: Annotated[
        str | None,
        _option(
            metavar="TEXT",
            help="Train on a list whose items are separated by this text, not by newlines.",
            panel=TEXT,
        ),
    ] = None


def train(
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files or folders to train on, or - for stdin; .gz, .bz2 and .xz are decompressed."
            + default("the bundled text"),
            show_default=False,
        ),
    ] = None,
    *,
    budget: Budget,
    start: Start,
    shape: Shape,
    learning: Learning,
    reading: TextReading,
    items: Items,
    resume: Annotated[
        bool, _option("--resume", help="Continue a run exactly where it stopped.")
    ] = False,
    checkpoint: Annotated[
        str | None,
        _option(
            "-c",
            "--checkpoint",
            metavar="RUN",
            help="Run to resume." + default("newest run"),
            autocompletion=run_names,
        ),
    ] = None,
    plain: Annotated[
        bool, _option("--plain", help="Print lines instead of the live panel.", panel=SHOW)
    ] = False,
    quiet: Annotated[bool, _option("--quiet", help="Print only the result.", panel=SHOW)] = False,
    tensorboard: Annotated[
        str | None,
        _option(metavar="DIR", help="Also write TensorBoard files to DIR/RUN.", panel=SHOW),
    ] = None,
    as_json: Json = False,
) -> int:
    """Train a model on a text and watch it learn."""
    import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401
    from charlstm.training.processes import all_processes, is_first

    check_tensorboard(tensorboard)
    say = note if is_first() else _silent
    with ExitStack() as stack, interruptible():  # until `watch` has handlers of its own
        if resume:
            _refuse(
                {
                    **start.given(),
                    **shape.given(),
                    **learning.given(),
                    **reading.given(),
                    **items.given(),
                },
                "a resumed run keeps its settings",
                "omit them, or start a new run",
            )
            with _noted_if_interrupted(), all_processes().named_errors():
                path, corpus = resumed_text(
                    lambda: find_resumed(checkpoint, text or [], quiet), text, say
                )
                trainer = resume_run(stack, path, corpus, budget.given(), say)
        else:
            _refuse(
                {} if checkpoint is None else {"checkpoint": checkpoint},
                "only used with --resume",
                "add --resume, or use --init-from to start a new run from its weights",
            )
            for name in text or ():
                refuse_run(name)
            note_keyboard(text)
            with _noted_if_interrupted(), all_processes().named_errors():
                trainer = begin_run(
                    stack,
                    text,
                    {**shape.given(), **budget.given(), **learning.given()},
                    reading={**reading.given(), **items.given()},
                    **start.given(),
                    note=say,
                    advise=_silent if quiet else say,
                    watch=reading_watch(quiet or say is _silent),
                )
        begun, begun_at = trainer.path, trainer.progress.step
        run = OpenRun(trainer, stack, note=say, advise=_silent if quiet else say)
        with all_processes().named_errors():
            finished = watch(run, plain=plain, quiet=quiet, tensorboard=tensorboard)
        trainer = run.trainer
        spent = trainer.path == begun and finished.step == begun_at > 0
        larger = _larger_budget(trainer.run_file.train, finished.seconds) if spent else None
    if not trainer.is_first:
        return int(ExitCode.DONE)
    return _conclude(trainer, finished, larger, as_json=as_json, quiet=quiet)


def _larger_budget(used: "TrainConfig", seconds: float) -> tuple[str, str]:
    """An option and its value for twice the budget of a run that took ``seconds``."""
    if used.minutes is not None:  # a run may take longer than it was given
        return "--minutes", f"{2 * max(used.minutes, seconds / 60):.4g}"
    if used.steps is not None:
        return "--steps", str(2 * used.steps)
    assert used.epochs is not None
    return "--epochs", f"{2 * used.epochs:g}"


@contextmanager
def _noted_if_interrupted() -> Iterator[None]:
    from charlstm.training.processes import is_first

    try:
        yield
    except KeyboardInterrupt:
        if is_first():
            note("stopped before the run started")
        raise


def _silent(message: str) -> None:
    pass


def _refuse(fields: Iterable[str], reason: str, remedy: str) -> None:
    """Raise ``UsageError`` about these fields, if there are any."""
    if names := [f"`{name}`" for name in fields]:
        raise UsageError(f"{', '.join(names)}: {reason}", remedy)


def _conclude(
    trainer: "Trainer",
    finished: "RunFinished",
    larger: tuple[str, str] | None,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Report how the run ended; ``larger`` is a larger budget if it had none left to use."""
    import math

    from charlstm.runs.catalogue import better_generation
    from charlstm.runs.metrics import event_to_dict
    from charlstm.scoring import perplexity
    from charlstm.show.printable import printable
    from charlstm.show.quantities import duration
    from charlstm.training.processes import started_by_torchrun

    resume = command("train", "--resume", "-c", finished.path)
    unit = "byte" if trainer.run_file.source.as_bytes else "character"
    if as_json:
        print(json.dumps(event_to_dict(finished)))
    else:
        steps = plural(finished.step, "step")
        line = f"{printable(str(finished.path), keep='')}  {steps} in {duration(finished.seconds)}"
        if finished.val_loss is not None:
            loss = finished.val_loss
            line += (
                f"; best at step {finished.best_step:,}\n"
                f"validation loss {loss:z.4f} nats per {unit}, {loss / math.log(2):z.3f} bits, "
                f"perplexity {perplexity(loss):.2f}"
            )
        print(line)
    if finished.unsaved is not None:
        note(f"the last checkpoint could not be saved: {finished.unsaved}; fix that, then resume:")
        note(resume)
        return int(ExitCode.FAILED)
    match finished.reason:
        case "stopped":
            note("stopped and saved; to resume:")
            note(resume)
            # torchrun starts a command again that fails.
            return int(ExitCode.DONE if started_by_torchrun() else ExitCode.INTERRUPTED)
        case "diverged":
            note(
                "training diverged repeatedly: the loss was not finite; the last good checkpoint "
                "is saved; try a lower --lr"
            )
            return int(ExitCode.FAILED)
        case "patience" if not quiet:
            validations = plural(trainer.run_file.train.patience, "validation")
            note(f"early stop: no improvement in {validations}; to continue anyway:")
            note(command("train", "--resume", "-c", finished.path, "--patience", "0"))
        case "budget" if larger is not None and not quiet:
            steps = plural(finished.step, "step")
            note(f"the run had already finished its {steps}; to train it further:")
            note(command("train", "--resume", "-c", finished.path, *larger))
    if not quiet:
        better = better_generation(finished.path)
        of_all = ", of all generations the one with the lowest validation loss"
        note(f"now try {better.name}{of_all}:" if better else "now try:")
        used = better.path if better else finished.path
        several = () if trainer.run_file.model.end is None else ("--count", 20)
        note(command("sample", "-c", used, "--temp", "0.8", *several))
    return int(ExitCode.DONE)
