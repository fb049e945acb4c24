"""The lock of a run: one process at a time trains it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from charlstm import files
from charlstm.errors import CharlstmError, UsageError, reason_of

LOCK_FILE = "lock"

_held: dict[str, files.Lock] = {}
"""The locks held by this process, by the real path of their run."""


@contextmanager
def lock(run: Path) -> Iterator[str]:
    """Lock a run for training. The system releases the lock when the process ends.

    Yields an empty string, or a warning on a file system without locks.

    Raises:
        UsageError: another process, or this one, is training the run.
        CharlstmError: the lock file cannot be opened.
    """
    key = os.path.realpath(run)
    if key in _held:
        raise UsageError(f"this process is already training {run}", "stop that first")
    try:
        held = _held[key] = files.Lock(run.absolute() / LOCK_FILE)
    except files.Locked:
        raise UsageError(
            f"another process is training {run}", "wait for it to finish, or start a new run"
        ) from None
    except OSError as error:
        raise CharlstmError(
            f"{run / LOCK_FILE} cannot be opened: {reason_of(error)}",
            "fix that, or use a copy of the run's folder without that file",
        ) from None
    try:
        yield (
            f"the file system of {run} does not support locks ({held.problem}); make sure that no "
            "other process trains this run"
            if held.problem
            else ""
        )
    finally:
        del _held[key]
        held.release()


def check_lock(run: Path) -> None:
    """Check before a change that a run which this process has locked has not lost its lock.

    The path decides, not where it leads: a link in it may lead to another run by now.

    A folder that is gone, as when a disk is taken away, has nothing that could be harmed.

    Raises:
        CharlstmError: the run's lock was deleted or replaced.
        OSError: the folder cannot be looked at.
    """
    path = run.absolute() / LOCK_FILE
    if run.is_dir() and any(held.path == path and held.is_lost() for held in _held.values()):
        raise CharlstmError(
            f"{path} was deleted or replaced: another process may be training this run",
            "make sure that none is, then resume the run",
        )
