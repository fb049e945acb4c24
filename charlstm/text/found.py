"""Find the files of a text, and what identifies the text before and after it is read."""

import codecs
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, UsageError, reason_of, require, shown
from charlstm.text import folder, sources
from charlstm.text.items import with_ends
from charlstm.text.sources import STDIN, STDIN_NAME, SourceFile, TextSource, decoded, kind_of
from charlstm.text.vocabulary import MAX_SEPARATOR, is_separator

HASHED_BYTES = 1 << 26
"""A larger source counts as unchanged if its size and modification time are the same."""
SETTLED_SECONDS = 2.0
"""A file that changed less than this before may change again within the same tick of its clock."""

Progress = Callable[[str, int, int | None], None]
"""Called with the activity, the bytes done, and the total if it is known."""


@dataclass(frozen=True)
class FoundText:
    """The files of a text, found but not yet read."""

    source: TextSource
    files: tuple[SourceFile, ...]
    """In order; none for stdin."""
    stdin: BinaryIO | None
    notices: tuple[str, ...]
    """Notes about what was not looked at."""
    at: float
    """When the files were found, in seconds since the epoch."""
    skipped: tuple[str, ...] = ()
    """Notes about files that are no text, once they are read."""

    @cached_property
    def size(self) -> int | None:
        """Bytes on disk, or None for stdin and pipes."""
        return sum(file.size for file in self.files) if self.is_repeatable else None

    @cached_property
    def is_repeatable(self) -> bool:
        """Whether the text can be read again: it is neither stdin nor a pipe."""
        return self.source.paths != (STDIN,) and all(file.record for file in self.files)

    def record(self) -> str | None:
        """A digest of what the system records of the files: the text is unchanged if it is.

        None if the text can be read only once, or if a file has changed so recently that another
        change might not show.
        """
        unsettled = any(abs(self.at - file.changed) < SETTLED_SECONDS for file in self.files)
        if unsettled or not self.is_repeatable:
            return None
        digest = hashlib.sha256(json.dumps(self._reading()).encode())
        for file in self.files:
            digest.update(json.dumps([file.path, file.in_folder, *file.record]).encode())
        return digest.hexdigest()

    def is_unchanged(self) -> bool:
        """Whether the system records the same of the files as when they were found."""
        try:
            now = [
                SourceFile.of(file.path, os.stat(file.path), in_folder=file.in_folder)
                for file in self.files
            ]
        except OSError:
            return False
        return now == list(self.files)

    def identified(self, progress: Progress) -> tuple["FoundText", str | None]:
        """The text without files that are no text, and a digest of its paths and contents.

        Files up to ``HASHED_BYTES``, and all files of folders, are read. The digest is None if the
        text can be read only once.

        Raises:
            CharlstmError: a file cannot be read, or a folder has no text.
        """
        if not self.is_repeatable:
            return self, None
        facts: list[Any] = [3, *self._reading()]
        kept, skipped, done = list[SourceFile](), list[str](), 0
        for file in self.files:
            reason, content = _identify(file, self.source)
            done += file.size
            progress("checking", done, self.size)
            if reason:
                skipped.append(f"skipped {file.path}: {reason}")
            else:
                kept.append(file)
                facts.append([file.path, *content])
        self._check_folders(kept)
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
        return replace(self, files=tuple(kept), skipped=tuple(skipped)), key

    def _reading(self) -> list[Any]:
        """How the bytes of the files become symbols."""
        source = self.source
        separated = [] if source.separator is None else [source.separator]
        return [source.encoding, source.as_bytes, *separated]

    def _check_folders(self, kept: Sequence[SourceFile]) -> None:
        for path in self.source.paths:
            within = os.path.join(path, "")
            if os.path.isdir(path) and not any(file.path.startswith(within) for file in kept):
                raise CharlstmError(
                    f"no text files in folder {path}",
                    "use a folder with text files, or read files of any kind with `as_bytes`",
                )


def _identify(file: SourceFile, source: TextSource) -> tuple[str, list[Any]]:
    """Why a file of a folder is no text, or the empty string; and what identifies its content."""
    reason, digest = folder.verify(file, source) if file.in_folder else ("", "")
    if reason or file.size > HASHED_BYTES:
        return reason, [file.size, file.record[1]]
    if digest and not sources.is_compressed(file.path):
        return "", [digest]
    try:
        with open(file.path, "rb") as raw:
            return "", [hashlib.file_digest(raw, "sha256").hexdigest()]
    except OSError as error:
        raise CharlstmError(f"{file.path} cannot be read: {reason_of(error)}") from None


