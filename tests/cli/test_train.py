"""``charlstm train``: what a run leaves behind, what it prints, how it goes on."""

import gzip
import io
import json
import os
import random
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import TEXT
from rich.console import Console
from safetensors.numpy import load_file

import charlstm
from charlstm.cache import CACHE_VARIABLE
from charlstm.cli import run
from charlstm.events import Event, RunFinished
from charlstm.net.spec import CELLS
from charlstm.runs import pointers
from charlstm.runs import run as runs
from charlstm.runs.metrics import read_lines
from charlstm.text.sources import bundled_corpus

SIZE = ["--hidden", "16", "--embed", "8"]
FIXED = ["--batch", "4", "--bptt", "16", "--precision", "float32", "--device", "cpu"]
SMALL = [*SIZE, *FIXED]
TALES = Path("checkpoints/tales")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a small text in it."""
    (tmp_path / "tales.txt").write_text(TEXT * 20, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Stops the next run after ``steps`` steps, as a signal would."""
    from charlstm.training.trainer import Trainer

    take_step = Trainer.take_step

    def arrange(steps: int) -> None:
        def step(self: Trainer) -> object:
            norm = take_step(self)
            if self.progress.step == steps:
                self.request_stop()
            return norm

        monkeypatch.setattr(Trainer, "take_step", step)

    return arrange


def train(*arguments: str, steps: int = 6) -> int:
    return run(["train", *SMALL, "--steps", str(steps), *arguments])


def give_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def last_weights(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a run's last checkpoint: weights, average, optimiser, h and c."""
    last = pointers.read_pointers(path).last
    assert last is not None
    found = [load_file(path / last / f"{part}.safetensors") for part in ("model", "train")]
    return {**found[0], **found[1]}


def same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a)


# -- a run -------------------------------------------------------------------------------------


def test_run_is_a_folder_with_settings_metrics_and_checkpoints() -> None:
    assert train("tales.txt") == 0
    settings = json.loads((TALES / "run.json").read_text())
    assert (settings["model"]["hidden_size"], settings["train"]["steps"]) == (16, 6)
    events = [line["event"] for line in read_lines(TALES / "metrics.jsonl")]
    assert (events[0], events[-1]) == ("run_started", "run_finished")
    pointers = json.loads((TALES / "checkpoints.json").read_text())
    assert pointers["last"] == "step-00000006"
    assert {pointers["best"], pointers["last"]} <= set(pointers["kept"])
    assert len("".join(charlstm.load(TALES).generate(length=9, seed=1))) == 9


def test_result_goes_to_stdout_and_all_else_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("tales.txt") == 0
    shown = capsys.readouterr()
    number = r"\d+\.\d+"
    assert re.fullmatch(
        r"checkpoints/tales  6 steps in \d+ s; best at step \d\n"
        rf"validation loss {number} nats per character, {number} bits, perplexity {number}\n",
        shown.out,
    )
    assert "tales: lstm 1×16" in shown.err
    assert "step 6  validation" in shown.err
    assert shown.err.endswith("now try:\ncharlstm sample -c checkpoints/tales --temp 0.8\n")
    assert "\x1b" not in shown.out + shown.err


def test_json_is_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["event"] == "run_finished"
    assert (result["reason"], result["step"], result["path"]) == ("budget", 6, str(TALES))
    assert result["val_loss"] > 0


def test_quiet_prints_only_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt", "--quiet") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("checkpoints/tales  6 steps")
    assert shown.err == ""


