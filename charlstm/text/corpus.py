"""Encode a text once into memory-mapped ids, and split them.

The text is read in chunks and written as ids, so its size is limited by the disk, not by memory.
A cached text is found by what the system records of its files, or else by their contents; for a
file larger than ``found.HASHED_BYTES``, size and modification time stand for the content.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from charlstm import files
from charlstm.cache import CACHE_VARIABLE, make_in_cache
from charlstm.errors import CharlstmError, plural, reason_of
from charlstm.text import sources as texts
from charlstm.text.cache import (
    IDS,
    META,
    cached_with,
    corpora_folder,
    delete_cached,
)
from charlstm.text.encoder import IdFile, id_type
from charlstm.text.found import FoundText, Progress, TextReader, find_text
from charlstm.text.items import split_items
from charlstm.text.sources import STDIN, STDIN_NAME, TextSource
from charlstm.text.vocabulary import BYTE_SYMBOLS, Vocabulary

MIN_CHARACTERS = 20

_NOT_MAPPABLE = {errno.ENODEV, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


def _silent(activity: str, done: int, total: int | None) -> None:
    pass


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
        """The training part and the held-out part: the last ``val_fraction`` of the ids.

        Of a list, it is that fraction of its items, chosen by ``items.split_items``.
        """
        if self.vocab.end is not None:
            return split_items(self.ids, self.vocab.end, val_fraction)
        cut = int(len(self.ids) * (1 - val_fraction))
        return self.ids[:cut], self.ids[cut:]


def open_corpus(
    sources: Sequence[str | Path],
    *,
    encoding: str = "utf-8",
    as_bytes: bool = False,
    separator: str | None = None,
    stdin: BinaryIO | None = None,
    progress: Progress = _silent,
) -> Corpus:
    """Read ``sources`` as one text: encode it on the first call, later map it from the cache.

    Files are concatenated in the given order, a folder's files in the order of their paths, with
    nothing in between. ``.gz``, ``.bz2`` and ``.xz`` are decompressed. Text is decoded strictly,
    without newline translation; a byte-order mark at the start of a file is dropped. With a
    ``separator`` the text is a list of items, see ``items``.

    A cached text is found by what the system records of its files. If that has changed, their
    contents are compared.

    Raises:
        CharlstmError: a source is missing, unreadable, empty or not valid in ``encoding``; or the
            cache has no room.
        UsageError: the encoding is unknown, or stdin is combined with other sources.
    """
    root = corpora_folder()
    left_out = [files.RUNS_FOLDER, files.STUDIES_FOLDER, root]
    found = find_text(
        sources, encoding, as_bytes, separator=separator, left_out=left_out, stdin=stdin
    )
    record = found.record()
    for known in () if record is None else cached_with("record", record):
        with suppress(_Damaged):
            return _load(known, found.source, found.notices, progress)
    found, key = found.identified(progress)
    folder = None if key is None else root / key
    if folder is not None and os.path.exists(folder / META):  # False where it may not be seen
        try:
            _remember(folder, record, found.skipped)
            return _load(folder, found.source, found.notices, progress)
        except _Damaged:
            delete_cached(folder)
    return _encode(found, folder, record, progress)


def _remember(folder: Path, record: str | None, skipped: Sequence[str]) -> None:
    """Note the files as they are now in a cached text, so that they are not read next time."""
    try:
        meta = files.read_json(folder / META, "")
    except CharlstmError as error:
        raise _Damaged(error.message) from None
    now = {"record": record, "skipped": list(skipped)}
    if any(meta.get(name) != value for name, value in now.items()):
        with suppress(OSError):  # a cache that cannot be written is read all the same
            files.replace_file(folder / META, json.dumps({**meta, **now}).encode())


class TextGone(CharlstmError):
    """The text can no longer be read, and is not in the cache."""


def reopen_corpus(source: TextSource, digest: str, progress: Progress = _silent) -> Corpus:
    """Open the corpus of ``source`` again; its digest differs if the files have changed.

    If the source cannot be read again (stdin, a pipe, a device, a missing file), the text with this
    digest is taken from the cache.

    Raises:
        TextGone: it is not in the cache.
        CharlstmError: as in ``open_corpus``.
    """
    if lost := source.not_there():
        path, kind = lost
        if corpus := find_encoded(digest, source, progress):
            return corpus
        if kind == "nothing":
            raise TextGone(f"the text {path} no longer exists and is not in the cache")
        origin = "stdin" if path == STDIN else f"{path} (a {kind})"
        raise TextGone(f"the text came from {origin} and is not in the cache")
    return open_corpus(
        source.paths,
        encoding=source.encoding,
        as_bytes=source.as_bytes,
        separator=source.separator,
        progress=progress,
    )


def find_encoded(digest: str, source: TextSource, progress: Progress = _silent) -> Corpus | None:
    """The cached corpus with this digest, or None."""
    for folder in cached_with("digest", digest):
        with suppress(CharlstmError):
            return _load(folder, source, progress=progress)
    return None


def _encode(
    found: FoundText, folder: Path | None, record: str | None, progress: Progress
) -> Corpus:
    root = corpora_folder()
    try:
        make_in_cache(root.name)
        for left in files.abandoned(root):
            files.remove(left)
        with _work_folder(root) as work:
            found.source.withhold(work)
            meta = _write_ids(found, work / IDS, progress)
            if not found.is_unchanged():  # what was read may not be what was identified
                folder = record = None
            meta |= {"record": record, "skipped": found.skipped}
            (work / META).write_text(json.dumps(meta), encoding="utf-8")
            target = folder or root / f"stdin-{meta['digest'][:24]}"
            _move_into_place(work, target)
            return _corpus(target, meta, found.source, found.notices)
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


def _write_ids(found: FoundText, path: Path, progress: Progress) -> dict[str, Any]:
    as_bytes, reader = found.source.as_bytes, TextReader(found)
    writer = IdFile(path, range(256) if as_bytes else range(0))
    try:
        for points in reader.pieces():
            begun = writer.length > 0
            writer.add(points)
            progress("reading", reader.done, found.size)
            if found.size and not begun:
                _check_room(path.parents[1], writer.written, found.size / max(reader.done, 1))
        if writer.length < MIN_CHARACTERS:
            what = found.files[0].path if len(found.files) == 1 else "the text"
            length = plural(writer.length, "character") if writer.length else "no characters"
            raise CharlstmError(
                f"{what if found.files else STDIN_NAME} has {length}, "
                f"but must have at least {MIN_CHARACTERS}",
                "use a longer text: at least a few thousand characters",
            )
        ids_digest, counts = writer.finish(
            lambda done: progress("renumbering", done, writer.written)
        )
    finally:
        writer.close()
    symbols = BYTE_SYMBOLS if as_bytes else "".join(map(chr, sorted(writer.seen)))
    return {
        "vocabulary": [ord(s) for s in symbols],
        "counts": counts.tolist(),
        "length": writer.length,
        "digest": _digest(symbols, ids_digest),
        "notices": reader.notices,
    }


def _check_room(root: Path, written: int, scale: float) -> None:
    """Raise ``CharlstmError`` if the ids will not fit, going by those ``written`` so far.

    The whole text is ``scale`` times what has been read.
    """
    disk = shutil.disk_usage(root)
    needed, free = written * scale, disk.free + written
    if needed > free and disk.total:  # some file systems do not know
        raise CharlstmError(
            f"the encoded text needs about {needed / 1e6:,.0f} MB, "
            f"but only {free / 1e6:,.0f} MB are available in the cache {root}",
            f"free some space there, or set {CACHE_VARIABLE} to a folder on another disk",
        )


def _digest(symbols: str, ids_digest: str) -> str:
    whole = symbols.encode("utf-8", "surrogatepass") + ids_digest.encode()
    return hashlib.sha256(whole).hexdigest()


class _Damaged(CharlstmError):
    """An encoded text that is damaged and has to be rebuilt."""


def _corpus(
    folder: Path, meta: dict[str, Any], source: TextSource, notices: tuple[str, ...]
) -> Corpus:
    """Map the ids of an encoded text; raises various errors if ``meta`` is damaged."""
    symbols = "".join(map(chr, meta["vocabulary"]))
    kind: Literal["bytes", "characters"] = "bytes" if source.as_bytes else "characters"
    vocab = Vocabulary(symbols, kind, source.separator)
    dtype = id_type(len(vocab))
    # A pipe would block.
    if files.file_size(folder / IDS) != meta["length"] * dtype.itemsize:
        raise ValueError("wrong length")
    return Corpus(
        source=source,
        vocab=vocab,
        ids=_map_ids(folder / IDS, dtype),
        counts=tuple(meta["counts"]),
        digest=meta["digest"],
        notices=(*notices, *meta.get("skipped", ()), *meta.get("notices", ())),
    )


def _load(
    folder: Path,
    source: TextSource,
    notices: tuple[str, ...] = (),
    progress: Progress = _silent,
) -> Corpus:
    """Map an encoded text after verifying its checksum.

    Raises:
        _Damaged: the checksum does not match, or a file is missing.
        CharlstmError: it exists, but cannot be read.
    """
    try:
        corpus = _corpus(folder, files.read_json(folder / META, ""), source, notices)
        # Costs a second per gigabyte, and catches a text that a failing disk has changed.
        digest, done = hashlib.sha256(), 0
        with (folder / IDS).open("rb") as file:
            while chunk := file.read(texts.CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                progress("verifying", done, corpus.ids.nbytes)
        if _digest(corpus.vocab.symbols, digest.hexdigest()) != corpus.digest:
            raise ValueError("checksum mismatch")
        return corpus
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
