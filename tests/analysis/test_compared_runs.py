"""Runs next to each other: in a terminal, as data, and in files."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers import TEXT

from charlstm.analysis.compared_runs import compare_runs
from charlstm.cli import run
from charlstm.errors import UsageError
from charlstm.runs.metrics import read_lines

SMALL = "--embed 8 --layers 1 --batch 4 --bptt 16 --precision float32 --device cpu --quiet --steps"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs a, b and other; other is of another text."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "tales.txt").write_text(TEXT * 20, encoding="utf-8")
    (folder / "other.txt").write_text(TEXT[::-1] * 21, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, text, more in (
            ("a", "tales.txt", "8 --hidden 16"),
            ("b", "tales.txt", "8 --hidden 12 --cell gru"),
            ("other", "other.txt", "8 --hidden 16"),
        ):
            words = f"train {text} --name {name} {SMALL} {more}"
            assert run(words.split()) == 0
    return folder


@pytest.fixture(autouse=True)
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluated(name: str) -> list[tuple[int, float]]:
    lines = read_lines(Path("checkpoints") / name / "metrics.jsonl")
    return [(line["step"], line["val_loss"]) for line in lines if line["event"] == "evaluated"]


def test_json_has_the_validations_the_results_and_what_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["runs", "compare", "a", "b", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differing"] == ["cell", "hidden_size"]
    for one, name in zip(found["runs"], ("a", "b"), strict=True):
        assert [(v["step"], v["val_loss"]) for v in one["validations"]] == evaluated(name)
        assert all(v["characters"] == v["step"] * 4 * 16 for v in one["validations"])
        best = min(loss for step, loss in evaluated(name) if step)
        assert one["results"]["best_loss"] == best
        assert (one["results"]["steps"], one["results"]["ended"]) == (8, "budget")


def test_a_terminal_gets_a_chart_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "compare", "a", "b"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["hidden", "size", "16", "12"] in lines
    assert ["cell", "lstm", "gru"] in lines
    assert ["steps", "8", "8"] in lines
    assert ["x:", "steps"] in lines
    assert "different texts" not in shown
    assert not any(line[:1] == ["bptt"] for line in lines)


def test_curves_go_along_characters_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    for by, label in (("characters", "x: characters"), ("time", "x: seconds")):
        assert run(["runs", "compare", "a", "b", "--by", by]) == 0
        assert label in capsys.readouterr().out
    (plots,) = (b for b in compare_runs(paths("a", "b"), "characters").document().blocks[:1])
    assert [list(one.x) for one in plots.plots[0].series] == [
        [64.0 * step for step, _ in evaluated(name) if step] for name in ("a", "b")
    ]


def test_a_list_and_a_text_differ_even_where_their_characters_are_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(f"train tales.txt --lines --name list {SMALL} 8 --hidden 16".split()) == 0
    for names in (("a", "list"), ("list", "a")):
        capsys.readouterr()
        assert run(["runs", "compare", *names, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert "separator" in found["differing"]
        separators = [one["settings"]["separator"] for one in found["runs"]]
        assert separators == [{"a": None, "list": "\n"}[name] for name in names]
        assert run(["runs", "compare", *names]) == 0
        assert "different texts" in capsys.readouterr().out


def test_a_run_that_goes_on_has_not_ended() -> None:
    path = Path("checkpoints/a/metrics.jsonl")
    started = path.read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(started)["event"] == "run_started"
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{started}\n")
    assert [one.reason for one in compare_runs(paths("a", "b")).runs] == [None, "budget"]


def test_the_best_of_a_run_that_began_trained_may_be_its_beginning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(f"train tales.txt --name good {SMALL} 80 --hidden 16".split()) == 0
    words = f"train tales.txt --init-from good --name worse {SMALL} 6 --lr 0.5 --adam-lr 0.5"
    assert run(words.replace("--embed 8 --layers 1 ", "").split()) == 0
    capsys.readouterr()
    assert run(["runs", "show", "worse", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["best_step"] == 0
    results = compare_runs(paths("worse", "a")).runs[0].results()
    assert (results["best_step"], results["best_loss"]) == (0, shown["best_loss"])


def paths(*names: str) -> list[Path]:
    return [Path("checkpoints") / name for name in names]


def test_files_are_written_once_and_again_only_with_force(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = ["--html", "c.html", "--svg", "c.svg", "--png", "c.png", "--csv", "c.csv"]
    assert run(["runs", "compare", "a", "b", *files]) == 0
    assert capsys.readouterr().out == ""
    assert Path("c.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "<svg" in Path("c.svg").read_text(encoding="utf-8")
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.reader(Path("c.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["run", "step", "characters", "seconds", "val_loss"]
    assert [(row[0], int(row[1]), float(row[4])) for row in rows[1:]] == [
        (name, *one) for name in ("a", "b") for one in evaluated(name)
    ]
    Path("c.csv").write_text("mine")
    for file in ("--csv", "c.csv"), ("--png", "c.png"):
        assert run(["runs", "compare", "a", "b", *file]) == 2
        assert f"{file[1]} is already there" in capsys.readouterr().err
    assert Path("c.csv").read_text() == "mine"
    assert run(["runs", "compare", "a", "b", "--csv", "c.csv", "--force"]) == 0
    assert Path("c.csv").read_text().startswith("run,")


def test_the_folder_of_a_run_may_have_a_name_that_is_no_text(folder: Path) -> None:
    name = os.fsdecode(b"a\xff\x1b")
    shutil.copytree(folder / "checkpoints" / "a", folder / "checkpoints" / name)
    files = ["--html", "n.html", "--svg", "n.svg", "--png", "n.png", "--csv", "n.csv"]
    assert run(["runs", "compare", "b", name, *files]) == 0
    assert b"a\xff\x1b," in Path("n.csv").read_bytes()


def test_runs_of_different_texts_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["runs", "compare", "a", "other"]) == 0
    assert "different texts" in capsys.readouterr().out


def test_runs_of_one_name_go_by_their_paths(folder: Path) -> None:
    shutil.copytree("checkpoints/b", folder / "elsewhere" / "a")
    compared = compare_runs([Path("checkpoints/a"), Path("elsewhere/a")])
    assert [one.name for one in compared.runs] == ["checkpoints/a", "elsewhere/a"]


def test_a_run_without_metrics_has_no_curve(capsys: pytest.CaptureFixture[str]) -> None:
    Path("checkpoints/b/metrics.jsonl").unlink()
    assert run(["runs", "compare", "a", "b"]) == 0
    Path("checkpoints/a/metrics.jsonl").write_text('{"event": "run_finished", "reason": 3}\n{')
    capsys.readouterr()
    assert run(["runs", "compare", "a", "b"]) == 1
    assert "no validation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "axis", "message"),
    [
        (("a",), "steps", "two runs"),
        (("a", "a"), "steps", "twice"),
        (("a", "b"), "weeks", "`by` is 'weeks'"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    names: tuple[str, ...], axis: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        compare_runs(paths(*names), axis)
