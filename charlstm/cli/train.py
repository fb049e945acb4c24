"""``charlstm train``."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.cli.inputs import note_keyboard, refuse_run
from charlstm.cli.options import Json, OptionGroup, command, example, note, one_of, run_names
from charlstm.cli.run_setup import find_resumed
from charlstm.cli.signals import interruptible
from charlstm.cli.watch_run import watch
from charlstm.errors import ExitCode, UsageError, plural
from charlstm.net.spec import CELLS
from charlstm.presets import PRESETS, default_settings
from charlstm.training_run import begin_run, check_tensorboard, resume_run

if TYPE_CHECKING:
    from charlstm.events import RunFinished
    from charlstm.train.trainer import Trainer

BUDGET, MODEL, LEARNING, TEXT, SHOW = (
    "Budget",
    "Model",
    "Learning",
    "Text",
    "What is shown",
)


EXAMPLES = example(
    "charlstm train book.txt",
    "charlstm train --minutes 2                   the bundled text, for two minutes",
    "charlstm train src/ --bytes --hidden 256     a folder, as bytes",
    "charlstm train --resume                      go on with the newest run",
    "zcat big.gz | charlstm train - --name big",
)


def _option(*names: str, help: str, panel: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


def _usual_settings() -> dict[str, Any]:
    """The default of every field of the settings that has the same one for all texts."""
    short, long = (
        {**model.to_dict(), **learning.to_dict()}
        for model, learning in (default_settings(1_000, 2), default_settings(10_000_000, 10_000))
    )
    return {name: value for name, value in short.items() if value == long[name]}


USUAL = _usual_settings()


def _setting(field: str, *names: str, help: str, panel: str, **more: Any) -> Any:
    """The option of a field of the model's or the training's settings; its help has the default."""
    default = USUAL.get(field, "depends on the text")
    shown = "" if default is None else f" ({default})"
    return _option(*names, help=help + shown, panel=panel, **more)


class Start(OptionGroup):
    """What a run begins from. The fields are arguments of ``begin_run``."""

    name: Annotated[str | None, _option(help="Name of the run.")] = None
    init_from: Annotated[
        str | None,
        _option(
            metavar="RUN",
            help="Begin with the weights of another run.",
            autocompletion=run_names,
        ),
    ] = None
    teacher: Annotated[
        str | None,
        _option(
            metavar="RUN",
            help="Learn from what another run of the same text predicts, too.",
            autocompletion=run_names,
        ),
    ] = None
    preset: Annotated[
        str | None,
        _option(
            help=f"{', '.join(PRESETS)}; left out, the text's size and the minutes choose.",
            panel=MODEL,
            autocompletion=one_of(*PRESETS),
        ),
    ] = None


class Budget(OptionGroup):
    """How long a run goes on, where, and what it keeps: what a resumed run may change."""

    epochs: Annotated[
        float | None, _setting("epochs", help="How often to read the text.", panel=BUDGET)
    ] = None
    steps: Annotated[int | None, _setting("steps", help="Training steps.", panel=BUDGET)] = None
    minutes: Annotated[
        float | None,
        _setting(
            "minutes",
            help="Training budget in minutes; fixed as a number of steps after the first seconds.",
            panel=BUDGET,
        ),
    ] = None
    patience: Annotated[
        int | None,
        _setting(
            "patience",
            help="Stop after this many validations without a better one; 0 never.",
            panel=BUDGET,
        ),
    ] = None
    keep: Annotated[
        int | None,
        _setting("keep", help="Latest checkpoints to keep, besides the best.", panel=BUDGET),
    ] = None
    device: Annotated[
        str | None,
        _setting(
            "device",
            help="auto, cpu, cuda or mps.",
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
            help=f"The recurrent cell: {', '.join(CELLS)}.",
            panel=MODEL,
            autocompletion=one_of(*CELLS),
        ),
    ] = None
    hidden_size: Annotated[
        int | None, _setting("hidden_size", "--hidden", help="Units per layer.", panel=MODEL)
    ] = None
    layers: Annotated[int | None, _setting("layers", help="Layers.", panel=MODEL)] = None
    embedding_size: Annotated[
        int | None,
        _setting("embedding_size", "--embed", help="Size of a character's embedding.", panel=MODEL),
    ] = None


class Learning(OptionGroup):
    """The other fields of ``TrainConfig``."""

    batch: Annotated[
        int | None, _setting("batch", help="B, streams read in parallel.", panel=LEARNING)
    ] = None
    bptt: Annotated[
        int | None,
        _setting("bptt", help="T, characters the gradient flows back through.", panel=LEARNING),
    ] = None
    learning_rate: Annotated[
        float | None,
        _setting("learning_rate", "--lr", help="Peak rate of Muon, for matrices.", panel=LEARNING),
    ] = None
    adam_rate: Annotated[
        float | None,
        _setting("adam_rate", "--adam-lr", help="Peak rate of Adam, for the rest.", panel=LEARNING),
    ] = None
    warmup_steps: Annotated[
        int | None,
        _setting("warmup_steps", "--warmup", help="Steps until the peak rate.", panel=LEARNING),
    ] = None
    hold: Annotated[
        float | None,
        _setting("hold", help="Fraction of the budget before the rate falls.", panel=LEARNING),
    ] = None
    final_rate: Annotated[
        float | None,
        _setting("final_rate", help="Fraction of the peak rate at the end.", panel=LEARNING),
    ] = None
    weight_decay: Annotated[
        float | None,
        _setting("weight_decay", help="Of matrices, times the rate.", panel=LEARNING),
    ] = None
    row_averaging: Annotated[
        float | None,
        _setting(
            "row_averaging", help="Decay of Muon's mean square of rows; 0 off.", panel=LEARNING
        ),
    ] = None
    reset_every: Annotated[
        int | None,
        _setting("reset_every", help="Steps until a stream's state is 0; 0 never.", panel=LEARNING),
    ] = None
    dropout: Annotated[
        float | None, _setting("dropout", help="Fraction of units left out.", panel=LEARNING)
    ] = None
    dropout_masks: Annotated[
        int | None,
        _setting("dropout_masks", help="Dropout masks that a step averages over.", panel=LEARNING),
    ] = None
    clip: Annotated[
        float | None, _setting("clip", help="Greatest norm of the gradient.", panel=LEARNING)
    ] = None
    averaging: Annotated[
        float | None,
        _setting("averaging", help="Decay of the moving average of weights.", panel=LEARNING),
    ] = None
    seed: Annotated[
        int | None, _setting("seed", help="Of weights and dropout.", panel=LEARNING)
    ] = None
    precision: Annotated[
        str | None,
        _setting(
            "precision",
            help="float32, bfloat16 or float16; auto tries which is fastest.",
            panel=LEARNING,
            autocompletion=one_of("auto", "float32", "bfloat16", "float16"),
        ),
    ] = None
    threads: Annotated[
        int | None,
        _setting(
            "threads", help="CPU threads; 0 is as many as a trial finds useful.", panel=LEARNING
        ),
    ] = None
    val_fraction: Annotated[
        float | None,
        _setting("val_fraction", help="The last part, to validate on.", panel=TEXT),
    ] = None


class Reading(OptionGroup):
    """How a text becomes symbols. The fields are arguments of ``open_corpus``."""

    encoding: Annotated[str | None, _option(help="Of the text. (utf-8)", panel=TEXT)] = None
    as_bytes: Annotated[
        bool | None, _option("--bytes", help="Model bytes: any file, 256 symbols.", panel=TEXT)
    ] = None


def train(
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, or - for stdin; .gz, .bz2 and .xz are read too. "
            "Left out, the bundled text is used.",
            show_default=False,
        ),
    ] = None,
    *,
    budget: Budget,
    start: Start,
    shape: Shape,
    learning: Learning,
    reading: Reading,
    resume: Annotated[
        bool, _option("--resume", help="Go on with a run, exactly where it stopped.")
    ] = False,
    checkpoint: Annotated[
        str | None,
        _option(
            "-c",
            "--checkpoint",
            metavar="RUN",
            help="The run to resume; else the newest.",
            autocompletion=run_names,
        ),
    ] = None,
    plain: Annotated[
        bool, _option("--plain", help="Lines instead of the live panel.", panel=SHOW)
    ] = False,
    quiet: Annotated[bool, _option("--quiet", help="Only the result.", panel=SHOW)] = False,
    tensorboard: Annotated[
        str | None,
        _option(metavar="DIR", help="Also write TensorBoard's files to DIR/RUN.", panel=SHOW),
    ] = None,
    as_json: Json = False,
) -> int:
    """Train a model on a text, and watch it learn."""
    import charlstm.train  # before numpy: it sets how threads wait  # noqa: F401

    check_tensorboard(tensorboard)
    with ExitStack() as stack, interruptible():  # until `watch` has handlers of its own
        if resume:
            _refuse(
                {**start.given(), **shape.given(), **learning.given(), **reading.given()},
                "a resumed run keeps its settings",
                "leave them out, or start a new run",
            )
            with _noted_if_interrupted():
                path, corpus = find_resumed(checkpoint, text or [], quiet)
                trainer = resume_run(stack, path, corpus, budget.given(), note)
        else:
            _refuse(
                {} if checkpoint is None else {"checkpoint": checkpoint},
                "without --resume there is no run to go on with",
                "add --resume, or use --init-from for a new run with its weights",
            )
            for name in text or ():
                refuse_run(name)
            note_keyboard(text)
            with _noted_if_interrupted():
                trainer = begin_run(
                    stack,
                    text,
                    {**shape.given(), **budget.given(), **learning.given()},
                    reading=reading.given(),
                    **start.given(),
                    note=note,
                    advise=(lambda message: None) if quiet else note,
                )
        begun_at = trainer.progress.step
        finished = watch(trainer, stack, plain=plain, quiet=quiet, tensorboard=tensorboard)
        larger = _larger_budget(trainer) if finished.step == begun_at > 0 else None
    return _conclude(finished, larger, as_json=as_json, quiet=quiet)


def _larger_budget(trainer: "Trainer") -> tuple[str, str]:
    """Twice the budget that the run was given, as an option."""
    used = trainer.run_file.train
    unit = "minutes" if used.minutes else "steps" if used.steps else "epochs"
    return f"--{unit}", f"{2 * getattr(used, unit):g}"


@contextmanager
def _noted_if_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        note("stopped before the run began")
        raise


def _refuse(fields: Iterable[str], reason: str, remedy: str) -> None:
    """Raise ``UsageError`` naming the options of these fields, if there are any."""
    if names := [f"`{name}`" for name in fields]:
        raise UsageError(f"{', '.join(names)}: {reason}", remedy)


def _conclude(
    finished: "RunFinished", larger: tuple[str, str] | None, *, as_json: bool, quiet: bool
) -> int:
    """Say how the run ended; ``larger`` is a budget with which it would not have ended at once."""
    import math

    from charlstm.runs.metrics import event_to_dict
    from charlstm.scoring import perplexity
    from charlstm.show.printable import printable
    from charlstm.show.quantities import duration

    if as_json:
        print(json.dumps(event_to_dict(finished)))
    else:
        steps = plural(finished.step, "step")
        line = f"{printable(str(finished.path), keep='')}  {steps} in {duration(finished.seconds)}"
        if finished.val_loss is not None:
            loss = finished.val_loss
            line += (
                f"; step {finished.best_step:,} is best\n"
                f"validation loss {loss:z.4f} nats per character, {loss / math.log(2):z.3f} bits, "
                f"perplexity {perplexity(loss):.2f}"
            )
        print(line)
    if finished.unsaved is not None:
        note(
            f"the last checkpoint could not be saved: {finished.unsaved}; "
            "put that right, then resume"
        )
        return int(ExitCode.FAILED)
    match finished.reason:
        case "stopped":
            go_on = command("train", "--resume", "-c", finished.path)
            note(f"stopped and saved; go on with: {go_on}")
            return int(ExitCode.INTERRUPTED)
        case "diverged":
            note(
                "the loss stopped being finite again and again; the last good checkpoint is "
                "saved; try a lower --lr"
            )
            return int(ExitCode.FAILED)
        case "patience" if not quiet:
            note("early stop: the validation loss no longer improves; to go on anyway:")
            note(command("train", "--resume", "-c", finished.path, "--patience", "0"))
        case "budget" if larger is not None and not quiet:
            note(f"the run had done its {finished.step:,} steps before; to train it further:")
            note(command("train", "--resume", "-c", finished.path, *larger))
    if not quiet:
        note(f"now try: {command('sample', '-c', finished.path, '--temp', '0.8')}")
    return int(ExitCode.DONE)
