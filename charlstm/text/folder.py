"""Which files of a folder are its text: list them, and verify that they can be read as text."""

import codecs
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from charlstm.errors import CharlstmError, reason_of
from charlstm.files import read_json
from charlstm.text import sources
from charlstm.text.sources import READ_ERRORS, SourceFile, TextSource

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP}
"""Errors of a link that leads nowhere, and of a file that was deleted meanwhile."""
_MADE_BY_CHARLSTM = {
    "run.json": {"format", "model", "train", "corpus"},
    "results.json": {"format", "settings", "results"},
}
"""Marker files of a run's and a study's folder, and their fields."""


def files_of(folder: Path, left_out: Sequence[Path], notices: list[str]) -> Iterator[SourceFile]:
    """The files below ``folder`` in the order of their paths, by their names alone.

    Hidden files and folders and links to folders are left out. Runs and studies of charlstm,
    everything below ``left_out``, and what cannot be read are reported in ``notices``.
    """
    unwanted = {os.path.realpath(path) for path in left_out}
    root = str(folder)
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                yield SourceFile.of(path, status, in_folder=True)
            if not stat.S_ISDIR(status.st_mode) or (path != root and os.path.islink(path)):
                continue
            names = os.listdir(path)
        except OSError as error:
            if error.errno not in _GONE:
                notices.append(f"skipped {path}: {reason_of(error)}")
            continue
        if path != root and (os.path.realpath(path) in unwanted or _is_charlstms(path, names)):
            notices.append(f"ignored {path}: written by charlstm")
            continue
        # As pathlib sorts paths: a folder's files come before what sorts after the folder.
        names.sort(key=os.path.normcase, reverse=True)
        waiting += (os.path.join(path, name) for name in names if not name.startswith("."))


def _is_charlstms(folder: str, names: list[str]) -> bool:
    """Whether a folder belongs to a run or a study."""
    for name, fields in _MADE_BY_CHARLSTM.items():
        try:
            path = Path(folder, name)
            if name in names and path.is_file() and fields <= read_json(path, "").keys():
                return True
        except (OSError, CharlstmError):
            continue
    return False


def verify(file: SourceFile, source: TextSource) -> tuple[str, str]:
    """Read a file of a folder to its end.

    Returns:
        Why it is no text, or the empty string; and the SHA-256 of its decompressed bytes.
    """
    decoder = codecs.getincrementaldecoder(source.encoding)("strict")
    digest, empty = hashlib.sha256(), True
    try:
        with sources.opened(file.path) as (_, stream):
            while chunk := stream.read(sources.CHUNK_BYTES):
                empty = False
                digest.update(chunk)
                if not source.as_bytes and "\0" in decoder.decode(chunk):
                    return "a binary file", ""
            if not source.as_bytes:
                decoder.decode(b"", final=True)
    except UnicodeError:
        return f"not valid {source.encoding}", ""
    except READ_ERRORS as error:
        return reason_of(error), ""
    return ("empty file", "") if empty else ("", digest.hexdigest())
