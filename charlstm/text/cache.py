"""The cache of encoded texts on disk: where it is, and what it has."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from charlstm import files
from charlstm.errors import CharlstmError, reason_of

CACHE_VARIABLE = "CHARLSTM_CACHE"
META, IDS = "corpus.json", "ids.bin"

_ENTRY = re.compile(r"(?:stdin-)?[0-9a-f]{24}")


def cache_folder() -> Path:
    """The folder of encoded texts: $CHARLSTM_CACHE, or charlstm in the user's cache.

    Without a home directory it is a private folder for temporary files.

    Raises:
        CharlstmError: that folder cannot be made or belongs to another user.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "charlstm"
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "charlstm" / "cache"
    try:
        home = Path.home()
    except RuntimeError:
        return _homeless_folder()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "charlstm"
    return home / ".cache" / "charlstm"


def _homeless_folder() -> Path:
    """A private folder in the shared folder for temporary files."""
    user = os.getuid() if hasattr(os, "getuid") else None
    folder = Path(tempfile.gettempdir()) / ("charlstm" if user is None else f"charlstm-{user}")
    remedy = f"set {CACHE_VARIABLE} to a folder that you own"
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise CharlstmError(
            f"no home directory, and {folder} cannot be created: {reason_of(error)}", remedy
        ) from None
    if folder.is_symlink() or not folder.is_dir() or user not in (None, status.st_uid):
        raise CharlstmError(f"no home directory, and {folder} belongs to another user", remedy)
    return folder


def corpora_folder() -> Path:
    """The folder with a folder for each encoded text."""
    return cache_folder() / "corpora"


def cached_corpora() -> list[Path]:
    """The folders of all encoded texts in the cache."""
    found = (path.parent for path in corpora_folder().glob(f"*/{META}"))
    return sorted(folder for folder in found if _ENTRY.fullmatch(folder.name))


def cached_with(field: str, value: str) -> Iterator[Path]:
    """The folders of the encoded texts whose ``META`` has this value."""
    for folder in cached_corpora():
        with suppress(CharlstmError):
            if files.read_json(folder / META, "").get(field) == value:
                yield folder


def unfinished_corpora() -> list[Path]:
    """Leftovers of processes that were killed while encoding a text."""
    return files.abandoned(corpora_folder())


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
