"""Write docs/benchmarks.md from the records in ``benchmarks/results``.

python benchmarks/report.py
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Made by `python benchmarks/report.py` from the records in `benchmarks/results`; a test compares
them. Each section has the command that measured it. Candidates of a section ran in turn, round by
round, in one process tree; a figure is the median of the rounds, with the lowest and the highest
beside it. A ratio is taken round by round, so that a slow minute of the machine meets both of its
sides.
"""
TITLES = {
    "nanogpt": "Beside nanoGPT's CPU recipe",
    "speed": "Training speed on two threads",
    "one-thread": "Training speed on one thread",
    "cells": "Training speed of every cell",
    "panel": "Training speed with and without the live panel",
    "spin": "How long torch's threads spin",
    "memory": "Memory of training on a gigabyte",
    "sampling": "Sampling and scoring without torch",
    "inspect": "`charlstm inspect` on a text as long as a book",
}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    paths = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    order = [*(name for name in TITLES if name in paths), *(n for n in paths if n not in TITLES)]
    for name in order:
        document = json.loads(paths[name].read_text(encoding="utf-8"))
        machine = document["machine"]
        parts.append(
            f"## {TITLES.get(name, name)}\n\n`{document['command']}`\n\n"
            f"{machine['processor']}, {machine['threads']} threads, {machine['device']}; torch "
            f"{machine['torch']}, Python {machine['python']}; commit {document['commit']}, "
            f"{machine['date']}.\n\n" + "\n".join(table(document["results"])) + "\n"
        )
    return "\n".join(parts)


def table(results: dict[str, Any]) -> list[str]:
    """A row per figure; what is nested becomes part of the row's name."""
    rows = ["| | median | lowest | highest | rounds |", "|---|---|---|---|---|"]
    for name, value in _flat(results):
        if isinstance(value, dict):
            cells = [_number(value[key]) for key in ("median", "low", "high", "rounds")]
        else:
            cells = [_number(value), "", "", ""]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, item in value.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(item, dict) and "median" not in item:
            rows += _flat(item, f"{name}: ")
        else:
            rows.append((name, item))
    return rows


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