def test_terminal_gets_the_panel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=24)
    monkeypatch.setattr("charlstm.show.console.stderr_console", lambda: console)
    monkeypatch.setattr("charlstm.show.console.can_animate", lambda _: True)
    assert train("tales.txt", steps=200) == 0
    assert "weights of step" in screen.getvalue()
    assert capsys.readouterr().out.startswith("checkpoints/tales  200 steps")
    assert train("tales.txt", "--plain", steps=1) == 0
    assert "step 1/1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "unsaved", "code", "told"),
    [
        ("budget", None, 0, "charlstm sample -c"),
        ("patience", None, 0, "--patience 0"),
        ("stopped", None, 130, "charlstm train --resume -c checkpoints/tales"),
        ("diverged", None, 1, "lower --lr"),
        ("budget", "no space", 1, "could not be saved: no space; fix that"),
        ("stopped", "no space", 1, "could not be saved: no space; fix that"),
    ],
)
def test_exit_code_and_advice_follow_how_the_run_ended(
    reason: str,
    unsaved: str | None,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from charlstm.training.trainer import Trainer

    def ended(self: Trainer) -> Iterator[Event]:
        yield RunFinished(reason, 6, 1.0, 2.0, 1.5, 4, self.path, unsaved)

    monkeypatch.setattr(Trainer, "run", ended)
    assert train("tales.txt") == code
    assert told in capsys.readouterr().err


# -- names and texts ---------------------------------------------------------------------------


def test_runs_are_never_overwritten() -> None:
    assert train("tales.txt") == 0
    before = {p: p.read_bytes() for p in TALES.rglob("*") if p.is_file()}
    assert train("tales.txt", "--hidden", "8") == 0
    assert train("tales.txt", "--name", "tales") == 0
    assert {p.name for p in Path("checkpoints").iterdir()} == {"tales", "tales-2", "tales-3"}
    assert {p: p.read_bytes() for p in TALES.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("name", "made"),
    [("two words", "two-words"), ("../../out", "out"), ("ë/..", "e"), ("Ж/..", "run")],
)
def test_name_names_the_run_and_stays_below_checkpoints(name: str, made: str) -> None:
    assert train("tales.txt", "--name", name, steps=1) == 0
    assert [p.name for p in Path("checkpoints").iterdir()] == [made]


def test_gz_is_the_same_text(folder: Path) -> None:
    (folder / "tales.gz").write_bytes(gzip.compress((folder / "tales.txt").read_bytes()))
    assert train("tales.txt", steps=1) == 0
    assert train("tales.gz", steps=1) == 0
    first, second = (runs.read_run_file(p) for p in (TALES, TALES.with_name("tales-2")))
    assert first.digest == second.digest


def test_stdin_is_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    give_stdin(monkeypatch, (TEXT * 20).encode())
    assert train("-", steps=1) == 0
    assert runs.read_run_file(Path("checkpoints/stdin")).characters == len(TEXT * 20)


def test_folder_is_read_and_a_binary_file_in_it_named_as_skipped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "scenes").mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / "scenes" / name).write_text(TEXT * 10, encoding="utf-8")
    (folder / "scenes" / "photo.jpg").write_bytes(b"\xff\xd8\x00\x10" * 9)
    assert train("scenes", steps=1) == 0
    assert re.search(r"skipped \S*photo\.jpg: .+\n", capsys.readouterr().err)
    assert runs.read_run_file(Path("checkpoints/scenes")).characters == len(TEXT * 20)


def test_bytes_models_any_file(folder: Path) -> None:
    (folder / "data.bin").write_bytes(bytes(range(256)) * 8)
    assert train("data.bin", "--bytes", steps=1) == 0
    vocab = charlstm.load("data").file.vocab
    assert (vocab.kind, len(vocab)) == ("bytes", 256)


def test_without_a_text_the_bundled_one_is_used() -> None:
    assert train(steps=1) == 0
    (made,) = Path("checkpoints").iterdir()
    assert runs.read_run_file(made).source.paths == (str(bundled_corpus()),)


# -- advice and wrong usage --------------------------------------------------------------------


def test_batch_that_does_not_fit_the_text_is_noted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    length = len((folder / "tales.txt").read_text(encoding="utf-8"))
    fitting = length * 9 // 10 // (2 * 16)
    assert train("tales.txt", "--batch", str(fitting)) == 0
    assert "too short" not in capsys.readouterr().err
    assert train("tales.txt", "--batch", "4000") == 0
    told = capsys.readouterr().err
    assert f"note: the text is too short for --batch 4000; using {fitting}\n" in told
    assert "--bptt" not in told


def test_advice_comes_before_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "odd.txt").write_text(TEXT * 5 + "ßäöüÄÖÜ", encoding="utf-8")
    assert train("odd.txt", "--hidden", "100", steps=1) == 0
    told = capsys.readouterr().err
    assert re.search(r"^note: 582 characters may be too few to learn from", told, re.M)
    assert re.search(r"^note: 7 of \d+ characters occur fewer than 5 times", told, re.M)
    words = random.Random(1).choices(TEXT.split(), k=2000)
    (folder / "words.txt").write_text(" ".join(words), encoding="utf-8")
    assert train("words.txt", steps=1) == 0
    shown = capsys.readouterr()
    assert "note:" not in shown.err
    assert " 1 step in " in shown.out


