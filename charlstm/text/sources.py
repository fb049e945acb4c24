"""The source files of a corpus: find, open, decompress and decode them in chunks."""

import bz2
import codecs
import errno
import gzip
import hashlib
import json
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, UsageError, reason_of
from charlstm.files import read_json
from charlstm.text.vocabulary import code_points

STDIN, STDIN_NAME = "-", "standard input"
BUNDLED = "nettle-quay.txt"
CHUNK_BYTES = 1 << 22
HASHED_BYTES = 1 << 26
"""A larger source counts as unchanged if its size and modification time are the same."""

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


@dataclass(frozen=True)
class TextSource:
    """Paths and encoding of a text: all that is needed to read it again."""

    paths: tuple[str, ...]
    """Absolute paths as given, or ``-``."""
    encoding: str = "utf-8"
    as_bytes: bool = False

    @property
    def name(self) -> str:
        """Default name of a run on this text: the first path's file name without its suffixes."""
        if self.paths[0] == STDIN:
            return "stdin"
        path = Path(self.paths[0])
        if path.suffix.lower() in _OPENERS:
            path = path.with_suffix("")
        return path.stem or "corpus"

    def not_there(self) -> tuple[str, str] | None:
        """The first path that cannot be read again, with its ``kind_of``; None if all can."""
        kinds = ((path, "pipe" if path == STDIN else kind_of(Path(path))) for path in self.paths)
        return next((found for found in kinds if found[1] not in ("file", "folder")), None)


@dataclass(frozen=True)
class FoundText:
    """The files of a text, found but not yet read."""

    source: TextSource
    files: tuple[tuple[str, Callable[[], BinaryIO]], ...]
    """Name of each file, and a function that opens it for its decompressed bytes."""
    key: str | None
    """A digest of paths, contents and encoding; None if the text can be read only once."""
    notices: tuple[str, ...]
    """Notes about skipped files."""

    def code_points(self, notices: list[str]) -> Iterator[NDArray[np.uint32]]:
        """The code points (or bytes) of the text in chunks (N,) of uint32.

        Notes for the user are appended to ``notices``. Raises the errors of ``decoded``.
        """
        for name, open_source in self.files:
            try:
                stream = open_source()
            except OSError as error:
                raise CharlstmError(f"{name} cannot be read: {reason_of(error)}") from None
            with nullcontext() if name == STDIN_NAME else stream:
                yield from decoded(name, stream, self.source, notices)


def find_text(
    paths: Sequence[str | Path],
    encoding: str = "utf-8",
    as_bytes: bool = False,
    *,
    left_out: Sequence[Path] = (),
    stdin: BinaryIO | None = None,
) -> FoundText:
    """Find the files of ``paths``, a folder's files in the order of their paths; ``-`` is stdin.

    Inside a folder, runs and studies of charlstm and everything below ``left_out`` are skipped.

    Raises:
        CharlstmError: a path is missing, a device, or a folder without text files.
        UsageError: the encoding is unknown, or stdin is combined with other paths.
    """
    _check_encoding(encoding)
    named = tuple(STDIN if str(path) == STDIN else str(Path(path).absolute()) for path in paths)
    source = TextSource(named, encoding, as_bytes)
    if STDIN in named:
        if len(named) > 1:
            raise UsageError("stdin (-) cannot be combined with other paths", "use - alone")
        raw = stdin if stdin is not None else sys.stdin.buffer
        return FoundText(source, ((STDIN_NAME, lambda: raw),), None, ())
    notices: list[str] = []
    files = _list_files([Path(path) for path in named], encoding, as_bytes, notices, left_out)
    opened = tuple((str(path), opener(path)) for path in files)
    if not any(kind_of(path) == "pipe" for path in files):
        return FoundText(source, opened, _key(files, source), tuple(notices))
    if len(named) == 1:  # the next read would give another text
        source = replace(source, paths=(STDIN,))
    return FoundText(source, opened, None, tuple(notices))


def bundled_corpus() -> Path:
    """The path of the text bundled with charlstm, installed or in a checkout."""
    installed = Path(str(resources.files("charlstm"))) / "data" / BUNDLED
    checkout = Path(__file__).resolve().parents[2] / "data" / BUNDLED
    for path in (installed, checkout):
        if path.is_file():
            return path
    raise CharlstmError(
        "the bundled text is missing from this installation", "give the path of a text file"
    )


