"""``metrics.jsonl``: a run's events as JSON lines, complete even after a kill."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from charlstm import files
from charlstm.errors import CharlstmError, reason_of
from charlstm.events import BudgetFixed, Evaluated, Event, GateSaturation, StepDone

_E = TypeVar("_E")
_ELSEWHERE = "move it out of the run's folder: the run goes on without it"
LARGEST = 1e39
"""A number above float32 was not measured by a run, and would overflow where it is drawn."""
STEP_SECONDS = 0.5
STEP_FRACTION = 1 / 2000
"""Time between two logged steps, as a fraction of the time so far: long runs keep small files."""


def event_to_dict(event: Event) -> dict[str, Any]:
    """An event as a JSON object; ``event`` is its name in snake case, and NaN becomes null."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    fields: dict[str, Any] = _plain(dataclasses.asdict(event))
    return {"event": name, **fields}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def event_from_dict(line: dict[str, Any]) -> BudgetFixed | StepDone | Evaluated | None:
    """The event of a line of ``metrics.jsonl``; None if it is of another kind or incomplete.

    A resumed run shows its history from these events.
    """
    try:
        match line.get("event"):
            case "budget_fixed":
                return _made(BudgetFixed, line)
            case "step_done":
                return _made(StepDone, line)
            case "evaluated":
                gates = tuple(_made(GateSaturation, gate) for gate in line["gates"])
                return _made(Evaluated, {**line, "gates": gates})
    except (KeyError, TypeError, ValueError):
        pass
    return None


def _made(kind: type[_E], values: dict[str, Any]) -> _E:
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    return kind(**{field.name: _checked(field.type, values[field.name]) for field in fields})


def _checked(kind: Any, value: Any) -> Any:
    if kind is float and type(value) in (int, float) and abs(value) <= LARGEST:
        return float(value)
    if kind in (int, int | None) and files.is_count(value):
        return value
    if kind is str and isinstance(value, str) and value.isascii() and value.isprintable():
        return value
    if kind is bool and type(value) is bool:
        return value
    if (kind == int | None and value is None) or isinstance(value, tuple):
        return value
    raise ValueError(f"{value!r:.50} is not a {kind}")


class MetricsLog:
    """Appends events to a run's file; not every step is logged."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            CharlstmError: it cannot be written, or is a link, which may lead to any file.
        """
        try:
            self._file = files.open_to_append(path)
        except OSError as error:
            raise CharlstmError(
                f"{path} cannot be written: {reason_of(error)}", _ELSEWHERE
            ) from None
        self._next_step_at = 0.0

    def write(self, event: Event) -> None:
        """Log one event. If the disk is full, the line is lost; the run continues."""
        if isinstance(event, StepDone):
            if event.seconds < self._next_step_at:
                return
            self._next_step_at = event.seconds * (1 + STEP_FRACTION) + STEP_SECONDS
        line = (json.dumps(event_to_dict(event), allow_nan=False) + "\n").encode("ascii")
        begun = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                self._file.truncate(begun)
        except OSError:
            pass

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_metrics(path: Path, step: int, rate_scale: float = 1.0) -> None:
    """Drop what was logged after ``step``, and an incomplete last line.

    A resumed run repeats those steps. A run that was rolled back has taken some steps twice, the
    second time at the lower of two ``rate_scale``: lines before the last rollback to the given one
    or a higher one are history and stay; lines after the next rollback are dropped.

    Raises:
        CharlstmError: the file exists and cannot be read; it is left as it is.
    """
    try:
        lines = _read(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if not path.is_symlink():
            raise CharlstmError(f"{path} cannot be read: {reason_of(error)}", _ELSEWHERE) from None
        lines = []  # the link is replaced, and what it leads to stays
    rollbacks = [i for i, line in enumerate(lines) if line.get("event") == "rolled_back"]
    end = next((i for i in rollbacks if _scale(lines[i]) < rate_scale), len(lines))
    begin = max((i + 1 for i in rollbacks if i < end), default=0)
    latest = (line for line in lines[begin:end] if _is_until(line.get("step", 0), step))
    kept = [*lines[:begin], *latest]
    files.replace_file(path, "".join(map(_encoded, kept)).encode("ascii"))


def _encoded(line: dict[str, Any]) -> str:
    try:
        return json.dumps(line, allow_nan=False) + "\n"
    except (ValueError, RecursionError):
        return ""


def _scale(line: dict[str, Any]) -> float:
    value = line.get("rate_scale")
    return value if isinstance(value, float) else 0.0


def _is_until(value: object, step: int) -> bool:
    return isinstance(value, int) and value <= step


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The events of a metrics file; lines that are not JSON objects are skipped.

    A file that cannot be read has none.
    """
    try:
        return _read(path)
    except OSError:
        return []


def _read(path: Path) -> list[dict[str, Any]]:
    size = files.file_size(path)  # refuses a pipe, which would be waited for
    if size > files.MAX_JSON_BYTES:
        raise OSError(f"it has {size:,} bytes, {files.MAX_JSON_BYTES:,} at most")
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines
