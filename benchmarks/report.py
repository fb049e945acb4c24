"""The page docs/research/benchmarks.md, from the records in ``benchmarks/results``."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
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
    "char-rnn": "Beside the step-by-step loop of char-rnn.pytorch",
    "cells": "Training speed of every cell",
    "parts": "Where the time of a training step goes",
    "panel": "Training speed with and without the live panel",
    "spin": "How long torch's threads spin",
    "memory": "Memory of training on a gigabyte",
    "sampling": "Sampling and scoring without torch",
    "inspect": "`charlstm inspect` on a text as long as a book",
}

SHORT = (
    ("nanoGPT's CPU recipe: seconds it takes", "nanogpt", "nanogpt_seconds"),
    ("… its loss in the end, nats by the windowed protocol", "nanogpt", "nanogpt_val_loss"),
    ("… charlstm's training gets there so many times faster", "nanogpt", "times_faster_to_goal"),
    ("… charlstm's loss when the recipe ends", "nanogpt", "race_windowed"),
    ("training steps over those of the plain loop, four shapes", "speed", "*", "times", "plain"),
    ("… both without dropout", "speed", "*", "times_without_dropout", "plain"),
    ("share of the processor's bfloat16 rate", "speed", "*", "share_of_product"),
    ("writing one text: times the bare products", "sampling", "a: over bare products, 1 thread"),
    ("… times as fast as the plain loop", "sampling", "b: times torch"),
    ("64 texts at once: times as fast as one", "sampling", "c: batch of 64 over one stream"),
    (
        "a first character: share of the time of import torch",
        "sampling",
        "d: first character over import torch",
    ),
    (
        "peak memory for a gigabyte: encoding it, and a step, MB",
        "memory",
        "encoding and 1 step",
        "peak_mb",
    ),
    ("… a hundred steps, MB", "memory", "100 steps", "peak_mb"),
)
"""What it is, the record, and where the figure lies in it."""


def page() -> str:
    """The whole page."""
    paths = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    parts = [HEAD, in_short(paths)]
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


def in_short(paths: dict[str, Path]) -> str:
    """The figures that most readers look for, each from its record."""
    rows = ["| | |", "|---|---|"]
    for text, name, *keys in SHORT:
        found: list[float] = []
        _collect(json.loads(paths[name].read_text(encoding="utf-8"))["results"], keys, found)
        low, high = _number(min(found)), _number(max(found))
        rows.append(f"| {text} | {low if low == high else f'{low} to {high}'} |")
    return "\n".join(rows) + "\n"


def _collect(value: Any, keys: list[str], found: list[float]) -> None:
    """Add what lies at the path of ``keys``, where ``*`` stands for any; of a figure the median."""
    if keys:
        for key in value if keys[0] == "*" else keys[:1]:
            _collect(value[key], keys[1:], found)
    else:
        found.append(value["median"] if isinstance(value, dict) else value)


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