def _check_encoding(encoding: str) -> None:
    """Raise ``UsageError`` unless Python has a text encoding of this name."""
    try:
        codecs.getincrementaldecoder(encoding)
        bytes("a", encoding)  # rejects codecs that are not text encodings
    except (LookupError, ValueError):
        raise UsageError(f"unknown encoding {encoding!r}", "try utf-8, latin-1 or utf-16") from None


def opener(path: Path) -> Callable[[], BinaryIO]:
    """A function that opens ``path`` for its bytes, decompressed according to its suffix."""
    decompress = _OPENERS.get(path.suffix.lower())
    return lambda: path.open("rb") if decompress is None else decompress(path)


_FORMATS = {
    b"%PDF-": "a PDF file",
    b"PK\x03\x04": "a ZIP archive (.docx, .odt and .epub files are, too)",
    b"\x1f\x8b": "a gzip file",
    b"{\\rtf": "an RTF file",
    b"\xd0\xcf\x11\xe0": "an Office document",
}
"""First bytes of files that are not plain text."""

_READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""Errors of reading a source, including damaged compressed files."""

_MADE_BY_CHARLSTM = {
    "run.json": {"format", "model", "train", "corpus"},
    "results.json": {"format", "settings", "results"},
}
"""Marker files of a run's and a study's folder, and their fields."""


def kind_of(path: Path) -> str:
    """The kind of a path: ``file``, ``folder``, ``pipe``, ``device``, or ``nothing``."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return "nothing"
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "pipe",
    }
    return kinds.get(stat.S_IFMT(mode), "device")


def _list_files(
    sources: list[Path],
    encoding: str,
    as_bytes: bool,
    notices: list[str],
    left_out: Sequence[Path],
) -> list[Path]:
    """The files of ``sources`` in order; skipped files are reported in ``notices``."""
    files: list[Path] = []
    for source in sources:
        if not os.path.exists(source):
            raise CharlstmError(
                f"no such file: {source}", "check the path, or leave it out to use the bundled text"
            )
        if kind_of(source) == "device":
            raise CharlstmError(
                f"{source} is a device and may never end", "use a file, or - for stdin"
            )
        if source.is_dir():
            found = _text_files(source, encoding, as_bytes, notices, left_out)
            if not found:
                raise CharlstmError(
                    f"no text files in folder {source}",
                    "use a folder with text files, or read files of any kind with `as_bytes`",
                )
            files += found
        else:
            files.append(source)
    return files


def _key(paths: list[Path], source: TextSource) -> str:
    """A digest of paths, contents and encoding that identifies a text."""
    facts: list[Any] = [3, source.encoding, source.as_bytes]
    for path in paths:
        try:
            status = path.stat()
            content: list[Any] = [status.st_size, status.st_mtime_ns]
            if status.st_size <= HASHED_BYTES:
                with path.open("rb") as file:
                    content = [hashlib.file_digest(file, "sha256").hexdigest()]
        except OSError as error:
            raise CharlstmError(f"{path} cannot be read: {reason_of(error)}") from None
        facts.append([str(path), *content])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _text_files(
    folder: Path, encoding: str, as_bytes: bool, notices: list[str], left_out: Sequence[Path]
) -> list[Path]:
    """Readable files below ``folder`` in the order of their paths; skipped ones are reported."""
    if folder.resolve() == Path(folder.resolve().anchor):
        raise CharlstmError(f"{folder} is the root of the file system", "use a folder with texts")
    kept: list[Path] = []
    skipped: set[Path] = set()
    real = {path.resolve() for path in left_out}
    for path in sorted(folder.rglob("*")):
        if not skipped.isdisjoint(path.parents):
            continue
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if reason := _hindrance(path):
            skipped.add(path)
            notices.append(f"skipped {path}: {reason}")
            continue
        if path.is_dir() and (path.resolve() in real or _is_made_by_charlstm(path)):
            skipped.add(path)
            notices.append(f"ignored {path}: written by charlstm")
        if not path.is_file():
            continue
        if reason := _not_text(path, encoding, as_bytes):
            notices.append(f"skipped {path}: {reason}")
        else:
            kept.append(path)
    return kept


def _hindrance(path: Path) -> str:
    """Why a path inside a folder cannot be read, or the empty string."""
    try:
        is_folder = path.is_dir()
    except OSError as error:
        return reason_of(error)
    denied = is_folder and not os.access(path, os.R_OK | os.X_OK)
    return reason_of(PermissionError(errno.EACCES, os.strerror(errno.EACCES))) if denied else ""


