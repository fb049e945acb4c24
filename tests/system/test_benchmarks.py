"""The benchmarks that need no other project and no minutes run, in their smallest sizes."""

import json
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
SMALLEST = {
    "parts.py --rounds 1 --shapes 1x8x4x8": "1x8x4x8, ms per step: Muon",
    "speed.py --rounds 1 --threads 1 --shapes 1x8x4x8": "1x8x4x8: speedup over plain loop",
    "sampling.py --rounds 1 --shape 1x8 --score-characters 100": "speedup over a loop in torch",
    "reading.py --rounds 1 --characters 300 --hidden 8 --units 4": "300 characters, seconds: find",
    "reading.py --rounds 1 --characters 300 --hidden 8 --views gates --busy 1": "gates, 1 thread",
    "encoding.py --megabytes 1 --rounds 1": "small files, again: MB per second",
    "scaling.py communication --rounds 1 --shapes 1x128": "1x128: milliseconds",
    "scaling.py paper --step-seconds 0.1 --parameters 1000000": "0.1 s per step: 8 GPUs, NVLink",
    "scaling.py batch --batches 2 4 --characters 3000 --options=--hidden=8": "| 4 |",
}
"""By command, a row of the page that it must give."""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Records go to a folder of their own, and scripts find each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import measure

    monkeypatch.setattr(measure, "RESULTS", tmp_path)


@pytest.mark.parametrize("command", SMALLEST)
def test_it_runs_and_its_record_makes_a_section(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / command.split()[0]), *command.split()[1:]])
    runpy.run_path(sys.argv[0], run_name="__main__")
    import report

    (path,) = tmp_path.glob("*.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["command"] == f"python benchmarks/{command}"
    assert path.stem in report.TITLES
    rows = report.table(document["results"])
    assert any(SMALLEST[command] in row for row in rows), rows