class TextReader:
    """Reads a found text once; says how far it is, and what is notable about it."""

    def __init__(self, found: FoundText) -> None:
        self.notices: list[str] = []
        self.done = 0
        """Bytes on disk that are read, of ``FoundText.size``; of a pipe, characters."""
        self._found = found

    def pieces(self) -> Iterator[NDArray[np.unsignedinteger]]:
        """The code points (or bytes) of the text in pieces (N,); small files share a piece.

        Raises the errors of ``decoded``.
        """
        waiting: list[NDArray[np.unsignedinteger]] = []
        length = 0
        for points in self._chunks():
            waiting.append(points)
            length += len(points)
            if length >= sources.CHUNK_BYTES // 4:
                yield np.concatenate(waiting) if len(waiting) > 1 else points
                waiting, length = [], 0
        if waiting:
            yield np.concatenate(waiting)

    def _chunks(self) -> Iterator[NDArray[np.unsignedinteger]]:
        stdin = self._found.stdin
        if stdin is not None:
            for points in self._decoded(STDIN_NAME, stdin):
                self.done += len(points)
                yield points
        for file in self._found.files:
            before = self.done
            try:
                with sources.opened(file.path) as (raw, stream):
                    for points in self._decoded(file.path, stream):
                        self.done = raw.tell() + before if file.record else self.done + len(points)
                        yield points
            except OSError as error:
                raise CharlstmError(f"{file.path} cannot be read: {reason_of(error)}") from None
            self.done = max(self.done, before + file.size)

    def _decoded(self, name: str, stream: BinaryIO) -> Iterator[NDArray[np.unsignedinteger]]:
        source = self._found.source
        points = decoded(name, stream, source, self.notices)
        return points if source.separator is None else with_ends(points, source.separator)


def find_text(
    paths: Sequence[str | Path],
    encoding: str = "utf-8",
    as_bytes: bool = False,
    *,
    separator: str | None = None,
    left_out: Sequence[Path] = (),
    stdin: BinaryIO | None = None,
) -> FoundText:
    """Find the files of ``paths``, a folder's files in the order of their paths; ``-`` is stdin.

    Inside a folder, runs and studies of charlstm and everything below ``left_out`` are skipped.

    Raises:
        CharlstmError: a path is missing, or a device.
        UsageError: the encoding is unknown, the separator is empty or does not fit in a byte, or
            stdin is combined with other paths.
    """
    _check_encoding(encoding)
    if separator is not None:
        _check_separator(separator, as_bytes)
    at = time.time()
    named = tuple(STDIN if str(path) == STDIN else str(Path(path).absolute()) for path in paths)
    source = TextSource(named, encoding, bool(as_bytes), separator)
    if STDIN in named:
        if len(named) > 1:
            raise UsageError("stdin (-) cannot be combined with other paths", "use - alone")
        return FoundText(source, (), stdin if stdin is not None else sys.stdin.buffer, (), at)
    notices: list[str] = []
    files = [file for path in named for file in _files(Path(path), left_out, notices)]
    if len(named) == 1 and kind_of(Path(named[0])) == "pipe":
        source = replace(source, paths=(STDIN,))  # the next read would give another text
    return FoundText(source, tuple(files), None, tuple(notices), at)


def _files(path: Path, left_out: Sequence[Path], notices: list[str]) -> Iterator[SourceFile]:
    """The files of one path in order; skipped ones are reported in ``notices``."""
    if not os.path.exists(path):
        raise CharlstmError(
            f"no such file: {path}", "check the path, or leave it out to use the bundled text"
        )
    match kind_of(path):
        case "folder" if path.resolve() == Path(path.resolve().anchor):
            raise CharlstmError(f"{path} is the root of the file system", "use a folder with texts")
        case "folder":
            yield from folder.files_of(path, left_out, notices)
        case "device":
            raise CharlstmError(
                f"{path} is a device and may never end", "use a file, or - for stdin"
            )
        case "pipe":
            yield SourceFile(str(path), 0, 0.0, (), False)
        case _:
            yield SourceFile.of(str(path), path.stat(), in_folder=False)


def _check_encoding(encoding: str) -> None:
    """Raise ``UsageError`` unless Python has a text encoding of this name."""
    try:
        codecs.getincrementaldecoder(encoding)
        bytes("a", encoding)  # rejects codecs that are not text encodings
    except (LookupError, TypeError, ValueError):
        raise UsageError(f"unknown encoding {encoding!r}", "try utf-8, latin-1 or utf-16") from None


def _check_separator(separator: str, as_bytes: bool) -> None:
    """Raise ``UsageError`` unless items can be separated by ``separator``."""
    require(
        isinstance(separator, str) and is_separator(separator),
        f"`separator` is {shown(separator)}, but must be text of 1 to {MAX_SEPARATOR} characters",
        "give the text between two items",
    )
    require(
        not as_bytes or (len(separator) == 1 and separator.isascii()),
        f"`separator` is {shown(separator)}, but must be one ASCII character with `as_bytes`",
        "model characters, or use another separator",
    )
