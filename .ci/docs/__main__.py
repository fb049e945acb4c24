"""Write every generated page of the docs: ``python3 .ci/make.py docs``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / ".ci" / "docs"), str(ROOT / "benchmarks")]

import commands  # noqa: E402
import defaults  # noqa: E402
import diagrams  # noqa: E402
import python_api  # noqa: E402
import report  # noqa: E402


def pages() -> dict[Path, str]:
    """Each generated file, and what it should hold."""
    docs = ROOT / "docs"
    return {
        docs / "reference" / "commands.md": commands.page(),
        docs / "reference" / "defaults.md": defaults.page(),
        docs / "reference" / "python.md": python_api.page(),
        docs / "research" / "benchmarks.md": report.page(),
        **{docs / "pictures" / name: svg for name, svg in diagrams.pictures().items()},
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
