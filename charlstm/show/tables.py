"""The table of runs."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from charlstm.show.text import count, printable, size
from charlstm.summaries import RunSummary


def print_runs(console: Console, summaries: Sequence[RunSummary]) -> None:
    """All runs, the newest first; columns that do not fit are left out."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    middling, wide = console.width >= 56, console.width >= 76
    columns = [
        ("run", True, "left"),
        ("model", middling, "left"),
        ("params", wide, "right"),
        ("corpus", wide, "left"),
        ("steps", True, "right"),
        ("best", True, "right"),
        ("age", middling, "right"),
        ("disk", wide, "right"),
    ]
    for name, shown, justify in columns:
        if shown:
            limit = 28 if name == "run" else 16 if name == "corpus" else None
            table.add_column(
                name,
                justify="right" if justify == "right" else "left",
                no_wrap=True,
                overflow="ellipsis",
                max_width=limit,
            )
    for run in summaries:
        if not run.problem:
            cells = (
                run.name,
                run.model,
                count(run.parameters),
                run.corpus,
                f"{run.step:,}" + (f"/{run.total_steps:,}" if run.total_steps else ""),
                "–" if run.best_loss is None else f"{run.best_loss:.4f}",
                _age(run.age_seconds),
                size(run.disk_bytes),
            )
            shown_cells = zip(cells, columns, strict=True)
            table.add_row(*(printable(cell, keep="") for cell, column in shown_cells if column[1]))
    console.print(table)
    for run in summaries:
        if run.problem:
            line = printable(f"{run.name}  {run.problem}", keep="")
            console.print(line, style="dim")


def _age(seconds: float) -> str:
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{seconds / limit:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
