"""Runs next to each other: their validation curves, what sets them apart, how they ended."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlstm.analysis.document import (
    Column,
    Document,
    Heading,
    Lines,
    Plot,
    Plots,
    Series,
    Table,
    colored,
    number,
    span,
)
from charlstm.errors import CharlstmError, check_choice, require
from charlstm.runs.history import History, read_history
from charlstm.runs.metrics import read_lines
from charlstm.runs.run import METRICS_FILE, RunFile, read_run_file

AXES = ("steps", "characters", "time")
NATS_IN_BIT = 0.6931471805599453
NOTHING = "–"


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs."""

    name: str
    path: Path
    file: RunFile
    history: History
    reason: str | None
    """Why it ended, or None while it goes on or was killed."""

    def x(self, axis: str) -> list[float]:
        """Where along an axis the validations are."""
        history, train = self.history, self.file.train
        if axis == "time":
            return [float(x) for x in history.val_seconds]
        scale = train.batch * train.bptt if axis == "characters" else 1
        return [float(x) * scale for x in history.val_step]

    def settings(self) -> dict[str, Any]:
        """All that was chosen for the run."""
        file = self.file
        model = file.model.to_dict()
        model.pop("end", None)  # of a list: the separator says it
        return {
            "text": file.source.name,
            "characters": file.characters,
            "separator": file.source.separator,
            **model,
            **file.train.to_dict(),
            "init_from": file.init_from,
            "teacher": file.teacher,
        }

    def results(self) -> dict[str, Any]:
        """What came of it; losses are nats per character."""
        history = self.history
        # An untrained model is no result.
        counts = history.val_step >= (self.file.init_from is None)
        losses, steps = history.val_loss[counts], history.val_step[counts]
        best = int(losses.argmin()) if len(losses) else None
        return {
            "parameters": self.file.model.parameters,
            "steps": int(max([0, *history.step.tolist(), *history.val_step.tolist()])),
            "seconds": max([0.0, *history.seconds.tolist(), *history.val_seconds.tolist()]),
            "best_loss": None if best is None else float(losses[best]),
            "best_step": None if best is None else int(steps[best]),
            "ended": self.reason,
        }


