"""The page docs/research/benchmarks.md, from the records in ``benchmarks/results``."""

import json
import math
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
HEAD = """# Benchmarks

Speed and memory, generated from the records in `benchmarks/results`. The losses that models reach
are in [results](results.md). Each section has the command that measured it. Figures have as many
digits as their spread allows, and at most four.

**How to read a table.** Candidates ran in turn, round by round. A figure is the median of the
rounds, with the lowest and the highest next to it. A ratio is taken within a round, so that a slow
minute of the machine affects both of its sides. Shapes are layers × units × B × T. *Plain* is the
usual training loop with `nn.LSTM` in float32.

**Machine.** Two cores of an AMD EPYC with AVX-512 and bfloat16. The records do not have the
processor's full name, nor the peers' commits. A commit marked *dirty* had uncommitted changes.
"""
TITLES = {
    "nanogpt": "Next to nanoGPT's CPU recipe",
    "speed": "Training speed on two threads",
    "one-thread": "Training speed on one thread",
    "char-rnn": "Next to the step-by-step loop of char-rnn.pytorch",
    "cells": "Training speed of every cell",
    "parts": "Where the time of a training step goes",
    "panel": "Training speed with and without the live panel",
    "spin": "How long torch's threads spin",
    "memory": "Memory of training on a gigabyte",
    "sampling": "Sampling and scoring without torch",
    "inspect": "`charlstm inspect` on a text as long as a book",
}

WORDS = {"share_of_product": "fraction of the product's rate"}
"""A record's names, where the page has other words."""
NOTES = {
    "nanogpt": "**Contexts differ.** The recipe's loss is over windows of 64 characters, "
    "charlstm's over windows of 256.",
    "speed": "The fraction of the product's rate compares the step's arithmetic with a bare matrix "
    "product, measured in the same round. It exceeds 1 in one round (1.15): the product ran at 210 "
    "GFLOP/s then, instead of about 400, so the machine was slow while the product was measured.",
    "sampling": "One text of 1×512 is limited by memory: a character reads 4 MB of weights. 64 "
    "texts share each reading.",
}
"""What a section's reader has to know."""

SHORT = (
    ("nanoGPT's CPU recipe: seconds", "nanogpt", "nanogpt_seconds"),
    ("… its final loss, nats", "nanogpt", "nanogpt_val_loss"),
    (
        "… how many times faster charlstm's training reaches that loss",
        "nanogpt",
        "times_faster_to_goal",
    ),
    ("… charlstm's loss when the recipe ends", "nanogpt", "race_windowed"),
    ("training speed relative to the plain loop, four shapes", "speed", "*", "times", "plain"),
    ("… without dropout", "speed", "*", "times_without_dropout", "plain"),
    ("fraction of the rate of a bare bfloat16 product", "speed", "*", "share_of_product"),
    (
        "writing one text: time relative to its bare products",
        "sampling",
        "a: over bare products, 1 thread",
    ),
    ("… speed relative to a loop in torch", "sampling", "b: times torch"),
    ("64 texts at once: speed relative to one", "sampling", "c: batch of 64 over one stream"),
    (
        "a first character: fraction of the time of import torch",
        "sampling",
        "d: first character over import torch",
    ),
    (
        "peak memory for a gigabyte of text: encoding and one step, MB",
        "memory",
        "encoding and 1 step",
        "peak_mb",
    ),
    ("… a hundred steps, MB", "memory", "100 steps", "peak_mb"),
    (
        "64 texts at once: characters per second",
        "sampling",
        "chars per second",
        "batch, all threads",
    ),
    ("a first character: seconds", "sampling", "seconds", "first character"),
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
            f"{machine['date']}.\n\n"
            + (f"{NOTES[name]}\n\n" if name in NOTES else "")
            + "\n".join(table(document["results"]))
            + "\n"
        )
    return "\n".join(parts)


def in_short(paths: dict[str, Path]) -> str:
    """The figures that most readers look for, each from its record."""
    rows = ["| | |", "|---|---|"]
    for text, name, *keys in SHORT:
        found: list[tuple[float, float]] = []
        _collect(json.loads(paths[name].read_text(encoding="utf-8"))["results"], keys, found)
        low, high = _number(*min(found)), _number(*max(found))
        rows.append(f"| {text} | {low if low == high else f'{low} to {high}'} |")
    return "\n".join(rows) + "\n"


def _collect(value: Any, keys: list[str], found: list[tuple[float, float]]) -> None:
    """Add what lies at the path of ``keys``, where ``*`` stands for any: median and spread."""
    if keys:
        for key in value if keys[0] == "*" else keys[:1]:
            _collect(value[key], keys[1:], found)
    else:
        found.append((value["median"], _spread(value)) if isinstance(value, dict) else (value, 0))


def table(results: dict[str, Any]) -> list[str]:
    """A row per figure; what is nested becomes part of the row's name."""
    rows = ["| | median | lowest | highest | rounds |", "|---|---|---|---|---|"]
    for name, value in _flat(results):
        if isinstance(value, dict):
            figures = (_number(value[key], _spread(value)) for key in ("median", "low", "high"))
            cells = [*figures, str(value["rounds"])]
        else:
            cells = [_number(value), "", "", ""]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, item in value.items():
        name = f"{prefix}{WORDS.get(key, key.replace('_', ' '))}"
        if isinstance(item, dict) and "median" not in item:
            rows += _flat(item, f"{name}: ")
        else:
            rows.append((name, item))
    return rows


def _spread(figure: dict[str, float]) -> float:
    return figure["high"] - figure["low"]


def _number(value: object, spread: float = 0) -> str:
    """Four digits, or fewer: none that is smaller than a tenth of the spread's first digit."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if not value:
        return "0"
    digits = 3 - math.floor(math.log10(abs(value)))
    if spread:
        digits = min(digits, 1 - math.floor(math.log10(spread)))
        return f"{round(value, digits):,.{max(0, digits)}f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
