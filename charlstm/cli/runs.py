"""``charlstm runs``."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from charlstm.cli.commands import Commands
from charlstm.cli.options import (
    Json,
    check_outputs,
    command,
    default,
    example,
    note,
    one_of,
    run_names,
)
from charlstm.errors import CharlstmError, ExitCode, UsageError, plural, reason_of

group = Commands(
    help="List runs, show one, and free disk space.",
)
EXAMPLES = example(
    "charlstm runs",
    "charlstm runs show shakespeare",
    "charlstm runs compare lstm gru      curves, results, settings that differ",
    "charlstm runs prune                 delete checkpoints that are not needed",
    "charlstm runs prune NAME --whole    delete a run",
)


@group.callback(invoke_without_command=True)
def runs(context: typer.Context, as_json: Json = False) -> int:
    """List runs, newest first."""
    if context.invoked_subcommand is not None:
        return 0
    from charlstm.runs.catalogue import list_runs, no_runs, runs_folder, summarise

    summaries = [summarise(run) for run in list_runs()]
    if as_json:
        print(json.dumps([summary.to_dict() for summary in summaries]))
        return 0
    if not summaries:
        note(f"{no_runs(runs_folder())}; to train one:")
        note(command("train", "YOUR.txt"))
        return 0
    from charlstm.show.console import stdout_console
    from charlstm.show.runs_table import print_runs

    print_runs(stdout_console(), summaries)
    return 0


@group.command(epilog=example("charlstm runs show", "charlstm runs show shakespeare --json"))
def show(
    name: Annotated[
        str | None,
        typer.Argument(help="Run to show." + default("newest run"), autocompletion=run_names),
    ] = None,
    as_json: Json = False,
) -> int:
    """Show the settings and checkpoints of a run."""
    from charlstm.runs.catalogue import find_run, summarise
    from charlstm.runs.pointers import read_pointers
    from charlstm.runs.run import read_run_file
    from charlstm.show.printable import printable
    from charlstm.show.quantities import duration, size

    run = find_run(name, inside=True)
    content = read_run_file(run)
    summary = summarise(run)
    pointers = read_pointers(run)
    if as_json:
        print(
            json.dumps(
                {
                    **summary.to_dict(),
                    "model_settings": content.model.to_dict(),
                    "train_settings": content.train.to_dict(),
                    "created": content.created,
                    "teacher": content.teacher,
                    "checkpoints": list(pointers.kept),
                    "best": pointers.best,
                    "last": pointers.last,
                }
            )
        )
        return 0
    unit = "byte" if content.source.as_bytes else "character"
    rows = {
        "run": summary.path,
        "created": content.created,
        "model": f"{summary.model}, {summary.parameters:,} parameters",
        "corpus": f"{', '.join(content.source.paths)} ({plural(summary.characters, unit)}"
        + ("" if content.source.separator is None else ", a list")
        + ")",
        "steps": f"{summary.step:,}"
        + (f" of {summary.total_steps:,}" if summary.total_steps else ""),
        "best validation": "–"
        if summary.best_loss is None or summary.best_step is None
        else f"{summary.best_loss:.4f} nats per {unit} at step {summary.best_step:,}",
        "last saved": f"{duration(summary.age_seconds)} ago",
        "disk": size(summary.disk_bytes),
        "checkpoints": ", ".join(n + _role(n, pointers.best, pointers.last) for n in pointers.kept),
    }
    if content.teacher is not None:
        rows["teacher"] = content.teacher
    settings = content.train.to_dict().items()
    rows |= {f"  {key.replace('_', ' ')}": str(v) for key, v in settings if v is not None}
    width = max(map(len, rows))
    for key, value in rows.items():
        print(f"{key:<{width}}  {printable(value, keep='')}")
    return 0


def _role(name: str, best: str | None, last: str | None) -> str:
    roles = [role for role, who in (("best", best), ("last", last)) if who == name]
    return f" ({', '.join(roles)})" if roles else ""


@group.command(
    epilog=example(
        "charlstm runs compare lstm gru",
        "charlstm runs compare lstm gru --by time --png curves.png",
    )
)
def compare(
    names: Annotated[list[str], typer.Argument(help="Two runs or more.", autocompletion=run_names)],
    by: Annotated[
        str,
        typer.Option(
            help="What the curves go along: steps, characters or time.",
            autocompletion=one_of("steps", "characters", "time"),
        ),
    ] = "steps",
    as_json: Json = False,
    html: Annotated[str | None, typer.Option(help="Write the comparison as HTML.")] = None,
    svg: Annotated[str | None, typer.Option(help="Write the picture as SVG.")] = None,
    png: Annotated[str | None, typer.Option(help="Write the picture as PNG.")] = None,
    csv: Annotated[str | None, typer.Option(help="Write the validations as CSV.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
) -> int:
    """Compare runs: validation curves in one chart, results, settings that differ."""
    from charlstm.analysis.compared_runs import compare_runs
    from charlstm.cli.documents import write_document, write_file
    from charlstm.runs.catalogue import find_run

    outputs = {"html": html, "svg": svg, "png": png, "csv": csv}
    check_outputs(force=force, **outputs)
    for path in outputs.values():
        if path is not None and os.path.exists(path) and not force:
            raise UsageError(f"{path} is already there", "name another file, or add --force")
    compared = compare_runs([find_run(name, inside=True) for name in names], by)
    document = compared.document()
    write_document(document, html=html, svg=svg, png=png)
    if csv is not None:
        write_file(csv, compared.to_csv().encode("utf-8", "surrogateescape"))
    if as_json:
        print(json.dumps(compared.to_dict(), allow_nan=False))
    elif not any(outputs.values()):
        from charlstm.show.console import stdout_console
        from charlstm.show.terminal import print_document

        print_document(stdout_console(), document)
    return 0


@group.command(epilog=example("charlstm runs tensorboard", "charlstm runs tensorboard a b --dir t"))
def tensorboard(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="The runs; the newest if left out.", autocompletion=run_names),
    ] = None,
    folder: Annotated[
        str, typer.Option("--dir", help="The folder that tensorboard --logdir reads.")
    ] = "tensorboard",
    force: Annotated[
        bool, typer.Option("--force", help="Write runs again that the folder has.")
    ] = False,
) -> int:
    """Write runs as TensorBoard's files: losses, gates, a sample of each checkpoint."""
    from charlstm.export.tensorboard import EVENT_FILES, TensorBoardLog, is_own, write_run
    from charlstm.runs.catalogue import find_run
    from charlstm.runs.checkpoint import read_model
    from charlstm.runs.lock import lock
    from charlstm.runs.pointers import read_pointers
    from charlstm.training_run import sample_of

    runs = [find_run(name, inside=True) for name in names] if names else [find_run(None)]
    folder = os.path.expanduser(folder)  # after --dir=, shells leave a ~ as it is
    for run in runs:
        below = Path(folder) / run.name
        present = list(below.glob(EVENT_FILES))
        if not all(map(is_own, present)):
            raise UsageError(f"{below} has files of another program", "name another --dir")
        if present and not force:
            raise UsageError(f"{below} is already there", "name another --dir, or add --force")
    for run in runs:
        below = Path(folder) / run.name
        before = list(below.glob(EVENT_FILES))
        with lock(run) if before else nullcontext():  # a run in training writes to its file
            files = [read_model(run / name) for name in sorted(read_pointers(run).kept)]
            log = TensorBoardLog(below)
            write_run(run, log)
            for file in files:
                log.write_sample(file.training.get("step", 0), sample_of(file))
            log.close()
            for written in before:
                written.unlink()
        note(f"wrote {below}")
    note(f"look at it: tensorboard --logdir {shlex.quote(folder)}")
    return 0


