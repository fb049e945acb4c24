"""Peak memory of ``charlstm train`` on a gigabyte of text, without the memory-mapped file.

    python benchmarks/memory.py
    python benchmarks/memory.py --megabytes 10000 --record memory-10-gb

The text is the bundled one, repeated. The measure is the largest RssAnon of the process in /proc
(Linux), while it encodes the text, trains and validates.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import record

ROOT = Path(__file__).parent.parent
TEXT = ROOT / "data" / "nettle-quay.txt"


def peak(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command; return its peak anonymous memory in MB and its seconds."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CHARLSTM_CACHE": str(folder / "cache"),
    }
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    largest = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        fields = dict(line.split(":", 1) for line in status.splitlines())
        largest = max(largest, int(fields.get("RssAnon", "0 kB").split()[0]))
        time.sleep(0.01)
    if process.wait():
        sys.exit(f"{command} failed with exit code {process.returncode}")
    return {"peak_mb": round(largest / 1000, 1), "seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--record", default="memory", help="name of the record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = TEXT.read_bytes()
        with (folder / "big.txt").open("wb") as file:
            for _ in range(arguments.megabytes * 1_000_000 // len(text) + 1):
                file.write(text)
        train = [sys.executable, "-m", "charlstm", "train", "big.txt", "--quiet", "--steps"]
        results = {
            "corpus_mb": arguments.megabytes,
            "encoding and 1 step": peak([*train, "1"], folder),
            "100 steps": peak([*train, "100"], folder),
        }
    record(arguments.record, results)


if __name__ == "__main__":
    main()
