"""The table of runs."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from charlstm.show.text import count, printable, size
from charlstm.summaries import RunSummary


def print_runs(console: Console, summaries: Sequence[RunSummary]) -> None:
    """All runs, the newest first; columns that do not fit are left out."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    wide = console.width >= 76
    table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=28)
    columns = [("model", True), ("params", wide), ("corpus", wide), ("steps", True)]
    columns += [("best", True), ("age", True), ("disk", wide)]
    for name, shown in columns:
        if shown:
            table.add_column(
                name,
                justify="left" if name in ("model", "corpus") else "right",
                no_wrap=True,
                overflow="ellipsis",
                max_width=18,
            )
    for run in summaries:
        if run.problem:
            table.add_row(printable(run.name, keep=""), printable(run.problem, keep=""))
            continue
        best = "–" if run.best_loss is None else f"{run.best_loss:.4f}"
        cells = [
            (run.model, True),
            (count(run.parameters), wide),
            (printable(run.corpus, keep=""), wide),
            (f"{run.step:,}" + (f"/{run.total_steps:,}" if run.total_steps else ""), True),
            (best, True),
            (_age(run.age_seconds), True),
            (size(run.disk_bytes), wide),
        ]
        table.add_row(printable(run.name, keep=""), *(text for text, shown in cells if shown))
    console.print(table)


def _age(seconds: float) -> str:
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{seconds / limit:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