@group.command(epilog=example("charlstm runs prune", "charlstm runs prune old-run --whole --yes"))
def prune(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Runs to prune." + default("all runs"), autocompletion=run_names),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Delete the named runs entirely.")] = False,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            help="Delete the cache of encoded texts instead. Files are encoded again when needed; "
            "a text from stdin must be piped in again to resume.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> int:
    """Delete checkpoints that are neither the best nor the last of their run."""
    from charlstm.files import disk_bytes
    from charlstm.show.quantities import size

    if whole and not names:
        raise UsageError("--whole needs the name of a run", "name the runs to delete")
    if cache and (names or whole):
        raise UsageError("--cache takes no runs and no --whole", "use it alone")
    doomed, skipped = (_cached_texts(), False) if cache else _parts_of_runs(names, whole=whole)
    if not doomed:
        note("nothing to prune")
        return int(ExitCode.FAILED if skipped and names else ExitCode.DONE)
    sizes = {path: disk_bytes(path) for one in doomed for path in one.paths}
    for path, disk in sizes.items():
        note(f"{path}  {size(disk)}")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("cannot ask for confirmation: stdin is not a terminal", "add --yes")
        if not typer.confirm(f"Delete these, {size(sum(sizes.values()))} in total?", err=True):
            return 0
    freed = 0
    for one in doomed:
        try:
            freed += one.delete()
        except (CharlstmError, OSError) as error:
            _skip(one.owner, error)
            skipped = True
            continue
        for path in (*one.paths, one.owner) if whole else one.paths:
            if path.exists():
                note(f"kept {path}: it has files that charlstm did not write, or cannot be deleted")
    note(f"freed {size(freed)}")
    return int(ExitCode.FAILED if skipped and names else ExitCode.DONE)


