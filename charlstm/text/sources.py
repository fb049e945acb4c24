"""The texts that a corpus is made of: found, opened, decompressed, decoded chunk by chunk."""

import bz2
import codecs
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, UsageError, reason_of
from charlstm.text.vocabulary import code_points

STDIN = "-"
BUNDLED = "nettle-quay.txt"
CHUNK_BYTES = 1 << 22

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
    """How a corpus is read: enough to read it again."""

    paths: tuple[str, ...]
    """Absolute paths as given, or ``-``."""
    encoding: str = "utf-8"
    as_bytes: bool = False


def bundled_corpus() -> Path:
    """The corpus that comes with charlstm, installed or in a checkout."""
    installed = Path(str(resources.files("charlstm"))) / "data" / BUNDLED
    checkout = Path(__file__).resolve().parents[2] / "data" / BUNDLED
    for path in (installed, checkout):
        if path.is_file():
            return path
    raise CharlstmError("the bundled corpus is missing from this installation", "name a text file")


def corpus_name(source: TextSource) -> str:
    """A run's name for a corpus: the first source's file name, without its endings."""
    first = source.paths[0]
    if first == STDIN:
        return "stdin"
    path = Path(first)
    if path.suffix.lower() in _OPENERS:
        path = path.with_suffix("")
    return path.stem or "corpus"


def check_encoding(encoding: str) -> None:
    """Raise ``UsageError`` unless Python has a text encoding of this name."""
    try:
        codecs.getincrementaldecoder(encoding)
        "a".encode(encoding)  # refuses the codecs that are no text encodings
    except (LookupError, ValueError):
        raise UsageError(
            f"the encoding {encoding!r} is not known", "try utf-8, latin-1 or utf-16"
        ) from None


def opener(path: Path) -> Callable[[], BinaryIO]:
    """What opens a file for its bytes, decompressed if its name says so."""
    decompress = _OPENERS.get(path.suffix.lower())
    return lambda: path.open("rb") if decompress is None else decompress(path)


READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""What source a file may raise, damaged compressed ones included."""


def list_files(
    sources: list[Path], encoding: str, as_bytes: bool, notices: list[str]
) -> list[Path]:
    """The files of ``sources`` in order, a folder's in the order of their paths."""
    files: list[Path] = []
    for source in sources:
        if not os.path.exists(source):
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
        with opener(path)() as stream:
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
    except READ_ERRORS as error:
        return reason_of(error)
    return "empty" if empty else ""


def decoded(
    name: str, stream: BinaryIO, source: TextSource, notices: list[str]
) -> Iterator[NDArray[np.uint32]]:
    """The code points (or bytes) of one source, chunk by chunk.

    Raises:
        CharlstmError: bytes that are not valid in the encoding, with their offset and remedies.
    """
    if source.as_bytes:
        while chunk := stream.read(CHUNK_BYTES):
            yield np.frombuffer(chunk, dtype=np.uint8).astype(np.uint32)
        return
    decoder = codecs.getincrementaldecoder(source.encoding)("strict")
    offset = 0
    first = True
    while True:
        chunk = stream.read(CHUNK_BYTES)
        if first:
            _refuse_other_encoding(name, chunk, source.encoding)
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
                f"{name} is not valid {source.encoding}: {reason}",
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


def wide_encoding(start: bytes) -> str:
    """The encoding of a text in UTF-16 or UTF-32, which its first bytes show, or "".

    It has a byte-order mark, or a NUL in every second byte, as UTF-16 has it in most languages
    of Europe; as UTF-8 such bytes would be a text full of NULs.
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
        raise CharlstmError(f"{name} is not utf-8 but {actual}", f"use `encoding` {actual}")
