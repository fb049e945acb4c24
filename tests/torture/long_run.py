"""Whether long runs decay: memory and speed over minutes of training with the panel, then SIGKILL.

    python tests/torture/long_run.py [--minutes 30] [--folder FOLDER] [-- OPTIONS OF charlstm train]

The run is left in FOLDER, where ``charlstm train --resume`` goes on with it. Prints memory and
speed after the first fifth and at the end, and fails if memory grew by more than 2%, speed fell by
more than 3%, or metrics.jsonl has a line that is no JSON. Speed is only worth something on a
machine that does nothing else.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from terminal import Terminal


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--folder", type=Path, help="left out, one that is deleted")
    options.add_argument("arguments", nargs="*", help="of charlstm train, after --")
    asked = options.parse_args()
    seconds = 60 * asked.minutes
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="long-run-") as temporary:
        folder = asked.folder or Path(temporary)
        terminal = Terminal(100, 30)
        environment = {**os.environ, "PYTHONPATH": str(root), "TERM": "xterm-256color"}
        del environment["OMP_NUM_THREADS"]  # the tests' one thread is not for this
        # Twice the time, so that the rate's schedule and the validations are those of a long run.
        arguments = asked.arguments or ["--minutes", str(2 * asked.minutes), "--patience", "0"]
        with open(terminal.name, "w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "charlstm", "train", "--name", "long", *arguments],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        memory: list[tuple[float, int]] = []
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            assert process.poll() is None, terminal.written
            memory.append((now, _resident(process.pid)))
            time.sleep(min(5.0, seconds / 60))
        process.send_signal(signal.SIGKILL)
        process.wait()
        terminal.close()
        text = (folder / "checkpoints" / "long" / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        speeds = [
            (line["seconds"], line["chars_per_second"])
            for line in lines
            if line["event"] == "step_done"
        ]
    figures = {
        "minutes": asked.minutes,
        "frames shown": terminal.written.count(b"weights of step"),
        "lines of metrics": len(lines),
        "memory": _change([(at, size / 2**20) for at, size in memory], seconds),
        "characters per second": _change(speeds, speeds[-1][0]),
    }
    print(json.dumps(figures, indent=1))
    assert figures["memory"]["change"] <= 0.02, "memory grows"
    assert figures["characters per second"]["change"] >= -0.03, "training slows down"


def _resident(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _change(values: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    """Medians of the second fifth of the time, when all is warm, and of the last."""
    early = statistics.median(v for at, v in values if 0.2 <= at / seconds < 0.4)
    late = statistics.median(v for at, v in values if at / seconds >= 0.8)
    return {"early": round(early, 1), "late": round(late, 1), "change": round(late / early - 1, 4)}


if __name__ == "__main__":
    main()
