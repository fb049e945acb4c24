"""Run the commands whose output the docs show, and put what they print into the pages.

    python .ci/docs/outputs.py

A page marks such a block with a comment in front of it:

    <!-- output: charlstm sample --seed 1 --length 300 | head 6 -->

The words after ``|`` are not part of the command. ``head N`` and ``tail N`` keep N lines of the
beginning and of the end. ``both`` shows stderr as well as stdout, ``stderr`` shows it alone.
``silent`` leaves out the command. A feature's name in braces, as in ``{inside quotes}``, becomes
the options of the unit that ``find`` names for it. All commands run in one empty folder, those of
the page ``FIRST`` first, because it trains the model that the others use.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = ROOT / "docs" / "tutorials" / "first-model.md"
FEATURE = re.compile(r"\{([a-z][a-z ]*)\}")
BLOCK = re.compile(r"<!-- output: (.+?) -->\n```text\n.*?```\n", re.DOTALL)


def pages() -> list[Path]:
    """Every page with marked blocks, the one that trains first."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    marked = [path for path in found if BLOCK.search(path.read_text(encoding="utf-8"))]
    return sorted(marked, key=lambda path: path != FIRST)


def run(command: str, folder: Path, shown: str = "stdout") -> str:
    """What a command prints to stdout, to stderr or to both, 80 columns wide and without colour."""
    words = shlex.split(command)
    assert words[0] == "charlstm", command
    environment = os.environ | {
        "CHARLSTM_CACHE": str(folder / "cache"),
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
    }
    print("$", command, flush=True)
    arguments = [sys.executable, "-m", *words]
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if shown == "both" else subprocess.PIPE,
        encoding="utf-8",
    )
    if done.returncode:
        sys.exit(f"{command}\n{done.stderr or done.stdout}")
    return done.stderr if shown == "stderr" else done.stdout


@cache
def units(folder: Path) -> dict[str, str]:
    """The options that choose the best unit of each feature that ``find`` names a unit for."""
    found = json.loads(run("charlstm inspect --view find --json", folder))["features"]
    best = {one["feature"]: one["best"][0] for one in found if one["best"]}
    return {
        name: f"--layer {unit['layer'] + 1} --unit {unit['unit']}"
        for name, unit in best.items()
        if unit["strong"]
    }


def shortened(text: str, head: int | None, tail: int | None, *, ellipsis: bool) -> list[str]:
    """Some lines of the beginning and of the end."""
    lines = [line.rstrip() for line in text.strip("\n").split("\n")]
    first, last = head or 0, tail or 0
    if head is tail is None or len(lines) <= first + last:
        return lines
    return [*lines[:first], *["…"] * ellipsis, *lines[len(lines) - last :]]


def refreshed(found: re.Match[str], folder: Path) -> str:
    """The marked block with what the command prints today."""
    command, _, words = found[1].partition(" | ")
    command = FEATURE.sub(lambda name: units(folder)[name[1]], command)
    options = words.split()
    counts = {
        name: int(options[options.index(name) + 1]) for name in ("head", "tail") if name in options
    }
    shown = next((name for name in ("both", "stderr") if name in options), "stdout")
    printed = run(command, folder, shown)
    silent = "silent" in options
    lines = shortened(printed, counts.get("head"), counts.get("tail"), ellipsis=not silent)
    block = "\n".join(lines if silent else [f"$ {command}", *lines])
    return f"<!-- output: {found[1]} -->\n```text\n{block}\n```\n"


def main() -> None:
    """Refresh every page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "data" / "nettle-quay.txt", folder)
        for page in pages():
            text = page.read_text(encoding="utf-8")
            page.write_text(
                BLOCK.sub(lambda found: refreshed(found, folder), text), encoding="utf-8"
            )


if __name__ == "__main__":
    main()
