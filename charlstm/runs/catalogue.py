"""Find runs and checkpoints by name, summarise runs, and open their training texts."""

import difflib
import math
import os
import shlex
import stat
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.errors import CharlstmError
from charlstm.files import disk_bytes, is_count
from charlstm.runs import checkpoint
from charlstm.runs.checkpoint import read_training
from charlstm.runs.pointers import POINTER_FILE, best_validation, last_written, read_pointers
from charlstm.runs.run import ROOT, RUN_FILE, RunFile, read_run_file, safe_name

if TYPE_CHECKING:
    from charlstm.text.corpus import Corpus


def runs_folder() -> Path:
    """``checkpoints/``, or the folder of that name that contains the working directory.

    So charlstm also works from within the folder of a run or a checkpoint.
    """
    if not ROOT.is_dir():
        with suppress(OSError):  # the working directory was deleted
            here = Path.cwd()
            for up, folder in zip(("", "..", "../.."), (here, *here.parents), strict=False):
                if folder.name == ROOT.name and _runs_in(folder):
                    return Path(up)
    return ROOT


def list_runs(root: Path | None = None) -> list[Path]:
    """All runs in ``root``, by default ``runs_folder``; the most recently written first."""
    return sorted(_runs_in(root or runs_folder()), key=last_written, reverse=True)


