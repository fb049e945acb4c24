"""The script that measures charlstm on a GPU, with sizes for a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_it_does_every_part_without_the_libraries_that_only_draw(tmp_path: Path) -> None:
    for name in ("plotext", "resvg_py"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('absent here')")
    out = tmp_path / "gpu.json"
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    text = str(ROOT / "data" / "nettle-quay.txt")
    process = subprocess.run(
        [*script, text, "--device", "cpu", "--tiny", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr + process.stdout
    parts = json.loads(out.read_text(encoding="utf-8"))["parts"]
    assert list(parts) == ["works", "speed", "quality", "cpu"]
    works = parts["works"]
    assert works["float32"]["same_bits"], works["float32"]
    assert works["float32"]["stopped_at"] < 6
    assert all(cell["agree"] for cell in works["cells"].values())
    (comparison,) = parts["speed"]["1x8, B 4"].values()
    assert comparison["whole_over_bare"] > 0
    assert all(len(found["largest"]) == 5 for found in parts["speed"]["profile"].values())
    (trained,) = (found for found in parts["quality"].values() if isinstance(found, dict))
    assert 0 < trained["windowed"] < 10
    assert parts["cpu"]["1 x 1"] > 0


def test_a_part_that_fails_does_not_cost_the_others(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    process = subprocess.run(
        [*script, str(tmp_path / "absent.txt"), "--tiny", "--device", "cpu", "--out", str(out)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    parts = json.loads(out.read_text(encoding="utf-8"))["parts"]
    assert all("absent.txt" in part["error"] for part in parts.values())
    assert list(parts) == ["works", "speed", "quality", "cpu"]
