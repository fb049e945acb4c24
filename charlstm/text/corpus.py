"""Encode a text once into memory-mapped ids, and split them.

The text is read in chunks and written as ids, so its size is limited by the disk, not by memory.
The cache key covers the sources' paths, contents and encoding; for a file larger than
``HASHED_BYTES``, size and modification time stand for the content.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm import files
from charlstm.cache import CACHE_VARIABLE, cache_folder
from charlstm.errors import CharlstmError, plural, reason_of
from charlstm.text import sources as texts
from charlstm.text.sources import STDIN, FoundText, TextSource, find_text
from charlstm.text.vocabulary import BYTE_SYMBOLS, MAX_VOCABULARY, Vocabulary

MIN_CHARACTERS = 20
META, IDS = "corpus.json", "ids.bin"

_ENTRY = re.compile(r"(?:stdin-)?[0-9a-f]{24}")
_NOT_MAPPABLE = {errno.ENODEV, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


def _corpora() -> Path:
    return cache_folder() / "corpora"


@dataclass(frozen=True)
class Corpus:
    """An encoded text: memory-mapped ids, the vocabulary, and symbol counts."""

    source: TextSource
    vocab: Vocabulary
    ids: NDArray[np.unsignedinteger] = field(compare=False)
    """Shape (N,), memory-mapped; uint8, uint16 or uint32, the smallest that holds V."""
    counts: tuple[int, ...]
    """Occurrences of each symbol, by id."""
    digest: str
    """SHA-256 of vocabulary and ids: corpora with equal digests have the same text."""
    notices: tuple[str, ...] = field(default=(), compare=False)
    """Notes for the user: skipped files, a dropped byte-order mark."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """As ``TextSource.name``."""
        return self.source.name

    def split(
        self, val_fraction: float
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]:
        """The training part and the held-out part, the last ``val_fraction`` of the ids."""
        cut = int(len(self.ids) * (1 - val_fraction))
        return self.ids[:cut], self.ids[cut:]


def open_corpus(
    sources: Sequence[str | Path],
    *,
    encoding: str = "utf-8",
    as_bytes: bool = False,
    stdin: BinaryIO | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Corpus:
    """Read ``sources`` as one text: encode it on the first call, later map it from the cache.

    Files are concatenated in the given order, a folder's files in the order of their paths, with
    nothing in between. ``.gz``, ``.bz2`` and ``.xz`` are decompressed. Text is decoded strictly,
    without newline translation; a byte-order mark at the start of a file is dropped. ``progress``
    receives the number of characters read so far.

    Raises:
        CharlstmError: a source is missing, unreadable, empty or not valid in ``encoding``.
        UsageError: the encoding is unknown, or stdin is combined with other sources.
    """
    root = _corpora()
    found = find_text(
        sources,
        encoding,
        as_bytes,
        left_out=[files.RUNS_FOLDER, files.STUDIES_FOLDER, root],
        stdin=stdin,
    )
    folder = None if found.key is None else root / found.key
    if folder is not None and os.path.exists(folder / META):  # False where it may not be seen
        try:
            return _load(folder, found.source, found.notices)
        except _Damaged:
            delete_cached(folder)
    return _encode(found, folder, progress)


class TextGone(CharlstmError):
    """The text can no longer be read, and is not in the cache."""


def reopen_corpus(source: TextSource, digest: str) -> Corpus:
    """Open the corpus of ``source`` again; its digest differs if the files have changed.

    If the source cannot be read again (stdin, a pipe, a device, a missing file), the text with this
    digest is taken from the cache.

    Raises:
        TextGone: it is not in the cache.
        CharlstmError: as in ``open_corpus``.
    """
    if lost := source.not_there():
        path, kind = lost
        if corpus := find_encoded(digest, source):
            return corpus
        if kind == "nothing":
            raise TextGone(f"the text {path} no longer exists and is not in the cache")
        origin = "stdin" if path == STDIN else f"{path} (a {kind})"
        raise TextGone(f"the text came from {origin} and is not in the cache")
    return open_corpus(source.paths, encoding=source.encoding, as_bytes=source.as_bytes)


def find_encoded(digest: str, source: TextSource) -> Corpus | None:
    """The cached corpus with this digest, or None."""
    for folder in cached_corpora():
        try:
            if files.read_json(folder / META, "").get("digest") == digest:
                return _load(folder, source)
        except CharlstmError:
            continue
    return None


def cached_corpora() -> list[Path]:
    """The folders of all encoded texts in the cache."""
    found = (path.parent for path in _corpora().glob(f"*/{META}"))
    return sorted(folder for folder in found if _ENTRY.fullmatch(folder.name))


def unfinished_corpora() -> list[Path]:
    """Leftovers of processes that were killed while encoding a text."""
    return files.abandoned(_corpora())


def delete_cached(folder: Path) -> int:
    """Delete an encoded or unfinished text; return the bytes freed."""
    before = files.disk_bytes(folder)
    if _ENTRY.fullmatch(folder.name):
        for name in (META, IDS):
            files.remove(folder / name)
        with suppress(OSError):
            folder.rmdir()
    else:
        files.remove(folder)
    return before - files.disk_bytes(folder)


class _Writer:
    """Writes ids to disk in order of first appearance, and widens the dtype when V outgrows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = np.full(MAX_VOCABULARY, -1, dtype=np.int32)
        self.seen: list[int] = []
        self.counts = np.zeros(0, dtype=np.int64)
        self.dtype: np.dtype[np.unsignedinteger] = np.dtype(np.uint8)
        self.length = 0
        self._file = path.open("wb")

    def add(self, points: NDArray[np.uint32]) -> None:
        ids = self.table[points]
        if (ids < 0).any():
            unseen, first = np.unique(points[ids < 0], return_index=True)
            fresh = unseen[np.argsort(first)]
            self.table[fresh] = np.arange(len(self.seen), len(self.seen) + len(fresh))
            self.seen += fresh.tolist()
            ids = self.table[points]
            self._widen()
        counted = np.bincount(ids, minlength=len(self.seen))
        counted[: len(self.counts)] += self.counts
        self.counts = counted
        self._file.write(ids.astype(self.dtype).tobytes())
        self.length += len(ids)

    def _widen(self) -> None:
        needed = _id_type(len(self.seen))
        if needed.itemsize == self.dtype.itemsize:
            return
        self._file.close()
        narrow = self.path.with_suffix(".narrow")
        self.path.rename(narrow)
        self._file = self.path.open("wb")
        with narrow.open("rb") as old:
            while chunk := old.read(texts.CHUNK_BYTES):
                self._file.write(np.frombuffer(chunk, self.dtype).astype(needed).tobytes())
        narrow.unlink()
        self.dtype = needed

    def finish(self, vocab_order: NDArray[np.int64]) -> str:
        """Renumber the ids so that ``vocab_order[new] == old``; return their SHA-256."""
        self._file.close()
        rank = np.empty(len(vocab_order), dtype=self.dtype)
        rank[vocab_order] = np.arange(len(vocab_order))
        digest = hashlib.sha256()
        with self.path.open("r+b") as file:
            position = 0
            while chunk := file.read(texts.CHUNK_BYTES):
                renumbered = rank[np.frombuffer(chunk, self.dtype)].tobytes()
                digest.update(renumbered)
                file.seek(position)
                file.write(renumbered)
                position += len(chunk)
        return digest.hexdigest()

    def close(self) -> None:
        self._file.close()


