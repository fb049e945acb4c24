"""Write a text to disk as ids, in the order of its symbols, and compute their SHA-256.

The vocabulary is known only at the end, so ids are first written in the order in which symbols are
met, and renumbered in a second pass.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.text import sources as texts
from charlstm.text.vocabulary import MAX_VOCABULARY

BLOCK = 1 << 15
"""Symbols looked up at once: what a lookup makes of them fits into a core's cache."""

Ids = NDArray[np.unsignedinteger]
Codes = NDArray[np.unsignedinteger]


def id_type(size: int) -> np.dtype[np.unsignedinteger]:
    """The smallest type that holds the ids of ``size`` symbols."""
    return np.dtype(np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32)


class IdFile:
    """A file of ids that is being written; its type widens when the vocabulary outgrows it."""

    def __init__(self, path: Path, known: range = range(0)) -> None:
        """Write to ``path``; the first symbols are ``known``, whether they occur or not."""
        self.path = path
        self.seen: list[int] = list(known)
        """The code point of each symbol, by its preliminary id."""
        self.length = 0
        self.dtype = id_type(len(known))
        self._table = np.full(MAX_VOCABULARY, -1, dtype=np.int32)
        self._table[self.seen] = self.seen
        self._file = path.open("wb")

    @property
    def written(self) -> int:
        """Bytes written so far."""
        return self.length * self.dtype.itemsize

    def add(self, points: Codes) -> None:
        """Append the symbols with these code points (N,)."""
        if points.dtype.itemsize == self.dtype.itemsize == 1:
            self._add_bytes(points.tobytes())
            return
        ids = np.empty(len(points), self.dtype)
        for start in range(0, len(points), BLOCK):
            block = points[start : start + BLOCK]
            found = self._table.take(block, mode="clip")
            if found.min() < 0:
                self._learn(block[found < 0])
                found = self._table.take(block, mode="clip")
                ids = ids.astype(self.dtype, copy=False)
            ids[start : start + BLOCK] = found
        self._file.write(ids.data)
        self.length += len(ids)

    def _add_bytes(self, points: bytes) -> None:
        """``add`` for code points and ids of one byte, several times as fast."""
        known = bytes(point for point in self.seen if point < 1 << 8)
        if fresh := points.translate(None, delete=known):
            self._learn(np.frombuffer(fresh, np.uint8))
            if self.dtype.itemsize > 1:
                self.add(np.frombuffer(points, np.uint8))
                return
        self._file.write(points.translate(_table_of_bytes(self._table[: 1 << 8])))
        self.length += len(points)

    def _learn(self, points: Codes) -> None:
        fresh = np.unique(points)
        self._table[fresh] = np.arange(len(self.seen), len(self.seen) + len(fresh))
        self.seen += fresh.tolist()
        needed = id_type(len(self.seen))
        if needed.itemsize == self.dtype.itemsize:
            return
        self._file.close()
        narrow = self.path.with_suffix(".narrow")
        self.path.rename(narrow)
        self._file = self.path.open("wb")
        with narrow.open("rb") as old:
            while chunk := old.read(texts.CHUNK_BYTES):
                self._file.write(np.frombuffer(chunk, self.dtype).astype(needed).data)
        narrow.unlink()
        self.dtype = needed

    def finish(self, progress: Callable[[int], None]) -> tuple[str, NDArray[np.int64]]:
        """Renumber the ids in the order of their code points.

        Returns their SHA-256 and the occurrences of each symbol (V,). ``progress`` is called with
        the number of bytes done.
        """
        self._file.close()
        rank = np.empty(len(self.seen), dtype=np.int32)
        rank[np.argsort(self.seen)] = np.arange(len(self.seen))
        counts = np.zeros(len(self.seen), dtype=np.int64)
        digest, hashed = hashlib.sha256(), Future[None]()
        hashed.set_result(None)
        with ThreadPoolExecutor(1) as thread, self.path.open("r+b") as file:
            position = 0
            while chunk := file.read(texts.CHUNK_BYTES):
                ids = self._renumbered(np.frombuffer(chunk, self.dtype), rank, counts)
                hashed.result()  # at most one chunk waits
                hashed = thread.submit(digest.update, ids.data)
                file.seek(position)
                file.write(ids.data)
                position += len(chunk)
                progress(position)
        return digest.hexdigest(), counts

    def _renumbered(self, old: Ids, rank: NDArray[Any], counts: NDArray[np.int64]) -> Ids:
        """``rank[old]``, whose symbols are added to ``counts``."""
        if self.dtype.itemsize == 1:
            ids = np.frombuffer(old.tobytes().translate(_table_of_bytes(rank)), np.uint8)
            counts += _counts_of_bytes(ids)[: len(counts)]
            return ids
        ids = np.empty(len(old), self.dtype)
        for start in range(0, len(old), BLOCK):
            block = rank.take(old[start : start + BLOCK], mode="clip")
            ids[start : start + BLOCK] = block
            counts += np.bincount(block, minlength=len(counts))
        return ids

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()


def _table_of_bytes(values: NDArray[np.int32]) -> bytes:
    """A table for ``bytes.translate`` of ``values``, at most 256; the rest is never looked up."""
    return values.astype(np.uint8).tobytes().ljust(1 << 8, b"\0")


def _counts_of_bytes(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each byte occurs (256,). Pairs of bytes are counted: half as many additions."""
    pairs = values[: len(values) // 2 * 2].view(np.uint16)
    by_byte = np.bincount(pairs, minlength=1 << 16).reshape(1 << 8, 1 << 8)
    found: NDArray[np.int64] = by_byte.sum(axis=0) + by_byte.sum(axis=1)
    found[values[len(pairs) * 2 :]] += 1
    return found