class _Doomed(NamedTuple):
    """A run or folder, the paths in it to delete, and a function that deletes them."""

    owner: Path
    paths: list[Path]
    delete: Callable[[], int]


def _skip(path: Path, error: Exception, remedy: str = "") -> None:
    reason = error.message if isinstance(error, CharlstmError) else reason_of(error)
    note(f"skipped {path}: {'; '.join(filter(None, (reason, remedy)))}")


def _cached_texts() -> list[_Doomed]:
    from charlstm.text.cache import cached_corpora, delete_cached, unfinished_corpora

    folders = [*cached_corpora(), *unfinished_corpora()]
    return [_Doomed(folder, [folder], partial(delete_cached, folder)) for folder in folders]


def _parts_of_runs(names: list[str] | None, *, whole: bool) -> tuple[list[_Doomed], bool]:
    """What to delete of each run, each run once; and whether any run was skipped."""
    from charlstm.runs.catalogue import find_run, list_runs
    from charlstm.runs.prune import (
        delete_run,
        delete_superfluous,
        identities,
        superfluous,
        unrecorded,
        written_by_charlstm,
    )
    from charlstm.runs.run import read_run_file

    runs = [find_run(name, exact=True) for name in names] if names else list_runs()
    doomed, skipped = [], False
    for run in {os.path.realpath(run): run for run in reversed(runs)}.values():
        try:
            read_run_file(run)  # another program may have a run.json, too
            if whole and run.is_symlink():
                raise UsageError("it is a link", "name the folder that it points to")
        except CharlstmError as error:
            remedy = error.hint if isinstance(error, UsageError) else "delete its folder yourself"
            _skip(run, error, remedy if whole else "")
            skipped = True
            continue
        for path in [] if whole else unrecorded(run):
            note(f"kept {path}: not recorded by the run")
        found = written_by_charlstm(run) if whole else superfluous(run)
        if found:
            delete = delete_run if whole else delete_superfluous
            doomed.append(_Doomed(run, found, partial(delete, run, identities(found))))
    return doomed[::-1], skipped