@dataclass(frozen=True)
class ComparedRuns:
    """The runs, in the order in which they were named."""

    runs: tuple[ComparedRun, ...]
    axis: str

    def differing(self) -> dict[str, list[Any]]:
        """The settings that are not the same for all runs, with a value for each run."""
        settings = [run.settings() for run in self.runs]
        columns = {name: [one[name] for one in settings] for name in settings[0]}
        return {
            name: values
            for name, values in columns.items()
            if any(value != values[0] for value in values)
        }

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``charlstm runs compare --json``."""
        return {
            "runs": [
                {
                    "name": run.name,
                    "path": str(run.path),
                    "settings": run.settings(),
                    "results": run.results(),
                    "validations": [
                        {"step": int(step), "characters": x, "seconds": seconds, "val_loss": loss}
                        for step, x, seconds, loss in zip(
                            run.history.val_step,
                            run.x("characters"),
                            run.x("time"),
                            run.history.val_loss.tolist(),
                            strict=True,
                        )
                    ],
                }
                for run in self.runs
            ],
            "differing": sorted(self.differing()),
        }

    def to_csv(self) -> str:
        """A line for each validation of each run."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["run", "step", "characters", "seconds", "val_loss"])
        for run in self.to_dict()["runs"]:
            for one in run["validations"]:
                writer.writerow([run["name"], *one.values()])
        return text.getvalue()

    def document(self) -> Document:
        """The curves in one chart, the results, and the settings that differ."""
        names = tuple(run.name for run in self.runs)
        blocks = (
            Plots((self._plot(),)),
            Heading("Results"),
            _table(names, self._result_rows()),
            Heading("Settings that differ"),
            _table(
                names,
                {name: [_shown(v) for v in values] for name, values in self.differing().items()},
            ),
            Lines(tuple(self._notes()), quiet=True),
        )
        return Document(f"{len(self.runs)} runs compared", blocks)

    def _plot(self) -> Plot:
        series = []
        for n, run in enumerate(self.runs):
            # The untrained model's loss would leave no room for the others.
            points = [
                (x, y)
                for x, y, step in zip(
                    run.x(self.axis), run.history.val_loss, run.history.val_step, strict=True
                )
                if step
            ]
            x, y = [x for x, _ in points], [float(y) for _, y in points]
            series.append(Series(run.name, x, y, colored(n)))
        return Plot(
            "validation loss",
            tuple(series),
            span([x for one in series for x in one.x], floor=0.0),
            span([y for one in series for y in one.y]),
            x_label={"time": "seconds of training"}.get(self.axis, self.axis),
            y_label="nats per character",
        )

    def _result_rows(self) -> dict[str, list[str]]:
        results = [run.results() for run in self.runs]
        losses = [one["best_loss"] for one in results]
        known = [loss for loss in losses if loss is not None]

        def loss_rows(form: Any) -> list[str]:
            return [NOTHING if loss is None else form(loss) for loss in losses]

        return {
            "best validation, nats": loss_rows(lambda loss: number(loss, ".4f")),
            "bits per character": loss_rows(lambda loss: number(loss / NATS_IN_BIT, ".3f")),
            "above the best, nats": loss_rows(lambda loss: number(loss - min(known), ".4f")),
            "at step": [_shown(one["best_step"]) for one in results],
            "steps": [_shown(one["steps"]) for one in results],
            "seconds": [f"{one['seconds']:,.0f}" for one in results],
            "parameters": [_shown(one["parameters"]) for one in results],
            "ended": [_shown(one["ended"]) for one in results],
        }

    def _notes(self) -> list[str]:
        first = self.runs[0].file  # a list and a text of the same characters hold out others
        if any(
            (run.file.digest, run.file.source.separator, run.file.train.val_fraction)
            != (first.digest, first.source.separator, first.train.val_fraction)
            for run in self.runs
        ):
            return ["The runs were validated on different texts: their losses cannot be compared."]
        return []


def _table(names: tuple[str, ...], rows: dict[str, list[str]]) -> Table:
    columns = (Column(""), *(Column(name, right=True) for name in names))
    return Table(columns, tuple((name.replace("_", " "), *cells) for name, cells in rows.items()))


def _shown(value: Any) -> str:
    if value is None:
        return NOTHING
    return f"{value:,}" if type(value) is int else str(value)


def compare_runs(paths: list[Path], axis: str = "steps") -> ComparedRuns:
    """Read the runs in these folders.

    Raises:
        UsageError: there are fewer than two, or one twice, or no such axis.
        CharlstmError: a run cannot be read, or none of them was validated.
    """
    check_choice("`by`", axis, AXES)
    require(len(paths) >= 2, "a comparison needs two runs at least", "name them")
    require(
        len({path.resolve() for path in paths}) == len(paths),
        "a run is named twice",
        "name each run once",
    )
    unique = len({path.name for path in paths}) == len(paths)
    runs = [
        ComparedRun(
            path.name if unique else str(path),
            path,
            read_run_file(path),
            read_history(path),
            _reason(read_lines(path / METRICS_FILE)),
        )
        for path in paths
    ]
    if not any(run.results()["best_loss"] is not None for run in runs):
        raise CharlstmError("no validation of these runs is recorded", "train them for longer")
    return ComparedRuns(tuple(runs), axis)


def _reason(lines: list[dict[str, Any]]) -> str | None:
    """Why the latest session of a run ended, or None."""
    sessions = ("run_started", "run_finished")
    ends = [line for line in lines if line.get("event") in sessions]
    reason = ends[-1].get("reason") if ends else None
    return reason if isinstance(reason, str) else None
