"""The folder of what charlstm can make again: encoded texts, the compiled kernel."""

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from charlstm.errors import CharlstmError, reason_of

CACHE_VARIABLE = "CHARLSTM_CACHE"


def cache_folder() -> Path:
    """The cache: $CHARLSTM_CACHE, or charlstm in the user's folder for caches.

    Without a home directory it is a private folder for temporary files.

    Raises:
        CharlstmError: that folder cannot be made or belongs to another user.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(os.path.expanduser(chosen))
    # By its specification, a relative path is ignored.
    if os.path.isabs(base := os.environ.get("XDG_CACHE_HOME", "")):
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


def make_in_cache(name: str, mode: int = 0o777) -> Path:
    """The folder ``name`` in the cache, made if it is not there.

    A new cache is private: it may get texts that are their reader's alone.

    Raises:
        OSError: it cannot be made.
        CharlstmError: as ``cache_folder``.
    """
    root = cache_folder()
    with suppress(FileExistsError):  # where that is no folder, the next line says so
        root.mkdir(mode=0o700, parents=True)
    folder = root / name
    folder.mkdir(mode, exist_ok=True)
    return folder


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
