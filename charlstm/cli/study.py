"""``charlstm study``."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Any

import typer

from charlstm.cli.commands import Commands
from charlstm.cli.inputs import open_model, open_texts
from charlstm.cli.options import Json, TextReading, default, example, note, one_of, run_names
from charlstm.cli.watch_study import Status, Stop, follow
from charlstm.errors import UsageError
from charlstm.net.spec import CELLS

MOST = 10**12
"""Most characters, or steps, that a study may train on."""
TASK_NAMES = ("reber", "continual-reber", "long-lag", "temporal-order", "anbn", "brackets")
MOST_CHARACTERS = 10**12
group = Commands(
    help="Run experiments: long time lags, gradients through time, cells compared.",
    no_args_is_help=True,
)
EXAMPLES = example(
    "charlstm study lag               which cells bridge long time lags",
    "charlstm study gradient          how gradients vanish and explode",
    "charlstm study cells book.txt    six cells of equal size on one text",
)


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, **more)


Name = Annotated[
    str | None,
    _option(
        "--name",
        help="Name of the folder under studies/ for the results." + default("from the study"),
    ),
]
Minutes = Annotated[
    float | None,
    _option("--minutes", help="Time limit in minutes; the same command continues the study."),
]


@group.command(
    epilog=example(
        "charlstm study lag",
        "charlstm study lag --task continual-reber --cells lstm-1997,lstm",
        "charlstm study lag --task long-lag --lags 50,100 --trials 3 --json",
    )
)
def lag(
    context: typer.Context,
    task: Annotated[
        str,
        _option(
            "--task", help=f"Task: {', '.join(TASK_NAMES)}.", autocompletion=one_of(*TASK_NAMES)
        ),
    ] = "reber",
    cells: Annotated[
        str, _option("--cells", help=f"Cells, separated by commas: {', '.join(CELLS)}.")
    ] = "rnn,lstm-1997,lstm,gru",
    lags: Annotated[
        str | None,
        _option(
            "--lags",
            help="Lags to train on, separated by commas; the task defines the unit."
            + default("depends on the task"),
        ),
    ] = None,
    trials: Annotated[int, _option("--trials", help="Number of networks per cell and lag.")] = 5,
    minutes: Minutes = None,
    characters: Annotated[
        int, _option("--characters", help="Training budget of each network, in characters.")
    ] = 1_000_000,
    hidden: Annotated[int, _option("--hidden", help="Units per network.")] = 32,
    forget_bias: Annotated[
        float | None,
        _option(
            "--forget-bias", help="Initial bias of the forget gate." + default("depends on the lag")
        ),
    ] = None,
    name: Name = None,
    as_json: Json = False,
) -> int:
    """Train cells on tasks that need memory, to find the longest time lag each one bridges."""
    import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401
    from charlstm.errors import check_integer, check_number
    from charlstm.study.results import ROOT, LagTrial, open_results
    from charlstm.study.tasks import TASKS

    if task not in TASKS:
        raise UsageError(f"--task is {task!r}", f"choose one of {', '.join(TASKS)}")
    chosen = TASKS[task]
    names = _cells(cells)
    sizes = sorted(set(_numbers("--lags", lags))) if lags else list(chosen.lags)
    for size in sizes:
        chosen.check_lag(size)
    check_integer("--trials", trials, 1, 10_000)
    check_integer("--characters", characters, 1, MOST_CHARACTERS)
    check_integer("--hidden", hidden, 1, 4096)
    if forget_bias is not None:
        check_number("--forget-bias", forget_bias, -30, 30)
    if forget_bias is not None and not any(CELLS[cell].memory for cell in names):
        note("note: --forget-bias has no effect: none of the cells has a gate that forgets")
    stop = Stop(minutes)
    settings = {
        "study": "lag",
        "task": task,
        "characters": characters,
        "hidden": hidden,
        "forget_bias": forget_bias,
    }
    wanted = [(c, s, t + 1) for t in range(trials) for s in sizes for c in names]

    note(f"{task}: {chosen.paper}; the lag is {chosen.lag_is}")
    note(f"solved means: {chosen.criterion}")
    with open_results(ROOT, name or f"lag-{task}", LagTrial, settings) as results:

        def work() -> Iterator[Status]:
            from charlstm.study.lag import LagProgress, LagSettings, run_trial

            common = LagSettings(chosen, hidden, characters, forget_bias)
            for cell, size, trial in results.missing(wanted):
                where = f"{cell}, lag {size}, trial {trial}"
                yield Status(where)
                for step in run_trial(common, cell, size, trial):
                    if isinstance(step, LagProgress):
                        fraction = f"{100 * step.right:.2f}% correct"
                        yield Status(f"{where}: {fraction} after {step.characters:,} characters")
                    else:
                        results.add(step)
                        outcome = "solved" if step.solved else "not solved"
                        yield Status(f"{where}: {outcome}, {step.characters:,} characters", True)
                    if stop:
                        if isinstance(step, LagProgress):
                            yield Status(
                                f"{where}: stopped; it will start over when you continue", True
                            )
                        return

        def view(console: Any, found: Any) -> Any:
            from charlstm.show.study_charts import lag_view

            return lag_view(console, found, names, sizes)

        return follow(context, results, wanted, work(), view, stop, as_json=as_json)


@group.command(
    epilog=example(
        "charlstm study cells",
        "charlstm study cells book.txt --parameters 500000 --characters 5000000",
        "charlstm study cells --cells lstm,gru --seeds 5 --json",
    )
)
def cells(
    context: typer.Context,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files or folders to train on, or - for stdin." + default("the bundled text"),
            show_default=False,
        ),
    ] = None,
    *,
    cells: Annotated[
        str, _option("--cells", help=f"Cells, separated by commas: {', '.join(CELLS)}.")
    ] = ",".join(CELLS),
    parameters: Annotated[
        int, _option("--parameters", help="Parameters per model, approximately.")
    ] = 100_000,
    characters: Annotated[
        int, _option("--characters", help="Training budget of each model, in characters.")
    ] = 1_000_000,
    seeds: Annotated[int, _option("--seeds", help="Number of models per cell.")] = 3,
    minutes: Minutes = None,
    name: Name = None,
    reading: TextReading,
    as_json: Json = False,
) -> int:
    """Compare cells on one text, with equal parameters and equal budgets."""
    import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401
    from charlstm.errors import check_integer
    from charlstm.runs.run import METRICS_FILE
    from charlstm.study.results import ROOT, CellRun, matched_model, open_results

    names = _cells(cells)
    check_integer("--parameters", parameters, 1_000, 1_000_000_000)
    check_integer("--characters", characters, 1, MOST_CHARACTERS)
    check_integer("--seeds", seeds, 1, 10_000)
    stop = Stop(minutes)
    corpus = open_texts(text, quiet=True, **reading.given())
    settings = {
        "study": "cells",
        "corpus": corpus.digest,
        "parameters": parameters,
        "characters": characters,
    }
    wanted = [(cell, seed + 1) for seed in range(seeds) for cell in names]
    with open_results(ROOT, name or f"cells-{corpus.name}", CellRun, settings) as results:

        def work() -> Iterator[Status]:
            from charlstm.events import Evaluated, RunFinished, StepDone
            from charlstm.runs.metrics import MetricsLog
            from charlstm.study.compare import EMBEDDING, open_cell_run, result

            for cell, seed in results.missing(wanted):
                model = matched_model(cell, parameters, len(corpus.vocab), EMBEDDING)
                where = f"{model.describe()}, seed {seed}"
                yield Status(f"{where}: starting")
                opened = open_cell_run(results.folder, corpus, model, seed, characters)
                with opened as trainer, closing(MetricsLog(trainer.path / METRICS_FILE)) as log:
                    for event in trainer.run():
                        log.write(event)
                        if isinstance(event, StepDone):
                            yield Status(f"{where}: step {event.step:,}, loss {event.loss:.4f}")
                        elif isinstance(event, Evaluated):
                            loss = f"validation {event.val_loss:.4f}"
                            yield Status(f"{where}: step {event.step:,}, {loss}")
                        elif isinstance(event, RunFinished) and event.reason == "diverged":
                            yield Status(f"{where}: diverged, no result", True)
                        elif isinstance(event, RunFinished) and event.reason != "stopped":
                            results.add(result(trainer, event))
                            yield Status(f"{where}: validation {event.val_loss:.4f}", True)
                        if stop:
                            trainer.request_stop()
                if stop:
                    return

        def view(console: Any, found: Any) -> Any:
            from charlstm.show.study_charts import cells_view

            return cells_view(console, found)

        return follow(context, results, wanted, work(), view, stop, as_json=as_json)


@group.command(
    epilog=example(
        "charlstm study gradient",
        "charlstm study gradient -c shakespeare --reach 200",
        "charlstm study gradient --cells lstm-1997,coupled,peephole --json",
    )
)
def gradient(
    context: typer.Context,
    checkpoint: Annotated[
        str | None,
        _option(
            "-c",
            "--checkpoint",
            metavar="RUN",
            help="Run whose model to measure." + default("models that are trained briefly first"),
            autocompletion=run_names,
        ),
    ] = None,
    *,
    cells: Annotated[
        str, _option("--cells", help=f"Cells, separated by commas: {', '.join(CELLS)}.")
    ] = "rnn,lstm,gru",
    reach: Annotated[int, _option("--reach", help="Number of steps K to go back.")] = 100,
    steps: Annotated[int, _option("--steps", help="Training steps before measuring.")] = 200,
    hidden: Annotated[int, _option("--hidden", help="Units per model.")] = 64,
    as_json: Json = False,
) -> int:
    """Measure how the gradient of the loss shrinks or grows on its way back through time."""
    import charlstm.training  # before numpy: it sets how threads wait  # noqa: F401
    from charlstm.errors import check_integer

    names = _cells(cells)
    check_integer("--reach", reach, 2, 1000)
    check_integer("--steps", steps, 1, MOST)
    check_integer("--hidden", hidden, 1, 4096)
    if checkpoint is not None:
        for option in ("cells", "steps", "hidden"):
            source = context.get_parameter_source(option)
            if source is not None and source.name != "DEFAULT":
                raise UsageError(
                    f"--{option} cannot be used with -c", "a run's model is not trained"
                )
    if checkpoint is None:
        from charlstm.study.gradient import study_gradients

        report = study_gradients(
            open_texts(None, quiet=True),
            names,
            hidden_size=hidden,
            reach=reach,
            steps=steps,
            report=note,
        )
    else:
        from charlstm.study.gradient import study_model

        report = study_model(open_model(checkpoint).file, reach)
    if as_json:
        print(json.dumps(report.to_dict()))
        return 0
    from charlstm.show.console import stdout_console
    from charlstm.show.study_charts import gradient_view

    console = stdout_console()
    console.print(gradient_view(console, report))
    return 0


def _cells(value: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if name not in CELLS:
            raise UsageError(f"--cells has {name!r}", f"choose from {', '.join(CELLS)}")
    return names


def _numbers(option: str, value: str) -> list[int]:
    try:
        return [int(number) for number in value.split(",")]
    except ValueError:
        raise UsageError(
            f"{option} is {value!r}", "give whole numbers separated by commas"
        ) from None
