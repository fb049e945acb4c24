"""Read any text, encode it once into a memory-mapped cache, and split it.

A corpus comes from files, folders, compressed files or stdin. It is decoded chunk by chunk and
written as ids, so its size is bounded by the disk, not by memory. The cache is keyed by the
sources' paths, sizes and times, and by how they were read.
"""

import bz2
import codecs
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm.config import MAX_VOCABULARY
from charlstm.errors import CharlstmError, UsageError
from charlstm.files import make_work_folder
from charlstm.vocab import BYTE_SYMBOLS, Vocabulary, code_points

STDIN = "-"
BUNDLED = "nettle-quay.txt"
MIN_CHARACTERS = 20
CHUNK_BYTES = 1 << 22
CACHE_VARIABLE = "CHARLSTM_CACHE"

_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def bundled_corpus() -> Path:
    """The corpus that comes with charlstm, installed or in a checkout."""
    installed = Path(str(resources.files("charlstm"))) / "data" / BUNDLED
    checkout = Path(__file__).resolve().parent.parent / "data" / BUNDLED
    for path in (installed, checkout):
        if path.is_file():
            return path
    raise CharlstmError("the bundled corpus is missing from this installation", "name a text file")


def cache_folder() -> Path:
    """Where encoded corpora are kept: $CHARLSTM_CACHE, or charlstm in the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "charlstm"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "charlstm"
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "charlstm" / "cache"
    return Path.home() / ".cache" / "charlstm"


@dataclass(frozen=True)
class Reading:
    """How a corpus is read: enough to read it again."""

    sources: tuple[str, ...]
    """Absolute paths as given, or ``-``."""
    encoding: str = "utf-8"
    as_bytes: bool = False


@dataclass(frozen=True)
class Corpus:
    """An encoded text: ids mapped from disk, the vocabulary, and how often each symbol occurs."""

    name: str
    reading: Reading
    vocab: Vocabulary
    ids: NDArray[np.unsignedinteger] = field(compare=False)
    """Shape (N,), memory-mapped; uint8, uint16 or uint32, the smallest that holds V."""
    counts: tuple[int, ...]
    """Occurrences of each symbol, by id."""
    digest: str
    """SHA-256 over vocabulary and ids: two corpora with one digest are the same text."""
    notices: tuple[str, ...] = field(default=(), compare=False)
    """What a user should know: skipped files, a byte-order mark dropped."""

    def __len__(self) -> int:
        return len(self.ids)

    def split(
        self, val_fraction: float
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]:
        """The first part, to train on, and the last ``val_fraction`` of it, to validate on."""
        cut = len(self.ids) - int(len(self.ids) * val_fraction)
        return self.ids[:cut], self.ids[cut:]


def open_corpus(
    sources: Sequence[str | Path],
    *,
    encoding: str = "utf-8",
    as_bytes: bool = False,
    stdin: BinaryIO | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Corpus:
    """Read ``sources`` as one text; encoded on the first call, mapped from the cache later.

    Files are joined in the order given, a folder's files in the order of their paths, with
    nothing between them. ``.gz``, ``.bz2`` and ``.xz`` are decompressed. Text is decoded
    strictly, without newline translation; a byte-order mark at a file's start is dropped.
    ``progress`` is called with the number of characters read so far.

    Raises:
        CharlstmError: a source is missing, unreadable, empty or not valid in ``encoding``.
        UsageError: the encoding is not known, or stdin is named beside other sources.
    """
    try:
        codecs.getincrementaldecoder(encoding)
        "a".encode(encoding)  # refuses the codecs that are no text encodings
    except (LookupError, ValueError):
        raise UsageError(
            f"the encoding {encoding!r} is not known", "try utf-8, latin-1 or utf-16"
        ) from None
    named = [STDIN if str(s) == STDIN else str(Path(s).absolute()) for s in sources]
    reading = Reading(tuple(named), encoding, as_bytes)
    if STDIN in named:
        if len(named) > 1:
            raise UsageError("stdin (-) is named beside other sources", "give stdin alone")
        notices: list[str] = []
        raw = stdin if stdin is not None else sys.stdin.buffer
        corpus = _encode(reading, [("standard input", lambda: raw)], None, notices, progress)
        return corpus
    notices = []
    files = _list_files([Path(s) for s in named], encoding, as_bytes, notices)
    folder = cache_folder() / "corpora" / _source_key(files, reading)
    if (folder / "corpus.json").exists():
        try:
            return _load(folder, reading, notices)
        except CharlstmError:
            shutil.rmtree(folder, ignore_errors=True)
    opened = [(str(path), _opener(path)) for path in files]
    return _encode(reading, opened, folder, notices, progress)


def corpus_name(reading: Reading) -> str:
    """A run's name for a corpus: the first source's file name, without its endings."""
    first = reading.sources[0]
    if first == STDIN:
        return "stdin"
    path = Path(first)
    if path.suffix.lower() in _OPENERS:
        path = path.with_suffix("")
    return path.stem or "corpus"


def find_encoded(digest: str, reading: Reading) -> Corpus | None:
    """The cached corpus with this digest, if there is one; how a text from stdin is found."""
    root = cache_folder() / "corpora"
    for path in sorted(root.glob("*/corpus.json")):
        try:
            corpus = _load(path.parent, reading, [])
        except CharlstmError:
            continue
        if corpus.digest == digest:
            return corpus
    return None


def _opener(path: Path) -> Callable[[], BinaryIO]:
    opener = _OPENERS.get(path.suffix.lower())
    return lambda: path.open("rb") if opener is None else opener(path)


def _os_reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


_READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)


def _list_files(
    sources: list[Path], encoding: str, as_bytes: bool, notices: list[str]
) -> list[Path]:
    files: list[Path] = []
    for source in sources:
        if not _exists(source):
            raise CharlstmError(
                f"there is no file {source}", "check the path, or leave it out for the bundled text"
            )
        if source.is_dir():
            found = _text_files(source, encoding, as_bytes, notices)
            if not found:
                raise CharlstmError(
                    f"the folder {source} has no text file in it",
                    "name a folder with text files, or use --bytes for files of any kind",
                )
            files += found
        else:
            files.append(source)
    return files


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for a file, or with a NUL in it
        return False


def _text_files(folder: Path, encoding: str, as_bytes: bool, notices: list[str]) -> list[Path]:
    """Readable files below ``folder`` in the order of their paths; the skipped ones are noted."""
    kept: list[Path] = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        if reason := _not_text(path, encoding, as_bytes):
            notices.append(f"skipped {path}: {reason}")
        else:
            kept.append(path)
    return kept


def _not_text(path: Path, encoding: str, as_bytes: bool) -> str:
    """Why a folder's file is left out, or the empty string; reads it to the end."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    empty = True
    try:
        with _opener(path)() as stream:
            while chunk := stream.read(CHUNK_BYTES):
                empty = False
                if as_bytes:
                    break
                if "\0" in decoder.decode(chunk):
                    return "binary"
            if not as_bytes:
                decoder.decode(b"", final=True)
    except UnicodeError:
        return f"not valid {encoding}"
    except _READ_ERRORS as error:
        return _os_reason(error)
    return "empty" if empty else ""


