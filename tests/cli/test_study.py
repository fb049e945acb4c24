"""``charlstm study``: what it prints, keeps and refuses, and how it goes on."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import TEXT

import charlstm
from charlstm.cli import run
from charlstm.events import RunFinished
from charlstm.net.spec import CELLS
from charlstm.study.tasks import TASKS
from charlstm.training.trainer import Trainer

LAG = ["study", "lag", "--task", "long-lag", "--lags", "2,3", "--cells", "rnn,gru"]
LAG += ["--trials", "1", "--characters", "600", "--hidden", "8"]
SIZES = ["--parameters", "2000", "--characters", "9000"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tales(tmp_path: Path) -> str:
    (tmp_path / "tales.txt").write_text(TEXT * 10, encoding="utf-8")
    return "tales.txt"


def printed_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# -- lag ---------------------------------------------------------------------------------------


def test_lag_prints_a_table_and_charts_and_tells_what_it_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(LAG) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert [line.split()[:2] for line in shown.out.splitlines()[1:5]] == [
        ["rnn", "2"],
        ["3", "0"],
        ["gru", "2"],
        ["3", "0"],
    ]
    assert "trials solved, by lag" in shown.out
    assert "experiment 2a" in shown.err
    assert "gru, lag 3, trial 1: not solved, 600 characters" in shown.err
    assert shown.err.endswith("results: studies/lag-long-lag/results.json\n")


@pytest.mark.parametrize(("cells", "is_noted"), [("rnn,lstm-1997", True), ("rnn,gru", False)])
def test_a_forget_bias_without_effect_is_noted(
    cells: str, is_noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*LAG, "--cells", cells, "--forget-bias", "2"]) == 0
    assert ("--forget-bias has no effect" in capsys.readouterr().err) == is_noted


def test_lag_goes_on_where_it_stood(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import charlstm.study.lag as module

    done: list[tuple[str, int, int]] = []
    run_trial = module.run_trial

    def watch(settings: Any, cell: str, lag: int, trial: int) -> Any:
        done.append((cell, lag, trial))
        return run_trial(settings, cell, lag, trial)

    monkeypatch.setattr(module, "run_trial", watch)
    assert run([*LAG, "--json"]) == 0
    first = printed_json(capsys)
    assert done == [("rnn", 2, 1), ("gru", 2, 1), ("rnn", 3, 1), ("gru", 3, 1)]
    assert run([*LAG, "--trials", "2", "--cells", "gru", "--lags", "3", "--json"]) == 0
    second = printed_json(capsys)
    assert done[4:] == [("gru", 3, 2)]
    assert second["results"][0] == first["results"][3]
    assert [one["trial"] for one in second["results"]] == [1, 2]
    assert first["settings"] == {
        "study": "lag",
        "task": "long-lag",
        "characters": 600,
        "hidden": 8,
        "forget_bias": None,
    }
    assert set(first["results"][0]) == {
        "cell", "lag", "trial", "solved", "characters", "right", "reach", "cell_state", "seconds"
    }  # fmt: skip


def test_lag_stops_when_its_minutes_are_up_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*LAG, "--minutes", "0.000001"]) == 0
    shown = capsys.readouterr()
    assert "0 of 4 results done; to continue:\ncharlstm study lag --task long-lag" in shown.err
    assert shown.out == "no finished trial yet\n"
    assert "trial 1: stopped; it will start over when you continue" in shown.err


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_lag_stopped_with_ctrl_c_keeps_its_trials_and_names_the_command_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(charlstm.__file__).parents[1])}
    arguments = [*LAG, "--characters", "3000", "--trials", "40"]
    child = subprocess.Popen(
        [sys.executable, "-m", "charlstm", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    results = tmp_path / "studies" / "lag-long-lag" / "results.json"
    assert child.stderr is not None
    while "solved, " not in (line := child.stderr.readline()):
        assert line, "it ended by itself"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    kept = json.loads(results.read_text())["results"]
    assert 0 < len(kept) < 160
    assert out.splitlines()[0].split()[:3] == ["cell", "lag", "solved"]
    done, command = err.splitlines()[-2:]
    assert done.startswith(f"{len(kept)} of 160 results done; ")
    words = shlex.split(command)
    assert words[0] == "charlstm"
    assert run([*words[1:], "--trials", "1", "--lags", "2", "--cells", "rnn", "--json"]) == 0
    assert printed_json(capsys)["results"][0] == kept[0]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--task", "chess"], "--task is 'chess'; choose one of reber, "),
        (["--cells", "lstm,transformer"], "--cells has 'transformer'; choose from lstm, "),
        (["--lags", "2,x"], "--lags is '2,x'; give whole numbers"),
        (["--lags", "1"], "the lag is 1, too short for long-lag; use at least 2"),
        (["--lags", str(2**31)], f"the lag is {2**31}, which is too long; use at most 300"),
        (["--trials", "0"], "--trials is 0, but must be at least 1"),
        (["--minutes", "0"], "--minutes is 0, but must be above 0"),
        (["--characters", "0"], "--characters is 0"),
        (["--characters", "9" * 400], "--characters is a number of more than 30 digits"),
        (["--characters", str(10**20)], f"--characters is {10**20:,}"),
        (["--hidden", "0"], "--hidden is 0"),
        (["--forget-bias", "nan"], "--forget-bias is nan"),
    ],
)
def test_lag_refuses_what_makes_no_sense(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*LAG, *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"charlstm: {complaint}")
    assert shown.err.count("\n") == 1


def test_a_study_with_other_settings_needs_another_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = [*LAG, "--lags", "2", "--cells", "rnn"]
    assert run(small) == 0
    assert run([*small, "--hidden", "9"]) == 2
    assert "holds a study with hidden 8, not 9; choose another --name" in (capsys.readouterr().err)
    assert run([*small, "--hidden", "9", "--name", "nine"]) == 0
    assert Path("studies/nine/results.json").exists()


def test_every_task_is_offered() -> None:
    from charlstm.cli.study import TASK_NAMES

    assert tuple(TASKS) == TASK_NAMES


# -- cells -------------------------------------------------------------------------------------


def test_cells_compares_all_of_them_at_nearly_equal_parameters(
    tales: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["study", "cells", tales, *SIZES, "--seeds", "1", "--json"]) == 0
    found = printed_json(capsys)
    assert [one["cell"] for one in found["results"]] == list(CELLS)
    for one in found["results"]:
        assert abs(one["parameters"] - 2000) < 200
        assert 0 < one["val_loss"] < 5
        assert one["chars_per_second"] > 0
        assert (Path(one["run"]) / "run.json").exists()


def test_cells_reads_texts_in_other_encodings_and_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("latin.txt").write_bytes("les cafés d'été ".encode("latin1") * 200)
    command = ["study", "cells", "latin.txt", *SIZES, "--cells", "gru", "--seeds", "1"]
    assert run(command) == 1
    assert "(--encoding latin-1, …) or model its bytes (--bytes)" in capsys.readouterr().err
    assert run([*command, "--encoding", "latin1"]) == 0
    assert run([*command, "--bytes", "--name", "bytes"]) == 0


def test_cells_that_need_more_memory_than_there_is_are_refused(
    tales: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("charlstm.files.memory_present", lambda: 1 << 30)
    command = ["study", "cells", tales, "--cells", "lstm", "--parameters", "1000000000"]
    assert run(command) == 2
    assert "use fewer --parameters" in capsys.readouterr().err


def test_cells_prints_a_table_and_does_nothing_twice(
    tales: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["study", "cells", tales, *SIZES, "--cells", "gru,rnn", "--seeds", "2"]
    assert run(command) == 0
    first = capsys.readouterr().out
    assert {line.split()[0] for line in first.splitlines()[1:3]} == {"gru", "rnn"}
    monkeypatch.setattr("charlstm.study.compare.open_cell_run", None)
    assert run(command) == 0
    assert capsys.readouterr().out == first


def test_cells_stopped_by_its_minutes_saves_and_goes_on(
    tales: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["study", "cells", tales, *SIZES, "--cells", "lstm,rnn", "--seeds", "1"]
    assert run([*command, "--minutes", "0.00001"]) == 0
    shown = capsys.readouterr()
    assert "0 of 2 results done; to continue:\ncharlstm study cells tales.txt --cells" in shown.err
    assert list(Path("studies/cells-tales/lstm-1").glob("step-*"))
    assert run([*command, "--json"]) == 0
    assert [one["cell"] for one in printed_json(capsys)["results"]] == ["lstm", "rnn"]


def test_a_cell_that_diverges_is_no_result(
    tales: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: Trainer) -> Iterator[RunFinished]:
        yield RunFinished("diverged", 3, 0.1, 1.0, 4.0, 0, self.path)

    command = ["study", "cells", tales, *SIZES, "--cells", "rnn", "--seeds", "1"]
    with monkeypatch.context() as diverging:
        diverging.setattr(Trainer, "run", diverge)
        run(command)
    shown = capsys.readouterr()
    assert "diverged" in shown.err
    assert "0 of 1 result done" in shown.err
    assert run([*command, "--json"]) == 0
    assert len(printed_json(capsys)["results"]) == 1


# -- gradient ----------------------------------------------------------------------------------


def test_gradient_of_a_run(
    trained_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["study", "gradient", "-c", str(trained_run), "--reach", "40"]
    assert run([*command, "--json"]) == 0
    found = printed_json(capsys)
    assert [len(one["h"]) for one in found["untrained"] + found["trained"]] == [40, 40]
    assert len(found["trained"][0]["c"]) == 40
    assert found["clipping"] == []
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert "trained: |dL_t / dh_{t-k}|, by k" in shown
    assert "1e" in shown


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--reach", "1"], "--reach is 1, but must be at least 2"),
        (["--cells", "mlp"], "--cells has 'mlp'"),
        (["--steps", "0"], "--steps is 0"),
        (["-c", "any", "--steps", "200"], "--steps cannot be used with -c"),
        (["-c", "any", "--cells", "gru"], "--cells cannot be used with -c"),
    ],
)
def test_gradient_refuses_what_makes_no_sense(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["study", "gradient", *options]) == 2
    assert capsys.readouterr().err.startswith(f"charlstm: {complaint}")
