"""Check spelling and wording of the docs and, with --strings, of the program's own text.

    python .ci/prose.py              the pages
    python .ci/prose.py --strings    the pages, strings of the package, names of the tests

The prose of each file is copied, line by line, without code and addresses. codespell and proselint
read the copies; words of ``BANNED`` are looked for here. The exit code is 1 if anything is found.
"""

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", ".github/*.md", "data/README.md", "docs/**/*.md")
BANNED = {
    "dear": "costly",
    "dearer": "costlier",
    "heed": "respect",
    "heeds": "respects",
    "anew": "again",
    "beside": "next to, besides",
    "told": "shown, reported",
    "mend": "fix",
    "mends": "fixes",
    "by heart": "memorised",
    "so many": "how many, N",
    "had again": "reproduced",
    "whoever": "anyone who",
    "thereby": "so",
    "whereof": "of which",
}
"""Archaic or translated words, and what to write instead."""
CODE = re.compile(
    r"```.*?```|~~~.*?~~~|<!--.*?-->|``?[^`\n]+``?|\]\([^)]*\)|https?://\S+", re.DOTALL
)


TOOLS = (
    ("codespell_lib", "--ignore-words-list", "derails,ned", "."),
    ("proselint", "check", "--config", str(ROOT / ".ci" / "proselint.json"), "."),
)


def main() -> int:
    """Check; print what was found by file and line."""
    texts = prose(strings="--strings" in sys.argv[1:])
    found = [line for path, text in texts.items() for line in banned(path, text)]
    with tempfile.TemporaryDirectory() as name:
        for path, text in texts.items():
            copy = Path(name) / f"{path}.txt"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text, encoding="utf-8", errors="replace")
        for tool in TOOLS:
            found += run(tool, Path(name))
    print("\n".join([*found, f"findings: {len(found)}"]))
    return 1 if found else 0


def banned(path: Path, text: str) -> list[str]:
    """The words of ``BANNED`` in a text, with their lines."""
    return [
        f"{path.as_posix()}:{number}: {word!r}: write {better}"
        for number, line in enumerate(text.splitlines(), 1)
        for word, better in BANNED.items()
        if re.search(rf"\b{word}\b", line, re.IGNORECASE)
    ]


def run(tool: tuple[str, ...], folder: Path) -> list[str]:
    """What a tool finds in the copies, under the names of the files."""
    command = [sys.executable, "-m", *tool]
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
    )
    lines = [line for line in result.stdout.splitlines() if ".txt:" in line]
    if result.returncode and not lines:
        sys.exit(f"{tool[0]} failed: {result.stderr}")
    inside = re.compile(rf"^(\./|{re.escape(str(folder.resolve()))}/)")
    return [inside.sub("", line.replace(".txt:", ":", 1)) for line in lines]


def prose(*, strings: bool) -> dict[Path, str]:
    """What people read of each file, at the lines where it stands."""
    pages = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    texts = {path: without_code(path.read_text(encoding="utf-8")) for path in sorted(pages)}
    if strings:
        for path in sorted((ROOT / "charlstm").rglob("*.py")):
            texts[path] = strings_of(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "tests").rglob("*.py")):
            texts[path] = names_of(path.read_text(encoding="utf-8"))
    return {path.relative_to(ROOT): text for path, text in texts.items()}


def without_code(text: str) -> str:
    """A page without code, comments and addresses; lines stay where they are."""
    return CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def strings_of(source: str) -> str:
    """The strings of a module, docstrings among them, at their lines."""
    lines = [""] * (source.count("\n") + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(without_code(node.value).splitlines()):
                number = min(node.lineno - 1 + offset, len(lines) - 1)
                lines[number] += f" {line}"
    return "\n".join(lines)


def names_of(source: str) -> str:
    """The names of a module's tests, as words, and its docstrings, at their lines."""
    lines = [""] * (source.count("\n") + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            lines[node.lineno - 1] += f" {node.name.replace('_', ' ')}"
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            for offset, line in enumerate(without_code(ast.get_docstring(node) or "").splitlines()):
                lines[first.lineno - 1 + offset] += f" {line}"
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