BAD_NUMBERS = {
    "--epochs": ["0", "-1", "nan", "inf", "many"],
    "--steps": ["0", "-1", "1.5", "nan", "many"],
    "--minutes": ["0", "-1", "nan", "inf", "many"],
    "--patience": ["-1", "1.5", "many"],
    "--hidden": ["0", "-1", "16385", "1.5", "99999999999999999999", "many"],
    "--layers": ["0", "-1", "65", "1.5", "many"],
    "--embed": ["0", "-1", "16385", "1.5", "many"],
    "--batch": ["0", "-1", "65537", "1.5", "many"],
    "--bptt": ["0", "-1", "65537", "1.5", "many"],
    "--lr": ["0", "-1", "11", "nan", "inf", "many"],
    "--adam-lr": ["0", "-1", "11", "nan", "inf", "many"],
    "--warmup": ["-1", "1.5", "many"],
    "--hold": ["-1", "1.1", "nan", "inf", "many"],
    "--final-rate": ["-1", "1.1", "nan", "inf", "many"],
    "--weight-decay": ["-1", "1.1", "nan", "inf", "many"],
    "--row-averaging": ["-0.1", "1", "nan", "inf", "many"],
    "--reset-every": ["-1", "1.5", "99999999999999999999", "many"],
    "--dropout": ["-0.1", "0.96", "nan", "inf", "many"],
    "--dropout-masks": ["0", "-1", "65", "1.5", "many"],
    "--clip": ["0", "-1", "nan", "inf", "many"],
    "--averaging": ["-0.1", "1", "nan", "inf", "many"],
    "--seed": ["-1", "1.5", "9223372036854775808", "many"],
    "--val-fraction": ["-0.1", "0.91", "nan", "inf", "many"],
    "--keep": ["0", "-1", "1.5", "many"],
}


def assert_refused(
    capsys: pytest.CaptureFixture[str], code: int, expected: int, *words: str
) -> None:
    """One line on stderr with all of ``words``, and nothing made."""
    shown = capsys.readouterr()
    assert (code, shown.out) == (expected, "")
    assert re.fullmatch(r"charlstm: [^\n]+\n(charlstm [^\n]+\n)?", shown.err)
    assert all(word in shown.err for word in words), shown.err
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, bad in BAD_NUMBERS.items() for value in bad]
)
def test_number_out_of_range_is_refused_in_one_line_and_makes_nothing(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = [] if option in ("--epochs", "--steps", "--minutes") else ["--steps", "1"]
    code = run(["train", "tales.txt", *SMALL, *budget, option, value])
    named = value if len(value) < 10 else ""
    assert_refused(capsys, code, 2, option, named)


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--preset", "giant", "medium"),
        ("--cell", "transformer", "lstm"),
        ("--encoding", "klingon", "utf-8"),
        ("--precision", "float8", "bfloat16"),
    ],
)
def test_unknown_name_is_refused_and_the_known_ones_listed(
    option: str, value: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(capsys, train("tales.txt", option, value), 2, value, remedy)


def test_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code = train("tales.txt", "--quiet", "--device", "abacus")
    assert_refused(capsys, code, 2, "abacus", "choose one of auto, cpu, cuda, mps")


@pytest.mark.parametrize(
    "budgets",
    [
        ["--epochs", "1", "--steps", "2"],
        ["--steps", "2", "--minutes", "1"],
        ["--epochs", "1", "--minutes", "1"],
    ],
)
def test_only_one_budget_may_be_given(
    budgets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["train", "tales.txt", *SMALL, *budgets])
    assert_refused(capsys, code, 2, "--epochs", "--steps", "--minutes")


def test_checkpoint_without_resume_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code = train("tales.txt", "-c", "tales")
    assert_refused(capsys, code, 2, "-c", "--resume", "--init-from")


def test_place_that_cannot_be_written_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "checkpoints").write_text("a file")
    assert train("tales.txt", "--quiet") == 1
    shown = capsys.readouterr().err
    assert re.fullmatch(r"charlstm: cannot create a run in checkpoints\b[^\n]+\n", shown)