def _id_type(size: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype(np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32)


def _encode(found: FoundText, folder: Path | None, progress: Callable[[int], None]) -> Corpus:
    root = _corpora()
    try:
        with suppress(FileExistsError):  # where that is no folder, the next line says so
            # A text may be its reader's alone.
            root.parent.mkdir(mode=0o700, parents=True)
        root.mkdir(exist_ok=True)
        for left in files.abandoned(root):
            files.remove(left)
        with _work_folder(root) as work:
            meta = _write_ids(found, work / IDS, progress)
            (work / META).write_text(json.dumps(meta), encoding="utf-8")
            target = folder or root / f"stdin-{meta['digest'][:24]}"
            _move_into_place(work, target)
            return _load(target, found.source, found.notices)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        remedy = f"set {CACHE_VARIABLE} to a writable folder"
        raise CharlstmError(
            f"cannot write the encoded text to the cache {root}: {reason_of(error)}",
            f"free some space there, or {remedy}" if is_full else remedy,
        ) from None


@contextmanager
def _work_folder(root: Path) -> Iterator[Path]:
    """A folder to encode into; the lock next to it shows other processes that it is in use."""
    while True:
        work = root / files.work_name()
        try:
            lock = files.Lock(work.with_name(f"{work.name}.lock"))
            break
        except files.Locked:  # by a process that checks whether it is abandoned
            continue
    try:
        work.mkdir()
        yield work
    finally:
        files.remove(work)
        lock.release()
        files.remove(lock.path)


def _move_into_place(work: Path, target: Path) -> None:
    """Rename the finished folder; if another process was faster, keep its result."""
    try:
        work.rename(target)
    except OSError:
        if not (target / META).exists():
            delete_cached(target)
            target.mkdir(exist_ok=True)  # it may hold a user's file
            for name in (IDS, META):  # META last: without it, the folder is no entry
                os.replace(work / name, target / name)


def _write_ids(found: FoundText, path: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    writer, notices = _Writer(path), list[str]()
    try:
        for points in found.code_points(notices):
            writer.add(points)
            progress(writer.length)
        if writer.length < MIN_CHARACTERS:
            what = found.files[0][0] if len(found.files) == 1 else "the text"
            length = plural(writer.length, "character") if writer.length else "no characters"
            raise CharlstmError(
                f"{what} has {length}, but must have at least {MIN_CHARACTERS}",
                "use a longer text: at least a few thousand characters",
            )
        seen = np.array(writer.seen, dtype=np.int64)
        if found.source.as_bytes:
            missing = np.setdiff1d(np.arange(256), seen)
            seen = np.concatenate([seen, missing])
            symbols = BYTE_SYMBOLS
        else:
            symbols = "".join(map(chr, sorted(writer.seen)))
        order = np.argsort(seen)
        counts = np.zeros(len(seen), dtype=np.int64)
        counts[: len(writer.counts)] = writer.counts
        ids_digest = writer.finish(order)
    finally:
        writer.close()
    return {
        "vocabulary": [ord(s) for s in symbols],
        "counts": counts[order].tolist(),
        "length": writer.length,
        "digest": _digest(symbols, ids_digest),
        "notices": notices,
    }


def _digest(symbols: str, ids_digest: str) -> str:
    whole = symbols.encode("utf-8", "surrogatepass") + ids_digest.encode()
    return hashlib.sha256(whole).hexdigest()


class _Damaged(CharlstmError):
    """An encoded text that is damaged and has to be rebuilt."""


def _load(folder: Path, source: TextSource, notices: tuple[str, ...] = ()) -> Corpus:
    """Map an encoded text after verifying its checksum.

    Raises:
        _Damaged: the checksum does not match, or a file is missing.
        CharlstmError: it exists, but cannot be read.
    """
    try:
        meta = files.read_json(folder / META, "")
        size = files.file_size(folder / IDS)  # refuses a pipe, which would block
        symbols = "".join(map(chr, meta["vocabulary"]))
        kind = "bytes" if source.as_bytes else "characters"
        vocab = Vocabulary(symbols, kind)  # type: ignore[arg-type]
        dtype = _id_type(len(vocab))
        if size != meta["length"] * dtype.itemsize:
            raise ValueError("wrong length")
        # Costs a second per gigabyte, and catches a text that a failing disk has changed.
        with (folder / IDS).open("rb") as file:
            ids_digest = hashlib.file_digest(file, "sha256").hexdigest()
        if _digest(symbols, ids_digest) != meta["digest"]:
            raise ValueError("checksum mismatch")
        return Corpus(
            source=source,
            vocab=vocab,
            ids=_map_ids(folder / IDS, dtype),
            counts=tuple(meta["counts"]),
            digest=meta["digest"],
            notices=(*notices, *meta.get("notices", ())),
        )
    except OSError as error:
        if error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise CharlstmError(
                f"the cached text {folder} cannot be read: {reason_of(error)}",
                f"set {CACHE_VARIABLE} to another folder, or delete this one; "
                "it is rebuilt from the text",
            ) from None
        damage: Exception = error
    except (ValueError, KeyError, TypeError, OverflowError, CharlstmError) as error:
        damage = error
    raise _Damaged(
        f"the cached text {folder} is damaged: {reason_of(damage)}",
        "delete that folder; it is rebuilt from the text",
    )


def _map_ids(path: Path, dtype: np.dtype[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """The ids (N,), memory-mapped, or read into memory where the file system cannot map."""
    try:
        return np.memmap(path, dtype=dtype, mode="r")
    except OSError as error:
        if error.errno not in _NOT_MAPPABLE:
            raise
    ids = np.fromfile(path, dtype=dtype)
    ids.flags.writeable = False
    return ids
