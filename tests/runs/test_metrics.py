"""The log of a run: JSON lines that stay few and survive a kill."""

import io
import json
import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from charlstm import files
from charlstm.errors import CharlstmError
from charlstm.events import (
    BudgetFixed,
    Evaluated,
    Event,
    GateSaturation,
    RolledBack,
    RunFinished,
    RunStarted,
    Saved,
    SaveFailed,
    StepDone,
)
from charlstm.runs.metrics import (
    MetricsLog,
    cut_metrics,
    event_from_dict,
    event_to_dict,
    read_lines,
)

GATES = (GateSaturation(layer=0, gate="forget", left=0.1, right=0.6, mean=0.7),)


def step_done(step: int, seconds: float, loss: float = 2.0) -> StepDone:
    return StepDone(step, 100, 0.5, loss, 0.01, 1.5, 1000.0, seconds)


def evaluated(step: int, val_loss: float = 2.1, gates: tuple[GateSaturation, ...] = GATES) -> Event:
    return Evaluated(step, 0.5, val_loss, 2.1, step, True, 3.0, gates)


EVENTS: list[Event] = [
    RunStarted("tales", "lstm 1×8", 99, 900, 100, 20, 4, 16, "float32", "cpu", 1, 0, None),
    BudgetFixed(100, 2.5, 9.0),
    step_done(10, 1.0),
    evaluated(10),
    Saved(10, Path("checkpoints/tälés/step-00000010"), True),
    SaveFailed(20, "no space left on device"),
    RolledBack(20, 10, 0.5, "the loss is not finite"),
    RunFinished("budget", 100, 2.5, 9.0, None, 10, Path("checkpoints/tales")),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def log(path: Path) -> Iterator[MetricsLog]:
    log = MetricsLog(path)
    yield log
    log.close()


def strict(line: str) -> dict[str, object]:
    """JSON as the standard has it: NaN and Infinity are refused."""

    def refuse(name: str) -> float:
        raise ValueError(name)

    value = json.loads(line, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def test_every_event_is_one_line_of_json(path: Path, log: MetricsLog) -> None:
    for event in EVENTS:
        log.write(event)
    lines = [strict(line) for line in path.read_text("ascii").splitlines()]
    assert [line["event"] for line in lines] == [
        "run_started",
        "budget_fixed",
        "step_done",
        "evaluated",
        "saved",
        "save_failed",
        "rolled_back",
        "run_finished",
    ]
    assert lines[4]["path"] == "checkpoints/tälés/step-00000010"
    assert lines[3]["gates"] == [
        {"layer": 0, "gate": "forget", "left": 0.1, "right": 0.6, "mean": 0.7}
    ]
    assert lines == read_lines(path)


def test_a_line_is_there_as_soon_as_it_is_written(path: Path, log: MetricsLog) -> None:
    log.write(evaluated(1))
    assert len(read_lines(path)) == 1


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_becomes_null(
    path: Path, log: MetricsLog, number: float
) -> None:
    log.write(step_done(1, 1.0, loss=number))
    assert strict(path.read_text())["loss"] is None
    assert event_to_dict(evaluated(1, val_loss=number))["val_loss"] is None


@pytest.mark.parametrize("number", [1e308, -1e40, 10**400, math.nan, math.inf])
def test_an_event_with_a_number_that_was_never_measured_is_none(number: float) -> None:
    line = event_to_dict(step_done(1, 1.0))
    assert event_from_dict(line) == step_done(1, 1.0)
    assert event_from_dict({**line, "loss": number}) is None


def test_a_number_within_a_gate_that_is_not_finite_becomes_null(
    path: Path, log: MetricsLog
) -> None:
    log.write(evaluated(1, gates=(GateSaturation(0, "forget", 0.0, 0.0, math.nan),)))
    assert strict(path.read_text())["gates"] == [
        {"layer": 0, "gate": "forget", "left": 0.0, "right": 0.0, "mean": None}
    ]


def test_a_long_run_logs_ever_fewer_steps(path: Path, log: MetricsLog) -> None:
    interval, hours = 0.2, 4
    for step in range(int(hours * 3600 / interval)):
        log.write(step_done(step, step * interval))
    lines = read_lines(path)
    # n(t) grows as 2000 ln(1 + t / 1000): each line waits t / 2000 + 0.5 seconds.
    bound = 2000 * math.log(1 + hours * 3.6)
    assert 0.7 * bound < len(lines) < bound + 2
    seconds = [line["seconds"] for line in lines]
    gaps = [b - a for a, b in pairwise(seconds)]
    assert gaps[0] < 1
    assert gaps[-1] > hours * 3600 / 2000


def test_only_steps_are_thinned_out(path: Path, log: MetricsLog) -> None:
    for step in range(20):
        log.write(step_done(step, 1.0))
        log.write(evaluated(step))
    assert [line["event"] for line in read_lines(path)] == ["step_done"] + ["evaluated"] * 20


def test_a_second_session_adds_to_the_file(path: Path) -> None:
    for step in (1, 2):
        log = MetricsLog(path)
        log.write(evaluated(step))
        log.close()
    assert [line["step"] for line in read_lines(path)] == [1, 2]


def test_a_resumed_run_drops_what_it_will_do_again(path: Path, log: MetricsLog) -> None:
    for event in (EVENTS[0], EVENTS[1], *map(evaluated, (10, 20, 30))):
        log.write(event)
    before = path.read_text().splitlines()
    cut_metrics(path, 20)
    assert [strict(line) for line in path.read_text().splitlines()] == [
        strict(line) for line in before[:4]
    ]


@pytest.mark.parametrize(
    ("step", "rate_scale", "kept"),
    [
        (40, 1.0, [10, 20, 30, 40]),  # saved before it diverged
        (30, 1.0, [10, 20, 30]),
        (40, 0.5, [10, 20, 30, 40, 45, 45, 40]),  # saved after it was rolled back to 30
        (50, 0.5, [10, 20, 30, 40, 45, 45, 40, 50]),
        (40, 0.25, [10, 20, 30, 40, 45, 45, 40, 50, 55, 40]),
    ],
)
def test_a_resumed_run_keeps_what_came_before_its_rollback(
    path: Path, log: MetricsLog, step: int, rate_scale: float, kept: list[int]
) -> None:
    for done in (10, 20, 30, 40, 45):
        log.write(evaluated(done))
    log.write(RolledBack(45, 30, 0.5, "the loss is not finite"))
    for done in (40, 50):
        log.write(evaluated(done))
    log.write(RolledBack(55, 30, 0.25, "the loss is not finite"))
    for done in (40, 50):
        log.write(evaluated(done))
    cut_metrics(path, step, rate_scale)
    assert [line["step"] for line in read_lines(path)] == kept


@pytest.mark.parametrize("rest", ['{"event": "step_d', "{", "null", "3", '"text"', "\udcff"])
def test_a_line_that_a_kill_left_unfinished_is_dropped(path: Path, rest: str) -> None:
    whole = '{"event": "evaluated", "step": 10}\n'
    path.write_text(whole + rest, encoding="utf-8", errors="surrogateescape")
    assert read_lines(path) == [{"event": "evaluated", "step": 10}]
    cut_metrics(path, 10)
    assert path.read_text() == whole
    log = MetricsLog(path)
    log.write(evaluated(20))
    log.close()
    assert [line["step"] for line in read_lines(path)] == [10, 20]


@pytest.mark.parametrize("line", ['{"step": null}', '{"step": "x"}', "[" * 10**6])
def test_a_line_that_makes_no_sense_does_not_stop_a_resume(path: Path, line: str) -> None:
    path.write_text(line + '\n{"step": 10}\n{"step": 30}\n')
    cut_metrics(path, 20)
    assert {"step": 10} in read_lines(path)
    assert {"step": 30} not in read_lines(path)


def test_a_line_that_finds_no_room_leaves_nothing_of_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 1000

    class OnSmallDisk(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:room])

    monkeypatch.setattr(files, "open_to_append", lambda path: OnSmallDisk(path, "ab"))
    log = MetricsLog(path)
    monkeypatch.undo()
    log.write(EVENTS[0])
    before = path.read_bytes()
    room = 10
    log.write(EVENTS[0])
    assert path.read_bytes() == before
    room = 1000
    log.write(EVENTS[0])
    assert len(read_lines(path)) == 2
    log.close()


def test_a_missing_file_has_no_lines(path: Path) -> None:
    assert read_lines(path) == []
    cut_metrics(path, 10)
    assert read_lines(path) == []


def test_a_log_that_cannot_be_read_is_not_replaced(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 << 30)  # sparse
    with pytest.raises(CharlstmError, match=r"21,474,836,480 bytes.*move it out") as refused:
        cut_metrics(path, 10)
    assert str(path) in str(refused.value)
    assert path.stat().st_size == 20 << 30
    assert read_lines(path) == []


@pytest.mark.skipif(os.name == "nt", reason="pipes and links")
def test_a_log_leads_nowhere_else(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    path.symlink_to(precious)
    with pytest.raises(CharlstmError, match=r"symbolic link.*move it out"):
        MetricsLog(path)
    assert precious.read_text() == "mine\n"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CharlstmError, match="move it out"):
        MetricsLog(path)
