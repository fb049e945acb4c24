"""Delete checkpoints and runs: only files that charlstm wrote."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from charlstm.errors import CharlstmError
from charlstm.files import disk_bytes
from charlstm.runs.checkpoint import delete_checkpoint
from charlstm.runs.lock import LOCK_FILE, lock
from charlstm.runs.pointers import (
    POINTER_FILE,
    delete_part,
    named_as_checkpoints,
    read_pointers,
    unfinished,
)
from charlstm.runs.run import METRICS_FILE, RUN_FILE, TEACHER


def superfluous(run: Path) -> list[Path]:
    """Checkpoints that are neither the best nor the last, and leftovers of killed processes."""
    pointers = read_pointers(run)
    needed = {pointers.best, pointers.last}
    extra = [run / name for name in pointers.kept if name not in needed]
    found = (path for path in (*extra, *unfinished(run)) if path.exists())
    return sorted(path for path in found if not path.is_symlink())


def unrecorded(run: Path) -> list[Path]:
    """Folders named like checkpoints that the run does not record, such as copies."""
    own = {*read_pointers(run).kept, *(path.name for path in unfinished(run))}
    return [path for path in named_as_checkpoints(run) if path.name not in own]


def written_by_charlstm(run: Path) -> list[Path]:
    """All files and folders of a run, in the order in which they are deleted."""
    files = [run / name for name in (METRICS_FILE, POINTER_FILE, RUN_FILE)]
    folders = [*named_as_checkpoints(run), run / TEACHER]
    parts = [*unfinished(run), *(path for path in folders if path.is_dir())]
    return list(dict.fromkeys([*parts, *(path for path in files if path.is_file())]))


Identities = frozenset[tuple[Path, int, int, int]]


def identities(paths: Iterable[Path]) -> Identities:
    """What tells files and folders from others that take their names later."""
    found = ((path, path.lstat()) for path in paths if os.path.lexists(path))
    return frozenset((path, s.st_dev, s.st_ino, s.st_mtime_ns) for path, s in found)


def delete_superfluous(run: Path, confirmed: Identities | None = None) -> int:
    """Delete what is ``superfluous`` in a run; return the bytes freed.

    Raises:
        CharlstmError: another process is training the run, the run is read-only, or there is more
            to delete than was ``confirmed``.
    """
    with _locked(run):
        return _delete_all(superfluous(run), confirmed)


def delete_run(run: Path, confirmed: Identities | None = None) -> int:
    """Delete a run; return the bytes freed. A folder with other files stays.

    Raises:
        CharlstmError: as ``delete_superfluous``.
    """
    with _locked(run):
        freed = _delete_all(written_by_charlstm(run), confirmed)
    if not (run / RUN_FILE).exists():
        with suppress(OSError):  # others' files are in it, or its name may not be removed
            (run / LOCK_FILE).unlink(missing_ok=True)
            run.rmdir()
    return freed


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Lock a run for deletion; checks first that files can be removed from its folder."""
    with lock(run):
        if not os.access(run, os.W_OK | os.X_OK):
            raise CharlstmError(f"{run} cannot be changed: permission denied")
        yield


def _delete_all(paths: list[Path], confirmed: Identities | None) -> int:
    if confirmed is not None and not identities(paths) <= confirmed:
        raise CharlstmError("it has changed in the meantime", "prune it again")
    return sum(map(_delete, paths))


def _delete(path: Path) -> int:
    before = disk_bytes(path)
    if path.name == TEACHER:
        delete_checkpoint(path)
    else:
        delete_part(path)
    return before - disk_bytes(path)
