"""``charlstm train``."""

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charlstm.cli.inputs import open_texts
from charlstm.cli.options import Json, example, note, one_of, run_names
from charlstm.cli.run_setup import begin_run, resume_run
from charlstm.cli.watch_run import watch
from charlstm.errors import ExitCode, UsageError
from charlstm.net.spec import CELLS
from charlstm.presets import PRESETS

if TYPE_CHECKING:
    from charlstm.events import RunFinished

BUDGET, MODEL, LEARNING, TEXT, SHOW = (
    "Budget",
    "Model",
    "Learning",
    "Text",
    "What is shown",
)


def _option(*names: str, help: str, panel: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


EXAMPLES = example(
    "charlstm train book.txt",
    "charlstm train --minutes 2                   the bundled text, for two minutes",
    "charlstm train src/ --bytes --hidden 256     a folder, as bytes",
    "charlstm train --resume                      go on with the newest run",
    "zcat big.gz | charlstm train - --name big",
)


def train(
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, or - for stdin; .gz, .bz2 and .xz are read too. "
            "Left out, the bundled text is used.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, _option("--name", help="Name of the run.")] = None,
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
    init_from: Annotated[
        str | None,
        _option(
            "--init-from",
            metavar="RUN",
            help="Begin with the weights of another run.",
            autocompletion=run_names,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        _option(
            "--teacher",
            metavar="RUN",
            help="Learn from what another run of the same text predicts, too.",
            autocompletion=run_names,
        ),
    ] = None,
    epochs: Annotated[
        float | None, _option("--epochs", help="How often to read the text.", panel=BUDGET)
    ] = None,
    steps: Annotated[int | None, _option("--steps", help="Training steps.", panel=BUDGET)] = None,
    minutes: Annotated[float | None, _option("--minutes", help="Time.", panel=BUDGET)] = None,
    patience: Annotated[
        int | None,
        _option(
            "--patience",
            help="Stop after so many validations without a better one; 0 never. (8)",
            panel=BUDGET,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        _option(
            "--preset",
            help=f"{', '.join(PRESETS)}; left out, the text's size and the minutes choose.",
            panel=MODEL,
            autocompletion=one_of(*PRESETS),
        ),
    ] = None,
    cell: Annotated[
        str | None,
        _option(
            "--cell",
            help=f"The recurrent cell: {', '.join(CELLS)}. (lstm)",
            panel=MODEL,
            autocompletion=one_of(*CELLS),
        ),
    ] = None,
    hidden: Annotated[int | None, _option("--hidden", help="Units per layer.", panel=MODEL)] = None,
    layers: Annotated[int | None, _option("--layers", help="Layers.", panel=MODEL)] = None,
    embed: Annotated[
        int | None, _option("--embed", help="Size of a character's embedding.", panel=MODEL)
    ] = None,
    batch: Annotated[
        int | None, _option("--batch", help="B, streams read in parallel.", panel=LEARNING)
    ] = None,
    bptt: Annotated[
        int | None,
        _option("--bptt", help="T, characters the gradient flows back through.", panel=LEARNING),
    ] = None,
    lr: Annotated[
        float | None, _option("--lr", help="Peak rate of Muon, for matrices.", panel=LEARNING)
    ] = None,
    adam_lr: Annotated[
        float | None, _option("--adam-lr", help="Peak rate of Adam, for the rest.", panel=LEARNING)
    ] = None,
    warmup: Annotated[
        int | None, _option("--warmup", help="Steps until the peak rate.", panel=LEARNING)
    ] = None,
    hold: Annotated[
        float | None,
        _option("--hold", help="Share of the budget before the rate falls.", panel=LEARNING),
    ] = None,
    final_rate: Annotated[
        float | None,
        _option("--final-rate", help="Share of the peak rate at the end.", panel=LEARNING),
    ] = None,
    weight_decay: Annotated[
        float | None,
        _option("--weight-decay", help="Of matrices, times the rate.", panel=LEARNING),
    ] = None,
    row_averaging: Annotated[
        float | None,
        _option(
            "--row-averaging", help="Decay of Muon's mean square of rows; 0 off.", panel=LEARNING
        ),
    ] = None,
    reset_every: Annotated[
        int | None,
        _option(
            "--reset-every", help="Steps until a stream's state is 0; 0 never.", panel=LEARNING
        ),
    ] = None,
    dropout: Annotated[
        float | None, _option("--dropout", help="Share of units left out.", panel=LEARNING)
    ] = None,
    dropout_masks: Annotated[
        int | None,
        _option(
            "--dropout-masks",
            help="Dropout masks that a step averages over.",
            panel=LEARNING,
        ),
    ] = None,
    clip: Annotated[
        float | None, _option("--clip", help="Greatest norm of the gradient.", panel=LEARNING)
    ] = None,
    averaging: Annotated[
        float | None,
        _option("--averaging", help="Decay of the moving average of weights.", panel=LEARNING),
    ] = None,
    seed: Annotated[
        int | None, _option("--seed", help="Of weights and dropout. (1)", panel=LEARNING)
    ] = None,
    val_fraction: Annotated[
        float | None,
        _option("--val-fraction", help="The last part, to validate on. (0.1)", panel=TEXT),
    ] = None,
    encoding: Annotated[
        str | None, _option("--encoding", help="Of the text. (utf-8)", panel=TEXT)
    ] = None,
    as_bytes: Annotated[
        bool, _option("--bytes", help="Model bytes: any file, 256 symbols.", panel=TEXT)
    ] = False,
    device: Annotated[
        str | None,
        _option(
            "--device",
            help="auto, cpu, cuda or mps. (auto)",
            panel=LEARNING,
            autocompletion=one_of("auto", "cpu", "cuda", "mps"),
        ),
    ] = None,
    precision: Annotated[
        str | None,
        _option(
            "--precision",
            help="float32, bfloat16 or float16; auto tries which is fastest. (auto)",
            panel=LEARNING,
            autocompletion=one_of("auto", "float32", "bfloat16", "float16"),
        ),
    ] = None,
    threads: Annotated[
        int | None,
        _option(
            "--threads", help="Of the CPU; as many as a trial finds useful. (0)", panel=LEARNING
        ),
    ] = None,
    keep: Annotated[
        int | None,
        _option("--keep", help="Latest checkpoints to keep, beside the best. (2)", panel=TEXT),
    ] = None,
    plain: Annotated[
        bool, _option("--plain", help="Lines instead of the live panel.", panel=SHOW)
    ] = False,
    quiet: Annotated[bool, _option("--quiet", help="Only the result.", panel=SHOW)] = False,
    as_json: Json = False,
) -> int:
    """Train a model on a text, and watch it learn."""
    import charlstm.train  # before numpy: it sets how threads wait  # noqa: F401

    budget = _given(epochs=epochs, steps=steps, minutes=minutes, patience=patience, keep=keep)
    model = _given(cell=cell, hidden_size=hidden, layers=layers, embedding_size=embed)
    learning = _given(
        batch=batch,
        bptt=bptt,
        learning_rate=lr,
        adam_rate=adam_lr,
        warmup_steps=warmup,
        hold=hold,
        final_rate=final_rate,
        weight_decay=weight_decay,
        row_averaging=row_averaging,
        reset_every=reset_every,
        dropout=dropout,
        dropout_masks=dropout_masks,
        clip=clip,
        averaging=averaging,
        val_fraction=val_fraction,
        seed=seed,
        device=device,
        precision=precision,
        threads=threads,
    )
    start = _given(name=name, preset=preset, init_from=init_from, teacher=teacher)
    reading = _given(encoding=encoding, as_bytes=as_bytes or None)
    with ExitStack() as stack:
        if resume:
            _refuse(
                {**start, **model, **learning, **reading},
                "a resumed run keeps its settings",
                "leave them out, or start a new run",
            )
            trainer = resume_run(stack, checkpoint, text, budget, quiet)
        else:
            _refuse(
                _given(checkpoint=checkpoint),
                "without --resume there is no run to go on with",
                "add --resume, or use --init-from for a new run with its weights",
            )
            if init_from is not None:
                _refuse(
                    model,
                    "with --init-from the model has the shape of that run's",
                    "leave them out, or train without --init-from",
                )
            corpus = open_texts(text, quiet=quiet, **reading)
            try:
                trainer = begin_run(stack, corpus, model, {**budget, **learning}, start, quiet)
            except KeyboardInterrupt:
                note("stopped before the run began")
                raise
        finished = watch(trainer, plain=plain, quiet=quiet)
    return _conclude(finished, as_json=as_json, quiet=quiet)


# Options whose names are not those of the settings they set.
_OPTION_NAMES = {
    "hidden_size": "--hidden",
    "embedding_size": "--embed",
    "learning_rate": "--lr",
    "adam_rate": "--adam-lr",
    "warmup_steps": "--warmup",
    "as_bytes": "--bytes",
    "checkpoint": "-c",
}


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _refuse(options: dict[str, Any], reason: str, remedy: str) -> None:
    """Raise ``UsageError`` naming the options, if there are any."""
    if options:
        names = [_OPTION_NAMES.get(name, f"--{name.replace('_', '-')}") for name in options]
        raise UsageError(f"{', '.join(names)}: {reason}", remedy)


def _conclude(finished: "RunFinished", *, as_json: bool, quiet: bool) -> int:
    import math

    from charlstm.runs.metrics import event_to_dict
    from charlstm.scoring import perplexity
    from charlstm.show.format import duration, printable

    if as_json:
        print(json.dumps(event_to_dict(finished)))
    else:
        path = printable(str(finished.path), keep="")
        steps = "1 step" if finished.step == 1 else f"{finished.step:,} steps"
        print(f"{path}  {steps} in {duration(finished.seconds)}")
        if finished.val_loss is not None:
            loss = finished.val_loss
            print(
                f"validation {loss:z.4f} nats per character, {loss / math.log(2):z.3f} bits, "
                f"perplexity {perplexity(loss):.2f} (stateful)"
            )
    if finished.unsaved is not None:
        note(f"the last checkpoint could not be saved: {finished.unsaved}; mend that, then resume")
        return int(ExitCode.FAILED)
    match finished.reason:
        case "stopped":
            note(f"stopped and saved; go on with: charlstm train --resume -c {finished.path}")
            return int(ExitCode.INTERRUPTED)
        case "diverged":
            note(
                "the loss stopped being finite again and again; the last good checkpoint is "
                "saved; try a lower --lr"
            )
            return int(ExitCode.FAILED)
        case "patience":
            note(
                f"the validation got no better; the best is from step {finished.best_step:,}. "
                f"To go on all the same: charlstm train --resume -c {finished.path} --patience 0"
            )
    if not quiet:
        note(f"now try: charlstm sample -c {finished.path} --temp 0.8")
    return int(ExitCode.DONE)
