"""``charlstm train``."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm.cli.inputs import note_keyboard, reading_watch, refuse_run
from charlstm.cli.options import (
    Json,
    TextReading,
    command,
    default,
    example,
    note,
    run_names,
)
from charlstm.cli.run_setup import find_resumed
from charlstm.cli.signals import interruptible
from charlstm.cli.train_options import SHOW, Budget, Items, Learning, Shape, Start, option
from charlstm.cli.watch_run import watch
from charlstm.errors import ExitCode, UsageError, plural
from charlstm.generations import OpenRun
from charlstm.opening import begin_run, check_tensorboard, resume_run, resumed_text

if TYPE_CHECKING:
    from charlstm.config import TrainConfig
    from charlstm.events import RunFinished
    from charlstm.training.trainer import Trainer

EXAMPLES = example(
    "charlstm train book.txt",
    "charlstm train --minutes 2                   the bundled text, for two minutes",
    "charlstm train src/ --bytes --hidden 256     all files of a folder, as bytes",
    "charlstm train names.txt --lines             a list: each line stands alone",
    "charlstm train --resume                      continue the newest run",
    "zcat big.gz | charlstm train - --name big",
)


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
        bool, option("--resume", help="Continue a run exactly where it stopped.")
    ] = False,
    checkpoint: Annotated[
        str | None,
        option(
            "-c",
            "--checkpoint",
            metavar="RUN",
            help="Run to resume." + default("newest run"),
            autocompletion=run_names,
        ),
    ] = None,
    plain: Annotated[
        bool, option("--plain", help="Print lines instead of the live panel.", panel=SHOW)
    ] = False,
    quiet: Annotated[bool, option("--quiet", help="Print only the result.", panel=SHOW)] = False,
    tensorboard: Annotated[
        str | None,
        option(metavar="DIR", help="Also write TensorBoard files to DIR/RUN.", panel=SHOW),
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
