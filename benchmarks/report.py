"""The page docs/research/benchmarks.md, from the records in ``benchmarks/results``."""

import json
import math
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
HEAD = """# Benchmarks

Speed and memory of charlstm, generated from the records in `benchmarks/results`. The losses of the
models are in [results](results.md). Each section begins with the command that measured it. Figures
have at most four digits, fewer if their spread is large.

**Reading the tables.** Candidates take turns, round by round. Each row has the median, the lowest
and the highest value of the rounds. Ratios are computed within a round, so a slow minute of the
machine affects both sides. Shapes are layers × units × B × T. The *plain loop* is the usual
training loop with `nn.LSTM` in float32.

**Machine.** Two cores of an Intel Xeon with AMX; the virtual machine hides its full name. Compared
with the AMD EPYC of earlier records, bfloat16 products of matrices are four times as fast there,
and whatever waits for memory takes two to four times as long: a float32 product of a 2048×512
matrix with a vector 170 µs instead of 58.
"""
TITLES = {
    "nanogpt": "Comparison with nanoGPT's CPU recipe",
    "speed": "Training speed on two threads",
    "one-thread": "Training speed on one thread",
    "char-rnn": "Comparison with the step-by-step loop of char-rnn.pytorch",
    "cells": "Training speed of every cell",
    "parts": "Time of each part of a training step",
    "panel": "Training speed with and without the live panel",
    "spin": "Training speed by spin time of torch's threads",
    "memory": "Memory of training on a gigabyte of text",
    "memory-10-gb": "Memory of training on ten gigabytes of text",
    "encoding": "Encoding a text",
    "sampling": "Sampling and scoring without torch",
    "sampling-3x320": "Sampling and scoring, the default model",
    "sampling-3x512": "Sampling and scoring, the largest preset",
    "names": "Loss on a list of names, by makemore's protocol",
    "quantisation": "What int8 weights cost",
    "scaling-processes": "Two processes with a thread each, against one with two threads",
    "scaling-cells": "Losses of one process and of two, for each cell",
    "scaling-communication": "Summing the gradients of two processes, in one machine",
    "scaling-communication-10": "Summing the gradients of two processes over 10 Gbit/s",
    "scaling-communication-1": "Summing the gradients of two processes over 1 Gbit/s",
    "scaling-paper": "Efficiency of many processes, computed",
    "scaling-batch": "Loss by batch size, after equally many characters",
    "inspect": "`charlstm inspect` on a text as long as a book",
    "busy": "`charlstm inspect` while two other processes compute",
    "page": "Writing in the page of `charlstm export`, in headless Chromium",
}

WORDS = {
    "ours": "charlstm",
    "ours without dropout": "charlstm without dropout",
    "plain": "plain loop",
    "product": "matrix product",
    "product_gflops": "matrix product, GFLOP/s",
    "chars_per_second": "characters per second",
    "chars per second": "characters per second",
    "share_of_product": "fraction of the matrix product's rate",
    "times": "speedup over",
    "times_without_dropout": "speedup without dropout over",
    "times_lstm": "speed relative to lstm",
    "times_faster": "charlstm's speedup to the recipe's loss",
    "sprint": "charlstm to the recipe's loss",
    "sprint_settings": "charlstm's settings",
    "nanogpt": "nanoGPT",
    "race": "charlstm after nanoGPT's seconds",
    "windowed_256": "loss in windows of 256",
    "printed_loss": "loss it prints, of a sample",
    "panel": "with panel",
    "quiet": "without panel",
    "panel_over_quiet": "speed with panel relative to without",
    "share_of_panel": "fraction of time spent on the panel",
    "whole": "total",
    "average": "weight average",
    "corpus_mb": "size of the text, MB",
    "text_mb": "size of each text, MB",
    "mb_per_second": "MB per second",
    "share_of_hashing": "rate relative to SHA-256 alone",
    "peak_mb": "peak memory, MB",
    "played_per_second": "characters per second while it plays and draws",
    "file_mb": "size of the page, MB",
    "a: over bare products, 1 thread": "time relative to bare float32 products, 1 thread",
    "a: over bare products, all threads": "time relative to bare float32 products, all threads",
    "b: times torch": "speedup over a loop in torch",
    "c: batch of 64 over one stream": "64 parallel texts, speedup over one text",
    "d: first character over import torch": "first character, time relative to import torch",
    "e: score seconds": "scoring, seconds",
    "e: score seconds, int8": "scoring in int8, seconds",
    "h: int8 over float32": "speed of int8 relative to float32",
    "f: memory MB": "peak memory, MB",
    "g: novelty seconds": "novelty search, seconds",
    "stream, 1 thread": "one text, 1 thread",
    "stream, all threads": "one text, all threads",
    "torch": "one text, loop in torch",
    "batch, 1 thread": "64 texts, 1 thread",
    "batch, all threads": "64 texts, all threads",
}
"""Names in the records, and what the page calls them."""
NOTES = {
    "nanogpt": "Both losses are computed in windows of 64 characters, the recipe's context, over "
    "the same held-out tenth: no context before a window, every position counted. Seconds are of "
    "the whole process, start-up and validations included; training seconds those of its steps. "
    "charlstm's run to the recipe's loss has the settings below, which suit a run of a second.",
    "speed": "The fraction of the matrix product's rate compares the arithmetic of a step with a "
    "bare matrix product, measured in the same round.",
    "sampling": "The bare products are float32, in NumPy; sample computes in int8. In float32 one "
    "text at 1×512 waits for memory: each character reads 4 MB of weights. 64 texts read them once "
    "per step.",
    "quantisation": "The runs: `--preset tiny`, `quick` and 4,000 steps, `small` and 12 epochs, "
    "`medium` and 8 epochs, on the bundled text; the second and third generation of `--minutes 60` "
    "on Tiny Shakespeare; and each cell with `--preset quick --steps 3000` on the bundled text.",
    "inspect": "The views compute in float32, so they wait for memory as one text does.",
}
"""Notes that readers of a section need."""