def _runs_in(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [p for p in root.iterdir() if _has_file(p, RUN_FILE) and not p.name.startswith(".")]


def find_run(
    name: str | None, root: Path | None = None, *, inside: bool = False, exact: bool = False
) -> Path:
    """The run ``name``: a name in ``root``, a folder, or for None the newest run.

    A name is also found in its original form: märchen finds the run marchen. A name with a path
    separator, or a dot, is tried as a path first. ``root`` defaults to ``runs_folder``; then None
    means the run whose folder is the working directory, if there is one.

    With ``inside``, the folder of a checkpoint, or a file in it, also means its run. With
    ``exact``, the original form is not enough: book* might mean several runs, and finds book.

    Raises:
        CharlstmError: there is no such run; the hint suggests others.
    """
    if name is None and root is None:
        name = _here()
        inside = inside or name is not None
    root = root or runs_folder()
    if name is None:
        runs = list_runs(root)
        if not runs:
            raise CharlstmError(no_runs(root), "train one first:", "charlstm train YOUR.txt")
        return runs[0]
    for path in _candidates(name, root, exact=exact):
        found = _folder_of(path) if inside else path
        if _may_be_run(found):
            return found
        if inside and _has_file(found, checkpoint.MANIFEST):
            run = _parent(found)
            if _has_file(run, RUN_FILE):
                return run
            raise CharlstmError(
                f"{found} is a checkpoint without its run, which knows its text and settings",
                f"start a new run from its weights: `init_from` {shlex.quote(str(found))}",
            )
    for run in map(_parent, _candidates(name, root)):
        if Path(name).name.startswith("step-") and (kept := read_pointers(run).kept):
            raise CharlstmError(f"there is no checkpoint {name!r}", f"{run} has {', '.join(kept)}")
    known = [run.name for run in list_runs(root)]
    if close := difflib.get_close_matches(name, known, 1):
        remedy = f"did you mean {close[0]}?"
    elif known:
        more = f" and {len(known) - 5} more" if len(known) > 5 else ""
        remedy = f"runs under {root}/: {', '.join(known[:5])}{more}"
    else:
        remedy = no_runs(root)
    raise CharlstmError(f"there is no run {name!r}", remedy)


def no_runs(root: Path) -> str:
    """Why there are no runs in ``root``, and where the nearest ones are."""
    if root.is_symlink() and not root.exists():
        return f"{root} is a link to {os.readlink(root)}, which does not exist"
    with suppress(OSError):  # a folder above may be closed to this user
        for folder in Path.cwd().parents:
            if _runs_in(folder / ROOT):
                return f"there are no runs under {root}/, but under {folder / ROOT}/"
    return f"there are no runs under {root}/ yet"


def _here() -> str | None:
    """``.`` if the working directory is the folder of a run or a checkpoint."""
    return os.curdir if not ROOT.is_dir() and is_part_of_run(Path()) else None


def is_run(name: str) -> bool:
    """Whether ``name`` is a run: a path, or a name in ``runs_folder``."""
    return any(_reads_as_run(path) for path in (runs_folder() / name, Path(name)))


def is_part_of_run(folder: Path) -> bool:
    """Whether a folder is a run or one of its checkpoints."""
    in_run = _has_file(folder, checkpoint.MANIFEST) and _reads_as_run(_parent(folder))
    return in_run or _reads_as_run(folder)


def _reads_as_run(path: Path) -> bool:
    try:
        return _has_file(path, RUN_FILE) and bool(read_run_file(path))
    except CharlstmError:
        return False


def _may_be_run(path: Path) -> bool:
    """Whether this is a run, even if one of its files is lost: reading it then reports that."""
    return _has_file(path, RUN_FILE) or _has_file(path, POINTER_FILE)


def _candidates(name: str, root: Path, *, exact: bool = False) -> tuple[Path, ...]:
    """The paths where the run or checkpoint ``name`` may be, in order of preference."""
    below = (root / name,) if exact else (root / name, root / _as_run(name))
    is_path = name in (os.curdir, os.pardir) or os.sep in name or (os.altsep or os.sep) in name
    path = Path(name)
    if path.name in ("", os.pardir):  # a run has the name of its folder
        path = _absolute(path)
    return (path, *below) if is_path else (*below, path)


def _folder_of(path: Path) -> Path:
    """The folder of a file, as a file of a run or a checkpoint means the run or checkpoint."""
    return _parent(path) if _has_file(path.parent, path.name) else path


def _parent(path: Path) -> Path:
    """The parent folder of ``path``, as a path that ends with a name."""
    return path.parent if path.parent.name not in ("", os.pardir) else _absolute(path).parent


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _as_run(name: str) -> str:
    """The name of a run made for ``name``, unless nothing of ``name`` would be left."""
    safe = safe_name(name)
    return name if safe == safe_name("") else safe


def _has_file(folder: Path, name: str) -> bool:
    """Whether the file exists; assumed if the folder is not accessible."""
    try:
        return stat.S_ISREG((folder / name).stat().st_mode)
    except PermissionError:  # reading the file will report this
        return True
    except (OSError, ValueError):  # a name too long for a file, or with a NUL in it
        return False


def find_checkpoint(name: str | None, root: Path | None = None) -> Path:
    """The checkpoint ``name``: the folder of a checkpoint, or the best checkpoint of a run.

    A file in such a folder means the folder. None, and no ``root``, are as in ``find_run``.

    Raises:
        CharlstmError: there is no such checkpoint; the hint suggests others.
    """
    if name is None and root is None:
        name = _here()
    root = root or runs_folder()
    if name is not None:
        for path in map(_folder_of, _candidates(name, root)):
            if _may_be_run(path):
                break
            if _has_file(path, checkpoint.MANIFEST):
                return path
    if name is None:
        for run in list_runs(root):
            if best := read_pointers(run).best:
                return run / best
    run = find_run(name, root, inside=True)
    pointers = read_pointers(run)
    if pointers.best is None:
        read_run_file(run)  # raises if the run itself is damaged
        raise CharlstmError(
            f"the run {run} has no checkpoint yet",
            "wait for the first one, or resume the run",
        )
    return run / pointers.best


def training_corpus(run: RunFile, *, read_again: bool = True) -> "Corpus":
    """The text that ``run`` was trained on.

    It comes from the cache, by the run's digest. If it is not there, and ``read_again``, it is read
    from its files again, if they have not changed.

    Raises:
        TextGone: the text is gone, or has changed.
    """
    # Imported here: a run is found by name without its text.
    from charlstm.text.corpus import TextGone, find_encoded, reopen_corpus

    corpus = find_encoded(run.digest, run.source)
    if corpus is None and read_again:
        corpus = reopen_corpus(run.source, run.digest)
    if corpus is None or corpus.digest != run.digest:
        gone = "is no longer in the cache" if corpus is None else "has changed since"
        raise TextGone(f"the training text {gone}")
    return corpus


def generations(run: Path) -> list[Path]:
    """The runs of a run's chain that are in its folder, the first generation first.

    A run in no chain is alone. Of a run and its copies, the one written last counts.

    Raises:
        CharlstmError: the run cannot be read.
    """
    own = read_run_file(run).generation
    if own is None:
        return [run]
    found: dict[int, Path] = {}
    for other in reversed(list_runs(run.parent)):
        with suppress(CharlstmError):
            generation = read_run_file(other).generation
            if generation is not None and generation.chain == own.chain:
                found[generation.number] = other
    found[own.number] = run
    return [found[number] for number in sorted(found)]


def better_generation(run: Path) -> "RunSummary | None":
    """The generation with the lowest validation loss of a run's chain, if it is not the run."""
    try:
        chain = generations(run)
    except CharlstmError:  # a checkpoint may be without its run
        return None
    if len(chain) == 1:
        return None
    best = min(map(summarise, chain), key=_loss)
    return best if _loss(best) < _loss(summarise(run)) else None


def _loss(summary: "RunSummary") -> float:
    return math.inf if summary.best_loss is None else summary.best_loss


@dataclass(frozen=True)
class RunSummary:
    """A row of the table of runs; ``problem`` says why the rest could not be read."""

    name: str
    path: str
    model: str = ""
    parameters: int = 0
    corpus: str = ""
    characters: int = 0
    step: int = 0
    total_steps: int | None = None
    best_loss: float | None = None
    """Validation loss in nats per character: stateful, weight average, measured during training;
    None if only the untrained model was validated."""
    best_step: int | None = None
    generation: int | None = None
    """Number of the generation; None if the run is in no chain."""
    generations: int | None = None
    """Number of generations in its chain."""
    teacher: str | None = None
    """Name of the run that it distils from."""
    age_seconds: float = 0.0
    """Seconds since the last checkpoint was saved, or since the run was created."""
    disk_bytes: int = 0
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``charlstm runs --json``."""
        return asdict(self)


def summarise(run: Path) -> RunSummary:
    """Summarise a run from its small files; one that cannot be read gets a ``problem``."""
    disk = disk_bytes(run)
    try:
        content = read_run_file(run)
    except CharlstmError as error:
        return RunSummary(run.name, str(run), disk_bytes=disk, problem=error.message)
    last = read_pointers(run).last
    training = {} if last is None else read_training(run / last)
    step = training.get("step")
    best_step, best_loss = best_validation(content, training)
    return RunSummary(
        name=run.name,
        path=str(run),
        model=content.model.describe(),
        parameters=content.model.parameters,
        corpus=content.source.name,
        characters=content.characters,
        step=step if is_count(step) else 0,
        total_steps=content.budget.total_steps,
        best_loss=best_loss,
        best_step=best_step,
        generation=None if content.generation is None else content.generation.number,
        generations=None if content.generation is None else content.generation.count,
        teacher=None if content.teacher is None else Path(content.teacher).parent.name,
        age_seconds=max(0.0, time.time() - last_written(run)),  # the clock may be set back
        disk_bytes=disk,
    )
