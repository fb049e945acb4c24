"""Run the commands whose output the docs show, and put what they print into the pages.

    python .ci/docs/outputs.py

A page marks such a block with a comment in front of it:

    <!-- output: charlstm sample --seed 1 --length 300 | head 6 -->

The words after ``|`` are not part of the command. ``head N`` and ``tail N`` keep so many lines of the
beginning and of the end; ``stderr`` shows stderr as well; ``silent`` shows the output without the
command. The commands run in an empty folder, page by page; the page ``FIRST`` comes first, because it trains the
model that the others use.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = ROOT / "docs" / "tutorials" / "first-model.md"
BLOCK = re.compile(r"<!-- output: (.+?) -->\n```text\n.*?```\n", re.DOTALL)


def pages() -> list[Path]:
    """Every page with marked blocks, the one that trains first."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    marked = [path for path in found if BLOCK.search(path.read_text(encoding="utf-8"))]
    return sorted(marked, key=lambda path: path != FIRST)


def run(command: str, folder: Path, with_stderr: bool) -> str:
    """What a command prints, on a terminal of 80 columns without colour."""
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
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if with_stderr else subprocess.PIPE,
        encoding="utf-8",
    )
    if done.returncode and not with_stderr:
        sys.exit(f"{command}\n{done.stderr}")
    return done.stdout


def shortened(text: str, head: int | None, tail: int | None) -> str:
    """Some lines of the beginning and of the end, with an ellipsis for the rest."""
    lines = [line.rstrip() for line in text.strip("\n").split("\n")]
    if head is None and tail is None or len(lines) <= (head or 0) + (tail or 0):
        return "\n".join(lines)
    return "\n".join([*lines[: head or 0], "…", *lines[len(lines) - (tail or 0) :]])


def refreshed(found: re.Match[str], folder: Path) -> str:
    """The marked block with what the command prints today."""
    command, _, words = found[1].partition(" | ")
    options = words.split()
    counts = {name: int(options[options.index(name) + 1]) for name in ("head", "tail") if name in options}
    printed = run(command, folder, "stderr" in options)
    shown = shortened(printed, counts.get("head"), counts.get("tail"))
    prompt = "" if "silent" in options else f"$ {command}\n"
    return f"<!-- output: {found[1]} -->\n```text\n{prompt}{shown}\n```\n"


def main() -> None:
    """Refresh every page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "data" / "nettle-quay.txt", folder)
        for page in pages():
            text = page.read_text(encoding="utf-8")
            page.write_text(BLOCK.sub(lambda found: refreshed(found, folder), text), encoding="utf-8")


if __name__ == "__main__":
    main()
