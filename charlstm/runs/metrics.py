"""``metrics.jsonl``: a run's events as JSON lines, complete even after a kill."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from charlstm import files
from charlstm.events import BudgetFixed, Evaluated, Event, GateSaturation, StepDone

_E = TypeVar("_E")
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
    if kind is float and type(value) in (int, float) and math.isfinite(value):
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
        self._file = path.open("ab", buffering=0)
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


def cut_metrics(path: Path, step: int) -> None:
    """Drop what was logged after ``step``, and an incomplete last line.

    A resumed run repeats those steps.
    """
    kept = [line for line in read_lines(path) if _is_until(line.get("step", 0), step)]
    files.replace_file(path, "".join(map(_encoded, kept)).encode("ascii"))


def _encoded(line: dict[str, Any]) -> str:
    try:
        return json.dumps(line, allow_nan=False) + "\n"
    except (ValueError, RecursionError):
        return ""


def _is_until(value: object, step: int) -> bool:
    return isinstance(value, int) and value <= step


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The events of a metrics file; lines that are not JSON objects are skipped."""
    try:
        files.file_size(path)  # rejects a pipe, which would block
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines
