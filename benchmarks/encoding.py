"""Rate and peak memory of encoding a text, against hashing its bytes.

    python benchmarks/encoding.py --megabytes 1000 --rounds 3

English is the bundled text, repeated; with curly quotes no piece of it is ASCII, and with many
symbols an id takes two bytes.
Russian and Chinese are random characters, a few of them frequent. A folder has the English text in
files of 10 kB; opened again, it comes from the cache. Each text is encoded in its own process; its
bytes are in the page cache.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import interleave, ratio, record, spread_of

from charlstm.text.found import SETTLED_SECONDS

ROOT = Path(__file__).parent.parent
TEXT = ROOT / "data" / "nettle-quay.txt"
SMALL_FILE = 10_000
OPEN = """
import resource, sys, time
from charlstm.text.corpus import open_corpus
start = time.perf_counter()
open_corpus([sys.argv[1]])
seconds = time.perf_counter() - start
unit = 1 if sys.platform == "darwin" else 1024
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def random_text(first: int, symbols: int, blanks: str) -> bytes:
    """A million characters from U+``first`` on, the frequent ones first, as UTF-8."""
    generator = np.random.default_rng(1)
    points = first + generator.exponential(symbols / 6, 1_000_000).astype(int) % symbols
    for n, blank in enumerate(blanks):
        points[generator.random(len(points)) < 0.1 / (n + 1)] = ord(blank)
    return "".join(map(chr, points)).encode()


def texts() -> dict[str, bytes]:
    """A piece of each text, to be repeated."""
    english = TEXT.read_bytes()
    curly = english.replace(b"'", "’".encode())
    return {
        "english": english,
        "english, curly quotes": curly,
        "english, many symbols": curly + "".join(map(chr, range(0x100, 0x200))).encode(),
        "russian": random_text(0x430, 32, " ,.\n—"),
        "chinese": random_text(0x4E00, 6000, ",。\n"),
    }


def write(path: Path, piece: bytes, size: int) -> None:
    """Write at least ``size`` bytes."""
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(piece)


def write_folder(folder: Path, piece: bytes, size: int) -> None:
    """Write files of ``SMALL_FILE`` bytes, a thousand in a folder."""
    data = piece * (2 + SMALL_FILE // len(piece))
    for n in range(size // SMALL_FILE):
        start = n * 997 % len(piece)
        path = folder / f"{n // 1000}" / f"{n}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[start : start + SMALL_FILE])


class Encoding:
    """Encodes a text in a process of its own; remembers the peak memory."""

    def __init__(self, text: Path, cache: Path, size: int, *, again: bool = False) -> None:
        self._text, self._cache, self._size, self._again = text, cache, size, again
        self.peak_mb: list[float] = []

    def __call__(self) -> float:
        """MB/s"""
        if not self._again:
            shutil.rmtree(self._cache, ignore_errors=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CHARLSTM_CACHE": str(self._cache),
        }
        command = [sys.executable, "-c", OPEN, str(self._text)]
        output = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        seconds, peak = map(float, output.stdout.split())
        self.peak_mb.append(peak / 1e6)
        return self._size / seconds / 1e6


def hashing(text: Path) -> float:
    """MB/s of SHA-256 alone."""
    start = time.perf_counter()
    with text.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return text.stat().st_size / (time.perf_counter() - start) / 1e6


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    size = arguments.megabytes * 1_000_000
    candidates: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, piece in texts().items():
            path = folder / f"{kind}.txt"
            write(path, piece, size)
            candidates[kind] = Encoding(path, folder / "cache", path.stat().st_size)
        write_folder(folder / "small", texts()["english"], size)
        time.sleep(SETTLED_SECONDS)  # what has just changed is hashed
        for kind, again in (("small files", False), ("small files, again", True)):
            candidates[kind] = Encoding(folder / "small", folder / "cache", size, again=again)
        candidates["hashing"] = lambda: hashing(folder / "english.txt")
        rates = interleave(candidates, arguments.rounds)
    results: dict[str, Any] = {"text_mb": arguments.megabytes}
    for kind, measured in rates.items():
        results[kind] = {"mb_per_second": spread_of(measured)}
        encoding = candidates[kind]
        if isinstance(encoding, Encoding):
            results[kind]["share_of_hashing"] = ratio(measured, rates["hashing"])
            results[kind]["peak_mb"] = max(encoding.peak_mb)
    record("encoding", results)


if __name__ == "__main__":
    main()