# -- resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_samples_inspects_and_scores(
    cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt", "--cell", cell, "--layers", "2") == 0
    capsys.readouterr()
    assert run(["sample", "--length", "40", "--seed", "1"]) == 0
    assert len(capsys.readouterr().out) >= 40
    assert run(["inspect", "NED: It was", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cell"] == cell
    for character in report["characters"]:
        assert [tuple(layer) for layer in character["layers"]] == [CELLS[cell].reported] * 2
    assert (report["time_constant"] is None) == (CELLS[cell].memory is None)
    assert run(["inspect", "NED: It was"]) == 0
    shown = capsys.readouterr().out
    assert all(gate in shown for gate in CELLS[cell].reported)
    assert run(["score", "tales.txt", "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["bits_per_char"] < 8


@pytest.mark.parametrize("cell", CELLS)
def test_interrupted_run_goes_on_to_the_weights_of_an_undisturbed_one(
    cell: str, stop_after: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt", "--cell", cell, "--name", "whole", steps=12) == 0
    stop_after(5)
    assert train("tales.txt", "--cell", cell, steps=12) == 130
    told = capsys.readouterr().err
    assert "to resume:\ncharlstm train --resume -c checkpoints/tales\n" in told
    assert run(["train", "--resume", "-c", str(TALES)]) == 0
    assert same_bits(last_weights(TALES), last_weights(TALES.with_name("whole")))


def test_resume_takes_the_newest_run_and_says_so(
    stop_after: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt", "--name", "old", steps=1) == 0
    stop_after(3)
    assert train("tales.txt") == 130
    capsys.readouterr()
    assert run(["train", "--resume"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("resuming checkpoints/tales\n")
    assert shown.out.startswith("checkpoints/tales  6 steps")


def test_metrics_of_a_resumed_run_tell_each_step_once(stop_after: Callable[[int], None]) -> None:
    stop_after(3)
    assert train("tales.txt") == 130
    with (TALES / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step_done", "step": 5}\n{"event": "step_d')
    assert run(["train", "--resume"]) == 0
    lines = read_lines(TALES / "metrics.jsonl")
    assert [line["step"] for line in lines if line["event"] == "evaluated"] == [0, 2, 4, 6]
    assert [line["step"] for line in lines if line["event"] == "run_finished"] == [3, 6]
    steps = [line["step"] for line in lines if "step" in line]
    assert steps == sorted(steps)


def test_budget_may_be_extended(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt") == 0
    assert run(["train", "--resume", "--steps", "9"]) == 0
    assert pointers.read_pointers(TALES).last == "step-00000009"
    assert runs.read_run_file(TALES).budget.total_steps == 9
    capsys.readouterr()
    assert run(["train", "--resume"]) == 0
    shown = capsys.readouterr()
    assert "the run had already finished its 9 steps; to train it further:\n" in shown.err
    assert "\ncharlstm train --resume -c checkpoints/tales --steps 18\n" in shown.err
    assert shown.out.startswith("checkpoints/tales  9 steps")


def suggested(err: str) -> list[str]:
    """The arguments of the command to train further, as a shell would pass them."""
    line = next(line for line in err.splitlines() if line.startswith("charlstm train --resume"))
    return shlex.split(line)[1:]


def test_the_suggested_budget_exceeds_the_time_that_the_run_took(
    capsys: pytest.CaptureFixture[str],
) -> None:
    minutes = ["--minutes", "0.00001"]  # less than it takes to begin
    assert run(["train", "tales.txt", *SMALL, *minutes]) == 0
    done = pointers.read_pointers(TALES).last
    assert run(["train", "--resume"]) == 0
    assert run(suggested(capsys.readouterr().err)) == 0
    assert pointers.read_pointers(TALES).last > done


def test_a_suggested_number_of_steps_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt") == 0
    content = json.loads((TALES / "run.json").read_text())
    content["train"]["steps"] = 600_000
    (TALES / "run.json").write_text(json.dumps(content))
    assert run(["train", "--resume"]) == 0
    assert suggested(capsys.readouterr().err)[-2:] == ["--steps", "1200000"]


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--warmup", "5"], "using --warmup 4, not 5: at most a tenth of the steps"),
        (["--warmup", "4"], ""),
        (["--patience", "3", "--val-fraction", "0"], "--patience has no effect"),
        (["--patience", "0", "--val-fraction", "0"], ""),
        (["--dropout-masks", "4", "--dropout", "0"], "--dropout-masks has no effect"),
        (["--dropout-masks", "4", "--dropout", "0.1"], ""),
        (["--hold", "1", "--final-rate", "0.5"], "--final-rate has no effect"),
        (["--encoding", "latin-1", "--bytes"], "--encoding has no effect"),
    ],
    ids=str,
)
def test_settings_without_effect_are_noted(
    options: list[str], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt", *options, steps=40) == 0
    err = capsys.readouterr().err
    notes = [line for line in err.splitlines() if re.search("effect|tenth", line)]
    assert len(notes) == bool(note)
    assert all(note in line for line in notes)


def test_patience_without_validations_is_noted_on_resume(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("tales.txt", "--val-fraction", "0") == 0
    capsys.readouterr()
    for patience, is_noted in ("3", True), ("0", False):
        assert run(["train", "--resume", "--patience", patience]) == 0
        assert ("note: --patience has no effect" in capsys.readouterr().err) == is_noted


@pytest.mark.parametrize("reason", ["budget", "patience"])
def test_what_follows_the_finished_panel_fits_below_it(
    reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from charlstm.show.live import RESULT_LINES
    from charlstm.training.trainer import Trainer

    assert train("tales.txt") == 0
    capsys.readouterr()
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=24)
    monkeypatch.setattr("charlstm.show.console.stderr_console", lambda: console)
    monkeypatch.setattr("charlstm.show.console.can_animate", lambda _: True)
    further = ["--steps", "99", "--patience", "1"] if reason == "patience" else []
    if reason == "patience":
        monkeypatch.setattr(Trainer, "_out_of_patience", lambda _: True)
    assert run(["train", "--resume", "-c", "tales", *further]) == 0
    shown = capsys.readouterr()
    lines = [*shown.out.splitlines(), *shown.err.splitlines()]
    prompt = 1
    assert sum(-(-len(line) // console.width) for line in lines) + prompt <= RESULT_LINES
    assert ("early stop" in screen.getvalue()) == (reason == "patience")


def test_budget_that_is_already_spent_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt") == 0
    before = (TALES / "run.json").read_bytes()
    capsys.readouterr()
    assert run(["train", "--resume", "-c", "tales", "--steps", "4"]) == 2
    assert re.fullmatch(r"charlstm: [^\n]*4 steps[^\n]*6[^\n]*\n", capsys.readouterr().err)
    assert (TALES / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    "option",
    ["--hidden 8", "--layers 2", "--embed 4", "--lr 0.1", "--batch 2", "--dropout 0", "--name x"],
)
def test_resumed_run_keeps_its_settings(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt", steps=1) == 0
    capsys.readouterr()
    assert run(["train", "--resume", "-c", "tales", "--steps", "9", *option.split()]) == 2
    shown = capsys.readouterr().err
    assert re.fullmatch(r"charlstm: [^\n]+\n", shown)
    assert option.split()[0] in shown
    assert pointers.read_pointers(TALES).last == "step-00000001"


@pytest.mark.parametrize(
    "option", ["--seed 9", "--preset tiny", "--teacher tales", "--encoding latin-1", "--bytes"]
)
def test_resume_never_ignores_a_setting(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt", steps=1) == 0
    capsys.readouterr()
    assert run(["train", "--resume", "-c", "tales", "--steps", "2", *option.split()]) == 2
    assert option.split()[0] in capsys.readouterr().err


def test_changed_text_is_refused_with_the_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt") == 0
    (folder / "tales.txt").write_text(TEXT * 21, encoding="utf-8")
    for named in ([], ["tales.txt"]):
        assert run(["runs", "prune", "--cache", "--yes"]) == 0
        capsys.readouterr()
        assert run(["train", *named, "--resume", "-c", "tales", "--steps", "9"]) == 1
        told = capsys.readouterr().err
        assert re.fullmatch(r"charlstm: [^\n]+\n", told)
        for words in ("changed", f"{len(TEXT * 20):,}", f"{len(TEXT * 21):,}", "--init-from"):
            assert words in told


@pytest.mark.parametrize("now", [TEXT * 21, ""])
def test_a_run_continues_with_its_text_as_it_was(
    now: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt") == 0
    (folder / "tales.txt").write_text(now, encoding="utf-8")
    capsys.readouterr()
    assert run(["train", "tales.txt", "--resume", "--steps", "9"]) == 1
    told = capsys.readouterr().err
    assert run(["train", "--resume", "--steps", "9"]) == 0
    as_it_was = "; continuing with the text as it was, from the cache\n"
    assert as_it_was in capsys.readouterr().err
    if "the text has changed" in told:
        assert run(suggested(told)) == 0


def test_moved_text_is_named_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt") == 0
    (folder / "tales.txt").rename(folder / "moved.txt")
    assert run(["runs", "prune", "--cache", "--yes"]) == 0
    capsys.readouterr()
    asking = (["train", "--resume"], ["sample", "--novelty"], ["score", "moved.txt", "--adapt"])
    for command in asking:
        assert run(command) == 1
        err = capsys.readouterr().err
        assert (
            "tales.txt no longer exists and is not in the cache; give its new path:\ncharlstm train"
            in err
        )
        assert err.endswith("charlstm train TEXT --resume -c checkpoints/tales\n")
    assert run(["train", "moved.txt", "--resume", "--steps", "9"]) == 0
    for command in asking:
        assert run(["runs", "prune", "--cache", "--yes"]) == 0
        assert run(command) == 0


def test_moved_text_is_found_in_the_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt") == 0
    (folder / "tales.txt").unlink()
    assert run(["train", "--resume", "--steps", "9"]) == 0
    assert "tales.txt no longer exists; using its text from the cache\n" in capsys.readouterr().err


def test_a_pipe_is_no_place_to_keep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("tales.txt") == 0
    give_stdin(monkeypatch, (folder / "tales.txt").read_bytes())
    assert run(["train", "-", "--resume", "--steps", "9"]) == 0
    assert runs.read_run_file(TALES).source.paths == (str(folder / "tales.txt"),)


def test_a_text_names_its_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.txt").write_bytes("Wär es so, sagte der Reiher.\n".encode("latin-1") * 20)
    (folder / "my b.txt").write_text("It was a wet day, and the heron sat down.\n" * 20)
    assert train("a.txt", "--encoding", "latin-1") == 0
    assert train("my b.txt") == 0
    assert train("tales.txt") == 0
    capsys.readouterr()
    for text, name in (("a.txt", "a"), ("my b.txt", "my-b"), ("tales.txt", "tales")):
        assert run(["train", text, "--resume", "--steps", "9"]) == 0
        assert f"resuming checkpoints/{name}\n" in capsys.readouterr().err
    assert run(["train", "my b.txt", "--resume", "-c", "tales"]) == 2
    assert capsys.readouterr().err == (
        "charlstm: my b.txt is the text of the run my-b, not of tales; to resume my-b:\n"
        "charlstm train 'my b.txt' --resume -c checkpoints/my-b\n"
    )
    (folder / "my b.txt").write_text("It was a wet day, and nobody sat down.\n" * 20)
    assert run(["train", "my b.txt", "--resume"]) == 1
    assert "the text has changed since run my-b started" in capsys.readouterr().err
    (folder / "c.txt").write_text("Nobody has read this text until now.\n" * 20)
    assert run(["train", "c.txt", "--resume"]) == 2
    assert "no run was trained on c.txt as it is now; name the run" in capsys.readouterr().err


def test_a_folder_of_texts_is_named_on_resume(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "corp").mkdir()
    for name in ("1.txt", "2.txt"):
        (folder / "corp" / name).write_text(f"It was a wet day in part {name}.\n" * 20)
    assert train("corp") == 0
    assert run(["train", "corp", "--resume", "--steps", "8"]) == 0
    (folder / "corp" / "1.txt").rename(folder / "corp" / "3.txt")
    capsys.readouterr()
    assert run(["train", "corp", "--resume"]) == 1
    told = capsys.readouterr().err
    assert "(the same 1,280 characters in another order); a folder's files are read" in told
    assert run(["train", "corp/3.txt", "corp/2.txt", "--resume", "--steps", "9"]) == 0
    assert run(["train", "--resume"]) == 0


def test_a_run_is_resumed_from_within(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt") == 0
    step = pointers.read_pointers(TALES).last
    for place, name in ((TALES, "."), (TALES / str(step), "."), (TALES / str(step), "model.json")):
        monkeypatch.chdir(folder / place)
        capsys.readouterr()
        assert run(["train", "--resume", "-c", name]) == 0
        assert capsys.readouterr().err.count("tales: lstm") == 1
    assert run(["train", "../../../tales.txt", "--name", "new", "--steps", "2"]) == 0
    assert (folder / "checkpoints" / "new" / "run.json").is_file()


def test_advice_quotes_what_a_shell_would_split(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt") == 0
    (folder / "checkpoints").rename(folder / "my runs")
    capsys.readouterr()
    assert run(["train", "my runs/tales", "--resume"]) == 2
    assert "to resume it:\ncharlstm train --resume -c 'my runs/tales'\n" in capsys.readouterr().err
    assert run(["train", "--resume", "-c", "my runs/tales", "--steps", "9"]) == 0
    assert "charlstm sample -c 'my runs/tales' --temp 0.8" in capsys.readouterr().err


def test_a_run_is_found_by_the_name_of_its_text(folder: Path) -> None:
    (folder / "märchen.txt").write_text(TEXT * 20, encoding="utf-8")
    (folder / "Сказки.txt").write_text(TEXT * 20, encoding="utf-8")
    assert train("märchen.txt") == train("Сказки.txt") == 0
    assert run(["train", "--resume", "-c", "märchen", "--steps", "9"]) == 0
    assert run(["train", "--resume", "-c", "Война", "--steps", "9"]) == 1


def test_a_text_that_is_not_there_resumes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt") == 0
    capsys.readouterr()
    assert run(["train", "--resume", "talse", "--steps", "9"]) == 2
    told = "there is no file talse; name a run with -c; to list runs:\ncharlstm runs"
    assert capsys.readouterr().err == f"charlstm: {told}\n"


def test_a_text_with_the_name_of_a_run_is_a_text(folder: Path) -> None:
    (folder / "tales.txt").rename("tales")
    assert train("tales") == 0
    assert TALES.is_dir()
    assert run(["train", "--resume", "tales", "--steps", "9"]) == 0


def test_ctrl_c_before_the_run_began_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    from charlstm.training import new_run

    monkeypatch.setattr(new_run, "choose_device", interrupted)
    assert train("tales.txt") == 130
    assert capsys.readouterr().err.endswith("stopped before the run started\n")
    assert not TALES.exists()


def test_a_run_given_as_a_text_names_the_command_to_resume(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt") == 0
    other = folder / "other.txt"
    other.write_text(TEXT * 20, encoding="utf-8")
    assert train("other.txt") == 0
    capsys.readouterr()
    for name in ("tales", "checkpoints/tales"):
        for more in (["--resume"], []):
            assert run(["train", *more, name, "--steps", "9"]) == 2
            resume = f"charlstm train --resume -c {name}"
            refused = f"charlstm: {name} is a run, not a text; to resume it:\n{resume}\n"
            assert capsys.readouterr().err == refused
        assert run(["score", name]) == 2
        assert f"{name} is a run, not a text; give a text; the run" in capsys.readouterr().err


@pytest.mark.parametrize("run_of_it", [True, False])
def test_advice_for_a_text_whose_name_looks_like_an_option_can_be_pasted(
    folder: Path, run_of_it: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "-odd.txt").write_text(TEXT * 30, encoding="utf-8")
    if run_of_it:
        assert train("--", "-odd.txt") == 0
    assert train("tales.txt") == 0
    capsys.readouterr()
    chosen = ["-c", "tales"] if run_of_it else []
    assert run(["train", "--resume", *chosen, "--", "-odd.txt"]) == 2
    advised = shlex.split(capsys.readouterr().err.strip().rpartition("charlstm ")[2])
    options = ["--steps", "9"] if run_of_it else [*SMALL, "--steps", "6"]
    assert run([*advised, *options]) == 0


def test_a_run_is_not_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("tales.txt") == 0
    capsys.readouterr()
    last = pointers.read_pointers(TALES).last
    for name in ("tales", "checkpoints/tales", f"checkpoints/tales/{last}"):
        assert train("tales.txt", name) == 2
        resume = f"charlstm train --resume -c {name}"
        refused = f"charlstm: {name} is a run, not a text; to resume it:\n{resume}\n"
        assert capsys.readouterr().err == refused
    assert os.listdir("checkpoints") == ["tales"]


def test_text_from_stdin_is_found_in_the_cache_and_asked_for_when_it_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = folder / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    give_stdin(monkeypatch, (TEXT * 20).encode())
    assert train("-", steps=2) == 0
    give_stdin(monkeypatch, b"")
    assert run(["train", "--resume", "--steps", "4"]) == 0
    shutil.rmtree(cache)
    capsys.readouterr()
    assert run(["train", "--resume", "-c", "stdin", "--steps", "6"]) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"charlstm: [^\n]*stdin[^\n]*\ncharlstm train - --resume -c checkpoints/stdin[^\n]*\n", told
    )
    give_stdin(monkeypatch, (TEXT * 20).encode())
    assert run(["train", "-", "--resume", "--steps", "6"]) == 0


def test_nothing_to_resume_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, run(["train", "--resume"]), 1, "checkpoints/", "charlstm train")


# -- teacher -----------------------------------------------------------------------------------


def test_teacher_is_copied_named_and_learnt_from(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("tales.txt", steps=20) == 0
    source = charlstm.load(TALES)
    assert run(["train", "tales.txt", "--teacher", "tales", *FIXED, "--steps", "3"]) == 0
    taught = Path("checkpoints/tales-2")
    content = runs.read_run_file(taught)
    assert (content.teacher, content.train.distillation) == (str(source.path.absolute()), 0.7)
    copied = charlstm.load(taught / "teacher").file
    np.testing.assert_array_equal(copied.weights["embedding"], source.file.weights["embedding"])
    capsys.readouterr()
    assert run(["runs", "show", "tales-2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["teacher"] == str(source.path.absolute())
    assert run(["runs", "show", "tales-2"]) == 0
    assert re.search(
        rf"^teacher +{re.escape(str(source.path.absolute()))}$", capsys.readouterr().out, re.M
    )
    assert run(["train", "--resume", "-c", "tales-2", "--steps", "5"]) == 0


# -- init-from ---------------------------------------------------------------------------------


def test_init_from_maps_the_weights_to_another_text(folder: Path) -> None:
    assert train("tales.txt", steps=20) == 0
    (folder / "other.txt").write_text("A hérön sat down; [it was wet].\n" * 40, encoding="utf-8")
    assert run(["train", "other.txt", "--init-from", "tales", *FIXED, "--steps", "1"]) == 0
    other = Path("checkpoints/other")
    source = charlstm.load(TALES)
    assert runs.read_run_file(other).init_from == str(source.path.absolute())
    assert charlstm.load(other).file.config.hidden_size == 16


def test_init_from_begins_with_the_weights_of_the_shared_characters(folder: Path) -> None:
    assert train("tales.txt", steps=20) == 0
    (folder / "other.txt").write_text("A hérön sat down; [it was wet].\n" * 40, encoding="utf-8")
    # The first validation comes before the first step: its checkpoint holds what was taken over.
    fixed = [*FIXED, "--keep", "9", "--steps", "1"]
    assert run(["train", "other.txt", "--init-from", "tales", *fixed]) == 0
    began = charlstm.load("checkpoints/other/step-00000000").file
    source = charlstm.load(TALES).file
    shared = [c for c in began.vocab.symbols if c in source.vocab.symbols]
    assert len(shared) > 10
    mine, theirs = (f.vocab.encode("".join(shared)) for f in (began, source))
    for name in ("embedding", "output_weight", "output_bias"):
        np.testing.assert_array_equal(began.weights[name][mine], source.weights[name][theirs])
    name = "layers.0.weight_hidden"
    np.testing.assert_array_equal(began.weights[name], source.weights[name])
    assert not np.array_equal(charlstm.load("other").file.weights[name], began.weights[name])


@pytest.mark.parametrize("option", ["--init-from", "--teacher"])
@pytest.mark.parametrize(("theirs", "own", "is_noted"), [(0.1, 0.3, True), (0.3, 0.3, False)])
def test_a_model_that_read_the_held_out_part_is_noted(
    option: str, theirs: float, own: float, is_noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--hidden", "8", "--layers", "1", "--steps", "1", "--name", "first"]
    assert run(["train", "tales.txt", *small, "--val-fraction", str(theirs)]) == 0
    capsys.readouterr()
    more = ["--steps", "1", "--val-fraction", str(own), option, "first"]
    assert run(["train", "tales.txt", *more]) == 0
    told = capsys.readouterr().err
    assert ("the validation loss may be too optimistic" in told) == is_noted


def test_init_from_an_unknown_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["train", "tales.txt", "--init-from", "nix", *FIXED])
    assert_refused(capsys, code, 1, "'nix'")


@pytest.mark.parametrize("option", ["--hidden 8", "--layers 2", "--embed 4", "--cell lstm"])
def test_init_from_keeps_the_shape_of_the_model(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["train", "tales.txt", "--init-from", "nix", *FIXED, *option.split()])
    assert_refused(capsys, code, 2, option.split()[0], "--init-from")