SHORT = (
    ("nanoGPT's CPU recipe, seconds of the process", "nanogpt", "nanogpt", "seconds"),
    ("… final loss, nats, windows of 64", "nanogpt", "nanogpt", "loss"),
    ("… charlstm's speedup to that loss, processes", "nanogpt", "times_faster", "seconds"),
    ("… training alone", "nanogpt", "times_faster", "training_seconds"),
    ("… charlstm's loss after the same time, windows of 64", "nanogpt", "race", "loss"),
    ("… windows of 256", "nanogpt", "race", "windowed_256"),
    ("training, speedup over the plain loop, four shapes", "speed", "*", "times", "plain"),
    ("… without dropout", "speed", "*", "times_without_dropout", "plain"),
    ("… fraction of the rate of a bare bfloat16 matrix product", "speed", "*", "share_of_product"),
    (
        "sampling one text, time relative to bare float32 products",
        "sampling",
        "a: over bare products, 1 thread",
    ),
    ("… speedup over a loop in torch", "sampling", "b: times torch"),
    ("sampling 64 parallel texts, speedup over one", "sampling", "c: batch of 64 over one stream"),
    (
        "first character of a sample, time relative to import torch",
        "sampling",
        "d: first character over import torch",
    ),
    (
        "peak memory for a gigabyte of text, encoding and one step, MB",
        "memory",
        "encoding and 1 step",
        "peak_mb",
    ),
    ("… a hundred steps, MB", "memory", "100 steps", "peak_mb"),
    (
        "sampling 64 parallel texts, characters per second",
        "sampling",
        "chars per second",
        "batch, all threads",
    ),
    ("exported page, 3×320, characters per second", "page", "3x320", "chars_per_second"),
    ("first character of a sample, seconds", "sampling", "seconds", "first character"),
)
"""Label, record, and path of the figure in the record."""


def page() -> str:
    """The whole page."""
    paths = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    parts = [HEAD, in_short(paths)]
    order = [*(name for name in TITLES if name in paths), *(n for n in paths if n not in TITLES)]
    for name in order:
        document = json.loads(paths[name].read_text(encoding="utf-8"))
        machine = document["machine"]
        peers = document.get("peers", {}).items()
        others = "".join(f"; {peer}'s commit {commit}" for peer, commit in peers)
        parts.append(
            f"## {TITLES.get(name, name)}\n\n`{document['command']}`\n\n"
            f"{machine['processor']}, {machine['threads']} threads, {machine['device']}; torch "
            f"{machine['torch']}, Python {machine['python']}; commit {document['commit']}, "
            f"{machine['date']}{others}.\n\n"
            + (f"{NOTES[name]}\n\n" if name in NOTES else "")
            + "\n".join(table(document["results"]))
            + "\n"
        )
    return "\n".join(parts)


def in_short(paths: dict[str, Path]) -> str:
    """A table of the main figures."""
    rows = ["| | |", "|---|---|"]
    for text, name, *keys in SHORT:
        found: list[tuple[float, float]] = []
        _collect(json.loads(paths[name].read_text(encoding="utf-8"))["results"], keys, found)
        low, high = _number(*min(found)), _number(*max(found))
        rows.append(f"| {text} | {low if low == high else f'{low} to {high}'} |")
    return "\n".join(rows) + "\n"


def _collect(value: Any, keys: list[str], found: list[tuple[float, float]]) -> None:
    """Append the medians and spreads at the path ``keys``, where ``*`` matches any key."""
    if keys:
        for key in value if keys[0] == "*" else keys[:1]:
            _collect(value[key], keys[1:], found)
    else:
        found.append((value["median"], _spread(value)) if isinstance(value, dict) else (value, 0))


def table(results: dict[str, Any]) -> list[str]:
    """One row per figure; keys of nested objects become part of the row's name."""
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
            rows += _flat(item, f"{name} " if name.endswith(" over") else f"{name}: ")
        else:
            rows.append((name, item))
    return rows


def _spread(figure: dict[str, float]) -> float:
    return figure["high"] - figure["low"]


def _number(value: object, spread: float = 0) -> str:
    """At most four digits, and none below a tenth of the spread's first digit."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if not value:
        return "0"
    if abs(value) < 0.001:
        return f"{value:.5f}"
    digits = 3 - math.floor(math.log10(abs(value)))
    if spread:
        digits = min(digits, 1 - math.floor(math.log10(spread)))
        return f"{round(value, digits):,.{max(0, digits)}f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
