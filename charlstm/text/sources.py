"""The source files of a corpus: open, decompress and decode them in chunks."""

import bz2
import codecs
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, reason_of
from charlstm.text.vocabulary import code_points

STDIN, STDIN_NAME = "-", "standard input"
BUNDLED = "nettle-quay.txt"
CHUNK_BYTES = 1 << 20

_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
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
    separator: str | None = None
    """Text between two items of a list; None for a text."""

    @property
    def name(self) -> str:
        """Default name of a run on this text: the first path's file name without its suffixes."""
        if self.paths[0] == STDIN:
            return "stdin"
        path = Path(self.paths[0])
        if path.suffix.lower() in _OPENERS:
            path = path.with_suffix("")
        return path.stem or "corpus"

    def withhold(self, folder: Path) -> None:
        """Take from those who may not read the text the permissions of a folder with parts of it.

        Raises ``OSError``.
        """
        mode = folder.stat().st_mode
        for path in self.paths:
            with suppress(OSError):
                readable = os.stat(path).st_mode
                mode &= ~(0 if readable & stat.S_IRGRP else stat.S_IRWXG)
                mode &= ~(0 if readable & stat.S_IROTH else stat.S_IRWXO)
        folder.chmod(stat.S_IMODE(mode))

    def not_there(self) -> tuple[str, str] | None:
        """The first path that cannot be read again, with its ``kind_of``; None if all can."""
        kinds = ((path, "pipe" if path == STDIN else kind_of(Path(path))) for path in self.paths)
        return next((found for found in kinds if found[1] not in ("file", "folder")), None)


@dataclass(frozen=True)
class SourceFile:
    """A file of a text, and what the system records of it."""

    path: str
    size: int
    changed: float
    """When its content or its record last changed, in seconds since the epoch."""
    record: tuple[int, ...]
    """Size, times of modification and change in nanoseconds, and inode."""
    in_folder: bool
    """Found in a folder, and skipped if it is no text."""

    @classmethod
    def of(cls, path: str, status: os.stat_result, *, in_folder: bool) -> "SourceFile":
        """The file at ``path``, whose ``os.stat`` is ``status``."""
        times = status.st_mtime_ns, status.st_ctime_ns
        record = status.st_size, *times, status.st_ino
        return cls(path, status.st_size, max(times) / 1e9, record, in_folder)


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


def is_compressed(path: str) -> bool:
    """Whether a file is decompressed when it is read, by its suffix."""
    return os.path.splitext(path)[1].lower() in _OPENERS


@contextmanager
def opened(path: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A file on disk, and its bytes decompressed according to its suffix."""
    with open(path, "rb") as raw:
        if is_compressed(path):
            with _OPENERS[os.path.splitext(path)[1].lower()](raw) as stream:
                yield raw, stream
        else:
            yield raw, raw


_FORMATS = {
    b"%PDF-": "a PDF file",
    b"PK\x03\x04": "a ZIP archive (.docx, .odt and .epub files are, too)",
    b"\x1f\x8b": "a gzip file",
    b"{\\rtf": "an RTF file",
    b"\xd0\xcf\x11\xe0": "an Office document",
}
"""First bytes of files that are not plain text."""

READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""Errors of reading a source, including damaged compressed files."""


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


def decoded(
    name: str, stream: BinaryIO, source: TextSource, notices: list[str]
) -> Iterator[NDArray[np.unsignedinteger]]:
    """The code points (or bytes) of one source in chunks (N,).

    Raises:
        CharlstmError: the source cannot be read, or is not valid in the encoding; the message has
            the byte's offset, the hint a remedy.
    """
    if source.as_bytes:
        while chunk := _read(name, stream):
            yield np.frombuffer(chunk, dtype=np.uint8)
        return
    decoder = codecs.getincrementaldecoder(source.encoding)("strict")
    offset = 0
    first = True
    while True:
        chunk = _read(name, stream)
        if first:
            _refuse_other_encoding(name, chunk, source.encoding)
            start, binary = chunk, format_of(chunk)
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
            found = wide_encoding(start) or ("utf-8" if reads_as_utf8(start) else likely)
            if codecs.lookup(found).name != codecs.lookup(source.encoding).name:
                likely = found
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
    except READ_ERRORS as error:
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
    if b"\0" not in start:
        return ""
    start = start[: CHUNK_BYTES & ~1]
    for first, encoding in ((1, "utf-16le"), (0, "utf-16be")):
        high, low = start[first::2], start[1 - first :: 2]
        if high.count(0) > 0.9 * len(high) and low.count(0) < 0.1 * len(low):
            return encoding
    return ""


def reads_as_utf8(data: bytes) -> bool:
    """Whether bytes, perhaps cut within a character, are a text in UTF-8 without NULs."""
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeError:
        return False


def _refuse_other_encoding(name: str, start: bytes, encoding: str) -> None:
    """Refuse UTF-16 and UTF-32 where the text should be UTF-8."""
    if codecs.lookup(encoding).name == "utf-8" and (actual := wide_encoding(start)):
        raise CharlstmError(f"{name} is {actual}, not utf-8", f"use `encoding` {actual}")