def _source_key(files: list[Path], reading: Reading) -> str:
    """A name for the cache folder: a digest over paths, sizes, times and manner of reading."""
    facts: list[Any] = [2, reading.encoding, reading.as_bytes]
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise CharlstmError(f"{path} cannot be read: {_os_reason(error)}") from None
        facts.append([str(path), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _decoded(
    name: str, stream: BinaryIO, reading: Reading, notices: list[str]
) -> Iterator[NDArray[np.uint32]]:
    """The code points (or bytes) of one source, chunk by chunk.

    Raises:
        CharlstmError: bytes that are not valid in the encoding, with their offset and remedies.
    """
    if reading.as_bytes:
        while chunk := stream.read(CHUNK_BYTES):
            yield np.frombuffer(chunk, dtype=np.uint8).astype(np.uint32)
        return
    decoder = codecs.getincrementaldecoder(reading.encoding)("strict")
    offset = 0
    first = True
    while True:
        chunk = stream.read(CHUNK_BYTES)
        if first:
            _refuse_other_encoding(name, chunk, reading.encoding)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
            points = code_points(text)
        except UnicodeError as error:
            reason = str(error)
            if isinstance(error, UnicodeDecodeError):
                at = offset - pending + error.start
                bad = error.object[error.start : error.start + 1].hex()
                reason = f"byte 0x{bad} at offset {at:,}"
            raise CharlstmError(
                f"{name} is not valid {reading.encoding}: {reason}",
                "name its encoding (--encoding latin-1, …) or model its bytes (--bytes)",
            ) from None
        offset += len(chunk)
        if first and text:
            first = False
            if text[0] == "\ufeff":
                points = points[1:]
                notices.append(f"dropped the byte-order mark at the start of {name}")
        if len(points):
            yield points
        if not chunk:
            return


def _refuse_other_encoding(name: str, start: bytes, encoding: str) -> None:
    """UTF-16 and UTF-32 announce themselves; say so rather than fail on their first byte."""
    if codecs.lookup(encoding).name != "utf-8":
        return
    for mark, actual in _BOMS.items():
        if start.startswith(mark):
            raise CharlstmError(
                f"{name} is not valid utf-8: it starts with the byte-order mark of {actual}",
                f"use --encoding {actual}",
            )


class _Writer:
    """Ids on disk in order of first appearance, widened when the vocabulary outgrows its type."""

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
            while chunk := old.read(CHUNK_BYTES):
                self._file.write(np.frombuffer(chunk, self.dtype).astype(needed).tobytes())
        narrow.unlink()
        self.dtype = needed

    def finish(self, vocab_order: NDArray[np.int64]) -> str:
        """Renumber the ids so that ``vocab_order[new] == old``; return the digest of them."""
        self._file.close()
        rank = np.empty(len(vocab_order), dtype=self.dtype)
        rank[vocab_order] = np.arange(len(vocab_order))
        digest = hashlib.sha256()
        with self.path.open("r+b") as file:
            position = 0
            while chunk := file.read(CHUNK_BYTES):
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


def _encode(
    reading: Reading,
    sources: list[tuple[str, Callable[[], BinaryIO]]],
    folder: Path | None,
    notices: list[str],
    progress: Callable[[int], None],
) -> Corpus:
    root = cache_folder() / "corpora"
    try:
        root.mkdir(parents=True, exist_ok=True)
        work = make_work_folder(root, ".new-")
    except OSError as error:
        raise CharlstmError(
            f"the cache {root} cannot be written: {_os_reason(error)}",
            f"set {CACHE_VARIABLE} to a folder that can be written",
        ) from None
    try:
        with_notices = len(notices)
        meta = _write_ids(reading, sources, work / "ids.bin", notices, progress)
        meta["notices"] = notices[with_notices:]
        (work / "corpus.json").write_text(json.dumps(meta), encoding="utf-8")
        target = folder or root / f"stdin-{meta['digest'][:24]}"
        _move_into_place(work, target)
        return _load(target, reading, notices[:with_notices])
    except OSError as error:
        raise CharlstmError(
            f"the corpus cannot be encoded into {root}: {_os_reason(error)}",
            f"free some space, or set {CACHE_VARIABLE} to another folder",
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move_into_place(work: Path, target: Path) -> None:
    """Rename the finished folder; where another process was faster, its result serves as well."""
    try:
        work.rename(target)
    except OSError:
        if not (target / "corpus.json").exists():
            shutil.rmtree(target, ignore_errors=True)
            work.rename(target)


def _write_ids(
    reading: Reading,
    sources: list[tuple[str, Callable[[], BinaryIO]]],
    path: Path,
    notices: list[str],
    progress: Callable[[int], None],
) -> dict[str, Any]:
    writer = _Writer(path)
    try:
        for name, opener in sources:
            try:
                stream = opener()
            except OSError as error:
                raise CharlstmError(f"{name} cannot be read: {_os_reason(error)}") from None
            with stream if name != "standard input" else io.BytesIO():
                try:
                    for points in _decoded(name, stream, reading, notices):
                        writer.add(points)
                        progress(writer.length)
                except _READ_ERRORS as error:
                    raise CharlstmError(f"{name} cannot be read: {_os_reason(error)}") from None
        if writer.length < MIN_CHARACTERS:
            what = sources[0][0] if len(sources) == 1 else "the corpus"
            empty = "is empty" if not writer.length else f"has {writer.length} characters"
            raise CharlstmError(
                f"{what} {empty}, but must have at least {MIN_CHARACTERS}",
                "give a longer text; a few thousand characters make a start",
            )
        seen = np.array(writer.seen, dtype=np.int64)
        if reading.as_bytes:
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
    whole = hashlib.sha256(symbols.encode("utf-8", "surrogatepass") + ids_digest.encode())
    return {
        "vocabulary": [ord(s) for s in symbols],
        "counts": counts[order].tolist(),
        "length": writer.length,
        "digest": whole.hexdigest(),
    }


def _load(folder: Path, reading: Reading, notices: list[str]) -> Corpus:
    try:
        meta = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        symbols = "".join(map(chr, meta["vocabulary"]))
        kind = "bytes" if reading.as_bytes else "characters"
        vocab = Vocabulary(symbols, kind)  # type: ignore[arg-type]
        ids = np.memmap(folder / "ids.bin", dtype=_id_type(len(vocab)), mode="r")
        if len(ids) != meta["length"]:
            raise ValueError("length")
        return Corpus(
            name=corpus_name(reading),
            reading=reading,
            vocab=vocab,
            ids=ids,
            counts=tuple(meta["counts"]),
            digest=meta["digest"],
            notices=(*notices, *meta.get("notices", ())),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CharlstmError(
            f"the cached corpus {folder} is damaged: {_os_reason(error)}",
            "delete that folder; it is made again from the text",
        ) from None