def _is_made_by_charlstm(folder: Path) -> bool:
    """Whether a folder belongs to a run or a study."""
    for name, fields in _MADE_BY_CHARLSTM.items():
        try:
            if (folder / name).is_file() and fields <= read_json(folder / name, "").keys():
                return True
        except (OSError, CharlstmError):
            continue
    return False


def _not_text(path: Path, encoding: str, as_bytes: bool) -> str:
    """Why a file is skipped, or the empty string; reads the file to the end."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    empty = True
    try:
        with opener(path)() as stream:
            while chunk := stream.read(CHUNK_BYTES):
                empty = False
                if as_bytes:
                    break
                if "\0" in decoder.decode(chunk):
                    return "a binary file"
            if not as_bytes:
                decoder.decode(b"", final=True)
    except UnicodeError:
        return f"not valid {encoding}"
    except _READ_ERRORS as error:
        return reason_of(error)
    return "empty file" if empty else ""


def decoded(
    name: str, stream: BinaryIO, source: TextSource, notices: list[str]
) -> Iterator[NDArray[np.uint32]]:
    """The code points (or bytes) of one source in chunks (N,) of uint32.

    Raises:
        CharlstmError: the source cannot be read, or is not valid in the encoding; the message has
            the byte's offset, the hint a remedy.
    """
    if source.as_bytes:
        while chunk := _read(name, stream):
            yield np.frombuffer(chunk, dtype=np.uint8).astype(np.uint32)
        return
    decoder = codecs.getincrementaldecoder(source.encoding)("strict")
    offset = 0
    first = True
    while True:
        chunk = _read(name, stream)
        if first:
            _refuse_other_encoding(name, chunk, source.encoding)
            binary = format_of(chunk)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
            points = code_points(text)
        except UnicodeError as error:
            reason = str(error)
            if binary:
                raise CharlstmError(
                    f"{name} is {binary}, not plain text", "convert it to plain text, or unpack it"
                ) from None
            likely = "latin-1"
            if isinstance(error, UnicodeDecodeError):
                if 0x80 <= error.object[error.start] < 0xA0:  # controls in latin-1
                    likely = "cp1252"
                at = offset - pending + error.start
                bad = error.object[error.start : error.start + 1].hex()
                reason = f"byte 0x{bad} at offset {at:,}"
            raise CharlstmError(
                f"{name} is not valid {source.encoding}: {reason}",
                f"set its encoding (`encoding` {likely}, …) or model its bytes (`as_bytes`)",
            ) from None
        offset += len(chunk)
        if first and text:
            first = False
            if text[0] == "\ufeff":
                points = points[1:]
                notices.append(f"dropped the byte-order mark at the start of {name}")
            if binary:
                notices.append(f"note: {name} is {binary}, not plain text; convert it first")
        if len(points):
            yield points
        if not chunk:
            return


def _read(name: str, stream: BinaryIO) -> bytes:
    try:
        return stream.read(CHUNK_BYTES)
    except _READ_ERRORS as error:
        raise CharlstmError(f"{name} cannot be read: {reason_of(error)}") from None


def format_of(start: bytes) -> str:
    """The file format that begins with these bytes, or "" for plain text."""
    return next((name for magic, name in _FORMATS.items() if start.startswith(magic)), "")


def wide_encoding(start: bytes) -> str:
    """The encoding of a UTF-16 or UTF-32 text, detected from its first bytes, or "".

    Detects a byte-order mark, or NULs in every second byte, as in UTF-16 texts of most European
    languages; read as UTF-8, such bytes would be a text full of NULs.
    """
    for mark, encoding in _BOMS.items():
        if start.startswith(mark):
            return encoding
    start = start[: CHUNK_BYTES & ~1]
    for first, encoding in ((1, "utf-16le"), (0, "utf-16be")):
        high, low = start[first::2], start[1 - first :: 2]
        if high.count(0) > 0.9 * len(high) and low.count(0) < 0.1 * len(low):
            return encoding
    return ""


def _refuse_other_encoding(name: str, start: bytes, encoding: str) -> None:
    """Refuse UTF-16 and UTF-32 where the text should be UTF-8."""
    if codecs.lookup(encoding).name == "utf-8" and (actual := wide_encoding(start)):
        raise CharlstmError(f"{name} is {actual}, not utf-8", f"use `encoding` {actual}")
