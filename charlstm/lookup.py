"""Find the run or the checkpoint that a name means."""

import difflib
from pathlib import Path

from charlstm import checkpoint
from charlstm.errors import CharlstmError
from charlstm.runs import POINTER_FILE, ROOT, RUN_FILE, read_pointers, safe_name


def list_runs(root: Path = ROOT) -> list[Path]:
    """All runs below ``root``, the most recently written first."""
    if not root.is_dir():
        return []
    runs = [p for p in root.iterdir() if (p / RUN_FILE).is_file() and not p.name.startswith(".")]
    return sorted(runs, key=last_written, reverse=True)


def last_written(run: Path) -> float:
    """When the run last saved a checkpoint, or was made; seconds since the epoch."""
    for name in (POINTER_FILE, RUN_FILE):
        try:
            return (run / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def find_run(name: str | None, root: Path = ROOT, *, inside: bool = False) -> Path:
    """The run called ``name``: a folder, a name below ``root``, or the newest run for None.

    A name is found as it was given, too: that of märchen.txt is marchen.

    With ``inside``, a checkpoint's folder means the run that it is in.
    """
    if name is None:
        runs = list_runs(root)
        if not runs:
            raise CharlstmError(
                f"there is no run under {root}/ yet", "make one: charlstm train YOUR.txt"
            )
        return runs[0]
    for path in (Path(name), root / name, root / _as_run(name)):
        if _has_file(path, RUN_FILE) or _has_file(path, POINTER_FILE):
            return path
        if inside and _has_file(path, checkpoint.MANIFEST) and _has_file(path.parent, RUN_FILE):
            return path.parent
    known = [run.name for run in list_runs(root)]
    if close := difflib.get_close_matches(name, known, 1):
        remedy = f"did you mean {close[0]}?"
    elif known:
        more = f" and {len(known) - 5} more" if len(known) > 5 else ""
        remedy = f"runs under {root}/: {', '.join(known[:5])}{more}"
    else:
        remedy = "see charlstm runs"
    raise CharlstmError(f"there is no run {name!r}", remedy)


def is_run(name: str, root: Path = ROOT) -> bool:
    """Whether a run's folder is at ``name``, or below ``root`` by that name."""
    return any(_has_file(path, RUN_FILE) for path in (Path(name), root / name))


def _as_run(name: str) -> str:
    """What a run made for ``name`` is called, where that still says something."""
    safe = safe_name(name)
    return name if safe == safe_name("") else safe


def _has_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):  # a name too long for a file, or with a NUL in it
        return False


def find_checkpoint(name: str | None, root: Path = ROOT) -> Path:
    """The checkpoint that ``name`` means: a checkpoint's folder, or the best one of a run.

    Raises:
        CharlstmError: there is none; the message says what there is.
    """
    if name is not None:
        for path in (Path(name), root / name):
            if _has_file(path, checkpoint.MANIFEST):
                return path
    if name is None:
        for run in list_runs(root):
            if best := read_pointers(run).best:
                return run / best
    run = find_run(name, root)
    pointers = read_pointers(run)
    if pointers.best is None:
        raise CharlstmError(
            f"the run {run} has no checkpoint yet",
            f"wait for its first, or go on with it: charlstm train --resume -c {run}",
        )
    return run / pointers.best
