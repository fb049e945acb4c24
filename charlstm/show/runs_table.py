"""The table of ``charlstm runs``."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from charlstm.runs.catalogue import RunSummary
from charlstm.show.printable import printable
from charlstm.show.quantities import count, size

LEAST_MISSED = ("disk", "params", "corpus", "age", "model", "lineage", "best")
"""Columns in the order in which narrow terminals drop them."""
GAP = 2
LEAST_NAME = 8
"""Minimum width of the column of names."""


def print_runs(console: Console, summaries: Sequence[RunSummary]) -> None:
    """Print all runs, newest first, without the columns that do not fit."""
    rows = [_cells(run) for run in summaries if not run.problem]
    if not any(row["lineage"] for row in rows):
        for row in rows:
            del row["lineage"]
    if rows:
        widths = {name: max(cell_len(r[name]) for r in [*rows, {name: name}]) for name in rows[0]}
        for name in LEAST_MISSED:
            if sum(widths.values()) + GAP * len(widths) <= console.width:
                break
            widths.pop(name, None)
        excess = sum(widths.values()) + GAP * len(widths) - console.width
        if excess > 0:  # a shortened name is still a name, a shortened number is another one
            widths["run"] = max(LEAST_NAME, widths["run"] - excess)
        table = Table(box=None, padding=(0, GAP, 0, 0), header_style="bold")
        for name in widths:
            table.add_column(
                name,
                justify="left" if name in ("run", "lineage", "model", "corpus") else "right",
                width=widths[name],
                no_wrap=True,
                overflow="ellipsis",
            )
        for row in rows:
            table.add_row(*(row[name] for name in widths))
        console.print(table)
    for run in summaries:
        if run.problem:
            line = printable(f"{run.name}  {run.problem}", keep="")
            console.print(line, style="dim")


def _cells(run: RunSummary) -> dict[str, str]:
    return {
        "run": _short(run.name, 28),
        "lineage": _lineage(run),
        "model": run.model,
        "params": count(run.parameters),
        "corpus": _short(run.corpus, 16),
        "steps": f"{run.step:,}" + (f"/{run.total_steps:,}" if run.total_steps else ""),
        "best": "–" if run.best_loss is None else f"{run.best_loss:z.4f}",
        "age": _age(run.age_seconds),
        "disk": size(run.disk_bytes),
    }


def _lineage(run: RunSummary) -> str:
    """Which generation a run is, and from which run it learned."""
    number = f"{run.generation}/{run.generations}" if run.generation else ""
    teacher = f"from {_short(run.teacher, 28)}" if run.teacher else ""
    return " ".join(filter(None, (number, teacher)))


def _short(name: str, longest: int) -> str:
    shown = printable(name, keep="")
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _age(seconds: float) -> str:
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{seconds / limit:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
